from alembic import op

revision = "r17"
down_revision = "r16"


def upgrade():
    op.execute("INSERT INTO book (title, shelf_id) VALUES ('book 5', 5)")
