import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = "a key for tests"
DEBUG = True
ALLOWED_HOSTS = []
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "catalog",
    "orders",
    "places",
    "audit",
]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
ROOT_URLCONF = "shop.urls"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"},
    "archive": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "archive.sqlite3"},
    "replica": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        "TEST": {"MIRROR": "default"},
    },
}
if os.environ.get("SHOP_ARCHIVE"):
    DATABASES["archive"]["TEST"] = {"NAME": os.environ["SHOP_ARCHIVE"]}
DATABASE_ROUTERS = ["shop.routers.AuditRouter"]
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cached"}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
# A flush makes these anew under other numbers, so they can't be loaded again from JSON;
# and places are too many.
TEST_NON_SERIALIZED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "places"]
TEST_RUNNER = os.environ.get("SHOP_RUNNER", "django.test.runner.DiscoverRunner")
