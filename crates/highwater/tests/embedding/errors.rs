//! What a program is told about connectors that cannot be used, or are used wrongly.

use crate::parts::{Log, Store, open};
use highwater::connector::{Kind, OptionSpec, Result, Source, SourceConnector, SourceRequest};
use highwater::{Config, Database, Error};
use std::sync::Arc;

/// A connector that is only declared.
#[derive(Debug)]
struct Declared(&'static str, &'static [OptionSpec]);

impl SourceConnector for Declared {
    fn name(&self) -> &str {
        self.0
    }

    fn options(&self) -> &[OptionSpec] {
        self.1
    }

    fn source(&self, _: &SourceRequest<'_>) -> Result<Arc<dyn Source>> {
        Err(highwater::connector::Error::Plan("it is only declared".to_owned()))
    }
}

#[test]
fn connectors_that_cannot_be_used_are_refused_at_open() {
    const A: OptionSpec = OptionSpec::new("a", Kind::COUNT, "A.");
    const TWICE: &[OptionSpec] = &[A, A];
    const NO_COUNT: &[OptionSpec] = &[A.or("none")];
    const BOTH: &[OptionSpec] = &[A.or("1").required()];
    const RESERVED: &[OptionSpec] = &[OptionSpec::new("connector", Kind::Text, "It.")];
    let folder = tempfile::tempdir().expect("a folder");
    for (name, options, said) in [
        ("file", &[] as &[OptionSpec], "connector 'file' is built in: give yours another name"),
        ("blackhole", &[], "connector 'blackhole' is built in: give yours another name"),
        ("log", &[], "two connectors are named 'log'"),
        ("My Log", &[], "'My Log' cannot be a connector's name: it takes lower-case letters"),
        ("", &[], "'' cannot be a connector's name"),
        ("x", TWICE, "connector 'x' declares the option 'a' twice"),
        ("x", NO_COUNT, "connector 'x' declares the option 'a' with a default that is not of its kind: integer ≥ 1"),
        ("x", BOTH, "connector 'x' declares the option 'a' as required and with a default"),
        ("x", RESERVED, "connector 'x' declares the option 'connector' which all connectors have"),
    ] {
        let mut config = Config::new(folder.path());
        config.sources.push(Arc::new(Log::default()));
        config.sources.push(Arc::new(Declared(name, options)));
        let refused = Database::open(config).expect_err(name);
        assert!(matches!(refused, Error::Config(_)) && refused.sqlstate() == "F0000", "{refused:?}");
        assert!(refused.to_string().starts_with(&format!("config: {said}")), "{refused}");
    }
    let mut config = Config::new(folder.path());
    config.sinks = vec![Arc::new(Store::default()), Arc::new(Store::default())];
    let refused = Database::open(config).expect_err("twice").to_string();
    assert_eq!(refused, "config: two connectors are named 'store'");
}

#[test]
fn statements_that_a_connector_cannot_serve_say_why() {
    const NEEDED: &[OptionSpec] = &[OptionSpec::new("a", Kind::COUNT, "It is needed.").required()];
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(folder.path(), &Log::of(10), &Store::default(), |config| {
        config.sources.push(Arc::new(Declared("declared", NEEDED)));
    });
    database.execute("CREATE SOURCE s WITH (connector = 'log')").expect("a source");
    for (statement, said) in [
        (
            "CREATE SOURCE t WITH (connector = 'kinesis')",
            "connector 'kinesis' is not one that a source can have: there are 'nexmark', 'datagen', 'file', 'log', 'declared'",
        ),
        (
            "CREATE SOURCE t WITH (connector = 'logs')",
            "connector 'logs' is not one that a source can have: did you mean 'log'?",
        ),
        ("CREATE SOURCE t WITH (connector = 'store')", "connector 'store' is not one that a source can have"),
        (
            "CREATE SINK k FROM s WITH (connector = 'kinesis')",
            "connector 'kinesis' is not one that a sink can have: there are 'file', 'blackhole', 'store'",
        ),
        (
            "CREATE SOURCE t WITH (connector = 'log', split = 2)",
            "option 'split' is not one of connector 'log': did you mean 'splits'?",
        ),
        (
            "CREATE SOURCE t WITH (connector = 'log', splits = 17)",
            "option 'splits' of connector 'log' is '17': expected integer from 1 to 16",
        ),
        ("CREATE SOURCE t WITH (connector = 'declared')", "connector 'declared' needs the option 'a': It is needed."),
        ("CREATE SOURCE t WITH (connector = 'declared', a = 1)", "it is only declared"),
        (
            "CREATE SOURCE t (age int) WITH (connector = 'log')",
            "column 'age' is not one of connector 'log'; it has id, part",
        ),
        (
            "CREATE SOURCE t (id interval) WITH (connector = 'log')",
            "column 'id' is declared as Interval(MonthDayNano) but connector 'log' gives Int64",
        ),
        ("CREATE SINK k AS SELECT 'x' AS x FROM s WITH (connector = 'store')", "the store keeps bigints"),
        ("CREATE SINK k AS SELECT count(*) AS n FROM s WITH (connector = 'store')", "the store takes rows that stay"),
    ] {
        let refused = database.execute(statement).expect_err(statement);
        assert!(refused.to_string().starts_with(said), "{statement}: {refused}");
        assert_eq!(refused.sqlstate(), "22023", "{statement}: {refused}");
    }
    assert_eq!(database.query("SHOW SOURCES").expect("rows").count(), 1);
    database.execute("CREATE SOURCE few (part int, id double precision) WITH (connector = 'log')").expect("a choice");
    let rows = database.query("SELECT part, id FROM few ORDER BY id DESC LIMIT 1").expect("rows");
    let shown = highwater::arrow::util::pretty::pretty_format_batches(&rows.batches).expect("printable").to_string();
    assert!(shown.contains("| 9    | 9.0 |"), "{shown}");
    database.shutdown().expect("a clean stop");
}
