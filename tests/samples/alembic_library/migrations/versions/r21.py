from alembic import op

revision = "r21"
down_revision = "r20"


def upgrade():
    op.execute("INSERT INTO reader (name) VALUES ('reader 1')")
