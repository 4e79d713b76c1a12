import sqlalchemy as sa
from alembic import op

revision = "r03"
down_revision = "r02"


def upgrade():
    op.create_table(
        "book",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("title", sa.String(40), nullable=False),
        sa.Column("shelf_id", sa.Integer, sa.ForeignKey("shelf.id")),
    )
