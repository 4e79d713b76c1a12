-- What is sold, at which price, and who delivers it.

CREATE TABLE category (
    id INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES category (id),
    name TEXT NOT NULL,
    UNIQUE (parent, name)
);

CREATE TABLE brand (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE tax_rate (
    id INTEGER PRIMARY KEY,
    country TEXT NOT NULL REFERENCES country (code),
    percent INTEGER NOT NULL CHECK (percent BETWEEN 0 AND 30),
    UNIQUE (country, percent)
);

CREATE TABLE product (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL UNIQUE,
    brand INTEGER NOT NULL REFERENCES brand (id),
    name TEXT NOT NULL,
    weight_grams INTEGER NOT NULL CHECK (weight_grams > 0),
    active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1))
);
CREATE INDEX product_by_name ON product (name);
CREATE INDEX product_on_sale ON product (brand) WHERE active = 1;

CREATE TABLE product_category (
    product INTEGER NOT NULL REFERENCES product (id) ON DELETE CASCADE,
    category INTEGER NOT NULL REFERENCES category (id),
    PRIMARY KEY (product, category)
) WITHOUT ROWID;

CREATE TABLE attribute (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE product_attribute (
    product INTEGER NOT NULL REFERENCES product (id) ON DELETE CASCADE,
    attribute INTEGER NOT NULL REFERENCES attribute (id),
    value TEXT NOT NULL,
    PRIMARY KEY (product, attribute)
) WITHOUT ROWID;

CREATE TABLE price_list (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    currency TEXT NOT NULL
);

CREATE TABLE price (
    price_list INTEGER NOT NULL REFERENCES price_list (id),
    product INTEGER NOT NULL REFERENCES product (id) ON DELETE CASCADE,
    cents INTEGER NOT NULL CHECK (cents > 0),
    PRIMARY KEY (price_list, product)
) WITHOUT ROWID;

CREATE TABLE supplier (
    id INTEGER PRIMARY KEY,
    country TEXT NOT NULL REFERENCES country (code),
    name TEXT NOT NULL UNIQUE,
    lead_days INTEGER NOT NULL CHECK (lead_days >= 0)
);

CREATE TABLE supplier_product (
    supplier INTEGER NOT NULL REFERENCES supplier (id),
    product INTEGER NOT NULL REFERENCES product (id) ON DELETE CASCADE,
    cost_cents INTEGER NOT NULL CHECK (cost_cents > 0),
    PRIMARY KEY (supplier, product)
) WITHOUT ROWID;
