from alembic import op

revision = "r36"
down_revision = "r35"


def upgrade():
    op.create_index("loan_book_id", "loan", ["book_id"])
