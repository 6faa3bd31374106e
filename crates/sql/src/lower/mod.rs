//! Bound queries to the engine's plan: one pipeline's views and sinks become one graph of operators.
//!
//! Each kind of node has a file here that adds its part to a `Flow`; what has several inputs
//! settles each of them to a node first. Names of operators are made from the view's name and what
//! the operator does, so they are the same whatever else is created, dropped or restarted.
//! It knows no connectors: sources and sinks come from the caller.

mod aggregate;
mod closing;
mod composed;
mod compute;
mod fed;
mod first;
mod flow;
mod grouping;
mod hop;
mod identity;
mod join;
pub(crate) mod keys;
mod lifetime;
mod limit;
mod not_null;
mod over;
mod passing;
mod places;
mod regroup;
mod scan;
mod sessions;
mod stable;
pub(crate) mod ties;
mod union;
mod unnest;
mod values;

use crate::close;
use crate::error::{Error, Kind, Result};
use crate::maintain;
use crate::naming::{self, Naming};
use crate::present;
use crate::session::{self, Relations, Session};
use crate::session_window;
use crate::statement::{Name, Query};
use crate::temporal;
use crate::text::Position;
use crate::types::pg_name;
use crate::window;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Distinct, Expr, Filter, LogicalPlan, Projection};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
pub use fed::{FedTable, errors_name};
use flow::Flow;
use highwater_engine::changes::ChangeSource;
use highwater_engine::plan::{Index, JoinKind, Node, NodeId, OnError, Operator, Plan, View, Watermark};
use highwater_engine::sink::Sink;
use highwater_engine::source::Source;
use passing::Carried;
pub use places::subquery_at;
pub use scan::source_name;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;

/// How queries become operators. What was made is planned for ever as it was then, so that its operators find what
/// is kept for them: each way has a number, and the newest is that of what is made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planning(pub u32);

impl Planning {
    /// The first that takes aggregates for what follows from others that are kept incrementally.
    pub const COMPOSED: Self = Self(1);
    /// That of what is made now.
    pub const NEWEST: Self = Self::COMPOSED;
}

/// Makes the plan of one pipeline, view by view in the order of their creation.
#[derive(Debug)]
pub struct Builder<'a> {
    session: &'a Session,
    plan: Plan,
    sources: BTreeMap<String, Arc<dyn Source>>,
    changes: BTreeMap<String, Arc<dyn ChangeSource>>,
    fed: BTreeMap<String, FedTable>,
    incarnations: BTreeMap<String, u64>,
    plannings: BTreeMap<String, Planning>,
    policies: BTreeMap<String, OnError>,
    /// Of sources and tables.
    watermarks: BTreeMap<String, Watermark>,
    /// By node, what its columns carry.
    carried: Vec<Vec<Carried>>,
    /// Where the query at hand says EMIT ON WINDOW CLOSE.
    closes: Option<Position>,
    /// The statement at hand.
    text: String,
    /// The view or sink that the pipeline was made for.
    first: Option<String>,
    /// Where the nodes of the query at hand begin.
    begun: usize,
    /// The names that nodes would have that are another one: no others get them, so that a name stays what it was
    /// for.
    spare: BTreeSet<String>,
    /// How later views read the rows of a view, and how what one view reads twice is read again.
    taps: BTreeMap<String, Flow>,
}

/// A query to maintain.
#[derive(Clone, Copy, Debug)]
pub struct Maintained<'a> {
    /// The view or sink it is for.
    pub name: &'a str,
    /// How its columns are called.
    pub columns: Naming<'a>,
    /// What it reads and how.
    pub query: &'a Query,
    /// What the query's names stand for: sources and materialized views as streams.
    pub relations: &'a Relations,
    /// Where EMIT ON WINDOW CLOSE stands, if it does.
    pub closes: Option<Position>,
}

/// Binds a query that is to be maintained and brings it to the form that is lowered, which is most of the work of
/// planning it.
///
/// # Errors
/// Those of [`Builder::view`], but for what only lowering refuses.
pub fn tried(session: &Session, query: Maintained<'_>) -> Result<()> {
    Builder::new(session).bind(query).map(drop)
}

impl<'a> Builder<'a> {
    /// An empty pipeline.
    #[must_use]
    pub fn new(session: &'a Session) -> Self {
        Self {
            session,
            plan: Plan::default(),
            sources: BTreeMap::new(),
            changes: BTreeMap::new(),
            fed: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            plannings: BTreeMap::new(),
            policies: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            carried: Vec::new(),
            closes: None,
            text: String::new(),
            first: None,
            begun: 0,
            spare: BTreeSet::new(),
            taps: BTreeMap::new(),
        }
    }

    /// Which object of a name the nodes made for it belong to; the first one unless this says otherwise.
    pub fn incarnation(&mut self, name: &str, incarnation: u64) {
        self.incarnations.insert(name.to_owned(), incarnation);
    }

    /// How the query of an object becomes operators; the newest way unless this says otherwise.
    pub fn planning(&mut self, name: &str, planning: Planning) {
        self.plannings.insert(name.to_owned(), planning);
    }

    /// What the nodes made for an object do with rows for which their expressions cannot be computed; the
    /// pipeline fails unless this says otherwise.
    pub fn on_error(&mut self, name: &str, on_error: OnError) {
        self.policies.insert(name.to_owned(), on_error);
    }

    fn policy(&self, name: &str) -> OnError {
        self.policies.get(name).copied().unwrap_or_default()
    }

    fn is_planned_as(&self, owner: &str, planning: Planning) -> bool {
        self.plannings.get(owner).is_none_or(|known| *known >= planning)
    }

    /// Makes a table known; it becomes a node when a view reads it.
    pub fn table(&mut self, name: &str, source: Arc<dyn ChangeSource>) {
        self.changes.insert(name.to_owned(), source);
    }

    /// Makes a source known; it becomes a node when a view reads it.
    pub fn source(&mut self, name: &str, source: Arc<dyn Source>) {
        self.sources.insert(name.to_owned(), source);
    }

    /// Makes the watermark of a source or table known, which then keeps the views that read it from
    /// late rows.
    pub fn watermark(&mut self, name: &str, watermark: Watermark) {
        self.watermarks.insert(name.to_owned(), watermark);
    }

    /// Adds a materialized view and returns its columns.
    ///
    /// # Errors
    /// `Unsupported` for what cannot be maintained, and those of binding.
    pub fn view(&mut self, view: Maintained<'_>) -> Result<SchemaRef> {
        self.kept(view).map_err(|error| places::placed(error, &view))
    }

    fn kept(&mut self, view: Maintained<'_>) -> Result<SchemaRef> {
        let plan = self.bind(view)?;
        let schema = session::view_schema(plan.schema());
        let mut flow = self.lower(&plan, view.name)?.named(&schema);
        if !self.keeps_rows(flow.node) {
            let input = self.settle(flow, view.name);
            let node = self.add(view.name, "materialize", vec![input], Operator::Materialize, &schema);
            flow = Flow::whole(node, &schema);
        }
        let on_error = self.policy(view.name);
        self.plan.views.push(View {
            name: view.name.to_owned(),
            node: flow.node,
            finish: flow.as_map(&self.plan.nodes[flow.node.0].schema),
            schema: Arc::clone(&schema),
            on_error,
        });
        self.taps.insert(view.name.to_owned(), flow);
        Ok(schema)
    }

    /// Adds an index over a query's rows, by some of its columns.
    ///
    /// # Errors
    /// Those of [`Builder::view`], and `Unknown` for a column that the query does not give.
    pub fn index(&mut self, index: Maintained<'_>, by: &[Name]) -> Result<()> {
        let plan = self.bind(index)?;
        let schema = session::view_schema(plan.schema());
        let place = |Name { value, at }: &Name| {
            let unknown = |_| Error::Unknown { kind: Kind::Column, name: value.clone(), position: Some(*at) };
            schema.index_of(value).map_err(unknown)
        };
        let keys: Vec<usize> = by.iter().map(place).collect::<Result<_>>()?;
        let flow = self.lower(&plan, index.name)?.named(&schema);
        let input = self.settle(flow, index.name);
        let node = self.add(index.name, "index", vec![input], Operator::Index(Index { keys }), &schema);
        let on_error = self.policy(index.name);
        self.plan.views.push(View { name: index.name.to_owned(), node, finish: None, schema, on_error });
        Ok(())
    }

    /// Adds a sink; `open` is given the columns and whether rows are only ever added.
    ///
    /// # Errors
    /// Those of [`Builder::view`], of `open`, and of the sink's own check.
    pub fn sink(
        &mut self,
        sink: Maintained<'_>,
        open: impl FnOnce(&SchemaRef, bool) -> highwater_engine::Result<Arc<dyn Sink>>,
    ) -> Result<()> {
        let (input, schema) = self.given(sink).map_err(|error| places::placed(error, &sink))?;
        let append_only = self.plan.nodes[input.0].append_only;
        let target = open(&schema, append_only)?;
        target.check(&schema, append_only)?;
        self.add(sink.name, "sink", vec![input], Operator::Sink(target), &schema);
        Ok(())
    }

    /// A node with the rows that a sink takes, and their columns.
    fn given(&mut self, sink: Maintained<'_>) -> Result<(NodeId, SchemaRef)> {
        let plan = self.bind(sink)?;
        let schema = session::view_schema(plan.schema());
        let flow = self.lower(&plan, sink.name)?.named(&schema);
        Ok((self.settle(flow, sink.name), schema))
    }

    /// The columns by which the rows of a view of this pipeline are known, if there are such: those by which they
    /// can be looked up, or else its first key.
    #[must_use]
    pub fn key_of(&self, view: &str) -> Option<Vec<usize>> {
        let view = self.plan.views.iter().find(|known| known.name == view)?;
        let told = || keys::of_view(&self.plan, view, &keys::of_nodes(&self.plan)).into_iter().next();
        self.plan.lookup_columns(view).or_else(|| told().map(|key| key.into_iter().collect()))
    }

    /// The whole pipeline.
    #[must_use]
    pub fn finish(self) -> Plan {
        self.plan
    }

    fn bind(&mut self, maintained: Maintained<'_>) -> Result<LogicalPlan> {
        let Maintained { name, columns, query, relations, closes } = maintained;
        self.closes = closes;
        self.begun = self.plan.nodes.len();
        self.text.clone_from(&query.text);
        self.first.get_or_insert_with(|| name.to_owned());
        maintain::check(query, self.session)?;
        let plan = self.session.bind(query, relations)?;
        let plan = temporal::bounded(plan).map_err(|e| Error::of_planner(e, &query.text))?;
        maintain::check_functions(&plan)?;
        present::check(&plan, &query.text)?;
        let plan = naming::rename(plan, columns, query)?;
        if let Some(field) = plan.schema().fields().iter().find(|field| has_deep_array(field.data_type())) {
            let clause = format!("column {:?} of type {}", field.name(), pg_name(field.data_type()));
            return Err(Error::unsupported(
                clause,
                "an array has one dimension, of values that columns can have",
                None,
            ));
        }
        let plan = if closes.is_some() { session::on_close(plan) } else { plan };
        self.session.for_stream(plan, &query.text)
    }

    fn lower(&mut self, plan: &LogicalPlan, owner: &str) -> Result<Flow> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan, owner),
            LogicalPlan::SubqueryAlias(alias) => self.lower(&alias.input, owner),
            LogicalPlan::Subquery(lateral) if lateral.outer_ref_columns.is_empty() => {
                self.lower(&lateral.subquery, owner)
            }
            LogicalPlan::Projection(projection) => {
                let flow = self.lower(&projection.input, owner)?;
                self.projection(projection, flow, owner)
            }
            LogicalPlan::Filter(filter) => {
                if let Some(flow) = self.filtered_over(filter, owner)? {
                    return Ok(flow);
                }
                let flow = self.lower(&filter.input, owner)?;
                self.filtered(filter, flow, owner)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, owner),
            LogicalPlan::Join(join) => self.join(join, owner),
            LogicalPlan::Union(union) => self.union(union, owner),
            LogicalPlan::Window(window) => self.over(window, None, owner),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest, owner),
            LogicalPlan::Sort(sort) => self.sort(sort, owner),
            LogicalPlan::Limit(limit) => self.limit(limit, owner),
            LogicalPlan::Values(values) => self.values(values, owner),
            LogicalPlan::EmptyRelation(empty) => self.no_relation(empty, owner),
            node => {
                if let Some(hop) = window::hop_of(node) {
                    return self.hop(hop, owner);
                }
                if let Some(session) = session_window::session_of(node) {
                    return self.sessions(session, owner);
                }
                if let Some(present) = present::present_of(node) {
                    return Err(present.misplaced(&self.text));
                }
                if let Some(close) = close::close_of(node) {
                    return self.window_close(&close.input, owner);
                }
                match temporal::lifetime_of(node) {
                    Some(lifetime) => self.lifetime(lifetime, owner),
                    None => Err(Error::unsupported(clause_of(node), "it cannot be kept current yet", None)),
                }
            }
        }
    }

    fn filtered(&mut self, filter: &Filter, flow: Flow, owner: &str) -> Result<Flow> {
        let mut predicate = self.physical(std::slice::from_ref(&filter.predicate), filter.input.schema())?;
        let flow = self.sparing(flow, &predicate, owner);
        Ok(flow.filter(predicate.pop().expect("one expression gives one")))
    }

    fn projection(&mut self, projection: &Projection, flow: Flow, owner: &str) -> Result<Flow> {
        let columns = self.physical(&projection.expr, projection.input.schema())?;
        let flow = self.sparing(flow, &columns, owner);
        Ok(flow.project(columns, &session::view_schema(&projection.schema)))
    }

    /// A node that gives the rows of a part of a query.
    fn node_of(&mut self, plan: &LogicalPlan, owner: &str) -> Result<NodeId> {
        let flow = self.lower(plan, owner)?;
        Ok(self.settle(flow, owner))
    }

    fn physical(&self, exprs: &[Expr], schema: &DFSchema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let state = self.session.state();
        let context = PhysicalPlanningContext::default();
        exprs.iter().try_for_each(no_subquery)?;
        exprs
            .iter()
            .map(|expr| create_physical_expr(expr, schema, state.execution_props(), &context))
            .map(|made| made.map_err(|e| Error::Plan(Box::new(e))).and_then(not_too_deep))
            .collect()
    }

    /// The flow as it is, or as a node of its own when `exprs` would compute a part of it twice, or be too
    /// deep with it.
    fn sparing(&mut self, flow: Flow, exprs: &[Arc<dyn PhysicalExpr>], owner: &str) -> Flow {
        if !flow.would_repeat(exprs) && flow.depth_with(exprs) <= MOST_DEEP {
            return flow;
        }
        let schema = Arc::clone(flow.schema());
        let node = self.settle(flow, owner);
        Flow::whole(node, &schema)
    }

    /// A node that gives the flow's rows: a new Map, unless there is nothing to map.
    fn settle(&mut self, flow: Flow, owner: &str) -> NodeId {
        let Some(map) = flow.as_map(&self.plan.nodes[flow.node.0].schema) else { return flow.node };
        self.add(owner, "map", vec![flow.node], Operator::Map(map), flow.schema())
    }

    fn keeps_rows(&self, node: NodeId) -> bool {
        let operator = &self.plan.nodes[node.0].operator;
        matches!(operator, Operator::Aggregate(_) | Operator::Sessions(_) | Operator::Materialize | Operator::Upsert(_))
    }

    fn add(&mut self, owner: &str, what: &str, inputs: Vec<NodeId>, operator: Operator, schema: &SchemaRef) -> NodeId {
        let append_only = match &operator {
            Operator::Source(_) => true,
            Operator::Changes(source) => source.append_only(),
            Operator::Aggregate(_)
            | Operator::Sessions(_)
            | Operator::First(_)
            | Operator::Regroup(_)
            | Operator::Upsert(_) => false,
            Operator::Lifetime(lifetime) if lifetime.until.is_some() => false,
            Operator::Closing(_) => true,
            Operator::Join(join) if join.temporal => self.plan.nodes[inputs[0].0].append_only,
            Operator::Join(join) if !matches!(join.kind, JoinKind::Inner | JoinKind::Semi) => false,
            _ => inputs.iter().all(|i| self.plan.nodes[i.0].append_only),
        };
        let name = self.unused(format!("{owner}/{what}"));
        let schema = Arc::clone(schema);
        let incarnation = self.incarnations.get(owner).copied().unwrap_or_default();
        let node = NodeId(self.plan.nodes.len());
        let carried = self.carried_by(node, &operator, &inputs, schema.fields().len());
        self.carried.push(carried);
        let on_error = self.policy(owner);
        self.plan.nodes.push(Node { name, incarnation, inputs, operator, schema, append_only, on_error });
        let Some(twin) = self.plan.twin_of_last(self.begun) else {
            let last = self.final_of(node);
            self.plan.finals.extend(last.map(|last| (node, last)));
            return node;
        };
        // What the query has twice is computed once.
        self.carried.pop();
        self.spare.extend(self.plan.nodes.pop().map(|node| node.name));
        twin
    }

    /// Numbers what one view does twice, in the order from its sources.
    fn unused(&self, name: String) -> String {
        let names: BTreeSet<&str> = self.plan.nodes.iter().map(|node| node.name.as_str()).collect();
        let taken = |name: &str| names.contains(name) || self.spare.contains(name);
        if !taken(&name) {
            return name;
        }
        (2..)
            .map(|i| format!("{name}#{i}"))
            .find(|numbered| !taken(numbered))
            .expect("there are more numbers than nodes")
    }
}

/// Whether values of a type are arrays of other than plain values, or have such in them.
fn has_deep_array(of: &DataType) -> bool {
    match of {
        DataType::List(of) => of.data_type().is_nested(),
        DataType::Struct(fields) => fields.iter().any(|field| has_deep_array(field.data_type())),
        _ => false,
    }
}

/// Expressions are computed by recursion, on threads whose stacks are what they are.
const MOST_DEEP: usize = 1000;

fn not_too_deep(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    if flow::depth(&expr) <= MOST_DEEP {
        return Ok(expr);
    }
    let message = format!("an expression of a view is nested more than {MOST_DEEP} deep: divide it");
    Err(Error::Invalid { sqlstate: "54001", message, position: None })
}

/// Subqueries that could not be turned into joins are still expressions.
pub(crate) fn no_subquery(expr: &Expr) -> Result<()> {
    let is_one = |e: &Expr| {
        let found = matches!(
            e,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        );
        Ok(found)
    };
    if expr.exists(is_one).map_err(|e| Error::Plan(Box::new(e)))? {
        let hint = "write it as a join, or make a view of the subquery and read both";
        return Err(Error::unsupported("this subquery in an expression", hint, None));
    }
    Ok(())
}

fn clause_of(node: &LogicalPlan) -> &'static str {
    match node {
        LogicalPlan::Subquery(_) => "this LATERAL",
        LogicalPlan::RecursiveQuery(_) => "WITH RECURSIVE",
        LogicalPlan::Distinct(Distinct::On(_)) => "DISTINCT ON",
        _ => "this kind of query",
    }
}
