-- What customers order, and what is sent to them.

CREATE TABLE coupon (
    id INTEGER PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    percent INTEGER NOT NULL CHECK (percent BETWEEN 1 AND 50),
    uses_left INTEGER NOT NULL CHECK (uses_left >= 0)
);

CREATE TABLE sales_order (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customer (id),
    ship_to INTEGER NOT NULL REFERENCES address (id),
    coupon INTEGER REFERENCES coupon (id),
    status TEXT NOT NULL DEFAULT 'open'
        CHECK (status IN ('open', 'paid', 'shipped', 'cancelled')),
    ordered_on TEXT NOT NULL
);
CREATE INDEX sales_order_by_customer ON sales_order (customer, ordered_on);
CREATE INDEX sales_order_open ON sales_order (id) WHERE status = 'open';

CREATE TABLE order_line (
    sales_order INTEGER NOT NULL REFERENCES sales_order (id) ON DELETE CASCADE,
    line INTEGER NOT NULL CHECK (line > 0),
    product INTEGER NOT NULL REFERENCES product (id),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    unit_cents INTEGER NOT NULL CHECK (unit_cents > 0),
    total_cents INTEGER NOT NULL GENERATED ALWAYS AS (quantity * unit_cents) STORED,
    PRIMARY KEY (sales_order, line)
);
CREATE INDEX order_line_by_product ON order_line (product);

CREATE TABLE order_event (
    id INTEGER PRIMARY KEY,
    sales_order INTEGER NOT NULL REFERENCES sales_order (id) ON DELETE CASCADE,
    what TEXT NOT NULL,
    happened_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX order_event_by_order ON order_event (sales_order);

CREATE TABLE carrier (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE shipment (
    id INTEGER PRIMARY KEY,
    sales_order INTEGER NOT NULL REFERENCES sales_order (id),
    carrier INTEGER NOT NULL REFERENCES carrier (id),
    tracking TEXT NOT NULL UNIQUE,
    shipped_on TEXT NOT NULL
);

CREATE TABLE shipment_line (
    shipment INTEGER NOT NULL REFERENCES shipment (id) ON DELETE CASCADE,
    sales_order INTEGER NOT NULL,
    line INTEGER NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (shipment, sales_order, line),
    FOREIGN KEY (sales_order, line) REFERENCES order_line (sales_order, line)
) WITHOUT ROWID;

CREATE TABLE return_request (
    id INTEGER PRIMARY KEY,
    sales_order INTEGER NOT NULL REFERENCES sales_order (id),
    reason TEXT NOT NULL,
    requested_on TEXT NOT NULL
);
