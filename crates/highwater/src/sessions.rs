//! The sessions that a server keeps: what each does, as `pg_stat_activity` shows it, and how one ends another, as
//! `pg_cancel_backend` and `pg_terminate_backend` do.
//!
//! A session is there from [`Database::admit`] until its connection is dropped. What it does is noted by its own
//! statements, and read by those of others. Invariant: who is no admin learns of other users' sessions that they
//! are there, and no more.

use crate::connection::{Connection, TransactionState};
use crate::database::Database;
use crate::pg_catalog::{Column, plain, table, texts};
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use highwater_engine::core::{Clock as _, SystemClock};
use highwater_sql::DataError;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// As many bytes of a statement are shown.
const MOST_SHOWN: usize = 1024;
/// What stands for a statement that somebody else's is.
const HIDDEN: &str = "<insufficient privilege>";

/// Whose session it is.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its number, by which it is told from others.
    pub number: i32,
    /// The user's name.
    pub user: String,
    /// The database that it has asked for.
    pub database: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it may see and end the sessions of others.
    pub is_admin: bool,
}

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The statement under way.
    Statement,
    /// The session.
    Session,
}

/// All sessions, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<i32, Arc<Seat>>>);

/// One session.
struct Seat {
    client: Client,
    /// When it came, in microseconds since 1970 as all times here.
    came: i64,
    doing: Mutex<Doing>,
    end: Box<dyn Fn(Ending) + Send + Sync>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("client", &self.client).finish_non_exhaustive()
    }
}

/// What a session does, or did last.
#[derive(Clone, Debug)]
struct Doing {
    state: &'static str,
    query: String,
    application: String,
    query_start: Option<i64>,
    transaction_start: Option<i64>,
    changed: i64,
}

/// A connection's place among the sessions, which it leaves when it goes.
#[derive(Debug)]
pub(crate) struct Seated {
    seat: Arc<Seat>,
    sessions: Arc<Sessions>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.sessions.all().remove(&self.seat.client.number);
    }
}

fn now() -> i64 {
    SystemClock::default().wall().0
}

impl Database {
    /// Makes a connection one of the sessions that others see. `end` is called from other sessions' threads.
    pub fn admit(&self, connection: &mut Connection, client: Client, end: impl Fn(Ending) + Send + Sync + 'static) {
        self.sessions.seat(connection, client, end);
    }
}

impl Connection {
    /// A statement of it is under way.
    pub(crate) fn works_on(&self, text: &str) {
        let Some(Seated { seat, .. }) = &self.seated else { return };
        let now = now();
        let mut doing = seat.doing();
        let end = text.floor_char_boundary(MOST_SHOWN);
        doing.query.clear();
        doing.query.push_str(&text[..end]);
        doing.state = "active";
        doing.query_start = Some(now);
        doing.transaction_start.get_or_insert(now);
        doing.changed = now;
    }

    /// Its statement has been answered: others see that it waits for the next.
    pub fn rests(&self) {
        self.canceller().set_committing(false);
        let Some(Seated { seat, .. }) = &self.seated else { return };
        let mut doing = seat.doing();
        let state = match self.transaction_state() {
            TransactionState::Idle => "idle",
            TransactionState::Open => "idle in transaction",
            TransactionState::Failed => "idle in transaction (aborted)",
        };
        if doing.state != state {
            doing.state = state;
            doing.changed = now();
        }
        if state == "idle" {
            doing.transaction_start = None;
        }
        let application = self.setting("application_name").unwrap_or_default();
        if doing.application != application {
            application.clone_into(&mut doing.application);
        }
    }

    /// Its number among the sessions, if it is one.
    pub(crate) fn number(&self) -> Option<i32> {
        self.seated.as_ref().map(|seated| seated.seat.client.number)
    }
}

impl Seat {
    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody may see what it does, and end it.
    fn is_open_to(&self, who: Option<&Seat>) -> bool {
        who.is_none_or(|who| who.client.is_admin || who.client.user == self.client.user)
    }
}

impl Sessions {
    fn seat(
        self: &Arc<Self>,
        connection: &mut Connection,
        client: Client,
        end: impl Fn(Ending) + Send + Sync + 'static,
    ) {
        let came = now();
        let doing = Doing {
            state: "idle",
            query: String::new(),
            application: String::new(),
            query_start: None,
            transaction_start: None,
            changed: came,
        };
        let seat = Arc::new(Seat { client, came, doing: Mutex::new(doing), end: Box::new(end) });
        self.all().insert(seat.client.number, Arc::clone(&seat));
        connection.seated = Some(Seated { seat, sessions: Arc::clone(self) });
        connection.rests();
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<Seat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a session or its statement. False when there is none of that number.
    fn end(&self, number: i32, ending: Ending, by: Option<&Seat>) -> Result<bool> {
        let Some(seat) = self.all().get(&number).cloned() else { return Ok(false) };
        if !seat.is_open_to(by) {
            let what = if ending == Ending::Session { "terminate process" } else { "cancel query" };
            let message = format!("permission denied to {what}: it is another user's");
            return Err(DataFusionError::External(Box::new(DataError { sqlstate: "42501", message })));
        }
        (seat.end)(ending);
        Ok(true)
    }

    /// `pg_stat_activity` as a connection sees it.
    pub(crate) fn activity(&self, viewer: &Connection) -> Result<RecordBatch> {
        let viewer = viewer.seated.as_ref().map(|seated| seated.seat.as_ref());
        let all: Vec<Arc<Seat>> = self.all().values().cloned().collect();
        let doing: Vec<Doing> = all.iter().map(|seat| seat.doing().clone()).collect();
        let open: Vec<bool> = all.iter().map(|seat| seat.is_open_to(viewer)).collect();
        let text = |of: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
            Arc::new((0..all.len()).map(|at| of(at).filter(|_| open[at])).collect::<StringArray>())
        };
        let time = |of: &dyn Fn(usize) -> Option<i64>| -> ArrayRef {
            let times = (0..all.len()).map(|at| of(at).filter(|_| open[at]));
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let number = |of: &dyn Fn(usize) -> Option<i32>| -> ArrayRef {
            Arc::new((0..all.len()).map(of).collect::<Int32Array>())
        };
        let none = |data_type: &DataType| new_null_array(data_type, all.len());
        let query = |at: usize| if open[at] { doing[at].query.clone() } else { HIDDEN.to_owned() };
        table(vec![
            plain("datid", none(&DataType::Int32)),
            plain("datname", texts(all.iter().map(|seat| seat.client.database.clone()))),
            plain("pid", number(&|at| Some(all[at].client.number))),
            plain("leader_pid", none(&DataType::Int32)),
            plain("usesysid", none(&DataType::Int32)),
            plain("usename", texts(all.iter().map(|seat| seat.client.user.clone()))),
            plain("application_name", texts(doing.iter().map(|doing| doing.application.clone()))),
            plain("client_addr", text(&|at| Some(all[at].client.address.ip().to_string()))),
            plain("client_hostname", none(&DataType::Utf8)),
            plain("client_port", number(&|at| open[at].then(|| i32::from(all[at].client.address.port())))),
            plain("backend_start", time(&|at| Some(all[at].came))),
            plain("xact_start", time(&|at| doing[at].transaction_start)),
            plain("query_start", time(&|at| doing[at].query_start)),
            plain("state_change", time(&|at| Some(doing[at].changed))),
            plain("wait_event_type", text(&|at| (doing[at].state != "active").then(|| "Client".to_owned()))),
            plain("wait_event", text(&|at| (doing[at].state != "active").then(|| "ClientRead".to_owned()))),
            plain("state", text(&|at| Some(doing[at].state.to_owned()))),
            plain("backend_xid", none(&DataType::Int32)),
            plain("backend_xmin", none(&DataType::Int32)),
            plain("query_id", none(&DataType::Int64)),
            plain("query", texts((0..all.len()).map(query))),
            plain("backend_type", text(&|_| Some("client backend".to_owned()))),
        ])
    }
}

/// Relations that programs ask for and that have no rows here.
pub(crate) fn without_rows() -> Result<[(&'static str, RecordBatch); 2]> {
    let empty = |name: &&str, data_type: &DataType| -> Column { plain(name, new_null_array(data_type, 0)) };
    let (words, small, number, flag) = (DataType::Utf8, DataType::Int32, DataType::Int64, DataType::Boolean);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let of = |names: &[&str], data_type: &DataType| -> Vec<Column> {
        names.iter().map(|name| empty(name, data_type)).collect()
    };
    let counts = [
        "xact_commit",
        "xact_rollback",
        "blks_read",
        "blks_hit",
        "tup_returned",
        "tup_fetched",
        "tup_inserted",
        "tup_updated",
        "tup_deleted",
        "conflicts",
        "temp_files",
        "temp_bytes",
        "deadlocks",
    ];
    let mut database = of(&["datid"], &small);
    database.extend(of(&["datname"], &words));
    database.extend(of(&["numbackends"], &small));
    database.extend(of(&counts, &number));
    database.extend(of(&["stats_reset"], &time));
    let mut locks = of(&["locktype"], &words);
    locks.extend(of(&["database", "relation", "page"], &small));
    locks.extend(of(&["tuple"], &small));
    locks.extend(of(&["virtualxid"], &words));
    locks.extend(of(&["transactionid", "classid", "objid", "objsubid"], &small));
    locks.extend(of(&["virtualtransaction"], &words));
    locks.extend(of(&["pid"], &small));
    locks.extend(of(&["mode"], &words));
    locks.extend(of(&["granted", "fastpath"], &flag));
    locks.extend(of(&["waitstart"], &time));
    Ok([("pg_stat_database", table(database)?), ("pg_locks", table(locks)?)])
}

/// `pg_cancel_backend` and `pg_terminate_backend` for one query of a connection.
pub(crate) fn functions(database: &Database, connection: &Connection) -> [ScalarUDF; 2] {
    let by = connection.seated.as_ref().map(|seated| Arc::clone(&seated.seat));
    [Ending::Statement, Ending::Session].map(|ending| {
        let signature = Signature::variadic_any(Volatility::Volatile);
        let (sessions, by) = (Arc::clone(&database.sessions), by.clone());
        ScalarUDF::from(End { ending, sessions, by, signature })
    })
}

/// Ends the sessions whose numbers it is called with.
#[derive(Debug)]
struct End {
    ending: Ending,
    sessions: Arc<Sessions>,
    by: Option<Arc<Seat>>,
    signature: Signature,
}

impl PartialEq for End {
    fn eq(&self, other: &Self) -> bool {
        self.ending == other.ending
    }
}

impl Eq for End {}

impl Hash for End {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ending.hash(state);
    }
}

impl ScalarUDFImpl for End {
    fn name(&self) -> &'static str {
        match self.ending {
            Ending::Statement => "pg_cancel_backend",
            Ending::Session => "pg_terminate_backend",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = match args.args.first() {
            Some(numbers) => cast(&numbers.to_array(args.number_rows)?, &DataType::Int32)?,
            None => new_null_array(&DataType::Int32, args.number_rows),
        };
        let ended = numbers
            .as_primitive::<Int32Type>()
            .iter()
            .map(|number| number.map(|number| self.sessions.end(number, self.ending, self.by.as_deref())).transpose());
        let ended = ended.collect::<Result<Vec<Option<bool>>>>()?;
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(ended))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn seated(sessions: &Arc<Sessions>, number: i32, user: &str, is_admin: bool) -> (Connection, Arc<AtomicUsize>) {
        let ended = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&ended);
        let client = Client {
            number,
            user: user.to_owned(),
            database: "highwater".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 4000)),
            is_admin,
        };
        let end = move |_: Ending| {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let mut connection = Connection::new();
        sessions.seat(&mut connection, client, end);
        (connection, ended)
    }

    fn queries(sessions: &Sessions, viewer: &Connection) -> Vec<String> {
        let shown = sessions.activity(viewer).expect("columns of one length");
        let queries = shown.column_by_name("query").expect("a column").as_string::<i32>();
        queries.iter().flatten().map(str::to_owned).collect()
    }

    #[test]
    fn users_see_their_own_statements_and_admins_all() {
        let sessions = Arc::new(Sessions::default());
        let (one, _) = seated(&sessions, 1, "one", false);
        let (two, _) = seated(&sessions, 2, "two", false);
        let (admin, _) = seated(&sessions, 3, "admin", true);
        one.works_on("SELECT 1");
        two.works_on(&"ä".repeat(MOST_SHOWN));
        two.rests();
        assert_eq!(queries(&sessions, &one), ["SELECT 1", HIDDEN, HIDDEN]);
        assert_eq!(queries(&sessions, &admin), ["SELECT 1".to_owned(), "ä".repeat(MOST_SHOWN / 2), String::new()]);
        let shown = sessions.activity(&admin).expect("columns of one length");
        let states = shown.column_by_name("state").expect("a column").as_string::<i32>();
        assert_eq!(states.iter().flatten().collect::<Vec<_>>(), ["active", "idle", "idle"]);
        drop(two);
        assert_eq!(queries(&sessions, &one).len(), 2);
    }

    #[test]
    fn sessions_are_ended_by_their_users_and_admins() {
        let sessions = Arc::new(Sessions::default());
        let (one, ended) = seated(&sessions, 1, "one", false);
        let (two, _) = seated(&sessions, 2, "two", false);
        let (admin, _) = seated(&sessions, 3, "admin", true);
        let end = |by: &Connection, number| {
            let by = by.seated.as_ref().map(|seated| seated.seat.as_ref());
            sessions.end(number, Ending::Session, by)
        };
        assert!(end(&two, 1).is_err());
        assert_eq!(ended.load(Ordering::Relaxed), 0);
        assert!(end(&one, 1).expect("its own"));
        assert!(end(&admin, 1).expect("an admin may"));
        assert_eq!(ended.load(Ordering::Relaxed), 2);
        assert!(!end(&admin, 7).expect("nobody"));
    }
}
