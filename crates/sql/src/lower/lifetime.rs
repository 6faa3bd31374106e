//! Temporal filters: the rows with their times, and a node that lets them come and go.

use super::Builder;
use super::flow::Flow;
use crate::error::Result;
use crate::temporal::Lifetime;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::UserDefinedLogicalNodeCore;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use highwater_engine::plan::{self, Operator};
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;

impl Builder<'_> {
    pub(super) fn lifetime(&mut self, lifetime: &Lifetime, owner: &str) -> Result<Flow> {
        let times = self.physical(&lifetime.expressions(), lifetime.input.schema())?;
        let flow = self.lower(&lifetime.input, owner)?;
        let rows = Arc::clone(flow.schema());
        let width = rows.fields().len();
        let column = |(at, field): (usize, &Arc<Field>)| Arc::new(Column::new(field.name(), at)) as Physical;
        let mut columns: Vec<Physical> = rows.fields().iter().enumerate().map(column).collect();
        columns.extend(times);
        let mut fields: Vec<Arc<Field>> = rows.fields().iter().cloned().collect();
        let mut time = |is_there: bool, name: &str| {
            is_there.then(|| {
                fields.push(Arc::new(Field::new(name, DataType::Int64, true)));
                fields.len() - 1
            })
        };
        let from = time(lifetime.from.is_some(), "there_from");
        let until = time(lifetime.until.is_some(), "there_until");
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let flow = self.sparing(flow, &columns, owner).project(columns, &schema);
        let input = self.settle(flow, owner);
        let operator = Operator::Lifetime(plan::Lifetime { from, until });
        let node = self.add(owner, "lifetime", vec![input], operator, &schema);
        let all: Vec<usize> = (0..width).collect();
        Ok(Flow::whole(node, &schema).pick(&all, &rows))
    }
}
