//! `TABLE t` as a query, which is `SELECT * FROM t`. The dialect's parser takes what stands behind it for a part of it;
//! it is given `SELECT t` instead, of which the word is kept, and then the query is written out.
//!
//! Invariant: there are as many tokens as before, and names stand where they stood.

use crate::cursor::is_word;
use crate::error::Error;
use crate::text::{Position, template};
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Select, SelectItem, SetExpr, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::ControlFlow;

/// Has the parser take TABLE where a query begins for SELECT.
pub(crate) fn respell(tokens: &mut [TokenWithSpan]) {
    for at in 0..tokens.len() {
        if begins_query(tokens, at)
            && let Token::Word(word) = &mut tokens[at].token
        {
            word.keyword = Keyword::SELECT;
        }
    }
}

fn begins_query(tokens: &[TokenWithSpan], at: usize) -> bool {
    let token = |at: usize| tokens.get(at).map(|token| &token.token);
    let is_name = match token(at + 1) {
        Some(Token::Word(word)) => word.quote_style.is_some() || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword),
        _ => false,
    };
    if !is_name || !is_word(token(at), "TABLE") {
        return false;
    }
    let joins_queries = |at: Option<usize>| {
        at.is_some_and(|at| ["UNION", "EXCEPT", "INTERSECT"].iter().any(|word| is_word(token(at), word)))
    };
    let before = at.checked_sub(1);
    match before.and_then(token) {
        None | Some(Token::LParen | Token::RParen) => true,
        Some(_) => {
            let is_of_all = ["ALL", "DISTINCT"].iter().any(|word| is_word(before.and_then(token), word));
            joins_queries(before) || is_of_all && joins_queries(at.checked_sub(2))
        }
    }
}

/// Writes out what was respelled in a part of a statement.
///
/// # Errors
/// `Syntax` where more than a name stands behind TABLE.
pub(crate) fn written_out(parsed: &mut impl VisitMut, text: &str) -> Result<(), Error> {
    match walk_mut(parsed, &mut WriteOut { text }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct WriteOut<'a> {
    text: &'a str,
}

impl VisitorMut for WriteOut<'_> {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        let AttachedToken(token) = &select.select_token;
        if !is_word(Some(&token.token), "TABLE") {
            return ControlFlow::Continue(());
        }
        let position = Position::of(self.text, token.span.start);
        let Some(whole) = whole(select) else {
            let message = "syntax error: TABLE as a query has the name of a relation, and ORDER BY, LIMIT, UNION and \
                           their like at most behind it"
                .to_owned();
            return ControlFlow::Break(Error::Syntax { message, position });
        };
        *select = whole;
        ControlFlow::Continue(())
    }
}

/// `SELECT * FROM t` for a `SELECT t` that has nothing else.
fn whole(select: &Select) -> Option<Select> {
    let [SelectItem::UnnamedExpr(named)] = select.projection.as_slice() else { return None };
    let parts = match named {
        Expr::Identifier(name) => vec![name.clone()],
        Expr::CompoundIdentifier(parts) => parts.clone(),
        _ => return None,
    };
    let mut query = template("SELECT * FROM x");
    let SetExpr::Select(whole) = query.body.as_mut() else { return None };
    let mut beside = select.clone();
    beside.projection.clone_from(&whole.projection);
    beside.from.clone_from(&whole.from);
    if !select.from.is_empty() || beside != **whole {
        return None;
    }
    let TableFactor::Table { name, .. } = &mut whole.from.first_mut()?.relation else { return None };
    *name = ObjectName::from(parts);
    let span = select.select_token.0.span;
    let there = |token: Token| AttachedToken(TokenWithSpan::new(token, span));
    whole.select_token = there(Token::make_keyword("SELECT"));
    if let Some(SelectItem::Wildcard(options)) = whole.projection.first_mut() {
        options.wildcard_token = there(Token::Mul);
    }
    Some((**whole).clone())
}

#[cfg(test)]
mod tests {
    use crate::parse;
    use crate::statement::Statement;

    #[test]
    fn a_table_is_a_query_wherever_one_stands() {
        for (written, read) in [
            ("TABLE t", "SELECT * FROM t"),
            ("table public.\"T\" ORDER BY 1 LIMIT 2", "SELECT * FROM public.\"T\" ORDER BY 1 LIMIT 2"),
            ("(TABLE t) UNION ALL TABLE u", "(SELECT * FROM t) UNION ALL SELECT * FROM u"),
            ("TABLE t EXCEPT TABLE u", "SELECT * FROM t EXCEPT SELECT * FROM u"),
            ("WITH w AS (TABLE t) TABLE w", "WITH w AS (SELECT * FROM t) SELECT * FROM w"),
            (
                "SELECT a FROM (TABLE t) AS s WHERE a IN (TABLE u)",
                "SELECT a FROM (SELECT * FROM t) AS s WHERE a IN (SELECT * FROM u)",
            ),
            ("SELECT EXISTS (TABLE t)", "SELECT EXISTS (SELECT * FROM t)"),
        ] {
            let parsed = parse(written).expect(written);
            let Statement::Query(query) = parsed else { panic!("{written} is a query") };
            assert_eq!(query.ast.to_string(), read);
        }
    }

    #[test]
    fn nothing_stands_behind_the_name() {
        for written in ["TABLE t WHERE a = 1", "TABLE t AS u", "TABLE t, u", "TABLE f(1)", "TABLE t GROUP BY a"] {
            let refused = parse(written).expect_err(written);
            assert_eq!((refused.sqlstate(), refused.position().map(|at| at.offset)), ("42601", Some(1)), "{written}");
        }
        assert_eq!(parse("TABLE").expect_err("no name").sqlstate(), "42601");
    }
}
