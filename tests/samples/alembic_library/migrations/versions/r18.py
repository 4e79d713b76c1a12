from alembic import op

revision = "r18"
down_revision = "r17"


def upgrade():
    op.execute("INSERT INTO book (title, shelf_id) VALUES ('book 6', 6)")
