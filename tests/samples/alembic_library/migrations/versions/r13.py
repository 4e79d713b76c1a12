from alembic import op

revision = "r13"
down_revision = "r12"


def upgrade():
    op.execute("INSERT INTO book (title, shelf_id) VALUES ('book 1', 1)")
