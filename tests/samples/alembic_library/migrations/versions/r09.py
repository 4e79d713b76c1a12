from alembic import op

revision = "r09"
down_revision = "r08"


def upgrade():
    op.execute("INSERT INTO shelf (name) VALUES ('shelf 5')")
