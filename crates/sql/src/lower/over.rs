//! OVER: window functions, computed anew for the groups of rows that share their partitions.
//!
//! A filter right above goes into the same group: so only the first rows of a top-k pass on. Where it
//! takes rows by their number, only those come into the group at all.

use super::Builder;
use super::aggregate::key_names;
use super::compute::{Template, over_rows};
use super::first::top_of;
use super::flow::Flow;
use super::ties;
use crate::error::{Error, Result};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Sort, Window};
use std::sync::Arc;

impl Builder<'_> {
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
