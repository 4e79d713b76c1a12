from alembic import op

revision = "r16"
down_revision = "r15"


def upgrade():
    op.execute("INSERT INTO book (title, shelf_id) VALUES ('book 4', 4)")
