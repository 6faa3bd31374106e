//! Which columns of a source a pipeline reads, so that the others need not be made.

use crate::ops::expressions::part_of;
use crate::plan::{Aggregation, NodeId, Operator, Plan};
use crate::source::Read;
use datafusion_common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;

impl Plan {
    /// What is read of each column of a node.
    pub(crate) fn read_of(&self, node: NodeId) -> Vec<Read> {
        let mut read = vec![Read::Nothing; self.nodes[node.0].schema.fields().len()];
        self.add_read(node, &mut read);
        read
    }

    fn add_read(&self, node: NodeId, read: &mut [Read]) {
        if self.views.iter().any(|view| view.node == node) {
            read.fill(Read::Whole);
        }
        for (at, reader) in self.nodes.iter().enumerate().filter(|(_, reader)| reader.inputs.contains(&node)) {
            match &reader.operator {
                // Without columns of its own it gives on its input's, or rows without any.
                Operator::Map(map) if !map.columns.is_empty() || reader.schema.fields().is_empty() => {
                    map.filter.iter().chain(&map.columns).for_each(|expr| add_expression(expr, read));
                }
                Operator::Aggregate(aggregation) => {
                    of_aggregation(aggregation).for_each(|expr| add_expression(expr, read));
                }
                Operator::Watermark(watermark) => {
                    read[watermark.time] = Read::Whole;
                    self.add_read(NodeId(at), read);
                }
                _ => read.fill(Read::Whole),
            }
        }
    }
}

fn of_aggregation(aggregation: &Aggregation) -> impl Iterator<Item = &Physical> {
    let of_aggregates = aggregation.aggregates.iter().flat_map(|of| of.argument.iter().chain(&of.filter));
    aggregation.keys.iter().chain(of_aggregates)
}

fn add_expression(expr: &Physical, read: &mut [Read]) {
    let walked = expr.apply(|part| {
        Ok(match part_of(part) {
            Some((column, path)) => {
                read[column].add(path.first().copied());
                TreeNodeRecursion::Jump
            }
            None => TreeNodeRecursion::Continue,
        })
    });
    if walked.is_err() {
        read.fill(Read::Whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Map, Node, OnError, Watermark};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use datafusion_physical_expr::expressions::{Column, IsNullExpr};

    fn column(place: usize) -> Physical {
        Arc::new(Column::new("c", place))
    }

    fn plan(readers: Vec<(Operator, usize)>) -> Plan {
        let of =
            |width: usize| -> SchemaRef { Arc::new(Schema::new(vec![Field::new("c", DataType::Int64, true); width])) };
        let node = |inputs, operator, width| Node {
            name: "n".into(),
            incarnation: 0,
            inputs,
            operator,
            schema: of(width),
            append_only: true,
            on_error: OnError::Fail,
        };
        let mut plan = Plan::default();
        plan.nodes.push(node(Vec::new(), Operator::Union, 4));
        plan.nodes.extend(readers.into_iter().map(|(operator, width)| node(vec![NodeId(0)], operator, width)));
        plan
    }

    #[test]
    fn what_no_expression_reads_is_not_read() {
        use Read::{Nothing, Whole};
        let is_null: Physical = Arc::new(IsNullExpr::new(column(2)));
        let map = |filter: Option<Physical>, columns: Vec<Physical>| Operator::Map(Map { filter, columns });
        let two = plan(vec![(map(Some(is_null.clone()), vec![column(0)]), 1), (map(None, vec![column(0)]), 1)]);
        assert_eq!(two.read_of(NodeId(0)), [Whole, Nothing, Whole, Nothing]);
        let rows = plan(vec![(map(None, Vec::new()), 0)]);
        assert_eq!(rows.read_of(NodeId(0)), [Nothing, Nothing, Nothing, Nothing], "rows are counted");
        let all = plan(vec![(map(Some(is_null), Vec::new()), 4)]);
        assert_eq!(all.read_of(NodeId(0)), [Whole, Whole, Whole, Whole], "a filter gives all columns on");
        let mut watched = plan(vec![(Operator::Watermark(Watermark { time: 3, delay_us: 0 }), 4)]);
        let mut reader = plan(vec![(map(None, vec![column(1)]), 1)]).nodes.remove(1);
        reader.inputs = vec![NodeId(1)];
        watched.nodes.push(reader);
        assert_eq!(watched.read_of(NodeId(0)), [Nothing, Whole, Nothing, Whole]);
        let kept = plan(vec![(map(None, vec![column(0)]), 1), (Operator::Materialize, 4)]);
        assert_eq!(kept.read_of(NodeId(0)), [Whole, Whole, Whole, Whole]);
    }
}
