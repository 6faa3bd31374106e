//! GROUP BY, and DISTINCT, which is a GROUP BY without aggregates.

use super::Builder;
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::maintain::AGGREGATES;
use crate::session::view_schema;
use crate::types;
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{AggregateFunction as Call, Alias};
use datafusion::logical_expr::{self, Expr, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;
use highwater_engine::plan::{Aggregate, AggregateFunction, Aggregation, Operator};
use std::sync::Arc;

/// How long the keys' part of a node's name may be.
const NAME_CHARS: usize = 80;

impl Builder<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &logical_expr::Aggregate, owner: &str) -> Result<Flow> {
        if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Err(Error::unsupported("GROUPING SETS", "make a view for each grouping", None));
        }
        let input = aggregate.input.schema();
        let schema = view_schema(&aggregate.schema);
        let mut flow = self.lower(&aggregate.input, owner)?;
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
        let operator = Operator::Aggregate(Aggregation { keys, aggregates });
        let what = format!("aggregate({})", key_names(&aggregate.group_expr));
        let node = self.add(owner, &what, vec![flow.node], operator, &schema);
        Ok(Flow::whole(node, &schema))
    }

    fn call(&self, expr: &Expr, input: &DFSchema, output: DataType) -> Result<Aggregate> {
        let Expr::AggregateFunction(call) = unaliased(expr) else {
            return Err(Error::unsupported(expr.to_string(), "it is not an aggregate", None));
        };
        let function = function_of(call)?;
        let filter = match &call.params.filter {
            Some(filter) => self.physical(std::slice::from_ref(filter), input)?.pop(),
            None => None,
        };
        let whole = |e: &Expr| matches!(e, Expr::Literal(value, _) if !value.is_null());
        match call.params.args.as_slice() {
            [] => Ok(count_all(filter, output)),
            [only] if function == AggregateFunction::Count && whole(only) => Ok(count_all(filter, output)),
            [only] => {
                let data_type = only.get_type(input).map_err(|e| Error::Plan(Box::new(e)))?;
                check_type(call.func.name(), function, &data_type)?;
                let argument = self.physical(std::slice::from_ref(only), input)?.pop();
                Ok(Aggregate { function, argument, filter, input: data_type, output })
            }
            _ => {
                let clause = format!("{}() of several columns", call.func.name());
                Err(Error::unsupported(clause, "give it one", None))
            }
        }
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(Alias { expr, .. }) => unaliased(expr),
        other => other,
    }
}

fn count_all(filter: Option<Arc<dyn PhysicalExpr>>, output: DataType) -> Aggregate {
    Aggregate { function: AggregateFunction::Count, argument: None, filter, input: DataType::Int64, output }
}

fn function_of(call: &Call) -> Result<AggregateFunction> {
    let name = call.func.name();
    let params = &call.params;
    if params.distinct {
        let hint = "group by the column in a view of its own";
        return Err(Error::unsupported(format!("DISTINCT in {name}()"), hint, None));
    }
    if !params.order_by.is_empty() {
        return Err(Error::unsupported(format!("ORDER BY in {name}()"), "leave it out", None));
    }
    Ok(match name {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        _ => {
            let hint = format!("{} are kept", AGGREGATES.join(", "));
            return Err(Error::unsupported(format!("{name}()"), hint, None));
        }
    })
}

/// Types whose sums and averages are not kept are refused here, by PostgreSQL's names.
fn check_type(name: &str, function: AggregateFunction, data_type: &DataType) -> Result<()> {
    let adds = matches!(function, AggregateFunction::Sum | AggregateFunction::Avg);
    let nested = data_type.is_nested();
    let interval = matches!(data_type, DataType::Interval(_) | DataType::Duration(_));
    if function == AggregateFunction::Count || !(nested || interval && adds) {
        return Ok(());
    }
    let clause = format!("{name}({})", types::pg_name(data_type));
    Err(Error::unsupported(clause, "convert the argument to a number or text", None))
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
fn key_names(keys: &[Expr]) -> String {
    let names: Vec<String> = keys.iter().map(key_name).collect();
    let all = names.join(", ");
    if all.chars().count() <= NAME_CHARS {
        return all;
    }
    let digest = all
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let head: String = all.chars().take(NAME_CHARS - 17).collect();
    format!("{head}~{digest:016x}")
}

fn key_name(key: &Expr) -> String {
    match key {
        Expr::Column(column) => column.name.clone(),
        Expr::Alias(alias) => alias.name.clone(),
        other => other.human_display().to_string(),
    }
}
