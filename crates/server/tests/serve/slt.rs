//! `tests/slt/**.slt`, run over the wire against a server of their own each: as they are, and once
//! more with servers that are killed between steps. `HIGHWATER_SLT` names a part of the paths to run;
//! `HIGHWATER_SLT_KILL`, a seed, has all of them run with many kills.

use crate::kill::Random;
use crate::quiet::quiet_steps;
use crate::server::{Server, runtime, workspace};
use async_trait::async_trait;
use sqllogictest::{DBOutput, DefaultColumnType, MakeConnection, Record, Runner};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The folders whose scripts are run with kills when nobody asks for more.
const KILLED: [&str; 6] = ["joins", "queries", "sets", "subqueries", "views", "windows"];

/// How often a script's server is killed then, and when somebody asks.
const KILLS: [usize; 2] = [2, 8];

/// A connection as sqllogictest asks it.
struct Asked(Client);

/// The database's error with its SQLSTATE, and its place in the statement at the end.
#[derive(Debug)]
struct Refused(tokio_postgres::Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_db_error() {
            Some(error) => {
                write!(f, "{}: {}", error.code().code(), error.message())?;
                match error.position() {
                    Some(ErrorPosition::Original(at)) => write!(f, " at {at}"),
                    _ => Ok(()),
                }
            }
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
        let mut times = None;
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    width = columns.len();
                    times = columns.iter().position(|column| column.name() == "rw_timestamp");
                }
                SimpleQueryMessage::Row(row) => {
                    let value = |at| match row.get(at) {
                        None => "NULL".to_owned(),
                        // No two runs have the same.
                        Some(_) if times == Some(at) => "ms".to_owned(),
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

/// The scripts of which `HIGHWATER_SLT` names a part of the path.
pub(crate) fn wanted() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    scripts(&workspace("tests/slt"), &mut paths);
    let wanted = part();
    paths.retain(|path| path.to_string_lossy().contains(&wanted));
    assert!(!paths.is_empty(), "no script is called like {wanted:?}");
    paths
}

fn part() -> String {
    std::env::var("HIGHWATER_SLT").unwrap_or_default()
}

pub(crate) fn parsed(path: &Path) -> Vec<Record<DefaultColumnType>> {
    sqllogictest::parse_file(path).expect("a script")
}

#[test]
fn statements_give_what_the_scripts_say() {
    let paths = wanted();
    let (mut records, mut failed) = (0, Vec::new());
    for path in &paths {
        let script = parsed(path);
        let asks =
            |record: &&Record<DefaultColumnType>| matches!(record, Record::Statement { .. } | Record::Query { .. });
        records += script.iter().filter(asks).count();
        if let Err(error) = run(script, &BTreeSet::new(), &["--workers", "2"]) {
            failed.push(error);
        }
    }
    eprintln!("{} scripts, {records} records, {} failed", paths.len(), failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(!part().is_empty() || records >= 150, "only {records} records");
}

#[test]
fn scripts_say_the_same_when_their_servers_are_killed() {
    let asked = std::env::var("HIGHWATER_SLT_KILL").ok();
    let seed: u64 = asked.as_ref().map_or(1, |seed| seed.parse().expect("HIGHWATER_SLT_KILL is a number"));
    let most = KILLS[usize::from(asked.is_some())];
    let is_chosen = |path: &PathBuf| {
        let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        asked.is_some() || folder.is_some_and(|folder| KILLED.contains(&folder.as_str()))
    };
    let (mut run_through, mut killed, mut failed) = (0, 0, Vec::new());
    for path in wanted().into_iter().filter(is_chosen) {
        let script = parsed(&path);
        let kills = chosen(&path, &script, most, seed);
        if kills.is_empty() {
            continue;
        }
        run_through += 1;
        killed += kills.len();
        // With short intervals some servers go on from a checkpoint and some from none.
        if let Err(error) = run(script, &kills, &["--workers", "2", "--checkpoint-interval", "200ms"]) {
            failed.push(error);
        }
    }
    eprintln!("{run_through} scripts, {killed} kills with seed {seed}, {} failed", failed.len());
    assert!(failed.is_empty(), "with seed {seed}: {}", failed.join("\n\n"));
    assert!(!part().is_empty() || killed >= 10, "only {killed} kills");
}

/// The steps of a script before which its server is killed; the same for the same seed.
fn chosen(path: &Path, script: &[Record<DefaultColumnType>], most: usize, seed: u64) -> BTreeSet<usize> {
    let root = workspace("tests/slt");
    let name = path.strip_prefix(&root).unwrap_or(path).to_string_lossy();
    let mut random = Random(name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())));
    let mut quiet = quiet_steps(script);
    let mut chosen = BTreeSet::new();
    while chosen.len() < most && !quiet.is_empty() {
        let at = random.below(quiet.len() as i64) as usize;
        chosen.insert(quiet.swap_remove(at));
    }
    chosen
}

/// Runs a script, killing its server before some of its steps.
fn run(script: Vec<Record<DefaultColumnType>>, kills: &BTreeSet<usize>, options: &[&str]) -> Result<(), String> {
    let data = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut server = Arc::new(Server::start(data.path(), options));
    let mut runner = asking(&server);
    let mut last_kill = None;
    for (step, record) in script.into_iter().enumerate() {
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        if kills.contains(&step) {
            drop(runner);
            Arc::into_inner(server).expect("only the runner had it, too").kill();
            server = Arc::new(Server::start(data.path(), options));
            // A view that went on from a checkpoint is first to show again what it has shown.
            let flushed = runtime.block_on(async { server.connect().await.batch_execute("FLUSH").await });
            flushed.map_err(|error| format!("FLUSH after the kill before step {step}: {error:?}"))?;
            runner = asking(&server);
            last_kill = Some(step);
        }
        let done = runtime.block_on(runner.run_async(record));
        let after = |kill: usize| format!(" (step {step}, after the kill before step {kill})");
        done.map_err(|error| format!("{}{}", error.display(false), last_kill.map(after).unwrap_or_default()))?;
    }
    Ok(())
}

/// A runner whose connections are made to a server.
fn asking(server: &Arc<Server>) -> Runner<Asked, impl MakeConnection<Conn = Asked> + use<>> {
    let server = Arc::clone(server);
    Runner::new(move || {
        let server = Arc::clone(&server);
        async move { Ok::<_, Refused>(Asked(server.connect().await)) }
    })
}
