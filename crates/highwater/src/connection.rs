//! What one client has of its own: settings and a transaction.
//!
//! A transaction reads one snapshot of the tables, taken at its first statement that reads or writes
//! them, together with its own writes; these are handed to the store at COMMIT, all at once. Of two
//! transactions that change the same row, the second to commit fails with 40001. Views are read as of
//! each statement's moment, so a transaction that is to be REPEATABLE READ reads none.

mod subtransaction;

use crate::cursor::Cursors;
use crate::error::{Error, Result};
use crate::prepared::Prepared;
use crate::sessions::Seated;
use arrow::datatypes::{DataType, Schema};
use highwater_sql::statement::{Isolation, Name, SetScope, TransactionModes};
use highwater_sql::zones::{Zone, offset_setting};
use highwater_tables::{Change, Overlay, Snapshot, Table, TableStore, TableWrite, Write};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use subtransaction::{Replaced, Subtransaction};

/// Settings that are known, with their defaults. Others are kept with a notice.
const SETTINGS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("background_ddl", "off"),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("extra_float_digits", "1"),
    ("idle_in_transaction_session_timeout", "0"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "on"),
    ("jit", "off"),
    ("lock_timeout", "0"),
    ("max_identifier_length", "63"),
    ("rw_implicit_flush", "off"),
    ("search_path", "public"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "150000"),
    ("session_authorization", "highwater"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("timezone", "UTC"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
];

/// Settings that clients turn off, and that mean nothing when they are on.
const UNREAD: [&str; 2] = ["idle_in_transaction_session_timeout", "lock_timeout"];
/// Whether the transaction writes nothing.
pub(crate) const READ_ONLY: &str = "transaction_read_only";
/// The same for transactions that do not say it.
const DEFAULT_READ_ONLY: &str = "default_transaction_read_only";
/// What the transaction sees of others.
const ISOLATION: &str = "transaction_isolation";
/// The same for transactions that do not say it.
const DEFAULT_ISOLATION: &str = "default_transaction_isolation";
/// Settings that are always those of one transaction.
const OF_TRANSACTION: [&str; 3] = [READ_ONLY, ISOLATION, "transaction_deferrable"];

/// What `DateStyle` can be. Dates are shown as in ISO 8601 and read where the order of days and months is clear.
const DATE_STYLES: [&str; 3] = ["ISO, MDY", "ISO, DMY", "ISO, YMD"];

/// The version of PostgreSQL whose behaviour clients may expect.
pub const SERVER_VERSION: &str = "15.0 (Highwater)";

/// A client's own settings and transaction. A program that embeds a database has one for each thing
/// that it does at the same time.
#[derive(Debug, Default)]
pub struct Connection {
    settings: BTreeMap<String, String>,
    /// What RESET goes back to, where that is not the default of all sessions.
    defaults: BTreeMap<String, String>,
    pub(crate) transaction: Option<Transaction>,
    /// Cursors that no transaction ends.
    pub(crate) held: Cursors,
    /// What PREPARE has made, by name.
    pub(crate) prepared: BTreeMap<String, Arc<Prepared>>,
    /// The position of its last commit.
    pub(crate) position: u64,
    user: Option<String>,
    canceller: Canceller,
    /// Its place among the sessions of a server.
    pub(crate) seated: Option<Seated>,
}

/// Cancels what a connection does, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    cancelled: AtomicBool,
    timed_out: AtomicBool,
    committing: AtomicBool,
}

impl Canceller {
    /// Asks the statement under way to end; it fails with 57014 when it next looks.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// The same, as it takes longer than `statement_timeout` allows.
    pub fn time_out(&self) {
        self.0.timed_out.store(true, Ordering::Relaxed);
    }

    /// Whether the statement under way is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_cancelled() || self.0.timed_out.load(Ordering::Relaxed)
    }

    /// Whether somebody has asked the statement under way to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Whether what it writes is on its way to the disk, or is written and not answered yet: then only its own
    /// answer tells whether it is written, and its future must not be dropped.
    #[must_use]
    pub fn is_committing(&self) -> bool {
        self.0.committing.load(Ordering::Relaxed)
    }

    pub(crate) fn set_committing(&self, committing: bool) {
        self.0.committing.store(committing, Ordering::Relaxed);
    }
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// There is none.
    Idle,
    /// It takes statements.
    Open,
    /// A statement has failed; only ROLLBACK ends it.
    Failed,
}

/// A transaction under way.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    tables: BTreeMap<u32, Written>,
    pub(crate) cursors: Cursors,
    pub(crate) settings: Option<TransactionSettings>,
    isolation: Isolation,
    /// A query was asked in it.
    has_queried: bool,
    bytes: usize,
    /// It has an INSERT with ON CONFLICT, which went by the keys that it saw free.
    pub(crate) has_upserted: bool,
    is_implicit: bool,
    pub(crate) failed: bool,
    /// What SAVEPOINT has begun and nothing has ended; each is within the one before it.
    subtransactions: Vec<Subtransaction>,
    /// What its writes have replaced since the first of them began.
    replaced: Vec<Replaced>,
}

/// The settings around a transaction that has changed some.
#[derive(Clone, Debug)]
pub(crate) struct TransactionSettings {
    /// Those that it came with, and goes with when it is rolled back.
    before: BTreeMap<String, String>,
    /// Those that it leaves when it is committed.
    after: BTreeMap<String, String>,
}

/// What a transaction has written to one table.
#[derive(Debug)]
struct Written {
    table: Arc<Table>,
    /// By key: what was there when the transaction began.
    old: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// By key: what the transaction wants there. Statements under way read it.
    new: Arc<Overlay>,
}

/// What one transaction may write, encoded.
const MOST_BYTES: usize = 1 << 30;

impl Connection {
    /// A connection with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whose it is.
    pub fn set_user(&mut self, user: &str) {
        self.user = Some(user.to_owned());
    }

    /// Whose it is; `highwater` unless it was told.
    #[must_use]
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("highwater")
    }

    /// What can cancel it.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Begins a statement: what was cancelled before is over.
    pub(crate) fn begin_statement(&self) {
        self.canceller.0.cancelled.store(false, Ordering::Relaxed);
        self.canceller.0.timed_out.store(false, Ordering::Relaxed);
        self.canceller.set_committing(false);
    }

    pub(crate) fn check_cancelled(&self) -> Result<()> {
        let flags = &self.canceller.0;
        if flags.cancelled.load(Ordering::Relaxed) {
            return Err(cancelled("user request"));
        }
        if flags.timed_out.load(Ordering::Relaxed) { Err(cancelled("statement timeout")) } else { Ok(()) }
    }

    /// Refuses what is not the end of a transaction that has failed.
    pub(crate) fn check_not_failed(&self) -> Result<()> {
        if self.transaction_state() != TransactionState::Failed {
            return Ok(());
        }
        let message = "current transaction is aborted, commands ignored until end of transaction block";
        Err(invalid("25P02", message, None))
    }

    /// Where its transaction stands.
    #[must_use]
    pub fn transaction_state(&self) -> TransactionState {
        match &self.transaction {
            None => TransactionState::Idle,
            Some(transaction) if transaction.failed => TransactionState::Failed,
            Some(_) => TransactionState::Open,
        }
    }

    /// Begins a transaction that nobody asked for: a text of several statements is one.
    pub fn begin_implicitly(&mut self) {
        let isolation = self.default_isolation();
        let begun = || Transaction { is_implicit: true, isolation, ..Transaction::default() };
        self.transaction.get_or_insert_with(begun);
    }

    /// Whether it is in a transaction that nobody asked for.
    #[must_use]
    pub fn is_in_implicit_transaction(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.is_implicit)
    }

    /// The transaction is asked for; false when it was before.
    pub(crate) fn begin(&mut self) -> bool {
        self.transaction.as_mut().is_some_and(|transaction| std::mem::take(&mut transaction.is_implicit))
    }

    /// Sets what a statement says of this transaction, or of all from now on.
    pub(crate) fn set_modes(&mut self, modes: TransactionModes, scope: SetScope) -> Result<Vec<String>> {
        let of_all = if scope == SetScope::Transaction { "" } else { "default_" };
        let mut notices = Vec::new();
        if let Some(read_only) = modes.read_only {
            let value = if read_only { "on" } else { "off" };
            notices.extend(self.set_for(&format!("{of_all}{READ_ONLY}"), value, scope)?);
        }
        if let Some(isolation) = modes.isolation {
            notices.extend(self.set_for(&format!("{of_all}{ISOLATION}"), isolation.name(), scope)?);
        }
        notices.dedup();
        Ok(notices)
    }

    /// What transactions see of others unless they say it.
    fn default_isolation(&self) -> Isolation {
        self.setting(DEFAULT_ISOLATION).and_then(Isolation::of).unwrap_or_default()
    }

    /// A query is asked. Whether it must see nothing but the transaction's snapshot.
    pub(crate) fn begin_query(&mut self) -> bool {
        self.transaction.as_mut().is_some_and(|transaction| {
            transaction.has_queried = true;
            transaction.isolation == Isolation::RepeatableRead
        })
    }

    /// A statement has failed, or its answer could not be given: so has the transaction. One that
    /// nobody asked for is over.
    pub fn fail_transaction(&mut self) {
        match &mut self.transaction {
            Some(transaction) if transaction.is_implicit => {
                let settings = transaction.settings.take();
                self.transaction = None;
                self.end_settings(settings, false);
            }
            Some(transaction) => transaction.failed = true,
            None => {}
        }
    }

    /// A setting, if it is known or was set.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        if name == READ_ONLY && !self.settings.contains_key(name) {
            // A new default is for transactions that begin after it.
            let around = self.transaction.as_ref().and_then(|transaction| transaction.settings.as_ref());
            let began = around.map_or(&self.settings, |around| &around.before);
            return Some(began.get(DEFAULT_READ_ONLY).map_or("off", String::as_str));
        }
        if name == ISOLATION {
            let of_transaction = self.transaction.as_ref().map(|transaction| transaction.isolation);
            return Some(of_transaction.unwrap_or_else(|| self.default_isolation()).name());
        }
        let default = || SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, default)| *default);
        self.settings.get(name).map(String::as_str).or_else(default)
    }

    /// All settings, by name.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> =
            SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.extend(self.settings.clone());
        let of_transaction = [READ_ONLY, ISOLATION];
        all.extend(of_transaction.map(|name| (name.to_owned(), self.setting(name).unwrap_or_default().to_owned())));
        all
    }

    /// RESET and DISCARD ALL go back to what is set now: what a session begins with.
    pub fn keep_as_defaults(&mut self) {
        self.defaults.clone_from(&self.settings);
    }

    /// RESET ALL; what is of the transaction stays.
    pub(crate) fn reset_all(&mut self) -> Result<()> {
        let names: Vec<String> = self.settings.keys().chain(self.defaults.keys()).cloned().collect();
        for name in names.iter().filter(|name| !OF_TRANSACTION.contains(&name.as_str())) {
            self.set_for(name, "default", SetScope::Session)?;
        }
        Ok(())
    }

    /// Changes a setting; gives a notice when it means nothing here.
    ///
    /// # Errors
    /// `Sql` with 22023 for a value that cannot be used, 55P02 for a setting that cannot be changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<String>> {
        self.set_for(name, value, SetScope::Session)
    }

    pub(crate) fn set_for(&mut self, name: &str, value: &str, scope: SetScope) -> Result<Option<String>> {
        let at = highwater_sql::Position { offset: 1, line: 1, column: 1 };
        self.set_at(&Name { value: name.to_owned(), at }, value, scope)
    }

    pub(crate) fn set_at(&mut self, name: &Name, value: &str, scope: SetScope) -> Result<Option<String>> {
        let key = name.value.as_str();
        let resets = value.eq_ignore_ascii_case("default");
        let notice = if resets { None } else { self.checked(name, value)? };
        let is_of_transaction = OF_TRANSACTION.contains(&key);
        let is_local = is_of_transaction || scope == SetScope::Transaction;
        if is_local && self.transaction.is_none() {
            let what = if is_of_transaction { "SET TRANSACTION" } else { "SET LOCAL" };
            return Ok(Some(format!("{what} can only be used in transaction blocks")));
        }
        if key == ISOLATION {
            self.set_isolation(if resets {
                self.default_isolation()
            } else {
                Isolation::of(value).unwrap_or_default()
            })?;
            return Ok(notice);
        }
        let offset = (key == "timezone" && !resets).then(|| offset_setting(value)).flatten();
        let value = match key {
            _ if resets => value,
            "timezone" => offset.as_deref().unwrap_or(value),
            DEFAULT_ISOLATION => Isolation::of(value).map_or(value, |level| level.name()),
            "client_encoding" => "UTF8",
            "datestyle" => date_style(name, value, self.setting("datestyle"))?,
            "intervalstyle" => "postgres",
            "standard_conforming_strings" => "on",
            READ_ONLY | DEFAULT_READ_ONLY if flag(value) == Some(true) => "on",
            READ_ONLY | DEFAULT_READ_ONLY if flag(value) == Some(false) => "off",
            _ => value,
        };
        let wanted = if resets { None } else { Some(value.to_owned()) };
        if scope == SetScope::System {
            put(&mut self.defaults, key, wanted.clone());
        }
        let wanted = wanted.or_else(|| self.defaults.get(key).cloned());
        let change = |settings: &mut BTreeMap<String, String>| put(settings, key, wanted.clone());
        if let Some(transaction) = &mut self.transaction {
            let around = transaction.settings.get_or_insert_with(|| TransactionSettings {
                before: self.settings.clone(),
                after: self.settings.clone(),
            });
            if !is_local {
                change(&mut around.after);
            }
        }
        change(&mut self.settings);
        Ok(notice)
    }

    fn set_isolation(&mut self, wanted: Isolation) -> Result<()> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        if transaction.isolation != wanted && transaction.has_read() {
            let message = "SET TRANSACTION ISOLATION LEVEL must be called before any query";
            return Err(invalid("25001", message, None));
        }
        if transaction.isolation != wanted && transaction.depth() > 0 {
            let message = "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction";
            return Err(invalid("25001", message, None));
        }
        transaction.isolation = wanted;
        Ok(())
    }

    /// Checks a new value; gives a notice when it means nothing here.
    fn checked(&self, name: &Name, value: &str) -> Result<Option<String>> {
        let key = name.value.as_str();
        let mut notice = None;
        match key {
            "rw_implicit_flush" | "background_ddl" | READ_ONLY | DEFAULT_READ_ONLY => {
                let wanted = flag(value).ok_or_else(|| wrong(name, "takes on or off"))?;
                if let Some(transaction) = &self.transaction
                    && key == READ_ONLY
                    && !wanted
                    && self.is_on(READ_ONLY)
                {
                    transaction.check_may_become_read_write()?;
                }
            }
            ISOLATION | DEFAULT_ISOLATION if value.eq_ignore_ascii_case("serializable") => {
                let message = "SERIALIZABLE: transactions are isolated by snapshots: REPEATABLE READ";
                return Err(invalid("0A000", message, Some(name)));
            }
            ISOLATION | DEFAULT_ISOLATION => {
                let takes = "takes 'read committed' or 'repeatable read'";
                Isolation::of(value).ok_or_else(|| wrong(name, takes))?;
            }
            "statement_timeout" => {
                timeout(value).ok_or_else(|| wrong(name, "takes milliseconds, or a time such as '5s'"))?;
            }
            "server_version"
            | "server_encoding"
            | "server_version_num"
            | "integer_datetimes"
            | "is_superuser"
            | "max_identifier_length"
            | "session_authorization" => {
                return Err(invalid("55P02", format!("parameter {key:?} cannot be changed"), Some(name)));
            }
            "client_encoding" if !matches!(value.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode") => {
                return Err(wrong(name, "takes UTF8"));
            }
            "datestyle" => {
                date_style(name, value, None)?;
            }
            "intervalstyle" => match value.to_ascii_lowercase().as_str() {
                "postgres" => {}
                "postgres_verbose" | "sql_standard" | "iso_8601" => return Err(fixed(name, value, "postgres")),
                _ => return Err(wrong(name, "takes postgres")),
            },
            "standard_conforming_strings" => match flag(value) {
                Some(true) => {}
                Some(false) => return Err(fixed(name, value, "on")),
                None => return Err(wrong(name, "takes on")),
            },
            "timezone" if offset_setting(value).is_some() => {}
            "timezone" if is_no_zone(value) => {
                return Err(wrong(name, "takes a time zone, such as 'UTC' or 'Europe/Berlin'"));
            }
            "timezone" if !highwater_sql::zones::is_known(value) => {
                notice = Some(format!("times with time zone are shown in UTC, not in {value:?}: name a zone"));
            }
            known if SETTINGS.iter().any(|(name, _)| *name == known) && !(UNREAD.contains(&known) && value != "0") => {}
            other => notice = Some(format!("setting {other:?} is kept, but nothing reads it")),
        }
        Ok(notice)
    }

    /// After a transaction settings are what it leaves, or what they were.
    pub(crate) fn end_settings(&mut self, around: Option<TransactionSettings>, committed: bool) {
        if let Some(TransactionSettings { before, after }) = around {
            self.settings = if committed { after } else { before };
        }
    }

    /// Refuses what writes where the transaction is read only.
    pub(crate) fn check_may_write(&self, what: &str) -> Result<()> {
        if self.is_on(READ_ONLY) {
            return Err(invalid("25006", format!("cannot execute {what} in a read-only transaction"), None));
        }
        Ok(())
    }

    /// Forgets settings, cursors and prepared statements, as DISCARD ALL does.
    pub(crate) fn discard(&mut self) -> Result<()> {
        if self.transaction.is_some() {
            return Err(invalid("25001", "DISCARD ALL cannot run inside a transaction block", None));
        }
        self.settings.clone_from(&self.defaults);
        self.held.clear();
        self.prepared.clear();
        Ok(())
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.setting(name).and_then(flag).unwrap_or(false)
    }

    /// Its time zone; none for UTC.
    pub(crate) fn zone(&self) -> Option<Zone> {
        self.setting("timezone").and_then(Zone::of)
    }

    /// Types of parameters as their texts are read now, whatever the zone was when a statement was prepared.
    #[must_use]
    pub fn types_in_zone<'a>(&self, types: &'a [DataType]) -> Cow<'a, [DataType]> {
        match self.zone() {
            Some(zone) => types.iter().map(|data_type| zone.of_type(data_type)).collect(),
            None => Cow::Borrowed(types),
        }
    }

    /// The time zone in which columns are read and shown, if they have instants and it is not UTC.
    pub(crate) fn zone_for(&self, schema: &Schema) -> Option<Zone> {
        let changes =
            |zone: &Zone| schema.fields().iter().any(|field| zone.of_type(field.data_type()) != *field.data_type());
        self.zone().filter(changes)
    }

    /// How long a statement may take; none for ever.
    #[must_use]
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.setting("statement_timeout").and_then(timeout).filter(|limit| !limit.is_zero())
    }

    /// The snapshot that a statement reads: the transaction's, or a new one.
    pub(crate) fn snapshot(&mut self, store: &TableStore) -> Result<Arc<Snapshot>> {
        let Some(transaction) = &mut self.transaction else { return Ok(Arc::new(store.snapshot()?)) };
        if let Some(snapshot) = &transaction.snapshot {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(store.snapshot()?);
        transaction.snapshot = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// What the transaction has written to a table.
    pub(crate) fn overlay(&self, table: &Table) -> Arc<Overlay> {
        let written = self.transaction.as_ref().and_then(|transaction| transaction.tables.get(&table.spec().id));
        written.map(|written| Arc::clone(&written.new)).unwrap_or_default()
    }
}

impl Transaction {
    /// Whether what it sees is settled.
    const fn has_read(&self) -> bool {
        self.has_queried || self.snapshot.is_some()
    }

    fn check_may_become_read_write(&self) -> Result<()> {
        let message = if self.depth() > 0 {
            "cannot set transaction read-write mode inside a read-only transaction"
        } else if self.has_read() {
            "transaction read-write mode must be set before any query"
        } else {
            return Ok(());
        };
        Err(invalid("25001", message, None))
    }

    /// Adds changes, which were made against the snapshot with the transaction's own writes over it.
    pub(crate) fn add(&mut self, table: &Arc<Table>, changes: Vec<Change>) -> Result<()> {
        let (id, is_kept) = (table.spec().id, self.depth() > 0);
        let written = self.tables.entry(id).or_insert_with(|| Written {
            table: Arc::clone(table),
            old: BTreeMap::new(),
            new: Arc::default(),
        });
        let pending = Arc::make_mut(&mut written.new);
        for change in changes {
            // The log has both.
            self.bytes +=
                change.key.len() + [&change.old, &change.new].into_iter().flatten().map(Vec::len).sum::<usize>();
            if self.bytes > MOST_BYTES {
                let message = "one transaction writes more than 1 GiB, which is committed as a whole: divide it";
                return Err(invalid("54000", message, None));
            }
            match pending.get_mut(&change.key) {
                None => {
                    if is_kept {
                        self.replaced.push(Replaced { table: id, key: change.key.clone(), new: None });
                    }
                    written.old.insert(change.key.clone(), change.old);
                    pending.insert(change.key, change.new);
                }
                // What was there when the transaction began stays.
                Some(new) if *new == change.old => {
                    let before = std::mem::replace(new, change.new);
                    if is_kept {
                        self.replaced.push(Replaced { table: id, key: change.key, new: Some(before) });
                    }
                }
                Some(Some(_)) if change.old.is_none() => return Err(table.duplicate_of(&change).into()),
                Some(_) => return Err(highwater_tables::Error::Conflict { table: table.spec().name.clone() }.into()),
            }
        }
        Ok(())
    }

    /// All that it has written.
    pub(crate) fn into_writes(self) -> Vec<TableWrite> {
        let write = |written: Written| {
            let pairs = written.old.into_iter().zip(Arc::unwrap_or_clone(written.new));
            let changes = pairs.map(|((key, old), (_, new))| Change { key, old, new });
            let changes = changes.filter(|change| change.old != change.new).collect();
            TableWrite { table: written.table, write: Write::Changes(changes) }
        };
        self.tables.into_values().map(write).filter(|write| !write.write.is_empty()).collect()
    }
}

/// The error of a statement that was ended from outside.
pub(crate) fn cancelled(by: &str) -> Error {
    invalid("57014", format!("canceling statement due to {by}"), None)
}

pub(crate) fn invalid(sqlstate: &'static str, message: impl Into<String>, at: Option<&Name>) -> Error {
    Error::Sql(highwater_sql::Error::Invalid { sqlstate, message: message.into(), position: at.map(|name| name.at) })
}

fn wrong(name: &Name, takes: &str) -> Error {
    Error::Sql(highwater_sql::Error::option(&name.value, takes, Some(name.at)))
}

/// Changes a setting among others, or takes it from them.
fn put(settings: &mut BTreeMap<String, String>, key: &str, value: Option<String>) {
    match value {
        Some(value) => settings.insert(key.to_owned(), value),
        None => settings.remove(key),
    };
}

/// The error of a value that PostgreSQL takes.
fn fixed(name: &Name, value: &str, is: &str) -> Error {
    invalid("0A000", format!("{} {value} is not supported: it is always {is}", name.value), Some(name))
}

/// A new `DateStyle` as it is shown. `now` has the order of days and months when it names none.
fn date_style(name: &Name, value: &str, now: Option<&str>) -> Result<&'static str> {
    let mut order = now.and_then(|now| DATE_STYLES.iter().position(|style| *style == now)).unwrap_or(0);
    for word in value.split(',').map(|word| word.trim().to_ascii_lowercase()) {
        match word.as_str() {
            "iso" => {}
            "mdy" | "us" | "noneuro" | "noneuropean" => order = 0,
            "dmy" | "euro" | "european" => order = 1,
            "ymd" => order = 2,
            "german" | "postgres" | "sql" => return Err(fixed(name, value, "ISO")),
            _ => return Err(wrong(name, "takes ISO, and MDY, DMY or YMD")),
        }
    }
    Ok(DATE_STYLES[order])
}

/// Whether a name is that of no time zone. What has digits may be an offset, which PostgreSQL takes.
fn is_no_zone(value: &str) -> bool {
    !value.contains(|c: char| c.is_ascii_digit()) && !highwater_sql::zones::is_known(value)
}

fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" => Some(true),
        "off" | "false" | "no" | "0" | "f" => Some(false),
        _ => None,
    }
}

fn timeout(value: &str) -> Option<Duration> {
    match value.trim().parse::<u64>() {
        Ok(millis) => Some(Duration::from_millis(millis)),
        Err(_) => crate::settings::duration(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_defaults_and_are_checked() {
        let mut connection = Connection::new();
        assert_eq!(connection.setting("rw_implicit_flush"), Some("off"));
        assert_eq!(connection.set("rw_implicit_flush", "TRUE").expect("a flag"), None);
        assert_eq!(connection.set("lock_timeout", "0").expect("it is off anyway"), None);
        assert!(connection.set("lock_timeout", "5s").expect("it is kept").is_some_and(|n| n.contains("lock_timeout")));
        assert!(connection.is_on("rw_implicit_flush"));
        assert_eq!(connection.set("rw_implicit_flush", "often").expect_err("no flag").sqlstate(), "22023");
        assert!(connection.set("streaming_parallelism", "4").expect("kept").is_some());
        assert_eq!(connection.setting("streaming_parallelism"), Some("4"));
        connection.set("statement_timeout", "1500").expect("milliseconds");
        assert_eq!(connection.statement_timeout(), Some(Duration::from_millis(1500)));
        connection.set("statement_timeout", "default").expect("known");
        assert_eq!(connection.statement_timeout(), None);
        assert_eq!(connection.set("server_version", "16").expect_err("fixed").sqlstate(), "55P02");
    }

    #[test]
    fn styles_are_those_that_are_kept_to() {
        let mut connection = Connection::new();
        for (value, shown) in
            [("iso, dmy", "ISO, DMY"), ("ISO", "ISO, DMY"), ("YMD", "ISO, YMD"), ("default", "ISO, MDY")]
        {
            assert_eq!(connection.set("datestyle", value).expect("it is taken"), None);
            assert_eq!(connection.setting("datestyle"), Some(shown), "{value}");
        }
        connection.set("client_encoding", "utf-8").expect("it is taken");
        assert_eq!(connection.setting("client_encoding"), Some("UTF8"));
        connection.set("standard_conforming_strings", "true").expect("it is taken");
        assert_eq!(connection.setting("standard_conforming_strings"), Some("on"));
        let refused = [
            ("datestyle", "German", "0A000"),
            ("datestyle", "ISO, nonsense", "22023"),
            ("intervalstyle", "iso_8601", "0A000"),
            ("intervalstyle", "short", "22023"),
            ("standard_conforming_strings", "off", "0A000"),
            ("standard_conforming_strings", "perhaps", "22023"),
        ];
        for (name, value, sqlstate) in refused {
            assert_eq!(connection.set(name, value).expect_err(value).sqlstate(), sqlstate, "{name} {value}");
        }
    }
}
