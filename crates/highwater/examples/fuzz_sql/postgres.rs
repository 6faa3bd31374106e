//! The same case in PostgreSQL, which has no planning in common with views: an oracle for those who have
//! one. It works in a schema of its own, `highwater_fuzz`, which it drops.

use crate::rows::Row;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

/// What starts a case.
const EMPTY: &str = "DROP SCHEMA IF EXISTS highwater_fuzz CASCADE; CREATE SCHEMA highwater_fuzz;";

/// What a session is to have: texts as Highwater writes them, and an end to what takes long.
const SETTINGS: &str = "SET search_path = highwater_fuzz; SET client_min_messages = warning; SET timezone = 'UTC'; \
    SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET jit = off; SET statement_timeout = '10s';";

/// A connection.
pub(crate) struct Postgres {
    client: Client,
    runtime: Runtime,
}

impl Postgres {
    /// Connects to a server whose texts sort by their bytes, as Highwater's do.
    pub(crate) fn connect(url: &str) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let connected = runtime.block_on(tokio_postgres::connect(url, NoTls));
        let (client, connection) = connected.map_err(|error| told(&error))?;
        runtime.spawn(connection);
        let postgres = Self { client, runtime };
        postgres.batch(SETTINGS)?;
        let collation = "SELECT datcollate FROM pg_database WHERE datname = current_database()";
        let found = postgres.query(collation)?.pop().and_then(|mut row| row.pop()).flatten().unwrap_or_default();
        match found.as_str() {
            "C" | "C.UTF-8" | "C.utf8" | "POSIX" => Ok(postgres),
            other => Err(format!("the database's collation is {other}: use one that is created with LC_COLLATE 'C'")),
        }
    }

    /// Forgets the case before.
    pub(crate) fn begin(&self) -> Result<(), String> {
        self.batch(EMPTY)
    }

    /// Executes statements, one after another; gives the SQLSTATE of the one that is refused.
    pub(crate) fn change<S: AsRef<str>>(&self, statements: &[S]) -> Option<String> {
        for statement in statements {
            let sql = statement.as_ref();
            let sql = sql.strip_suffix(" APPEND ONLY").unwrap_or(sql);
            if let Err(error) = self.runtime.block_on(self.client.batch_execute(sql)) {
                if statements.len() > 1 {
                    drop(self.batch("ROLLBACK"));
                }
                return Some(error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()));
            }
        }
        None
    }

    /// A query's values as texts.
    pub(crate) fn query(&self, sql: &str) -> Result<Vec<Row>, String> {
        let answer = self.runtime.block_on(self.client.simple_query(sql)).map_err(|error| told(&error))?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect::<Row>())
            }
            _ => None,
        };
        Ok(answer.into_iter().filter_map(row).collect())
    }

    fn batch(&self, sql: &str) -> Result<(), String> {
        self.runtime.block_on(self.client.batch_execute(sql)).map_err(|error| told(&error))
    }
}

fn told(error: &Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| format!("{}: {}", db.code().code(), db.message()))
}
