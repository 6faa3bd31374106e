//! The values of `$1`, `$2`, ... and the types that a statement gives them.

use crate::error::Result;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, cast};

/// The values of a statement's parameters, the first one first.
#[derive(Clone, Debug, Default)]
pub struct Parameters(pub Vec<ScalarValue>);

impl Parameters {
    /// No parameters.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The value of `$n`, by its text.
    pub(crate) fn named(&self, name: &str) -> Option<&ScalarValue> {
        let number: usize = name.strip_prefix('$')?.parse().ok()?;
        self.0.get(number.checked_sub(1)?)
    }

    pub(crate) fn types(&self) -> Vec<Option<DataType>> {
        self.0.iter().map(|value| Some(value.data_type()).filter(|t| *t != DataType::Null)).collect()
    }

    /// The same values with instants in UTC, as plans have them.
    pub(crate) fn in_utc(&self) -> Result<Self> {
        let value = |value: &ScalarValue| match value.data_type() {
            DataType::Timestamp(unit, Some(_)) => value.cast_to(&DataType::Timestamp(unit, Some("UTC".into()))),
            _ => Ok(value.clone()),
        };
        Ok(Self(self.0.iter().map(value).collect::<Result<_, _>>()?))
    }

    /// The plan with the values in it.
    pub(crate) fn put_into(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if self.0.is_empty() {
            return Ok(plan);
        }
        let plan = if self.0.iter().any(is_double) { self.told_as_doubles(plan)? } else { plan };
        Ok(plan.replace_params_with_values(&ParamValues::from(self.0.clone()))?)
    }

    /// The plan with casts around those that are doubles: one that stands alone is a number that is written out, which
    /// is a numeric beside others and below casts.
    fn told_as_doubles(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let is_one = |expr: &Expr| match expr {
            Expr::Placeholder(Placeholder { id, .. }) => self.named(id).is_some_and(is_double),
            _ => false,
        };
        let told = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let told = expr.transform_up(|expr| {
                    let is_one = is_one(&expr);
                    let expr = if is_one { cast(expr, DataType::Float64) } else { expr };
                    Ok(Transformed::new_transformed(expr, is_one))
                })?;
                Ok(if told.transformed { told.update_data(|expr| name.restore(expr)) } else { told })
            })
        })?;
        Ok(told.data)
    }
}

/// Whether a value is a double that is there.
const fn is_double(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::Float64(Some(_)))
}
