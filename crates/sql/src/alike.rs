//! Values that stand beside each other and are to have one type, where DataFusion finds none, or another one than
//! PostgreSQL.
//!
//! - A text that is written out has the type of what stands beside it: `b = 't'`, `y || '\x32'`,
//!   `coalesce(a, '{}')`, `CASE WHEN c THEN i ELSE '7' END`. A text of another kind has not.
//! - A date beside a timestamp is one, of microseconds: DataFusion compares both as nanoseconds, which reach from
//!   1677 to 2262. Sides of joins and set operations that it has given that type already have microseconds, too.

use crate::arrays;
use crate::error::DataError;
use crate::exact::compares;
use crate::floats::is_interval;
use crate::intervals::written;
use crate::types::{is_text, pg_name};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::binary::comparison_coercion;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, InSubquery, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::{FunctionRewrite, NamePreserver};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Join, LogicalPlan, Projection, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Subquery, Union, Volatility, cast,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::sync::Arc;

/// Functions whose arguments have one type.
const ALIKE: [&str; 4] = ["coalesce", "greatest", "least", "nullif"];

/// Puts the functions in the places of DataFusion's.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for name in ALIKE {
        let function = Alike { own: state.udf(name)?, signature: Signature::user_defined(Volatility::Immutable) };
        state.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    state.register_function_rewrite(Arc::new(Beside))
}

/// Whether a text that is written out beside values of a type is read as one of them.
fn is_read(of: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Float32, Float64, Int16, Int32, Int64, Interval, List, Time64, Timestamp};
    match of {
        Boolean | Int16 | Int32 | Int64 | Float32 | Float64 | Binary | Date32 | Interval(_) | List(_) => true,
        Time64(unit) | Timestamp(unit, _) => *unit == TimeUnit::Microsecond,
        _ => false,
    }
}

/// Whether a type is a date or a timestamp as tables have them.
const fn is_moment(of: &DataType) -> bool {
    matches!(of, DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// The one type of values of these types, if they are all of it, or are dates and timestamps.
fn one_type<'a>(mut all: impl Iterator<Item = &'a DataType>) -> Option<DataType> {
    let mut found = all.next()?;
    for of in all {
        if of == found {
            continue;
        }
        if !is_moment(of) || !is_moment(found) {
            return None;
        }
        // An instant before what clocks show, and that before a date.
        if matches!(
            (found, of),
            (DataType::Date32, _) | (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(_)))
        ) {
            found = of;
        }
    }
    Some(found.clone())
}

/// A text that is written out, or null.
const fn is_written(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(_), _))
}

/// A text that is written out, as a value of a type.
fn read_as(text: Expr, of: &DataType) -> Expr {
    match of {
        DataType::List(_) => arrays::parsed(text, of.clone()),
        of if is_interval(of) => written(text),
        of => cast(text, of.clone()),
    }
}

/// Values that have one type, where it is found here; as they are where not.
fn alike<const N: usize>(values: [Expr; N], schema: &DFSchema) -> [Expr; N] {
    match type_beside(values.iter(), schema) {
        Some(of) => values.map(|value| brought(value, &of, schema)),
        None => values,
    }
}

/// The type that some of these values are to be brought to.
fn type_beside<'a>(values: impl Iterator<Item = &'a Expr> + Clone, schema: &DFSchema) -> Option<DataType> {
    let has_text = values.clone().any(is_written);
    let mut types = Vec::new();
    for value in values.filter(|value| !is_written(value)) {
        types.push(value.get_type(schema).ok()?);
    }
    types.retain(|of| !of.is_null());
    let of = one_type(types.iter())?;
    let is_mixed = types.iter().any(|other| *other != of);
    (has_text && is_read(&of) || is_mixed).then_some(of)
}

/// A value of a type that [`type_beside`] has found for it.
fn brought(value: Expr, to: &DataType, schema: &DFSchema) -> Expr {
    if is_written(&value) {
        return read_as(value, to);
    }
    match value.get_type(schema) {
        Ok(of) if of != *to && !of.is_null() => cast(value, to.clone()),
        _ => value,
    }
}

/// What a text that is written out is as an operand beside one of a type, if it is told here.
fn operand_of(operator: &BinaryOperator, beside: DataType) -> Option<DataType> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq, StringConcat};
    match (operator, beside) {
        (StringConcat, DataType::Binary) => Some(DataType::Binary),
        (Eq | NotEq | Lt | LtEq | Gt | GtEq, of @ (DataType::Binary | DataType::Boolean)) => Some(of),
        _ => None,
    }
}

/// Binds operators.
#[derive(Debug)]
pub(crate) struct Written;

impl ExprPlanner for Written {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let beside = match (is_written(&expr.left), is_written(&expr.right)) {
            (true, false) => expr.right.get_type(schema),
            (false, true) => expr.left.get_type(schema),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let Some(of) = beside.ok().and_then(|of| operand_of(&expr.op, of)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let RawBinaryExpr { op, left, right } = expr;
        let read = |side: Expr| if is_written(&side) { read_as(side, &of) } else { side };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left: read(left), right: read(right) }))
    }
}

/// Brings what stands beside each other to one type, before DataFusion does.
#[derive(Debug)]
pub(crate) struct Beside;

impl FunctionRewrite for Beside {
    fn name(&self) -> &'static str {
        "values_beside_each_other"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(Transformed::yes(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                let [left, right] = alike([*left, *right], schema).map(Box::new);
                Expr::BinaryExpr(BinaryExpr { left, op, right })
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let [expr, low, high] = alike([*expr, *low, *high], schema).map(Box::new);
                Expr::Between(Between { expr, negated, low, high })
            }
            Expr::InList(InList { expr, list, negated }) => {
                match type_beside(std::iter::once(expr.as_ref()).chain(&list), schema) {
                    Some(of) => {
                        let list = list.into_iter().map(|value| brought(value, &of, schema)).collect();
                        Expr::InList(InList { expr: Box::new(brought(*expr, &of, schema)), list, negated })
                    }
                    None => Expr::InList(InList { expr, list, negated }),
                }
            }
            Expr::InSubquery(within) => Expr::InSubquery(among(within, schema)?),
            Expr::Case(case) => Expr::Case(of_case(case, schema)),
            Expr::ScalarFunction(call) if ALIKE.contains(&call.func.name()) => {
                Expr::ScalarFunction(of_function(call, schema)?)
            }
            other => return Ok(Transformed::no(other)),
        }))
    }
}

/// `CASE x WHEN a THEN b ... ELSE c END`: x and all a are alike, and all b and c.
fn of_case(case: Case, schema: &DFSchema) -> Case {
    let Case { mut expr, mut when_then_expr, mut else_expr } = case;
    let whens = when_then_expr.iter().map(|(when, _)| when.as_ref());
    let asked = expr.as_deref().and_then(|of| type_beside(std::iter::once(of).chain(whens), schema));
    let thens = when_then_expr.iter().map(|(_, then)| then.as_ref());
    let given = type_beside(thens.chain(else_expr.as_deref()), schema);
    let bring = |value: &mut Box<Expr>, to: &DataType| **value = brought(std::mem::take(&mut **value), to, schema);
    if let (Some(to), Some(expr)) = (&asked, &mut expr) {
        bring(expr, to);
        when_then_expr.iter_mut().for_each(|(when, _)| bring(when, to));
    }
    if let Some(to) = &given {
        when_then_expr.iter_mut().for_each(|(_, then)| bring(then, to));
        else_expr.iter_mut().for_each(|value| bring(value, to));
    }
    Case { expr, when_then_expr, else_expr }
}

/// A call of a function whose arguments have one type.
///
/// # Errors
/// When one of them is a text that is not written out, and the others are none.
fn of_function(mut call: ScalarFunction, schema: &DFSchema) -> Result<ScalarFunction> {
    let name = call.func.name();
    let others = call.args.iter().filter(|arg| !is_written(arg));
    let types: Vec<DataType> = others.filter_map(|arg| arg.get_type(schema).ok()).filter(|of| !of.is_null()).collect();
    if let Some(text) = types.iter().find(|of| is_text(of))
        && let Some(other) = types.iter().find(|of| is_read(of) && !of.is_numeric())
    {
        let message = format!("{name} types {} and {} cannot be matched: cast one", pg_name(text), pg_name(other));
        return Err(DataFusionError::External(Box::new(DataError { sqlstate: "42804", message })));
    }
    if let Some(of) = type_beside(call.args.iter(), schema) {
        call.args = call.args.into_iter().map(|arg| brought(arg, &of, schema)).collect();
    }
    Ok(call)
}

/// `x IN (SELECT ...)` of dates and timestamps.
fn among(within: InSubquery, schema: &DFSchema) -> Result<InSubquery> {
    let InSubquery { expr, subquery, negated } = within;
    let found = subquery.subquery.schema().field(0).data_type().clone();
    let of = expr.get_type(schema).ok().filter(|of| is_moment(of) && is_moment(&found) && *of != found);
    let Some(to) = of.and_then(|of| one_type([&of, &found].into_iter())) else {
        return Ok(InSubquery { expr, subquery, negated });
    };
    let expr = Box::new(brought(*expr, &to, schema));
    if found == to {
        return Ok(InSubquery { expr, subquery, negated });
    }
    let column = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let plan = Projection::try_new(vec![cast(column, to)], subquery.subquery)?;
    let subquery = Subquery { subquery: Arc::new(LogicalPlan::Projection(plan)), ..subquery };
    Ok(InSubquery { expr, subquery, negated })
}

/// A join by dates and timestamps of which DataFusion has made nanoseconds, by their microseconds.
pub(crate) fn joined(mut join: Join) -> Transformed<Join> {
    let mut is_changed = false;
    for (one, other) in &mut join.on {
        let sides = (moment_in(one, join.left.schema()), moment_in(other, join.right.schema()));
        let (Some(from), Some(to)) = sides else { continue };
        let Some(of) = one_type([&from, &to].into_iter()) else { continue };
        for (side, schema) in [(one, join.left.schema()), (other, join.right.schema())] {
            if let Expr::Cast(Cast { expr, .. }) = std::mem::take(side) {
                *side = brought(*expr, &of, schema);
            }
        }
        is_changed = true;
    }
    Transformed::new_transformed(join, is_changed)
}

/// The type of a date or timestamp that is cast to nanoseconds.
fn moment_in(key: &Expr, schema: &DFSchema) -> Option<DataType> {
    let Expr::Cast(Cast { expr, field }) = key else { return None };
    let is_nanos = matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
    expr.get_type(schema).ok().filter(|of| is_nanos && is_moment(of))
}

/// A plan whose columns have the types that they will be given: where inputs of a union have dates and others
/// timestamps, and where a CASE gives a text that is written out before a value of another type.
///
/// # Errors
/// DataFusion's, which are broken invariants here.
pub(crate) fn settled(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut is_changed = false;
    let done = plan.transform_up_with_subqueries(|node| {
        let node = cased(node)?;
        is_changed |= node.transformed;
        match node.data {
            LogicalPlan::Union(union) => {
                let to = moments_of(&union);
                is_changed |= to.iter().any(Option::is_some);
                if !is_changed {
                    return Ok(Transformed::no(LogicalPlan::Union(union)));
                }
                let inputs = union.inputs.into_iter().map(|input| with_moments(input, &to));
                let inputs = inputs.collect::<Result<Vec<_>>>()?;
                Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
            }
            // What is above has the types of what is below.
            other if is_changed => other.recompute_schema().map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        }
    })?;
    Ok(done.data)
}

/// A node in which no CASE begins with a text that is to be of another type.
fn cased(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut is_found = false;
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            is_found = matches!(expr, Expr::Case(case) if begins_with_text(case));
            Ok(if is_found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    if !is_found {
        return Ok(Transformed::no(node));
    }
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let done = expr.transform_up(|expr| match expr {
            Expr::Case(case) if gives_another(&case, &schema) => {
                Ok(Transformed::yes(Expr::Case(of_case(case, &schema))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(if done.transformed { done.update_data(|expr| name.restore(expr)) } else { done })
    })
}

/// Whether the first value that a CASE gives, by which its type is told, is a text that is written out.
fn begins_with_text(case: &Case) -> bool {
    case.when_then_expr.first().is_some_and(|(_, then)| is_written(then))
}

/// Whether the values of such a CASE are of another type.
fn gives_another(case: &Case, schema: &DFSchema) -> bool {
    let thens = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
    begins_with_text(case) && type_beside(thens.chain(case.else_expr.as_deref()), schema).is_some()
}

/// For each column of a union the type that dates in it are to have, if others are timestamps.
fn moments_of(union: &Union) -> Vec<Option<DataType>> {
    let width = union.schema.fields().len();
    if union.inputs.iter().any(|input| input.schema().fields().len() != width) {
        return Vec::new();
    }
    let of_column = |at: usize| {
        let types = || union.inputs.iter().map(move |input| input.schema().field(at).data_type());
        let is_mixed = types().any(|of| Some(of) != types().next());
        one_type(types()).filter(|of| is_mixed && is_moment(of))
    };
    (0..width).map(of_column).collect()
}

/// An input of a union whose columns have these types, where there are some.
fn with_moments(input: Arc<LogicalPlan>, to: &[Option<DataType>]) -> Result<Arc<LogicalPlan>> {
    let is_other = |(to, field): (&Option<DataType>, &FieldRef)| to.as_ref().is_some_and(|to| to != field.data_type());
    if !to.iter().zip(input.schema().fields()).any(is_other) {
        return Ok(input);
    }
    let columns = input.schema().iter().zip(to).map(|((relation, field), to)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        match to {
            Some(to) if to != field.data_type() => {
                cast(column, to.clone()).alias_qualified(relation.cloned(), field.name())
            }
            _ => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)))
}

/// One of [`ALIKE`], with the types that are found here.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Alike {
    own: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Alike {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn aliases(&self) -> &[String] {
        self.own.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let others = || given.iter().filter(|of| !of.is_null() && !is_text(of));
        let is_open = given.iter().any(is_text) || others().any(|of| Some(of) != others().next());
        if let Some(of) = one_type(others()).filter(|of| is_open && is_read(of)) {
            return Ok(vec![of; given.len()]);
        }
        let [value, other] = given else { return self.own.coerce_types(given) };
        if self.name() != "nullif" {
            return self.own.coerce_types(given);
        }
        match comparison_coercion(value, other) {
            Some(of) if of.is_null() => Ok(vec![DataType::Utf8; 2]),
            Some(of) => Ok(vec![of; 2]),
            None => plan_err!("nullif types {} and {} cannot be matched", pg_name(value), pg_name(other)),
        }
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.own.return_type(args)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.own.return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.own.simplify(args, context)
    }

    fn short_circuits(&self) -> bool {
        self.own.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.own.conditional_arguments(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.own.inner().invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_beside_timestamps_are_timestamps_and_others_are_left_alone() {
        let stamp = || DataType::Timestamp(TimeUnit::Microsecond, None);
        let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let nanos = || DataType::Timestamp(TimeUnit::Nanosecond, None);
        for (types, expected) in [
            (vec![DataType::Date32, stamp()], Some(stamp())),
            (vec![instant(), DataType::Date32, stamp()], Some(instant())),
            (vec![DataType::Int32, DataType::Int32], Some(DataType::Int32)),
            (vec![DataType::Int32, DataType::Int64], None),
            (vec![DataType::Date32, nanos()], None),
            (vec![], None),
        ] {
            assert_eq!(one_type(types.iter()), expected, "{types:?}");
        }
    }

    #[test]
    fn texts_that_are_written_out_are_of_the_type_beside_them() {
        let schema = DFSchema::empty();
        let [text, _] = alike([text_of("t"), Expr::Literal(ScalarValue::Boolean(None), None)], &schema);
        assert_eq!(text, cast(text_of("t"), DataType::Boolean));
        let untouched = [text_of("t"), text_of("u")];
        assert_eq!(alike(untouched.clone(), &schema), untouched);
    }

    /// A text as it is written out.
    fn text_of(text: &str) -> Expr {
        Expr::Literal(ScalarValue::Utf8(Some(text.to_owned())), None)
    }
}
