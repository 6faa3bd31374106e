//! The protocol message by message: orders of messages that drivers do not send, or not always.

use crate::server::{Server, runtime};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A connection whose messages are written by hand.
struct Wire {
    stream: TcpStream,
    out: Vec<u8>,
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

impl Wire {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.pg)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        let mut this = Self { stream, out: Vec::new() };
        let body = [&196_608_i32.to_be_bytes()[..], b"user\0tester\0database\0any\0\0"].concat();
        let length = body.len() as i32 + 4;
        this.stream.write_all(&[&length.to_be_bytes()[..], &body].concat()).expect("sent");
        while !this.answer().starts_with('Z') {}
        this
    }

    fn message(mut self, kind: u8, body: &[u8]) -> Self {
        self.out.push(kind);
        self.out.extend((body.len() as i32 + 4).to_be_bytes());
        self.out.extend(body);
        self
    }

    /// A statement that is parsed, bound and executed.
    fn execute(self, sql: &str) -> Self {
        self.message(b'P', &[text(""), text(sql), vec![0; 2]].concat())
            .message(b'B', &[text(""), text(""), vec![0; 6]].concat())
            .message(b'E', &[text(""), vec![0; 4]].concat())
    }

    fn query(self, sql: &str) -> Self {
        self.message(b'Q', &text(sql))
    }

    /// The statement of the last `execute` is closed.
    fn close(self) -> Self {
        self.message(b'C', &[&b"S"[..], &text("")].concat())
    }

    /// A function call without arguments.
    fn call(self) -> Self {
        self.message(b'F', &[0; 10])
    }

    fn send(mut self) -> Self {
        self.stream.write_all(&self.out).expect("sent");
        self.out.clear();
        self
    }

    /// The kind of the next message; of an error its SQLSTATE too, of readiness the transaction's state.
    fn answer(&mut self) -> String {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).expect("an answer comes");
        let length = i32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).expect("the rest of it");
        let kind = char::from(head[0]);
        match kind {
            'E' => {
                let mut fields = body.split(|byte| *byte == 0);
                let code = fields.find_map(|field| field.strip_prefix(b"C")).expect("an error has a code");
                format!("E{}", String::from_utf8_lossy(code))
            }
            'Z' => format!("Z{}", char::from(body[0])),
            other => other.to_string(),
        }
    }

    fn answers(&mut self, count: usize) -> String {
        (0..count).map(|_| self.answer()).collect::<Vec<_>>().join(" ")
    }
}

/// The one number that a query gives to another client.
fn number(server: &Server, query: &str) -> i64 {
    runtime().block_on(async {
        let client = server.connect().await;
        client.query_one(query, &[]).await.expect("a row").get(0)
    })
}

fn count(server: &Server) -> i64 {
    number(server, "SELECT count(*) FROM t")
}

#[test]
fn messages_come_in_any_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)").send();
    assert_eq!(wire.answers(2), "C ZI");
    // What was executed without a Sync is committed with the simple query behind it.
    wire = wire.execute("INSERT INTO t VALUES (1)").query("INSERT INTO t VALUES (2)").send();
    assert_eq!(wire.answers(5), "1 2 C C ZI");
    assert_eq!(count(&server), 2);
    wire = wire.execute("INSERT INTO t VALUES (3)").execute("SELECT 1 AS x").query("INSERT INTO t VALUES (4)").send();
    assert_eq!(wire.answers(9), "1 2 C 1 2 D C C ZI");
    assert_eq!(count(&server), 4);
    // A Flush is answered at once, and Sync commits.
    wire = wire.execute("INSERT INTO t VALUES (5)").message(b'H', &[]).send();
    assert_eq!(wire.answers(3), "1 2 C");
    assert_eq!(count(&server), 4);
    wire = wire.message(b'S', &[]).send();
    assert_eq!(wire.answers(1), "ZI");
    assert_eq!(count(&server), 5);
    // One error takes all since the last Sync back, and what follows is passed over.
    wire = wire.execute("INSERT INTO t VALUES (6)").execute("INSERT INTO t VALUES (1)");
    wire = wire.execute("INSERT INTO t VALUES (7)").message(b'S', &[]).send();
    assert_eq!(wire.answers(7), "1 2 C 1 2 E23505 ZI");
    assert_eq!(count(&server), 5);
    // A lone write that fails says so when Sync comes, which is not answered twice.
    wire = wire.execute("INSERT INTO t VALUES (1)").message(b'S', &[]).query("SELECT 1 AS x").send();
    assert_eq!(wire.answers(8), "1 2 E23505 ZI T D C ZI");
    // What is closed behind a write does not make it two.
    wire = wire.execute("INSERT INTO t VALUES (8)").close().message(b'S', &[]).send();
    assert_eq!(wire.answers(5), "1 2 C 3 ZI");
    assert_eq!(count(&server), 6);
    // What was executed and never synchronized is not there.
    drop(wire.execute("INSERT INTO t VALUES (9)").execute("SELECT 1 AS x").send());
    assert_eq!(count(&server), 6);
    server.stop();
}

#[test]
fn a_transaction_that_loses_is_done_again_or_told_in_the_place_of_its_last_statement() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY, v int)").send();
    assert_eq!(wire.answers(2), "C ZI");
    wire = wire.query("INSERT INTO t VALUES (1, 0), (2, 0)").send();
    assert_eq!(wire.answers(2), "C ZI");
    let sum = || number(&server, "SELECT sum(v) FROM t");
    let other = |statement: &str| {
        let mut other = Wire::connect(&server).query(statement).send();
        assert_eq!(other.answers(2), "C ZI", "{statement}");
    };
    // Its client was told nothing but numbers of rows, which are the same again.
    wire = wire.execute("UPDATE t SET v = v + 1 WHERE id = 1").execute("UPDATE t SET v = v + 1 WHERE id = 2");
    wire = wire.message(b'H', &[]).send();
    assert_eq!(wire.answers(6), "1 2 C 1 2 C");
    other("UPDATE t SET v = v + 10 WHERE id = 1");
    wire = wire.message(b'S', &[]).send();
    assert_eq!(wire.answers(1), "ZI");
    assert_eq!(sum(), 12);
    // Other numbers: what was told would not be true.
    wire = wire.execute("DELETE FROM t WHERE v = 11").execute("UPDATE t SET v = v + 1 WHERE id = 2");
    wire = wire.message(b'H', &[]).send();
    assert_eq!(wire.answers(6), "1 2 C 1 2 C");
    other("UPDATE t SET v = 20 WHERE id = 1");
    wire = wire.message(b'S', &[]).send();
    assert_eq!(wire.answers(2), "E40001 ZI");
    assert_eq!(sum(), 21);
    // Rows were told. The last statement is not answered before it is known that it holds, nor is what
    // follows it.
    wire = wire.execute("UPDATE t SET v = v + 1 WHERE id = 1").execute("SELECT v FROM t WHERE id = 1");
    wire = wire.message(b'H', &[]).send();
    assert_eq!(wire.answers(7), "1 2 C 1 2 D C");
    other("UPDATE t SET v = 30 WHERE id = 1");
    wire = wire.execute("UPDATE t SET v = v + 1 WHERE id = 2").close().message(b'S', &[]).send();
    assert_eq!(wire.answers(4), "1 2 E40001 ZI");
    assert_eq!(sum(), 31);
    wire = wire.execute("UPDATE t SET v = v + 1 WHERE id = 2").execute("SELECT 1 AS x").message(b'S', &[]).send();
    assert_eq!(wire.answers(8), "1 2 C 1 2 D C ZI");
    assert_eq!(sum(), 32);
    server.stop();
}

#[test]
fn function_calls_are_refused_and_the_connection_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).call().query("SELECT 1 AS x").send();
    assert_eq!(wire.answers(6), "E0A000 ZI T D C ZI");
    wire = wire.query("BEGIN").call().query("ROLLBACK").send();
    assert_eq!(wire.answers(6), "C ZT E0A000 ZE C ZI");
    // It may come in pieces.
    let (piece, rest) = ([b'F', 0, 0], [0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    wire.stream.set_nodelay(true).expect("it can be told");
    wire.stream.write_all(&piece).expect("sent");
    wire.stream.write_all(&rest).expect("sent");
    assert_eq!(wire.answers(2), "E0A000 ZI");
    // As all other messages it is passed over after an error.
    wire = wire.execute("SELECT nothing").call().message(b'S', &[]).query("SELECT 1 AS x").send();
    assert_eq!(wire.answers(6), "E42703 ZI T D C ZI");
    // What was executed without a Sync goes with it.
    wire = wire.query("CREATE TABLE t (id int PRIMARY KEY)").execute("INSERT INTO t VALUES (1)").call().send();
    assert_eq!(wire.answers(7), "C ZI 1 2 C E0A000 ZI");
    assert_eq!(count(&server), 0);
    server.stop();
}

#[test]
fn long_chains_of_operators_end_no_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let chain: Vec<String> = (0..4000).map(|n| format!("id <> {n}")).collect();
    let chain = chain.join(" AND ");
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)").send();
    assert_eq!(wire.answers(2), "C ZI");
    wire = wire.query(&format!("SELECT id FROM t WHERE {chain}")).send();
    assert_eq!(wire.answers(3), "T C ZI");
    wire = wire.query(&format!("DELETE FROM t WHERE {chain}")).send();
    assert_eq!(wire.answers(2), "C ZI");
    let chain: Vec<String> = (0..5000).map(|n| format!("id = {n}")).collect();
    wire = wire.query(&format!("SELECT id FROM t WHERE {}", chain.join(" OR "))).send();
    assert_eq!(wire.answers(3), "T C ZI");
    let sum = |terms: usize| vec!["id"; terms].join(" + ");
    wire = wire.query(&format!("SELECT {} AS x FROM t", sum(200))).send();
    assert_eq!(wire.answers(3), "T C ZI");
    wire = wire.query(&format!("SELECT {} AS x FROM t", sum(20_000))).send();
    assert_eq!(wire.answers(2), "E54001 ZI");
    wire = wire.query(&format!("CREATE MATERIALIZED VIEW v AS SELECT {} AS x FROM t", sum(2000))).send();
    assert_eq!(wire.answers(2), "E54001 ZI");
    assert_eq!(count(&server), 0);
    server.stop();
}

#[test]
fn what_takes_too_long_to_plan_is_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)").send();
    assert_eq!(wire.answers(2), "C ZI");
    let columns: Vec<String> = (0..8).map(|n| format!("{} AS c{n}", vec!["id"; 900].join(" + "))).collect();
    let query = format!("SELECT {} FROM t", columns.join(", "));
    let (briefly, ever) = ("SET statement_timeout = 200", "SET statement_timeout = 0");
    wire = wire.query(briefly).query(&query).query(ever).query("SELECT 1 AS x").send();
    assert_eq!(wire.answers(10), "C ZI E57014 ZI C ZI T D C ZI");
    let view = format!("CREATE MATERIALIZED VIEW v AS SELECT {} FROM t", columns[..2].join(", "));
    wire = wire.query(briefly).query(&view).query(ever).query("SELECT 1 AS x").send();
    assert_eq!(wire.answers(10), "C ZI E57014 ZI C ZI T D C ZI");
    wire = wire.query(briefly).query("SELECT pg_sleep(3600)").query(ever).send();
    // What is its column is known before it sleeps.
    assert_eq!(wire.answers(7), "C ZI T E57014 ZI C ZI");
    let counted = "SELECT count(*) AS n FROM generate_series(1, 9223372036854775807)";
    wire = wire.query(briefly).query(counted).query(ever).send();
    assert_eq!(wire.answers(7), "C ZI T E57014 ZI C ZI");
    wire = wire.query(briefly).execute(&query).message(b'S', &[]).query(ever).query("SELECT 1 AS x").send();
    assert_eq!(wire.answers(10), "C ZI E57014 ZI C ZI T D C ZI");
    server.stop();
}

#[test]
fn what_is_no_text_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY, s text)").send();
    assert_eq!(wire.answers(2), "C ZI");
    let insert = b"INSERT INTO t VALUES (1, 'a\xffb')\0";
    wire = wire.message(b'Q', insert).send();
    assert_eq!(wire.answers(2), "E22021 ZI");
    wire = wire.message(b'P', &[vec![0], insert.to_vec(), vec![0; 2]].concat()).message(b'S', &[]).send();
    assert_eq!(wire.answers(2), "E22021 ZI");
    let parse = [text(""), text("INSERT INTO t VALUES (1, $1)"), vec![0; 2]].concat();
    // One parameter, as text and in binary form.
    for format in [0, 1] {
        for value in [b"a\0b", b"a\xffb"] {
            let parameter = [vec![0, 1, 0, format, 0, 1, 0, 0, 0, 3], value.to_vec(), vec![0; 2]].concat();
            let bind = [text(""), text(""), parameter].concat();
            wire = wire.message(b'P', &parse).message(b'B', &bind);
            wire = wire.message(b'E', &[text(""), vec![0; 4]].concat()).message(b'S', &[]).send();
            assert_eq!(wire.answers(4), "1 2 E22021 ZI", "{format} {value:?}");
        }
    }
    assert_eq!(count(&server), 0);
    server.stop();
}

#[test]
fn what_was_described_with_other_columns_is_not_executed() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let bind = [text(""), text("f"), vec![0; 6]].concat();
    let run = |wire: Wire| {
        wire.message(b'B', &bind).message(b'E', &[text(""), vec![0; 4]].concat()).message(b'S', &[]).send()
    };
    let mut wire = Wire::connect(&server).query("BEGIN").query("DECLARE c CURSOR FOR SELECT 1 AS a");
    wire = run(wire.message(b'P', &[text("f"), text("FETCH ALL FROM c"), vec![0; 2]].concat()));
    assert_eq!(wire.answers(9), "C ZT C ZT 1 2 D C ZT");
    wire = run(wire.query("CLOSE c").query("DECLARE c CURSOR FOR SELECT 2 AS a"));
    assert_eq!(wire.answers(8), "C ZT C ZT 2 D C ZT");
    wire = run(wire.query("CLOSE c").query("DECLARE c CURSOR FOR SELECT 1 AS a, 2 AS b"));
    assert_eq!(wire.answers(7), "C ZT C ZT 2 E0A000 ZE");
    wire = wire.query("ROLLBACK").query("CREATE TABLE t (id int PRIMARY KEY)").query("INSERT INTO t VALUES (1)");
    wire = run(wire
        .message(b'C', &[&b"S"[..], &text("f")].concat())
        .message(b'P', &[text("f"), text("SELECT * FROM t"), vec![0; 2]].concat()));
    assert_eq!(wire.answers(12), "C ZI C ZI C ZI 3 1 2 D C ZI");
    wire = run(wire.query("ALTER TABLE t ADD COLUMN b int"));
    assert_eq!(wire.answers(5), "C ZI 2 E0A000 ZI");
    server.stop();
}
