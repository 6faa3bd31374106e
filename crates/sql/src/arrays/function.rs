//! Functions over arrays as DataFusion sees them: which arguments they take, and what they give.

use super::{compute, text};
use crate::bounded;
use crate::jsonb;
use crate::numbers;
use crate::numerals;
use crate::scalars;
use crate::types::{self, array_of, is_jsonb, is_text};
use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::{Result, plan_err};
use datafusion::functions_nested::range::gen_series_udf;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{
    ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::any::Any;
use std::sync::Arc;

/// What a function does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Element,
    Slice,
    Length,
    Lower,
    Dimensions,
    DimensionCount,
    Cardinality,
    Append,
    Prepend,
    Joined,
    Position,
    Positions,
    Remove,
    Replace,
    Compared {
        operator: Operator,
        all: bool,
    },
    Contains,
    Overlaps,
    ToText,
    FromText,
    Series,
    /// An array of this type from its text.
    Parsed(DataType),
    /// An array's text.
    Printed,
}

/// A function over arrays.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ArrayFunction {
    name: String,
    kind: Kind,
    signature: Signature,
}

impl ArrayFunction {
    pub(super) fn udf(name: &str, kind: Kind) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::from(Self { name: name.to_owned(), kind, signature })
    }

    /// Whether it gives an array with elements of its arguments.
    const fn gives_elements(&self) -> bool {
        matches!(self.kind, Kind::Append | Kind::Prepend | Kind::Remove | Kind::Replace)
    }

    /// Whether a function compares a value with the elements of an array.
    pub(super) fn compares(function: &ScalarUDF) -> bool {
        let any: &dyn Any = function.inner().as_ref();
        any.downcast_ref::<Self>().is_some_and(|own| matches!(own.kind, Kind::Compared { .. }))
    }

    /// Whether a function takes elements beside an array, or two arrays.
    pub(super) fn has_elements(function: &ScalarUDF) -> bool {
        use Kind::{Append, Compared, Contains, Joined, Overlaps, Position, Positions, Prepend, Remove, Replace};
        let any: &dyn Any = function.inner().as_ref();
        any.downcast_ref::<Self>().is_some_and(|own| {
            matches!(own.kind, Append | Prepend | Joined | Position | Positions | Remove | Replace)
                || matches!(own.kind, Compared { .. } | Contains | Overlaps)
        })
    }

    /// Whether a function is one of these and does not ask which of two values is less.
    pub(super) fn takes_unordered(function: &ScalarUDF) -> bool {
        use Operator::{Gt, GtEq, Lt, LtEq};
        let any: &dyn Any = function.inner().as_ref();
        let orders = |own: &Self| matches!(own.kind, Kind::Compared { operator: Lt | LtEq | Gt | GtEq, .. });
        any.downcast_ref::<Self>().is_some_and(|own| !orders(own))
    }

    fn refused<T>(&self, given: &[DataType]) -> Result<T> {
        let given: Vec<String> = given.iter().map(types::pg_name).collect();
        // Nobody writes the one that `respell` puts there.
        let name = if self.kind == Kind::Series { "generate_series" } else { self.name.as_str() };
        plan_err!("function {name}({}) does not exist", given.join(", "))
    }

    /// The types of arguments of which one is an array and the others are elements: `array` is its place.
    fn with_elements(&self, given: &[DataType], array: usize) -> Result<Vec<DataType>> {
        let Some(own) = element_of(&given[array]) else { return self.refused(given) };
        // A text is read as whatever the elements are, and a whole number is one of theirs.
        let is_own = |of: &DataType| {
            is_text(of) && !own.is_null() || self.gives_elements() && of.is_integer() && own.is_integer()
        };
        let read = |of: &DataType| if is_own(of) { own.clone() } else { of.clone() };
        let others = given.iter().enumerate().filter(|(at, _)| *at != array).map(|(_, of)| read(of));
        let all: Vec<DataType> = [own.clone()].into_iter().chain(others).collect();
        let compared = match self.kind {
            Kind::Compared { .. } => numbers::type_compared(all.iter()),
            _ => None,
        };
        let Some(element) = compared.or_else(|| common(&all)) else { return self.refused(given) };
        let wanted = |at| if at == array { array_of(element.clone()) } else { element.clone() };
        Ok((0..given.len()).map(wanted).collect())
    }

    /// The types of two arrays.
    fn two_arrays(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let elements: Option<Vec<DataType>> = given.iter().map(element_of).collect();
        let Some(element) = elements.and_then(|elements| common(&elements)) else { return self.refused(given) };
        Ok(vec![array_of(element); 2])
    }

    /// The types of an array and what is not of its elements' type.
    fn array_and(&self, given: &[DataType], others: &[DataType]) -> Result<Vec<DataType>> {
        let Some(element) = element_of(&given[0]) else { return self.refused(given) };
        let taken = |(given, wanted): (&DataType, &DataType)| {
            given == wanted
                || given.is_null()
                || (given.is_integer() && wanted.is_integer())
                || is_text(given) && is_text(wanted)
        };
        if !given[1..].iter().zip(others).all(taken) {
            return self.refused(given);
        }
        let others = others.iter().take(given.len() - 1).cloned();
        Ok([array_of(element)].into_iter().chain(others).collect())
    }

    fn is_count_right(&self, count: usize) -> bool {
        match &self.kind {
            Kind::Dimensions | Kind::DimensionCount | Kind::Cardinality | Kind::Parsed(_) | Kind::Printed => count == 1,
            Kind::Slice | Kind::Replace => count == 3,
            Kind::Position | Kind::ToText | Kind::FromText | Kind::Series => count == 2 || count == 3,
            _ => count == 2,
        }
    }

    fn compute(&self, args: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
        match &self.kind {
            Kind::Element => compute::element(args),
            Kind::Slice => compute::slice(args),
            Kind::Length => compute::length(args),
            Kind::Lower => compute::lower(args),
            Kind::Dimensions => compute::dimensions(args),
            Kind::DimensionCount => compute::dimension_count(args),
            Kind::Cardinality => compute::cardinality(args),
            Kind::Append => compute::append(args),
            Kind::Prepend => compute::prepend(args),
            Kind::Joined => compute::joined(args),
            Kind::Position => compute::position(args),
            Kind::Positions => compute::positions(args),
            Kind::Remove => compute::remove(args),
            Kind::Replace => compute::replace(args),
            Kind::Compared { operator, all } if is_text(args[1].data_type()) => {
                // The elements of numerics have digits of their own.
                let values = match args[0].data_type() {
                    DataType::Decimal128(..) => arrow::compute::cast(&args[0], &numerals::WIDEST)?,
                    _ => Arc::clone(&args[0]),
                };
                let arrays = parsed(&args[1], &array_of(values.data_type().clone()))?;
                compute::compared(&[values, arrays], *operator, *all)
            }
            Kind::Compared { operator, all } => compute::compared(args, *operator, *all),
            Kind::Contains => compute::contains(args),
            Kind::Overlaps => compute::overlaps(args),
            Kind::ToText => compute::to_string(args),
            Kind::FromText => compute::from_string(args),
            Kind::Series => compute::series(args),
            Kind::Parsed(array) => parsed(&args[0], array),
            Kind::Printed => Ok(Arc::new(crate::spelling::array_texts(args[0].as_list::<i32>())?)),
        }
    }
}

/// The type of an array's elements; for a null, that of a null.
fn element_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
            let element = types::plain(of.data_type()).unwrap_or_else(|| of.data_type().clone());
            (!element.is_nested()).then_some(element)
        }
        DataType::Null => Some(DataType::Null),
        _ => None,
    }
}

/// The type that values of several types have together; texts are varchar.
fn common(all: &[DataType]) -> Option<DataType> {
    let all: Vec<DataType> = all.iter().map(|t| types::plain(t).unwrap_or_else(|| t.clone())).collect();
    if all.iter().any(DataType::is_nested) {
        return None;
    }
    let is_text = |of: &DataType| is_text(of) || of.is_null();
    if all.iter().any(is_text) && !all.iter().all(is_text) && all.contains(&DataType::Utf8) {
        return None;
    }
    let found = numbers::type_together(all.iter()).or_else(|| type_union_resolution(&all))?;
    Some(types::plain(&found).unwrap_or(found))
}

/// The type of a series of times, which has two ends and an interval.
fn instant_of(given: &[DataType]) -> Option<DataType> {
    let [first, last, step] = given else { return None };
    let is_time = |of: &DataType| matches!(of, DataType::Timestamp(..) | DataType::Date32) || is_text(of);
    let is_step = matches!(step, DataType::Interval(_)) || is_text(step);
    if !is_step || !is_time(first) || !is_time(last) || is_text(first) && is_text(last) {
        return None;
    }
    let zone = [first, last].into_iter().find_map(|of| match of {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    });
    Some(DataType::Timestamp(TimeUnit::Microsecond, zone))
}

/// Arrays from their texts. Elements are read as casts read them.
fn parsed(texts: &ArrayRef, array: &DataType) -> Result<ArrayRef, ArrowError> {
    let DataType::List(field) = array else {
        return Err(ArrowError::CastError(format!("{array} is no array")));
    };
    let texts = texts.as_string::<i32>();
    let (offsets, elements) = text::elements(texts).map_err(|(row, malformed)| {
        let (_, message, detail) = malformed.words(texts.value(row));
        ArrowError::CastError(detail.map_or(message.clone(), |detail| format!("{message}: {detail}")))
    })?;
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let values = match field.data_type() {
        of if is_jsonb(of) => jsonb::parsed(&elements)?,
        DataType::Binary => {
            scalars::read_bytes(&elements).map_err(|malformed| ArrowError::CastError(malformed.to_string()))?
        }
        of if of.is_temporal() => scalars::read(&elements, of).map_err(|e| ArrowError::ExternalError(Box::new(e)))?,
        of => cast_with_options(&elements, of, &strict)?,
    };
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, texts.nulls().cloned())?))
}

impl ScalarUDFImpl for ArrayFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        use DataType::{Int64, Utf8};
        if !self.is_count_right(given.len()) {
            return self.refused(given);
        }
        match &self.kind {
            Kind::Element | Kind::Length | Kind::Lower => self.array_and(given, &[Int64]),
            Kind::Slice => self.array_and(given, &[Int64, Int64]),
            Kind::Dimensions | Kind::DimensionCount | Kind::Cardinality | Kind::Printed => self.array_and(given, &[]),
            Kind::Append | Kind::Remove | Kind::Replace | Kind::Positions => self.with_elements(given, 0),
            Kind::Position => {
                let mut taken = self.with_elements(&given[..2], 0)?;
                taken.extend(given.get(2).map(|_| Int64));
                Ok(taken)
            }
            Kind::Compared { .. } if is_text(&given[1]) || given[1].is_null() && !given[0].is_null() => {
                Ok(vec![types::plain(&given[0]).unwrap_or_else(|| given[0].clone()), Utf8])
            }
            Kind::Prepend | Kind::Compared { .. } => self.with_elements(given, 1),
            Kind::Joined | Kind::Contains | Kind::Overlaps => self.two_arrays(given),
            Kind::ToText => self.array_and(given, &[Utf8, Utf8]),
            Kind::FromText if given.iter().all(|of| is_text(of) || of.is_null()) => Ok(vec![Utf8; given.len()]),
            Kind::Series if given.iter().all(|of| of.is_integer() || of.is_null()) => Ok(vec![Int64; given.len()]),
            Kind::Series => match instant_of(given) {
                Some(instant) => Ok(vec![instant.clone(), instant, DataType::Interval(IntervalUnit::MonthDayNano)]),
                None => self.refused(given),
            },
            Kind::FromText => self.refused(given),
            Kind::Parsed(_) => Ok(vec![Utf8]),
        }
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(match &self.kind {
            Kind::Element => element_of(&args[0]).unwrap_or(DataType::Null),
            Kind::Length | Kind::Lower | Kind::DimensionCount | Kind::Cardinality | Kind::Position => DataType::Int32,
            Kind::Dimensions | Kind::ToText | Kind::Printed => DataType::Utf8,
            Kind::Slice | Kind::Append | Kind::Joined | Kind::Remove | Kind::Replace => args[0].clone(),
            Kind::Prepend => args[1].clone(),
            Kind::Positions => array_of(DataType::Int32),
            Kind::Compared { .. } | Kind::Contains | Kind::Overlaps => DataType::Boolean,
            Kind::FromText => array_of(DataType::Utf8),
            Kind::Series => array_of(args[0].clone()),
            Kind::Parsed(array) => array.clone(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.kind == Kind::Series && matches!(args.args[0].data_type(), DataType::Timestamp(..)) {
            let bounds = ColumnarValue::values_to_arrays(&args.args)?;
            compute::check_times(&bounds)?;
            let given = args.return_field.data_type().clone();
            return gen_series_udf().invoke_with_args(args)?.cast_to(&given, None);
        }
        bounded::by_columns(&self.name, &args, |args| Ok(self.compute(args)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_arrays_come_to_one_type() {
        use DataType::{Boolean, Int32, Int64, Null, Utf8};
        let append = ArrayFunction::udf("array_append", Kind::Append);
        for (array, element, expected) in [
            (array_of(Int32), Int32, Some(Int32)),
            (array_of(Int32), Int64, Some(Int32)),
            (array_of(Int32), DataType::Float64, Some(DataType::Float64)),
            (array_of(DataType::Decimal128(9, 2)), DataType::Float64, Some(DataType::Float64)),
            (array_of(DataType::Float32), DataType::Decimal128(9, 2), Some(DataType::Float32)),
            (Null, Int32, Some(Int32)),
            (array_of(Utf8), DataType::Utf8View, Some(Utf8)),
            (array_of(Int32), Null, Some(Int32)),
            (array_of(Int32), Boolean, None),
            (array_of(Int32), Utf8, Some(Int32)),
            (Int32, Int32, None),
            (array_of(array_of(Int32)), Int32, None),
        ] {
            let taken = append.coerce_types(&[array.clone(), element.clone()]).ok();
            assert_eq!(taken, expected.map(|of| vec![array_of(of.clone()), of]), "{array} {element}");
        }
    }
}
