//! ONLY before a relation, `FROM ONLY t`, `USING ONLY t` or `FROM ONLY (t)`: no relation here has others that inherit
//! from it, so it leaves nothing out. The dialect's parser takes it for a relation of that name; it is given a blank
//! instead.

use crate::cursor::is_word;
use datafusion::sql::sqlparser::keywords::RESERVED_FOR_TABLE_ALIAS;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

/// Takes ONLY, and the brackets behind it, away from the parser: there are as many tokens as before.
pub(crate) fn respell(tokens: &mut [TokenWithSpan]) {
    for at in 1..tokens.len() {
        if !stands_before_relation(tokens, at) {
            continue;
        }
        let blanks = match (tokens.get(at + 1).map(|token| &token.token), relation(&tokens[at + 1..])) {
            (_, Some(_)) => vec![at],
            (Some(Token::LParen), None) => match relation(&tokens[at + 2..]).map(|length| at + 2 + length) {
                Some(close) if is_token(tokens, close, &Token::RParen) => vec![at, at + 1, close],
                _ => continue,
            },
            _ => continue,
        };
        for blank in blanks {
            tokens[blank].token = Token::Whitespace(Whitespace::Space);
        }
    }
}

fn stands_before_relation(tokens: &[TokenWithSpan], at: usize) -> bool {
    let is = |at: usize, word: &str| is_word(tokens.get(at).map(|token| &token.token), word);
    let is_distinct = at > 1 && is(at - 2, "DISTINCT");
    is(at, "ONLY") && (is(at - 1, "FROM") && !is_distinct || is(at - 1, "JOIN") || is(at - 1, "USING"))
}

/// How many tokens the name of a relation has that they begin with.
fn relation(tokens: &[TokenWithSpan]) -> Option<usize> {
    let is_name = |at: usize| match tokens.get(at).map(|token| &token.token) {
        Some(Token::Word(word)) => word.quote_style.is_some() || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword),
        _ => false,
    };
    if !is_name(0) {
        return None;
    }
    Some(if is_token(tokens, 1, &Token::Period) && is_name(2) { 3 } else { 1 })
}

fn is_token(tokens: &[TokenWithSpan], at: usize, expected: &Token) -> bool {
    tokens.get(at).is_some_and(|token| token.token == *expected)
}

#[cfg(test)]
mod tests {
    use crate::parse;
    use crate::statement::Statement;

    #[test]
    fn only_before_a_relation_says_nothing() {
        for (written, read) in [
            ("SELECT x FROM ONLY t", "SELECT x FROM t"),
            ("SELECT x FROM only public.t AS a JOIN ONLY (u) ON true", "SELECT x FROM public.t AS a JOIN u ON true"),
            ("SELECT x FROM ONLY (t) WHERE x > 1", "SELECT x FROM t WHERE x > 1"),
            ("SELECT x FROM \"only\" t", "SELECT x FROM \"only\" t"),
            ("SELECT x FROM only WHERE x > 1", "SELECT x FROM only WHERE x > 1"),
        ] {
            let Ok(Statement::Query(query)) = parse(written) else { panic!("{written} is a query") };
            assert_eq!(query.ast.to_string(), read, "{written}");
        }
    }
}
