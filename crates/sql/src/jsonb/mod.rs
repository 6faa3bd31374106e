//! jsonb in SQL: PostgreSQL's operators and functions over it, casts, and what is refused.
//!
//! A jsonb is a text of its normal form (the crate `highwater-jsonb`) in Arrow's type of long texts,
//! which nothing else has here: so it is told from a text wherever types go, through projections,
//! unions, groups and states. `function` knows types, `compute` values, `rules` casts and refusals,
//! and here stands how they come into a session.

mod compute;
mod function;
mod rules;

use crate::arrays;
use crate::composites;
use crate::types::{JSONB, array_of, is_jsonb};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use function::{JsonbFunction, Kind};
pub use highwater_jsonb::{Malformed, normal_into};
pub(crate) use rules::{Casts, Settled, check, settled};
use std::sync::Arc;

/// The functions of this module by their names in SQL. Those that end with `_array` give the arrays
/// of which `respell` makes rows, and those with `_pair` and `_pairs` what it makes aggregates of.
const NAMED: [(&str, Kind); 27] = [
    ("jsonb_typeof", Kind::TypeOf),
    ("jsonb_array_length", Kind::Length),
    ("jsonb_build_object", Kind::BuildObject),
    ("jsonb_build_array", Kind::BuildArray),
    ("jsonb_extract_path", Kind::Extract),
    ("jsonb_extract_path_text", Kind::ExtractText),
    (PATH_EXISTS, Kind::PathExists),
    ("jsonb_path_query_first", Kind::PathFirst),
    ("jsonb_path_query_array", Kind::PathAll),
    ("jsonb_contains", Kind::Contains),
    ("jsonb_exists", Kind::Exists),
    ("jsonb_exists_any", Kind::ExistsAny),
    ("jsonb_exists_all", Kind::ExistsAll),
    ("jsonb_set", Kind::Set),
    ("jsonb_insert", Kind::Insert),
    (WITHOUT_PATH, Kind::WithoutPath),
    ("jsonb_strip_nulls", Kind::WithoutNulls),
    ("jsonb_pretty", Kind::Pretty),
    ("jsonb_object", Kind::ObjectOf),
    (TO_JSONB, Kind::Of),
    (ELEMENTS, Kind::Elements),
    (ELEMENT_TEXTS, Kind::ElementTexts),
    (KEYS, Kind::Keys),
    (MEMBERS, Kind::Members),
    (MEMBER_TEXTS, Kind::MemberTexts),
    (PAIR, Kind::Pair),
    (FROM_PAIRS, Kind::FromPairs),
];

pub(crate) const TO_JSONB: &str = "to_jsonb";
const PATH_EXISTS: &str = "jsonb_path_exists";
const WITHOUT_PATH: &str = "jsonb_delete_path";
pub(crate) const ELEMENTS: &str = "jsonb_elements_array";
pub(crate) const ELEMENT_TEXTS: &str = "jsonb_element_texts_array";
pub(crate) const KEYS: &str = "jsonb_keys_array";
pub(crate) const MEMBERS: &str = "jsonb_members_array";
pub(crate) const MEMBER_TEXTS: &str = "jsonb_member_texts_array";
pub(crate) const PAIR: &str = "jsonb_object_pair";
pub(crate) const FROM_PAIRS: &str = "jsonb_of_pairs";

/// Makes the functions and casts known.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for (name, kind) in NAMED {
        state.register_udf(Arc::new(JsonbFunction::udf(name, kind)))?;
    }
    state.register_function_rewrite(Arc::new(Casts))
}

fn call(name: &str, kind: Kind, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(JsonbFunction::udf(name, kind)), args))
}

/// Whether what a function gives in the type of jsonb is one: it is made here, or of others, which may be within
/// composite values.
pub(crate) fn gives_jsonb(call: &ScalarFunction, schema: &DFSchema) -> bool {
    let is_own = |arg: &Expr| arg.get_type(schema).is_ok_and(|of| composites::has_jsonb(&of));
    JsonbFunction::is_own(&call.func) || call.args.iter().any(is_own)
}

/// The jsonb of texts; nulls stay.
///
/// # Errors
/// For the first text that is none.
pub(crate) fn parsed(texts: &StringArray) -> Result<ArrayRef, ArrowError> {
    let texts: ArrayRef = Arc::new(texts.clone());
    compute::parsed(&[texts]).map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

/// A parameter whose type nobody has told, as one of a type.
pub(crate) fn typed(expr: Expr, data_type: &DataType) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Expr::Placeholder(Placeholder { id, field: Some(Arc::new(Field::new("", data_type.clone(), true))) })
        }
        other => other,
    }
}

/// The texts on the right side of an operator: also as an array that is written out.
fn as_texts(expr: Expr) -> Expr {
    let texts = array_of(DataType::Utf8);
    match &expr {
        Expr::Literal(ScalarValue::Utf8(_), _) => arrays::parsed(expr, texts),
        _ => typed(expr, &texts),
    }
}

/// Binds operators and subscripts of jsonb.
#[derive(Debug)]
pub(crate) struct Jsonb;

impl ExprPlanner for Jsonb {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator as Op;
        // Types are looked up for the operators that jsonb has.
        if !matches!(
            expr.op,
            Op::Arrow
                | Op::LongArrow
                | Op::HashArrow
                | Op::HashLongArrow
                | Op::HashMinus
                | Op::AtArrow
                | Op::ArrowAt
                | Op::AtQuestion
                | Op::Question
                | Op::QuestionPipe
                | Op::QuestionAnd
                | Op::StringConcat
                | Op::Minus
        ) {
            return Ok(PlannerResult::Original(expr));
        }
        let is_own = |side: &Expr| side.get_type(schema).is_ok_and(|of| is_jsonb(&of));
        let (left_is, right_is) = (is_own(&expr.left), is_own(&expr.right));
        let is_two_sided = matches!(expr.op, Op::AtArrow | Op::ArrowAt | Op::StringConcat);
        if !(left_is || right_is && is_two_sided) {
            return Ok(PlannerResult::Original(expr));
        }
        let RawBinaryExpr { op, left, right } = expr;
        let key = |right| typed(right, &DataType::Utf8);
        let value = |side| typed(side, &JSONB);
        let planned = match op {
            Op::Arrow => call("jsonb_get", Kind::Get, vec![left, key(right)]),
            Op::LongArrow => call("jsonb_get_text", Kind::GetText, vec![left, key(right)]),
            Op::HashArrow => call("jsonb_get_path", Kind::Path, vec![left, as_texts(right)]),
            Op::HashLongArrow => call("jsonb_get_path_text", Kind::PathText, vec![left, as_texts(right)]),
            Op::HashMinus => call(WITHOUT_PATH, Kind::WithoutPath, vec![left, as_texts(right)]),
            Op::AtArrow => call("jsonb_contains", Kind::Contains, vec![value(left), value(right)]),
            Op::ArrowAt => call("jsonb_contains", Kind::Contains, vec![value(right), value(left)]),
            Op::AtQuestion => call(PATH_EXISTS, Kind::PathExists, vec![left, key(right)]),
            Op::Question => call("jsonb_exists", Kind::Exists, vec![left, key(right)]),
            Op::QuestionPipe => call("jsonb_exists_any", Kind::ExistsAny, vec![left, as_texts(right)]),
            Op::QuestionAnd => call("jsonb_exists_all", Kind::ExistsAll, vec![left, as_texts(right)]),
            Op::StringConcat => call("jsonb_concat", Kind::Joined, vec![value(left), value(right)]),
            Op::Minus => call("jsonb_delete", Kind::Without, vec![left, key(right)]),
            op => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(planned))
    }

    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if !is_jsonb(&expr.expr.get_type(schema)?) {
            return Ok(PlannerResult::Original(expr));
        }
        let RawFieldAccessExpr { expr, field_access } = expr;
        let step = match field_access {
            GetFieldAccess::NamedStructField { name } => lit(name),
            GetFieldAccess::ListIndex { key } => *key,
            field_access => return Ok(PlannerResult::Original(RawFieldAccessExpr { expr, field_access })),
        };
        Ok(PlannerResult::Planned(call("jsonb_get", Kind::Get, vec![expr, step])))
    }
}
