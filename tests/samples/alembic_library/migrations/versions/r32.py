import sqlalchemy as sa
from alembic import op

revision = "r32"
down_revision = "r31"


def upgrade():
    with op.batch_alter_table("book") as batch:
        batch.alter_column("title", existing_type=sa.String(), type_=sa.String(200))
