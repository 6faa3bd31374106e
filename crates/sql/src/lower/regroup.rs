//! Groups computed anew: what has no operator that keeps it incrementally.

use super::compute::{Computed, Template, over_rows};
use super::first::distinct_on;
use super::flow::Flow;
use super::{Builder, Planning, aggregate, ties};
use crate::error::{Error, Result};
use crate::session::view_schema;
use crate::spreads;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, case, is_null, lit};
use highwater_engine::plan::{self, AggregateFunction, Aggregation, Join, JoinKind, NodeId, Operator, Regroup};
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;

impl Builder<'_> {
    /// One node of a query over groups of a flow's rows.
    pub(super) fn regroup(&mut self, template: Template<'_>, flow: Flow, owner: &str) -> Result<Flow> {
        let (flow, _) = self.computed(template, flow, owner)?;
        Ok(flow)
    }

    /// The same, with what computes it.
    fn computed(&mut self, template: Template<'_>, flow: Flow, owner: &str) -> Result<(Flow, Arc<Computed>)> {
        let keys = self.physical(template.keys, template.input)?;
        let input = self.settle(flow, owner);
        let computed = Arc::new(Computed::new(self.session, &template));
        // What cannot be planned is refused now, and not when it runs.
        computed.check()?;
        let schema = Arc::clone(computed.output());
        let recompute: Arc<dyn plan::Recompute> = Arc::<Computed>::clone(&computed);
        let operator = Operator::Regroup(Regroup { keys, recompute });
        let node = self.add(owner, &template.what, vec![input], operator, &schema);
        Ok((Flow::whole(node, &schema), computed))
    }

    /// GROUP BY with aggregates that are not kept incrementally.
    pub(super) fn regrouped(&mut self, aggregate: &Aggregate, flow: Flow, owner: &str) -> Result<Flow> {
        let input = aggregate.input.schema();
        let rows = Arc::new(over_rows(input)?);
        aggregate.aggr_expr.iter().chain(&aggregate.group_expr).try_for_each(super::no_subquery)?;
        let calls = aggregate.aggr_expr.iter().map(|expr| ties::aggregate(expr, input));
        let calls = if self.is_planned_as(owner, Planning::COMPOSED) {
            calls.collect()
        } else {
            calls.map(spreads::of_floats).collect()
        };
        let node = Aggregate::try_new(rows, aggregate.group_expr.clone(), calls);
        let node = LogicalPlan::Aggregate(node.map_err(|e| Error::Plan(Box::new(e)))?);
        let keys = aggregate.group_expr.as_slice();
        let what = format!("regroup({})", aggregate::key_names(keys)?);
        let flow = match distinct_on(aggregate) {
            Some(ranked) => self.first(&ranked, 1, flow, owner)?,
            None => flow,
        };
        let source = self.settle(flow, owner);
        let kept = Flow::whole(source, &view_schema(input));
        let (groups, computed) = self.computed(Template { node, keys, input, what }, kept, owner)?;
        if keys.is_empty() { self.always_one_row(groups, &computed, source, owner) } else { Ok(groups) }
    }

    /// A global aggregate has a row also when there is none to aggregate: what its group gives is
    /// joined to a row that is always there, and stands for the missing row's values.
    fn always_one_row(&mut self, groups: Flow, computed: &Computed, source: NodeId, owner: &str) -> Result<Flow> {
        let schema = Arc::clone(groups.schema());
        let empty = computed.of_no_rows()?;
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("is_there", DataType::Boolean, true)));
        let marked: SchemaRef = Arc::new(Schema::new(fields.clone()));
        let mut columns = columns_of(&schema, 0);
        columns.push(lit(true));
        let right = self.settle(groups.project(columns, &marked), owner);
        let one: SchemaRef = Arc::new(Schema::new(vec![Field::new("one", DataType::Int64, true)]));
        let left = self.add(owner, "one", vec![source], Operator::Aggregate(never()), &one);
        fields.insert(0, Arc::new(one.field(0).clone()));
        let both: SchemaRef = Arc::new(Schema::new(fields));
        let node = self.add(owner, "join()", vec![left, right], Operator::Join(left_join()), &both);
        let is_there: Physical = Arc::new(Column::new("is_there", both.fields().len() - 1));
        let value = |(i, column): (usize, Physical)| {
            let value = ScalarValue::try_from_array(empty.column(i), 0)?;
            if value.is_null() {
                return Ok(column);
            }
            case(None, vec![(is_null(Arc::clone(&is_there))?, lit(value))], Some(column))
        };
        let values = columns_of(&schema, 1).into_iter().enumerate().map(value);
        let values = values.collect::<datafusion::common::Result<Vec<_>>>().map_err(|e| Error::Plan(Box::new(e)))?;
        Ok(Flow::whole(node, &both).project(values, &schema))
    }

    /// Whether all aggregates of a GROUP BY are kept incrementally.
    pub(super) fn is_kept(aggregate: &Aggregate) -> bool {
        let input = aggregate.input.schema();
        aggregate.aggr_expr.iter().all(|expr: &Expr| aggregate::is_kept(expr, input))
    }
}

/// The columns of a schema, from a place on.
fn columns_of(schema: &SchemaRef, from: usize) -> Vec<Physical> {
    let column = |(i, field): (usize, &Arc<Field>)| Arc::new(Column::new(field.name(), from + i)) as Physical;
    schema.fields().iter().enumerate().map(column).collect()
}

/// One row that never changes: how many of the rows are none.
fn never() -> Aggregation {
    let count = plan::Aggregate {
        distinct: false,
        function: AggregateFunction::Count,
        argument: None,
        filter: Some(lit(false)),
        input: DataType::Int64,
        output: DataType::Int64,
    };
    Aggregation { keys: Vec::new(), aggregates: vec![count] }
}

const fn left_join() -> Join {
    Join {
        kind: JoinKind::Left,
        left_keys: Vec::new(),
        right_keys: Vec::new(),
        nulls_match: false,
        filter: None,
        forgets: Vec::new(),
        temporal: false,
    }
}
