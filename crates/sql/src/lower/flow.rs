//! Rows on their way through a query: a node, and what is yet to be done to its rows.
//!
//! Filters and projections are not made into nodes as they come but composed, so that what stands
//! between two stateful operators is at most one Map. Composing is right because expressions that
//! depend on more than their input are refused before.

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use highwater_engine::plan::{Map, NodeId};
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;

/// A node's rows, filtered and projected.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) node: NodeId,
    /// Over the node's columns.
    filter: Option<Physical>,
    /// Over the node's columns, one for each field of `schema`.
    columns: Vec<Physical>,
    schema: SchemaRef,
}

impl Flow {
    /// A node's rows as they are.
    pub(super) fn whole(node: NodeId, schema: &SchemaRef) -> Self {
        let columns = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(i, field)| Arc::new(Column::new(field.name(), i)) as Physical)
            .collect();
        Self { node, filter: None, columns, schema: Arc::clone(schema) }
    }

    pub(super) const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) const fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    /// The same columns under other names.
    pub(super) fn named(mut self, schema: &SchemaRef) -> Self {
        assert_eq!(schema.fields().len(), self.columns.len(), "one column a field");
        self.schema = Arc::clone(schema);
        self
    }

    /// Some of the columns.
    pub(super) fn pick(self, indices: &[usize], schema: &SchemaRef) -> Self {
        let columns = indices.iter().map(|i| Arc::clone(&self.columns[*i])).collect();
        Self { columns, schema: Arc::clone(schema), ..self }
    }

    /// New columns over the flow's columns.
    pub(super) fn project(self, columns: Vec<Physical>, schema: &SchemaRef) -> Self {
        let columns = columns.into_iter().map(|c| self.over_node(c)).collect();
        Self { columns, schema: Arc::clone(schema), ..self }
    }

    /// Only the rows for which a predicate over the flow's columns is true.
    pub(super) fn filter(mut self, predicate: Physical) -> Self {
        let predicate = self.over_node(predicate);
        self.filter = Some(match self.filter.take() {
            Some(first) => Arc::new(BinaryExpr::new(first, Operator::And, predicate)),
            None => predicate,
        });
        self
    }

    /// An expression over the flow's columns as one over the node's.
    pub(super) fn over_node(&self, expr: Physical) -> Physical {
        expr.transform_down(|e| match e.downcast_ref::<Column>() {
            Some(column) => {
                let replaced = Arc::clone(&self.columns[column.index()]);
                Ok(Transformed::new(replaced, true, TreeNodeRecursion::Jump))
            }
            None => Ok(Transformed::no(e)),
        })
        .expect("replacing columns cannot fail")
        .data
    }

    /// Whether composing `exprs` would compute one of the flow's columns more than once.
    pub(super) fn would_repeat(&self, exprs: &[Physical]) -> bool {
        let mut uses = vec![0_usize; self.columns.len()];
        for expr in exprs {
            expr.apply(|e| {
                if let Some(column) = e.downcast_ref::<Column>() {
                    uses[column.index()] += 1;
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .expect("counting cannot fail");
        }
        uses.iter().zip(&self.columns).any(|(uses, c)| *uses > 1 && !is_cheap(c))
    }

    /// How deep `exprs` may be when they are composed with the flow's columns.
    pub(super) fn depth_with(&self, exprs: &[Physical]) -> usize {
        let deepest = |exprs: &[Physical]| exprs.iter().map(depth).max().unwrap_or(0);
        // What stands for a column is one level with it.
        (deepest(&self.columns) + deepest(exprs)).saturating_sub(1)
    }

    /// What is to be done to the rows of a node with these columns; none when it is nothing.
    pub(super) fn as_map(&self, node: &SchemaRef) -> Option<Map> {
        let same = self.columns.len() == node.fields().len()
            && self.columns.iter().enumerate().all(|(i, c)| {
                c.downcast_ref::<Column>().is_some_and(|c| c.index() == i)
                    && node.field(i).name() == self.schema.field(i).name()
            });
        if same && self.filter.is_none() {
            return None;
        }
        let columns = if same { Vec::new() } else { self.columns.clone() };
        Some(Map { filter: self.filter.clone(), columns })
    }
}

/// How deep an expression is nested.
pub(super) fn depth(expr: &Physical) -> usize {
    let (mut parts, mut deepest) = (vec![(expr, 1)], 0);
    while let Some((part, depth)) = parts.pop() {
        deepest = deepest.max(depth);
        parts.extend(part.children().into_iter().map(|child| (child, depth + 1)));
    }
    deepest
}

fn is_cheap(expr: &Physical) -> bool {
    expr.is::<Column>() || expr.is::<Literal>()
}
