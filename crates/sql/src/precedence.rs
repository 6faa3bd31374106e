//! The right side of `IS [NOT] DISTINCT FROM`, which the parser takes to be all that follows.
//!
//! AND and OR bind less than IS: `x OR a IS DISTINCT FROM b AND c` is `x OR ((a IS DISTINCT FROM b) AND c)`,
//! and not `x OR (a IS DISTINCT FROM (b AND c))`. The parser puts every other operand as far inside as it
//! belongs, and parentheses stay in its trees; so wherever an operator's last operand is an AND or OR
//! that binds no more than the operator, only the first operand of that is the operator's.

use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Statement, Value, VisitMut, VisitorMut};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Groups the operands of a statement that was just parsed as PostgreSQL does.
pub fn group_operands(statement: &mut Statement) {
    group(statement);
}

/// The same of a part of one.
pub(crate) fn group(parsed: &mut impl VisitMut) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(parsed, &mut GroupOperands);
}

struct GroupOperands;

impl VisitorMut for GroupOperands {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let looser = no_tighter_than(expr);
        let Some(last) = last_operand(expr) else { return ControlFlow::Continue(()) };
        if !matches!(&*last, Expr::BinaryOp { op, .. } if looser.contains(op)) {
            return ControlFlow::Continue(());
        }
        let (first, rest) = divided(std::mem::replace(last, nothing()), looser);
        *last = first;
        let whole = std::mem::replace(expr, nothing());
        let joined = |left, (op, right)| Expr::BinaryOp { left: Box::new(left), op, right };
        *expr = rest.into_iter().rev().fold(whole, joined);
        ControlFlow::Continue(())
    }
}

/// The loosest last.
static LOOSE: [BinaryOperator; 2] = [BinaryOperator::And, BinaryOperator::Or];

fn no_tighter_than(expr: &Expr) -> &'static [BinaryOperator] {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::Or, .. } => &LOOSE[1..],
        _ => &LOOSE,
    }
}

/// The operand that ends an expression.
fn last_operand(expr: &mut Expr) -> Option<&mut Expr> {
    match expr {
        Expr::IsDistinctFrom(_, last)
        | Expr::IsNotDistinctFrom(_, last)
        | Expr::BinaryOp { right: last, .. }
        | Expr::UnaryOp { expr: last, .. }
        | Expr::Between { high: last, .. }
        | Expr::Like { pattern: last, .. }
        | Expr::ILike { pattern: last, .. }
        | Expr::SimilarTo { pattern: last, .. }
        | Expr::AtTimeZone { time_zone: last, .. } => Some(&mut **last),
        _ => None,
    }
}

/// The first operand of a chain of operators, and the others from the last one on.
fn divided(mut chain: Expr, looser: &[BinaryOperator]) -> (Expr, Vec<(BinaryOperator, Box<Expr>)>) {
    let mut rest = Vec::new();
    loop {
        match chain {
            Expr::BinaryOp { left, op, right } if looser.contains(&op) => {
                rest.push((op, right));
                chain = *left;
            }
            first => return (first, rest),
        }
    }
}

/// What stands where an expression was taken out.
fn nothing() -> Expr {
    Expr::Value(Value::Null.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::DIALECT;
    use datafusion::sql::sqlparser::parser::Parser;

    /// Takes parentheses off.
    struct Bare;

    impl VisitorMut for Bare {
        type Break = Infallible;

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
            if let Expr::Nested(inner) = expr {
                *expr = std::mem::replace(&mut **inner, nothing());
            }
            ControlFlow::Continue(())
        }
    }

    fn tree(text: &str) -> Expr {
        let parsed = Parser::new(&DIALECT).try_with_sql(text).and_then(|mut parser| parser.parse_expr());
        let mut expr = parsed.expect("an expression");
        group(&mut expr);
        let ControlFlow::Continue(()) = walk_mut(&mut expr, &mut Bare);
        expr
    }

    #[test]
    fn and_and_or_end_the_right_side() {
        for (written, meant) in [
            ("a IS DISTINCT FROM b", "(a IS DISTINCT FROM b)"),
            ("a IS DISTINCT FROM b AND c", "(a IS DISTINCT FROM b) AND c"),
            ("a IS NOT DISTINCT FROM b OR c", "(a IS NOT DISTINCT FROM b) OR c"),
            ("x AND a IS DISTINCT FROM b AND y", "(x AND (a IS DISTINCT FROM b)) AND y"),
            ("x AND a IS DISTINCT FROM b OR y", "(x AND (a IS DISTINCT FROM b)) OR y"),
            ("x OR a IS DISTINCT FROM b AND y", "x OR ((a IS DISTINCT FROM b) AND y)"),
            ("x OR a IS DISTINCT FROM b OR y", "(x OR (a IS DISTINCT FROM b)) OR y"),
            ("w OR x AND a IS DISTINCT FROM b AND y OR z", "(w OR ((x AND (a IS DISTINCT FROM b)) AND y)) OR z"),
            (
                "a IS DISTINCT FROM b AND c IS NOT DISTINCT FROM d OR e",
                "((a IS DISTINCT FROM b) AND (c IS NOT DISTINCT FROM d)) OR e",
            ),
            (
                "a IS DISTINCT FROM b OR c IS NOT DISTINCT FROM d AND e OR f",
                "((a IS DISTINCT FROM b) OR ((c IS NOT DISTINCT FROM d) AND e)) OR f",
            ),
            ("NOT a IS DISTINCT FROM b AND c", "(NOT (a IS DISTINCT FROM b)) AND c"),
            ("x AND NOT a IS DISTINCT FROM b OR c", "(x AND (NOT (a IS DISTINCT FROM b))) OR c"),
            ("a IS DISTINCT FROM NOT b AND c", "(a IS DISTINCT FROM (NOT b)) AND c"),
            ("x = NOT a IS DISTINCT FROM b AND c", "(x = (NOT (a IS DISTINCT FROM b))) AND c"),
            ("a IS DISTINCT FROM b + 1 AND c", "(a IS DISTINCT FROM (b + 1)) AND c"),
            ("a IS DISTINCT FROM b BETWEEN c AND d AND e", "(a IS DISTINCT FROM (b BETWEEN c AND d)) AND e"),
            ("a IS DISTINCT FROM (b AND c)", "a IS DISTINCT FROM (b AND c)"),
            ("x AND (a IS DISTINCT FROM b OR y)", "x AND ((a IS DISTINCT FROM b) OR y)"),
            ("NOT (a OR b) AND c", "(NOT (a OR b)) AND c"),
            ("f(a IS DISTINCT FROM b AND c, d) OR e", "f((a IS DISTINCT FROM b) AND c, d) OR e"),
            ("CASE WHEN a IS DISTINCT FROM b AND c THEN d END", "CASE WHEN (a IS DISTINCT FROM b) AND c THEN d END"),
        ] {
            assert_eq!(tree(written), tree(meant), "{written}");
        }
    }
}
