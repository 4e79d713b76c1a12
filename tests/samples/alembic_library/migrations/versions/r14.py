from alembic import op

revision = "r14"
down_revision = "r13"


def upgrade():
    op.execute("INSERT INTO book (title, shelf_id) VALUES ('book 2', 2)")
