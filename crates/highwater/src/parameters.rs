//! The values of `$1`, `$2`, ... and the types that a statement gives them.

use crate::error::Result;
use arrow::datatypes::DataType;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;

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
        Ok(plan.replace_params_with_values(&ParamValues::from(self.0.clone()))?)
    }
}
