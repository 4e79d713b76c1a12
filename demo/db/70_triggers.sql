-- Every change of stock leaves a move, and every change of an order's status an event.

CREATE TRIGGER stock_taken AFTER UPDATE OF quantity ON stock
WHEN new.quantity <> old.quantity
BEGIN
    INSERT INTO stock_move (bin, product, change)
    VALUES (new.bin, new.product, new.quantity - old.quantity);
END;

CREATE TRIGGER order_changed AFTER UPDATE OF status ON sales_order
WHEN new.status <> old.status
BEGIN
    INSERT INTO order_event (sales_order, what) VALUES (new.id, old.status || ' -> ' || new.status);
END;

CREATE TRIGGER order_created AFTER INSERT ON sales_order
BEGIN
    INSERT INTO order_event (sales_order, what) VALUES (new.id, 'created');
END;

CREATE TRIGGER payment_booked AFTER INSERT ON payment
BEGIN
    INSERT INTO ledger_entry (ledger_account, payment, cents)
    VALUES (1000, new.id, new.cents), (4000, new.id, -new.cents);
END;

CREATE TRIGGER no_overpayment BEFORE INSERT ON payment
WHEN new.cents > (SELECT open_cents FROM invoice_balance WHERE invoice = new.invoice)
BEGIN
    SELECT raise(ABORT, 'payment is higher than what is open');
END;

CREATE TRIGGER shipped_is_final BEFORE UPDATE OF status ON sales_order
WHEN old.status = 'shipped' AND new.status <> 'shipped'
BEGIN
    SELECT raise(ABORT, 'a shipped order keeps its status');
END;
