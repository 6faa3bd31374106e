//! Functions of numbers that do not exist for all of them: what DataFusion gives as NaN or infinity there is refused,
//! as in PostgreSQL. What is computed is DataFusion's.

use super::refused;
use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::sync::Arc;

/// DataFusion's functions, and for which numbers they exist.
const ALL: [(&str, Domain); 9] = [
    ("ln", Domain::Logarithm),
    ("log", Domain::Logarithm),
    ("log2", Domain::Logarithm),
    ("log10", Domain::Logarithm),
    ("power", Domain::Power),
    ("asin", Domain::Within),
    ("acos", Domain::Within),
    ("atanh", Domain::Within),
    ("acosh", Domain::FromOne),
];

/// Puts the functions in the places of DataFusion's.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    for (name, domain) in ALL {
        let function = Checked(state.udf(name)?, domain);
        state.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    Ok(())
}

/// For which numbers a function exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Domain {
    /// Those above 0; a base is not 1.
    Logarithm,
    /// A base and an exponent whose power is a real number.
    Power,
    /// From -1 to 1.
    Within,
    /// From 1 on.
    FromOne,
}

/// A SQLSTATE and a message.
type Fault = (&'static str, &'static str);

impl Domain {
    /// What is wrong with a value; `first` is what a call of two has before it.
    fn fault(self, first: Option<f64>, value: f64) -> Option<Fault> {
        match (self, first) {
            (Self::Logarithm, base) => logarithm(base, value),
            (Self::Power, Some(base)) => power(base, value),
            (Self::Power, None) => None,
            (Self::Within, _) => (value.abs() > 1.0).then_some(OUT_OF_RANGE),
            (Self::FromOne, _) => (value < 1.0).then_some(OUT_OF_RANGE),
        }
    }

    /// Refuses values of which one is wrong, in rows without nulls.
    fn check(self, args: &[ColumnarValue], rows: usize) -> Result<()> {
        let is_constant = args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { rows };
        let columns = args.iter().map(|arg| doubles(arg, rows)).collect::<Result<Vec<_>>>()?;
        let fault = match columns.as_slice() {
            [values] => {
                let mut values = values.as_primitive::<Float64Type>().iter().flatten();
                values.find_map(|value| self.fault(None, value))
            }
            [firsts, values] => {
                let (firsts, values) = (firsts.as_primitive::<Float64Type>(), values.as_primitive::<Float64Type>());
                let mut pairs = firsts.iter().zip(values).filter_map(|(first, value)| first.zip(value));
                pairs.find_map(|(first, value)| self.fault(Some(first), value))
            }
            _ => None,
        };
        fault.map_or(Ok(()), |(sqlstate, message)| Err(refused(sqlstate, message)))
    }
}

fn doubles(of: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
    Ok(cast(&of.to_array(rows)?, &DataType::Float64)?)
}

const OUT_OF_RANGE: Fault = ("22003", "input is out of range");

fn logarithm(base: Option<f64>, value: f64) -> Option<Fault> {
    let given = [base.unwrap_or(10.0), value];
    if given.iter().any(|number| *number < 0.0) {
        Some(("2201E", "cannot take logarithm of a negative number"))
    } else if given.contains(&0.0) {
        Some(("2201E", "cannot take logarithm of zero"))
    } else {
        // It is divided by the logarithm of its base.
        (base == Some(1.0)).then_some(("22012", "division by zero"))
    }
}

fn power(base: f64, exponent: f64) -> Option<Fault> {
    if base == 0.0 && exponent < 0.0 {
        return Some(("2201F", "zero raised to a negative power is undefined"));
    }
    let is_whole = exponent.is_nan() || exponent.floor() == exponent;
    let message = "a negative number raised to a non-integer power yields a complex result";
    (base < 0.0 && !is_whole).then_some(("2201F", message))
}

/// One of the functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked(Arc<ScalarUDF>, Domain);

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(given)
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.inner().return_type(args)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.1.check(&args.args, args.number_rows)?;
        self.0.inner().invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;
    use datafusion::common::ScalarValue;

    #[test]
    fn logarithms_are_those_of_numbers_above_zero() {
        let state = |base, value| Domain::Logarithm.fault(base, value).map(|(sqlstate, _)| sqlstate);
        assert_eq!(state(None, -1.0), Some("2201E"));
        assert_eq!(state(None, -0.0), Some("2201E"));
        assert_eq!(state(Some(-2.0), 1.0), Some("2201E"));
        assert_eq!(state(Some(0.0), 1.0), Some("2201E"));
        assert_eq!(state(Some(1.0), 2.0), Some("22012"));
        for (base, value) in [(None, 1.0), (None, f64::INFINITY), (None, f64::NAN), (Some(0.5), 1e-300)] {
            assert_eq!(state(base, value), None, "{base:?} {value}");
        }
    }

    #[test]
    fn powers_are_real_numbers() {
        let is_one = |base, exponent| Domain::Power.fault(Some(base), exponent).is_none();
        assert!(!is_one(0.0, -1.0) && !is_one(-0.0, f64::NEG_INFINITY) && !is_one(-1.0, 0.5));
        assert!(is_one(0.0, 0.0) && is_one(-2.0, -3.0) && is_one(2.0, 0.5) && is_one(-2.0, f64::NAN));
        assert!(is_one(-2.0, f64::INFINITY) && is_one(f64::NAN, -1.0));
    }

    #[test]
    fn rows_with_nulls_have_no_faults() {
        let column = |values: Vec<Option<f64>>| ColumnarValue::Array(Arc::new(Float64Array::from(values)) as ArrayRef);
        let check = |args: &[ColumnarValue]| Domain::Power.check(args, 2);
        let exponents = column(vec![Some(-1.0), Some(1.0)]);
        assert!(check(&[column(vec![None, Some(0.0)]), exponents.clone()]).is_ok());
        assert!(check(&[column(vec![Some(0.0), None]), exponents.clone()]).is_err());
        assert!(check(&[ColumnarValue::Scalar(ScalarValue::Float64(Some(0.0))), exponents]).is_err());
        assert!(Domain::Within.check(&[column(vec![None, Some(1.0)])], 2).is_ok());
        assert!(Domain::Within.check(&[column(vec![None, Some(1.5)])], 2).is_err());
    }
}
