import sqlalchemy as sa
from alembic import op

revision = "r28"
down_revision = "r27"


def upgrade():
    with op.batch_alter_table("shelf") as batch:
        batch.add_column(sa.Column("width", sa.Integer, server_default="0"))
