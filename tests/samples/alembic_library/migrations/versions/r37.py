from alembic import op

revision = "r37"
down_revision = "r36"


def upgrade():
    op.create_index("loan_reader_id", "loan", ["reader_id"])
