-- The second database: who did what. It is kept apart from the goods and the money.

CREATE TABLE actor (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    actor INTEGER NOT NULL REFERENCES actor (id),
    what TEXT NOT NULL,
    written_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TRIGGER entries_stay BEFORE DELETE ON entry
BEGIN
    SELECT raise(ABORT, 'an audit entry can not be deleted');
END;

INSERT INTO actor (name) VALUES ('ada'), ('grace'), ('system');
INSERT INTO entry (actor, what, written_at) VALUES
    (3, 'installed', '2026-01-01 00:00:00'),
    (1, 'price list approved', '2026-01-02 09:30:00'),
    (2, 'stock counted', '2026-01-03 17:45:00');
