"""What psycopg does with a server: parameters, transactions, COPY, cursors, errors, cancel."""

import datetime
import decimal
import sys

import psycopg

with psycopg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="py", dbname="any", autocommit=True) as client:
    client.execute("CREATE TABLE py (id bigint PRIMARY KEY, name text, price numeric(10, 2), at timestamp, ok boolean)")
    client.execute("CREATE MATERIALIZED VIEW py_counts AS SELECT ok, count(*) AS n FROM py GROUP BY ok")
    with client.cursor() as cursor:
        moment = datetime.datetime(2024, 2, 29, 12, 34, 56, 789000)
        rows = [(i, f"name {i}", decimal.Decimal("1.25") * i, moment, i % 2 == 0) for i in range(100)]
        cursor.executemany("INSERT INTO py VALUES (%s, %s, %s, %s, %s)", rows)
        with cursor.copy("COPY py (id, name) FROM STDIN") as copy:
            for i in range(100, 1100):
                copy.write_row((i, None if i % 10 == 0 else f"copied\t{i}"))
    row = client.execute("SELECT id, name, price, at, ok FROM py WHERE id = %s", (42,)).fetchone()
    assert row == (42, "name 42", decimal.Decimal("52.50"), moment, True), row
    assert client.execute("SELECT name FROM py WHERE id = 101").fetchone() == ("copied\t101",)
    assert client.execute("SELECT count(*) FROM py WHERE name IS NULL").fetchone() == (100,)
    client.execute("FLUSH")
    counts = dict(client.execute("SELECT ok, n FROM py_counts").fetchall())
    assert counts == {True: 50, False: 50, None: 1000}, counts
    try:
        with client.transaction():
            client.execute("DELETE FROM py WHERE id < 50")
            assert client.execute("SELECT count(*) FROM py").fetchone() == (1050,)
            client.execute("INSERT INTO py (id) VALUES (60)")
        raise AssertionError("the key exists")
    except psycopg.errors.UniqueViolation as error:
        assert error.sqlstate == "23505"
    assert client.execute("SELECT count(*) FROM py").fetchone() == (1100,)
    try:
        client.execute("SELECT nothing FROM py")
        raise AssertionError("no such column")
    except psycopg.errors.UndefinedColumn as error:
        assert error.diag.statement_position == "8", error.diag.statement_position
    client.execute("DROP TABLE py CASCADE")
print("done")
