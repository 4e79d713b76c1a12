import sqlalchemy as sa
from alembic import op

revision = "r27"
down_revision = "r26"


def upgrade():
    with op.batch_alter_table("reader") as batch:
        batch.add_column(sa.Column("born", sa.Integer, server_default="0"))
