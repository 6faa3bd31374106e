//! Ties: which of several rows with equal sort keys comes first is decided by all of their columns,
//! so that the same rows always give the same output.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{AggregateFunction, Alias, WindowFunction};
use datafusion::logical_expr::{Expr, SortExpr, WindowFrameUnits, col};

/// Window functions that tell rows with equal sort keys apart, whatever their frame is.
const BY_ROW: [&str; 4] = ["row_number", "ntile", "lag", "lead"];
/// Functions whose result depends on the order in which rows come.
pub(crate) const BY_ORDER: [&str; 6] = ["first_value", "last_value", "nth_value", "array_agg", "string_agg", "listagg"];

/// Those of them that DataFusion keeps for groups, together with the keys of their order: these may not repeat.
const FIRST_OR_LAST: [&str; 2] = ["first_value", "last_value"];

/// All columns that have an order, as sort keys.
pub(crate) fn all_columns(schema: &DFSchema) -> Vec<SortExpr> {
    let columns = schema.columns().into_iter().zip(schema.fields());
    let columns = columns.filter(|(_, field)| has_order(field.data_type()));
    columns.map(|(column, _)| col(column).sort(true, false)).collect()
}

/// An order without ties: at last the columns decide that are not in it.
pub(crate) fn untied(order: &[SortExpr], schema: &DFSchema) -> Vec<SortExpr> {
    order.iter().cloned().chain(all_columns(schema).into_iter().filter(|more| !is_in(order, more))).collect()
}

fn is_in(order: &[SortExpr], more: &SortExpr) -> bool {
    order.iter().any(|key| key.expr == more.expr)
}

/// An order in which no key stands twice, where the function takes no other.
pub(crate) fn keys_once(function: &str, order: Vec<SortExpr>) -> Vec<SortExpr> {
    if !FIRST_OR_LAST.contains(&function) {
        return order;
    }
    let mut once: Vec<SortExpr> = Vec::with_capacity(order.len());
    for key in order {
        if !is_in(&once, &key) {
            once.push(key);
        }
    }
    once
}

/// Whether rows can be sorted by a column: also by arrays, their elements one after another.
fn has_order(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(of) => !of.data_type().is_nested(),
        other => !other.is_nested(),
    }
}

/// An aggregate that takes its rows in an order without ties. Its name stays.
pub(super) fn aggregate(expr: &Expr, input: &DFSchema) -> Expr {
    renamed(expr, |inner| match inner {
        Expr::AggregateFunction(mut call) if BY_ORDER.contains(&call.func.name()) => {
            let more = more_order(&call, input);
            call.params.order_by.extend(more);
            Expr::AggregateFunction(call)
        }
        other => other,
    })
}

/// DISTINCT knows its argument only, and has each value once.
fn more_order(call: &AggregateFunction, input: &DFSchema) -> Vec<SortExpr> {
    if !call.params.distinct {
        let order = &call.params.order_by;
        let is_new = |more: &SortExpr| !(FIRST_OR_LAST.contains(&call.func.name()) && is_in(order, more));
        return all_columns(input).into_iter().filter(is_new).collect();
    }
    let is_there = |argument: &Expr| call.params.order_by.iter().any(|sort| sort.expr == *argument);
    let first = call.params.args.first().filter(|argument| !is_there(argument));
    first.map(|argument| argument.clone().sort(true, false)).into_iter().collect()
}

/// A window function that sees its rows in an order without ties, where that does not change what
/// its peers are. Its name stays.
pub(crate) fn window(expr: &Expr, input: &DFSchema) -> Expr {
    renamed(expr, |inner| match inner {
        Expr::WindowFunction(mut call) if is_by_row(&call) => {
            call.params.order_by = untied(&call.params.order_by, input);
            Expr::WindowFunction(call)
        }
        other => other,
    })
}

fn is_by_row(call: &WindowFunction) -> bool {
    let name = call.fun.name();
    let is_ranked = ["rank", "dense_rank", "percent_rank", "cume_dist"].contains(&name);
    BY_ROW.contains(&name) || (call.params.window_frame.units == WindowFrameUnits::Rows && !is_ranked)
}

/// The order that the input of a window needs where peers share a frame but not a place: that of
/// the window, then all columns.
pub(super) fn window_order(exprs: &[Expr], input: &DFSchema) -> Option<Vec<SortExpr>> {
    let call = exprs.iter().find_map(|expr| match unaliased(expr) {
        Expr::WindowFunction(call) if BY_ORDER.contains(&call.fun.name()) && !is_by_row(call) => Some(call),
        _ => None,
    })?;
    let mut order: Vec<SortExpr> = call.params.partition_by.iter().map(|e| e.clone().sort(true, false)).collect();
    order.extend(call.params.order_by.iter().cloned());
    order.extend(all_columns(input));
    Some(order)
}

/// An expression without its name.
pub(super) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(Alias { expr, .. }) => unaliased(expr),
        other => other,
    }
}

/// An expression changed below its name, under the name that it had.
fn renamed(expr: &Expr, change: impl FnOnce(Expr) -> Expr) -> Expr {
    let inner = unaliased(expr).clone();
    let changed = change(inner.clone());
    match expr {
        Expr::Alias(alias) => changed.alias_qualified(alias.relation.clone(), &alias.name),
        _ if changed == inner => changed,
        _ => changed.alias(expr.schema_name().to_string()),
    }
}
