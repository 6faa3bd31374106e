//! Executing statements for a connection: which part of the database does what, what a transaction
//! allows, and what each leaves behind.

use crate::ahead::Ahead;
use crate::answer::{Answer, Tag};
use crate::connection::{Connection, invalid};
use crate::cursor;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::flush::not_shown;
use crate::outcome::{Outcome, Rows};
use crate::parameters::Parameters;
use crate::prepared;
use crate::show;
use futures::future::BoxFuture;
use highwater_sql::statement::{CopyOut, Name, SavepointVerb, SetScope, Show, Statement, TransactionModes};

/// How often a definition is done again at once when another one came between.
const MOST_TRIES: usize = 10;

impl Database {
    /// Executes one statement for a connection. `text` is what it was parsed from. Must run on a
    /// multi-threaded Tokio runtime; dropping the future ends a query, but not a definition. The future is
    /// boxed here and in its like, so that callers compile without looking through it.
    ///
    /// # Errors
    /// See [`crate::Error`]; nothing is changed then, except by FLUSH and CHECKPOINT. An error fails
    /// the connection's transaction.
    pub fn run<'a>(
        &'a self,
        connection: &'a mut Connection,
        statement: &'a Statement,
        text: &'a str,
        parameters: &'a Parameters,
    ) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            connection.begin_statement();
            // A commit that nobody asked for is no statement of its own.
            if !(matches!(statement, Statement::Commit) && connection.is_in_implicit_transaction()) {
                connection.works_on(text);
            }
            if !is_taken_after_failure(statement) {
                connection.check_not_failed()?;
            }
            let done = match statement {
                Statement::Execute { name, values } => match self.executed(connection, name, values, text) {
                    Ok((prepared, parameters)) => {
                        let done = self.dispatch(connection, &prepared.statement, &prepared.text, &parameters).await;
                        done.map_err(Error::nowhere)
                    }
                    Err(error) => Err(error),
                },
                other => self.dispatch(connection, other, text, parameters).await,
            };
            if done.is_err() {
                connection.fail_transaction();
            }
            done.map_err(|error| self.told_of_broken(error))
        })
    }

    pub(crate) async fn dispatch(
        &self,
        connection: &mut Connection,
        statement: &Statement,
        text: &str,
        parameters: &Parameters,
    ) -> Result<Answer> {
        let zone = connection.zone();
        let in_utc = match &zone {
            Some(zone) => {
                let in_utc = parameters.in_utc()?;
                self.check_zone(zone, statement, text, &in_utc).await?;
                Some(in_utc)
            }
            None => None,
        };
        let parameters = in_utc.as_ref().unwrap_or(parameters);
        let answer = self.dispatch_in_utc(connection, statement, text, parameters).await?;
        Ok(match &zone {
            Some(zone) => answer.zoned(zone),
            None => answer,
        })
    }

    /// What comes in and goes out has its instants in UTC.
    async fn dispatch_in_utc(
        &self,
        connection: &mut Connection,
        statement: &Statement,
        text: &str,
        parameters: &Parameters,
    ) -> Result<Answer> {
        let before = connection.position;
        if let Some(what) = writes(statement) {
            connection.check_may_write(&what)?;
        }
        let mut answer = match statement {
            Statement::Query(query) | Statement::CopyOut(CopyOut { query, .. }) => {
                self.answer_query(connection, query, parameters).await?
            }
            Statement::Insert(insert) => self.run_insert(connection, insert, parameters).await?,
            Statement::Update(update) => self.update(connection, update, parameters).await?,
            Statement::Delete(delete) if delete.truncates.is_some() => self.truncate(connection, delete).await?,
            Statement::Delete(delete) => self.delete(connection, delete, parameters).await?,
            Statement::ExplainQuery(query) => self.explain_query(connection, query).await?,
            Statement::ExplainAnalyze(query) => self.explain_analyze(connection, query).await?,
            Statement::Begin(modes) => begin(connection, *modes)?,
            Statement::SetTransaction { scope, modes } => set_transaction(connection, *scope, *modes)?,
            Statement::Commit => self.end_transaction(connection, true).await?,
            Statement::Rollback => self.end_transaction(connection, false).await?,
            Statement::Savepoint { verb, name } => savepoint(connection, *verb, name)?,
            Statement::Set { scope, name, value } => {
                let notice = connection.set_at(name, value, *scope)?;
                let is_for_all = *scope == SetScope::System;
                if is_for_all {
                    self.state().catalog.set_system(&name.value, value)?;
                }
                let tag = Tag::Plain(if is_for_all { "ALTER SYSTEM" } else { "SET" }.to_owned());
                Answer { notices: notice.into_iter().collect(), ..Answer::done(tag) }
            }
            Statement::Show(Show::Setting(name)) => {
                let value = connection.setting(&name.value).map(str::to_owned);
                let rows = Rows::text(&name.value, vec![value.ok_or_else(|| show::unknown_setting(name))?]);
                Answer::collected(Tag::Plain("SHOW".to_owned()), rows)
            }
            Statement::Show(Show::All) => {
                Answer::collected(Tag::Plain("SHOW".to_owned()), show::settings(&connection.settings()))
            }
            Statement::DiscardAll | Statement::ResetAll | Statement::Unlisten => discard(connection, statement)?,
            Statement::Prepare(prepare) => self.prepare(connection, prepare).await?,
            Statement::Deallocate(name) => prepared::deallocate(connection, name.as_ref())?,
            Statement::Declare { cursor, hold, query } => {
                self.declare(connection, cursor, *hold, query, parameters).await?
            }
            Statement::DeclareSubscription(declared) => self.declare_subscription(connection, declared)?,
            Statement::Fetch(fetch) => self.fetch(connection, fetch).await?,
            Statement::Close(name) => cursor::close(connection, name.as_ref())?,
            Statement::Copy(_) => return Err(invalid("0A000", "COPY needs a client that sends the data", None)),
            other => {
                self.try_to_plan(other).await;
                let mut answer = Answer::from(tokio::task::block_in_place(|| self.define(connection, other, text))?);
                if connection.transaction.is_some() && changes_objects(other) {
                    let notice = "definitions are not part of the transaction: this one is done";
                    answer.notices.push(notice.to_owned());
                }
                answer
            }
        };
        answer.notices.extend(self.flush_implicitly(connection, before)?);
        Ok(answer)
    }

    /// Waits until views show what was written since `before`, if the connection wants that.
    pub(crate) fn flush_implicitly(&self, connection: &Connection, before: u64) -> Result<Vec<String>> {
        if connection.position <= before || !connection.is_on("rw_implicit_flush") {
            return Ok(Vec::new());
        }
        match tokio::task::block_in_place(|| self.flush_tables(connection)) {
            // The wait is cancelled, the write is not.
            Err(error) if connection.check_cancelled().is_err() => Ok(vec![not_shown(&error.to_string())]),
            done => done,
        }
    }

    /// Statements that do not read or write rows; they block.
    fn define(&self, connection: &mut Connection, statement: &Statement, text: &str) -> Result<Outcome> {
        if !changes_objects(statement) {
            return self.define_now(connection, statement, text, Ahead::default());
        }
        drop(self.wait_for_all_pipelines(connection)?);
        let mut tries = 0;
        let done = loop {
            // What is asked ahead is of what there is then, not of what is being made.
            drop(self.state_to_define(connection)?);
            self.checkpoint_ahead(connection, statement)?;
            let ahead = self.ask_ahead(connection, statement)?;
            tries += 1;
            match self.define_now(connection, statement, text, ahead) {
                // Another definition came between, and nothing was changed.
                Err(error) if tries < MOST_TRIES && makes_pipelines(statement) && error.sqlstate() == "55006" => {}
                done => break done,
            }
        };
        let due = self.remove_new(connection);
        Ok(due.into_iter().fold(done?, Outcome::noticed))
    }

    fn define_now(
        &self,
        connection: &mut Connection,
        statement: &Statement,
        text: &str,
        ahead: Ahead,
    ) -> Result<Outcome> {
        match statement.clone() {
            Statement::CreateTable(table) => self.create_table(connection, table, text, ahead),
            Statement::CreateSource(source) => self.create_source(source, text),
            Statement::CreateView(view) => self.create_view(connection, view, text),
            Statement::CreateMaterializedView(view) => self.create_materialized(connection, view, text, ahead),
            Statement::CreateIndex(index) => self.create_index(connection, index, text, ahead),
            Statement::CreateSink(sink) => self.create_sink(connection, sink, text, ahead),
            Statement::CreateSubscription(subscription) => self.create_subscription(connection, subscription, text),
            Statement::CreateFunction(function) => self.create_function(&function, text),
            Statement::DropFunction(dropped) => self.drop_function(connection, &dropped),
            Statement::Drop { kind, names, if_exists, cascade } => {
                self.drop_objects(connection, kind, &names, if_exists, cascade)
            }
            Statement::ExplainView(view) => {
                self.explain_new(&view.name.clone(), |state| self.materialized_object(state, view, text))
            }
            Statement::ExplainSink(sink) => {
                self.explain_new(&sink.name.clone(), |state| self.sink_object(state, sink, text))
            }
            Statement::ExplainIndex(index) => {
                self.explain_new(&index.name.clone(), |state| self.index_object(state, index, text))
            }
            Statement::Show(what) => show::show(self, connection, what),
            Statement::Describe(name) => show::describe(&self.state(), &name),
            Statement::Checkpoint { view, .. } => self.checkpoint(connection, view.as_ref()),
            Statement::AlterView { kind, name, options } => self.alter(connection, kind, &name, &options),
            Statement::Rename { kind, name, to } => self.rename(connection, kind, &name, &to),
            Statement::AddColumn(added) => self.add_column(connection, *added),
            Statement::AddKey(added) => self.add_key(connection, &added),
            Statement::RenameColumn(renamed) => self.rename_column(connection, &renamed),
            Statement::Vacuum(vacuum) => self.vacuum(connection, &vacuum),
            Statement::Flush => self.flush(connection),
            other => Err(invalid("XX000", format!("{other:?} came the wrong way"), None)),
        }
    }

    pub(crate) async fn end_transaction(&self, connection: &mut Connection, commit: bool) -> Result<Answer> {
        let was_asked_for = connection.transaction.is_some() && !connection.is_in_implicit_transaction();
        let answer = move |tag: &str| {
            let answer = Answer::done(Tag::Plain(tag.to_owned()));
            if was_asked_for { answer } else { answer.warned("25P01", "there is no transaction in progress") }
        };
        let Some(mut transaction) = connection.transaction.take() else {
            return Ok(answer(if commit { "COMMIT" } else { "ROLLBACK" }));
        };
        let settings = transaction.settings.take();
        if !commit || transaction.failed {
            connection.end_settings(settings, false);
            return Ok(answer("ROLLBACK"));
        }
        let cursors = std::mem::take(&mut transaction.cursors);
        let committed = self.commit(connection, transaction).await;
        connection.end_settings(settings, committed.is_ok());
        committed?;
        connection.held.extend(cursors.into_iter().filter(|(_, cursor)| cursor.outlives_transactions()));
        Ok(answer("COMMIT"))
    }

    /// A connection with the settings of all sessions.
    #[must_use]
    pub fn connect(&self) -> Connection {
        let mut connection = Connection::new();
        for (name, value) in self.state().catalog.system() {
            if let Err(error) = connection.set(name, value) {
                tracing::warn!(setting = name, value, %error, "a setting of ALTER SYSTEM cannot be used");
            }
        }
        connection.keep_as_defaults();
        connection
    }

    /// Executes one statement for a connection and waits for all its rows. Blocks; not to be called
    /// from an asynchronous task.
    ///
    /// # Errors
    /// As [`Database::run`].
    pub fn execute_for(&self, connection: &mut Connection, sql: &str) -> Result<Outcome> {
        let text = sql.trim().trim_end_matches(';').trim_end();
        let statement = highwater_sql::parse(text)?;
        self.runtime.block_on(async {
            let answer = self.run(connection, &statement, text, &Parameters::none()).await?;
            answer.into_outcome().await
        })
    }
}

/// Whether a statement is taken in a transaction that has failed.
pub(crate) const fn is_taken_after_failure(statement: &Statement) -> bool {
    use SavepointVerb::RollbackTo;
    matches!(statement, Statement::Commit | Statement::Rollback | Statement::Savepoint { verb: RollbackTo, .. })
}

fn begin(connection: &mut Connection, modes: TransactionModes) -> Result<Answer> {
    // One with modes that it cannot have is over, as nobody has asked for it yet.
    connection.begin_implicitly();
    let notices = connection.set_modes(modes, SetScope::Transaction)?;
    let answer = Answer { notices, ..Answer::done(Tag::Plain("BEGIN".to_owned())) };
    if connection.begin() {
        return Ok(answer);
    }
    Ok(answer.warned("25001", "there is already a transaction in progress"))
}

fn savepoint(connection: &mut Connection, verb: SavepointVerb, name: &Name) -> Result<Answer> {
    let tag = match verb {
        SavepointVerb::Begin => {
            connection.begin_subtransaction(name)?;
            "SAVEPOINT"
        }
        SavepointVerb::Release => {
            connection.release(name)?;
            "RELEASE"
        }
        SavepointVerb::RollbackTo => {
            connection.roll_back_to(name)?;
            "ROLLBACK"
        }
    };
    Ok(Answer::done(Tag::Plain(tag.to_owned())))
}

/// DISCARD ALL, RESET ALL and UNLISTEN.
fn discard(connection: &mut Connection, statement: &Statement) -> Result<Answer> {
    let tag = match statement {
        Statement::DiscardAll => {
            connection.discard()?;
            "DISCARD ALL"
        }
        Statement::ResetAll => {
            connection.reset_all()?;
            "RESET"
        }
        _ => "UNLISTEN",
    };
    Ok(Answer::done(Tag::Plain(tag.to_owned())))
}

fn set_transaction(connection: &mut Connection, scope: SetScope, modes: TransactionModes) -> Result<Answer> {
    let notices = connection.set_modes(modes, scope)?;
    Ok(Answer { notices, ..Answer::done(Tag::Plain("SET".to_owned())) })
}

/// What a statement that writes is called, if it does.
fn writes(statement: &Statement) -> Option<String> {
    let what = match statement {
        Statement::Insert(_) => "INSERT",
        Statement::Update(_) => "UPDATE",
        Statement::Delete(delete) if delete.truncates.is_some() => "TRUNCATE TABLE",
        Statement::Delete(_) => "DELETE",
        Statement::CreateTable(_) => "CREATE TABLE",
        Statement::CreateSource(_) => "CREATE SOURCE",
        Statement::CreateView(_) => "CREATE VIEW",
        Statement::CreateMaterializedView(_) => "CREATE MATERIALIZED VIEW",
        Statement::CreateIndex(_) => "CREATE INDEX",
        Statement::CreateSink(_) => "CREATE SINK",
        Statement::CreateSubscription(_) => "CREATE SUBSCRIPTION",
        Statement::CreateFunction(_) => "CREATE FUNCTION",
        Statement::DropFunction(_) => "DROP FUNCTION",
        Statement::AddColumn(_) | Statement::AddKey(_) | Statement::RenameColumn(_) => "ALTER TABLE",
        Statement::AlterView { kind, .. } | Statement::Rename { kind, .. } => return Some(format!("ALTER {kind}")),
        Statement::Drop { kind, .. } => return Some(format!("DROP {kind}")),
        _ => return None,
    };
    Some(what.to_owned())
}

/// Whether a statement may make an object that a pipeline keeps.
const fn makes_pipelines(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateTable(_)
            | Statement::CreateMaterializedView(_)
            | Statement::CreateIndex(_)
            | Statement::CreateSink(_)
            | Statement::CreateSubscription(_)
    )
}

const fn changes_objects(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateTable(_)
            | Statement::CreateSource(_)
            | Statement::CreateView(_)
            | Statement::CreateMaterializedView(_)
            | Statement::CreateIndex(_)
            | Statement::CreateSink(_)
            | Statement::CreateSubscription(_)
            | Statement::CreateFunction(_)
            | Statement::DropFunction(_)
            | Statement::AlterView { .. }
            | Statement::Rename { .. }
            | Statement::AddColumn(_)
            | Statement::AddKey(_)
            | Statement::RenameColumn(_)
            | Statement::Drop { .. }
    )
}
