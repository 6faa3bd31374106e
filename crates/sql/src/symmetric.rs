//! `x BETWEEN SYMMETRIC a AND b`, where `a` may be the greater one, which the dialect's parser does not know.
//!
//! It is given an operator that PostgreSQL has no longer, a prefix `!!`, in the place of the word. The operator that
//! begins the first bound in the tree says that the word was there, and the condition is written out as PostgreSQL does
//! it. ASYMMETRIC says nothing, and is left out.

use crate::cursor::is_word;
use crate::error::{Error, Result};
use crate::text::Position;
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Refuses the operator that stands for the word.
///
/// # Errors
/// `Unsupported` with its place.
pub(crate) fn check(tokens: &[TokenWithSpan], text: &str) -> Result<()> {
    match tokens.iter().find(|token| token.token == Token::DoubleExclamationMark) {
        Some(found) => Err(Error::unsupported("!!", "write factorial(x)", Position::of(text, found.span.start))),
        None => Ok(()),
    }
}

/// Gives the parser an operator in the place of SYMMETRIC: there are as many tokens as before.
pub(crate) fn respell(tokens: &mut [TokenWithSpan]) {
    for at in 1..tokens.len() {
        if !is_word(Some(&tokens[at - 1].token), "BETWEEN") {
            continue;
        }
        if is_word(Some(&tokens[at].token), "SYMMETRIC") {
            tokens[at].token = Token::DoubleExclamationMark;
        } else if is_word(Some(&tokens[at].token), "ASYMMETRIC") {
            tokens[at].token = Token::Whitespace(Whitespace::Space);
        }
    }
}

/// Writes out the conditions whose first bound begins with the operator.
pub(crate) fn written_out(parsed: &mut impl VisitMut) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(parsed, &mut WriteOut);
}

struct WriteOut;

impl VisitorMut for WriteOut {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::Between { low, .. } = expr
            && take_mark(low)
        {
            *expr = either_way(expr.clone());
        }
        ControlFlow::Continue(())
    }
}

/// Takes away the operator that an expression begins with; whether there was one.
fn take_mark(expr: &mut Expr) -> bool {
    match expr {
        Expr::UnaryOp { op: UnaryOperator::PGPrefixFactorial, expr: of } => {
            *expr = std::mem::replace(&mut **of, Expr::Value(Value::Null.into()));
            true
        }
        Expr::BinaryOp { left, .. } => take_mark(left),
        _ => false,
    }
}

/// A condition with its bounds in both orders.
fn either_way(between: Expr) -> Expr {
    let Expr::Between { expr, negated, low, high } = &between else { return between };
    let swapped = Expr::Between { expr: expr.clone(), negated: *negated, low: high.clone(), high: low.clone() };
    let op = if *negated { BinaryOperator::And } else { BinaryOperator::Or };
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(between.clone()), op, right: Box::new(swapped) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    fn read(text: &str) -> Result<String> {
        let expr: Expr = Cursor::new(text)?.sqlparser(|parser| parser.parse_expr())?;
        Ok(expr.to_string())
    }

    #[test]
    fn bounds_hold_in_both_orders() {
        for (written, meant) in [
            ("x BETWEEN SYMMETRIC 2 AND 1", "(x BETWEEN 2 AND 1 OR x BETWEEN 1 AND 2)"),
            ("x NOT BETWEEN symmetric a AND b", "(x NOT BETWEEN a AND b AND x NOT BETWEEN b AND a)"),
            (
                "x BETWEEN SYMMETRIC -a::int + 1 * 2 AND b",
                "(x BETWEEN -a::INT + 1 * 2 AND b OR x BETWEEN b AND -a::INT + 1 * 2)",
            ),
            ("x BETWEEN SYMMETRIC a || b AND c", "(x BETWEEN a || b AND c OR x BETWEEN c AND a || b)"),
            ("x BETWEEN SYMMETRIC (1) AND 2 AND y", "(x BETWEEN (1) AND 2 OR x BETWEEN 2 AND (1)) AND y"),
            ("x BETWEEN ASYMMETRIC 1 AND 2", "x BETWEEN 1 AND 2"),
            ("x BETWEEN \"symmetric\" AND 2", "x BETWEEN \"symmetric\" AND 2"),
        ] {
            assert_eq!(read(written).expect(written), meant, "{written}");
        }
        let error = read("x BETWEEN !! 5 AND 6").expect_err("an operator of old");
        assert_eq!((error.sqlstate(), error.position().map(|at| at.offset)), ("0A000", Some(11)));
        assert_eq!(read("x BETWEEN SYMMETRIC AND 6").expect_err("no bound").sqlstate(), "42601");
    }
}
