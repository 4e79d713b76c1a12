from alembic import op

revision = "r15"
down_revision = "r14"


def upgrade():
    op.execute("INSERT INTO book (title, shelf_id) VALUES ('book 3', 3)")
