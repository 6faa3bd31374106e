//! The steps of a script before which its server may be killed: those at which no connection has
//! anything that a new one lacks, such as a transaction, settings or prepared statements.

use sqllogictest::{Connection, DefaultColumnType, Record};
use std::collections::HashSet;

/// The places of the statements and queries, the first one left out, before which every connection is
/// as good as new.
pub(crate) fn quiet_steps(script: &[Record<DefaultColumnType>]) -> Vec<usize> {
    let mut sessions = Sessions::default();
    let mut quiet = Vec::new();
    let mut is_first = true;
    for (at, record) in script.iter().enumerate() {
        let (Record::Statement { sql, connection, .. } | Record::Query { sql, connection, .. }) = record else {
            continue;
        };
        if !is_first && sessions.open.is_empty() && sessions.kept.is_empty() {
            quiet.push(at);
        }
        is_first = false;
        sessions.ran(connection, sql);
    }
    quiet
}

/// The connections that have something of their own.
#[derive(Default)]
struct Sessions<'a> {
    /// A transaction.
    open: HashSet<&'a Connection>,
    /// What lasts longer.
    kept: HashSet<&'a Connection>,
}

impl<'a> Sessions<'a> {
    /// What does not succeed is taken for what does: then the script is killed less often.
    fn ran(&mut self, connection: &'a Connection, sql: &str) {
        for statement in sql.split(';') {
            let verb = statement.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            let is_partly = || statement.split_whitespace().any(|word| word.eq_ignore_ascii_case("to"));
            match verb.as_str() {
                "ROLLBACK" if is_partly() => false,
                "BEGIN" | "START" => self.open.insert(connection),
                "COMMIT" | "END" | "ROLLBACK" | "ABORT" => self.open.remove(connection),
                "SET" | "PREPARE" | "DECLARE" => self.kept.insert(connection),
                "DISCARD" => self.kept.remove(connection),
                _ => false,
            };
        }
    }
}

#[test]
fn a_step_is_quiet_when_no_connection_has_anything_of_its_own() {
    let script = "
statement ok
CREATE TABLE t (x int)

query I
SELECT * FROM t
----

statement ok
BEGIN

statement ok
INSERT INTO t VALUES (1)

statement ok
ROLLBACK TO SAVEPOINT s

connection other
statement ok
SELECT 1

statement ok
COMMIT

statement ok
SELECT 2

statement ok
SET x TO 1

statement ok
SELECT 3
";
    let script = sqllogictest::parse::<DefaultColumnType>(script).expect("a script");
    let quiet: Vec<&str> = quiet_steps(&script)
        .into_iter()
        .filter_map(|at| match &script[at] {
            Record::Statement { sql, .. } | Record::Query { sql, .. } => Some(sql.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(quiet, ["SELECT * FROM t", "BEGIN", "SELECT 2", "SET x TO 1"]);
}
