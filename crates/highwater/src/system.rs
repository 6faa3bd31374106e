//! Queries over the system's own relations: `hw_catalog`, `pg_catalog` and `information_schema`.
//!
//! They are planned apart from other queries, over relations made for the moment: what clients ask
//! the catalog of PostgreSQL is rewritten for DataFusion by the crate datafusion-pg-catalog, and must
//! not change how other queries are read. One query reads either the system's relations or others. It
//! is computed where other queries are; what relations are made of is gathered before, and what reads
//! the store or views for it lets other tasks go on.

use crate::answer::{Answer, RowStream};
use crate::catalog_queries;
use crate::connection::{Connection, invalid};
use crate::database::Database;
use crate::error::Result;
use crate::functions;
use crate::hw_catalog;
use crate::information_schema::{self, InformationSchema};
use crate::objects::{Body, Object};
use crate::parameters::Parameters;
use crate::pg_catalog::{PgCatalog, Relations};
use crate::pg_functions;
use crate::sessions;
use crate::set_config::{self, Changes};
use crate::sleep;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::{DataFusionError, ParamValues};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry as _, SessionState};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use highwater_sql::physical_rules;
use highwater_sql::statement::{Characters, CreateTable, Query};
use highwater_sql::{type_of, walk_query};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The one database's name in catalogs; clients may connect to any.
pub(crate) const DATABASE: &str = "highwater";

impl Database {
    /// Whether a query reads the system's own relations, or none and asks about the session.
    pub(crate) fn is_system(&self, query: &Query) -> bool {
        let mut found = Found::default();
        let _: ControlFlow<()> = walk_query(&query.ast, &mut found);
        if found.system {
            return true;
        }
        let state = self.state();
        let is_ours = |name: &String| state.objects.get(name).is_some();
        found.bare.iter().any(|name| name.starts_with("pg_") && !is_ours(name))
            || (found.bare.is_empty() && !found.qualified && found.asks)
    }

    /// Answers a query that reads the system's own relations; none when it does not. The settings that it
    /// changes are noted.
    pub(crate) async fn system_query(
        &self,
        connection: &Connection,
        query: &Query,
        parameters: &Parameters,
        changes: &Changes,
    ) -> Result<Option<Answer>> {
        let Some((plan, state)) = self.system_plan(connection, query, parameters, changes).await? else {
            return Ok(None);
        };
        Ok(Some(Answer::streamed(RowStream::new(self.computed(plan, self.task(&state))))))
    }

    /// The plan of such a query: its functions have done nothing yet.
    pub(crate) async fn system_plan(
        &self,
        connection: &Connection,
        query: &Query,
        parameters: &Parameters,
        changes: &Changes,
    ) -> Result<Option<(Arc<dyn ExecutionPlan>, SessionState)>> {
        if !self.is_system(query) {
            return Ok(None);
        }
        let context = self.system_context(connection, &query.text).await?;
        context.register_udf(changes.udf());
        let text = catalog_queries::runnable(query.text.trim().trim_end_matches(';'));
        let parser = PostgresCompatibilityParser::new();
        let parsed = parser.parse(&text).map_err(|error| invalid("42601", error.to_string(), None))?;
        let Some(mut statement) = parsed.into_iter().next() else { return Ok(None) };
        highwater_sql::group_operands(&mut statement);
        catalog_queries::simplify(&mut statement);
        // `current_user` and `session_user` are one function.
        highwater_sql::name_repeated(&mut statement);
        let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
        let refused = |error: DataFusionError| highwater_sql::Error::of_planner(error, &query.text);
        let state = context.state();
        let mut plan = state.statement_to_plan(statement).await.map_err(refused)?;
        if !parameters.0.is_empty() {
            plan = plan.replace_params_with_values(&ParamValues::from(parameters.0.clone()))?;
        }
        let physical = state.create_physical_plan(&plan).await?;
        Ok(Some((physical, state)))
    }

    async fn system_context(&self, connection: &Connection, text: &str) -> Result<SessionContext> {
        let context = empty_context();
        let catalog = context.catalog(DATABASE).ok_or_else(|| invalid("XX000", "no catalog", None))?;
        let relations = self.relations_shown();
        *self.system.relations.write().unwrap_or_else(PoisonError::into_inner) = relations.clone();
        let ours = MemorySchemaProvider::new();
        for (name, table) in hw_catalog::tables(self, connection, text)? {
            ours.register_table(name.to_owned(), table)?;
        }
        catalog.register_schema("hw_catalog", Arc::new(ours))?;
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
        let shown = relations.clone();
        let (inner, functions) = (Arc::clone(&self.system.pg_catalog), functions::told(self));
        let pg_catalog = PgCatalog::new(inner, relations, connection, functions, &self.sessions).await?;
        let definitions = pg_catalog.definitions();
        let names = shown.keys().cloned().collect();
        let pg_catalog: Arc<dyn SchemaProvider> = Arc::new(pg_catalog);
        catalog.register_schema("pg_catalog", Arc::clone(&pg_catalog))?;
        let public = Public { listed: Arc::clone(&self.system.relations), pg_catalog: Some(pg_catalog) };
        catalog.register_schema("public", Arc::new(public))?;
        // It has a list of its own, as the catalog's would have itself.
        let information = InformationSchema::over(catalog.as_ref(), shown)?;
        catalog.register_schema(information_schema::NAME, Arc::new(information))?;
        let array_to_string = context.udf("array_to_string")?;
        for function in pg_functions::functions(connection, definitions, names, array_to_string) {
            context.register_udf(function);
        }
        for function in [type_of::udf(), sleep::udf()].into_iter().chain(sessions::functions(self, connection)) {
            context.register_udf(function);
        }
        for function in self.session.functions() {
            context.register_udf(function.as_ref().clone());
        }
        Ok(context)
    }

    /// All objects with columns that clients may read.
    fn relations_shown(&self) -> Relations {
        let state = self.state();
        let shown = state.objects.iter().filter_map(|object| Some((object.name().to_owned(), shown(object)?)));
        let mut shown: BTreeMap<String, Shown> = shown.collect();
        for object in state.objects.iter() {
            let Body::Index(index) = &object.body else { continue };
            let Some(on) = shown.get_mut(&index.on.value) else { continue };
            let key = index.columns.iter().filter_map(|name| on.schema.index_of(&name.value).ok()).collect();
            on.indexes.push(ShownIndex { id: object.entry.id, name: object.name().to_owned(), key });
        }
        shown.into_iter().map(|(name, shown)| (name, Arc::new(shown))).collect()
    }
}

/// How catalogs show an object; none for indexes, which they show with what they are over, and for sinks
/// and subscriptions, which cannot be read.
fn shown(object: &Object) -> Option<Shown> {
    let schema = Arc::clone(&object.schema);
    let (kind, query) = match &object.body {
        Body::Table(target) => return Some(shown_table(schema, &target.statement)),
        Body::Fed(fed) => return Some(shown_table(schema, &fed.statement)),
        Body::Source(..) => ("r", None),
        Body::View(view) => ("v", Some(&view.query)),
        Body::Materialized(view) => ("m", Some(&view.query)),
        Body::Index(_) | Body::Sink(_) | Body::Subscription(_) => return None,
    };
    let definition = query.map(|query| query.ast.to_string());
    let (columns, characters) = (Vec::new(), Vec::new());
    Some(Shown { schema, kind, key: Vec::new(), indexes: Vec::new(), columns, characters, definition })
}

fn shown_table(schema: SchemaRef, table: &CreateTable) -> Shown {
    let key = table.key.iter().filter_map(|name| schema.index_of(&name.value).ok()).collect();
    let columns = table.columns.iter();
    let mut columns: Vec<_> =
        columns.map(|c| (c.column.not_null, c.default.as_ref().map(ToString::to_string))).collect();
    // Those of INCLUDE.
    columns.resize(schema.fields().len(), (false, None));
    let characters = table.columns.iter().map(|column| column.characters).collect();
    Shown { schema, kind: "r", key, indexes: Vec::new(), columns, characters, definition: None }
}

type Listed = Arc<RwLock<Relations>>;

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
        let public = Public { listed: Arc::clone(&relations), pg_catalog: None };
        catalog.register_schema("public", Arc::new(public))?;
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
        Ok(Self { pg_catalog: catalog.schema("pg_catalog").ok_or_else(missing)?, relations })
    }
}

fn empty_context() -> SessionContext {
    let mut config = SessionConfig::new().with_default_catalog_and_schema(DATABASE, "public").with_target_partitions(1);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    // Queries over catalogs join relations with themselves, too.
    let state = SessionStateBuilder::new().with_config(config).with_physical_optimizer_rules(physical_rules());
    SessionContext::new_with_state(state.with_default_features().build())
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
            // Types that only catalogs know: 'orders'::regclass.
            ast::Expr::Cast { data_type, .. } => {
                let data_type = data_type.to_string().to_lowercase();
                self.asks |= data_type.starts_with("reg") || data_type.starts_with("pg_catalog.") || data_type == "oid";
                None
            }
            _ => None,
        };
        self.asks |= name.is_some_and(|name| is_about_session(&name));
        ControlFlow::Continue(())
    }
}

/// What only the system's side knows, asked without reading a relation.
const ASKED: [&str; 21] = [
    "col_description",
    "current_catalog",
    "current_database",
    "current_role",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_user",
    "format_type",
    "getdatabaseencoding",
    "has_database_privilege",
    "has_schema_privilege",
    "has_table_privilege",
    "inet_server_addr",
    "obj_description",
    "session_user",
    set_config::NAME,
    "to_regclass",
    "to_regtype",
    "user",
    "version",
];

/// Functions that every query knows, whatever they are called.
const OF_ALL: [&str; 2] = [type_of::NAME, sleep::NAME];

/// Whether a name asks about the session or the system, whatever functions there are.
pub(crate) fn is_about_session(name: &str) -> bool {
    name.starts_with("pg_") && !OF_ALL.contains(&name) || ASKED.contains(&name)
}

/// The objects of the database, as catalogs list them. What is none of them may be PostgreSQL's.
#[derive(Debug)]
struct Public {
    listed: Listed,
    pg_catalog: Option<Arc<dyn SchemaProvider>>,
}

impl Public {
    fn all(&self) -> RwLockReadGuard<'_, Relations> {
        self.listed.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        self.all().keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> datafusion::common::Result<Option<Arc<dyn TableProvider>>> {
        let found = self.all().get(name).map(|shown| Arc::clone(shown) as Arc<dyn TableProvider>);
        match (found, &self.pg_catalog) {
            (None, Some(pg_catalog)) => pg_catalog.table(name).await,
            (found, _) => Ok(found),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.all().contains_key(name)
    }
}

/// An index of a relation.
#[derive(Debug)]
pub(crate) struct ShownIndex {
    /// Its object's number.
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The places of its columns, in its order.
    pub(crate) key: Vec<usize>,
}

/// An object that is listed and cannot be read together with the system's relations.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) schema: SchemaRef,
    /// `r`, `v` or `m`, as in `pg_class`.
    pub(crate) kind: &'static str,
    /// The places of the primary key's columns, in its order.
    pub(crate) key: Vec<usize>,
    /// Those of CREATE INDEX.
    pub(crate) indexes: Vec<ShownIndex>,
    /// By column of a table: whether it takes no nulls, and its default.
    pub(crate) columns: Vec<(bool, Option<String>)>,
    /// By column of a table: how many characters its texts have at most.
    pub(crate) characters: Vec<Option<Characters>>,
    /// A view's query.
    pub(crate) definition: Option<String>,
}

#[async_trait]
impl TableProvider for Shown {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        if self.kind == "r" { TableType::Base } else { TableType::View }
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
