from alembic import op

revision = "r35"
down_revision = "r34"


def upgrade():
    op.create_index("book_title", "book", ["title"])
