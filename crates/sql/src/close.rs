//! EMIT ON WINDOW CLOSE as a node of a query, so that it goes wherever the query goes.
//!
//! Invariant: only a dataflow has it, as a batch has no watermark.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, DataFusionError, Result, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use std::fmt;
use std::sync::Arc;

/// The input's groups, each when its window is closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) struct WindowClose {
    pub(crate) input: LogicalPlan,
}

impl UserDefinedLogicalNodeCore for WindowClose {
    fn name(&self) -> &'static str {
        "WindowClose"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowClose")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Ok([input]) = <[LogicalPlan; 1]>::try_from(inputs) else { return plan_err!("WindowClose has one input") };
        Ok(Self { input })
    }
}

/// A query whose groups are given when their windows are closed.
#[must_use]
pub(crate) fn on_close(input: LogicalPlan) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(WindowClose { input }) })
}

/// The node's content, if it is one.
pub(crate) fn close_of(node: &LogicalPlan) -> Option<&WindowClose> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// Whether a query has one, in subqueries too.
pub(crate) fn is_in(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= close_of(node).is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
