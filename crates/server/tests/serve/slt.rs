//! `tests/slt/**.slt`, run over the wire against a server of their own each. `HIGHWATER_SLT` names a
//! part of the paths to run.

use crate::server::{Server, runtime, workspace};
use async_trait::async_trait;
use sqllogictest::{DBOutput, DefaultColumnType, Record, Runner};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A connection as sqllogictest asks it.
struct Asked(Client);

/// The database's error with its SQLSTATE.
#[derive(Debug)]
struct Refused(tokio_postgres::Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_db_error() {
            Some(error) => write!(f, "{}: {}", error.code().code(), error.message()),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for Refused {}

#[async_trait]
impl sqllogictest::AsyncDB for Asked {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let messages = self.0.simple_query(sql).await.map_err(Refused)?;
        let (mut rows, mut width, mut count) = (Vec::new(), 0, 0);
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => width = columns.len(),
                SimpleQueryMessage::Row(row) => {
                    let value = |at| match row.get(at) {
                        None => "NULL".to_owned(),
                        Some("") => "(empty)".to_owned(),
                        Some(text) => text.to_owned(),
                    };
                    rows.push((0..row.len()).map(value).collect());
                }
                SimpleQueryMessage::CommandComplete(done) => count = done,
                _ => {}
            }
        }
        if width > 0 {
            return Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; width], rows });
        }
        Ok(DBOutput::StatementComplete(count))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "highwater"
    }

    fn error_sql_state(error: &Refused) -> Option<String> {
        error.0.code().map(|code| code.code().to_owned())
    }
}

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of scripts") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            scripts(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            found.push(path);
        }
    }
    found.sort();
}

#[test]
fn statements_give_what_the_scripts_say() {
    let mut paths = Vec::new();
    scripts(&workspace("tests/slt"), &mut paths);
    let wanted = std::env::var("HIGHWATER_SLT").unwrap_or_default();
    paths.retain(|path| path.to_string_lossy().contains(&wanted));
    assert!(!paths.is_empty(), "no script is called like {wanted:?}");
    let (mut records, mut failed) = (0, Vec::new());
    for path in &paths {
        let parsed = sqllogictest::parse_file::<DefaultColumnType>(path).expect("a script");
        let asks =
            |record: &&Record<DefaultColumnType>| matches!(record, Record::Statement { .. } | Record::Query { .. });
        records += parsed.iter().filter(asks).count();
        if let Err(error) = run(path) {
            failed.push(error);
        }
    }
    eprintln!("{} scripts, {records} records, {} failed", paths.len(), failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(!wanted.is_empty() || records >= 150, "only {records} records");
}

fn run(path: &Path) -> Result<(), String> {
    let data = tempfile::tempdir().expect("a folder");
    let server = Arc::new(Server::start(data.path(), &["--workers", "2"]));
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut runner = Runner::new(|| {
        let server = Arc::clone(&server);
        async move { Ok(Asked(server.connect().await)) }
    });
    let done = runtime.block_on(runner.run_file_async(path));
    done.map_err(|error| format!("{}", error.display(false)))
}
