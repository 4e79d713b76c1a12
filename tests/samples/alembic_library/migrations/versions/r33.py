import sqlalchemy as sa
from alembic import op

revision = "r33"
down_revision = "r32"


def upgrade():
    with op.batch_alter_table("reader") as batch:
        batch.alter_column("name", existing_type=sa.String(), type_=sa.String(200))
