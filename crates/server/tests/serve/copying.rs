//! COPY FROM STDIN message by message: when it ends before its data does, and what its errors tell.

use crate::server::Server;
use crate::wire::Wire;

/// The next error's field of a kind: `C` its SQLSTATE, `M` its message, `W` its context.
fn fields(messages: &[Vec<u8>], kinds: &[u8]) -> Vec<String> {
    let error = messages.iter().find(|message| message[0] == b'E').expect("an error");
    let field = |kind: &u8| {
        let mut all = error[5..].split(|byte| *byte == 0);
        let found = all.find_map(|field| field.strip_prefix(std::slice::from_ref(kind)));
        String::from_utf8_lossy(found.expect("it has such a field")).into_owned()
    };
    kinds.iter().map(field).collect()
}

/// All that is answered to a COPY of some data.
fn copied(wire: Wire, statement: &str, data: &str) -> (Wire, Vec<Vec<u8>>) {
    let mut wire = wire.query(statement).message(b'd', data.as_bytes()).message(b'c', &[]).send();
    let messages = wire.bytes_until_ready();
    (wire, messages)
}

#[test]
fn a_copy_ends_when_it_takes_longer_than_a_statement_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let limit = "SET statement_timeout = '1s'";
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY)").query(limit).send();
    assert_eq!(wire.answers(4), "C ZI C ZI");
    // The client sends one row, and then nothing.
    wire = wire.query("COPY t FROM STDIN").message(b'd', b"1\n").send();
    let told = fields(&wire.bytes_until_ready(), b"CMW");
    assert_eq!(told, ["57014", "canceling statement due to statement timeout", "COPY t, line 2"]);
    // What was on its way is passed over.
    wire = wire.message(b'd', b"2\n").message(b'c', &[]).query("SELECT id FROM t").send();
    assert_eq!(wire.answers(3), "T C ZI");
    wire = wire.query("BEGIN").query("COPY t FROM STDIN").send();
    assert_eq!(wire.answers(5), "C ZT G E57014 ZE");
    wire = wire.query("ROLLBACK").send();
    assert_eq!(wire.answers(2), "C ZI");
    wire = wire.execute("COPY t FROM STDIN").sync().send();
    assert_eq!(wire.answers(4), "1 2 G E57014");
    wire = wire.message(b'c', &[]).sync().send();
    assert_eq!(wire.answers(1), "ZI");
    // One that is quick enough is not touched.
    let (mut wire, messages) = copied(wire, "COPY t FROM STDIN", "3\n");
    assert!(messages.iter().all(|message| message[0] != b'E'));
    wire = wire.query("SELECT id FROM t").send();
    assert_eq!(wire.answers(4), "T D C ZI");
    server.stop();
}

#[test]
fn errors_of_a_copy_tell_where_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let mut wire = Wire::connect(&server).query("CREATE TABLE t (id int PRIMARY KEY, name varchar)").send();
    assert_eq!(wire.answers(2), "C ZI");
    let (wire, messages) = copied(wire, "COPY t FROM STDIN", "1\tx\n2\ty\nno\tz\n");
    let message = "invalid input syntax for type integer: \"no\"";
    assert_eq!(fields(&messages, b"CMW"), ["22P02", message, "COPY t, line 3, column id: \"no\""]);
    let matched = "COPY t FROM STDIN WITH (FORMAT csv, HEADER match)";
    let (wire, messages) = copied(wire, matched, "name,id\nx,1\n");
    let message = "column name mismatch in header line field 1: got \"name\", expected \"id\"";
    assert_eq!(fields(&messages, b"CMW"), ["22P04", message, "COPY t, line 1: \"name,id\""]);
    let swapped = "COPY t (name, id) FROM STDIN WITH (FORMAT csv, HEADER match)";
    let (wire, messages) = copied(wire, swapped, "name,id\nx,1\n");
    assert!(messages.iter().all(|message| message[0] != b'E'));
    let (wire, messages) = copied(wire, "COPY t FROM STDIN CSV HEADER DELIMITER ';'", "any;thing\n5;y\n");
    assert!(messages.iter().all(|message| message[0] != b'E'));
    let mut wire = wire.query("SELECT id FROM t").query("COPY t TO STDOUT WITH (HEADER match)").send();
    assert_eq!(wire.answers(7), "T D D C ZI E0A000 ZI");
    wire = wire.query("COPY t FROM STDIN WITH (FORMAT csv, HEADER maybe)").send();
    assert_eq!(wire.answers(2), "E42601 ZI");
    server.stop();
}
