//! Functions over jsonb as DataFusion sees them: which arguments they take, and what they give.

use super::compute;
use crate::bounded;
use crate::types::{self, JSONB, array_of, is_jsonb, is_text};
use arrow::array::{ArrayRef, LargeStringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// What a function does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Get,
    GetText,
    Path,
    PathText,
    Extract,
    ExtractText,
    /// `@?`
    PathExists,
    /// The first part that a jsonpath leads to.
    PathFirst,
    /// An array of all of them.
    PathAll,
    Contains,
    Exists,
    ExistsAny,
    ExistsAll,
    Joined,
    Without,
    /// `#-`
    WithoutPath,
    Set,
    Insert,
    WithoutNulls,
    Pretty,
    /// An object of texts.
    ObjectOf,
    TypeOf,
    Length,
    BuildObject,
    BuildArray,
    /// The jsonb of any value.
    Of,
    Elements,
    ElementTexts,
    Keys,
    Members,
    MemberTexts,
    /// A key and a value that `FromPairs` is to make a member of.
    Pair,
    FromPairs,
    /// A jsonb from its text.
    Parsed,
    /// A jsonb's text.
    Printed,
    /// A number or boolean that a jsonb holds.
    Cast(DataType),
}

/// A function over jsonb.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct JsonbFunction {
    name: String,
    kind: Kind,
    signature: Signature,
}

impl JsonbFunction {
    pub(super) fn udf(name: &str, kind: Kind) -> ScalarUDF {
        let signature = if matches!(kind, Kind::BuildObject | Kind::BuildArray) {
            let of_any = vec![TypeSignature::Nullary, TypeSignature::UserDefined];
            Signature::one_of(of_any, Volatility::Immutable)
        } else {
            Signature::user_defined(Volatility::Immutable)
        };
        ScalarUDF::from(Self { name: name.to_owned(), kind, signature })
    }

    /// A function as one of these.
    pub(super) fn of(function: &ScalarUDF) -> Option<&Self> {
        let any: &dyn Any = function.inner().as_ref();
        any.downcast_ref::<Self>()
    }

    /// Whether a function is one of these.
    pub(super) fn is_own(function: &ScalarUDF) -> bool {
        Self::of(function).is_some()
    }

    /// The places of arguments that are arrays of texts, and may be written out as one text.
    pub(super) const fn lists(&self) -> Range<usize> {
        match self.kind {
            Kind::Set | Kind::Insert | Kind::WithoutPath => 1..2,
            Kind::ObjectOf => 0..2,
            _ => 0..0,
        }
    }

    /// The place of an argument that is a jsonpath.
    pub(super) const fn jsonpath(&self) -> Option<usize> {
        match self.kind {
            Kind::PathExists | Kind::PathFirst | Kind::PathAll => Some(1),
            _ => None,
        }
    }

    /// The types that arguments are brought to; none when there is no such function.
    fn wanted(&self, given: &[DataType]) -> Option<Vec<DataType>> {
        let is_key = |of: &DataType| is_text(of) || of.is_null();
        match (&self.kind, given) {
            (Kind::Get | Kind::GetText | Kind::Without, [value, step]) if is_value(value) && step.is_integer() => {
                Some(vec![JSONB, DataType::Int64])
            }
            (Kind::Get | Kind::GetText | Kind::Without | Kind::Exists, [value, key])
                if is_value(value) && is_key(key) =>
            {
                Some(vec![JSONB, DataType::Utf8])
            }
            (Kind::PathExists | Kind::PathFirst | Kind::PathAll, [value, path]) if is_value(value) && is_key(path) => {
                Some(vec![JSONB, DataType::Utf8])
            }
            (Kind::Path | Kind::PathText | Kind::ExistsAny | Kind::ExistsAll | Kind::Without, [value, keys])
                if is_value(value) && are_texts(keys) =>
            {
                Some(vec![JSONB, array_of(DataType::Utf8)])
            }
            (Kind::Extract | Kind::ExtractText, [value, steps @ ..]) if is_value(value) && steps.iter().all(is_key) => {
                Some([vec![JSONB], vec![DataType::Utf8; steps.len()]].concat())
            }
            (Kind::WithoutPath, [value, path]) if is_value(value) && is_list(path) => {
                Some(vec![JSONB, array_of(DataType::Utf8)])
            }
            (Kind::Set | Kind::Insert, [value, path, new, flag @ ..])
                if is_value(value) && is_list(path) && is_value(new) && is_flag(flag) =>
            {
                let wanted = vec![JSONB, array_of(DataType::Utf8), JSONB];
                Some([wanted, vec![DataType::Boolean; flag.len()]].concat())
            }
            (Kind::ObjectOf, lists @ ([_] | [_, _])) if lists.iter().all(is_list) => {
                Some(vec![array_of(DataType::Utf8); lists.len()])
            }
            (Kind::Contains | Kind::Joined, [left, right]) if is_value(left) && is_value(right) => Some(vec![JSONB; 2]),
            (
                Kind::TypeOf
                | Kind::Length
                | Kind::Elements
                | Kind::ElementTexts
                | Kind::Keys
                | Kind::Members
                | Kind::MemberTexts
                | Kind::Printed
                | Kind::Pretty
                | Kind::WithoutNulls
                | Kind::Cast(_),
                [value],
            ) if is_value(value) => Some(vec![JSONB]),
            (Kind::Parsed, [text]) if is_key(text) => Some(vec![DataType::Utf8]),
            (Kind::FromPairs, [DataType::List(of)]) if is_jsonb(of.data_type()) => Some(vec![array_of(JSONB)]),
            (Kind::Of, [value]) => any_of(value).map(|value| vec![value]),
            (Kind::Pair, [key, value]) if is_name(key) => Some(vec![any_of(key)?, any_of(value)?]),
            (Kind::BuildArray, values) => values.iter().map(any_of).collect(),
            (Kind::BuildObject, values) if values.iter().step_by(2).all(is_name) => values.iter().map(any_of).collect(),
            _ => None,
        }
    }

    fn compute(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let values = |found: Vec<Option<&str>>| Arc::new(found.into_iter().collect::<LargeStringArray>()) as ArrayRef;
        match &self.kind {
            Kind::Get => Ok(values(compute::found(args))),
            Kind::GetText => Ok(compute::texts_of(compute::found(args))),
            Kind::Path => Ok(values(compute::led_to(args))),
            Kind::PathText => Ok(compute::texts_of(compute::led_to(args))),
            Kind::Extract => Ok(values(compute::extracted(args))),
            Kind::ExtractText => Ok(compute::texts_of(compute::extracted(args))),
            Kind::PathExists => compute::path_exists(args),
            Kind::PathFirst => compute::path_first(args),
            Kind::PathAll => compute::path_all(args),
            Kind::Contains => Ok(compute::contains(args)),
            Kind::Exists => Ok(compute::exists(args)),
            Kind::ExistsAny => Ok(compute::exist(args, false)),
            Kind::ExistsAll => Ok(compute::exist(args, true)),
            Kind::Joined => compute::joined(args),
            Kind::Without => compute::without(args),
            Kind::WithoutPath => compute::without_path(args),
            Kind::Set => compute::set(args),
            Kind::Insert => compute::inserted(args),
            Kind::WithoutNulls => compute::without_nulls(args),
            Kind::Pretty => compute::pretty(args),
            Kind::ObjectOf => compute::object_of_texts(args),
            Kind::TypeOf => Ok(compute::type_of(args)),
            Kind::Length => compute::length(args),
            Kind::BuildObject => compute::object(args, rows),
            Kind::BuildArray => compute::array(args, rows),
            Kind::Of => Ok(Arc::new(compute::values_of(&args[0])?)),
            Kind::Elements => compute::elements(args),
            Kind::ElementTexts => compute::element_texts(args),
            Kind::Keys => compute::keys(args),
            Kind::Members => compute::members(args),
            Kind::MemberTexts => compute::member_texts(args),
            Kind::Pair => compute::pair(args),
            Kind::FromPairs => compute::from_pairs(args),
            Kind::Parsed => compute::parsed(args),
            Kind::Printed => Ok(arrow::compute::cast(&args[0], &DataType::Utf8)?),
            Kind::Cast(to) => compute::cast_to(args, to),
        }
    }
}

/// Whether an argument may stand for a jsonb: of texts, only those that are written out may.
fn is_value(of: &DataType) -> bool {
    is_jsonb(of) || is_text(of) || of.is_null()
}

fn are_texts(of: &DataType) -> bool {
    matches!(of, DataType::List(of) if is_text(of.data_type()) || of.data_type().is_null())
}

/// Whether an argument may be an array of texts: of texts, only one that is written out may.
fn is_list(of: &DataType) -> bool {
    are_texts(of) || is_text(of) || of.is_null()
}

/// Whether the last argument is a flag, or left out.
fn is_flag(last: &[DataType]) -> bool {
    matches!(last, [] | [DataType::Boolean | DataType::Null])
}

/// Whether an argument may be an object's key.
fn is_name(of: &DataType) -> bool {
    !of.is_nested() && !is_jsonb(of)
}

/// The type that an argument of any type is brought to; none when it has no jsonb.
fn any_of(of: &DataType) -> Option<DataType> {
    let plain = types::plain(of).unwrap_or_else(|| of.clone());
    let is_known = match &plain {
        DataType::List(of) => any_of(of.data_type()).is_some(),
        other => !other.is_nested(),
    };
    is_known.then_some(plain)
}

impl ScalarUDFImpl for JsonbFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if let Some(wanted) = self.wanted(given) {
            return Ok(wanted);
        }
        let given: Vec<String> = given.iter().map(types::pg_name).collect();
        plan_err!("function {}({}) does not exist", self.name, given.join(", "))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match &self.kind {
            Kind::GetText | Kind::PathText | Kind::ExtractText | Kind::TypeOf | Kind::Printed | Kind::Pretty => {
                DataType::Utf8
            }
            Kind::Contains | Kind::Exists | Kind::ExistsAny | Kind::ExistsAll | Kind::PathExists => DataType::Boolean,
            Kind::Length => DataType::Int32,
            Kind::Elements | Kind::Members => array_of(JSONB),
            Kind::ElementTexts | Kind::Keys | Kind::MemberTexts => array_of(DataType::Utf8),
            Kind::Cast(to) => to.clone(),
            Kind::Get
            | Kind::Path
            | Kind::Extract
            | Kind::PathFirst
            | Kind::PathAll
            | Kind::Joined
            | Kind::Without
            | Kind::WithoutPath
            | Kind::Set
            | Kind::Insert
            | Kind::WithoutNulls
            | Kind::ObjectOf
            | Kind::BuildObject
            | Kind::BuildArray
            | Kind::Of
            | Kind::Pair
            | Kind::FromPairs
            | Kind::Parsed => JSONB,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arrays = bounded::spread(&self.name, &args.args, rows)?;
        let result = self.compute(&arrays, rows)?;
        if is_constant {
            return ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(result))
    }
}
