//! The extended query protocol: statements that are prepared, described, bound and executed.

use super::simple::is_transactional;
use super::{Session, encode, errors, parameters, status_of};
use arrow::datatypes::{DataType, SchemaRef};
use futures::{Sink, SinkExt as _};
use highwater::{Answer, Connection, Parameters, Statement, TransactionState};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{
    ExtendedQueryHandler, send_describe_response, send_execution_response, send_query_response, send_ready_for_query,
};
use pgwire::api::results::{CopyResponse, DescribePortalResponse, FieldInfo, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, ErrorHandler as _, PgWireConnectionState, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Flush, Parse, ParseComplete, Sync as PgSync,
    TARGET_TYPE_BYTE_PORTAL,
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
        let done = self.limited(self._on_execute(client, message), limit).await;
        client.set_transaction_status(status_of(&*self.connection.lock().await));
        done
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
        let Some((_, portal)) = self.deferred() else { return Ok(()) };
        let mut connection = self.connection.lock().await;
        connection.begin_implicitly();
        let limit = connection.statement_timeout();
        let answer = self.limited(self.written(&mut connection, &portal), limit).await?;
        errors::notify(client, &answer.notices).await?;
        if answer.rows.is_some() {
            let response = encode::response(answer, &portal.result_column_format)?;
            send_query_response(client, response, false).await?;
        } else {
            send_execution_response(client, Tag::new(&answer.tag.text(0))).await?;
        }
        Ok(())
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
