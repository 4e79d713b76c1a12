from alembic import op

revision = "r34"
down_revision = "r33"


def upgrade():
    op.create_index("book_shelf_id", "book", ["shelf_id"])
