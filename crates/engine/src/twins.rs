//! Nodes that give the same rows: what a view computes twice from the same input is computed once.

use crate::identity;
use crate::plan::{Map, Node, NodeId, Operator, Plan};
use crate::tables::shape_of;
use arrow::datatypes::SchemaRef;

impl Plan {
    /// Another node, from `first` on, that gives the last one's rows: one that does the same to the same inputs.
    #[must_use]
    pub fn twin_of_last(&self, first: usize) -> Option<NodeId> {
        let last = NodeId(self.nodes.len().checked_sub(1)?);
        let words = words_of(self, last)?;
        let node = &self.nodes[last.0];
        let is_twin = |other: &usize| {
            is_alike(&self.nodes[*other], node) && words_of(self, NodeId(*other)).is_some_and(|of| of == words)
        };
        (first..last.0).find(is_twin).map(NodeId)
    }
}

/// Whether two nodes may be one, whatever they compute.
fn is_alike(one: &Node, other: &Node) -> bool {
    let finally = |node: &Node| match &node.operator {
        Operator::Closing(closing) => closing.passing.clone(),
        _ => Vec::new(),
    };
    let forgets = |node: &Node| match &node.operator {
        Operator::Join(join) => join.forgets.clone(),
        _ => Vec::new(),
    };
    one.inputs == other.inputs
        && one.incarnation == other.incarnation
        && one.on_error == other.on_error
        && one.append_only == other.append_only
        && are_alike(&one.schema, &other.schema)
        && finally(one) == finally(other)
        && forgets(one) == forgets(other)
}

/// Whether columns are the same but for their names.
fn are_alike(one: &SchemaRef, other: &SchemaRef) -> bool {
    let (one, other) = (one.fields(), other.fields());
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            let is_nullable = one.is_nullable() == other.is_nullable();
            is_nullable && one.data_type() == other.data_type() && one.metadata() == other.metadata()
        })
}

/// What a node does, in words; none where it is done for one reader only, or has no words.
fn words_of(plan: &Plan, node: NodeId) -> Option<String> {
    match &plan.nodes[node.0].operator {
        Operator::Map(map) => words_of_map(map),
        Operator::Hop(hop) => Some(format!("hop {} {} {}", hop.time, hop.slide_us, hop.size_us)),
        Operator::Unnest(unnest) => {
            Some(format!("unnest {:?} {:?} {}", unnest.lists, unnest.columns, unnest.keeps_empty))
        }
        Operator::Aggregate(_)
        | Operator::Closing(_)
        | Operator::Sessions(_)
        | Operator::Union
        | Operator::Join(_)
        | Operator::First(_)
        | Operator::Regroup(_)
        | Operator::Lifetime(_) => shape_of(plan, node).ok(),
        Operator::Source(_)
        | Operator::Changes(_)
        | Operator::Watermark(_)
        | Operator::Materialize
        | Operator::Upsert(_)
        | Operator::Index(_)
        | Operator::Sink(_) => None,
    }
}

fn words_of_map(map: &Map) -> Option<String> {
    let filter = map.filter.as_ref().map(identity::expression).transpose().ok()?;
    let columns: Vec<String> = map.columns.iter().map(identity::expression).collect::<Result<_, _>>().ok()?;
    Some(format!("map if {filter:?}: {columns:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Hop, OnError};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use datafusion_physical_expr::PhysicalExpr;
    use datafusion_physical_expr::expressions::{Column, lit};
    use std::sync::Arc;

    fn schema(names: [&str; 2]) -> SchemaRef {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        Arc::new(Schema::new(names.map(|name| Field::new(name, time.clone(), true)).to_vec()))
    }

    fn node(inputs: Vec<NodeId>, operator: Operator, schema: &SchemaRef) -> Node {
        let (name, schema) = (format!("v/{}", inputs.len()), Arc::clone(schema));
        Node { name, incarnation: 0, inputs, operator, schema, append_only: true, on_error: OnError::Fail }
    }

    fn map(place: usize, filter: Option<i64>) -> Operator {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("t", place));
        Operator::Map(Map { filter: filter.map(lit), columns: vec![Arc::clone(&column), column] })
    }

    #[test]
    fn what_does_the_same_to_the_same_rows_is_one_node() {
        let mut plan = Plan::default();
        assert_eq!(plan.twin_of_last(0), None);
        let (here, there) = (schema(["a", "b"]), schema(["c", "d"]));
        plan.nodes.push(node(Vec::new(), Operator::Materialize, &here));
        plan.nodes.push(node(Vec::new(), Operator::Materialize, &here));
        assert_eq!(plan.twin_of_last(0), None, "rows are kept for one view each");
        for (operator, input, twin) in [
            (map(0, None), 0, None),
            (map(1, None), 0, None),
            (map(0, Some(1)), 0, None),
            (map(0, None), 1, None),
            (map(0, None), 0, Some(NodeId(2))),
            (map(0, Some(1)), 0, Some(NodeId(4))),
            (Operator::Hop(Hop { time: 0, slide_us: 1, size_us: 2 }), 0, None),
            (Operator::Hop(Hop { time: 0, slide_us: 1, size_us: 3 }), 0, None),
            (Operator::Hop(Hop { time: 0, slide_us: 1, size_us: 2 }), 0, Some(NodeId(8))),
        ] {
            plan.nodes.push(node(vec![NodeId(input)], operator, if twin.is_some() { &there } else { &here }));
            assert_eq!(plan.twin_of_last(1), twin, "{:?}", plan.nodes.last());
        }
        assert_eq!(plan.twin_of_last(9), None, "another view's");
        plan.nodes.last_mut().expect("pushed").on_error = OnError::Skip;
        assert_eq!(plan.twin_of_last(1), None, "it leaves rows out");
    }
}
