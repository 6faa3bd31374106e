//! Aggregates that follow from others that are kept incrementally: `bool_and` and `bool_or` from counts, deviations
//! and variances of integers and short numerics from their number, their sum and the sum of their squares.
//!
//! The GROUP BY has these others, and what is asked for is computed above it, from a group's row alone. Invariant:
//! what is computed is to the last bit what the aggregate gives of the group's rows in any order.

use super::aggregate::is_kept;
use super::flow::Flow;
use super::ties::unaliased;
use super::{Builder, Planning};
use crate::error::{Error, Result};
use crate::session::view_schema;
use crate::spreads;
use datafusion::common::{Column, DFSchema};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::AggregateFunction as Call;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Case, Expr, lit};
use std::sync::Arc;

/// A GROUP BY of others, and its columns over them.
pub(super) struct Composed {
    pub(super) below: Aggregate,
    columns: Vec<Expr>,
}

impl Builder<'_> {
    /// How a GROUP BY follows from one whose aggregates are all kept incrementally; none where that is the case
    /// already, or where one of them does not follow from such.
    pub(super) fn composed(&self, aggregate: &Aggregate, owner: &str) -> Result<Option<Composed>> {
        if !self.is_planned_as(owner, Planning::COMPOSED) || Self::is_kept(aggregate) {
            return Ok(None);
        }
        let mut parts = Parts::of(aggregate);
        let values: Option<Vec<Expr>> = aggregate.aggr_expr.iter().map(|expr| parts.value(expr)).collect();
        let Some(values) = values else { return Ok(None) };
        let below = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), parts.calls);
        let below = below.map_err(|e| Error::Plan(Box::new(e)))?;
        let keys = aggregate.schema.fields().len() - values.len();
        let columns = below.schema.columns().into_iter().take(keys).map(Expr::Column).chain(values).collect();
        Ok(Some(Composed { below, columns }))
    }

    /// The columns that a GROUP BY was to have, of a flow of the one below.
    pub(super) fn over_composed(
        &mut self,
        composed: &Composed,
        aggregate: &Aggregate,
        flow: Flow,
        owner: &str,
    ) -> Result<Flow> {
        let columns = self.physical(&composed.columns, &composed.below.schema)?;
        let flow = self.sparing(flow, &columns, owner);
        Ok(flow.project(columns, &view_schema(&aggregate.schema)))
    }
}

/// The aggregates that others follow from.
struct Parts<'a> {
    input: &'a DFSchema,
    /// How the names of their columns begin, which no key has.
    prefix: String,
    /// Each once, under its name.
    calls: Vec<Expr>,
}

impl<'a> Parts<'a> {
    fn of(aggregate: &'a Aggregate) -> Self {
        let mut prefix = "part#".to_owned();
        while aggregate.schema.fields().iter().any(|field| field.name().starts_with(&prefix)) {
            prefix.push('#');
        }
        Self { input: aggregate.input.schema(), prefix, calls: Vec::new() }
    }

    /// What an aggregate is over the columns of others; none where it does not follow from such.
    fn value(&mut self, expr: &Expr) -> Option<Expr> {
        let whole = unaliased(expr);
        if is_kept(whole, self.input) {
            return Some(self.column(whole.clone()));
        }
        let Expr::AggregateFunction(call) = whole else { return None };
        let ([argument], true) = (call.params.args.as_slice(), call.params.order_by.is_empty()) else { return None };
        match call.func.name() {
            "bool_and" => Some(self.of_truths(call, argument, false)),
            "bool_or" => Some(self.of_truths(call, argument, true)),
            _ if call.params.distinct => None,
            _ => spreads::of_exact(&call.func).map(|spread| {
                let [whole, high, low] = spreads::parts(spread, argument);
                let count = self.other(call, count_udaf(), whole.clone());
                let [sum, high, low] = [whole, high, low].map(|part| self.other(call, sum_udaf(), part));
                spreads::of_sums(spread, [count, sum, high, low])
            }),
        }
    }

    /// Whether one of some truths is this, or none of them is the other; null where there is none.
    fn of_truths(&mut self, call: &Call, argument: &Expr, any: bool) -> Expr {
        let count = self.other(call, count_udaf(), argument.clone());
        let is_it = Box::new(argument.clone());
        let is_it = if any { Expr::IsTrue(is_it) } else { Expr::IsFalse(is_it) };
        let filter = match call.params.filter.as_deref() {
            Some(filter) => filter.clone().and(is_it),
            None => is_it,
        };
        let decisive = called(count_udaf(), lit(1_i64), Some(Box::new(filter)));
        let decisive = self.column(decisive);
        let value = if any { decisive.gt(lit(0_i64)) } else { decisive.eq(lit(0_i64)) };
        let when_then_expr = vec![(Box::new(count.gt(lit(0_i64))), Box::new(value))];
        Expr::Case(Case { expr: None, when_then_expr, else_expr: None })
    }

    /// Another aggregate of the rows of a call.
    fn other(&mut self, call: &Call, function: Arc<AggregateUDF>, argument: Expr) -> Expr {
        self.column(called(function, argument, call.params.filter.clone()))
    }

    /// The column of a call, which is made if it is not there.
    fn column(&mut self, call: Expr) -> Expr {
        let known = self.calls.iter().position(|known| *unaliased(known) == call);
        let at = known.unwrap_or(self.calls.len());
        let name = format!("{}{at}", self.prefix);
        if known.is_none() {
            self.calls.push(call.alias(name.clone()));
        }
        Expr::Column(Column::new_unqualified(name))
    }
}

fn called(function: Arc<AggregateUDF>, argument: Expr, filter: Option<Box<Expr>>) -> Expr {
    Expr::AggregateFunction(Call::new_udf(function, vec![argument], false, filter, Vec::new(), None))
}
