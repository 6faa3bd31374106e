//! UNION ALL. Other set operations come as joins and DISTINCT.

use super::Builder;
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::session::view_schema;
use arrow::datatypes::{Field, SchemaRef};
use datafusion::logical_expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, cast};
use highwater_engine::plan::Operator;
use std::sync::Arc;

impl Builder<'_> {
    pub(super) fn union(&mut self, union: &logical_expr::Union, owner: &str) -> Result<Flow> {
        let schema = view_schema(&union.schema);
        let mut inputs = Vec::with_capacity(union.inputs.len());
        for input in &union.inputs {
            let flow = cast_to(self.lower(input, owner)?, &schema)?;
            inputs.push(self.settle(flow, owner));
        }
        let node = self.add(owner, "union", inputs, Operator::Union, &schema);
        Ok(Flow::whole(node, &schema))
    }
}

/// The flow under the union's names and types.
fn cast_to(flow: Flow, schema: &SchemaRef) -> Result<Flow> {
    if flow.schema().fields().len() != schema.fields().len() {
        return Err(Error::Invalid {
            sqlstate: "42601",
            message: "each side of UNION must have the same number of columns".to_owned(),
            position: None,
        });
    }
    let from = Arc::clone(flow.schema());
    let column = |(i, to): (usize, &Arc<Field>)| {
        let column = Arc::new(Column::new(from.field(i).name(), i)) as Arc<dyn PhysicalExpr>;
        let is_same = from.field(i).data_type() == to.data_type();
        if is_same { Ok(column) } else { cast(column, &from, to.data_type().clone()) }
    };
    let columns = schema.fields().iter().enumerate().map(column).collect::<Result<Vec<_>, _>>();
    let columns = columns.map_err(|e| Error::Plan(Box::new(e)))?;
    Ok(flow.project(columns, schema))
}
