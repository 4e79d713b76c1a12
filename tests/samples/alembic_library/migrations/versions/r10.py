from alembic import op

revision = "r10"
down_revision = "r09"


def upgrade():
    op.execute("INSERT INTO shelf (name) VALUES ('shelf 6')")
