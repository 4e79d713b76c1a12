-- Who buys, who works here, and where they are.

CREATE TABLE country (
    code TEXT PRIMARY KEY CHECK (length(code) = 2),
    name TEXT NOT NULL UNIQUE,
    currency TEXT NOT NULL CHECK (length(currency) = 3)
) WITHOUT ROWID;

CREATE TABLE region (
    id INTEGER PRIMARY KEY,
    country TEXT NOT NULL REFERENCES country (code),
    name TEXT NOT NULL,
    UNIQUE (country, name)
);

CREATE TABLE customer_group (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    discount_percent INTEGER NOT NULL DEFAULT 0 CHECK (discount_percent BETWEEN 0 AND 50)
);

CREATE TABLE customer (
    id INTEGER PRIMARY KEY,
    customer_group INTEGER NOT NULL REFERENCES customer_group (id),
    name TEXT NOT NULL,
    email TEXT NOT NULL COLLATE NOCASE UNIQUE,
    credit_limit_cents INTEGER NOT NULL DEFAULT 100000 CHECK (credit_limit_cents >= 0),
    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    created_on TEXT NOT NULL
);
CREATE INDEX customer_by_name ON customer (name);

CREATE TABLE address (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customer (id) ON DELETE CASCADE,
    region INTEGER NOT NULL REFERENCES region (id),
    kind TEXT NOT NULL CHECK (kind IN ('billing', 'shipping')),
    street TEXT NOT NULL,
    city TEXT NOT NULL,
    postal_code TEXT NOT NULL
);
CREATE INDEX address_by_customer ON address (customer);

CREATE TABLE customer_note (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customer (id) ON DELETE CASCADE,
    written_on TEXT NOT NULL,
    text TEXT NOT NULL
);

CREATE TABLE department (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE employee (
    id INTEGER PRIMARY KEY,
    department INTEGER NOT NULL REFERENCES department (id),
    manager INTEGER REFERENCES employee (id),
    name TEXT NOT NULL,
    hired_on TEXT NOT NULL
);

CREATE TABLE role (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE employee_role (
    employee INTEGER NOT NULL REFERENCES employee (id) ON DELETE CASCADE,
    role INTEGER NOT NULL REFERENCES role (id),
    PRIMARY KEY (employee, role)
) WITHOUT ROWID;
