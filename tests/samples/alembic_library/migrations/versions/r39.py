from alembic import op

revision = "r39"
down_revision = "r38"


def upgrade():
    op.execute("UPDATE book SET year = 1900 + id")
