//! The extended query protocol: statements that are prepared, described, bound and executed.

use super::simple::is_transactional;
use super::{Session, encode, errors, parameters, status_of};
use arrow::datatypes::{DataType, SchemaRef};
use futures::{Sink, SinkExt as _, StreamExt as _};
use highwater::{Answer, Connection, Parameters, Statement, TransactionState};
use pgwire::api::copy::send_copy_in_response;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{ExtendedQueryHandler, send_describe_response, send_execution_response, send_ready_for_query};
use pgwire::api::results::{CopyResponse, DescribePortalResponse, FieldInfo, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, ErrorHandler as _, PgWireConnectionState, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Flush, Parse, ParseComplete, PortalSuspended,
    Sync as PgSync, TARGET_TYPE_BYTE_PORTAL,
};
use pgwire::messages::response::TransactionStatus;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError};
use tokio::sync::Mutex;

/// A statement that was parsed and described.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    statement: Arc<Statement>,
    text: Arc<str>,
    parameters: Arc<[DataType]>,
    columns: Option<SchemaRef>,
}

/// Parses for a session.
pub(crate) struct Parser(Arc<super::Server>, Arc<Mutex<Connection>>);

#[async_trait::async_trait]
impl QueryParser for Parser {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, _: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let text = sql.trim().trim_end_matches(';').trim_end();
        let before = sql.chars().count() - sql.trim_start().chars().count();
        let statement = highwater::parse(text).map_err(|error| errors::of(&error.into(), before))?;
        let told: Vec<Option<DataType>> = types.iter().map(|told| told.as_ref().and_then(parameters::told)).collect();
        let mut connection = self.1.lock().await;
        let described = self.0.database.describe(&mut connection, &statement, text, &told).await;
        let described = described.map_err(|error| errors::of(&error, before))?;
        Ok(Some(Prepared {
            statement: Arc::new(statement),
            text: text.into(),
            parameters: parameters::completed(described.parameters, types).into(),
            columns: described.columns,
        }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        prepared.parameters.iter().map(encode::pg_type).collect()
    }

    fn get_result_schema(&self, prepared: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        let Some(columns) = &prepared.columns else { return Ok(Vec::new()) };
        let fields = encode::fields(columns, format.unwrap_or(&Format::UnifiedText))?;
        Ok(fields.as_ref().clone())
    }
}

#[async_trait::async_trait]
impl ExtendedQueryHandler for Session {
    type Statement = Prepared;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser(Arc::clone(&self.server), Arc::clone(&self.connection)))
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.go_on(client).await?;
        let name = message.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        match StoredStatement::parse(client, &message, self.query_parser()).await? {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(&name),
        }
        client.feed(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.go_on(client).await?;
        let statement = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        match client.portal_store().get_statement(statement) {
            Some(Entry::Value(statement)) => {
                check_formats(&message, &statement.statement)?;
                let portal = Portal::try_new(&message, statement)?;
                client.portal_store().put_portal(Arc::new(portal));
            }
            Some(Entry::Empty) if message.parameters.is_empty() => {
                client.portal_store().put_empty_portal(message.portal_name.as_deref().unwrap_or(DEFAULT_NAME));
            }
            Some(Entry::Empty) => return Err(errors::error("08P01", "an empty statement takes no parameters")),
            None => return Err(PgWireError::StatementNotFound(statement.to_owned())),
        }
        client.feed(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.go_on(client).await?;
        let portal = client.portal_store().get_portal(message.name.as_deref().unwrap_or(DEFAULT_NAME));
        if let Some(Entry::Value(portal)) = portal {
            let statement = &portal.statement.statement.statement;
            let state = self.connection.lock().await.transaction_state();
            if state == TransactionState::Idle && is_write(statement) {
                *self.deferred.lock().unwrap_or_else(PoisonError::into_inner) = Some((message, portal));
                return Ok(());
            }
            if !is_transactional(statement) && !is_about_transactions(statement) {
                self.commit_implicit().await?;
            }
        }
        self.execute(client, message).await
    }

    async fn on_flush<C>(&self, client: &mut C, _: Flush) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.execute_deferred(client).await?;
        client.flush().await?;
        Ok(())
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.go_on(client).await?;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type == TARGET_TYPE_BYTE_PORTAL {
            client.portal_store().rm_portal(name);
        } else {
            client.portal_store().rm_statement(name);
        }
        client.feed(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?;
        Ok(())
    }

    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.go_on(client).await?;
        let name = message.name.as_deref().unwrap_or_default();
        if message.target_type == TARGET_TYPE_BYTE_PORTAL && client.portal_store().get_portal(name).is_none() {
            // What DECLARE has made is a portal, too.
            let cursor = self.connection.lock().await.cursor(name);
            if let Some(columns) = cursor {
                let fields = encode::fields(&columns, &Format::UnifiedText)?.to_vec();
                return send_describe_response(client, &DescribePortalResponse::new(fields)).await;
            }
        }
        self._on_describe(client, message).await
    }

    async fn on_sync<C>(&self, client: &mut C, _: PgSync) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let Err(mut error) = self.end_pipeline(client).await {
            // Sync is over then, so the error is told here.
            self.on_error(client, &mut error);
            let info: ErrorInfo = error.into();
            client.feed(PgWireBackendMessage::ErrorResponse(info.into())).await?;
            client.set_state(PgWireConnectionState::ReadyForQuery);
        }
        let status = status_of(&*self.connection.lock().await);
        client.set_transaction_status(status);
        if status == TransactionStatus::Idle {
            // Portals end with their transactions.
            client.portal_store().clear_portals();
        }
        send_ready_for_query(client, status).await
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        self.check_role(&prepared.statement)?;
        if deallocated(client, &prepared.statement) {
            return Ok(Response::Execution(Tag::new("DEALLOCATE")));
        }
        let mut connection = self.connection.lock().await;
        if let Statement::Copy(copy) = prepared.statement.as_ref() {
            let begun = self.server.database.begin_copy(&connection, copy).map_err(|error| errors::of(&error, 0))?;
            let columns = begun.columns();
            *self.copy.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(begun);
            return Ok(Response::CopyIn(CopyResponse::new(0, columns, futures::stream::empty())));
        }
        let parameters = parameters::bound(portal, &connection.types_in_zone(&prepared.parameters))?;
        let database = &self.server.database;
        let answer = database.run(&mut connection, &prepared.statement, &prepared.text, &parameters).await;
        let answer = answer.map_err(|error| errors::of(&error, 0))?;
        if let Statement::CopyOut(copy) = prepared.statement.as_ref() {
            return Ok(Response::Execution(super::copy_out::send(client, answer, &copy.options).await?));
        }
        errors::notify(client, &answer.notices).await?;
        if answer.rows.is_some() {
            return Ok(Response::Query(encode::response(answer, &portal.result_column_format)?));
        }
        let tag = Tag::new(&answer.tag.text(0));
        Ok(match prepared.statement.as_ref() {
            Statement::Begin { .. } => Response::TransactionStart(tag),
            Statement::Commit | Statement::Rollback => Response::TransactionEnd(tag),
            _ => Response::Execution(tag),
        })
    }
}

/// Statements that are sent without a Sync between them are one transaction, as in PostgreSQL. A write is
/// executed when the next message tells whether it is alone: then it is committed at once, and done
/// again when another one came before it.
impl Session {
    async fn execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let limit = self.connection.lock().await.statement_timeout();
        let done = self.limited(self.run_portal(client, message), limit).await;
        client.set_transaction_status(status_of(&*self.connection.lock().await));
        done
    }

    /// Runs a portal, or goes on with it. pgwire's own way holds all rows before it sends the first, and
    /// runs what gives none once more.
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
        match done {
            // It was begun before.
            Response::EmptyQuery => send_rows(client, &portal, message.max_rows).await?,
            Response::Query(rows) => {
                portal.start(rows).await;
                send_rows(client, &portal, message.max_rows).await?;
            }
            Response::CopyIn(copy) => {
                *state.lock().await = PortalExecutionState::Finished;
                client.set_state(PgWireConnectionState::CopyInProgress(true));
                return send_copy_in_response(client, copy).await;
            }
            Response::Execution(tag) | Response::TransactionStart(tag) | Response::TransactionEnd(tag) => {
                *state.lock().await = PortalExecutionState::Finished;
                send_execution_response(client, tag).await?;
            }
            _ => return Err(errors::error("XX000", "a statement was answered in an unknown way")),
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    /// Another message comes before Sync: what waits is executed in a transaction.
    async fn go_on<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Some((message, _)) = self.deferred() else { return Ok(()) };
        self.connection.lock().await.begin_implicitly();
        self.execute(client, message).await
    }

    /// Sync has come: what waits is alone, and the transaction that nobody asked for is over.
    async fn end_pipeline<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match self.deferred() {
            Some((message, _)) => self.execute(client, message).await,
            None => self.commit_implicit().await,
        }
    }

    /// Executes what waits in a transaction, without its portal.
    pub(super) async fn execute_deferred<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Some((message, portal)) = self.deferred() else { return Ok(()) };
        let mut connection = self.connection.lock().await;
        connection.begin_implicitly();
        let limit = connection.statement_timeout();
        let answer = self.limited(self.written(&mut connection, &portal), limit).await?;
        errors::notify(client, &answer.notices).await?;
        if answer.rows.is_some() {
            portal.start(encode::response(answer, &portal.result_column_format)?).await;
            send_rows(client, &portal, message.max_rows).await
        } else {
            *portal.state().lock().await = PortalExecutionState::Finished;
            send_execution_response(client, Tag::new(&answer.tag.text(0))).await
        }
    }

    /// What a write gives.
    async fn written(&self, connection: &mut Connection, portal: &Portal<Prepared>) -> PgWireResult<Answer> {
        let Prepared { statement, text, parameters, .. } = &portal.statement.statement;
        self.check_role(statement)?;
        let parameters = parameters::bound(portal, &connection.types_in_zone(parameters))?;
        let answer = self.server.database.run(connection, statement, text, &parameters).await;
        answer.map_err(|error| errors::of(&error, 0))
    }

    async fn commit_implicit(&self) -> PgWireResult<()> {
        let mut connection = self.connection.lock().await;
        if !connection.is_in_implicit_transaction() {
            return Ok(());
        }
        let limit = connection.statement_timeout();
        let committed = async {
            let none = Parameters::none();
            let committed = self.server.database.run(&mut connection, &Statement::Commit, "COMMIT", &none).await;
            committed.map(|_| ()).map_err(|error| errors::of(&error, 0))
        };
        self.limited(committed, limit).await
    }
}

/// Sends up to so many rows of a portal as they come; all when the number is not positive.
async fn send_rows<C>(client: &mut C, portal: &Portal<Prepared>, most: i32) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let state = portal.state();
    let mut state = state.lock().await;
    let PortalExecutionState::Suspended(response) = &mut *state else {
        return send_execution_response(client, Tag::new("SELECT").with_rows(0)).await;
    };
    let verb = response.command_tag().to_owned();
    let most = usize::try_from(most).unwrap_or_default();
    let mut sent = 0;
    let is_over = loop {
        if most > 0 && sent == most {
            break false;
        }
        let Some(row) = response.data_rows().next().await else { break true };
        client.feed(PgWireBackendMessage::DataRow(row?)).await?;
        sent += 1;
    };
    if !is_over {
        client.feed(PgWireBackendMessage::PortalSuspended(PortalSuspended::new())).await?;
        return Ok(());
    }
    *state = PortalExecutionState::Finished;
    send_execution_response(client, Tag::new(&verb).with_rows(sent)).await
}

/// Refuses formats that are not one for all or one for each: pgwire would look for more of them.
fn check_formats(message: &Bind, prepared: &Prepared) -> PgWireResult<()> {
    let fits = |formats: usize, count: usize| formats <= 1 || formats == count;
    let (formats, count) = (message.parameter_format_codes.len(), message.parameters.len());
    if !fits(formats, count) {
        let message = format!("bind message has {formats} parameter formats but {count} parameters");
        return Err(errors::error("08P01", message));
    }
    let Some(columns) = &prepared.columns else { return Ok(()) };
    let (formats, count) = (message.result_column_format_codes.len(), columns.fields().len());
    if !fits(formats, count) {
        let message = format!("bind message has {formats} result formats but query has {count} columns");
        return Err(errors::error("08P01", message));
    }
    Ok(())
}

const fn is_write(statement: &Statement) -> bool {
    matches!(statement, Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_))
}

const fn is_about_transactions(statement: &Statement) -> bool {
    matches!(statement, Statement::Begin { .. } | Statement::Commit | Statement::Rollback)
}

/// Whether the statement is a DEALLOCATE of what the client has prepared by the protocol, which is
/// done then.
pub(super) fn deallocated<C: ClientPortalStore>(client: &C, statement: &Statement) -> bool
where
    C::PortalStore: PortalStore,
{
    let Statement::Deallocate(Some(name)) = statement else { return false };
    let known = client.portal_store().get_statement(&name.value).is_some();
    client.portal_store().rm_statement(&name.value);
    known
}
