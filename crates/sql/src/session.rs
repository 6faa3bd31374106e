//! The DataFusion session that all statements are bound in, and binding itself.
//!
//! Queries that are maintained and queries that run once are bound by the same functions, types and
//! windows; only the optimizer's rules differ, because a dataflow cannot run what a batch can.

use crate::aliases::Aliases;
use crate::alike::{self, Beside, Written};
use crate::arithmetic;
use crate::arrays::{self, Arrays, Casts};
use crate::asof;
use crate::averages;
use crate::bounded;
use crate::close;
use crate::composites::Composites;
use crate::correlated;
use crate::correlation;
use crate::days;
use crate::dependencies::{DistinctRows, NeededColumns, Screens, SortKeys, unscreened};
use crate::deviations;
use crate::equal_nulls::{CrossJoins, JoinKeys};
use crate::error::{Error, Result};
use crate::exact::{Exact, FiltersDown, UntiedWindows, exact, optimizer_rules, physical_rules};
use crate::formats;
use crate::frames::{self, RangeKeys};
use crate::function::{self, ScalarFunction};
use crate::guards::{Guarded, Uncommon};
use crate::hidden;
use crate::ignored;
use crate::integers::{self, Integers};
use crate::interval_sums;
use crate::intervals::{self, Intervals};
use crate::jsonb::{self, Jsonb, Settled};
use crate::lateral;
use crate::lateral_joins;
use crate::lengths::Lengths;
use crate::matched::{self, Matched};
use crate::mentioned;
use crate::merged;
use crate::named;
use crate::numerals::{Lists, Numerals};
use crate::ordered_sets;
use crate::parameters::{self, Operands};
use crate::patterns;
use crate::positions;
use crate::present::{self, Presents};
use crate::printed::Joined;
use crate::ranks;
use crate::refusals;
use crate::repeated;
use crate::respell::{respelled, told_apart};
use crate::rounding::Rounding;
use crate::scalars;
use crate::series;
use crate::sets;
use crate::sql_function::{self, SqlFunction};
use crate::statement::{Query, Statement};
use crate::subquery;
use crate::titles::Titles;
use crate::type_of;
use crate::types::{self, Types};
use crate::whole_rows;
use crate::window::{self, Windows};
use crate::window_names;
use crate::zones::AtZone;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, TableReference, plan_datafusion_err, plan_err};
use datafusion::execution::SessionState;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, Volatility, WindowUDF,
    cast,
};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyExpressions};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// See [`Session::needed_rules`]. A join that knows of nulls takes an equality, so these are looked for.
const NEEDED_RULES: [&str; 9] = [
    "rewrite_set_comparison",
    "replace_distinct_aggregate",
    "decorrelate_predicate_subquery",
    "scalar_subquery_to_join",
    "decorrelate_lateral_join",
    "extract_equijoin_predicate",
    "untied_windows",
    "lengths",
    "uncommon",
];

/// Functions, types and rules; cheap to clone.
#[derive(Clone)]
pub struct Session {
    state: SessionState,
    types: Arc<dyn TypePlanner>,
    /// Those of the program.
    functions: Vec<Arc<ScalarUDF>>,
    /// Those of CREATE FUNCTION, by name; all clones have the same.
    declared: Arc<RwLock<Declared>>,
}

/// SQL functions as they are at one moment.
type Declared = Arc<BTreeMap<String, Arc<ScalarUDF>>>;

/// What is registered is too much to show.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("session_id", &self.state.session_id()).finish_non_exhaustive()
    }
}

/// The relations that a query may name.
#[derive(Clone, Default)]
pub struct Relations {
    sources: BTreeMap<String, Arc<dyn TableSource>>,
}

impl std::fmt::Debug for Relations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.sources.keys()).finish()
    }
}

impl Relations {
    /// A relation that only has columns, as a dataflow sees a source or a materialized view.
    pub fn stream(&mut self, name: &str, schema: SchemaRef) {
        self.stream_as(name, name, schema);
    }

    /// The same of a relation that the dataflow knows by another name, `kept`.
    pub fn stream_as(&mut self, name: &str, kept: &str, schema: SchemaRef) {
        self.insert(name, Arc::new(Stream::new(kept, schema)));
    }

    /// Leaves a relation only its first columns.
    ///
    /// # Errors
    /// `Plan` when it has not so many.
    pub fn narrow(&mut self, name: &str, width: usize) -> Result<()> {
        let Some(source) = self.sources.get(name) else { return Ok(()) };
        let plan = LogicalPlanBuilder::scan(TableReference::bare(name), Arc::clone(source), Some((0..width).collect()))
            .and_then(LogicalPlanBuilder::build)
            .map_err(|e| Error::Plan(Box::new(e)))?;
        self.view(name, plan);
        Ok(())
    }

    /// A relation that stands for a query.
    pub fn view(&mut self, name: &str, plan: LogicalPlan) {
        let schema = Arc::new(plan.schema().as_arrow().clone());
        self.insert(name, Arc::new(Inline { schema, plan }));
    }

    /// Whether a name stands for a query.
    pub(crate) fn is_view(&self, name: &str) -> bool {
        self.sources.get(name).is_some_and(|source| source.get_logical_plan().is_some())
    }

    /// A relation that can be read in batch.
    pub fn insert(&mut self, name: &str, source: Arc<dyn TableSource>) {
        self.sources.insert(name.to_owned(), source);
    }
}

/// See [`Relations::stream`].
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    schema: SchemaRef,
}

impl Stream {
    pub(crate) fn new(name: &str, schema: SchemaRef) -> Self {
        Self { name: name.to_owned(), schema }
    }
}

impl TableSource for Stream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// See [`Relations::view`].
struct Inline {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for Inline {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Session {
    /// A session whose batch queries run on `threads` partitions (0: one a core).
    ///
    /// # Panics
    /// When DataFusion refuses its own extension points, which is a broken invariant.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let config = config(threads);
        let types: Arc<dyn TypePlanner> = Arc::new(Types);
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_expr_planners(vec![
                // Others are to find numbers of their types.
                Arc::new(Integers),
                Arc::new(Operands),
                Arc::new(Numerals),
                Arc::new(Intervals),
                Arc::new(Jsonb),
                Arc::new(Arrays),
                Arc::new(Composites),
                Arc::new(Written),
                Arc::new(Matched),
            ])
            .with_analyzer_rule(Arc::new(Settled))
            .with_analyzer_rule(Arc::new(Exact))
            .with_optimizer_rules(optimizer_rules())
            .with_optimizer_rule(Arc::new(UntiedWindows))
            .with_optimizer_rule(Arc::new(Lengths))
            .with_optimizer_rule(Arc::new(Uncommon))
            .with_physical_optimizer_rules(physical_rules())
            .with_query_planner(Arc::new(Guarded))
            .with_default_features()
            .with_type_planner(Arc::clone(&types))
            .build();
        // The first one is asked last.
        state.register_relation_planner(Arc::new(Screens)).expect("a session takes planners");
        state.register_relation_planner(Arc::new(Windows)).expect("a session takes planners");
        state.register_relation_planner(Arc::new(Presents)).expect("a session takes planners");
        state.register_relation_planner(Arc::new(Titles)).expect("a session takes planners");
        // The last one is asked first.
        state.register_relation_planner(Arc::new(Aliases)).expect("a session takes planners");
        state.register_function_rewrite(Arc::new(PlainText)).expect("a session takes rewrites");
        state.register_function_rewrite(Arc::new(Composites)).expect("a session takes rewrites");
        alike::register(&mut state).expect("a session takes functions");
        bounded::register(&mut state).expect("a session takes functions");
        state.register_function_rewrite(Arc::new(Rounding)).expect("a session takes rewrites");
        state.register_function_rewrite(Arc::new(Lists)).expect("a session takes rewrites");
        state.register_function_rewrite(Arc::new(Joined)).expect("a session takes rewrites");
        state.register_function_rewrite(Arc::new(RangeKeys)).expect("a session takes rewrites");
        patterns::register(&mut state).expect("a session takes functions");
        intervals::register(&mut state).expect("a session takes functions");
        averages::register(&mut state).expect("a session takes functions");
        deviations::register(&mut state).expect("a session takes functions");
        // Of averages that there are.
        interval_sums::register(&mut state).expect("a session takes functions");
        ranks::register(&mut state).expect("a session takes functions");
        ordered_sets::register(&mut state).expect("a session takes functions");
        correlation::register(&mut state).expect("a session takes functions");
        scalars::register(&mut state).expect("a session takes functions");
        named::register(&mut state).expect("a session takes functions");
        formats::register(&mut state).expect("a session takes functions");
        arrays::register(&mut state).expect("a session takes functions");
        jsonb::register(&mut state).expect("a session takes functions");
        state.register_udf(Arc::new(AtZone::udf())).expect("a session takes functions");
        state.register_udf(Arc::new(type_of::udf())).expect("a session takes functions");
        Self { state, types, functions: Vec::new(), declared: Arc::default() }
    }

    /// Makes a program's function known.
    ///
    /// # Errors
    /// `Invalid` when its name is taken or means something else in SQL (42723), or its declaration
    /// cannot be used (42602, 42P13).
    pub fn add_function(&mut self, function: &Arc<dyn ScalarFunction>) -> Result<()> {
        let name = function.name();
        let refused = |message| Error::Invalid { sqlstate: "42723", message, position: None };
        let called = Arc::new(function::called(function)?);
        if self.knows_function(name) {
            return Err(refused(format!("function {name} exists already: give yours another name")));
        }
        self.state.register_udf(Arc::clone(&called)).map_err(|e| Error::Plan(Box::new(e)))?;
        self.functions.push(called);
        let nulls = vec!["NULL"; function.arguments().len()].join(", ");
        if self.calls(&format!("SELECT {name}({nulls})"), name) {
            return Ok(());
        }
        Err(refused(format!("{name} means something else in SQL: give the function another name")))
    }

    /// Makes a function of the database itself known.
    ///
    /// # Panics
    /// As [`Session::new`].
    pub fn add_built_in(&mut self, function: ScalarUDF) {
        self.state.register_udf(Arc::new(function)).expect("a session takes functions");
    }

    /// Makes an SQL function known, in the place of one of its name.
    pub fn declare(&self, function: SqlFunction) {
        let name = function.name().to_owned();
        self.change_declared(|declared| drop(declared.insert(name, Arc::new(ScalarUDF::from(function)))));
    }

    /// Forgets SQL functions.
    pub fn forget_functions(&self, names: &[String]) {
        self.change_declared(|declared| declared.retain(|name, _| !names.contains(name)));
    }

    fn change_declared(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<ScalarUDF>>)) {
        change(Arc::make_mut(&mut self.declared.write().unwrap_or_else(PoisonError::into_inner)));
    }

    fn declared(&self) -> Declared {
        Arc::clone(&self.declared.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a name is that of an SQL function.
    #[must_use]
    pub fn declares(&self, name: &str) -> bool {
        self.declared().contains_key(unqualified(name))
    }

    /// Whether the result of a scalar function depends on more than its arguments.
    pub(crate) fn is_changing(&self, name: &str) -> bool {
        let declared = self.declared();
        let known = declared.get(unqualified(name)).or_else(|| self.state.scalar_functions().get(name));
        known.is_some_and(|function| function.signature().volatility != Volatility::Immutable)
    }

    /// Whether a scalar, aggregate, window or table function has this name.
    pub(crate) fn knows_function(&self, name: &str) -> bool {
        let state = &self.state;
        state.scalar_functions().contains_key(name)
            || state.aggregate_functions().contains_key(name)
            || state.window_functions().contains_key(name)
            || state.higher_order_functions().contains_key(name)
            || state.table_functions().contains_key(name)
    }

    /// Whether a name is that of a function which is no aggregate or window function.
    pub(crate) fn is_scalar(&self, name: &str) -> bool {
        let state = &self.state;
        let is_scalar = state.scalar_functions().contains_key(name) || self.declares(name);
        is_scalar && !state.aggregate_functions().contains_key(name) && !state.window_functions().contains_key(name)
    }

    /// Whether a query is bound to a call of the function.
    fn calls(&self, text: &str, function: &str) -> bool {
        let Ok(Statement::Query(query)) = crate::parse(text) else { return false };
        let Ok(LogicalPlan::Projection(plan)) = self.bind(&query, &Relations::default()) else { return false };
        let is_call = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if call.func.name() == function);
        plan.expr.iter().any(is_call)
    }

    /// The program's functions.
    #[must_use]
    pub fn functions(&self) -> &[Arc<ScalarUDF>] {
        &self.functions
    }

    /// DataFusion's state, to run bound queries with.
    #[must_use]
    pub const fn state(&self) -> &SessionState {
        &self.state
    }

    /// The rules without which a query cannot be run, or would not be exact: for checks of all the others.
    #[must_use]
    pub fn needed_rules(&self) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
        self.state.optimizers().iter().filter(|rule| NEEDED_RULES.contains(&rule.name())).cloned().collect()
    }

    /// Binds a query's names and types; nothing is optimised.
    ///
    /// # Errors
    /// `Unknown`, `Invalid` and `Unsupported` with positions where DataFusion tells them.
    pub fn bind(&self, query: &Query, relations: &Relations) -> Result<LogicalPlan> {
        self.bind_with(query, relations, &[])
    }

    /// The same for a query with parameters `$1`, `$2`, ... of these types, where they are known.
    ///
    /// # Errors
    /// As [`Session::bind`].
    pub fn bind_with(
        &self,
        query: &Query,
        relations: &Relations,
        parameters: &[Option<DataType>],
    ) -> Result<LogicalPlan> {
        ignored::check(query, self)?;
        asof::check(query)?;
        window_names::check(query)?;
        let parameters: Vec<_> =
            parameters.iter().map(|p| p.as_ref().map(|p| Arc::new(Field::new("", p.clone(), true)))).collect();
        let declared = self.declared();
        let names = Names { session: self, relations, declared: &declared };
        let options = ParserOptions::from(&self.state.config_options().sql_parser);
        let planned = |mut ast: ast::Query| {
            integers::mark(&mut ast);
            let mut context = PlannerContext::new().with_prepare_param_data_types(parameters.clone());
            SqlToRel::new_with_options(&names, options)
                .sql_statement_to_plan_with_context(ast::Statement::Query(Box::new(ast)), &mut context)
                .and_then(unscreened)
        };
        let mut ast = respelled(&query.ast);
        let refused = merged::written_out(&mut ast, &|ast| planned(ast).ok().map(|plan| columns_of(&plan)));
        let mut plan = planned(ast.clone());
        while let Err(error) = &plan
            && whole_rows::written_out(&mut ast, error)
        {
            plan = planned(ast.clone());
        }
        let plan = match plan {
            Err(e) if Error::is_name_twice(&e) => {
                let apart = |ast| planned(told_apart(ast));
                merged::stars_written_out(&mut ast, &|ast| apart(ast).ok().map(|plan| columns_of(&plan)));
                repeated::check_orders(&ast, &query.text)?;
                apart(ast)
            }
            // DataFusion takes a place in ORDER BY for a column, which an expression over groups is not.
            Err(e) => positions::written_out(&mut ast, self).then(|| planned(ast)).and_then(Result::ok).ok_or(e),
            Ok(plan) => Ok(plan),
        };
        // A key of grouping sets that is given another type below them keeps its name.
        let plan = plan.and_then(|plan| matched::check(&plan).map(|()| plan)).and_then(sets::bound_of_columns);
        let plan = plan.and_then(alike::settled);
        let plan = plan.map_err(|e| refusals::refused(e, query, self))?;
        if let Some(refused) = refused {
            return Err(refused.error(&query.text));
        }
        let plan = if declared.is_empty() { plan } else { sql_function::inlined(plan, query)? };
        let plan = asof::expand(plan, &query.text)?;
        let plan = lateral::inlined(plan).and_then(hidden::in_order).map_err(|e| Error::of_planner(e, &query.text))?;
        let plan = correlated::settled(plan, query, self)?;
        jsonb::check(&plan, query).and_then(|()| parameters::check(&plan)).map_err(|e| mentioned::placed(e, query))?;
        frames::check(&plan, query)?;
        sets::check(&plan, query)?;
        ordered_sets::check(&plan, query, self)?;
        Ok(plan)
    }

    /// An expression without columns, computed as far as it can be before rows are there.
    ///
    /// # Errors
    /// `Plan` when computing it fails.
    pub fn evaluated(&self, expr: Expr) -> Result<Expr> {
        let schema: datafusion::common::DFSchemaRef = Arc::new(DFSchema::empty());
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&schema))
            .with_config_options(Arc::clone(self.state.config_options()))
            .with_current_time()
            .build();
        self.simplified(expr, &schema, &ExprSimplifier::new(context)).map_err(|e| Error::Plan(Box::new(e)))
    }

    /// A bound expression with its casts and types as a plan's analysis gives them, and simplified.
    fn simplified(&self, expr: Expr, schema: &DFSchema, simplifier: &ExprSimplifier) -> Result<Expr, DataFusionError> {
        let options = self.state.config_options();
        let written = expr.transform_up(|e| {
            let beside = Beside.rewrite(e, schema, options)?;
            let arrays = beside.transform_data(|e| Casts.rewrite(e, schema, options))?;
            let jsonb = arrays.transform_data(|e| jsonb::Casts.rewrite(e, schema, options))?;
            let rounded = jsonb.transform_data(|e| Rounding.rewrite(e, schema, options))?;
            let lists = rounded.transform_data(|e| Lists.rewrite(e, schema, options))?;
            lists.transform_data(|e| Joined.rewrite(e, schema, options))
        })?;
        let coerced = simplifier.coerce(written.data, schema)?;
        let settled = coerced.transform_up(|e| jsonb::settled(e, schema))?.data;
        simplifier.simplify(settled.transform_up(|e| exact(e, schema))?.data)
    }

    /// A bound expression over rows of these columns.
    pub(crate) fn physical_over(
        &self,
        expr: Expr,
        schema: &datafusion::common::DFSchemaRef,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(schema))
            .with_config_options(Arc::clone(self.state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let context = PhysicalPlanningContext::default();
        let made = self
            .simplified(expr, schema, &simplifier)
            .and_then(|expr| create_physical_expr(&expr, schema, self.state.execution_props(), &context));
        made.map_err(|e| Error::Plan(Box::new(e)))
    }

    /// The values of an expression without columns for so many rows, where they need not be the same.
    ///
    /// # Errors
    /// `Unsupported` when it reads rows, `Plan` when it cannot be computed.
    pub fn computed(&self, expr: &Expr, rows: usize) -> Result<ArrayRef> {
        let context = PhysicalPlanningContext::default();
        let made = create_physical_expr(expr, &DFSchema::empty(), self.state.execution_props(), &context);
        let made = made.map_err(|_| Error::unsupported(expr.to_string(), "it can be computed from rows only", None))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
            .map_err(DataFusionError::from)
            .and_then(|none| made.evaluate(&none)?.into_array(rows))
            .map_err(|error| match error.find_root() {
                DataFusionError::ArrowError(inner, _) if matches!(**inner, ArrowError::DivideByZero) => {
                    Error::Invalid { sqlstate: "22012", message: "division by zero".to_owned(), position: None }
                }
                _ => Error::Plan(Box::new(error)),
            })
    }

    /// A bound query as DataFusion can run it.
    ///
    /// # Errors
    /// `Plan` when a window cannot be expanded, or a subquery cannot be rewritten; `Unsupported` when it
    /// is one that goes by watermarks.
    pub fn runnable(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if close::is_in(&plan).map_err(|e| Error::Plan(Box::new(e)))? {
            let hint = "what the view holds depends on when its rows came";
            return Err(Error::unsupported("computing EMIT ON WINDOW CLOSE from scratch", hint, None));
        }
        let plan = window::expand(plan).map_err(|e| Error::Plan(Box::new(e)))?;
        let plan = series::streamed(plan, self).map_err(|e| Error::of_planner(e, ""))?;
        let plan = sets::of_columns(plan).and_then(days::counted).and_then(subquery::plain_distinct);
        let plan = plan.and_then(subquery::compared).and_then(subquery::exact);
        plan.map_err(|e| Error::of_planner(e, ""))
    }

    /// The columns that a bound query has when it is run, which may be of other types.
    ///
    /// # Errors
    /// Those of [`Session::runnable`], and `Plan` when types do not fit.
    pub fn columns_when_run(&self, plan: LogicalPlan) -> Result<SchemaRef> {
        let options = self.state.config_options();
        let plan = self.state.analyzer().execute_and_check(self.runnable(plan)?, options, |_, _| {});
        Ok(Arc::new(plan.map_err(|e| Error::Plan(Box::new(e)))?.schema().as_arrow().clone()))
    }

    /// A view's bound query as DataFusion can run it, for what the view holds.
    ///
    /// # Errors
    /// Those of [`Session::runnable`], and `Unsupported` when the query has temporal joins.
    pub fn recomputable(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if present::is_in(&plan).map_err(|e| Error::Plan(Box::new(e)))? {
            let hint = "what the view holds depends on when its rows came";
            return Err(Error::unsupported("computing FOR SYSTEM_TIME AS OF PROCTIME() from scratch", hint, None));
        }
        self.runnable(plan)
    }

    /// A bound query in the form that lowering takes: types coerced, expressions simplified,
    /// subqueries turned into joins, filters and projections pushed down, DISTINCT turned into
    /// GROUP BY. Rules that go by statistics, by the order of rows or by what is there now have no
    /// place here.
    pub(crate) fn for_stream(&self, plan: LogicalPlan, text: &str) -> Result<LogicalPlan> {
        let refused = |e| Error::of_planner(e, text);
        let mut options = ConfigOptions::clone(self.state.config_options());
        // A dataflow joins to the one row of a subquery without outer columns.
        options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        options.optimizer.max_passes = PASSES;
        let options = Arc::new(options);
        let plan = sets::of_columns(plan).and_then(subquery::plain_distinct).and_then(subquery::compared);
        let plan = plan.map_err(refused)?;
        let plan = self.state.analyzer().execute_and_check(plan, &options, |_, _| {}).map_err(refused)?;
        subquery::check(&plan)?;
        let plan = subquery::exact(plan).map_err(refused)?;
        let rules = stream_rules(present::is_in(&plan).map_err(refused)?);
        lateral_joins::optimized(rules, plan, &options).map_err(refused)
    }
}

/// What DataFusion does otherwise by itself.
fn config(threads: usize) -> SessionConfig {
    let mut config = SessionConfig::new();
    if threads > 0 {
        config = config.with_target_partitions(threads);
    }
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    // What is null nowhere is told by some rules and not by others: types are the same.
    options.execution.skip_physical_aggregate_schema_check = true;
    options.execution.parquet.schema_force_view_types = false;
    // Its groups are told apart by ==, to which a NaN is never the same group.
    options.optimizer.enable_topk_aggregation = false;
    config
}

/// How often the rules are tried: a subquery in a subquery takes one more.
const PASSES: usize = 8;

/// `is_ordered` says that which joins come first matters: so it is with temporal ones.
fn stream_rules(is_ordered: bool) -> Optimizer {
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(DistinctRows::default()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(JoinKeys::default()),
        Arc::new(SortKeys::default()),
    ];
    if !is_ordered {
        rules.push(Arc::new(CrossJoins::default()));
    }
    rules.push(Arc::new(EliminateOuterJoin::new()));
    rules.push(Arc::new(FiltersDown::default()));
    rules.push(Arc::new(NeededColumns::default()));
    Optimizer::with_rules(rules)
}

/// The columns of a bound query, with their relations.
fn columns_of(plan: &LogicalPlan) -> Vec<(Option<String>, String)> {
    let named = |(relation, field): (Option<&TableReference>, &Arc<Field>)| {
        (relation.map(|relation| relation.table().to_owned()), field.name().clone())
    };
    plan.schema().iter().map(named).collect()
}

/// A bound query whose columns have types that PostgreSQL has, as those of a view: `row_number()` is a bigint.
///
/// # Errors
/// `Plan` when a column cannot be cast, which is a broken invariant.
pub fn plain(plan: LogicalPlan) -> Result<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    if schema.fields().iter().all(|field| types::plain(field.data_type()).is_none()) {
        return Ok(plan);
    }
    let shown = |(relation, field): (Option<&TableReference>, &Arc<Field>)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        match types::plain(field.data_type()) {
            Some(plain) => cast(column, plain).alias_qualified(relation.cloned(), field.name()),
            None => column,
        }
    };
    let expressions: Vec<Expr> = schema.iter().map(shown).collect();
    LogicalPlanBuilder::from(plan)
        .project(expressions)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|e| Error::Plan(Box::new(e)))
}

/// A query that says EMIT ON WINDOW CLOSE; only a dataflow can run it.
#[must_use]
pub fn on_close(plan: LogicalPlan) -> LogicalPlan {
    close::on_close(plan)
}

/// A view's columns as others see them: nullable, without qualifiers.
#[must_use]
pub fn view_schema(schema: &DFSchema) -> SchemaRef {
    let field = |f: &Arc<Field>| Field::new(f.name(), f.data_type().clone(), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// Functions that give Arrow's string views are cast, so that there is one type of text.
#[derive(Debug)]
struct PlainText;

impl FunctionRewrite for PlainText {
    fn name(&self) -> &'static str {
        "plain_text"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>, DataFusionError> {
        let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
        let plain = match arithmetic::type_of(&expr, schema)? {
            DataType::Utf8View => DataType::Utf8,
            DataType::LargeUtf8 if !jsonb::gives_jsonb(call, schema) => DataType::Utf8,
            DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
            _ => return Ok(Transformed::no(expr)),
        };
        Ok(Transformed::yes(cast(expr, plain)))
    }
}

/// What SqlToRel asks while it binds.
struct Names<'a> {
    session: &'a Session,
    relations: &'a Relations,
    declared: &'a Declared,
}

/// A function's name without the one schema that there is.
fn unqualified(name: &str) -> &str {
    name.strip_prefix("public.").unwrap_or(name)
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>, DataFusionError> {
        let known = match name.schema() {
            None | Some("public") => self.relations.sources.get(name.table()),
            Some(_) => None,
        };
        known.cloned().ok_or_else(|| plan_datafusion_err!("table '{name}' not found"))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.session.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.session.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.session.types))
    }

    /// DataFusion's own are not SQL's: what gives rows here has been given another spelling.
    fn get_table_function_source(&self, name: &str, _: Vec<Expr>) -> Result<Arc<dyn TableSource>, DataFusionError> {
        plan_err!("table function '{name}' not found")
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == asof::MARK {
            return Some(asof::marker());
        }
        if let Some(declared) = self.declared.get(unqualified(name)) {
            return Some(Arc::clone(declared));
        }
        self.session.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.session.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.session.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.session.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.session.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.session.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.session.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.session.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.session.state.window_functions().keys().cloned().collect()
    }
}
