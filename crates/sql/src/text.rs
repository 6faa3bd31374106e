//! Statements as text: positions in them, and how a script is divided into them.
//!
//! Positions count characters from 1, as PostgreSQL's do; tokens come from sqlparser's tokenizer,
//! so a semicolon in a string, a comment or a quoted name divides nothing.

use crate::error::{Error, Result};
use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use std::fmt;

/// The dialect all statements are read in.
pub(crate) static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// A query of ours that others fill in.
///
/// # Panics
/// When it does not parse, which is a broken invariant.
pub(crate) fn template(query: &str) -> Box<Query> {
    Parser::new(&DIALECT)
        .try_with_sql(query)
        .and_then(|mut parser| parser.parse_query())
        .expect("a constant query parses")
}

/// A place in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Characters from the statement's start, from 1.
    pub offset: usize,
    /// From 1.
    pub line: u64,
    /// Characters from the line's start, from 1.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Position {
    /// The place of a line and column (both from 1) in `text`; none when they are outside of it.
    #[must_use]
    pub fn locate(text: &str, line: u64, column: u64) -> Option<Self> {
        let lines = usize::try_from(line.checked_sub(1)?).ok()?;
        let column_index = usize::try_from(column.checked_sub(1)?).ok()?;
        if lines >= text.split('\n').count() {
            return None;
        }
        let before: usize = text.split_inclusive('\n').take(lines).map(|l| l.chars().count()).sum();
        let offset = before + column_index + 1;
        (offset <= text.chars().count() + 1).then_some(Self { offset, line, column })
    }

    pub(crate) fn of(text: &str, location: Location) -> Option<Self> {
        Self::locate(text, location.line, location.column)
    }

    /// The place after the last character.
    pub(crate) fn end(text: &str) -> Self {
        let line = text.split('\n').count() as u64;
        let last = text.rsplit('\n').next().unwrap_or_default();
        Self { offset: text.chars().count() + 1, line, column: last.chars().count() as u64 + 1 }
    }
}

/// One statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its text, without the semicolon and what surrounds it.
    pub text: String,
    /// Where it starts in the script.
    pub start: Position,
}

/// Divides a script into its statements; empty ones are left out.
///
/// # Errors
/// `Syntax` when a string, comment or quoted name does not end.
pub fn split(script: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut first: Option<Location> = None;
    for token in tokens(script)? {
        match token.token {
            Token::SemiColon => {
                if let Some(start) = first.take() {
                    pieces.extend(piece(script, start, Some(token.span.start)));
                }
            }
            _ if first.is_none() => first = Some(token.span.start),
            _ => {}
        }
    }
    if let Some(start) = first {
        pieces.extend(piece(script, start, None));
    }
    Ok(pieces)
}

fn piece(script: &str, start: Location, end: Option<Location>) -> Option<Piece> {
    let text = slice(script, start, end).trim_end().to_owned();
    Some(Piece { text, start: Position::of(script, start)? })
}

/// The text from one location up to another, or to the end.
pub(crate) fn slice(text: &str, start: Location, end: Option<Location>) -> &str {
    let from = byte_of(text, start);
    let to = end.map_or(text.len(), |end| byte_of(text, end));
    &text[from..to.max(from)]
}

fn byte_of(text: &str, location: Location) -> usize {
    let lines = usize::try_from(location.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let columns = usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX);
    let mut rows = text.split_inclusive('\n');
    let before: usize = rows.by_ref().take(lines).map(str::len).sum();
    let row = rows.next().unwrap_or_default();
    before + row.char_indices().nth(columns).map_or(row.len(), |(at, _)| at)
}

/// Whether two statements differ in nothing but white space and comments.
#[must_use]
pub fn same_text(a: &str, b: &str) -> bool {
    let meaning = |text| {
        let tokens: Vec<Token> = tokens(text).ok()?.into_iter().map(|t| t.token).collect();
        Some(tokens.into_iter().filter(|t| *t != Token::SemiColon).collect::<Vec<_>>())
    };
    a == b || meaning(a).is_some_and(|a| Some(a) == meaning(b))
}

/// The tokens of a text, without white space and comments.
pub(crate) fn tokens(text: &str) -> Result<Vec<TokenWithSpan>> {
    let all = Tokenizer::new(&DIALECT, text).tokenize_with_location().map_err(|e| {
        let position = Position::of(text, e.location);
        Error::Syntax { message: e.message, position }
    })?;
    let mut tokens = Vec::with_capacity(all.len());
    for token in all.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)) {
        match before_signs(&token) {
            Some(parts) => tokens.extend(parts),
            None => tokens.push(as_name(token)),
        }
    }
    Ok(tokens)
}

/// The operator and the signs behind it that the tokenizer takes for one operator. As in PostgreSQL an operator of
/// several characters ends with a sign only if it has a character that no operator of the standard has: `a>=-1` is a
/// comparison with -1.
fn before_signs(token: &TokenWithSpan) -> Option<Vec<TokenWithSpan>> {
    const UNUSUAL: [char; 10] = ['~', '!', '@', '#', '%', '^', '&', '|', '`', '?'];
    let Token::CustomBinaryOperator(text) = &token.token else { return None };
    let operator = text.trim_end_matches(['+', '-']);
    // Two minus signs begin a comment, which cannot be told from here.
    if operator.len() == text.len() || text.contains(UNUSUAL) || text.contains("--") {
        return None;
    }
    let made = Tokenizer::new(&DIALECT, operator).tokenize().ok()?;
    let [made] = <[Token; 1]>::try_from(made).ok()?;
    let mut at = token.span.start;
    let mut next = |token: Token, length: usize| {
        let start = at;
        at.column += length as u64;
        TokenWithSpan { token, span: Span::new(start, at) }
    };
    let mut parts = vec![next(made, operator.len())];
    for sign in text[operator.len()..].chars() {
        parts.push(next(if sign == '+' { Token::Plus } else { Token::Minus }, 1));
    }
    Some(parts)
}

/// A token, of which TOP is a name like others: it is a word of other databases.
fn as_name(mut token: TokenWithSpan) -> TokenWithSpan {
    if let Token::Word(word) = &mut token.token
        && word.keyword == Keyword::TOP
    {
        word.keyword = Keyword::NoKeyword;
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_divided_at_semicolons_outside_of_strings_and_comments() {
        let script = "SELECT 'a;b'; -- no;\n/* ; */ SELECT \"c;d\";\n;\n  SELECT 1  ";
        let pieces = split(script).expect("a script");
        let texts: Vec<_> = pieces.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(texts, ["SELECT 'a;b'", "SELECT \"c;d\"", "SELECT 1"]);
        assert_eq!(pieces[1].start, Position { offset: 30, line: 2, column: 9 });
        assert_eq!(pieces[2].start.line, 4);
    }

    #[test]
    fn positions_count_characters_not_bytes() {
        let text = "SELECT 'é', x\nFROM ü";
        let at = Position::locate(text, 2, 6).expect("inside");
        assert_eq!(at.offset, 20);
        assert_eq!(slice(text, Location::new(2, 6), None), "ü");
        assert_eq!(Position::end(text).offset, text.chars().count() + 1);
        assert_eq!(Position::locate(text, 5, 1), None);
    }

    #[test]
    fn white_space_and_comments_make_no_difference_but_all_else_does() {
        assert!(same_text("SELECT  1 -- one\n+ 2", "SELECT 1 + 2;"));
        assert!(!same_text("SELECT 'a'", "SELECT 'A'"));
        assert!(!same_text("SELECT a", "SELECT b"));
        assert!(!same_text("'", "\""));
    }

    #[test]
    fn signs_behind_an_operator_are_their_own_tokens() {
        let of = |text| tokens(text).expect("tokens").into_iter().map(|t| t.token.to_string()).collect::<Vec<_>>();
        assert_eq!(of("a>=-1"), ["a", ">=", "-", "1"]);
        assert_eq!(of("a<>+b"), ["a", "<>", "+", "b"]);
        assert_eq!(of("j->>-1"), ["j", "->>", "-", "1"]);
        assert_eq!(of("a ||- b"), ["a", "||-", "b"]);
        let places: Vec<_> = tokens("a>=-1").expect("tokens").iter().map(|t| t.span.start.column).collect();
        assert_eq!(places, [1, 2, 4, 5]);
    }

    #[test]
    fn an_unterminated_string_tells_where_it_began() {
        let error = split("SELECT 1;\nSELECT 'x").expect_err("unterminated");
        assert_eq!(error.sqlstate(), "42601");
        assert_eq!(error.position().map(|p| (p.line, p.column)), Some((2, 8)));
    }
}
