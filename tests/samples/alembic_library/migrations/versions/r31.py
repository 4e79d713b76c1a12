import sqlalchemy as sa
from alembic import op

revision = "r31"
down_revision = "r30"


def upgrade():
    with op.batch_alter_table("reader") as batch:
        batch.add_column(sa.Column("fee", sa.Integer, server_default="0"))
