//! The protocol message by message: orders of messages that drivers do not send, or not always.

use crate::server::{Server, runtime};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A connection whose messages are written by hand.
pub(crate) struct Wire {
    stream: TcpStream,
    out: Vec<u8>,
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

impl Wire {
    pub(crate) fn connect(server: &Server) -> Self {
        let mut this = Self::begin(server);
        while !this.answer().starts_with('Z') {}
        this
    }

    /// A connection that has said who it is.
    fn begin(server: &Server) -> Self {
        let body = [&196_608_i32.to_be_bytes()[..], b"user\0tester\0database\0any\0\0"].concat();
        let length = body.len() as i32 + 4;
        Self::silent(server).raw(&length.to_be_bytes()).raw(&body).send()
    }

    /// A connection that has said nothing.
    fn silent(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.pg)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        Self { stream, out: Vec::new() }
    }

    /// Bytes as they are.
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.out.extend(bytes);
        self
    }

    pub(crate) fn message(mut self, kind: u8, body: &[u8]) -> Self {
        self.out.push(kind);
        self.out.extend((body.len() as i32 + 4).to_be_bytes());
        self.out.extend(body);
        self
    }

    pub(crate) fn sync(self) -> Self {
        self.message(b'S', &[])
    }

    /// A statement that is parsed, bound and executed.
    pub(crate) fn execute(self, sql: &str) -> Self {
        self.message(b'P', &[text(""), text(sql), vec![0; 2]].concat())
            .message(b'B', &[text(""), text(""), vec![0; 6]].concat())
            .message(b'E', &[text(""), vec![0; 4]].concat())
    }

    pub(crate) fn query(self, sql: &str) -> Self {
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

    pub(crate) fn send(mut self) -> Self {
        self.stream.write_all(&self.out).expect("sent");
        self.out.clear();
        self
    }

    /// Small pieces are sent as they come.
    pub(crate) fn no_delay(self) -> Self {
        self.stream.set_nodelay(true).expect("it can be told");
        self
    }

    /// Sends so many bytes, and the rest when these have surely been read.
    pub(crate) fn send_in_two(mut self, cut: usize) -> Self {
        self.stream.write_all(&self.out[..cut]).expect("sent");
        std::thread::sleep(Duration::from_millis(20));
        self.out.drain(..cut);
        self.send()
    }

    /// The kind of the next message; of an error and a notice its SQLSTATE too, of readiness the transaction's
    /// state.
    fn answer(&mut self) -> String {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).expect("an answer comes");
        let length = i32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).expect("the rest of it");
        let kind = char::from(head[0]);
        match kind {
            'E' | 'N' => {
                let mut fields = body.split(|byte| *byte == 0);
                let code = fields.find_map(|field| field.strip_prefix(b"C")).expect("an error has a code");
                format!("{kind}{}", String::from_utf8_lossy(code))
            }
            'Z' => format!("Z{}", char::from(body[0])),
            other => other.to_string(),
        }
    }

    /// All messages up to the next readiness, each with its head.
    pub(crate) fn bytes_until_ready(&mut self) -> Vec<Vec<u8>> {
        let mut messages: Vec<Vec<u8>> = Vec::new();
        while messages.last().is_none_or(|last| last[0] != b'Z') {
            let mut message = vec![0; 5];
            self.stream.read_exact(&mut message).expect("an answer comes");
            let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
            message.resize(length + 1, 0);
            self.stream.read_exact(&mut message[5..]).expect("the rest of it");
            messages.push(message);
        }
        messages
    }

    /// Whether the server has closed the connection.
    fn is_over(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    pub(crate) fn answers(&mut self, count: usize) -> String {
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
fn transactions_of_a_text_begin_and_end_where_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)").send();
    assert_eq!(wire.answers(2), "C ZI");
    let insert = |id: i32| format!("INSERT INTO t VALUES ({id})");
    let mut sum = 0;
    let cases: [(String, &str, i64); 14] = [
        // BEGIN takes what came before it into its transaction.
        (format!("{}; BEGIN; {}", insert(1), insert(2)), "C C C ZT", 0),
        ("ROLLBACK".to_owned(), "C ZI", 0),
        (format!("{}; BEGIN; {}; COMMIT", insert(1), insert(2)), "C C C C ZI", 3),
        // COMMIT and ROLLBACK end what nobody has begun, and say so.
        (format!("{}; ROLLBACK; {}", insert(4), insert(8)), "C N25P01 C C ZI", 8),
        (format!("{}; COMMIT; {}; {}", insert(16), insert(32), insert(1)), "C N25P01 C C E23505 ZI", 16),
        // What follows a transaction is another one.
        (format!("BEGIN; COMMIT; {}; {}; SELECT nothing", insert(32), insert(64)), "C C C C E42703 ZI", 0),
        (format!("{}; BEGIN; COMMIT; {}; SELECT nothing", insert(32), insert(64)), "C C C C E42703 ZI", 32),
        // Nobody has asked for the transaction in which SAVEPOINT stands.
        (format!("{}; SAVEPOINT x", insert(64)), "C E25P01 ZI", 0),
        (format!("BEGIN; {}; BEGIN; SELECT nothing", insert(64)), "C C N25001 C E42703 ZE", 0),
        ("ROLLBACK".to_owned(), "C ZI", 0),
        ("ROLLBACK; COMMIT".to_owned(), "N25P01 C N25P01 C ZI", 0),
        // A definition commits what came before it.
        (format!("{}; CREATE TABLE u (x int); SELECT nothing", insert(64)), "C C E42703 ZI", 64),
        // Nothing is done of what has a mistake in its grammar.
        (format!("{}; COMMIT; SELECTS nothing", insert(128)), "E42601 ZI", 0),
        ("SELECT 1 AS x; BEGIN ISOLATION LEVEL REPEATABLE READ".to_owned(), "T D C E25001 ZI", 0),
    ];
    for (text, answers, more) in cases {
        wire = wire.query(&text).send();
        assert_eq!(wire.answers(answers.split(' ').count()), answers, "{text}");
        sum += more;
        assert_eq!(number(&server, "SELECT coalesce(sum(id), 0) FROM t"), sum, "{text}");
    }
    // A pipeline's likewise.
    wire = wire.execute(&insert(128)).execute("COMMIT").execute(&insert(256)).execute("ROLLBACK");
    wire = wire.execute(&insert(512)).message(b'S', &[]).send();
    assert_eq!(wire.answers(18), "1 2 C 1 2 N25P01 C 1 2 C 1 2 N25P01 C 1 2 C ZI");
    assert_eq!(number(&server, "SELECT sum(id) FROM t"), sum + 128 + 512);
    server.stop();
}

#[test]
fn a_transaction_of_a_text_that_loses_is_done_again_without_what_was_committed_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY, v int)").send();
    assert_eq!(wire.answers(2), "C ZI");
    wire = wire.query("INSERT INTO t VALUES (1, 0), (2, 0)").send();
    assert_eq!(wire.answers(2), "C ZI");
    // Two transactions that are done again by themselves, and one between them that leaves nothing.
    let add = "UPDATE t SET v = v + 1 WHERE id = 1; UPDATE t SET v = v + 1 WHERE id = 2";
    let text = format!("{add}; COMMIT; {add}; ROLLBACK; UPDATE t SET v = v + 1 WHERE id = 1");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut wire = Wire::connect(&server);
                for _ in 0..50 {
                    wire = wire.query(&text).send();
                    assert_eq!(wire.answers(10), "C C N25P01 C C C N25P01 C C ZI");
                }
            });
        }
    });
    assert_eq!(number(&server, "SELECT sum(v) FROM t WHERE id = 1"), 300);
    // One that its client has asked for is its client's to do again.
    wire = wire.query("UPDATE t SET v = v + 1 WHERE id = 1; BEGIN").send();
    assert_eq!(wire.answers(3), "C C ZT");
    let mut other = Wire::connect(&server).query("UPDATE t SET v = 0 WHERE id = 1").send();
    assert_eq!(other.answers(2), "C ZI");
    wire = wire.query("COMMIT; UPDATE t SET v = v + 1 WHERE id = 2").send();
    assert_eq!(wire.answers(2), "E40001 ZI");
    assert_eq!(number(&server, "SELECT sum(v) FROM t"), 150);
    server.stop();
}

#[test]
fn savepoints_give_a_failed_transaction_a_new_life() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)").send();
    assert_eq!(wire.answers(2), "C ZI");
    wire = wire.query("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s").send();
    assert_eq!(wire.answers(4), "C C C ZT");
    wire = wire.query("INSERT INTO t VALUES (2); INSERT INTO t VALUES (1)").query("SAVEPOINT other").send();
    assert_eq!(wire.answers(5), "C E23505 ZE E25P02 ZE");
    wire = wire.query("ROLLBACK TO nothing").query("ROLLBACK TO s; RELEASE s").send();
    assert_eq!(wire.answers(5), "E3B001 ZE C C ZT");
    // In a pipeline, too.
    wire = wire.execute("SAVEPOINT s").execute("INSERT INTO t VALUES (4)").execute("INSERT INTO t VALUES (1)");
    wire = wire.message(b'S', &[]).execute("ROLLBACK TO SAVEPOINT s").execute("INSERT INTO t VALUES (8)");
    wire = wire.message(b'S', &[]).query("COMMIT").send();
    assert_eq!(wire.answers(19), "1 2 C 1 2 C 1 2 E23505 ZE 1 2 C 1 2 C ZT C ZI");
    assert_eq!(number(&server, "SELECT sum(id) FROM t"), 9);
    // Nobody has asked for a transaction here.
    wire = wire.execute("INSERT INTO t VALUES (16)").execute("SAVEPOINT s").message(b'S', &[]).send();
    assert_eq!(wire.answers(7), "1 2 C 1 2 E25P01 ZI");
    assert_eq!(number(&server, "SELECT sum(id) FROM t"), 9);
    server.stop();
}

#[test]
fn keys_that_rows_move_to_are_looked_up_by_their_statement() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY, v int)").send();
    assert_eq!(wire.answers(2), "C ZI");
    wire = wire.query("INSERT INTO t VALUES (1, 1), (2, 2)").send();
    assert_eq!(wire.answers(2), "C ZI");
    for moved in [
        "UPDATE t SET id = 2 WHERE id = 1",
        "UPDATE t SET id = 2 WHERE id = 1 RETURNING v",
        "INSERT INTO t VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET id = 2",
    ] {
        // In a pipeline, in a text, and in a transaction that was asked for.
        wire = wire.execute("UPDATE t SET v = 3 WHERE id = 1").execute(moved).execute("DELETE FROM t WHERE id = 2");
        wire = wire.message(b'S', &[]).send();
        assert_eq!(wire.answers(7), "1 2 C 1 2 E23505 ZI", "{moved}");
        wire = wire.query(&format!("UPDATE t SET v = 3 WHERE id = 1; {moved}; DELETE FROM t WHERE id = 2")).send();
        assert_eq!(wire.answers(3), "C E23505 ZI", "{moved}");
        wire = wire.query("BEGIN").execute(moved).message(b'S', &[]).query("SELECT 1 AS x").query("COMMIT").send();
        assert_eq!(wire.answers(10), "C ZT 1 2 E23505 ZE E25P02 ZE C ZI", "{moved}");
        assert_eq!(number(&server, "SELECT sum(id * 10 + v) FROM t"), 33, "{moved}");
    }
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
fn malformed_messages_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)").send();
    assert_eq!(wire.answers(2), "C ZI");
    // Where they end is known, so the connection goes on.
    let cases = [
        (b'B', vec![0, 0, 0, 5]),
        (b'B', vec![0]),
        (b'P', b"\0SELECT 1\0".to_vec()),
        (b'D', b"X\0".to_vec()),
        (b'E', Vec::new()),
    ];
    for (kind, body) in cases {
        wire = wire.message(kind, &body).execute("SELECT 1 AS x").sync().query("SELECT 1 AS x").send();
        assert_eq!(wire.answers(6), "E08P01 ZI T D C ZI", "{body:?}");
    }
    wire = wire.query("BEGIN").message(b'Q', b"SELECT 1").query("ROLLBACK").send();
    assert_eq!(wire.answers(6), "C ZT E08P01 ZE C ZI");
    wire = wire.execute("INSERT INTO t VALUES (1)").message(b'E', &[0]).sync().send();
    assert_eq!(wire.answers(5), "1 2 C E08P01 ZI");
    assert_eq!(count(&server), 0);
    wire = wire.query("COPY t FROM STDIN").message(b'Q', &text("SELECT 1")).query("SELECT 1 AS x").send();
    assert_eq!(wire.answers(7), "G E08P01 ZI T D C ZI");
    // Where they end is not known.
    for bytes in [b"Q\0\0\0\x01", b"Q\xff\xff\xff\xff", b"y\0\0\0\x04", b"p\0\0\0\x04"] {
        let mut wire = Wire::connect(&server).raw(bytes).send();
        assert_eq!(wire.answers(1), "E08P01", "{bytes:?}");
        assert!(wire.is_over(), "{bytes:?}");
    }
    let mut wire = Wire::silent(&server).raw(b"\0\0\0\x07\0\x03\0\0").send();
    assert_eq!(wire.answers(1), "E08P01");
    assert!(wire.is_over());
    server.stop();
}

#[test]
fn who_is_not_let_in_yet_is_asked_for_a_password_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut add = Command::new(env!("CARGO_BIN_EXE_highwater"));
    add.args(["users", "add", "ada", "--role", "admin", "--data"]).arg(folder.path());
    let mut add = add.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
    add.stdin.take().expect("piped").write_all(b"a long password\n").expect("it reads");
    assert!(add.wait().expect("it ends").success());
    let server = Server::start(folder.path(), &[]);
    let sasl = |rest: &[u8]| [&b"SCRAM-SHA-256\0"[..], rest].concat();
    let cases = [
        (b'Q', text("SELECT 1")),
        (b'p', Vec::new()),
        (b'p', b"abcd".to_vec()),
        (b'p', sasl(b"\0\0")),
        (b'p', sasl(b"\0\0\xff\xffn,")),
        (b'p', sasl(b"\xff\xff\xff\xfe")),
        (b'p', sasl(b"\xff\xff\xff\xff")),
        (b'p', sasl(b"\0\0\0\x02n,")),
    ];
    for (kind, body) in cases {
        let mut wire = Wire::begin(&server).message(kind, &body).send();
        assert!(matches!(wire.answers(2).as_str(), "R E08P01" | "R E28P01"), "{kind} {body:?}");
        assert!(wire.is_over(), "{kind} {body:?}");
    }
    for bytes in [b"Q\0\0\0\x04", b"p\0\0\0\0", b"p\x3f\xff\xff\xff"] {
        let mut wire = Wire::begin(&server).raw(bytes).send();
        assert_eq!(wire.answers(2), "R E08P01", "{bytes:?}");
        assert!(wire.is_over(), "{bytes:?}");
    }
    let log = std::fs::read_to_string(folder.path().join("serve.log")).expect("a log");
    assert!(!log.contains("panicked"), "{log}");
    server.stop();
}

#[test]
fn names_and_formats_are_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let parse = |name: &str, sql: &str| [text(name), text(sql), vec![0; 2]].concat();
    let bind = |portal: &str, statement: &str, rest: &[u8]| [text(portal), text(statement), rest.to_vec()].concat();
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)").send();
    assert_eq!(wire.answers(2), "C ZI");
    let select = parse("s", "SELECT 1 AS x");
    wire = wire.message(b'P', &select).message(b'P', &select).sync().send();
    assert_eq!(wire.answers(3), "1 E42P05 ZI");
    let bound = bind("p", "s", &[0; 6]);
    wire = wire.message(b'B', &bound).message(b'B', &bound).sync().message(b'B', &bound).sync().send();
    assert_eq!(wire.answers(5), "2 E42P03 ZI 2 ZI");
    // What is forgotten may be given again.
    wire = wire.message(b'C', b"Ss\0").message(b'P', &select).query("DEALLOCATE ALL").message(b'P', &select);
    wire = wire.query("DISCARD ALL").message(b'P', &select).query("DEALLOCATE s").message(b'P', &select).sync().send();
    assert_eq!(wire.answers(12), "3 1 C ZI 1 C ZI 1 C ZI 1 ZI");
    wire = wire.message(b'E', &[text("none"), vec![0; 4]].concat()).sync().message(b'D', b"Pnone\0").sync();
    wire = wire.message(b'B', &bind("", "none", &[0; 6])).sync().send();
    assert_eq!(wire.answers(6), "E34000 ZI E34000 ZI E26000 ZI");
    for formats in [[0, 1, 0, 7, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 7]] {
        wire = wire.message(b'B', &bind("", "s", &formats)).sync().send();
        assert_eq!(wire.answers(2), "E22023 ZI");
    }
    // It gives no rows, and takes four bytes.
    wire = wire.message(b'P', &parse("", "INSERT INTO t VALUES ($1)")).message(b'D', b"S\0").sync().send();
    assert_eq!(wire.answers(4), "1 t n ZI");
    let short = [0, 1, 0, 1, 0, 1, 0, 0, 0, 3, 1, 2, 3, 0, 0];
    wire = wire.message(b'B', &bind("", "", &short)).message(b'E', &[text(""), vec![0; 4]].concat()).sync().send();
    assert_eq!(wire.answers(3), "2 E22P03 ZI");
    server.stop();
}

#[test]
fn clients_are_told_of_settings_that_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let set = "SET application_name TO 'me'";
    let mut wire = Wire::connect(&server).query(set).query(set).query("SET TIME ZONE 'Europe/Berlin'").send();
    assert_eq!(wire.answers(8), "C S ZI C ZI C S ZI");
    wire = wire.query("BEGIN").query("SET datestyle TO 'ISO, DMY'").query("ROLLBACK").send();
    assert_eq!(wire.answers(8), "C ZT C S ZT C S ZI");
    wire = wire.execute("SET application_name TO 'other'").sync().query("SET datestyle TO 'German'").send();
    assert_eq!(wire.answers(7), "1 2 C S ZI E0A000 ZI");
    wire = wire.query("SET application_name TO 'me'; SELECT nothing").query("RESET application_name").send();
    assert_eq!(wire.answers(6), "C E42703 ZI C S ZI");
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

/// What a statement is told to take and give: the OIDs of its parameters (`p`) and of its first column (`c`), the
/// first value that it gives (`v`), and its error (`e`).
fn told(mut wire: Wire, sql: &str, values: &[&str]) -> (Wire, String) {
    let mut bind = [text(""), text(""), vec![0; 2], (values.len() as u16).to_be_bytes().to_vec()].concat();
    for value in values {
        bind.extend((value.len() as i32).to_be_bytes());
        bind.extend(value.as_bytes());
    }
    bind.extend([0; 2]);
    wire = wire.message(b'P', &[text(""), text(sql), vec![0; 2]].concat()).message(b'D', b"S\0");
    wire = wire.message(b'B', &bind).message(b'E', &[text(""), vec![0; 4]].concat()).sync().send();
    let number = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().expect("four bytes"));
    let part = |message: &Vec<u8>| {
        let body = &message[5..];
        match message[0] {
            b't' => {
                let types: Vec<String> = body[2..].chunks(4).map(|of| number(of).to_string()).collect();
                Some(format!("p{}", types.join(",")))
            }
            b'T' => {
                // A name, a table's number and that of its column, and the type.
                let end = 2 + body[2..].iter().position(|byte| *byte == 0).expect("a name has an end");
                Some(format!("c{}", number(&body[end + 7..end + 11])))
            }
            b'D' => {
                let length = usize::try_from(number(&body[2..6])).unwrap_or(0);
                Some(format!("v{}", String::from_utf8_lossy(&body[6..6 + length])))
            }
            b'E' => {
                let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
                Some(format!("e{}", String::from_utf8_lossy(code.expect("an error has a code"))))
            }
            _ => None,
        }
    };
    let parts: Vec<String> = wire.bytes_until_ready().iter().filter_map(part).collect();
    (wire, parts.join(" "))
}

#[test]
fn parameters_of_no_type_have_that_of_their_places() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let create = "CREATE TABLE t (id int PRIMARY KEY, s text, a int[], ts timestamp)";
    let mut wire = Wire::connect(&server).query(create);
    wire = wire.query("INSERT INTO t VALUES (1, 'x', '{1,2}', '2024-01-01')").send();
    assert_eq!(wire.answers(4), "C ZI C ZI");
    let cases: [(&str, &[&str], &str); 39] = [
        // What may be anything is text.
        ("SELECT $1", &["a"], "p25 c25 va"),
        ("SELECT $1, id FROM t", &["a"], "p25 c25 va"),
        ("VALUES ($1)", &["a"], "p25 c25 va"),
        ("SELECT CASE WHEN true THEN $1 END", &["a"], "p25 c25 va"),
        ("SELECT x FROM (SELECT $1 AS x) z", &["a"], "p25 c25 va"),
        ("SELECT min($1) FROM t", &["a"], "p25 c25 va"),
        ("SELECT least($1, $2)", &["b", "a"], "p25,25 c25 va"),
        ("SELECT $1 || $2", &["a", "b"], "p25,25 c25 vab"),
        ("SELECT id || $1 FROM t", &["a"], "p25 c25 v1a"),
        // What is beside it, or what is asked for there.
        ("SELECT id FROM t WHERE id > 1 UNION ALL SELECT $1", &["7"], "p23 c23 v7"),
        ("SELECT coalesce($1, id) FROM t", &["7"], "p23 c23 v7"),
        ("SELECT $1::int", &["7"], "p23 c23 v7"),
        ("SELECT x FROM generate_series(1, $1) AS g (x)", &["1"], "p23 c20 v1"),
        ("SELECT abs($1)", &["-2"], "p701 c701 v2"),
        ("SELECT round($1, 2)", &["2.555"], "p1700 c1700 v2.56"),
        ("SELECT left(s, $1) FROM t", &["1"], "p23 c25 vx"),
        ("SELECT substr(s, $1) FROM t", &["1"], "p20 c25 vx"),
        ("SELECT a[$1] FROM t", &["2"], "p23 c23 v2"),
        ("SELECT a || $1 FROM t", &["{3}"], "p1007 c1007 v{1,2,3}"),
        ("SELECT lag(id, $1) OVER (ORDER BY id) FROM t", &["1"], "p23 c23 v"),
        ("SELECT to_timestamp($1)", &["1"], "p701 c1184 v1970-01-01 00:00:01+00"),
        ("SELECT ts + $1 FROM t", &["1 day"], "p1186 c1114 v2024-01-02 00:00:00"),
        ("SELECT INTERVAL '1 day' * $1", &["2"], "p701 c1186 v2 days"),
        ("SELECT NOT $1", &["t"], "p16 c16 vf"),
        ("SELECT $1 IS TRUE", &["t"], "p16 c16 vt"),
        ("SELECT id FROM t WHERE $1", &["t"], "p16 c23 v1"),
        // What it is cast to, but for what is read in the session's zone.
        ("SELECT $1::date", &["2024-01-02"], "p1082 c1082 v2024-01-02"),
        ("SELECT $1::timestamp", &["2024-01-02"], "p1114 c1114 v2024-01-02 00:00:00"),
        ("SELECT $1::timestamptz", &["2024-01-02"], "p25 c1184 v2024-01-02 00:00:00+00"),
        ("SELECT $1::interval", &["1 day"], "p1186 c1186 v1 day"),
        ("SELECT $1::int[]", &["{1,NULL}"], "p1007 c1007 v{1,NULL}"),
        ("SELECT $1::text[]", &["{a}"], "p1009 c1009 v{a}"),
        ("SELECT $1::bytea", &["\\x01"], "p17 c17 v\\x01"),
        // In RETURNING, and in what is inserted as it is.
        ("UPDATE t SET s = $2 WHERE id = $1 RETURNING id + $3", &["1", "b", "2"], "p23,25,23 c23 v3"),
        ("DELETE FROM t WHERE id = $1 RETURNING s || $2", &["9", "b"], "p23,25 c25"),
        ("INSERT INTO t (id, s) SELECT $1, s FROM t WHERE id = 9", &["5"], "p23"),
        ("INSERT INTO t (id) VALUES ($1 + 1)", &["1"], "p23"),
        ("INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET s = excluded.id || $1", &["a"], "p25"),
        ("SELECT $1 + $2", &["1", "2"], "e42725"),
    ];
    for (sql, values, expected) in cases {
        let (next, found) = told(wire, sql, values);
        wire = next;
        assert_eq!(found, expected, "{sql}");
    }
    assert_eq!(number(&server, "SELECT count(*) FROM t WHERE id = 2 OR s = '1a'"), 2);
    server.stop();
}
