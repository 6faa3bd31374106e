//! The extended query protocol: statements that are prepared, described, bound and executed.

use super::{Session, encode, errors, status_of};
use arrow::datatypes::{DataType, SchemaRef};
use arrow_pg::datatypes::df::deserialize_parameters;
use arrow_pg::datatypes::{field_into_pg_type, into_pg_type};
use futures::Sink;
use highwater::{Parameters, Statement};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::ExtendedQueryHandler;
use pgwire::api::results::{CopyResponse, FieldInfo, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::Execute;
use std::fmt::Debug;
use std::sync::Arc;

/// A statement that was parsed and described.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    statement: Arc<Statement>,
    text: Arc<str>,
    parameters: Arc<[DataType]>,
    columns: Option<SchemaRef>,
}

/// Parses for a session.
pub(crate) struct Parser(Arc<super::Server>);

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
        let told: Vec<Option<DataType>> = types.iter().map(|told| told.as_ref().and_then(arrow_type)).collect();
        // A connection of its own: describing must not depend on a transaction.
        let mut connection = self.0.database.connect();
        let described = self.0.database.describe(&mut connection, &statement, text, &told).await;
        let described = described.map_err(|error| errors::of(&error, before))?;
        Ok(Some(Prepared {
            statement: Arc::new(statement),
            text: text.into(),
            parameters: described.parameters.into(),
            columns: described.columns,
        }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        prepared.parameters.iter().map(into_pg_type).collect()
    }

    fn get_result_schema(&self, prepared: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        let Some(columns) = &prepared.columns else { return Ok(Vec::new()) };
        let format = format.unwrap_or(&Format::UnifiedText);
        let field = |(at, field): (usize, &arrow::datatypes::FieldRef)| {
            let data_type = field_into_pg_type(field)?;
            Ok(FieldInfo::new(field.name().clone(), None, None, data_type, format.format_for(at)))
        };
        columns.fields().iter().enumerate().map(field).collect()
    }
}

/// The Arrow type of a parameter whose type the client tells; none leaves it to the statement.
fn arrow_type(told: &Type) -> Option<DataType> {
    Some(match *told {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => DataType::Utf8,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(arrow::datatypes::TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
        _ => return None,
    })
}

#[async_trait::async_trait]
impl ExtendedQueryHandler for Session {
    type Statement = Prepared;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser(Arc::clone(&self.server)))
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let limit = self.connection.lock().await.statement_timeout();
        let done = super::simple::limited(self._on_execute(client, message), limit).await;
        let mut connection = self.connection.lock().await;
        if done.is_err() {
            self.server.database.fail_transaction(&mut connection);
        }
        client.set_transaction_status(status_of(&connection));
        done
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
        let mut connection = self.connection.lock().await;
        if let Statement::Copy(copy) = prepared.statement.as_ref() {
            let begun = self.server.database.begin_copy(&connection, copy).map_err(|error| errors::of(&error, 0))?;
            let columns = begun.columns();
            *self.copy.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(begun);
            return Ok(Response::CopyIn(CopyResponse::new(0, columns, futures::stream::empty())));
        }
        let parameters = parameters(portal)?;
        let database = &self.server.database;
        let answer = database.run(&mut connection, &prepared.statement, &prepared.text, &parameters).await;
        let answer = answer.map_err(|error| errors::of(&error, 0))?;
        errors::notify(client, &answer.notices).await?;
        if answer.rows.is_some() {
            return Ok(Response::Query(encode::response(answer, &portal.result_column_format)?));
        }
        let tag = Tag::new(&answer.tag.text(0));
        Ok(match prepared.statement.as_ref() {
            Statement::Begin => Response::TransactionStart(tag),
            Statement::Commit | Statement::Rollback => Response::TransactionEnd(tag),
            _ => Response::Execution(tag),
        })
    }
}

fn parameters(portal: &Portal<Prepared>) -> PgWireResult<Parameters> {
    let types = &portal.statement.statement.parameters;
    if portal.parameter_len() < types.len() {
        let message = format!(
            "bind message supplies {} parameters, but the statement requires {}",
            portal.parameter_len(),
            types.len()
        );
        return Err(errors::error("08P01", message));
    }
    if types.is_empty() {
        return Ok(Parameters::none());
    }
    let wanted: Vec<Option<&DataType>> = types.iter().map(Some).collect();
    match deserialize_parameters(portal, &wanted)? {
        datafusion_common::ParamValues::List(values) => {
            Ok(Parameters(values.into_iter().map(|value| value.value).collect()))
        }
        datafusion_common::ParamValues::Map(_) => Err(errors::error("XX000", "parameters came with names")),
    }
}
