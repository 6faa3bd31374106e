//! Queries over the system's own relations: `hw_catalog`, `pg_catalog` and `information_schema`.
//!
//! They are planned apart from other queries, over relations made for the moment: what clients ask
//! the catalog of PostgreSQL is rewritten for DataFusion by the crate datafusion-pg-catalog, and must
//! not change how other queries are read. One query reads either the system's relations or others.

use crate::answer::{Answer, RowStream};
use crate::catalog::Kind;
use crate::connection::{Connection, SERVER_VERSION, invalid};
use crate::database::Database;
use crate::error::Result;
use crate::hw_catalog;
use crate::parameters::Parameters;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::{DataFusionError, ParamValues, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{ColumnarValue, Expr, TableType, Volatility, create_udf};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use highwater_sql::statement::Query;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The one database's name in catalogs; clients may connect to any.
const DATABASE: &str = "highwater";

impl Database {
    /// Whether a query reads the system's own relations, or none and asks about the session.
    pub(crate) fn is_system(&self, query: &Query) -> bool {
        let mut found = Found::default();
        let _: ControlFlow<()> = ast::Visit::visit(query.ast.as_ref(), &mut found);
        if found.system {
            return true;
        }
        let state = self.state();
        let is_ours = |name: &String| state.objects.get(name).is_some();
        found.bare.iter().any(|name| name.starts_with("pg_") && !is_ours(name))
            || (found.bare.is_empty() && !found.qualified && found.asks)
    }

    /// Answers a query that reads the system's own relations; none when it does not.
    pub(crate) async fn system_query(
        &self,
        connection: &Connection,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Option<Answer>> {
        if !self.is_system(query) {
            return Ok(None);
        }
        let context = self.system_context(connection)?;
        let text = query.text.trim().trim_end_matches(';');
        let parser = PostgresCompatibilityParser::new();
        let parsed = parser.parse(text).map_err(|error| invalid("42601", error.to_string(), None))?;
        let Some(statement) = parsed.into_iter().next() else { return Ok(None) };
        let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
        let refused = |error: DataFusionError| highwater_sql::Error::of_planner(error, &query.text);
        let state = context.state();
        let mut plan = state.statement_to_plan(statement).await.map_err(refused)?;
        if !parameters.0.is_empty() {
            plan = plan.replace_params_with_values(&ParamValues::from(parameters.0.clone()))?;
        }
        let frame = context.execute_logical_plan(plan).await.map_err(refused)?;
        Ok(Some(Answer::streamed(RowStream::new(frame.execute_stream().await?))))
    }

    fn system_context(&self, connection: &Connection) -> Result<SessionContext> {
        let context = empty_context();
        let catalog = context.catalog(DATABASE).ok_or_else(|| invalid("XX000", "no catalog", None))?;
        let (relations, views) = self.relations_shown();
        *self.system.relations.write().unwrap_or_else(PoisonError::into_inner) = relations;
        catalog.register_schema("public", Arc::new(Relations(Arc::clone(&self.system.relations))))?;
        let ours = MemorySchemaProvider::new();
        for (name, table) in hw_catalog::tables(self, connection)? {
            ours.register_table(name.to_owned(), table)?;
        }
        catalog.register_schema("hw_catalog", Arc::new(ours))?;
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
        let inner = Arc::clone(&self.system.pg_catalog);
        catalog.register_schema("pg_catalog", Arc::new(WithMaterialized { inner, views }))?;
        for (name, value) in [
            ("version", format!("PostgreSQL {SERVER_VERSION}, a streaming SQL database")),
            ("current_user", connection.user().to_owned()),
            ("user", connection.user().to_owned()),
            ("current_role", connection.user().to_owned()),
            ("session_user", connection.user().to_owned()),
            ("inet_server_addr", "127.0.0.1".to_owned()),
        ] {
            context.register_udf(constant(name, value));
        }
        for function in self.session.functions() {
            context.register_udf(function.as_ref().clone());
        }
        Ok(context)
    }

    /// All objects with columns that clients may read, and which of them are materialized views.
    fn relations_shown(&self) -> (BTreeMap<String, Arc<Shown>>, Vec<String>) {
        let state = self.state();
        let shown = state.objects.iter().filter(|object| object.entry.kind != Kind::Sink);
        let relations = shown
            .map(|object| {
                let is_view = matches!(object.entry.kind, Kind::View | Kind::MaterializedView);
                let table = Shown { schema: Arc::clone(&object.schema), is_view };
                (object.name().to_owned(), Arc::new(table))
            })
            .collect();
        (relations, state.objects.names(Kind::MaterializedView))
    }
}

type Listed = Arc<RwLock<BTreeMap<String, Arc<Shown>>>>;

/// What stays the same from one query to the next: the numbers by which PostgreSQL's catalog knows
/// relations.
pub(crate) struct System {
    pg_catalog: Arc<dyn SchemaProvider>,
    relations: Listed,
}

impl System {
    pub(crate) fn new() -> Result<Self> {
        let context = empty_context();
        let relations = Listed::default();
        let missing = || invalid("XX000", "no catalog", None);
        let catalog = context.catalog(DATABASE).ok_or_else(missing)?;
        catalog.register_schema("public", Arc::new(Relations(Arc::clone(&relations))))?;
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
        Ok(Self { pg_catalog: catalog.schema("pg_catalog").ok_or_else(missing)?, relations })
    }
}

fn empty_context() -> SessionContext {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(DATABASE, "public")
        .with_information_schema(true)
        .with_target_partitions(1);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    SessionContext::new_with_config(config)
}

/// What a query names.
#[derive(Default)]
struct Found {
    system: bool,
    qualified: bool,
    bare: Vec<String>,
    /// It calls something that only the system's side knows.
    asks: bool,
}

impl ast::Visitor for Found {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ast::ObjectName) -> ControlFlow<()> {
        let parts: Vec<String> = name.0.iter().map(|part| part.to_string().replace('"', "").to_lowercase()).collect();
        match parts.as_slice() {
            [name] => self.bare.push(name.clone()),
            [.., schema, _] => {
                self.qualified = true;
                self.system |= matches!(schema.as_str(), "pg_catalog" | "information_schema" | "hw_catalog");
            }
            [] => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        let name = match expr {
            ast::Expr::Function(function) => function.name.0.last().map(|part| part.to_string().to_lowercase()),
            ast::Expr::Identifier(ident) if ident.quote_style.is_none() => Some(ident.value.to_lowercase()),
            _ => None,
        };
        self.asks |= name.is_some_and(|name| is_about_session(&name));
        ControlFlow::Continue(())
    }
}

/// What only the system's side knows, asked without reading a relation.
const ASKED: [&str; 16] = [
    "version",
    "current_schema",
    "current_schemas",
    "current_database",
    "current_user",
    "current_role",
    "current_catalog",
    "session_user",
    "user",
    "pg_backend_pid",
    "pg_get_userbyid",
    "pg_encoding_to_char",
    "has_table_privilege",
    "has_schema_privilege",
    "has_database_privilege",
    "format_type",
];

/// Whether a name asks about the session or the system, whatever functions there are.
pub(crate) fn is_about_session(name: &str) -> bool {
    ASKED.contains(&name)
}

fn constant(name: &str, value: String) -> datafusion::logical_expr::ScalarUDF {
    let give = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.clone()))));
    create_udf(name, Vec::new(), DataType::Utf8, Volatility::Stable, Arc::new(give))
}

/// The objects of the database, as catalogs list them.
#[derive(Debug)]
struct Relations(Listed);

impl Relations {
    fn all(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Shown>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SchemaProvider for Relations {
    fn table_names(&self) -> Vec<String> {
        self.all().keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> datafusion::common::Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.all().get(name).map(|table| Arc::clone(table) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.all().contains_key(name)
    }
}

/// An object that is listed and cannot be read together with the system's relations.
#[derive(Debug)]
struct Shown {
    schema: SchemaRef,
    is_view: bool,
}

#[async_trait]
impl TableProvider for Shown {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        if self.is_view { TableType::View } else { TableType::Base }
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::NotImplemented("one query over the system's relations and others".to_owned()))
    }
}

/// PostgreSQL's catalog in which materialized views are what they are.
#[derive(Debug)]
struct WithMaterialized {
    inner: Arc<dyn SchemaProvider>,
    views: Vec<String>,
}

#[async_trait]
impl SchemaProvider for WithMaterialized {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> datafusion::common::Result<Option<Arc<dyn TableProvider>>> {
        let table = self.inner.table(name).await?;
        match table {
            Some(table) if name.eq_ignore_ascii_case("pg_class") => {
                let context = SessionContext::new();
                let batches = context.read_table(table)?.collect().await?;
                let batches = batches.into_iter().map(|batch| mark(&batch, &self.views)).collect::<Result<_, _>>()?;
                memory(batches).map(Some)
            }
            table => Ok(table),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
    }
}

fn memory(batches: Vec<RecordBatch>) -> datafusion::common::Result<Arc<dyn TableProvider>> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    Ok(Arc::new(MemTable::try_new(schema, vec![batches])?))
}

/// `relkind` of materialized views is `m`.
fn mark(batch: &RecordBatch, views: &[String]) -> datafusion::common::Result<RecordBatch> {
    let (Ok(names), Ok(kinds)) = (batch.schema().index_of("relname"), batch.schema().index_of("relkind")) else {
        return Ok(batch.clone());
    };
    let text = |at: usize| arrow::compute::cast(batch.column(at), &DataType::Utf8);
    let (names_text, kinds_text) = (text(names)?, text(kinds)?);
    let (names_text, kinds_text) =
        (arrow::array::AsArray::as_string::<i32>(&names_text), arrow::array::AsArray::as_string::<i32>(&kinds_text));
    let marked: StringArray = names_text
        .iter()
        .zip(kinds_text)
        .map(|(name, kind)| match (name, kind) {
            (Some(name), Some("v")) if views.iter().any(|view| view == name) => Some("m"),
            (_, kind) => kind,
        })
        .collect();
    let marked: ArrayRef = arrow::compute::cast(&marked, batch.column(kinds).data_type())?;
    let mut columns = batch.columns().to_vec();
    columns[kinds] = marked;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}
