from alembic import op

revision = "r40"
down_revision = "r39"


def upgrade():
    op.execute(
        "CREATE VIEW shelf_view AS SELECT shelf.name, count(book.id) AS books "
        "FROM shelf LEFT JOIN book ON book.shelf_id = shelf.id GROUP BY shelf.id"
    )
