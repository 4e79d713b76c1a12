from alembic import op

revision = "r08"
down_revision = "r07"


def upgrade():
    op.execute("INSERT INTO shelf (name) VALUES ('shelf 4')")
