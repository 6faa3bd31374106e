//! EMIT ON WINDOW CLOSE: a GROUP BY of which each group is given once, when the watermark has passed
//! its window.
//!
//! Above the GROUP BY there may be what works row by row: it does not matter when a row comes there.

use super::Builder;
use super::aggregate::key_names;
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::session::view_schema;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use highwater_engine::plan::{Closing, Operator};

const WHAT: &str = "EMIT ON WINDOW CLOSE";

impl Builder<'_> {
    pub(super) fn window_close(&mut self, plan: &LogicalPlan, owner: &str) -> Result<Flow> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.window_close(&alias.input, owner),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.window_close(&sort.input, owner),
            LogicalPlan::Projection(projection) => {
                let flow = self.window_close(&projection.input, owner)?;
                self.projection(projection, flow, owner)
            }
            LogicalPlan::Filter(filter) => {
                let flow = self.window_close(&filter.input, owner)?;
                self.filtered(filter, flow, owner)
            }
            LogicalPlan::Aggregate(aggregate) => self.closing(aggregate, owner),
            LogicalPlan::Window(_) => Err(self.not_closed("of OVER")),
            LogicalPlan::Join(_) => Err(self.not_closed("of a join")),
            LogicalPlan::Union(_) => Err(self.not_closed("of a union")),
            LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => Err(self.not_closed("of LIMIT")),
            _ => Err(self.not_closed("without GROUP BY")),
        }
    }

    fn closing(&mut self, aggregate: &Aggregate, owner: &str) -> Result<Flow> {
        if aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
            return Err(self.not_closed("of GROUPING SETS"));
        }
        if let Some(composed) = self.composed(aggregate, owner)? {
            let flow = self.closing(&composed.below, owner)?;
            return self.over_composed(&composed, aggregate, flow, owner);
        }
        if !Self::is_kept(aggregate) {
            let hint = "use count, sum, avg, min, max, bool_and and bool_or, or group the view's rows in another view";
            return Err(Error::unsupported(format!("{WHAT} of another aggregate"), hint, self.closes));
        }
        let flow = self.lower(&aggregate.input, owner)?;
        let schema = view_schema(&aggregate.schema);
        let (aggregation, input) = self.aggregation(aggregate, flow, owner)?;
        let mut keys = aggregation.keys.iter().map(|key| self.passing_of(input, key)).enumerate();
        let Some((time, passing)) = keys.find(|(_, passing)| !passing.is_empty()) else {
            return Err(self.not_closed("without a watermark under a key of GROUP BY"));
        };
        let what = format!("aggregate({})", key_names(&aggregate.group_expr)?);
        let operator = Operator::Closing(Closing { aggregation, time, passing });
        let node = self.add(owner, &what, vec![input], operator, &schema);
        Ok(Flow::whole(node, &schema))
    }

    fn not_closed(&self, what: &str) -> Error {
        let hint = "GROUP BY window_start or window_end of TUMBLE or HOP over a source or table with a WATERMARK";
        Error::unsupported(format!("{WHAT} {what}"), hint, self.closes)
    }
}
