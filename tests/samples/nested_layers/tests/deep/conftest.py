import pytest
import shop


@pytest.fixture(scope="package", autouse=True)
def deep():
    shop.record("deep")


@pytest.fixture(scope="module", params=["red", "green"])
def colour(request):
    shop.record(request.param)
    yield request.param
    # Cleaning up is not needed, and does no harm.
    if request.param == "red":
        with shop.connect("FARM_URI_AUDIT") as conn, conn:
            conn.execute("DELETE FROM entry WHERE text = 'red'")
