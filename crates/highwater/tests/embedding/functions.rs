//! A program's functions: where they may stand, and what becomes of their mistakes.

use crate::parts::{assert_equal_to_recomputation, number};
use highwater::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use highwater::arrow::datatypes::{DataType, Int64Type};
use highwater::arrow::error::ArrowError;
use highwater::{CallError, Config, Database, Error, ScalarFunction, Status, Volatility};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// `half(bigint)`: of even numbers alone.
#[derive(Debug)]
pub(crate) struct Half;

impl ScalarFunction for Half {
    fn name(&self) -> &str {
        "half"
    }

    fn arguments(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn returns(&self) -> DataType {
        DataType::Int64
    }

    fn volatility(&self) -> Volatility {
        Volatility::Immutable
    }

    fn call(&self, arguments: &[ArrayRef], _: usize) -> Result<ArrayRef, CallError> {
        let numbers = arguments[0].as_primitive::<Int64Type>();
        if let Some(odd) = numbers.iter().flatten().find(|number| number % 2 != 0) {
            return Err(format!("{odd} has no half").into());
        }
        Ok(Arc::new(numbers.unary::<_, Int64Type>(|number| number / 2)))
    }
}

/// `ticket()`: another number each time.
#[derive(Debug, Default)]
struct Ticket(AtomicI64);

impl ScalarFunction for Ticket {
    fn name(&self) -> &str {
        "ticket"
    }

    fn arguments(&self) -> Vec<DataType> {
        Vec::new()
    }

    fn returns(&self) -> DataType {
        DataType::Int64
    }

    fn volatility(&self) -> Volatility {
        Volatility::Volatile
    }

    fn call(&self, _: &[ArrayRef], rows: usize) -> Result<ArrayRef, CallError> {
        Ok(Arc::new((0..rows).map(|_| self.0.fetch_add(1, SeqCst)).collect::<Int64Array>()))
    }
}

/// `faulty(varchar)`: does wrong what its argument says, and else gives it back.
#[derive(Debug)]
struct Faulty;

impl ScalarFunction for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn arguments(&self) -> Vec<DataType> {
        vec![DataType::Utf8]
    }

    fn returns(&self) -> DataType {
        DataType::Utf8
    }

    fn volatility(&self) -> Volatility {
        Volatility::Stable
    }

    fn call(&self, arguments: &[ArrayRef], rows: usize) -> Result<ArrayRef, CallError> {
        assert_eq!(arguments[0].len(), rows);
        match arguments[0].as_string::<i32>().iter().flatten().next() {
            Some("panic") => panic!("told to"),
            Some("short") => Ok(Arc::new(StringArray::from(Vec::<&str>::new()))),
            Some("type") => Ok(Arc::new(Int64Array::from(vec![1; rows]))),
            Some("divide") => Err(ArrowError::DivideByZero.into()),
            _ => Ok(Arc::clone(&arguments[0])),
        }
    }
}

fn open(folder: &Path) -> Database {
    let mut config = Config::new(folder);
    config.functions.push(Arc::new(Half));
    config.functions.push(Arc::new(Ticket::default()));
    config.functions.push(Arc::new(Faulty));
    Database::open(config).expect("a database")
}

fn text(database: &Database, query: &str) -> String {
    let rows = database.query(query).expect(query);
    highwater::arrow::util::pretty::pretty_format_batches(&rows.batches).expect("printable").to_string()
}

#[test]
fn functions_stand_wherever_expressions_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    let script = "
        CREATE TABLE t (id bigint PRIMARY KEY, h bigint DEFAULT half(10), n bigint DEFAULT ticket(), s varchar);
        INSERT INTO t (id, s) VALUES (1, 'a'), (2, 'b'), (half(6), 'c');
        INSERT INTO t VALUES (4, DEFAULT, DEFAULT, faulty('d'));
        CREATE VIEW plain AS SELECT id, half(id * 2) AS same, ticket() AS n FROM t;
        CREATE VIEW steady AS SELECT id, half(h * 4) AS h FROM t;
        CREATE MATERIALIZED VIEW v AS
            SELECT half(id - id % 2) AS g, count(*) AS n, sum(half(h * 2)) FILTER (WHERE half(id * 2) > 1) AS h
            FROM steady GROUP BY half(id - id % 2) HAVING half(count(*) * 2) > 0;
        FLUSH;";
    database.script(script).expect("a script");
    assert_equal_to_recomputation(&database, "v");
    assert_eq!(number(&database, "SELECT half(7 + 1)"), 4);
    assert_eq!(number(&database, "SELECT count(*) FROM plain WHERE half(id * 2) = same"), 4);
    assert_eq!(number(&database, "SELECT count(DISTINCT n) FROM t"), 4, "a volatile default is another each time");
    assert_eq!(number(&database, "SELECT count(DISTINCT n) FROM plain"), 4, "it is called for each row");
    assert_eq!(number(&database, "SELECT h FROM t WHERE id = half(8)"), 5);
    database.execute("UPDATE t SET h = half(20) WHERE half(id * 2) = 2").expect("updates");
    database.execute("DELETE FROM t WHERE half(id * 2) = 3").expect("deletes");
    database.execute("FLUSH").expect("flushes");
    assert_equal_to_recomputation(&database, "v");
    let nulls = text(&database, "SELECT half(NULL) AS a, half(CAST(4 AS smallint)) AS b, faulty('x') AS c");
    assert!(nulls.contains("|   | 2 | x |"), "{nulls}");
    let system = "SELECT half(count(*) * 2) AS n FROM hw_catalog.views WHERE faulty(name) = 'v'";
    assert_eq!(number(&database, system), 1, "beside the system's relations too");
    database.shutdown().expect("a clean stop");
}

#[test]
fn only_immutable_ones_are_kept_current() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.execute("CREATE TABLE t (id bigint, s varchar) APPEND ONLY").expect("a table");
    database.execute("CREATE VIEW p AS SELECT ticket() AS n FROM t").expect("a plain view may");
    for (statement, call) in [
        ("CREATE MATERIALIZED VIEW v AS SELECT id + ticket() AS n FROM t", "ticket()"),
        ("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t WHERE faulty(s) = 'x'", "faulty(s)"),
        ("CREATE MATERIALIZED VIEW v AS SELECT n FROM p", "ticket() is in the plain view"),
        ("CREATE SINK k AS SELECT ticket() AS n FROM t WITH (connector = 'blackhole')", "ticket()"),
    ] {
        let refused = database.execute(statement).expect_err(statement);
        assert_eq!(refused.sqlstate(), "0A000", "{refused}");
        let at = refused.position().map(|position| position.offset - 1);
        assert_eq!(at, statement.find(call), "{statement}: {refused}");
        assert!(refused.to_string().contains("without any row changing"), "{refused}");
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn mistakes_in_calls_fail_the_statement_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script("CREATE TABLE t (id bigint, s varchar); INSERT INTO t VALUES (1, 'panic')").expect("a script");
    for (statement, sqlstate, said) in [
        ("SELECT half(id) FROM t", "38000", "function half: 1 has no half"),
        ("SELECT half(3)", "38000", "function half: 3 has no half"),
        ("SELECT faulty(s) FROM t", "38000", "function faulty: panicked: told to"),
        ("SELECT faulty('short')", "38000", "function faulty: 0 values of Utf8 came for 1 of Utf8"),
        ("SELECT faulty('type')", "38000", "function faulty: 1 values of Int64 came for 1 of Utf8"),
        ("SELECT faulty('divide')", "22012", "division by zero"),
        ("SELECT half('x')", "42883", "function half(varchar) does not exist: there is half(bigint)"),
        ("SELECT half(1.5)", "42883", "function half(double precision) does not exist: there is half(bigint)"),
        ("SELECT half()", "42883", "function half() does not exist: there is half(bigint)"),
        ("SELECT ticket(1)", "42883", "function ticket(integer) does not exist: there is ticket()"),
        ("SELECT halve(2)", "42883", "function \"halve\" does not exist"),
        ("CREATE TABLE u (x bigint DEFAULT half(5))", "38000", "function half: 5 has no half"),
    ] {
        let error = database.execute(statement).expect_err(statement);
        assert!(error.to_string().starts_with(said), "{statement}: {error}");
        assert_eq!(error.sqlstate(), sqlstate, "{statement}: {error}");
    }
    database.shutdown().expect("a clean stop");
}

#[test]
fn a_row_that_a_function_refuses_fails_the_pipeline_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path());
    database.script("CREATE TABLE t (id bigint); INSERT INTO t VALUES (3)").expect("a script");
    let mut connection = database.connect();
    connection.set("background_ddl", "on").expect("a setting");
    let view = "CREATE MATERIALIZED VIEW v AS SELECT half(id) AS h FROM t";
    database.execute_for(&mut connection, view).expect("it is made");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match database.pipelines()[0].status() {
            Status::Failed { reason, .. } => break assert!(reason.contains("half: 3 has no half"), "{reason}"),
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    }
}

/// A function that is only declared.
#[derive(Debug)]
struct Declared(&'static str, Vec<DataType>, DataType);

impl ScalarFunction for Declared {
    fn name(&self) -> &str {
        self.0
    }

    fn arguments(&self) -> Vec<DataType> {
        self.1.clone()
    }

    fn returns(&self) -> DataType {
        self.2.clone()
    }

    fn volatility(&self) -> Volatility {
        Volatility::Immutable
    }

    fn call(&self, _: &[ArrayRef], _: usize) -> Result<ArrayRef, CallError> {
        Err("it is only declared".into())
    }
}

#[test]
fn declarations_that_cannot_be_used_are_refused_at_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = DataType::Int64;
    for (name, arguments, returns, said) in [
        ("abs", vec![long.clone()], long.clone(), "function abs exists already"),
        ("count", vec![], long.clone(), "function count exists already"),
        ("plus", vec![long.clone()], long.clone(), "function plus is one of the database's own"),
        ("float_key", vec![long.clone()], long.clone(), "function float_key is one of the database's own"),
        ("row_number", vec![], long.clone(), "function row_number exists already"),
        ("version", vec![], DataType::Utf8, "version tells about the session"),
        ("current_user", vec![], DataType::Utf8, "current_user tells about the session"),
        ("not", vec![long.clone()], long.clone(), "not means something else in SQL"),
        ("Half", vec![long.clone()], long.clone(), "\"Half\" cannot be a function's name"),
        ("a.b", vec![long.clone()], long.clone(), "\"a.b\" cannot be a function's name"),
        ("small", vec![DataType::UInt8], long.clone(), "function small has the type UInt8, which no column can have"),
        (
            "lists",
            vec![],
            DataType::new_list(DataType::new_list(long.clone(), true), true),
            "function lists has the type List",
        ),
        ("half", vec![long.clone()], long, "function half exists already"),
    ] {
        let mut config = Config::new(folder.path());
        config.functions.push(Arc::new(Half));
        config.functions.push(Arc::new(Declared(name, arguments, returns)));
        let refused = Database::open(config).expect_err(name);
        assert!(matches!(refused, Error::Config(_)), "{refused:?}");
        assert!(refused.to_string().starts_with(&format!("config: {said}")), "{refused}");
    }
    assert!(!folder.path().join("catalog.json").exists() && !folder.path().join("lock").exists(), "nothing was opened");
}
