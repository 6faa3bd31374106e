\set VERBOSITY verbose
\pset null (null)
-- A view over a stream:
CREATE SOURCE bid WITH (connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = 50000);
CREATE MATERIALIZED VIEW bids_per_auction AS
    SELECT auction, count(*) AS bids, max(price) AS highest, avg(price) AS average
    FROM bid GROUP BY auction;
CREATE MATERIALIZED VIEW bids_per_minute AS
    SELECT window_start, count(*) AS bids, sum(price) AS volume
    FROM TUMBLE(bid, date_time, INTERVAL '1' MINUTE) GROUP BY window_start;
FLUSH;
SELECT auction, bids, highest FROM bids_per_auction ORDER BY bids DESC, auction LIMIT 3;
SELECT * FROM bids_per_minute;

-- Views on views:
CREATE VIEW busy AS SELECT auction, bids FROM bids_per_auction WHERE bids > 100;
CREATE MATERIALIZED VIEW auctions_by_bids AS SELECT bids, count(*) AS auctions FROM busy GROUP BY bids;
FLUSH;
SELECT sum(auctions) = (SELECT count(*) FROM busy) AS same FROM auctions_by_bids;

-- Tables:
CREATE TABLE orders (id bigint PRIMARY KEY, customer varchar, amount numeric(10, 2));
CREATE MATERIALIZED VIEW spending AS
    SELECT customer, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY customer;
INSERT INTO orders VALUES (1, 'ann', 10.50), (2, 'bob', 20.00);
UPDATE orders SET customer = 'ann' WHERE id = 2;
FLUSH;
SELECT * FROM spending;
COPY orders FROM STDIN;
3	cay	1.25
4	\N	7
5	tab\there	0.01
\.
COPY orders (amount, id) FROM STDIN WITH (FORMAT csv);
2.5,6
"3.5",7
\.
DELETE FROM orders WHERE amount < 1 RETURNING id, customer;
FLUSH;
SELECT * FROM spending ORDER BY customer;
\x
SELECT * FROM orders WHERE id = 4;
\x

-- Files in, files out:
CREATE SOURCE order_files (id bigint, customer varchar, amount double precision)
    WITH (connector = 'file', path = :'orders') FORMAT PLAIN ENCODE JSON;
CREATE MATERIALIZED VIEW file_spending WITH (checkpoint_interval = '1s') AS
    SELECT customer, count(*) AS orders, sum(amount) AS total FROM order_files GROUP BY customer;
CREATE SINK big_orders AS SELECT id, customer, amount FROM order_files WHERE amount > 1000
    WITH (connector = 'file', path = :'big', format = 'json');
FLUSH;
SELECT * FROM file_spending ORDER BY customer;

-- Transactions:
BEGIN;
INSERT INTO orders VALUES (8, 'dan', 100);
SELECT count(*) FROM orders;
ROLLBACK;
SELECT count(*) FROM orders;
BEGIN;
INSERT INTO orders VALUES (8, 'dan', 100);
INSERT INTO orders VALUES (1, 'dan', 100);
SELECT count(*) FROM orders;
COMMIT;
SELECT count(*) FROM orders;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM orders ORDER BY id;
FETCH 2 FROM c;
MOVE FORWARD 2 IN c;
FETCH ALL FROM c;
FETCH c;
CLOSE c;
COMMIT;

-- Prepared statements:
PREPARE by_customer AS SELECT id, amount FROM orders WHERE customer = $1 ORDER BY id;
EXECUTE by_customer('ann');
EXECUTE by_customer('b' || 'ob');
EXECUTE by_customer;
PREPARE put (bigint, varchar, numeric) AS INSERT INTO orders VALUES ($1, $2, $3) RETURNING *;
EXECUTE put(9, NULL, 0.125);
EXECUTE put(9, 'eve', 1);
PREPARE put AS SELECT 1;
DEALLOCATE put;
EXECUTE put(10, 'eve', 1);
DEALLOCATE ALL;

-- Errors have codes and places:
SELECT nothing FROM orders;
SELECT *
  FROM orders
 WHERE custommer = 'ann';
SELEC 1;
SELECT * FROM nowhere;
SELECT no_function(1);
SELECT 1 / 0;
SELECT 'x'::int;
SELECT customer, sum(amount) FROM orders;
INSERT INTO orders VALUES (1, 'ann', 1);
INSERT INTO orders VALUES (NULL, 'ann', 1);
INSERT INTO orders (id, nothing) VALUES (10, 1);
INSERT INTO spending VALUES ('ann', 1, 1);
CREATE TABLE orders (id int);
CREATE MATERIALIZED VIEW few AS SELECT id FROM orders LIMIT 3;
COPY orders FROM STDIN;
20	eve	1
no number	eve	1
\.
COPY orders TO STDOUT;
SAVEPOINT s;
LISTEN x;
CREATE UNIQUE INDEX i ON orders (id);
ALTER TABLE orders DROP COLUMN x;
TRUNCATE orders, spending;
FETCH c;
DECLARE c SCROLL CURSOR FOR SELECT 1;
SET statement_timeout TO 'soon';
SHOW nothing;
SELECT 'not over
;
'
;

-- Drops:
DROP TABLE orders;
DROP TABLE orders CASCADE;
SELECT * FROM spending;
DROP SINK big_orders;
DROP SOURCE order_files CASCADE;
DROP SOURCE bid CASCADE;
DROP TABLE IF EXISTS orders;
SHOW TABLES;
SHOW SOURCES;
SHOW MATERIALIZED VIEWS;
