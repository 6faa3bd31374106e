//! Long chains of operators. What walks a statement's tree does it by recursion, and the planner asks at
//! every operator for the types of all that is below it.
//!
//! So a chain of AND or OR becomes a tree that is no deeper than it must be, which says the same, and any
//! other chain has a longest length. That is counted before the statement is parsed.

use crate::error::{Error, Result};
use crate::text::Position;
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// The most operators of one chain. So many take a second or two to plan, twice as many four times that.
const MOST_OPERATORS: usize = 1000;
/// The most conditions that AND and OR join, and the most queries that UNION and its like do.
const MOST_TERMS: usize = 10_000;
/// Chains of AND and OR that are no longer stay as they are written.
const SHORT: usize = 64;

/// What was counted between two parentheses, or in a CASE.
#[derive(Default)]
struct Level {
    is_case: bool,
    operators: usize,
    terms: usize,
    queries: usize,
}

impl Level {
    /// Counts a token. Whether it makes a chain too long.
    fn count(&mut self, token: &Token) -> bool {
        match token {
            Token::Word(word) => self.count_word(word.keyword),
            Token::Comma => self.end_expression(),
            token => self.operators += usize::from(is_operator(token)),
        }
        self.operators > MOST_OPERATORS || self.terms > MOST_TERMS || self.queries > MOST_TERMS
    }

    const fn count_word(&mut self, word: Keyword) {
        match word {
            Keyword::AND | Keyword::OR => {
                self.operators = 0;
                self.terms += 1;
            }
            Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => self.queries += 1,
            Keyword::IS
            | Keyword::NOTNULL
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::IN
            | Keyword::BETWEEN
            | Keyword::COLLATE
            | Keyword::AT => self.operators += 1,
            Keyword::SELECT
            | Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::ON
            | Keyword::JOIN
            | Keyword::VALUES
            | Keyword::SET
            | Keyword::RETURNING
            | Keyword::WINDOW
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE => self.end_expression(),
            _ => {}
        }
    }

    const fn end_expression(&mut self) {
        (self.operators, self.terms) = (0, 0);
    }
}

/// Whether a token that is no word stands between operands or behind one.
const fn is_operator(token: &Token) -> bool {
    !matches!(
        token,
        Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::LParen
            | Token::RParen
            | Token::RBracket
    )
}

/// Refuses a statement with a chain that is too long.
///
/// # Errors
/// `Invalid` (54001) with the position of the operator that is one too many.
pub(crate) fn check(tokens: &[TokenWithSpan], text: &str) -> Result<()> {
    let mut levels = vec![Level::default()];
    for token in tokens {
        let is_case = levels.last().is_some_and(|level| level.is_case);
        if levels.last_mut().is_some_and(|level| level.count(&token.token)) {
            let message = format!(
                "an expression has more than {MOST_OPERATORS} operators in a row, or more than {MOST_TERMS} of AND, OR \
                 or UNION: divide it by parentheses, or list values with IN"
            );
            return Err(Error::Invalid { sqlstate: "54001", message, position: Position::of(text, token.span.start) });
        }
        match &token.token {
            Token::LParen | Token::LBracket => levels.push(Level::default()),
            Token::Word(word) if word.keyword == Keyword::CASE => {
                levels.push(Level { is_case: true, ..Level::default() });
            }
            Token::Word(word) if word.keyword == Keyword::END && is_case => {
                levels.pop();
            }
            Token::RParen | Token::RBracket if levels.len() > 1 => {
                levels.pop();
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes the long chains of AND and of OR as shallow as they can be.
pub(crate) fn balance(parsed: &mut impl VisitMut) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(parsed, &mut Balance);
}

struct Balance;

impl VisitorMut for Balance {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        for op in [BinaryOperator::And, BinaryOperator::Or] {
            if length(expr, &op) > SHORT {
                *expr = joined(operands(std::mem::replace(expr, nothing()), &op), &op);
            }
        }
        ControlFlow::Continue(())
    }
}

/// How many operators stand in a row.
fn length(mut expr: &Expr, of: &BinaryOperator) -> usize {
    let mut length = 0;
    while let Expr::BinaryOp { left, op, .. } = expr
        && op == of
    {
        length += 1;
        expr = &**left;
    }
    length
}

/// The operands of a chain, the first one first.
fn operands(mut chain: Expr, of: &BinaryOperator) -> Vec<Expr> {
    let mut operands = Vec::new();
    loop {
        match chain {
            Expr::BinaryOp { left, op, right } if op == *of => {
                operands.push(*right);
                chain = *left;
            }
            first => {
                operands.push(first);
                operands.reverse();
                return operands;
            }
        }
    }
}

/// Joins neighbours until one is left.
fn joined(mut operands: Vec<Expr>, op: &BinaryOperator) -> Expr {
    while operands.len() > 1 {
        let mut rest = operands.into_iter();
        let mut pairs = Vec::with_capacity(rest.len().div_ceil(2));
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) },
                None => left,
            });
        }
        operands = pairs;
    }
    operands.pop().unwrap_or_else(nothing)
}

/// What stands where an expression was taken out.
fn nothing() -> Expr {
    Expr::Value(Value::Null.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{DIALECT, tokens};
    use datafusion::sql::sqlparser::parser::Parser;

    fn tree(text: &str) -> Expr {
        let parsed = Parser::new(&DIALECT).try_with_sql(text).and_then(|mut parser| parser.parse_expr());
        parsed.expect("an expression")
    }

    fn refused(text: &str) -> Option<usize> {
        let error = check(&tokens(text).expect("tokens"), text).err()?;
        assert_eq!(error.sqlstate(), "54001");
        Some(error.position().expect("it has a position").offset)
    }

    fn chain(term: &str, operator: &str, terms: usize) -> String {
        vec![term; terms].join(operator)
    }

    #[test]
    fn long_chains_of_and_and_or_are_shallow_and_in_order() {
        for op in [" OR ", " AND "] {
            let terms: Vec<String> = (0..1000).map(|n| format!("a = {n}")).collect();
            let written = terms.join(op);
            let mut balanced = tree(&written);
            balance(&mut balanced);
            assert_eq!(balanced.to_string(), written);
            let mut depth = 0;
            let mut at = &balanced;
            while let Expr::BinaryOp { left, .. } = at {
                (at, depth) = (&**left, depth + 1);
            }
            assert_eq!(depth, 11);
        }
        let mut short = tree("a OR b OR c");
        balance(&mut short);
        assert_eq!(short, tree("a OR b OR c"));
        // A chain in a chain, and one in parentheses.
        let inner = chain("b", " AND ", 100);
        let mut mixed = tree(&format!("{} OR NOT ({inner}) OR {inner}", chain("a", " OR ", 100)));
        balance(&mut mixed);
        assert_eq!(mixed.to_string(), format!("{} OR NOT ({inner}) OR {inner}", chain("a", " OR ", 100)));
    }

    #[test]
    fn chains_have_a_longest_length() {
        assert_eq!(refused(&chain("1", "+", MOST_OPERATORS + 1)), None);
        assert_eq!(refused(&chain("1", "+", MOST_OPERATORS + 2)), Some(2 * (MOST_OPERATORS + 1)));
        assert!(refused(&format!("a{}", "::int".repeat(MOST_OPERATORS + 1))).is_some());
        assert!(refused(&format!("a{}", "[1]".repeat(MOST_OPERATORS + 1))).is_some());
        assert!(refused(&format!("a{}", " IS NULL".repeat(MOST_OPERATORS + 1))).is_some());
        assert!(refused(&chain("CASE WHEN a THEN b END", " + ", MOST_OPERATORS + 2)).is_some());
        assert!(refused(&chain("(SELECT 1)", " + ", MOST_OPERATORS + 2)).is_some());
        assert!(refused(&chain("a = 1", " OR ", MOST_TERMS + 2)).is_some());
        for many in [
            chain("a = 1", " OR ", MOST_TERMS),
            format!("INSERT INTO t VALUES {}", chain("(1 + 1, -2)", ", ", 5000)),
            format!("SELECT {}", chain("a + 1", ", ", 5000)),
            format!("SELECT CASE {} END", chain("WHEN a = 1 THEN 2 + 3", " ", 5000)),
            format!("SELECT a IN ({})", chain("-1", ", ", 5000)),
            chain("SELECT 1 + 1", " UNION ALL ", 5000),
        ] {
            assert_eq!(refused(&many), None);
        }
    }
}
