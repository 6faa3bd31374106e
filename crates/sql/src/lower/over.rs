//! OVER: window functions, computed anew for the groups of rows that share their partitions.
//!
//! A filter above goes into the same group, also through a projection that picks columns: so only the
//! first rows of a top-k pass on. Where it takes rows by their number, only those come into the group at
//! all.

use super::Builder;
use super::aggregate::key_names;
use super::compute::{Template, over_rows};
use super::first::top_of;
use super::flow::Flow;
use super::ties;
use crate::error::{Error, Result};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection, Sort, Window};
use std::sync::Arc;

impl Builder<'_> {
    /// A filter above window functions; none when it is above something else.
    pub(super) fn filtered_over(&mut self, filter: &Filter, owner: &str) -> Result<Option<Flow>> {
        match filter.input.as_ref() {
            LogicalPlan::Window(window) => self.over(window, Some(&filter.predicate), owner).map(Some),
            LogicalPlan::Projection(projection) => {
                let LogicalPlan::Window(window) = projection.input.as_ref() else { return Ok(None) };
                let Some(predicate) = beneath(&filter.predicate, projection) else { return Ok(None) };
                let flow = self.over(window, Some(&predicate), owner)?;
                self.projection(projection, flow, owner).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub(super) fn over(&mut self, window: &Window, filter: Option<&Expr>, owner: &str) -> Result<Flow> {
        let mut flow = self.lower(&window.input, owner)?;
        let input = window.input.schema();
        window.window_expr.iter().try_for_each(super::no_subquery)?;
        let keys = shared_partition(&window.window_expr);
        if let Some((ranked, most)) = filter.and_then(|filter| top_of(window, filter)) {
            flow = self.first(&ranked, most, flow, owner)?;
        }
        let mut rows = Arc::new(over_rows(input)?);
        if let Some(expr) = ties::window_order(&window.window_expr, input) {
            rows = Arc::new(LogicalPlan::Sort(Sort { expr, input: rows, fetch: None }));
        }
        let exprs = window.window_expr.iter().map(|expr| ties::window(expr, input)).collect();
        let plan = |e| Error::Plan(Box::new(e));
        let mut node = LogicalPlan::Window(Window::try_new(exprs, rows).map_err(plan)?);
        if let Some(predicate) = filter {
            super::no_subquery(predicate)?;
            node = LogicalPlan::Filter(Filter::try_new(predicate.clone(), Arc::new(node)).map_err(plan)?);
        }
        let what = format!("over({})", key_names(&keys)?);
        self.regroup(Template { node, keys: &keys, input, what }, flow, owner)
    }
}

/// A condition above a projection as one beneath it; none where that computes anything.
fn beneath(condition: &Expr, projection: &Projection) -> Option<Expr> {
    let is_picked = |expr: &Expr| matches!(ties::unaliased(expr), Expr::Column(_));
    if !projection.expr.iter().all(is_picked) {
        return None;
    }
    let mut is_known = true;
    let moved = condition.clone().transform(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        let Some(at) = projection.schema.maybe_index_of_column(column) else {
            is_known = false;
            return Ok(Transformed::no(expr));
        };
        Ok(Transformed::yes(ties::unaliased(&projection.expr[at]).clone()))
    });
    moved.ok().map(|moved| moved.data).filter(|_| is_known)
}

/// The PARTITION BY expressions that all functions have.
fn shared_partition(exprs: &[Expr]) -> Vec<Expr> {
    let partition = |expr: &Expr| match ties::unaliased(expr) {
        Expr::WindowFunction(call) => call.params.partition_by.clone(),
        _ => Vec::new(),
    };
    let mut all = exprs.iter().map(partition);
    let Some(mut shared) = all.next() else { return Vec::new() };
    for other in all {
        shared.retain(|key| other.contains(key));
    }
    shared
}
