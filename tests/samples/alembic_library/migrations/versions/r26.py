import sqlalchemy as sa
from alembic import op

revision = "r26"
down_revision = "r25"


def upgrade():
    with op.batch_alter_table("book") as batch:
        batch.add_column(sa.Column("pages", sa.Integer, server_default="0"))
