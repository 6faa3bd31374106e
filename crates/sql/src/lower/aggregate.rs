//! GROUP BY, and DISTINCT, which is a GROUP BY without aggregates. Five aggregate functions are kept
//! incrementally, and what follows from them (`composed`); a GROUP BY with any other is computed anew by group.

use super::Builder;
use super::flow::Flow;
use super::identity;
use super::sessions;
use super::ties::unaliased;
use crate::arithmetic;
use crate::error::{Error, Result};
use crate::session::view_schema;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction as Call, Alias};
use datafusion::logical_expr::{self, Expr, ExprSchemable, lit};
use datafusion::physical_expr::PhysicalExpr;
use highwater_engine::plan::{Aggregate, AggregateFunction, Aggregation, NodeId, Operator};
use std::sync::Arc;

/// How long the keys' part of a node's name may be.
const NAME_CHARS: usize = 80;

impl Builder<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &logical_expr::Aggregate, owner: &str) -> Result<Flow> {
        if let Some(composed) = self.composed(aggregate, owner)? {
            let flow = self.aggregate(&composed.below, owner)?;
            return self.over_composed(&composed, aggregate, flow, owner);
        }
        let is_of_sets = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
        if let Some(session) = sessions::below(&aggregate.input).filter(|_| !is_of_sets) {
            return self.sessions_grouped(aggregate, session, owner);
        }
        let flow = self.lower(&aggregate.input, owner)?;
        if is_of_sets {
            return self.grouping_sets(aggregate, flow, owner);
        }
        self.grouped(aggregate, flow, owner)
    }

    /// GROUP BY of a flow's rows.
    pub(super) fn grouped(&mut self, aggregate: &logical_expr::Aggregate, flow: Flow, owner: &str) -> Result<Flow> {
        if !Self::is_kept(aggregate) {
            return self.regrouped(aggregate, flow, owner);
        }
        let schema = view_schema(&aggregate.schema);
        let (aggregation, input) = self.aggregation(aggregate, flow, owner)?;
        let what = format!("aggregate({})", key_names(&aggregate.group_expr)?);
        let node = self.add(owner, &what, vec![input], Operator::Aggregate(aggregation), &schema);
        Ok(Flow::whole(node, &schema))
    }

    /// Keys and aggregates that are kept incrementally, over the columns of the node that comes with them.
    pub(super) fn aggregation(
        &mut self,
        aggregate: &logical_expr::Aggregate,
        mut flow: Flow,
        owner: &str,
    ) -> Result<(Aggregation, NodeId)> {
        let input = aggregate.input.schema();
        let schema = view_schema(&aggregate.schema);
        if flow.is_filtered() {
            let kept = Arc::clone(flow.schema());
            let node = self.settle(flow, owner);
            flow = Flow::whole(node, &kept);
        }
        let keys = self.physical(&aggregate.group_expr, input)?;
        let mut aggregates = Vec::with_capacity(aggregate.aggr_expr.len());
        for (i, expr) in aggregate.aggr_expr.iter().enumerate() {
            let output = schema.field(keys.len() + i).data_type().clone();
            aggregates.push(self.call(expr, input, output)?);
        }
        let flow = self.sparing(flow, &all_expressions(&keys, &aggregates), owner);
        let keys = keys.into_iter().map(|key| flow.over_node(key)).collect();
        let aggregates = aggregates.into_iter().map(|a| over_node(a, &flow)).collect();
        Ok((Aggregation { keys, aggregates }, flow.node))
    }

    pub(super) fn call(&self, expr: &Expr, input: &DFSchema, output: DataType) -> Result<Aggregate> {
        let Expr::AggregateFunction(call) = unaliased(expr) else {
            return Err(Error::unsupported(expr.to_string(), "it is not an aggregate", None));
        };
        let Some(function) = function_of(call) else {
            return Err(Error::unsupported(format!("{}()", call.func.name()), "it is not kept like this", None));
        };
        let filter = match &call.params.filter {
            Some(filter) => self.physical(std::slice::from_ref(filter), input)?.pop(),
            None => None,
        };
        let whole = |e: &Expr| matches!(e, Expr::Literal(value, _) if !value.is_null());
        match call.params.args.as_slice() {
            [] => Ok(count_all(filter, output)),
            [only] if function == AggregateFunction::Count && whole(only) && !call.params.distinct => {
                Ok(count_all(filter, output))
            }
            [only] => {
                let data_type = only.get_type(input).map_err(|e| Error::Plan(Box::new(e)))?;
                let argument = self.physical(std::slice::from_ref(only), input)?.pop();
                let extreme = matches!(function, AggregateFunction::Min | AggregateFunction::Max);
                let distinct = call.params.distinct && !extreme;
                Ok(Aggregate { function, argument, distinct, filter, input: data_type, output })
            }
            _ => {
                let clause = format!("{}() of several columns", call.func.name());
                Err(Error::unsupported(clause, "give it one", None))
            }
        }
    }
}

fn count_all(filter: Option<Arc<dyn PhysicalExpr>>, output: DataType) -> Aggregate {
    let input = DataType::Int64;
    Aggregate { function: AggregateFunction::Count, argument: None, distinct: false, filter, input, output }
}

/// The function of a call, if it is one that is kept incrementally and is called plainly.
fn function_of(call: &Call) -> Option<AggregateFunction> {
    let params = &call.params;
    if !params.order_by.is_empty() || params.args.len() > 1 {
        return None;
    }
    match call.func.name() {
        "count" => Some(AggregateFunction::Count),
        "sum" => Some(AggregateFunction::Sum),
        "avg" => Some(AggregateFunction::Avg),
        "min" => Some(AggregateFunction::Min),
        "max" => Some(AggregateFunction::Max),
        _ => None,
    }
}

/// Whether an aggregate is kept incrementally: one of five functions, of a type that it is kept for.
pub(super) fn is_kept(expr: &Expr, input: &DFSchema) -> bool {
    let Expr::AggregateFunction(call) = unaliased(expr) else { return false };
    let Some(function) = function_of(call) else { return false };
    let Some(argument) = call.params.args.first() else { return true };
    let Ok(data_type) = argument.get_type(input) else { return false };
    let adds = matches!(function, AggregateFunction::Sum | AggregateFunction::Avg);
    let interval = matches!(data_type, DataType::Interval(_) | DataType::Duration(_));
    let counts = function == AggregateFunction::Count && !call.params.distinct;
    counts || !(data_type.is_nested() || interval && adds)
}

fn all_expressions(keys: &[Arc<dyn PhysicalExpr>], aggregates: &[Aggregate]) -> Vec<Arc<dyn PhysicalExpr>> {
    let arguments = aggregates.iter().flat_map(|a| a.argument.iter().chain(&a.filter));
    keys.iter().chain(arguments).cloned().collect()
}

fn over_node(aggregate: Aggregate, flow: &Flow) -> Aggregate {
    Aggregate {
        argument: aggregate.argument.map(|e| flow.over_node(e)),
        filter: aggregate.filter.map(|e| flow.over_node(e)),
        ..aggregate
    }
}

/// The keys as they are written, for the node's name.
pub(super) fn key_names(keys: &[Expr]) -> Result<String> {
    let names: Vec<String> = keys.iter().map(key_name).collect::<Result<_>>()?;
    Ok(shortened(names.join(", ")))
}

/// A part of a node's name: long ones end with a digest.
pub(super) fn shortened(all: String) -> String {
    if all.chars().count() <= NAME_CHARS {
        return all;
    }
    let digest = all
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let head: String = all.chars().take(NAME_CHARS - 17).collect();
    format!("{head}~{digest:016x}")
}

pub(super) fn key_name(key: &Expr) -> Result<String> {
    match key {
        Expr::Column(column) => Ok(column.name.clone()),
        Expr::Alias(alias) if !is_widened(alias)? => Ok(alias.name.clone()),
        Expr::Alias(alias) => key_name(&alias.expr),
        other => match arithmetic::written(other.clone()).map_err(|e| Error::Plan(Box::new(e)))? {
            Expr::Column(column) => Ok(column.name),
            written => Ok(identity::named(&written)?),
        },
    }
}

/// Whether an alias only keeps what an expression was called before integers that are written out in it became
/// bigints.
fn is_widened(alias: &Alias) -> Result<bool> {
    let narrow = |part: Expr| {
        let number = match &part {
            Expr::Literal(ScalarValue::Int64(Some(number)), _) => i32::try_from(*number).ok(),
            _ => None,
        };
        Ok(number.map_or_else(|| Transformed::no(part), |number| Transformed::yes(lit(number))))
    };
    let was = alias.expr.as_ref().clone().transform_up(narrow).map_err(|e| Error::Plan(Box::new(e)))?;
    Ok(was.transformed && was.data.schema_name().to_string() == alias.name)
}
