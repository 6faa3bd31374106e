//! `corr` and `regr_r2` of sums of squares that are made as PostgreSQL makes them, in the way of Youngs and Cramer.
//! A NaN or an infinity among the values gives NaN, where DataFusion's `corr` gives null, and `regr_r2` of values
//! that are all the same is 1. Pairs in which one value is null do not count.

use crate::error::DataError;
use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// Makes them known in the places of DataFusion's.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for which in [Which::Corr, Which::RegrR2] {
        let signature = Signature::exact(vec![DataType::Float64, DataType::Float64], Volatility::Immutable);
        state.register_udaf(Arc::new(AggregateUDF::from(Correlation { which, signature })))?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Corr,
    RegrR2,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Correlation {
    which: Which,
    signature: Signature,
}

impl AggregateUDFImpl for Correlation {
    fn name(&self) -> &'static str {
        match self.which {
            Which::Corr => "corr",
            Which::RegrR2 => "regr_r2",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part: &str| Arc::new(Field::new(format_state_name(args.name, part), DataType::Float64, true));
        Ok(PARTS.into_iter().map(field).collect())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Pairs { which: self.which, sums: Sums::default() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// What is kept of a group, in the order of [`Sums::parts`].
const PARTS: [&str; 6] = ["count", "sum_y", "sum_x", "yy", "xx", "yx"];

/// Of pairs of values: how many, their sums, and the sums of the products of their distances to the averages.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    y: f64,
    x: f64,
    yy: f64,
    xx: f64,
    yx: f64,
}

impl Sums {
    const fn parts(self) -> [f64; 6] {
        [self.count, self.y, self.x, self.yy, self.xx, self.yx]
    }

    const fn of_parts([count, y, x, yy, xx, yx]: [f64; 6]) -> Self {
        Self { count, y, x, yy, xx, yx }
    }

    /// The sums of one pair.
    fn of(y: f64, x: f64) -> Self {
        // What is no number has no distance to anything.
        let alone = |is_finite: bool| if is_finite { 0.0 } else { f64::NAN };
        let (yy, xx) = (alone(y.is_finite()), alone(x.is_finite()));
        Self { count: 1.0, y, x, yy, xx, yx: yy + xx }
    }

    /// The sums with one pair more.
    ///
    /// # Errors
    /// 22003 when finite values give what is not.
    fn and(self, y: f64, x: f64) -> Result<Self> {
        if self.count == 0.0 {
            return Ok(Self::of(y, x));
        }
        let count = self.count + 1.0;
        let sums = (self.y + y, self.x + x);
        let (far_y, far_x) = (y * count - sums.0, x * count - sums.1);
        let scale = 1.0 / (count * self.count);
        let all = Self {
            count,
            y: sums.0,
            x: sums.1,
            yy: self.yy + far_y * far_y * scale,
            xx: self.xx + far_x * far_x * scale,
            yx: self.yx + far_y * far_x * scale,
        };
        all.settled([self.y, y], [self.x, x])
    }

    /// The sums of both.
    ///
    /// # Errors
    /// As [`Sums::and`].
    fn with(self, other: Self) -> Result<Self> {
        if self.count == 0.0 {
            return Ok(other);
        }
        if other.count == 0.0 {
            return Ok(self);
        }
        let count = self.count + other.count;
        let far = (self.y / self.count - other.y / other.count, self.x / self.count - other.x / other.count);
        let scale = self.count * other.count / count;
        let all = Self {
            count,
            y: self.y + other.y,
            x: self.x + other.x,
            yy: self.yy + other.yy + scale * far.0 * far.0,
            xx: self.xx + other.xx + scale * far.1 * far.1,
            yx: self.yx + other.yx + scale * far.0 * far.1,
        };
        all.settled([self.y, other.y], [self.x, other.x])
    }

    /// The sums where an infinite product is none, given what was added up.
    fn settled(mut self, y: [f64; 2], x: [f64; 2]) -> Result<Self> {
        let is_given = |parts: [f64; 2]| parts.iter().any(|part| !part.is_finite());
        let (is_y_given, is_x_given) = (is_given(y), is_given(x));
        let is_beyond = (self.y.is_infinite() || self.yy.is_infinite()) && !is_y_given
            || (self.x.is_infinite() || self.xx.is_infinite()) && !is_x_given
            || self.yx.is_infinite() && !is_y_given && !is_x_given;
        if is_beyond {
            let message = "value out of range: overflow".to_owned();
            return Err(DataFusionError::External(Box::new(DataError { sqlstate: "22003", message })));
        }
        for product in [&mut self.yy, &mut self.xx, &mut self.yx] {
            if product.is_infinite() {
                *product = f64::NAN;
            }
        }
        Ok(self)
    }
}

/// The pairs of one group.
#[derive(Debug)]
struct Pairs {
    which: Which,
    sums: Sums,
}

impl Accumulator for Pairs {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [y, x] = values else { return plan_err!("pairs have two values") };
        for pair in y.as_primitive::<Float64Type>().iter().zip(x.as_primitive::<Float64Type>()) {
            if let (Some(y), Some(x)) = pair {
                self.sums = self.sums.and(y, x)?;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let parts: Vec<&Float64Array> = states.iter().map(|part| part.as_primitive::<Float64Type>()).collect();
        let [count, y, x, yy, xx, yx] = parts[..] else { return plan_err!("pairs have another state") };
        for row in 0..count.len() {
            let parts = [count, y, x, yy, xx, yx].map(|part| part.value(row));
            self.sums = self.sums.with(Sums::of_parts(parts))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.sums.parts().into_iter().map(ScalarValue::from).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Sums { count, yy, xx, yx, .. } = self.sums;
        let value = match self.which {
            _ if count == 0.0 || xx == 0.0 => None,
            Which::Corr if yy == 0.0 => None,
            Which::Corr => Some(yx / (xx * yy).sqrt()),
            Which::RegrR2 if yy == 0.0 => Some(1.0),
            Which::RegrR2 => Some(yx * yx / (xx * yy)),
        };
        Ok(ScalarValue::Float64(value))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    fn pairs(which: Which) -> Pairs {
        Pairs { which, sums: Sums::default() }
    }

    fn columns(values: &[(Option<f64>, Option<f64>)]) -> [ArrayRef; 2] {
        let (y, x): (Vec<Option<f64>>, Vec<Option<f64>>) = values.iter().copied().unzip();
        [Arc::new(Float64Array::from(y)), Arc::new(Float64Array::from(x))]
    }

    fn of(which: Which, values: &[(f64, f64)]) -> Result<Option<f64>> {
        let values: Vec<(Option<f64>, Option<f64>)> = values.iter().map(|(y, x)| (Some(*y), Some(*x))).collect();
        let mut all = pairs(which);
        all.update_batch(&columns(&values))?;
        match all.evaluate()? {
            ScalarValue::Float64(value) => Ok(value),
            other => plan_err!("{other} is no number"),
        }
    }

    /// Of averages that are made first.
    fn twin(values: &[(f64, f64)]) -> Option<f64> {
        let count = values.len() as f64;
        let (sum_y, sum_x) = values.iter().fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
        let far = |pair: &(f64, f64)| (pair.0 - sum_y / count, pair.1 - sum_x / count);
        let products =
            values.iter().map(far).fold([0.0; 3], |[yy, xx, yx], (y, x)| [yy + y * y, xx + x * x, yx + y * x]);
        let [yy, xx, yx] = products;
        (yy > 0.0 && xx > 0.0).then(|| yx / (xx * yy).sqrt())
    }

    #[test]
    fn correlations_are_those_by_the_book_also_of_parts() {
        let values: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i * 37 % 19), f64::from(i * i % 23) / 4.0)).collect();
        for rows in 0..values.len() {
            let expected = twin(&values[..rows]);
            let (first, second) = values[..rows].split_at(rows / 3);
            let mut whole = pairs(Which::Corr);
            for part in [first, second] {
                let mut alone = pairs(Which::Corr);
                let part: Vec<(Option<f64>, Option<f64>)> = part.iter().map(|(y, x)| (Some(*y), Some(*x))).collect();
                alone.update_batch(&columns(&part)).expect("added");
                alone.update_batch(&columns(&[(None, Some(1.0)), (Some(1.0), None)])).expect("added");
                let state = alone.state().expect("a state");
                let state: Vec<ArrayRef> = state.iter().map(|part| part.to_array().expect("an array")).collect();
                assert!(state.iter().all(|part| part.len() == 1));
                whole.merge_batch(&state).expect("merged");
            }
            for found in [of(Which::Corr, &values[..rows]).expect("a value"), evaluated(&mut whole)] {
                match (found, expected) {
                    (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-12, "{rows}"),
                    (found, expected) => assert_eq!(found, expected, "{rows}"),
                }
            }
        }
    }

    fn evaluated(pairs: &mut Pairs) -> Option<f64> {
        match pairs.evaluate().expect("a value") {
            ScalarValue::Float64(value) => value,
            other => panic!("{other} is no number"),
        }
    }

    #[test]
    fn what_is_no_number_gives_no_number_and_one_value_nothing() {
        for strange in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for values in [[(1.5, 2.0), (strange, 3.0), (2.0, 5.0)], [(strange, 2.0), (1.0, 3.0), (2.0, 5.0)]] {
                assert!(of(Which::Corr, &values).expect("a value").is_some_and(f64::is_nan));
                let turned = values.map(|(y, x)| (x, y));
                assert!(of(Which::Corr, &turned).expect("a value").is_some_and(f64::is_nan));
            }
            assert_eq!(of(Which::Corr, &[(strange, 2.0), (1.0, 2.0)]).expect("nothing"), None);
        }
        assert_eq!(of(Which::Corr, &[(1.0, 2.0)]).expect("nothing"), None);
        assert_eq!(of(Which::RegrR2, &[(0.1, 3.0), (0.1, 5.0), (0.1, 7.0)]).expect("a value"), Some(1.0));
        assert_eq!(of(Which::RegrR2, &[(3.0, 0.1), (5.0, 0.1)]).expect("nothing"), None);
        assert!(of(Which::Corr, &[(1e200, 3.0), (2e200, 5.0)]).is_err());
    }
}
