//! What DataFusion takes for keys of rows and is none: DISTINCT, keys of groups and sorts, and joins that it would
//! leave out for it, and keys of groups and frames that it would add and change.
//!
//! The keys of a GROUP BY decide its other columns, and stand in one row each. DataFusion goes by that in what reads
//! the groups, but goes on with it above UNNEST, which repeats rows, and above what calls itself, and takes keys of
//! one side of a join for keys of a GROUP BY over the join, whatever other keys that has. Where such a node is below,
//! its rules keep what they would leave out, and binding knows of no keys in FROM. Elsewhere all is DataFusion's, so
//! that the operators of views, and their names, are too.

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Dependency, FunctionalDependence, Result, get_required_group_by_exprs_indices};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, LogicalPlan, Projection};
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_join::EliminateJoin;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::sql::sqlparser::ast::{Ident, TableFactor};
use std::sync::Arc;

/// A name that no column below has: of keys that it does not find there DataFusion leaves out none.
const APART: &str = "__distinct";
/// That a table is being planned, where nothing else is said in a statement that is taken.
const PLANNED: &str = "planned";

/// Whether what is known of a plan's columns may be wrong.
pub(crate) fn are_doubtful(plan: &LogicalPlan) -> bool {
    !plan.schema().functional_dependencies().is_empty() && has_doubtful(plan)
}

/// Whether a plan has a node of which DataFusion knows keys that may be none.
fn has_doubtful(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        found = found || is_doubtful(node);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || walked.is_err()
}

fn is_doubtful(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Unnest(unnest) => !unnest.schema.functional_dependencies().is_empty(),
        LogicalPlan::RecursiveQuery(query) => !query.static_term.schema().functional_dependencies().is_empty(),
        LogicalPlan::Aggregate(grouped) => {
            let is_partial = |known: &FunctionalDependence| known.source_indices.len() < grouped.group_expr.len();
            let is_repeated = |known: &FunctionalDependence| known.mode == Dependency::Multi;
            grouped.schema.functional_dependencies().iter().any(is_partial)
                && grouped.input.schema().functional_dependencies().iter().any(is_repeated)
        }
        _ => false,
    }
}

/// DISTINCT as GROUP BY, which is left out where all rows differ.
#[derive(Debug, Default)]
pub(crate) struct DistinctRows(ReplaceDistinctWithAggregate);

impl OptimizerRule for DistinctRows {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Distinct(Distinct::All(input)) if are_doubtful(&input) => {
                grouped_by_all(input).map(Transformed::yes)
            }
            plan => self.0.rewrite(plan, config),
        }
    }
}

/// The different rows of a plan that has columns, by a GROUP BY that keeps all of them as keys.
fn grouped_by_all(input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let keys: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let shown = input.schema().columns();
    grouped_apart(input, keys, Vec::new(), shown)
}

/// A GROUP BY with these columns that keeps all of its keys.
fn grouped_apart(
    input: Arc<LogicalPlan>,
    mut keys: Vec<Expr>,
    aggregates: Vec<Expr>,
    columns: Vec<Column>,
) -> Result<LogicalPlan> {
    let mut shown: Vec<Expr> = columns.into_iter().map(Expr::Column).collect();
    if let (Some(key), Some(column)) = (keys.first_mut(), shown.first_mut()) {
        let (relation, name) = column.qualified_name();
        *key = std::mem::take(key).unalias().alias(APART);
        *column = Expr::Column(Column::new_unqualified(APART)).alias_qualified(relation, name);
    }
    let grouped = LogicalPlan::Aggregate(Aggregate::try_new(input, keys, aggregates)?);
    Ok(LogicalPlan::Projection(Projection::try_new(shown, Arc::new(grouped))?))
}

/// Leaves out columns that nothing reads, and keys of groups that others decide.
#[derive(Debug, Default)]
pub(crate) struct NeededColumns(OptimizeProjections);

impl OptimizerRule for NeededColumns {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(keys_kept)?.transform_data(|plan| self.0.rewrite(plan, config))
    }
}

/// A GROUP BY of which keys would be left out that may be needed, as one that keeps them.
fn keys_kept(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Aggregate(grouped) if loses_keys(&grouped) && are_doubtful(&grouped.input) => {
            let columns = grouped.schema.columns();
            let Aggregate { input, group_expr, aggr_expr, .. } = grouped;
            grouped_apart(input, group_expr, aggr_expr, columns).map(Transformed::yes)
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether keys of a GROUP BY are decided by others, as far as is known of its input.
fn loses_keys(grouped: &Aggregate) -> bool {
    let input = grouped.input.schema();
    if input.functional_dependencies().is_empty() {
        return false;
    }
    let names: Vec<String> = grouped.group_expr.iter().map(|key| key.schema_name().to_string()).collect();
    get_required_group_by_exprs_indices(input, &names).is_some_and(|needed| needed.len() < names.len())
}

/// A relation of FROM as one of which no keys are known, where those that are may be none; so it is with LATERAL,
/// whose keys are those of the rows for one row of the left side. [`unscreened`] gives the relation back when
/// everything is bound.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn screened(plan: LogicalPlan, is_lateral: bool) -> Result<LogicalPlan> {
    if plan.schema().functional_dependencies().is_empty() || !(is_lateral || has_doubtful(&plan)) {
        return Ok(plan);
    }
    // Keys are followed through a column and its name, not through the name of a name.
    let named_twice = |column: Column| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        let named = Expr::Column(column).alias_qualified(relation.clone(), name.clone());
        named.alias_qualified(relation, name)
    };
    let columns = plan.schema().columns().into_iter().map(named_twice).collect();
    Projection::try_new(columns, Arc::new(plan)).map(LogicalPlan::Projection)
}

/// A bound plan without what [`screened`] put into it.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn unscreened(plan: LogicalPlan) -> Result<LogicalPlan> {
    let bare = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Projection(screen) if is_screen(&screen) => {
            Ok(Transformed::yes(Arc::unwrap_or_clone(screen.input)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bare.data)
}

fn is_screen(projection: &Projection) -> bool {
    let is_named_twice = |expr: &Expr| {
        let Expr::Alias(outer) = expr else { return false };
        let Expr::Alias(inner) = outer.expr.as_ref() else { return false };
        let Expr::Column(column) = inner.expr.as_ref() else { return false };
        inner.name == outer.name && column.name == outer.name && column.relation == outer.relation
    };
    !projection.expr.is_empty() && projection.expr.iter().all(is_named_twice)
}

/// Plans tables, plain views and queries of WITH as relations that are screened; queries in FROM are where they get
/// their names.
#[derive(Debug)]
pub(crate) struct Screens;

impl RelationPlanner for Screens {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { args: None, alias, partitions, .. } = &mut relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if partitions.pop().is_some() {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        partitions.push(Ident::new(PLANNED));
        let taken = alias.take();
        let plan = screened(context.plan(relation)?, false)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, taken))))
    }
}

/// Leaves out sort keys that those before them decide, and what stands twice.
#[derive(Debug, Default)]
pub(crate) struct SortKeys(EliminateDuplicatedExpr);

impl OptimizerRule for SortKeys {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Sort(sort) if are_doubtful(&sort.input) => Ok(Transformed::no(LogicalPlan::Sort(sort))),
            plan => self.0.rewrite(plan, config),
        }
    }
}

/// Leaves out joins that give each row of one side once and none of the other's columns.
#[derive(Debug, Default)]
pub(crate) struct NeededJoins(EliminateJoin);

impl OptimizerRule for NeededJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if has_doubtful(&plan) { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}
