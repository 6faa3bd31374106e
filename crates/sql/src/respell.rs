//! What DataFusion's planner takes in another spelling only, or takes for something else.
//!
//! - `generate_series(...)` gives rows: it becomes `unnest` of a function that gives an array.
//! - So do the functions that give an array's elements, or an object's keys and values, of jsonb.
//! - `jsonb_agg` and `jsonb_object_agg`, whose names may begin with `json` too, are `array_agg` and what makes one jsonb
//!   of it, and what `string_agg` gives, which is of the type that jsonb has here, is cast to text.
//! - A function that gives rows, in FROM, and its one column have the same name unless told otherwise.
//! - `value = ANY (array)` becomes a function, and so does ALL.
//! - `AT TIME ZONE` becomes a function. `now()` before it is an instant, which DataFusion's type of it
//!   does not say.
//! - `@x` is `abs(x)`, and `~x` is `x # -1`.
//! - `mod(a, b)` is `a % b`, `localtimestamp` a cast of `now()`, and `approx_count_distinct` counts exactly.
//! - `proctime()` is `now()`: where it is not, it is not planned.
//! - Comparisons of rows become comparisons of their columns, and `(a, b) IN (SELECT ...)` becomes EXISTS.
//! - The fields of `ROW(a, b)` are f1, f2 and so on.
//! - What has no name in queries of FROM and WITH gets one.
//! - An ORDER BY of an expression with the name of a result is over what FROM gives.
//! - A column of a relation around a subquery is told with its schema.
//! - `SIMILAR TO` is a match of a regular expression, and `LIKE` with an escape one without.
//! - A cast of an array that is written out of constants is one of each of them.
//! - A cast to a text of so many characters takes the first ones, and one to `char(n)` or `bpchar`, as `pg_dump` writes
//!   it of the defaults of `char(n)`, leaves out the blanks at the end.
//! - Texts of intervals and numerics are spelled as Arrow reads them.
//! - Numbers that would lose digits as doubles are texts that are cast to numeric; so are all with a fraction
//!   among the arguments of functions of numerics.
//! - `substring(... FROM ...)` is a function, `|/x`, `||/x` and `a ^@ b` are functions too.
//! - `age(x)` is that of today, and `make_interval` has all of its arguments in their order.
//! - ROLLUP and CUBE of several columns at one place are written out as sets.
//! - A window that OVER names is written out.
//! - A cast among the keys of GROUP BY has a name other than that of what is cast, where that is a key too.
//! - A default of `lag` and `lead` that is no constant is a branch of a CASE.
//! - VALUES that read the row around them are a SELECT over the numbers of their rows.
//! - A slice without a bound has the first or the last possible one.
//! - A parameter of LIMIT or OFFSET is cast to a bigint, and so is the place in `substr`.
//!
//! Spans stay, so that errors find their places.

use crate::repeated::tell_apart;
use crate::titles::{is_column, named_by_place};
use crate::walk::walk_mut;
use crate::{
    array_casts, arrays, grouped_casts, jsonb, literals, numerals, order_by, patterns, row_values, scalars, scopes,
    sets, shifts, titles, unpivot, window_names, zones,
};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, CharacterLength, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, LimitClause, ObjectName, ObjectNamePart, Query,
    Select, SelectItem, SetExpr, Statement, Subscript, TableAlias, TableAliasColumnDef, TableFactor, TimezoneInfo,
    UnaryOperator, Value, ValueWithSpan, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// A query as DataFusion's planner takes it.
pub(crate) fn respelled(query: &Query) -> Query {
    let mut query = query.clone();
    titles::written_out(&mut query);
    window_names::written_out(&mut query);
    grouped_casts::written_out(&mut query);
    unpivot::written_out(&mut query);
    // Nothing breaks the walks off.
    let ControlFlow::Continue(()) = walk_mut(&mut query, &mut Respell);
    let ControlFlow::Continue(()) = walk_mut(&mut query, &mut NameFields);
    order_by::written_out(&mut query);
    scopes::tell_outer(&mut query);
    query
}

/// The same query with names for what has none. DataFusion's planner refuses `SELECT 1, 1` and
/// `SELECT a::int, a::text`, whose items have one name for it; PostgreSQL takes them.
///
/// Columns keep theirs, by which an outer query may read them, but for those that stand twice in the
/// outermost SELECT.
pub(crate) fn told_apart(mut query: Query) -> Query {
    columns_apart(&mut query.body);
    let ControlFlow::Continue(()) = walk_mut(&mut query, &mut TellApart);
    query
}

/// Names what the outermost SELECT of a statement gives again, which DataFusion's planner refuses.
pub fn name_repeated(statement: &mut Statement) {
    let Statement::Query(query) = statement else { return };
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let mut seen = BTreeSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        if matches!(&*item, SelectItem::UnnamedExpr(expr) if !seen.insert(expr.to_string())) {
            name_by_place(item, at);
        }
    }
}

fn columns_apart(body: &mut SetExpr) {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return columns_apart(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            columns_apart(left);
            return columns_apart(right);
        }
        _ => return,
    };
    let is_wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let is_any_wild = select.projection.iter().any(is_wild);
    let mut seen = BTreeSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && is_column(expr)
            && (!seen.insert(expr.to_string().to_lowercase()) || is_any_wild)
        {
            name_by_place(item, at);
        }
    }
}

struct TellApart;

impl VisitorMut for TellApart {
    type Break = Infallible;

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        titles::title_ctes(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        tell_apart(select, false);
        if select.projection.len() > 1 {
            for (at, item) in select.projection.iter_mut().enumerate() {
                if matches!(&*item, SelectItem::UnnamedExpr(expr) if !is_column(expr)) {
                    name_by_place(item, at);
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn name_by_place(item: &mut SelectItem, at: usize) {
    if let SelectItem::UnnamedExpr(expr) = item {
        *item = named_by_place(expr.clone(), at);
    }
}

/// Functions that give rows.
const UNNEST: &str = "unnest";
const SERIES: &str = "generate_series";

/// A function that gives rows of the elements of arrays, which other functions make.
struct RowsFunction {
    name: &'static str,
    arrays: &'static [&'static str],
    /// What its columns are called; one column is called as the table when this is empty.
    columns: &'static [&'static str],
}

static ROWS_FUNCTIONS: [RowsFunction; 8] = [
    RowsFunction { name: UNNEST, arrays: &[], columns: &[] },
    RowsFunction { name: SERIES, arrays: &[arrays::SERIES], columns: &[] },
    RowsFunction { name: "regexp_split_to_table", arrays: &[scalars::SPLIT_TO_ARRAY], columns: &[] },
    RowsFunction { name: "jsonb_array_elements", arrays: &[jsonb::ELEMENTS], columns: &["value"] },
    RowsFunction { name: "jsonb_array_elements_text", arrays: &[jsonb::ELEMENT_TEXTS], columns: &["value"] },
    RowsFunction { name: "jsonb_object_keys", arrays: &[jsonb::KEYS], columns: &[] },
    RowsFunction { name: "jsonb_each", arrays: &[jsonb::KEYS, jsonb::MEMBERS], columns: &["key", "value"] },
    RowsFunction { name: "jsonb_each_text", arrays: &[jsonb::KEYS, jsonb::MEMBER_TEXTS], columns: &["key", "value"] },
];

fn rows_function_of(name: &ObjectName) -> Option<&'static RowsFunction> {
    let ident = plain_name(name)?;
    ROWS_FUNCTIONS.iter().find(|known| ident.eq_ignore_ascii_case(known.name))
}

/// A name without a schema.
pub(crate) fn plain_name(name: &ObjectName) -> Option<&str> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
    Some(&ident.value)
}

/// The function that gives rows which a name in FROM stands for.
pub(crate) fn rows_function(name: &ObjectName) -> Option<&'static str> {
    rows_function_of(name).map(|known| known.name)
}

struct Respell;

impl VisitorMut for Respell {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            let counts = limit.iter_mut().chain(offset.iter_mut().map(|offset| &mut offset.value));
            counts.filter(|count| is_parameter(count)).for_each(|count| *count = whole(count.clone()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                numerals::keep_digits(expr, numerals::OF_DOUBLES);
            }
        }
        if let Some(condition) = &mut select.selection {
            row_values::look_up(condition);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        let changed = match factor {
            TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => {
                rows_of(name, &args.args, alias.as_ref(), *with_ordinality)
            }
            TableFactor::Function { name, args, alias, with_ordinality, .. } => {
                rows_of(name, args, alias.as_ref(), *with_ordinality)
            }
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
                Some(unnest(&ROWS_FUNCTIONS[0], array_exprs.clone(), alias.as_ref(), *with_ordinality))
            }
            _ => None,
        };
        if let Some(changed) = changed {
            *factor = changed;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        array_casts::to_elements(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Some(changed) = row_values::compared(expr).or_else(|| sets::written_out(expr)) {
            *expr = changed;
        }
        literals::respell(expr);
        if let Some(changed) = as_call(expr) {
            *expr = changed;
        }
        match expr {
            Expr::Function(function) => {
                keep_arguments(function);
                if let Some(changed) = in_other_words(function) {
                    *expr = changed;
                }
            }
            Expr::AnyOp { left, compare_op, right, .. } if !matches!(**right, Expr::Subquery(_)) => {
                if let Some(name) = arrays::comparison(compare_op, false) {
                    *expr = call(&name, Span::empty(), vec![(**left).clone(), (**right).clone()]);
                }
            }
            Expr::AllOp { left, compare_op, right } if !matches!(**right, Expr::Subquery(_)) => {
                if let Some(name) = arrays::comparison(compare_op, true) {
                    *expr = call(&name, Span::empty(), vec![(**left).clone(), (**right).clone()]);
                }
            }
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: of } => {
                *expr = Expr::BinaryOp {
                    left: of.clone(),
                    op: BinaryOperator::PGBitwiseXor,
                    right: Box::new(Expr::Value(Value::Number("-1".to_owned(), false).into())),
                };
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                let value = (**timestamp).clone();
                let value = if is_now(&value) { instant(value) } else { value };
                *expr = call(zones::AT_ZONE, Span::empty(), vec![(**time_zone).clone(), value]);
            }
            // As a literal it is planned without the names around its query.
            Expr::Array(array) if array.elem.iter().any(is_computed) && !array.elem.iter().any(is_literal_array) => {
                let elements = std::mem::take(&mut array.elem);
                *expr = call("make_array", Span::empty(), elements);
            }
            Expr::Cast { expr: number, data_type, .. } if numerals::is_exact(data_type) => {
                numerals::keep_digits(number, 0);
                if let Some(length) = length_of(data_type) {
                    *data_type = DataType::Text;
                    let length = Value::Number(length.to_string(), false).with_empty_span();
                    *expr = call("left", Span::empty(), vec![expr.clone(), Expr::Value(length)]);
                }
            }
            Expr::BinaryOp { .. } | Expr::InList { .. } | Expr::Between { .. } => keep_operands(expr),
            Expr::SimilarTo { negated, expr: of, pattern, escape_char } => {
                let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                let pattern = translated(patterns::SIMILAR, pattern, escape_char.take());
                *expr = Expr::BinaryOp { left: of.clone(), op, right: Box::new(pattern) };
            }
            Expr::Like { pattern, escape_char: escape, .. } | Expr::ILike { pattern, escape_char: escape, .. }
                if escape.is_some() || ends_with_escape(pattern.as_ref()) =>
            {
                **pattern = translated(patterns::LIKE, pattern, escape.take());
            }
            Expr::CompoundFieldAccess { access_chain, .. } => access_chain.iter_mut().for_each(bounded),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Gives the planner what operators, lists and ranges have of numbers of more digits than a double as numerics.
pub(crate) fn keep_operands(expr: &mut Expr) {
    let keep = |operand: &mut Expr| numerals::keep_digits(operand, numerals::OF_DOUBLES);
    match expr {
        Expr::BinaryOp { left, op, right } if numerals::is_of_numbers(op) => {
            keep(left);
            keep(right);
        }
        Expr::InList { expr: of, list, .. } => {
            keep(of);
            list.iter_mut().for_each(keep);
        }
        Expr::Between { expr: of, low, high, .. } => {
            keep(of);
            keep(low);
            keep(high);
        }
        _ => {}
    }
}

/// Names the fields of rows that are not compared.
struct NameFields;

impl VisitorMut for NameFields {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        row_values::name_fields(expr);
        ControlFlow::Continue(())
    }
}

/// The function that an operator before its operand is.
const fn function_of(op: UnaryOperator) -> Option<&'static str> {
    match op {
        UnaryOperator::PGAbs => Some("abs"),
        UnaryOperator::PGSquareRoot => Some("sqrt"),
        UnaryOperator::PGCubeRoot => Some("cbrt"),
        _ => None,
    }
}

/// What is written in another way than as a call, as the call that it is.
fn as_call(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::UnaryOp { op, expr: of } => Some(call(function_of(*op)?, Span::empty(), vec![(**of).clone()])),
        Expr::BinaryOp { left, op: BinaryOperator::PGStartsWith, right } => {
            Some(call("starts_with", Span::empty(), vec![(**left).clone(), (**right).clone()]))
        }
        Expr::Substring { expr: of, substring_from, substring_for, shorthand, .. }
            if substring_from.is_some() || substring_for.is_some() =>
        {
            let from = substring_from.as_ref().map_or_else(|| number("1"), |from| (**from).clone());
            // Only the longer name takes a pattern in its place.
            let from = if *shorthand && is_parameter(&from) { whole(from) } else { from };
            let length = substring_for.as_ref().map(|length| (**length).clone());
            Some(call("substr", Span::empty(), [(**of).clone(), from].into_iter().chain(length).collect()))
        }
        Expr::Cast { data_type, .. } if blank_padded(data_type).is_some() => {
            let (mut text, length) = (expr.clone(), blank_padded(data_type).flatten());
            if let Expr::Cast { data_type, .. } = &mut text {
                *data_type = DataType::Text;
            }
            if let Some(length) = length {
                text = call("substr", Span::empty(), vec![text, number("1"), number(&length.to_string())]);
            }
            Some(call("rtrim", Span::empty(), vec![text]))
        }
        _ => None,
    }
}

/// Keeps the digits of numbers among the arguments of a function of numerics.
fn keep_arguments(function: &mut Function) {
    let name = plain_name(&function.name).map(str::to_lowercase).unwrap_or_default();
    let FunctionArguments::List(list) = &mut function.args else { return };
    if !scalars::OF_NUMERICS.contains(&name.as_str()) {
        return;
    }
    for arg in &mut list.args {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(number)) = arg {
            numerals::keep_digits(number, 0);
        }
    }
}

/// The arguments of a function in the order of their names, `default` in the places of those that are left out.
fn in_order(args: &[FunctionArg], names: &[&str], default: &Expr) -> Option<Vec<Expr>> {
    let mut all = vec![default.clone(); names.len()];
    for (at, arg) in args.iter().enumerate() {
        let (at, given) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(given)) => (at, given),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(given), .. }
            | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(given), .. } => {
                (names.iter().position(|known| name.value.eq_ignore_ascii_case(known))?, given)
            }
            _ => return None,
        };
        all.get_mut(at)?.clone_from(given);
    }
    Some(all)
}

/// How many characters a text has at most whose blanks at the end are no part of it, within `Some` if a type is of such
/// texts: `bpchar` has any number.
fn blank_padded(data_type: &DataType) -> Option<Option<u64>> {
    match data_type {
        DataType::Char(None) | DataType::Character(None) => Some(Some(1)),
        DataType::Char(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::Character(Some(CharacterLength::IntegerLength { length, .. })) => Some(Some(*length)),
        DataType::Custom(name, more) => {
            let is_bpchar = plain_name(name).is_some_and(|name| name.eq_ignore_ascii_case("bpchar"));
            (is_bpchar && more.is_empty()).then_some(None)
        }
        _ => None,
    }
}

/// How many characters a text of a type has at most.
const fn length_of(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Varchar(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::CharacterVarying(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::CharVarying(Some(CharacterLength::IntegerLength { length, .. })) => Some(*length),
        _ => None,
    }
}

/// Whether a pattern that is written out ends with a backslash that protects nothing, which is refused.
fn ends_with_escape(pattern: &Expr) -> bool {
    let Expr::Value(value) = pattern else { return false };
    let (Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text)) = &value.value else { return false };
    (text.len() - text.trim_end_matches('\\').len()) % 2 == 1
}

/// A pattern in other words; without an escape of its own a backslash is it.
fn translated(function: &str, pattern: &Expr, escape: Option<ValueWithSpan>) -> Expr {
    let backslash = || Value::SingleQuotedString("\\".to_owned()).with_empty_span();
    let escape = Expr::Value(escape.unwrap_or_else(backslash));
    call(function, Span::empty(), vec![pattern.clone(), escape])
}

/// A call of a function in other words, when it needs some.
fn in_other_words(function: &Function) -> Option<Expr> {
    let span = span_of(&function.name);
    let renamed = |name: &str| Expr::Function(Function { name: named(name, span), ..function.clone() });
    if let Some(RowsFunction { arrays: [array], .. }) = rows_function_of(&function.name) {
        return Some(call(UNNEST, span, vec![renamed(array)]));
    }
    match plain_name(&function.name)?.to_lowercase().as_str() {
        "jsonb_agg" | "json_agg" => Some(call(jsonb::TO_JSONB, span, vec![renamed("array_agg")])),
        "jsonb_object_agg" | "json_object_agg" => {
            let Expr::Function(mut pairs) = renamed("array_agg") else { return None };
            let FunctionArguments::List(list) = &mut pairs.args else { return None };
            let pair = list.args.iter().map(unnamed).collect::<Option<Vec<_>>>()?;
            list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(call(jsonb::PAIR, span, pair)))];
            Some(call(jsonb::FROM_PAIRS, span, vec![Expr::Function(pairs)]))
        }
        "proctime" => Some(renamed("now")),
        "age" => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let [time]: [Expr; 1] = list.args.iter().map(unnamed).collect::<Option<Vec<_>>>()?.try_into().ok()?;
            Some(call("age", span, vec![call("current_date", span, Vec::new()), time]))
        }
        "make_interval" => {
            let args = match &function.args {
                FunctionArguments::List(list) => list.args.as_slice(),
                _ => return None,
            };
            Some(call("make_interval", span, in_order(args, &scalars::OF_INTERVALS, &number("0"))?))
        }
        "localtimestamp" => Some(Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(call("now", span, Vec::new())),
            data_type: DataType::Timestamp(None, TimezoneInfo::None),
            array: false,
            format: None,
        }),
        "mod" => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let [left, right]: [Expr; 2] =
                list.args.iter().map(unnamed).collect::<Option<Vec<_>>>()?.try_into().ok()?;
            Some(Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Modulo, right: Box::new(right) })
        }
        name if shifts::is_one(name) => shifts::written_out(name, function),
        // Counted exactly.
        "approx_count_distinct" => {
            let Expr::Function(mut count) = renamed("count") else { return None };
            let FunctionArguments::List(list) = &mut count.args else { return None };
            list.duplicate_treatment = Some(DuplicateTreatment::Distinct);
            Some(Expr::Function(count))
        }
        "string_agg" => Some(Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(Expr::Function(function.clone())),
            data_type: DataType::Text,
            array: false,
            format: None,
        }),
        _ => None,
    }
}

/// Whether an expression is now(), or that long before or after it.
fn is_now(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => plain_name(&function.name)
            .is_some_and(|name| ["now", "current_timestamp"].contains(&name.to_lowercase().as_str())),
        Expr::Nested(inner) => is_now(inner),
        Expr::BinaryOp { left, op: BinaryOperator::Plus, right } => is_now(left) || is_now(right),
        Expr::BinaryOp { left, op: BinaryOperator::Minus, .. } => is_now(left),
        _ => false,
    }
}

/// An expression as a `timestamptz`.
fn instant(expr: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
        array: false,
        format: None,
    }
}

const fn is_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }))
}

/// An expression as a `bigint`.
fn whole(expr: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: DataType::BigInt(None),
        array: false,
        format: None,
    }
}

pub(crate) fn unnamed(arg: &FunctionArg) -> Option<Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

/// Whether an element of an array may read a column.
const fn is_computed(element: &Expr) -> bool {
    !matches!(element, Expr::Value(_) | Expr::UnaryOp { .. })
}

const fn is_literal_array(element: &Expr) -> bool {
    matches!(element, Expr::Array(_))
}

/// A call in FROM of a function that gives rows.
fn rows_of(
    name: &ObjectName,
    args: &[FunctionArg],
    alias: Option<&TableAlias>,
    with_ordinality: bool,
) -> Option<TableFactor> {
    let function = rows_function_of(name)?;
    let args = args.iter().map(unnamed).collect::<Option<Vec<_>>>()?;
    let array = |array: &&str| call(array, span_of(name), args.clone());
    let arrays = if function.name == UNNEST { args } else { function.arrays.iter().map(array).collect() };
    Some(unnest(function, arrays, alias, with_ordinality))
}

/// UNNEST in FROM, under the names that the function's table and columns have.
fn unnest(
    function: &RowsFunction,
    arrays: Vec<Expr>,
    alias: Option<&TableAlias>,
    with_ordinality: bool,
) -> TableFactor {
    let mut alias = alias.cloned().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::new(function.name),
        columns: Vec::new(),
        at: None,
    });
    let column = |name| TableAliasColumnDef { name, data_type: None };
    let given = alias.columns.len();
    if given < function.columns.len() {
        alias.columns.extend(function.columns[given..].iter().map(|name| column(Ident::new(*name))));
    } else if given == 0 && arrays.len() == 1 {
        alias.columns.push(column(alias.name.clone()));
    } else if given < arrays.len() {
        let unnamed = (given..arrays.len()).map(|at| Ident::with_quote('"', titles::unwritten(at, function.name)));
        alias.columns.extend(unnamed.map(column));
    }
    TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: arrays,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality,
    }
}

/// Gives a slice the bounds that it does not tell.
fn bounded(access: &mut AccessExpr) {
    let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) = access else { return };
    lower_bound.get_or_insert_with(|| number("1"));
    upper_bound.get_or_insert_with(|| number("2147483647"));
}

pub(crate) fn number(digits: &str) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::Number(digits.to_owned(), false), span: Span::empty() })
}

fn span_of(name: &ObjectName) -> Span {
    match name.0.first() {
        Some(ObjectNamePart::Identifier(ident)) => ident.span,
        _ => Span::empty(),
    }
}

pub(crate) fn named(name: &str, span: Span) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::with_span(span, name))])
}

pub(crate) fn call(name: &str, span: Span, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: named(name, span),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;

    #[test]
    fn queries_are_spelled_as_datafusion_takes_them() {
        for (written, expected) in [
            ("SELECT generate_series(1, 3)", "SELECT unnest(generate_series_array(1, 3))"),
            ("SELECT * FROM generate_series(1, n) AS g", "SELECT * FROM UNNEST(generate_series_array(1, n)) AS g (g)"),
            ("SELECT * FROM LATERAL unnest(a) u (x)", "SELECT * FROM UNNEST(a) u (x)"),
            ("SELECT * FROM t, unnest(a)", "SELECT * FROM t, UNNEST(a) AS unnest (unnest)"),
            (
                "SELECT * FROM unnest(a, b) AS u, unnest(c, d) AS v (x)",
                r#"SELECT * FROM UNNEST(a, b) AS u ("?column?#1#unnest", "?column?#2#unnest"), UNNEST(c, d) AS v (x, "?column?#2#unnest")"#,
            ),
            (
                "SELECT * FROM jsonb_each(j) AS e (k)",
                "SELECT * FROM UNNEST(jsonb_keys_array(j), jsonb_members_array(j)) AS e (k, value)",
            ),
            ("SELECT 1 = ANY(a), 2 <= ALL (a)", "SELECT any_eq(1, a), all_le(2, a)"),
            ("SELECT 1 = ANY (SELECT a FROM t)", "SELECT 1 = ANY(SELECT a FROM t)"),
            (
                "SELECT * FROM t, jsonb_array_elements(j) AS e",
                "SELECT * FROM t, UNNEST(jsonb_elements_array(j)) AS e (value)",
            ),
            (
                "SELECT * FROM jsonb_each(j) AS e (k, v)",
                "SELECT * FROM UNNEST(jsonb_keys_array(j), jsonb_members_array(j)) AS e (k, v)",
            ),
            ("SELECT jsonb_object_keys(j)", "SELECT unnest(jsonb_keys_array(j))"),
            ("SELECT jsonb_agg(DISTINCT a ORDER BY a)", "SELECT to_jsonb(array_agg(DISTINCT a ORDER BY a))"),
            ("SELECT json_agg(a)", "SELECT to_jsonb(array_agg(a))"),
            ("SELECT substr(a, $1), substring(a, $1)", "SELECT substr(a, CAST($1 AS BIGINT)), substr(a, $1)"),
            (r"SELECT a LIKE 'x\\', a LIKE 'x\'", r"SELECT a LIKE 'x\\', a LIKE like_pattern('x\', '\')"),
            ("SELECT jsonb_object_agg(k, v)", "SELECT jsonb_of_pairs(array_agg(jsonb_object_pair(k, v)))"),
            ("SELECT string_agg(a, ',')", "SELECT CAST(string_agg(a, ',') AS TEXT)"),
            ("SELECT a AT TIME ZONE 'UTC'", "SELECT timezone('UTC', a)"),
            ("SELECT a::char(3)", "SELECT rtrim(substr(a::TEXT, 1, 3))"),
            ("SELECT PROCTIME()", "SELECT now()"),
            ("SELECT CAST(a AS bpchar), a::BPCHAR", "SELECT rtrim(CAST(a AS TEXT)), rtrim(a::TEXT)"),
            ("SELECT age(a), age(a, b)", "SELECT age(current_date(), a), age(a, b)"),
            ("SELECT make_interval(1, secs => 2.5)", "SELECT make_interval(1, 0, 0, 0, 0, 0, 2.5)"),
            ("SELECT substring(a FROM 2), substring(a FOR 3)", "SELECT substr(a, 2), substr(a, 1, 3)"),
            ("SELECT |/ a, ||/ a, a ^@ b", "SELECT sqrt(a), cbrt(a), starts_with(a, b)"),
            ("SELECT div(7.5, 2)", "SELECT div(CAST('7.5' AS NUMERIC(2,1)), 2)"),
            ("SELECT (a, b) = (1, 2), (a, b) <> ROW(1, 2)", "SELECT (a = 1 AND b = 2), (a <> 1 OR b <> 2)"),
            ("SELECT (a, b, c) <= (1, 2, 3)", "SELECT (a < 1 OR (a = 1 AND (b < 2 OR (b = 2 AND c <= 3))))"),
            ("SELECT (a, b) NOT IN ((1, 2), (3, NULL))", "SELECT NOT ((a = 1 AND b = 2) OR (a = 3 AND b = NULL))"),
            (
                "SELECT row(a, b) IS NULL, (a, b) IS NOT NULL",
                "SELECT (a IS NULL AND b IS NULL), (a IS NOT NULL AND b IS NOT NULL)",
            ),
            ("SELECT (a, b) = (1, 2, 3)", "SELECT (a, b) = (1, 2, 3)"),
            ("SELECT a LIMIT $1 OFFSET 2", "SELECT a LIMIT CAST($1 AS BIGINT) OFFSET 2"),
            (
                "SELECT 1 FROM t WHERE a > 1 AND (a, b) IN (SELECT c, d FROM u)",
                "SELECT 1 FROM t WHERE a > 1 AND EXISTS (SELECT 1 FROM (SELECT c, d FROM u) AS \
                 __rows (__row_column_1, __row_column_2) WHERE (__rows.__row_column_1 = a AND __rows.__row_column_2 = b))",
            ),
            ("SELECT a[:2], a[2:]", "SELECT a[1:2], a[2:2147483647]"),
            ("SELECT (row(a, 1)).f1", "SELECT (named_struct('f1', a, 'f2', 1)).f1"),
        ] {
            assert_eq!(respelled(&template(written)).to_string(), expected, "{written}");
        }
    }

    #[test]
    fn what_has_one_name_twice_is_told_apart() {
        for (written, expected) in [
            ("SELECT 1, 1", "SELECT 1 AS \"?column?#1#?column?\", 1 AS \"?column?#2#?column?\""),
            ("SELECT a, sum(a), a FROM t", "SELECT a, sum(a) AS \"?column?#2#sum\", a AS \"?column?#3#a\" FROM t"),
            ("SELECT *, a FROM t", "SELECT *, a AS \"?column?#2#a\" FROM t"),
            (
                "SELECT a, a FROM t UNION SELECT b, b FROM t",
                "SELECT a, a AS \"?column?#2#a\" FROM t UNION SELECT b, b AS \"?column?#2#b\" FROM t",
            ),
            (
                "SELECT x FROM (SELECT a, a + 1, (a), sum(a) AS s FROM t) AS u",
                "SELECT x FROM (SELECT a, a + 1 AS \"?column?#2#?column?\", (a) AS \"?column?#3#a\", sum(a) AS s FROM t) AS u",
            ),
            (
                "WITH c AS (SELECT a, t.a FROM t) SELECT a FROM c",
                "WITH c AS (SELECT * FROM (SELECT a, t.a AS \"?column?#2#a\" FROM t) AS c) SELECT a FROM c",
            ),
        ] {
            assert_eq!(told_apart(*template(written)).to_string(), expected, "{written}");
        }
    }
}
