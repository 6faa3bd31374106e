//! `lag` and `lead`, of which DataFusion takes a number of rows and a default that is a constant of the value's type.
//!
//! Any other default becomes a branch of a CASE, which brings it and the value to one type as PostgreSQL does.
//! Whether there is the row so many before or after is what a count over that one row tells, in the same window: of a
//! value that is null the row is there. The call stands last in the CASE, which so is called as it is. What cannot be written so is refused: DataFusion would take a null for one row.

use crate::respell::{named, number, unnamed};
use crate::walk::walk_expressions;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    UnaryOperator, Value, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::ops::ControlFlow;

/// Whole numbers of so many digits are of all types of numbers but the smallest.
const MOST_DIGITS: usize = 9;

/// Whether a name is that of one of these functions.
pub(crate) fn is_one(name: &str) -> bool {
    ["lag", "lead"].contains(&name)
}

/// What is refused of a call of the function `name`.
pub(crate) fn refused(name: &str, call: &Function) -> Option<String> {
    let args = arguments(call)?;
    let offset = args.get(1)?;
    let has = |is: fn(&Expr) -> bool| {
        walk_expressions(offset, &mut |expr| if is(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            .is_break()
    };
    if has(|expr| matches!(expr, Expr::Value(value) if value.value == Value::Null)) {
        return Some(format!("a null as the offset of {name}()"));
    }
    if has(|expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Subquery(_))) {
        return Some(format!("an offset of {name}() that is no constant"));
    }
    let is_computed = args.get(2).is_some_and(|default| !is_taken(default));
    if is_computed && (distance(offset).is_none() || call.null_treatment.is_some()) {
        return Some(format!("this default of {name}() beside an offset that is no number, or IGNORE NULLS"));
    }
    None
}

/// A call as a CASE, where its default is one that DataFusion does not take.
pub(crate) fn written_out(name: &str, call: &Function) -> Option<Expr> {
    let [value, offset, default]: [Expr; 3] = arguments(call)?.try_into().ok()?;
    let Some(WindowType::WindowSpec(window)) = &call.over else { return None };
    if is_taken(&default) || call.null_treatment.is_some() {
        return None;
    }
    let rows = distance(&offset)?;
    let is_before = (name == "lag") == (rows >= 0);
    let there = counted(window, is_before, rows.unsigned_abs());
    let condition = Expr::BinaryOp { left: Box::new(there), op: BinaryOperator::Eq, right: Box::new(number("0")) };
    let shifted = Function { args: of_all(vec![argument(value), argument(offset)]), ..call.clone() };
    Some(Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result: default }],
        else_result: Some(Box::new(Expr::Function(shifted))),
    })
}

/// How many rows there are so many before or after a row.
fn counted(window: &WindowSpec, is_before: bool, rows: u64) -> Expr {
    let rows = Some(Box::new(number(&rows.to_string())));
    let bound = if is_before { WindowFrameBound::Preceding(rows) } else { WindowFrameBound::Following(rows) };
    let frame = WindowFrame { units: WindowFrameUnits::Rows, start_bound: bound.clone(), end_bound: Some(bound) };
    Expr::Function(Function {
        name: named("count", Span::empty()),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: of_all(vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]),
        filter: None,
        null_treatment: None,
        over: Some(WindowType::WindowSpec(WindowSpec { window_frame: Some(frame), ..window.clone() })),
        within_group: Vec::new(),
    })
}

fn of_all(args: Vec<FunctionArg>) -> FunctionArguments {
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}

const fn argument(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn arguments(call: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &call.args else { return None };
    list.args.iter().map(unnamed).collect()
}

/// Whether DataFusion takes a default as it is meant.
fn is_taken(default: &Expr) -> bool {
    match default {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => is_short(digits),
            _ => true,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            matches!(expr.as_ref(), Expr::Value(value) if matches!(&value.value, Value::Number(digits, _) if is_short(digits)))
        }
        _ => false,
    }
}

fn is_short(digits: &str) -> bool {
    digits.len() <= MOST_DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The number of rows that is written out.
fn distance(offset: &Expr) -> Option<i64> {
    match offset {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => distance(expr).map(i64::wrapping_neg),
        Expr::Nested(inner) => distance(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::DIALECT;
    use datafusion::sql::sqlparser::parser::Parser;

    fn call(text: &str) -> (String, Function) {
        let parsed = Parser::new(&DIALECT).try_with_sql(text).and_then(|mut parser| parser.parse_expr());
        let Ok(Expr::Function(call)) = parsed else { panic!("{text} is a call") };
        (call.name.to_string(), call)
    }

    #[test]
    fn defaults_are_a_branch_of_a_case() {
        for (written, expected) in [
            ("lag(x, 1, 0) OVER ()", None),
            ("lag(x, 1, -1) OVER ()", None),
            ("lag(x, 1, 'a') OVER ()", None),
            ("lag(x, 1) OVER ()", None),
            ("lag(x, y, z) OVER ()", None),
            (
                "lag(x, 1, y) OVER (PARTITION BY g ORDER BY t)",
                Some(
                    "CASE WHEN count(*) OVER (PARTITION BY g ORDER BY t ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING) = 0 \
                     THEN y ELSE lag(x, 1) OVER (PARTITION BY g ORDER BY t) END",
                ),
            ),
            (
                "lead(x, 2, 0.5) OVER (ORDER BY t)",
                Some(
                    "CASE WHEN count(*) OVER (ORDER BY t ROWS BETWEEN 2 FOLLOWING AND 2 FOLLOWING) = 0 \
                     THEN 0.5 ELSE lead(x, 2) OVER (ORDER BY t) END",
                ),
            ),
            (
                "lead(x, -1, y) OVER (ORDER BY t)",
                Some(
                    "CASE WHEN count(*) OVER (ORDER BY t ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING) = 0 \
                     THEN y ELSE lead(x, -1) OVER (ORDER BY t) END",
                ),
            ),
            (
                "lag(x, 0, y) OVER (ORDER BY t)",
                Some(
                    "CASE WHEN count(*) OVER (ORDER BY t ROWS BETWEEN 0 PRECEDING AND 0 PRECEDING) = 0 \
                     THEN y ELSE lag(x, 0) OVER (ORDER BY t) END",
                ),
            ),
        ] {
            let (name, call) = call(written);
            assert_eq!(written_out(&name, &call).map(|expr| expr.to_string()).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn what_datafusion_would_take_for_something_else_is_refused() {
        for (written, is_refused) in [
            ("lag(x) OVER ()", false),
            ("lag(x, 1 + 1) OVER ()", false),
            ("lag(x, 1, y) OVER ()", false),
            ("lag(x, $1, 0) OVER ()", false),
            ("lag(x, NULL) OVER ()", true),
            ("lag(x, y) OVER ()", true),
            ("lag(x, 1 + 1, y) OVER ()", true),
            ("lag(x, 1, y) IGNORE NULLS OVER ()", true),
        ] {
            let (name, call) = call(written);
            assert_eq!(refused(&name, &call).is_some(), is_refused, "{written}");
        }
    }
}
