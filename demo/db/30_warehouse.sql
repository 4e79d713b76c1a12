-- Where goods lie, and how they move.

CREATE TABLE warehouse (
    id INTEGER PRIMARY KEY,
    region INTEGER NOT NULL REFERENCES region (id),
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE zone (
    id INTEGER PRIMARY KEY,
    warehouse INTEGER NOT NULL REFERENCES warehouse (id),
    name TEXT NOT NULL,
    UNIQUE (warehouse, name)
);

CREATE TABLE bin (
    id INTEGER PRIMARY KEY,
    zone INTEGER NOT NULL REFERENCES zone (id),
    label TEXT NOT NULL,
    UNIQUE (zone, label)
);

CREATE TABLE stock (
    bin INTEGER NOT NULL REFERENCES bin (id),
    product INTEGER NOT NULL REFERENCES product (id),
    quantity INTEGER NOT NULL CHECK (quantity >= 0),
    PRIMARY KEY (bin, product)
) WITHOUT ROWID;
CREATE INDEX stock_by_product ON stock (product);

CREATE TABLE stock_move (
    id INTEGER PRIMARY KEY,
    bin INTEGER NOT NULL,
    product INTEGER NOT NULL,
    change INTEGER NOT NULL CHECK (change <> 0),
    moved_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (bin, product) REFERENCES stock (bin, product)
);
CREATE INDEX stock_move_by_product ON stock_move (product);

CREATE TABLE purchase_order (
    id INTEGER PRIMARY KEY,
    supplier INTEGER NOT NULL REFERENCES supplier (id),
    warehouse INTEGER NOT NULL REFERENCES warehouse (id),
    ordered_on TEXT NOT NULL,
    received_on TEXT CHECK (received_on >= ordered_on)
);

CREATE TABLE purchase_line (
    purchase_order INTEGER NOT NULL REFERENCES purchase_order (id) ON DELETE CASCADE,
    product INTEGER NOT NULL REFERENCES product (id),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    cost_cents INTEGER NOT NULL CHECK (cost_cents > 0),
    PRIMARY KEY (purchase_order, product)
) WITHOUT ROWID;
