from alembic import op

revision = "r12"
down_revision = "r11"


def upgrade():
    op.execute("INSERT INTO shelf (name) VALUES ('shelf 8')")
