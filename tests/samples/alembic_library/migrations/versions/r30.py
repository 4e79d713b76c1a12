import sqlalchemy as sa
from alembic import op

revision = "r30"
down_revision = "r29"


def upgrade():
    with op.batch_alter_table("book") as batch:
        batch.add_column(sa.Column("price", sa.Integer, server_default="0"))
