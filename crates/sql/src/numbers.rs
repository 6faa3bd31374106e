//! Numbers of several types beside each other, where PostgreSQL finds another type for them than DataFusion, which
//! takes a numeric with 15 digits behind the point for a double.
//!
//! - Values that are to have one type (`coalesce`, the branches of a CASE, ARRAY, UNION, VALUES) have the last of
//!   these that one of them has: integers, numeric, real, double precision. Integers of several types are what
//!   DataFusion makes of them, the largest; of CASE and UNION it knows that only once a plan is analyzed.
//! - Values that are compared are double precision where one is floating point and another is not, or is a double.
//! - A number that is written out with a fraction is a numeric, as in PostgreSQL: beside a numeric it keeps its digits,
//!   and beside a real it is one. What is double precision otherwise stays so.
//!
//! Arrays go by their elements.

use crate::numerals::{self, as_double, as_numeric, exact};
use crate::types::{array_of, is_text};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::type_coercion::binary::{type_union_coercion, type_union_resolution};
use datafusion::logical_expr::{
    Cast, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Projection, Union, Values, cast,
};
use std::collections::HashMap;
use std::sync::Arc;

/// What numbers are brought to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Brought {
    /// This type of floating point, or of arrays of it.
    To(DataType),
    /// Numerics: what is written out keeps its digits, and DataFusion finds the type.
    Exact,
}

/// Which kinds of numbers stand beside each other.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    integer: bool,
    /// Written out with a fraction.
    written: bool,
    numeric: bool,
    real: bool,
    double: bool,
    /// Whether some are elements of arrays, and some are not.
    in_arrays: bool,
    alone: bool,
}

impl Seen {
    /// Counts a type in; false when it is none of numbers.
    fn add(&mut self, of: &DataType) -> bool {
        let of = match of {
            DataType::List(of) => {
                self.in_arrays = true;
                of.data_type()
            }
            of => {
                self.alone |= !of.is_null();
                of
            }
        };
        match of {
            DataType::Float64 => self.double = true,
            DataType::Float32 => self.real = true,
            DataType::Decimal128(..) => self.numeric = true,
            of if of.is_integer() => self.integer = true,
            of => return of.is_null(),
        }
        true
    }

    /// Counts a value in; texts that are written out and nulls are of whatever type the others are.
    fn add_value(&mut self, value: &Expr, schema: &DFSchema) -> bool {
        if let Expr::Literal(value, _) = value
            && (value.is_null() || is_text(&value.data_type()))
        {
            return true;
        }
        if as_numeric(value).is_some() {
            (self.written, self.alone) = (true, true);
            return true;
        }
        if let Some(elements) = elements(value) {
            (self.written, self.in_arrays) = (true, true);
            self.integer |= elements.iter().any(|element| as_numeric(element).is_none());
            return true;
        }
        value.get_type(schema).is_ok_and(|of| self.add(&of))
    }

    fn of<'a>(mut values: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> Option<Self> {
        let mut seen = Self::default();
        values.all(|value| seen.add_value(value, schema)).then_some(seen)
    }

    fn of_types<'a>(mut types: impl Iterator<Item = &'a DataType>) -> Option<Self> {
        let mut seen = Self::default();
        types.all(|of| seen.add(of)).then_some(seen)
    }

    /// As what they have one type; none where that is what DataFusion finds.
    fn together(self) -> Option<Brought> {
        match self {
            Self { double: true, numeric: true, .. } => Some(Brought::To(DataType::Float64)),
            Self { double: true, .. } => None,
            Self { real: true, numeric, written, .. } if numeric || written => Some(Brought::To(DataType::Float32)),
            Self { real: false, numeric: true, written: true, .. } => Some(Brought::Exact),
            _ => None,
        }
    }

    /// The same of values none of which, or all, are arrays.
    fn together_alike(self) -> Option<Brought> {
        match (self.in_arrays, self.alone, self.together()?) {
            (true, true, _) => None,
            (true, false, Brought::To(of)) => Some(Brought::To(array_of(of))),
            (_, _, brought) => Some(brought),
        }
    }

    /// Whether they are compared as doubles though they are not.
    const fn are_compared_as_doubles(self) -> bool {
        (self.real || self.double) && self.numeric || self.real && self.integer
    }

    fn compared(self) -> Option<Brought> {
        if !self.are_compared_as_doubles() || self.in_arrays && self.alone {
            return None;
        }
        Some(Brought::To(if self.in_arrays { array_of(DataType::Float64) } else { DataType::Float64 }))
    }
}

/// As what values have one type; none where they have it, where DataFusion finds it, and where one is no number.
pub(crate) fn together<'a>(values: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> Option<Brought> {
    Seen::of(values, schema)?.together_alike()
}

/// As what values are compared with each other; none where it is as what they are, or as DataFusion finds.
pub(crate) fn compared<'a>(values: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> Option<Brought> {
    Seen::of(values, schema)?.compared()
}

/// As what a value is compared with several that are written out: all have one type, which is a real where one is.
pub(crate) fn compared_at_once<'a>(values: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> Option<Brought> {
    let seen = Seen::of(values, schema)?;
    let is_real = seen.real && !seen.double && seen.alone && !seen.in_arrays;
    if is_real { Some(Brought::To(DataType::Float32)) } else { seen.together_alike() }
}

/// The one type of values of several types; none where it is DataFusion's to find.
pub(crate) fn type_together<'a>(types: impl Iterator<Item = &'a DataType>) -> Option<DataType> {
    match Seen::of_types(types)?.together_alike()? {
        Brought::To(of) => Some(of),
        Brought::Exact => None,
    }
}

/// The type in which values of several types are compared; none where it is DataFusion's to find.
pub(crate) fn type_compared<'a>(types: impl Iterator<Item = &'a DataType>) -> Option<DataType> {
    match Seen::of_types(types)?.compared()? {
        Brought::To(of) => Some(of),
        Brought::Exact => None,
    }
}

/// The types of integers, the smallest first.
const INTEGERS: [DataType; 3] = [DataType::Int16, DataType::Int32, DataType::Int64];

/// The largest of these types of integers, where there are several.
pub(crate) fn largest<'a>(types: impl Iterator<Item = &'a DataType>) -> Option<DataType> {
    let ranks = types.filter(|of| !of.is_null()).map(|of| INTEGERS.iter().position(|known| known == of));
    let ranks = ranks.collect::<Option<Vec<usize>>>()?;
    let (least, most) = (ranks.iter().min()?, ranks.iter().max()?);
    (least < most).then(|| INTEGERS[*most].clone())
}

/// The one type of values that are numbers of several types, where it is DataFusion's to find. Until it does, a CASE
/// has the type of its first value, and what is bound by that would compare and divide as if all were of it.
pub(crate) fn mixed<'a>(values: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> Option<Brought> {
    // Texts that are written out are read as the others.
    let is_open = |value: &Expr| matches!(value, Expr::Literal(of, _) if of.is_null() || is_text(&of.data_type()));
    let types = values.filter(|value| !is_open(value)).map(|value| value.get_type(schema));
    found(&types.collect::<Result<Vec<DataType>>>().ok()?).map(Brought::To)
}

/// The type that DataFusion finds for numbers of several types, of integers the largest. None where the first one of
/// others has it, and where some are no numbers.
fn found(types: &[DataType]) -> Option<DataType> {
    if let Some(integer) = largest(types.iter()) {
        return Some(integer);
    }
    let mut others = types.iter().filter(|of| !of.is_null());
    let first = others.next()?.clone();
    let of = others.try_fold(first, |of, other| type_union_coercion(&of, other))?;
    (of.is_numeric() && !of.is_integer() && types.first() != Some(&of)).then_some(of)
}

/// A value among those for which this was found.
pub(crate) fn brought(value: Expr, to: &Brought, schema: &DFSchema) -> Expr {
    let to = match to {
        Brought::To(to) => to,
        Brought::Exact if elements(&value).is_some() => return exact_elements(value),
        Brought::Exact => return exact(value),
    };
    match value.get_type(schema) {
        Ok(of) if of == *to || of.is_null() || is_text(&of) => value,
        Ok(DataType::Decimal128(..)) if *to == DataType::Float64 => as_double(value),
        Ok(_) => cast(value, to.clone()),
        Err(_) => value,
    }
}

/// The elements of an array that is written out of numbers, some with a fraction.
fn elements(array: &Expr) -> Option<&[Expr]> {
    let Expr::ScalarFunction(call) = array else { return None };
    let is_whole = |element: &Expr| match element {
        Expr::Literal(value, _) => value.data_type().is_integer() || value.is_null(),
        _ => false,
    };
    let is_one = call.func.name() == "make_array"
        && call.args.iter().any(|element| as_numeric(element).is_some())
        && call.args.iter().all(|element| as_numeric(element).is_some() || is_whole(element));
    is_one.then_some(call.args.as_slice())
}

/// Such an array of numerics.
fn exact_elements(array: Expr) -> Expr {
    let Expr::ScalarFunction(mut call) = array else { return array };
    call.args = call.args.into_iter().map(exact).collect();
    Expr::ScalarFunction(call)
}

/// The arguments of a function of arrays and their elements, of which some are written out beside numerics.
pub(crate) fn with_exact_elements(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let is_exact = Seen::of(call.args.iter(), schema).and_then(Seen::together) == Some(Brought::Exact);
    if is_exact {
        call.args = call.args.into_iter().map(|arg| brought(arg, &Brought::Exact, schema)).collect();
    }
    Transformed::new_transformed(Expr::ScalarFunction(call), is_exact)
}

/// `nullif(a, b)` of numbers that are compared as something else than they are: what is given is of a's type, but a
/// double where a is none of floating point and is compared as one.
pub(crate) fn unless_equal(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let ("nullif", [value, other]) = (call.func.name(), call.args.as_slice()) else { return None };
    let seen = Seen::of(call.args.iter(), schema)?;
    let is_mixed = seen.are_compared_as_doubles() || seen.written && (seen.real || seen.numeric);
    if !is_mixed || seen.in_arrays {
        return None;
    }
    let value = match value.get_type(schema).ok()? {
        DataType::Float32 | DataType::Float64 => value.clone(),
        _ => match seen.compared() {
            Some(to) => brought(value.clone(), &to, schema),
            None => exact(value.clone()),
        },
    };
    let equal = numerals::compared(value.clone(), Operator::Eq, other.clone(), schema);
    let null = ScalarValue::try_from(&value.get_type(schema).ok()?).ok()?;
    Some(Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(equal), Box::new(Expr::Literal(null, None)))],
        else_expr: Some(Box::new(value)),
    }))
}

/// What is to become of the columns of a set operation.
pub(crate) struct Columns {
    /// For each column the type that it is to have, where that is another one than DataFusion finds, or than the
    /// first input has.
    pub(crate) types: Vec<Option<DataType>>,
    /// The columns whose numbers that are written out are numerics.
    pub(crate) exact: Vec<usize>,
}

/// Of the columns of several inputs of one width.
pub(crate) fn of_columns(inputs: &[&LogicalPlan], width: usize) -> Columns {
    let mut columns = Columns { types: vec![None; width], exact: Vec::new() };
    for (at, to) in columns.types.iter_mut().enumerate() {
        let mut seen = Seen::default();
        let add = |input: &&LogicalPlan| {
            if exact_column(input, at).is_some() {
                (seen.written, seen.alone) = (true, true);
                return true;
            }
            seen.add(input.schema().field(at).data_type())
        };
        if !inputs.iter().all(add) {
            continue;
        }
        match seen.together_alike() {
            Some(Brought::To(of)) => *to = Some(of),
            Some(Brought::Exact) => columns.exact.push(at),
            None => *to = found(&types_in(inputs, at)),
        }
    }
    columns
}

/// The types that a column has in several inputs.
fn types_in(inputs: &[&LogicalPlan], at: usize) -> Vec<DataType> {
    inputs.iter().map(|input| input.schema().field(at).data_type().clone()).collect()
}

/// A plan whose column of numbers that are written out is numeric; none where the column is another one.
pub(crate) fn exact_column(plan: &LogicalPlan, at: usize) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(shown) => {
            let numeric = as_numeric(unaliased(shown.expr.get(at)?))?;
            let (relation, field) = shown.schema.qualified_field(at);
            let mut exprs = shown.expr.clone();
            exprs[at] = numeric.alias_qualified(relation.cloned(), field.name());
            Projection::try_new(exprs, Arc::clone(&shown.input)).ok().map(LogicalPlan::Projection)
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            Some(LogicalPlan::Distinct(Distinct::All(Arc::new(exact_column(input, at)?))))
        }
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| exact_column(input, at).map(Arc::new));
            let union = Union::try_new_with_loose_types(inputs.collect::<Option<Vec<_>>>()?);
            union.ok().map(LogicalPlan::Union)
        }
        _ => None,
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// VALUES whose columns have the types that they are to have. DataFusion has brought them to one type each, by casts,
/// which are taken off where they lose digits.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn values(Values { schema, mut values }: Values) -> Result<Transformed<LogicalPlan>> {
    let none = DFSchema::empty();
    let mut types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    let mut is_changed = false;
    for (at, of) in types.iter_mut().enumerate() {
        if !matches!(of, DataType::Decimal128(..)) {
            continue;
        }
        let given: Vec<&Expr> = values.iter().map(|row| uncast(&row[at], of)).collect();
        let found: Vec<DataType> = given.iter().map(|value| value.get_type(&none)).collect::<Result<_>>()?;
        // These casts are a user's own where DataFusion finds another type.
        let is_found = found.iter().any(DataType::is_floating) && type_union_resolution(&found).as_ref() == Some(&*of);
        let Some(to) = together(given.iter().copied(), &none).filter(|_| is_found) else { continue };
        let column: Vec<Expr> = given.into_iter().map(|value| brought(value.clone(), &to, &none)).collect();
        let found: Vec<DataType> = column.iter().map(|value| value.get_type(&none)).collect::<Result<_>>()?;
        let Some(one) = type_union_resolution(&found) else { continue };
        for (row, value) in values.iter_mut().zip(column) {
            row[at] = value.cast_to(&one, &none)?;
        }
        (*of, is_changed) = (one, true);
    }
    if !is_changed {
        return Ok(Transformed::no(LogicalPlan::Values(Values { schema, values })));
    }
    let fields = schema.fields().iter().zip(types).map(|(field, of)| field.as_ref().clone().with_data_type(of));
    let schema = Arc::new(DFSchema::from_unqualified_fields(fields.collect(), HashMap::new())?);
    Ok(Transformed::yes(LogicalPlan::Values(Values { schema, values })))
}

/// A value without the cast to a type.
fn uncast<'a>(value: &'a Expr, of: &DataType) -> &'a Expr {
    match value {
        Expr::Cast(Cast { expr, field }) if field.data_type() == of => expr,
        other => other,
    }
}

#[cfg(test)]
mod tests;
