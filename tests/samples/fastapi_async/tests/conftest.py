import os

import pytest

url = os.environ["FARM_SQLALCHEMY_URL"]
os.environ["DATABASE_URL"] = url.replace("sqlite:", "sqlite+aiosqlite:", 1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def client():
    import httpx
    from booking.api import app

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client
