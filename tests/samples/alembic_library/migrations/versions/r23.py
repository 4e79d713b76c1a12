from alembic import op

revision = "r23"
down_revision = "r22"


def upgrade():
    op.execute("INSERT INTO reader (name) VALUES ('reader 3')")
