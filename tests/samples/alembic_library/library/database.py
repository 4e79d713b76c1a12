import os

import sqlalchemy as sa

engine = sa.create_engine(os.environ.get("LIBRARY_DATABASE_URL", "sqlite:///library.sqlite"))
