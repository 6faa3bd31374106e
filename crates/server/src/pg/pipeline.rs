//! Statements that are sent without a Sync between them: they are one transaction, as in PostgreSQL.
//!
//! A write is executed when the next message tells whether it is alone: then it is committed at once,
//! and done again when another one came before it. The answer of a transaction's last statement is held
//! back until Sync has committed, so that a commit that fails is told in its place: libpq's callers
//! expect nothing but ReadyForQuery for a Sync.
//!
//! Invariants: a write waits only while there is no transaction, and an answer is held back only while
//! there is one that nobody asked for; so never both.

use super::extended::{Prepared, is_write};
use super::{Session, encode, errors, parameters, status_of};
use futures::{Sink, SinkExt as _, StreamExt as _};
use highwater::{Answer, Connection, ToldWrite};
use pgwire::api::copy::send_copy_in_response;
use pgwire::api::portal::{Portal, PortalExecutionState};
use pgwire::api::query::ExtendedQueryHandler as _;
use pgwire::api::results::{Response, Tag};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{Execute, PortalSuspended};
use std::fmt::Debug;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Writes of one transaction that are kept to do it again.
const MOST_TOLD: usize = 10_000;

/// A write to execute, and what it is.
pub(super) type Waiting = (Execute, Arc<Portal<Prepared>>);

/// What a client has sent since the last Sync.
#[derive(Default)]
pub(super) struct Pipeline {
    /// A write that waits for the next message: when that is Sync it is alone.
    waiting: Option<Waiting>,
    /// All statements of the transaction, unless one was none that can be told again.
    told: Option<Vec<ToldWrite>>,
    /// The answer of its last statement, and those of messages behind it that cannot fail.
    held: Vec<PgWireBackendMessage>,
}

impl Session {
    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was sent has failed, or is over.
    pub(super) fn forget_pipeline(&self) {
        *self.pipeline() = Pipeline::default();
    }

    /// Whether nothing waits or is held back.
    pub(super) fn has_nothing_open(&self) -> bool {
        let pipeline = self.pipeline();
        pipeline.waiting.is_none() && pipeline.held.is_empty()
    }

    /// A write waits for the next message.
    pub(super) fn wait_with(&self, write: Waiting) {
        self.pipeline().waiting = Some(write);
    }

    /// Begins the transaction of what waits.
    fn begin_pipeline(&self, connection: &mut Connection) {
        connection.begin_implicitly();
        self.pipeline().told = Some(Vec::new());
    }

    /// Executes a portal, or goes on with it.
    pub(super) async fn execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let limit = self.connection.lock().await.statement_timeout();
        let done = self.limited(self.run_portal(client, message), limit).await;
        let connection = self.connection.lock().await;
        connection.rests();
        client.set_transaction_status(status_of(&connection));
        done
    }

    /// pgwire's own way holds all rows before it sends the first, and runs what gives none once more.
    async fn run_portal<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            _ => return self._on_execute(client, message).await,
        };
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let state = portal.state();
        let (is_new, is_over) = {
            let state = state.lock().await;
            (matches!(*state, PortalExecutionState::Initial), matches!(*state, PortalExecutionState::Finished))
        };
        if is_over && portal.statement.statement.columns.is_none() {
            return Err(errors::error("55000", format!("portal {name:?} cannot be run")));
        }
        let done = if is_new { self.do_query(client, portal.as_ref(), 0).await? } else { Response::EmptyQuery };
        let answer = match done {
            // It was begun before.
            Response::EmptyQuery => send_rows(client, &portal, message.max_rows).await?,
            Response::Query(rows) => {
                portal.start(rows).await;
                send_rows(client, &portal, message.max_rows).await?
            }
            Response::CopyIn(copy) => {
                *state.lock().await = PortalExecutionState::Finished;
                client.set_state(PgWireConnectionState::CopyInProgress(true));
                return send_copy_in_response(client, copy).await;
            }
            Response::TransactionEnd(tag) => {
                // Portals end with their transactions.
                client.portal_store().clear_portals();
                PgWireBackendMessage::CommandComplete(tag.into())
            }
            Response::Execution(tag) | Response::TransactionStart(tag) => {
                *state.lock().await = PortalExecutionState::Finished;
                PgWireBackendMessage::CommandComplete(tag.into())
            }
            _ => return Err(errors::error("XX000", "a statement was answered in an unknown way")),
        };
        if self.connection.lock().await.is_in_implicit_transaction() {
            self.pipeline().held.push(answer);
        } else {
            client.feed(answer).await?;
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    /// Another message comes before Sync: what waits is executed in a transaction, and what is held back
    /// is told.
    pub(super) async fn go_on<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.execute_waiting(client).await?;
        self.release(client).await
    }

    /// Executes what waits in a transaction.
    pub(super) async fn execute_waiting<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let waiting = self.pipeline().waiting.take();
        let Some((message, _)) = waiting else { return Ok(()) };
        self.begin_pipeline(&mut *self.connection.lock().await);
        self.execute(client, message).await
    }

    /// The same without the store of portals, and tells it at once.
    pub(super) async fn go_on_without_portals<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let waiting = self.pipeline().waiting.take();
        let Some((message, portal)) = waiting else { return self.release(client).await };
        let mut connection = self.connection.lock().await;
        self.begin_pipeline(&mut connection);
        let limit = connection.statement_timeout();
        let answer = self.limited(self.answered(&mut connection, &portal), limit).await?;
        errors::notify(client, &answer.warnings, &answer.notices).await?;
        let told = if answer.rows.is_some() {
            portal.start(encode::response(answer, &portal.result_column_format)?).await;
            send_rows(client, &portal, message.max_rows).await?
        } else {
            *portal.state().lock().await = PortalExecutionState::Finished;
            PgWireBackendMessage::CommandComplete(Tag::new(&answer.tag.text(0)).into())
        };
        client.feed(told).await?;
        Ok(())
    }

    /// Tells what was held back.
    async fn release<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let held = std::mem::take(&mut self.pipeline().held);
        for message in held {
            client.feed(message).await?;
        }
        Ok(())
    }

    /// Tells something that cannot fail: behind what is held back, if anything is.
    pub(super) async fn tell_behind<C>(&self, client: &mut C, message: PgWireBackendMessage) -> PgWireResult<()>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let is_held = !self.pipeline().held.is_empty();
        if is_held {
            self.pipeline().held.push(message);
        } else {
            client.feed(message).await?;
        }
        Ok(())
    }

    /// Sync has come: what waits is alone, and the transaction that nobody asked for is over.
    pub(super) async fn end_pipeline<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let waiting = self.pipeline().waiting.take();
        match waiting {
            Some((message, _)) => self.execute(client, message).await,
            None => {
                self.commit_implicit().await?;
                self.release(client).await
            }
        }
    }

    /// Commits the transaction that nobody asked for, if there is one.
    pub(super) async fn commit_implicit(&self) -> PgWireResult<()> {
        let mut connection = self.connection.lock().await;
        if !connection.is_in_implicit_transaction() {
            return Ok(());
        }
        let told = self.pipeline().told.take();
        let limit = connection.statement_timeout();
        let committed = async {
            let committed = self.server.database.commit_implicit(&mut connection, told.as_deref()).await;
            committed.map_err(|error| errors::of(&error, 0))
        };
        let done = self.limited(committed, limit).await;
        connection.rests();
        done
    }

    /// What a portal's statement gives. In a transaction that nobody asked for it is kept what it told.
    pub(super) async fn answered(
        &self,
        connection: &mut Connection,
        portal: &Portal<Prepared>,
    ) -> PgWireResult<Answer> {
        let Prepared { statement, text, parameters, .. } = &portal.statement.statement;
        self.check_role(statement)?;
        self.check_returned(connection, &portal.statement.statement).await?;
        let parameters = parameters::bound(portal, &connection.types_in_zone(parameters))?;
        let answer = self.server.database.run(connection, statement, text, &parameters).await;
        let answer = answer.map_err(|error| errors::of(&error, 0))?;
        let mut pipeline = self.pipeline();
        let told = pipeline.told.take();
        let can_be_told_again = is_write(statement) && answer.rows.is_none();
        pipeline.told = told.filter(|told| can_be_told_again && told.len() < MOST_TOLD).map(|mut told| {
            let (statement, text, tag) = (Arc::clone(statement), Arc::clone(text), answer.tag.clone());
            told.push(ToldWrite { statement, text, parameters, tag });
            told
        });
        drop(pipeline);
        Ok(answer)
    }
}

/// Sends up to so many rows of a portal as they come; all when the number is not positive. Gives what
/// is to be told behind them.
async fn send_rows<C>(client: &mut C, portal: &Portal<Prepared>, most: i32) -> PgWireResult<PgWireBackendMessage>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let state = portal.state();
    let mut state = state.lock().await;
    let PortalExecutionState::Suspended(response) = &mut *state else {
        return Ok(PgWireBackendMessage::CommandComplete(Tag::new("SELECT").with_rows(0).into()));
    };
    let verb = response.command_tag().to_owned();
    let most = usize::try_from(most).unwrap_or_default();
    let mut sent = 0;
    loop {
        if most > 0 && sent == most {
            return Ok(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()));
        }
        let Some(row) = response.data_rows().next().await else { break };
        client.feed(PgWireBackendMessage::DataRow(row?)).await?;
        sent += 1;
    }
    *state = PortalExecutionState::Finished;
    Ok(PgWireBackendMessage::CommandComplete(Tag::new(&verb).with_rows(sent).into()))
}
