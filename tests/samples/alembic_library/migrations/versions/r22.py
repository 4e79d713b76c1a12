from alembic import op

revision = "r22"
down_revision = "r21"


def upgrade():
    op.execute("INSERT INTO reader (name) VALUES ('reader 2')")
