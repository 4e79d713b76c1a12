CREATE VIEW order_total AS
SELECT sales_order, count(*) AS lines, sum(quantity) AS units, sum(total_cents) AS cents
FROM order_line GROUP BY sales_order;

CREATE VIEW available AS
SELECT product.id AS product, product.sku, coalesce(sum(stock.quantity), 0) AS quantity
FROM product LEFT JOIN stock ON stock.product = product.id
GROUP BY product.id;

CREATE VIEW invoice_balance AS
SELECT invoice.id AS invoice,
       invoice.net_cents + invoice.tax_cents AS due_cents,
       invoice.net_cents + invoice.tax_cents - coalesce(sum(payment.cents), 0) AS open_cents
FROM invoice LEFT JOIN payment ON payment.invoice = invoice.id
GROUP BY invoice.id;

CREATE VIEW best_customer AS
SELECT customer.id AS customer, customer.name, sum(order_total.cents) AS cents
FROM customer
JOIN sales_order ON sales_order.customer = customer.id AND sales_order.status <> 'cancelled'
JOIN order_total ON order_total.sales_order = sales_order.id
GROUP BY customer.id;
