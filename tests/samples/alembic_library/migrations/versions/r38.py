from alembic import op

revision = "r38"
down_revision = "r37"


def upgrade():
    op.create_index("reader_name", "reader", ["name"])
