//! HOP: a node of its own over a settled input.

use super::Builder;
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::session::view_schema;
use crate::window::Hop;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use highwater_engine::plan::{self, Operator};

impl Builder<'_> {
    pub(super) fn hop(&mut self, hop: &Hop, owner: &str) -> Result<Flow> {
        let input: &LogicalPlan = &hop.input;
        let Expr::Column(time) = &hop.time else {
            return Err(Error::unsupported("HOP over an expression", "give it a column", None));
        };
        let time = input.schema().index_of_column(time).map_err(|e: DataFusionError| Error::Plan(Box::new(e)))?;
        let flow = self.lower(input, owner)?;
        let input = self.settle(flow, owner);
        let schema = view_schema(hop.schema());
        let what = format!("hop({})", schema.field(time).name());
        let operator = Operator::Hop(plan::Hop { time, slide_us: hop.slide_us, size_us: hop.size_us });
        let node = self.add(owner, &what, vec![input], operator, &schema);
        Ok(Flow::whole(node, &schema))
    }
}
