from alembic import op

revision = "r24"
down_revision = "r23"


def upgrade():
    op.execute("INSERT INTO reader (name) VALUES ('reader 4')")
