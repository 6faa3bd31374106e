//! Rows by key, as drivers read them: by prepared statements, one after another or many at once. What the server
//! answers to a request that comes as a whole is, byte by byte, what it answers when its messages come with a Flush
//! between them.

use crate::server::{Server, runtime};
use crate::wire::{Wire, text};
use futures::future::{join_all, try_join_all};
use tokio_postgres::types::ToSql;

const TYPES: &str =
    "CREATE TABLE typed (id int PRIMARY KEY, b boolean, i2 smallint, i8 bigint, f4 real, f8 double precision,
    n numeric(12, 3), t varchar, y bytea, d date, h time, ts timestamp, tz timestamptz, i interval, j jsonb,
    a int[], at varchar[])";
const TYPED: [&str; 3] = [
    "(1, true, -2, 9000000000, 1.5, -0.1, 12.340, 'it''s', '\\x00ff', '2024-02-29', '01:02:03.5', '2024-02-29 01:02:03', '2024-02-29 01:02:03+00', '1 mon 2 days 03:04:05.006', '{\"a\": [1, null]}', '{1,NULL,3}', '{a,\"b c\",NULL}')",
    "(2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "(3, false, 0, 0, 'Infinity', 'NaN', -0.001, '', '\\x', '0044-03-15 BC', '00:00', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999+00', '-1 days', '\"x\"', '{}', '{}')",
];

/// A key as a client binds it.
#[derive(Clone, Copy)]
enum Key<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Null,
}

/// How a prepared statement is executed once.
#[derive(Clone, Copy)]
struct Execution<'a> {
    keys: &'a [Key<'a>],
    /// Formats of the columns.
    formats: &'a [u8],
    is_described: bool,
}

const fn execution<'a>(keys: &'a [Key<'a>], formats: &'a [u8], is_described: bool) -> Execution<'a> {
    Execution { keys, formats, is_described }
}

impl Wire {
    /// Executes the statement `s`; as a whole, or with a Flush within.
    fn execute_prepared(self, execution: Execution<'_>, is_whole: bool) -> Self {
        let Execution { keys, formats, is_described } = execution;
        let mut bind = [text(""), text("s")].concat();
        bind.extend((keys.len() as u16).to_be_bytes());
        bind.extend(keys.iter().flat_map(|key| [0, u8::from(matches!(key, Key::Binary(_)))]));
        bind.extend((keys.len() as u16).to_be_bytes());
        for key in keys {
            let bytes = match key {
                Key::Text(text) => text.as_bytes(),
                Key::Binary(bytes) => bytes,
                Key::Null => {
                    bind.extend((-1_i32).to_be_bytes());
                    continue;
                }
            };
            bind.extend((bytes.len() as u32).to_be_bytes());
            bind.extend(bytes);
        }
        bind.extend((formats.len() as u16).to_be_bytes());
        bind.extend(formats.iter().flat_map(|format| [0, *format]));
        let mut this = self.message(b'B', &bind);
        if is_described {
            this = this.message(b'D', &[&b"P"[..], &text("")].concat());
        }
        if !is_whole {
            this = this.message(b'H', &[]);
        }
        this.message(b'E', &[text(""), vec![0; 4]].concat()).sync()
    }

    /// Prepares `s` for parameters of types by their numbers, 0 for those that the statement gives.
    fn prepare(mut self, sql: &str, types: &[u32]) -> Self {
        let types: Vec<u8> = [(types.len() as u16).to_be_bytes().to_vec()]
            .into_iter()
            .chain(types.iter().map(|t| t.to_be_bytes().to_vec()))
            .flatten()
            .collect();
        self = self.message(b'C', &[&b"S"[..], &text("s")].concat());
        self = self.message(b'P', &[text("s"), text(sql), types].concat()).sync().send();
        assert_eq!(self.answers(3), "3 1 ZI", "{sql}");
        self
    }

    /// Checks that executions are answered alike whether they come as wholes, all at once, or each by its messages.
    fn check_alike(mut self, executions: &[Execution<'_>], what: &str) -> Self {
        let mut one_by_one = Vec::new();
        for execution in executions {
            self = self.execute_prepared(*execution, false).send();
            one_by_one.push(self.bytes_until_ready());
        }
        for execution in executions {
            self = self.execute_prepared(*execution, true);
        }
        self = self.send();
        for (at, wanted) in one_by_one.iter().enumerate() {
            let given = self.bytes_until_ready();
            assert!(given == *wanted, "{what}, execution {at}:\n{given:?}\n{wanted:?}");
        }
        self
    }
}

fn done(mut wire: Wire, sql: &str) -> Wire {
    wire = wire.query(sql).send();
    let answers = wire.bytes_until_ready();
    assert!(answers.iter().all(|answer| answer[0] != b'E'), "{sql}: {answers:?}");
    wire
}

#[test]
fn requests_as_wholes_are_answered_as_their_messages_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = done(Wire::connect(&server), TYPES);
    wire = done(wire, &format!("INSERT INTO typed VALUES {}", TYPED.join(", ")));
    wire = done(wire, "CREATE MATERIALIZED VIEW v AS SELECT i2, count(*) AS n, max(t) AS t FROM typed GROUP BY i2");
    wire = done(wire, "CREATE TABLE two (a bigint, b varchar, c int, PRIMARY KEY (b, a))");
    wire = done(wire, "INSERT INTO two VALUES (1, 'x', 5), (2, 'x', 6), (1, 'y', 7)");
    wire = done(wire, "FLUSH");
    let one_to_four = [1_i32, 2, 3, 4].map(i32::to_be_bytes);
    let binary = one_to_four.each_ref().map(|key| [Key::Binary(&key[..])]);
    let texts = ["3", "1", "-7", "1", " 2", "99999999999", "x", "2147483648"].map(|key| [Key::Text(key)]);
    let keys: Vec<&[Key<'_>]> = binary.iter().chain(&texts).map(|key| &key[..]).chain([&[Key::Null][..]]).collect();
    wire = wire.prepare("SELECT * FROM typed WHERE id = $1", &[]);
    for formats in [&[][..], &[0], &[1], &[1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]] {
        let all: Vec<_> = keys.iter().enumerate().map(|(at, keys)| execution(keys, formats, at % 3 == 0)).collect();
        wire = wire.check_alike(&all, "all types");
    }
    // Formats that are not one each, and one that does not exist.
    for formats in [&[1, 0][..], &[2]] {
        wire = wire.check_alike(&[execution(&binary[0], formats, false)], "formats");
    }
    wire =
        wire.check_alike(&[execution(&[], &[], false), execution(&[binary[0][0], binary[1][0]], &[], false)], "counts");
    // Types that the client tells: as drivers do that take the smallest one, and one that cannot be.
    let (short, long) = (1_i16.to_be_bytes(), 1_i64.to_be_bytes());
    for (told, key) in [(21, &short[..]), (20, &long[..]), (23, &short[..])] {
        wire = wire.prepare("SELECT t, id AS number FROM typed AS x WHERE $1 = x.id", &[told]);
        let keys = [Key::Binary(key)];
        wire = wire.check_alike(&[execution(&keys, &[1], true), execution(&[Key::Text("2")], &[0], false)], "told");
    }
    wire = wire.prepare("SELECT c, b FROM two WHERE a = $2 AND b = $1", &[]);
    let pairs = [["x", "1"], ["x", "2"], ["y", "2"], ["y", "1"], ["x", "1"]].map(|pair| pair.map(Key::Text));
    let all = pairs.each_ref().map(|keys| execution(keys, &[1, 0], false));
    wire = wire.check_alike(&all, "a key of two columns");
    wire = wire.prepare("SELECT * FROM v WHERE i2 = $1", &[]);
    let all: Vec<_> = texts[..6].iter().map(|keys| execution(keys, &[1], true)).collect();
    wire = wire.check_alike(&all, "a view");
    let zeros = vec![execution(&[Key::Text("0")], &[], false); 300];
    wire = wire.check_alike(&zeros, "one key many times");
    // Instants are shown in the session's zone.
    wire = done(wire, "SET timezone = 'Asia/Tokyo'");
    wire = wire.prepare("SELECT tz, ts FROM typed WHERE id = $1", &[]);
    wire = wire.check_alike(&[execution(&binary[0], &[], true), execution(&binary[2], &[], false)], "a zone");
    // In a transaction, what it has written; behind an error nothing.
    wire = done(wire, "BEGIN; UPDATE typed SET ts = '2030-01-01' WHERE id = 1");
    wire = wire.check_alike(&[execution(&binary[0], &[], true), execution(&binary[2], &[], false)], "a transaction");
    wire = wire.query("SELECT nothing").send();
    assert_eq!(wire.answers(2), "E42703 ZE");
    wire = wire.check_alike(&[execution(&binary[0], &[], true)], "a failed transaction");
    drop(wire);
    server.stop();
}

#[test]
fn a_request_may_come_in_pieces() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = done(Wire::connect(&server), "CREATE TABLE t (id int PRIMARY KEY, v int)");
    wire = done(wire, "INSERT INTO t VALUES (1, 10), (2, 20)");
    wire = wire.prepare("SELECT v FROM t WHERE id = $1", &[]).no_delay();
    let read = |key| Execution { keys: key, formats: &[], is_described: false };
    let (one, two) = ([Key::Text("1")], [Key::Text("2")]);
    for cut in [1, 20, 34, 40, 48, 60] {
        wire = wire.execute_prepared(read(&one), true).execute_prepared(read(&two), true).send_in_two(cut);
        assert_eq!(wire.answers(8), "2 D C ZI 2 D C ZI", "cut at {cut}");
    }
    drop(wire);
    server.stop();
}

#[test]
fn many_readers_of_a_view_get_the_rows_of_their_own_keys() {
    const KEYS: i64 = 500;
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    runtime().block_on(async {
        let client = server.connect().await;
        client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, k bigint)").await.expect("a table");
        let rows = format!("INSERT INTO t SELECT g, g % {KEYS} FROM generate_series(0, 4999) AS s(g)");
        client.batch_execute(&rows).await.expect("rows");
        let view = "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, min(id) AS first FROM t GROUP BY k";
        client.batch_execute(view).await.expect("a view");
        let server = &server;
        let readers = (0..4_i64).map(|reader| async move {
            let client = server.connect().await;
            let statement = client.prepare("SELECT k, n, first FROM v WHERE k = $1").await.expect("a statement");
            for round in 0..20_i64 {
                let keys: Vec<i64> = (0..50).map(|at| (at * 17 + round * 31 + reader * 7) % (KEYS + 20)).collect();
                let read = |key| client.query(&statement, std::slice::from_ref(key));
                let parameters: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|key| key as _).collect();
                let answers = try_join_all(parameters.iter().map(read)).await.expect("rows");
                for (key, rows) in keys.iter().zip(answers) {
                    let rows: Vec<(i64, i64, i64)> =
                        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
                    let wanted: Vec<_> = (*key < KEYS).then_some((*key, 5000 / KEYS, *key)).into_iter().collect();
                    assert_eq!(rows, wanted, "reader {reader}, key {key}");
                }
            }
        });
        // Meanwhile the rows are written anew.
        let changes = async {
            for _ in 0..3 {
                client.batch_execute("UPDATE t SET k = k WHERE id < 100").await.expect("an update");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        futures::join!(join_all(readers), changes);
    });
    server.stop();
}

#[test]
fn a_pipeline_of_reads_and_writes_reads_what_it_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = done(Wire::connect(&server), "CREATE TABLE t (id int PRIMARY KEY, v int)");
    wire = wire.prepare("SELECT v FROM t WHERE id = $1", &[]);
    let read = Execution { keys: &[Key::Text("1")], formats: &[], is_described: false };
    let insert = "INSERT INTO t VALUES (1, 10)";
    // Before the write, behind it, and in the transaction of another that is rolled back.
    wire = wire.execute_prepared(read, true).execute(insert).sync().execute_prepared(read, true);
    wire = wire.query("BEGIN; UPDATE t SET v = 11").execute_prepared(read, true).query("ROLLBACK");
    wire = wire.execute_prepared(read, true).send();
    let values: Vec<Vec<u8>> = (0..7)
        .flat_map(|_| wire.bytes_until_ready())
        .filter(|answer| answer[0] == b'D')
        .map(|row| row[row.len() - 2..].to_vec())
        .collect();
    assert_eq!(values, [b"10", b"11", b"10"]);
    // A write that waits to hear whether it is alone.
    wire = wire.execute("UPDATE t SET v = 12").execute_prepared(read, true).send();
    let answers = wire.bytes_until_ready();
    assert!(answers.iter().any(|answer| answer[0] == b'D' && answer.ends_with(b"12")), "{answers:?}");
    // What it reads is another table meanwhile.
    wire = done(wire, "DROP TABLE t");
    wire = wire.execute_prepared(read, true).send();
    assert_eq!(wire.answers(3), "2 E42P01 ZI");
    wire = done(wire, "CREATE TABLE t (v varchar, id int PRIMARY KEY)");
    wire = done(wire, "INSERT INTO t VALUES ('x', 1)");
    wire = wire.execute_prepared(read, true).send();
    assert_eq!(wire.answers(3), "2 E0A000 ZI");
    wire = wire.prepare("SELECT * FROM t WHERE id = $1", &[]);
    wire = done(wire, "ALTER TABLE t ADD COLUMN more int");
    wire = wire.execute_prepared(read, true).send();
    assert_eq!(wire.answers(3), "2 E0A000 ZI");
    drop(wire);
    server.stop();
}
