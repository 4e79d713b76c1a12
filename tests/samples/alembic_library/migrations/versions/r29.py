import sqlalchemy as sa
from alembic import op

revision = "r29"
down_revision = "r28"


def upgrade():
    with op.batch_alter_table("loan") as batch:
        batch.add_column(sa.Column("days", sa.Integer, server_default="0"))
