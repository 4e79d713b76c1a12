from alembic import op

revision = "r19"
down_revision = "r18"


def upgrade():
    op.execute("INSERT INTO book (title, shelf_id) VALUES ('book 7', 7)")
