class AuditRouter:
    """Keeps the app audit in the database archive, and all others out of it."""

    def db_for_read(self, model, **hints):
        return "archive" if model._meta.app_label == "audit" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (db == "archive") == (app_label == "audit")
