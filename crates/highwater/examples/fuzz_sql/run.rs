//! Runs a case: the database does its steps, and what its views hold is compared with their queries run
//! once, with these without optimization, and with PostgreSQL's views where there is one. No two rows of a view
//! may have one of the keys that EXPLAIN tells. A query that fails is no wrong answer: it is noted, so that it does
//! not hide those.

use crate::case::Step;
use crate::postgres::Postgres;
use crate::rows;
use highwater::{Config, Database};
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// What a change may be refused with: a key that exists, and one that is null.
const REFUSALS: [&str; 2] = ["23505", "23502"];

/// How a case ended.
pub(crate) enum Ending {
    Held(Tally),
    Failed(String),
}

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Views that are kept.
    pub(crate) kept: usize,
    /// Views that are refused.
    pub(crate) refused: usize,
    /// Keys of which no two rows had one.
    pub(crate) keys: usize,
    /// What valid queries failed with instead of being refused by name, how often, and one of them.
    pub(crate) errors: BTreeMap<String, (usize, String)>,
    /// Queries that gave rows without optimization.
    pub(crate) unoptimized: usize,
    /// Why one did not, and how many.
    pub(crate) unplanned: (usize, Option<String>),
    /// Queries that PostgreSQL gave rows for.
    pub(crate) postgres: usize,
    /// Why it gave none, and how often.
    pub(crate) not_postgres: (usize, Option<String>),
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.kept += other.kept;
        self.refused += other.refused;
        self.keys += other.keys;
        self.unoptimized += other.unoptimized;
        self.postgres += other.postgres;
        for (why, (count, sql)) in other.errors {
            self.errors.entry(why).or_insert((0, sql)).0 += count;
        }
        let pairs = [(&mut self.unplanned, other.unplanned), (&mut self.not_postgres, other.not_postgres)];
        for (mine, (count, why)) in pairs {
            mine.0 += count;
            if mine.1.is_none() {
                mine.1 = why;
            }
        }
    }
}

/// A view, or one that could not be kept but can be asked for once.
struct View<'a> {
    name: &'a str,
    sql: &'a str,
    is_kept: bool,
    is_in_postgres: bool,
    /// The columns of each of its keys.
    keys: Vec<String>,
}

/// A case under way.
struct Run<'a> {
    /// None only while it is opened again.
    database: Option<Database>,
    folder: TempDir,
    postgres: Option<&'a Postgres>,
    views: Vec<View<'a>>,
    tally: Tally,
}

/// Runs a case.
pub(crate) fn run(case: &[Step], postgres: Option<&Postgres>) -> Ending {
    let folder = tempfile::tempdir().expect("a folder");
    let database = Some(open(folder.path(), 2));
    let mut run = Run { database, folder, postgres, views: Vec::new(), tally: Tally::default() };
    let done = postgres.map_or(Ok(()), Postgres::begin).and_then(|()| case.iter().try_for_each(|step| run.step(step)));
    match done {
        Ok(()) => Ending::Held(run.tally),
        Err(why) => Ending::Failed(why),
    }
}

fn open(folder: &Path, workers: usize) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(workers);
    config.checkpoints.interval = Some(Duration::from_millis(200));
    Database::open(config).expect("a database")
}

impl<'a> Run<'a> {
    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is there but while it is opened again")
    }

    fn step(&mut self, step: &'a Step) -> Result<(), String> {
        match step {
            Step::Do(sql) => self.change(&[sql.as_str()]),
            Step::Together { statements, is_kept } => {
                let mut all = vec!["BEGIN"];
                all.extend(statements.iter().map(String::as_str));
                all.push(if *is_kept { "COMMIT" } else { "ROLLBACK" });
                self.change(&all)
            }
            Step::View(name, sql) => self.create(name, sql),
            Step::Drop(name) => self.forget(name),
            Step::Compare => self.compare(),
            Step::Restart { is_clean, workers } => self.restart(*is_clean, *workers),
        }
    }

    /// Executes statements, of which PostgreSQL must refuse what is refused, and nothing else.
    fn change(&self, statements: &[&str]) -> Result<(), String> {
        let mut ours = None;
        for sql in statements {
            let Err(error) = self.database().execute(sql) else { continue };
            if !REFUSALS.contains(&error.sqlstate()) {
                return Err(format!("{sql}: {error}"));
            }
            ours = Some(error.sqlstate().to_owned());
            if statements.len() > 1 {
                self.database().execute("ROLLBACK").map_err(|error| format!("ROLLBACK: {error}"))?;
            }
            break;
        }
        let Some(postgres) = self.postgres else { return Ok(()) };
        let theirs = postgres.change(statements);
        if ours == theirs {
            return Ok(());
        }
        let said = |state: Option<String>| state.unwrap_or_else(|| "done".to_owned());
        Err(format!("{}: {}, in PostgreSQL {}", statements.join("; "), said(ours), said(theirs)))
    }

    fn create(&mut self, name: &'a str, sql: &'a str) -> Result<(), String> {
        if self.views.iter().any(|view| view.name == name) {
            return Ok(());
        }
        let made = self.database().execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}"));
        let refused = made.as_ref().err().map(highwater::Error::sqlstate);
        // It reads a view that could not be kept.
        if refused == Some("42P01") {
            self.tally.refused += 1;
            return Ok(());
        }
        let theirs = self.postgres.map(|postgres| postgres.change(&[format!("CREATE VIEW {name} AS {sql}")]));
        let is_kept = match made {
            Ok(_) => true,
            Err(error) if error.sqlstate() == "0A000" => false,
            // What PostgreSQL refuses as well is no SQL.
            Err(_) if matches!(theirs, Some(Some(_))) => {
                self.tally.refused += 1;
                return Ok(());
            }
            Err(error) => {
                self.failed(&error, sql);
                false
            }
        };
        let count = if is_kept { &mut self.tally.kept } else { &mut self.tally.refused };
        *count += 1;
        if let Some(Some(why)) = &theirs {
            self.without_postgres(format!("{why} for {sql}"));
        }
        let keys = if is_kept { self.keys_of(name, sql)? } else { Vec::new() };
        self.views.push(View { name, sql, is_kept, is_in_postgres: matches!(theirs, Some(None)), keys });
        Ok(())
    }

    /// The keys that a view is told to have.
    fn keys_of(&self, name: &str, sql: &str) -> Result<Vec<String>, String> {
        let explained = self.database().query(&format!("EXPLAIN CREATE MATERIALIZED VIEW {name}_told AS {sql}"));
        let told = rows::texts(&explained.map_err(|error| format!("EXPLAIN of {name}: {error}"))?)?;
        let lines: Vec<String> = told.into_iter().filter_map(|mut row| row.pop().flatten()).collect();
        let view = format!("view {name}_told (");
        let mut of_view = lines.iter().skip_while(|line| !line.starts_with(&view));
        match of_view.find_map(|line| line.strip_prefix("  stream key: ")) {
            None => Err(format!("EXPLAIN of {name} tells nothing of keys")),
            Some("none, rows may repeat") => Ok(Vec::new()),
            Some("(), at most one row") => Ok(vec![String::new()]),
            Some(keys) => Ok(keys.split(" or ").map(|key| key.trim_matches(['(', ')']).to_owned()).collect()),
        }
    }

    fn forget(&mut self, name: &str) -> Result<(), String> {
        let Some(at) = self.views.iter().position(|view| view.name == name) else { return Ok(()) };
        let view = self.views.remove(at);
        if view.is_kept {
            let dropped = self.database().execute(&format!("DROP MATERIALIZED VIEW {name}"));
            dropped.map_err(|error| format!("DROP of {name}: {error}"))?;
        }
        let refused = self.postgres.and_then(|postgres| postgres.change(&[format!("DROP VIEW IF EXISTS {name}")]));
        refused.map_or(Ok(()), |state| Err(format!("DROP of {name} in PostgreSQL: {state}")))
    }

    fn restart(&mut self, is_clean: bool, workers: usize) -> Result<(), String> {
        if is_clean {
            self.database().shutdown().map_err(|error| format!("a stop: {error}"))?;
        }
        drop(self.database.take());
        self.database = Some(open(self.folder.path(), workers));
        Ok(())
    }

    fn compare(&mut self) -> Result<(), String> {
        self.database().execute("FLUSH").map_err(|error| format!("FLUSH: {error}"))?;
        let views = std::mem::take(&mut self.views);
        let compared = views.iter().try_for_each(|view| self.compare_one(view));
        self.views = views;
        compared
    }

    fn compare_one(&mut self, view: &View<'_>) -> Result<(), String> {
        let View { name, sql, is_kept, is_in_postgres, .. } = *view;
        let once = match self.database().query(sql) {
            Ok(rows) => rows,
            // It is refused by name, as views are.
            Err(error) if error.sqlstate() == "0A000" => {
                self.tally.refused += usize::from(is_kept);
                return Ok(());
            }
            Err(error) => {
                self.failed(&error, sql);
                return Ok(());
            }
        };
        let numbers = rows::numbers(&once);
        let once = rows::lines(&numbers, &rows::texts(&once)?);
        let same = |whose: &str, found: &[rows::Row]| {
            let found = rows::lines(&numbers, found);
            rows::difference(&once, &found).map_or(Ok(()), |how| Err(format!("{name} once and {whose}: {how}")))
        };
        if is_kept {
            let held = self.database().query(&format!("SELECT * FROM {name}"));
            same("as a view", &rows::texts(&held.map_err(|error| format!("{name}: {error}"))?)?)?;
            self.check_keys(view)?;
        }
        match self.database().query_unoptimized(sql) {
            Ok(rows) => {
                same("without optimization", &rows::texts(&rows)?)?;
                self.tally.unoptimized += 1;
            }
            Err(error) => {
                self.tally.unplanned.0 += 1;
                self.tally.unplanned.1.get_or_insert_with(|| format!("{error} for {sql}"));
            }
        }
        let Some(postgres) = self.postgres.filter(|_| is_in_postgres) else { return Ok(()) };
        match postgres.query(&format!("SELECT * FROM {name}")) {
            Ok(rows) => {
                same("in PostgreSQL", &rows)?;
                self.tally.postgres += 1;
            }
            Err(why) => self.without_postgres(format!("{why} for {sql}")),
        }
        Ok(())
    }

    /// Looks for rows of a view that have the same key.
    fn check_keys(&mut self, view: &View<'_>) -> Result<(), String> {
        for key in &view.keys {
            let group = if key.is_empty() { String::new() } else { format!(" GROUP BY {key}") };
            let sql = format!("SELECT count(*) AS n FROM {}{group} HAVING count(*) > 1", view.name);
            let repeated = self.database().query(&sql).map_err(|error| format!("{sql}: {error}"))?;
            if repeated.count() > 0 {
                return Err(format!("{} has several rows of one key: ({key})", view.name));
            }
            self.tally.keys += 1;
        }
        Ok(())
    }

    /// Notes an error of a query, by its message without numbers, which aliases have.
    fn failed(&mut self, error: &highwater::Error, sql: &str) {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let message: String = first.chars().filter(|c| !c.is_ascii_digit()).collect();
        let why = format!("{}: {message}", error.sqlstate());
        self.tally.errors.entry(why).or_insert_with(|| (0, sql.to_owned())).0 += 1;
    }

    fn without_postgres(&mut self, why: String) {
        self.tally.not_postgres.0 += 1;
        self.tally.not_postgres.1.get_or_insert(why);
    }
}
