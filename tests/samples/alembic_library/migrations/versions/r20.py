from alembic import op

revision = "r20"
down_revision = "r19"


def upgrade():
    op.execute("INSERT INTO book (title, shelf_id) VALUES ('book 8', 8)")
