from alembic import op

revision = "r07"
down_revision = "r06"


def upgrade():
    op.execute("INSERT INTO shelf (name) VALUES ('shelf 3')")
