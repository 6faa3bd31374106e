"""What psycopg does with a server: parameters of all types in text and binary, COPY, transactions,
cursors of the server, notices, cancelling, errors. The argument is the server's port."""

import datetime
import sys
import threading
from decimal import Decimal

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2024, 2, 29, 12, 34, 56, 789000)
# By column: PostgreSQL's type, its OID, a value.
TYPES = {
    "small": ("smallint", 21, -7),
    "medium": ("int", 23, 70_000),
    "big": ("bigint", 20, 2**40),
    "single": ("real", 700, 0.5),
    "double": ("double precision", 701, -2.25e300),
    "exact": ("numeric(20, 4)", 1700, Decimal("-12345678.9012")),
    "word": ("varchar", 25, "it's \t\\ ünï €"),
    "yes": ("boolean", 16, True),
    "bytes": ("bytea", 17, b"\x00\x01\\\xff"),
    "day": ("date", 1082, datetime.date(1969, 7, 20)),
    "clock": ("time", 1083, datetime.time(23, 59, 59, 999999)),
    "moment": ("timestamp", 1114, MOMENT),
    "instant": ("timestamptz", 1184, MOMENT.replace(tzinfo=UTC)),
    "span": ("interval", 1186, datetime.timedelta(days=3, hours=4, microseconds=5)),
}


def refused(sqlstate, action, position=None):
    """The error that an action fails with."""
    try:
        action()
    except psycopg.Error as error:
        assert error.sqlstate == sqlstate, (error.sqlstate, error)
        assert position is None or error.diag.statement_position == position, error.diag.statement_position
        return error
    raise AssertionError(f"no error {sqlstate}")


def types(client):
    columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in TYPES.items())
    client.execute(f"CREATE TABLE kinds (id int PRIMARY KEY, {columns})")
    values = [value for _, _, value in TYPES.values()]
    for at, mark in enumerate(["%s", "%t", "%b"]):
        marks = ", ".join([mark] * len(values))
        client.execute(f"INSERT INTO kinds VALUES ({2 * at}, {marks})", values)
        client.execute(f"INSERT INTO kinds VALUES ({2 * at + 1}, {marks})", [None] * len(values))
    for binary in (False, True):
        cursor = client.execute("SELECT * FROM kinds WHERE id >= %s ORDER BY id", (0,), binary=binary)
        assert [column.type_code for column in cursor.description[1:]] == [oid for _, oid, _ in TYPES.values()]
        for row in cursor.fetchall():
            assert list(row[1:]) == (values if row[0] % 2 == 0 else [None] * len(values)), (binary, row)
    for name, (kind, _, value) in TYPES.items():
        for mark in ("%t", "%b"):
            found = client.execute(f"SELECT count(*) FROM kinds WHERE {name} = {mark}::{kind}", (value,)).fetchone()
            assert found == (3,), (name, mark, found)
    infinities = [float("inf"), float("-inf")]
    assert client.execute("SELECT %b::float8, %t::float8", infinities, binary=True).fetchone() == tuple(infinities)
    assert client.execute("SELECT %s::text || 'x'", ("y",)).fetchone() == ("yx",)
    for binary in (False, True):
        cursor = client.execute("SELECT %s, id FROM kinds WHERE id = 0", ("y",), binary=binary)
        assert (cursor.description[0].type_code, cursor.fetchone()) == (25, ("y", 0))


def numerics(client):
    """A numeric that is sent keeps all of its digits, whatever it stands beside."""
    client.execute("CREATE TABLE acc (id int PRIMARY KEY, bal numeric(12, 2), q int, f double precision)")
    row = "INSERT INTO acc VALUES (%s, %s, %s, %s)"
    client.execute(row, (1, Decimal("10.00"), Decimal("1.6"), Decimal("0.12345678901234567")))
    client.execute("INSERT INTO acc (id, bal) VALUES (%s, %s), (%s, 7.5)", (2, Decimal("20.0149"), 3))

    def one(query, *values):
        return client.execute(query, values).fetchone()[0]

    assert client.execute("SELECT q, f FROM acc WHERE id = 1").fetchone() == (2, 0.12345678901234567)
    assert one("SELECT sum(bal) FROM acc") == Decimal("37.51")
    for mark in ("%s", "%t", "%b"):
        for operator, found in [("*", "10.05"), ("+", "11.005"), ("-", "8.995"), ("%%", "0.955")]:
            value = one(f"SELECT bal {operator} {mark} FROM acc WHERE id = 1", Decimal("1.005"))
            assert value == Decimal(found), (operator, mark, value)
        assert one(f"SELECT bal / {mark} FROM acc WHERE id = 1", Decimal("0.001")) == 10_000
        for operator, count in [("=", 0), ("<>", 3), ("<", 2), ("<=", 2), (">", 1), (">=", 1)]:
            found = one(f"SELECT count(*) FROM acc WHERE bal {operator} {mark}", Decimal("20.005"))
            assert found == count, (operator, mark, found)
        assert one(f"SELECT count(*) FROM acc WHERE bal IN ({mark}, 7.5)", Decimal("20.014")) == 1
        assert one(f"SELECT count(*) FROM acc WHERE bal BETWEEN {mark} AND {mark}", Decimal("20.006"), 30) == 1
        some = [Decimal("20.014"), None, Decimal("7.50"), Decimal("123456789012345678.5")]
        assert one(f"SELECT count(*) FROM acc WHERE bal = ANY({mark})", some) == 1
        assert one(f"SELECT count(*) FROM acc WHERE q > {mark}", Decimal("1.5")) == 1
        assert one(f"SELECT q * {mark} FROM acc WHERE id = 1", Decimal("0.5")) == Decimal("1.0")
        assert one(f"SELECT count(*) FROM acc WHERE id = {mark}", Decimal("1.5")) == 0
        assert one(f"SELECT count(*) FROM acc WHERE id = {mark}", Decimal("1")) == 1
        assert one(f"SELECT count(*) FROM acc WHERE f = {mark}", Decimal("0.12345678901234567")) == 1
        for nearly in ("7.500000000000000000000000001", "7.5" + 40 * "0" + "1"):
            assert one(f"SELECT count(*) FROM acc WHERE bal = {mark}", Decimal(nearly)) == 0
    assert client.execute("DELETE FROM acc WHERE bal = %s", (Decimal("20.014"),)).rowcount == 0
    assert client.execute("UPDATE acc SET bal = bal * %s WHERE id = 1", (Decimal("1.005"),)).rowcount == 1
    assert one("SELECT bal FROM acc WHERE id = 1") == Decimal("10.05")
    groups = client.execute("SELECT q FROM acc GROUP BY q HAVING count(*) > %s", (Decimal("1.5"),))
    assert groups.fetchall() == [(None,)]
    assert len(client.execute("SELECT id FROM acc LIMIT %s OFFSET %s", (None, None)).fetchall()) == 3
    assert len(client.execute("SELECT id FROM acc LIMIT %s", (Decimal("2"),)).fetchall()) == 2
    assert client.execute("SELECT id FROM acc WHERE id = %(n)s AND bal > %(n)s", {"n": 1}).fetchall() == [(1,)]
    refused("22003", lambda: client.execute("INSERT INTO acc (id, bal) VALUES (9, %s)", (Decimal("1e10"),)))


def documents(client):
    document = {"name": "it's ünï €", "list": [1, 2.5, None, True, "x\n"], "deep": {"a": {}}}
    client.execute("CREATE TABLE documents (id int PRIMARY KEY, body jsonb)")
    for at, mark in enumerate(["%s", "%t", "%b"]):
        client.execute(f"INSERT INTO documents VALUES ({2 * at}, {mark})", (Jsonb(document),))
        client.execute(f"INSERT INTO documents VALUES ({2 * at + 1}, {mark})", (None,))
    for binary in (False, True):
        cursor = client.execute("SELECT body, body -> 'list' FROM documents ORDER BY id", binary=binary)
        assert [column.type_code for column in cursor.description] == [3802, 3802]
        assert cursor.fetchall() == [(document, document["list"]), (None, None)] * 3, binary
    found = client.execute("SELECT count(*) FROM documents WHERE body = %s", (Jsonb(document),))
    assert found.fetchone() == (3,)
    found = client.execute("SELECT id FROM documents WHERE body ->> %s = %s ORDER BY id", ("name", document["name"]))
    assert found.fetchall() == [(0,), (2,), (4,)]
    assert client.execute("SELECT body @> %s FROM documents WHERE id = 0", (Jsonb({"deep": {}}),)).fetchone() == (True,)
    refused("22P02", lambda: client.execute("INSERT INTO documents VALUES (9, %s)", ("{",)))


def zones(client):
    client.execute("CREATE TABLE zoned (id int PRIMARY KEY, at timestamptz)")
    client.execute("SET TIME ZONE 'Europe/Berlin'")
    noon = datetime.datetime(2024, 1, 1, 12)
    instant = datetime.datetime(2024, 1, 1, 11, tzinfo=UTC)
    for at, mark in enumerate(["%s", "%t", "%b"]):
        client.execute(f"INSERT INTO zoned VALUES ({2 * at}, {mark})", (noon,))
        client.execute(f"INSERT INTO zoned VALUES ({2 * at + 1}, {mark})", (instant,))
    client.execute("INSERT INTO zoned VALUES (6, %s)", ("2024-01-01 12:00:00",))
    with client.cursor() as cursor, cursor.copy("COPY zoned FROM STDIN") as copy:
        copy.write("7\t2024-01-01 12:00:00\n")
    for binary in (False, True):
        rows = client.execute("SELECT at FROM zoned ORDER BY id", binary=binary).fetchall()
        assert rows == [(instant,)] * 8, (binary, rows)
    assert client.execute("SELECT count(*) FROM zoned WHERE at = %s", (instant,)).fetchone() == (8,)
    with client.cursor() as cursor, cursor.copy("COPY (SELECT at FROM zoned WHERE id = 7) TO STDOUT") as rows:
        assert b"".join(rows) == b"2024-01-01 12:00:00+01\n"
    refused("22023", lambda: client.execute("SET TIME ZONE 'Europe/Atlantis'"))
    client.execute("RESET timezone")


def copy_in(client):
    client.execute("CREATE TABLE copied (id bigint PRIMARY KEY, name text, at timestamp)")
    with client.cursor() as cursor:
        with cursor.copy("COPY copied (id, name, at) FROM STDIN") as copy:
            for i in range(1000):
                copy.write_row((i, None if i % 10 == 0 else f"copied\t{i}", MOMENT))
        assert cursor.rowcount == 1000, cursor.rowcount
        with cursor.copy("COPY copied (id, name) FROM STDIN WITH (FORMAT csv, HEADER)") as copy:
            copy.write('id,name\n1000,"a,b"\n1001,\n')
        with cursor.copy("COPY copied (id) FROM STDIN") as copy:
            for i in range(1002, 1010):
                copy.write(f"{i}\n")
    assert client.execute("SELECT name, at FROM copied WHERE id = 101").fetchone() == ("copied\t101", MOMENT)
    assert client.execute("SELECT name FROM copied WHERE id = 1000").fetchone() == ("a,b",)
    assert client.execute("SELECT count(*), count(name) FROM copied").fetchone() == (1010, 901)

    def copy(statement, data):
        with client.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(data)

    # A COPY is whole or not at all, and the connection goes on.
    refused("22P02", lambda: copy("COPY copied (id) FROM STDIN", "2000\nno number\n"))
    refused("23505", lambda: copy("COPY copied (id) FROM STDIN", "2000\n5\n"))
    refused("0A000", lambda: copy("COPY copied FROM STDIN (FORMAT binary)", b""))
    refused("0A000", lambda: client.execute("COPY copied TO '/tmp/copied'"))
    with client.cursor() as cursor, cursor.copy("COPY (SELECT id, name FROM copied WHERE id = 1000) TO STDOUT") as rows:
        assert b"".join(rows) == b"1000\ta,b\n"

    class Stop(Exception):
        pass

    try:
        with client.cursor() as cursor, cursor.copy("COPY copied (id) FROM STDIN") as copying:
            copying.write("2000\n")
            raise Stop
    except (Stop, psycopg.errors.QueryCanceled):
        pass
    assert client.execute("SELECT count(*) FROM copied").fetchone() == (1010,)


def transactions(client, connect):
    client.execute("CREATE TABLE account (id int PRIMARY KEY, amount numeric(10, 2))")
    client.execute("CREATE MATERIALIZED VIEW balance AS SELECT count(*) AS n, sum(amount) AS total FROM account")
    insert = "INSERT INTO account VALUES (%s, %s)"
    with connect(autocommit=False) as other:
        other.execute(insert, (1, Decimal("10.50")))
        other.execute(insert, (2, Decimal("20")))
        assert client.execute("SELECT count(*) FROM account").fetchone() == (0,)
        other.commit()
        assert client.execute("SELECT count(*) FROM account").fetchone() == (2,)
        other.execute("DELETE FROM account")
        assert other.execute("SELECT count(*) FROM account").fetchone() == (0,)
        other.rollback()
        # Whatever fails, fails the transaction: what is parsed, bound, executed or copied.
        for statement, values, sqlstate in [
            ("SELECT nothing FROM account", None, "42703"),
            ("SELECT nothing FROM account WHERE id = %s", (1,), "42703"),
            ("SELECT 1 / %s", (0,), "22012"),
            (insert, (1, 0), "23505"),
            ("SELECT %s::int", ("x",), "22P02"),
        ]:
            other.execute(insert, (3, 0))
            refused(sqlstate, lambda: other.execute(statement, values))
            assert other.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
            refused("25P02", lambda: other.execute("SELECT 1"))
            refused("25P02", lambda: other.execute("SELECT %s", (1,)))
            other.rollback()
        assert other.execute("SELECT count(*) FROM account").fetchone() == (2,)
        # Of a transaction within a transaction what fails is taken back alone.
        other.execute(insert, (3, 0))

        def inner():
            with other.transaction():
                other.execute(insert, (4, 0))
                other.execute(insert, (1, 0))

        refused("23505", inner)
        assert other.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        with other.transaction():
            other.execute(insert, (5, 0))
        ids = other.execute("SELECT id FROM account ORDER BY id").fetchall()
        assert ids == [(1,), (2,), (3,), (5,)], ids
        other.rollback()
        # Of two that change the same row the second is refused, and may try again.
        other.execute("UPDATE account SET amount = 1 WHERE id = 1")
        client.execute("UPDATE account SET amount = 2 WHERE id = 1")
        assert isinstance(refused("40001", other.commit), errors.SerializationFailure)
    with client.transaction():
        client.execute(insert, (3, 1))
    client.execute("FLUSH")
    assert client.execute("SELECT n, total FROM balance").fetchone() == (3, Decimal("23.00"))


def cursors(client):
    with client.transaction():
        with client.cursor(name="numbers") as cursor:
            cursor.execute("SELECT id, name FROM copied WHERE id < %s ORDER BY id", (1000,))
            assert [column.name for column in cursor.description] == ["id", "name"]
            assert cursor.fetchone() == (0, None)
            assert cursor.fetchmany(3) == [(1, "copied\t1"), (2, "copied\t2"), (3, "copied\t3")]
            client.execute("DELETE FROM copied WHERE id = 500")
            cursor.itersize = 99
            assert [row[0] for row in cursor] == list(range(4, 1000))
            assert cursor.fetchone() is None
        with client.cursor(name="in binary", binary=True) as cursor:
            cursor.execute("SELECT day, exact FROM kinds WHERE day IS NOT NULL")
            cursor.scroll(1)
            assert cursor.fetchall() == [(TYPES["day"][2], TYPES["exact"][2])] * 2
            assert cursor.fetchall() == []
        client.execute("INSERT INTO copied (id) VALUES (500)")
    refused("34000", lambda: client.execute("FETCH numbers"))
    refused("25P01", lambda: client.execute("DECLARE c CURSOR FOR SELECT 1"))
    with client.transaction():
        client.execute("DECLARE c NO SCROLL CURSOR FOR SELECT relname FROM pg_catalog.pg_class WHERE relname = 'kinds'")
        assert client.execute("FETCH ALL IN c").fetchall() == [("kinds",)]
        assert client.execute("CLOSE c").statusmessage == "CLOSE CURSOR"


def many_rows(client):
    with client.cursor() as cursor:
        with cursor.copy("COPY copied (id, name) FROM STDIN") as copy:
            for i in range(10_000, 60_000):
                copy.write_row((i, "x" * 50))
    rows = client.execute("SELECT id FROM copied WHERE id >= %s", (10_000,), binary=True).fetchall()
    assert sorted(rows) == [(i,) for i in range(10_000, 60_000)]
    with client.cursor() as cursor:
        assert sum(1 for _ in cursor.stream("SELECT id, name FROM copied")) == 51_010
        cursor.executemany("UPDATE copied SET name = %s WHERE id = %s", [(f"n{i}", i) for i in range(100)])
        assert cursor.rowcount == 100
        cursor.executemany("SELECT name FROM copied WHERE id = %s", [(7,), (8,)], returning=True)
        first = cursor.fetchall()
        assert cursor.nextset() and (first, cursor.fetchall()) == ([("n7",)], [("n8",)])
    with client.pipeline():
        cursors = [client.execute("SELECT id, %s::int FROM copied WHERE id = %s", (i, i)) for i in range(50)]
        assert [cursor.fetchone() for cursor in cursors] == [(i, i) for i in range(50)]


def pipelines(client):
    client.execute("CREATE TABLE piped (id int PRIMARY KEY, name text)")
    insert = "INSERT INTO piped VALUES (%s, %s)"
    # What stands between two synchronizations is one transaction.
    with client.pipeline():
        for i in range(500):
            client.execute(insert, (i, f"n{i}"))
        own = client.execute("SELECT count(*) FROM piped")
        assert own.fetchone() == (500,)
    assert client.execute("SELECT count(*) FROM piped").fetchone() == (500,)

    def duplicate():
        with client.pipeline():
            client.execute(insert, (1000, "new"))
            client.execute(insert, (1, "there already"))
            client.execute(insert, (1001, "not tried"))

    refused("23505", duplicate)
    assert client.execute("SELECT count(*) FROM piped WHERE id >= 1000").fetchone() == (0,)
    with client.pipeline() as pipeline:
        client.execute(insert, (1000, "kept"))
        pipeline.sync()
        client.execute("UPDATE piped SET name = 'other' WHERE id = 1000")
        client.execute("DELETE FROM piped WHERE id < 500")
        pipeline.sync()
    assert client.execute("SELECT * FROM piped").fetchall() == [(1000, "other")]
    assert client.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with client.pipeline(), client.transaction():
        client.execute(insert, (1, "within"))
        client.execute(insert, (2, "within"))
    assert client.execute("SELECT count(*) FROM piped").fetchone() == (3,)
    with client.pipeline():
        client.execute(insert, (3, "flushed"))
        client.execute("FLUSH")
        client.execute("DELETE FROM piped WHERE id = 3")
    assert client.execute("SELECT count(*) FROM piped").fetchone() == (3,)


def conflicts(client, connect):
    client.execute("CREATE TABLE tally (id int PRIMARY KEY, n int)")
    client.execute("INSERT INTO tally VALUES (1, 0), (2, 0)")
    add = "UPDATE tally SET n = n + 1 WHERE id = %s"
    other = connect(autocommit=True)

    # Rows were told, so it is for the client to try again, and the connection goes on.
    def lost():
        with client.pipeline():
            client.execute(add, (1,))
            assert client.execute("SELECT n FROM tally WHERE id = 1").fetchone() == (1,)
            other.execute(add, (1,))
            client.execute(add, (2,))

    assert isinstance(refused("40001", lost), errors.SerializationFailure)
    assert client.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert client.execute("SELECT n FROM tally ORDER BY id").fetchall() == [(1,), (0,)]

    # Transactions that tell nothing but numbers of rows are done again, as single statements are.
    def work(faults):
        try:
            with connect(autocommit=True) as own:
                for _ in range(20):
                    with own.pipeline():
                        own.execute(add, (1,))
                        own.execute(add, (2,))
                    own.execute("UPDATE tally SET n = n + 1 WHERE id = 1; UPDATE tally SET n = n + 1 WHERE id = 2")
        except psycopg.Error as error:
            faults.append(error)

    faults = []
    workers = [threading.Thread(target=work, args=(faults,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert faults == [], faults
    assert client.execute("SELECT n FROM tally ORDER BY id").fetchall() == [(161,), (160,)]
    other.close()


def prepared(client):
    for i in range(20):
        row = client.execute("SELECT id FROM copied WHERE id = %s", (i,), prepare=True).fetchone()
        assert row == (i,)
    names = [name for name, in client.execute("SELECT name FROM pg_prepared_statements").fetchall()]
    assert names == [], names
    client.execute("PREPARE by_id (bigint) AS SELECT name FROM copied WHERE id = $1")
    assert client.execute("EXECUTE by_id (6 + 1)").fetchall() == [("n7",)]
    assert client.execute("SELECT name FROM pg_prepared_statements").fetchall() == [("by_id",)]
    client.execute("DEALLOCATE by_id")
    refused("26000", lambda: client.execute("EXECUTE by_id (1)"))
    # More statements than psycopg keeps prepared: it deallocates the oldest by name.
    client.prepare_threshold = 0
    for i in range(200):
        assert client.execute(f"SELECT {i} + %s::int", (1,)).fetchone() == (i + 1,)
    client.prepare_threshold = 5


def notices(client):
    heard = []
    client.add_notice_handler(lambda told: heard.append((f"{told.severity} {told.sqlstate}", told.message_primary)))
    client.execute("DROP TABLE IF EXISTS nothing_of_this_name")
    client.execute("BEGIN")
    client.execute("BEGIN")
    client.execute("CREATE VIEW made_within AS SELECT 1 AS one")
    client.execute("ROLLBACK")
    client.execute("DROP VIEW made_within")
    client.execute("COMMIT")
    classes = [of for of, _ in heard]
    assert classes == ["NOTICE 00000", "WARNING 25001", "NOTICE 00000", "WARNING 25P01"], heard
    assert "does not exist" in heard[0][1] and "already a transaction" in heard[1][1], heard
    assert "not part of the transaction" in heard[2][1], heard


def cancelling(client):
    endless = "SELECT count(*) FROM copied a, copied b, copied c WHERE a.id + b.id + c.id = -%s::bigint"
    for values in [(1,), None]:
        statement = endless if values else endless.replace("%s", "1")
        done = threading.Event()

        def cancel():
            # It may come before the statement does, and is then forgotten.
            while not done.wait(0.05):
                client.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            refused("57014", lambda: client.execute(statement, values))
        finally:
            done.set()
            canceller.join()
    # The last request may still be on its way, and hit what comes next.
    while True:
        try:
            assert client.execute("SELECT 1").fetchone() == (1,)
            break
        except errors.QueryCanceled:
            pass
    client.execute("SET statement_timeout TO '50ms'")
    refused("57014", lambda: client.execute(endless, (1,)))
    refused("57014", lambda: client.execute("SELECT 1; " + endless.replace("%s", "1")))
    assert client.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    client.execute("RESET statement_timeout")


def mistakes(client):
    refused("42703", lambda: client.execute("SELECT nothing FROM copied"), "8")
    refused("42703", lambda: client.execute("SELECT id, ünï FROM copied WHERE id = %s", (1,)), "12")
    refused("42P01", lambda: client.execute("SELECT 1;  SELECT * FROM nowhere"), "26")
    refused("42601", lambda: client.execute("SELEC 1"), "1")
    refused("42601", lambda: client.execute("PREPARE p AS SELECT 1 +"), "24")
    refused("42601", lambda: client.execute("SELECT 1; SELECT %s", (1,)))
    refused("23502", lambda: client.execute("INSERT INTO copied VALUES (%s)", (None,)))
    refused("22003", lambda: client.execute("INSERT INTO kinds (id, small) VALUES (100, %s)", (70_000,)))
    refused("0A000", lambda: client.execute("LISTEN x"))


port = int(sys.argv[1])


def connect(**settings):
    return psycopg.connect(host="127.0.0.1", port=port, user="py", dbname="any", **settings)


with connect(autocommit=True, application_name="driver.py") as client:
    assert client.info.server_version >= 150000
    assert client.execute("SHOW application_name").fetchone() == ("driver.py",)
    types(client)
    numerics(client)
    documents(client)
    zones(client)
    copy_in(client)
    transactions(client, connect)
    cursors(client)
    many_rows(client)
    pipelines(client)
    conflicts(client, connect)
    prepared(client)
    notices(client)
    cancelling(client)
    mistakes(client)
    client.execute("DROP TABLE account CASCADE")
    assert client.execute("SELECT 1; SELECT 2").nextset()
