-- Rows that are the same in every installation.

INSERT INTO country (code, name, currency) VALUES
    ('AT', 'Austria', 'EUR'), ('CH', 'Switzerland', 'CHF'), ('DE', 'Germany', 'EUR'),
    ('FR', 'France', 'EUR'), ('IT', 'Italy', 'EUR'), ('JP', 'Japan', 'JPY'),
    ('NL', 'Netherlands', 'EUR'), ('SE', 'Sweden', 'SEK');

INSERT INTO tax_rate (country, percent) VALUES
    ('AT', 20), ('CH', 8), ('DE', 19), ('DE', 7), ('FR', 20), ('IT', 22), ('JP', 10), ('NL', 21),
    ('SE', 25);

INSERT INTO customer_group (name, discount_percent) VALUES
    ('retail', 0), ('wholesale', 15), ('staff', 30);

INSERT INTO department (name) VALUES ('purchasing'), ('warehouse'), ('sales'), ('accounting');
INSERT INTO role (name) VALUES ('clerk'), ('approver'), ('administrator');
INSERT INTO price_list (name, currency) VALUES ('standard', 'EUR'), ('wholesale', 'EUR');
INSERT INTO attribute (name) VALUES ('colour'), ('material'), ('origin'), ('warranty');
INSERT INTO carrier (name) VALUES ('Parcel & Sons'), ('Night Train'), ('Bicycle Post');
INSERT INTO payment_method (name) VALUES ('invoice'), ('card'), ('transfer');
INSERT INTO ledger_account (number, name) VALUES (1000, 'bank'), (4000, 'receivables');
INSERT INTO coupon (code, percent, uses_left) VALUES
    ('WELCOME', 10, 100), ('LAST-ONE', 20, 1), ('USED-UP', 50, 0);
