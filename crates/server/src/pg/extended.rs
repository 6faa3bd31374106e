//! The extended query protocol: statements that are prepared, described, bound and executed.

use super::simple::ends_implicit;
use super::{Session, encode, errors, parameters, status_of};
use arrow::datatypes::{DataType, SchemaRef};
use futures::{Sink, SinkExt as _};
use highwater::{Answer, Connection, ReadForm, Statement, TransactionState};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, send_describe_response, send_ready_for_query};
use pgwire::api::results::{CopyResponse, DescribePortalResponse, FieldInfo, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, ErrorHandler as _, PgWireConnectionState, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Flush, Parse, ParseComplete, Sync as PgSync,
    TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::TransactionStatus;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::sync::Mutex;

/// A statement that was parsed and described.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(super) statement: Arc<Statement>,
    pub(super) text: Arc<str>,
    pub(super) parameters: Arc<[DataType]>,
    pub(super) columns: Option<SchemaRef>,
    /// The columns of the table that it writes, where it gives rows.
    written: Option<SchemaRef>,
    /// How it reads, once that is known.
    pub(super) form: Arc<std::sync::Mutex<ReadForm>>,
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
        let written = self.0.database.written_columns(&statement);
        let described = self.0.database.describe(&mut connection, &statement, text, &told).await;
        let described = described.map_err(|error| errors::of(&error, before))?;
        Ok(Some(Prepared {
            statement: Arc::new(statement),
            text: text.into(),
            parameters: described.parameters.into(),
            written: written.filter(|_| described.columns.is_some()),
            columns: described.columns,
            form: Arc::default(),
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
        errors::check_text(&message.query)?;
        let name = message.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let limit = self.connection.lock().await.statement_timeout();
        let parsed = self.limited(StoredStatement::parse(client, &message, self.query_parser()), limit).await?;
        if message.name.is_some() {
            if client.portal_store().get_statement(&name).is_some() {
                return Err(errors::error("42P05", format!("prepared statement {name:?} already exists")));
            }
            self.prepared().insert(name.clone());
        }
        match parsed {
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
        if let Some(name) = message.portal_name.as_deref() {
            let is_cursor = self.connection.lock().await.cursor(name).is_some();
            if is_cursor || client.portal_store().get_portal(name).is_some() {
                return Err(errors::error("42P03", format!("cursor {name:?} already exists")));
            }
        }
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
            let waits = {
                let connection = self.connection.lock().await;
                connection.transaction_state() == TransactionState::Idle && connection.writes_rows(statement)
            };
            if waits {
                self.wait_with((message, portal));
                return Ok(());
            }
            if ends_implicit(statement) {
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
        self.go_on_without_portals(client).await?;
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
        self.execute_waiting(client).await?;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type == TARGET_TYPE_BYTE_PORTAL {
            client.portal_store().rm_portal(name);
        } else {
            self.prepared().remove(name);
            client.portal_store().rm_statement(name);
        }
        // It stays behind an answer that is held back.
        self.tell_behind(client, PgWireBackendMessage::CloseComplete(CloseComplete::new())).await
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
        let statement = client.portal_store().get_statement(message.name.as_deref().unwrap_or(DEFAULT_NAME));
        if let (TARGET_TYPE_BYTE_STATEMENT, Some(Entry::Value(statement))) = (message.target_type, statement)
            && statement.statement.columns.is_none()
        {
            // pgwire tells that it has no columns only of what has no parameters either.
            let types = self.do_describe_statement(client, statement.as_ref()).await?.parameters;
            let types = ParameterDescription::new(types.iter().map(Type::oid).collect());
            client.feed(PgWireBackendMessage::ParameterDescription(types)).await?;
            client.feed(PgWireBackendMessage::NoData(NoData::new())).await?;
            return Ok(());
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
        let connection = self.connection.lock().await;
        self.report(client, &connection).await?;
        let status = status_of(&connection);
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
        if self.deallocated(client, &prepared.statement) {
            return Ok(Response::Execution(Tag::new("DEALLOCATE")));
        }
        let mut connection = self.connection.lock().await;
        if let Statement::Copy(copy) = prepared.statement.as_ref() {
            let begun = self.server.database.begin_copy(&connection, copy).map_err(|error| errors::of(&error, 0))?;
            let columns = begun.columns();
            self.begin_copying(&connection, begun);
            return Ok(Response::CopyIn(CopyResponse::new(0, columns, futures::stream::empty())));
        }
        check_cursor(&connection, prepared)?;
        let answer = self.answered(&mut connection, portal).await?;
        check_columns(&answer, prepared)?;
        self.forget_prepared(client, &prepared.statement);
        if let Statement::CopyOut(copy) = prepared.statement.as_ref() {
            return Ok(Response::Execution(super::copy_out::send(client, answer, &copy.options).await?));
        }
        errors::notify(client, &answer.warnings, &answer.notices).await?;
        if answer.rows.is_some() {
            return Ok(Response::Query(encode::response(answer, &portal.result_column_format)?));
        }
        let tag = Tag::new(&answer.tag.text(0));
        Ok(match prepared.statement.as_ref() {
            Statement::Begin(_) => Response::TransactionStart(tag),
            Statement::Commit | Statement::Rollback => Response::TransactionEnd(tag),
            _ => Response::Execution(tag),
        })
    }
}

/// Refuses formats that do not exist, or are not one for all or one for each: pgwire would look for more of
/// them.
fn check_formats(message: &Bind, prepared: &Prepared) -> PgWireResult<()> {
    let mut formats = message.parameter_format_codes.iter().chain(&message.result_column_format_codes);
    if let Some(format) = formats.find(|format| !matches!(format, 0 | 1)) {
        return Err(errors::error("22023", format!("unsupported format code: {format}")));
    }
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

/// Refuses a FETCH from another cursor of the name than the one that it was described with, whose columns the
/// client does not know.
fn check_cursor(connection: &Connection, prepared: &Prepared) -> PgWireResult<()> {
    let Statement::Fetch(fetch) = prepared.statement.as_ref() else { return Ok(()) };
    let Some(columns) = connection.cursor(&fetch.cursor.value).filter(|_| !fetch.skips) else { return Ok(()) };
    let is_same = prepared.columns.as_ref().is_some_and(|known| {
        let mut pairs = known.fields().iter().zip(columns.fields());
        known.fields().len() == columns.fields().len()
            && pairs.all(|(known, own)| known.name() == own.name() && known.data_type() == own.data_type())
    });
    if is_same { Ok(()) } else { Err(changed()) }
}

/// Refuses the rows of a query whose columns have not the names and types that they had when it was described, as
/// those of `SELECT *` when its table was given another one or its view was made anew.
fn check_columns(answer: &Answer, prepared: &Prepared) -> PgWireResult<()> {
    let (Statement::Query(_) | Statement::Execute { .. }, Some(rows), Some(known)) =
        (prepared.statement.as_ref(), &answer.rows, &prepared.columns)
    else {
        return Ok(());
    };
    if are_alike(rows.schema(), known)? { Ok(()) } else { Err(changed()) }
}

/// Whether columns have the same names and types.
fn are_alike(columns: &SchemaRef, known: &SchemaRef) -> PgWireResult<bool> {
    let types =
        |schema: &SchemaRef| -> PgWireResult<Vec<Type>> { schema.fields().iter().map(encode::column_type).collect() };
    let are_named_alike = columns.fields().iter().map(|field| field.name()).eq(known.fields().iter().map(|f| f.name()));
    Ok(columns == known || are_named_alike && types(columns)? == types(known)?)
}

pub(super) fn changed() -> PgWireError {
    errors::error("0A000", "cached plan must not change result type")
}

/// Whether a statement writes rows of one table.
pub(super) const fn is_write(statement: &Statement) -> bool {
    matches!(statement, Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_))
}

impl Session {
    fn prepared(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a write whose RETURNING does not give the columns that it was described with, as its table has others
    /// now: before it is done, as it cannot be told afterwards.
    pub(super) async fn check_returned(&self, connection: &mut Connection, prepared: &Prepared) -> PgWireResult<()> {
        let (Some(known), Some(written)) = (&prepared.columns, &prepared.written) else { return Ok(()) };
        let database = &self.server.database;
        if database.written_columns(&prepared.statement).is_none_or(|now| now == *written) {
            return Ok(());
        }
        let told: Vec<Option<DataType>> = prepared.parameters.iter().cloned().map(Some).collect();
        let described = database.describe(connection, &prepared.statement, &prepared.text, &told).await;
        let columns = described.map_err(|error| errors::of(&error, 0))?.columns;
        match columns {
            Some(columns) if are_alike(&columns, known)? => Ok(()),
            _ => Err(changed()),
        }
    }

    /// Whether the statement is a DEALLOCATE of what the client has prepared by the protocol, which is
    /// done then.
    pub(super) fn deallocated<C: ClientPortalStore>(&self, client: &C, statement: &Statement) -> bool
    where
        C::PortalStore: PortalStore,
    {
        let Statement::Deallocate(Some(name)) = statement else { return false };
        let known = client.portal_store().get_statement(&name.value).is_some();
        client.portal_store().rm_statement(&name.value);
        self.prepared().remove(&name.value);
        known
    }

    /// Forgets all that the client has prepared by the protocol, when the statement, which is done, says so.
    pub(super) fn forget_prepared<C: ClientPortalStore>(&self, client: &C, statement: &Statement)
    where
        C::PortalStore: PortalStore,
    {
        if matches!(statement, Statement::Deallocate(None) | Statement::DiscardAll) {
            let names = std::mem::take(&mut *self.prepared());
            for name in names {
                client.portal_store().rm_statement(&name);
            }
        }
    }
}
