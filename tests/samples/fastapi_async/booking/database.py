import os

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=5)
Session = async_sessionmaker(engine, expire_on_commit=False)


async def session():
    async with Session() as found:
        yield found
