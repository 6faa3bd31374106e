//! GROUPING SETS, CUBE and ROLLUP: one GROUP BY a set over the same rows, and their union.

use super::Builder;
use super::flow::Flow;
use crate::error::{Error, Result};
use crate::session::view_schema;
use crate::sets::{MOST_CUBED, without};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::GroupingSet;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, lit};
use highwater_engine::plan::Operator;
use std::sync::Arc;

impl Builder<'_> {
    pub(super) fn grouping_sets(&mut self, aggregate: &Aggregate, flow: Flow, owner: &str) -> Result<Flow> {
        let plan = |e| Error::Plan(Box::new(e));
        let all = grouping_set_to_exprlist(&aggregate.group_expr).map_err(plan)?;
        let all: Vec<Expr> = all.into_iter().cloned().collect();
        let schema = view_schema(&aggregate.schema);
        let kept = Arc::clone(flow.schema());
        let source = self.settle(flow, owner);
        let mut seen: Vec<Vec<Expr>> = Vec::new();
        let mut inputs = Vec::new();
        for set in sets_of(&aggregate.group_expr)? {
            let keys: Vec<Expr> = all.iter().filter(|key| set.contains(key)).cloned().collect();
            let before = seen.iter().filter(|other| **other == set).count();
            let id = grouping_id(&all, &keys, before, schema.field(all.len()).data_type())?;
            if keys.is_empty() && aggregate.aggr_expr.is_empty() {
                let hint = "leave the empty set out, or add an aggregate";
                return Err(Error::unsupported("an empty grouping set without aggregates", hint, None));
            }
            let one = Aggregate::try_new(Arc::clone(&aggregate.input), keys.clone(), aggregate.aggr_expr.clone());
            let grouped = self.grouped(&one.map_err(plan)?, Flow::whole(source, &kept), owner)?;
            let columns = widened(&all, &keys, id, &grouped, &schema)?;
            inputs.push(self.settle(grouped.project(columns, &schema), owner));
            seen.push(set);
        }
        let node = self.add(owner, "union", inputs, Operator::Union, &schema);
        Ok(Flow::whole(node, &schema))
    }
}

fn sets_of(group: &[Expr]) -> Result<Vec<Vec<Expr>>> {
    let [Expr::GroupingSet(sets)] = group else {
        return Err(Error::unsupported("GROUPING SETS beside other keys", "write the sets out", None));
    };
    Ok(match sets {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(keys) => (0..=keys.len()).rev().map(|n| keys[..n].to_vec()).collect(),
        GroupingSet::Cube(keys) if keys.len() > MOST_CUBED => {
            return Err(Error::unsupported(format!("CUBE of {} columns", keys.len()), "write the sets out", None));
        }
        GroupingSet::Cube(keys) => (0_usize..1 << keys.len()).map(|left_out| without(keys, left_out)).collect(),
    })
}

/// What grouping() is computed from: a bit for each key that is left out, the last key's the lowest,
/// and above them how many sets before are the same.
fn grouping_id(all: &[Expr], keys: &[Expr], before: usize, data_type: &DataType) -> Result<ScalarValue> {
    let mask = all.iter().fold(0_u64, |mask, key| (mask << 1) | u64::from(!keys.contains(key)));
    let id = mask | ((before as u64) << all.len());
    ScalarValue::UInt64(Some(id)).cast_to(data_type).map_err(|e| Error::Plan(Box::new(e)))
}

/// The columns of all sets: one set's keys with nulls for the others, its id and its aggregates.
fn widened(
    all: &[Expr],
    keys: &[Expr],
    id: ScalarValue,
    grouped: &Flow,
    schema: &SchemaRef,
) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let column = |i: usize| Arc::new(Column::new(grouped.schema().field(i).name(), i)) as Arc<dyn PhysicalExpr>;
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (at, key) in all.iter().enumerate() {
        columns.push(match keys.iter().position(|k| k == key) {
            Some(i) => column(i),
            None => {
                let null = ScalarValue::try_from(schema.field(at).data_type());
                lit(null.map_err(|e| Error::Plan(Box::new(e)))?)
            }
        });
    }
    columns.push(lit(id));
    columns.extend((keys.len()..grouped.schema().fields().len()).map(column));
    Ok(columns)
}
