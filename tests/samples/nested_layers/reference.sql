INSERT INTO price (article, cents) VALUES ('apple', 50), ('bread', 300), ('cheese', 900);
