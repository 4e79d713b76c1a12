INSERT INTO product (id, name, cents, stock) VALUES
    (1, 'lamp', 1999, 3), (2, 'chair', 4950, 10), (3, 'desk', 19900, 1), (4, 'pen', 120, 500);
INSERT INTO customer (id, name) VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger');
INSERT INTO orders (id, customer_id, product_id, amount) VALUES (1, 1, 1, 1), (2, 2, 4, 20);
