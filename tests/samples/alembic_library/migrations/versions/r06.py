from alembic import op

revision = "r06"
down_revision = "r05"


def upgrade():
    op.execute("INSERT INTO shelf (name) VALUES ('shelf 2')")
