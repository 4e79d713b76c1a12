from alembic import op

revision = "r11"
down_revision = "r10"


def upgrade():
    op.execute("INSERT INTO shelf (name) VALUES ('shelf 7')")
