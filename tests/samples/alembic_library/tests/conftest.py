import os

os.environ["LIBRARY_DATABASE_URL"] = os.environ["FARM_SQLALCHEMY_URL"]
