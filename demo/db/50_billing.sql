-- What is owed, and what was paid.

CREATE TABLE payment_method (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE invoice (
    id INTEGER PRIMARY KEY,
    sales_order INTEGER NOT NULL UNIQUE REFERENCES sales_order (id),
    tax_rate INTEGER NOT NULL REFERENCES tax_rate (id),
    net_cents INTEGER NOT NULL CHECK (net_cents >= 0),
    tax_cents INTEGER NOT NULL CHECK (tax_cents >= 0),
    issued_on TEXT NOT NULL
);

CREATE TABLE payment (
    id INTEGER PRIMARY KEY,
    invoice INTEGER NOT NULL REFERENCES invoice (id),
    payment_method INTEGER NOT NULL REFERENCES payment_method (id),
    cents INTEGER NOT NULL CHECK (cents > 0),
    paid_on TEXT NOT NULL
);
CREATE INDEX payment_by_invoice ON payment (invoice);

CREATE TABLE refund (
    id INTEGER PRIMARY KEY,
    payment INTEGER NOT NULL REFERENCES payment (id),
    cents INTEGER NOT NULL CHECK (cents > 0),
    refunded_on TEXT NOT NULL
);

CREATE TABLE ledger_account (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE ledger_entry (
    id INTEGER PRIMARY KEY,
    ledger_account INTEGER NOT NULL REFERENCES ledger_account (number),
    payment INTEGER NOT NULL REFERENCES payment (id),
    cents INTEGER NOT NULL CHECK (cents <> 0)
);
CREATE INDEX ledger_entry_by_account ON ledger_entry (ledger_account);
