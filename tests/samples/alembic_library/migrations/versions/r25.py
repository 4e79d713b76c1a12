import sqlalchemy as sa
from alembic import op

revision = "r25"
down_revision = "r24"


def upgrade():
    with op.batch_alter_table("book") as batch:
        batch.add_column(sa.Column("year", sa.Integer, server_default="0"))
