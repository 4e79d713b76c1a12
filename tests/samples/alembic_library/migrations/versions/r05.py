from alembic import op

revision = "r05"
down_revision = "r04"


def upgrade():
    op.execute("INSERT INTO shelf (name) VALUES ('shelf 1')")
