//! PostgreSQL's text form of composite values, `(1,"a b",)`, taken apart; [`crate::spelling`] writes it.
//!
//! It finds the fields as texts and leaves to its callers what they mean. A field of which nothing is written is
//! null, one in quotes is a text, if an empty one.

use arrow::array::{StringArray, StringBuilder};
use std::iter::Peekable;
use std::str::Chars;

/// Why a text is no composite value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(
    /// PostgreSQL's DETAIL.
    &'static str,
);

impl Malformed {
    /// The SQLSTATE, PostgreSQL's message, and its DETAIL.
    #[must_use]
    pub fn words(self, text: &str) -> (&'static str, String, String) {
        ("22P02", format!("malformed record literal: \"{text}\""), self.0.to_owned())
    }
}

const NO_PARENTHESIS: Malformed = Malformed("Missing left parenthesis.");
const TOO_FEW: Malformed = Malformed("Too few columns.");
const TOO_MANY: Malformed = Malformed("Too many columns.");
const CUT_OFF: Malformed = Malformed("Unexpected end of input.");
const JUNK: Malformed = Malformed("Junk after right parenthesis.");

/// The fields of composite values, a column each, of which there are `count`. Those of a null are null.
///
/// # Errors
/// The first text that is no such value, by its place.
pub fn fields(rows: &StringArray, count: usize) -> Result<Vec<StringArray>, (usize, Malformed)> {
    let mut columns: Vec<StringBuilder> = (0..count).map(|_| StringBuilder::new()).collect();
    let mut row = Vec::with_capacity(count);
    for (at, text) in rows.iter().enumerate() {
        row.clear();
        match text {
            Some(text) => read(text, count, &mut row).map_err(|malformed| (at, malformed))?,
            None => row.resize(count, None),
        }
        for (column, field) in columns.iter_mut().zip(&row) {
            column.append_option(field.as_deref());
        }
    }
    Ok(columns.iter_mut().map(StringBuilder::finish).collect())
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn read(text: &str, count: usize, row: &mut Vec<Option<String>>) -> Result<(), Malformed> {
    let text = text.trim_matches(is_space).strip_prefix('(').ok_or(NO_PARENTHESIS)?;
    let mut rest = text.chars().peekable();
    for at in 0..count {
        if at > 0 && rest.next_if_eq(&',').is_none() {
            return Err(TOO_FEW);
        }
        row.push(field(&mut rest)?);
    }
    match rest.next() {
        Some(')') if rest.peek().is_none() => Ok(()),
        Some(')') => Err(JUNK),
        _ => Err(TOO_MANY),
    }
}

/// One field, up to the comma or parenthesis that ends it.
fn field(rest: &mut Peekable<Chars<'_>>) -> Result<Option<String>, Malformed> {
    if matches!(rest.peek(), Some(',' | ')')) {
        return Ok(None);
    }
    let (mut field, mut is_quoted) = (String::new(), false);
    while is_quoted || !matches!(rest.peek(), Some(',' | ')')) {
        match rest.next().ok_or(CUT_OFF)? {
            '\\' => field.push(rest.next().ok_or(CUT_OFF)?),
            '"' if !is_quoted => is_quoted = true,
            '"' if rest.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => is_quoted = false,
            c => field.push(c),
        }
    }
    Ok(Some(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> Result<Vec<Option<String>>, Malformed> {
        let found = fields(&StringArray::from(vec![text]), 2).map_err(|(_, malformed)| malformed)?;
        Ok(found.iter().map(|column| column.iter().next().flatten().map(str::to_owned)).collect())
    }

    #[test]
    fn values_are_read_as_postgresql_reads_them() {
        let cases: [(&str, [Option<&str>; 2]); 8] = [
            ("(1,a)", [Some("1"), Some("a")]),
            ("(,)", [None, None]),
            (r#"("",)"#, [Some(""), None]),
            (" (1, a b ) ", [Some("1"), Some(" a b ")]),
            (r#"("a ""q"" b","x\\y")"#, [Some(r#"a "q" b"#), Some(r"x\y")]),
            (r#"(a"b,c"d,e\)f)"#, [Some("ab,cd"), Some("e)f")]),
            (r#"(1,"(2,""a b"")")"#, [Some("1"), Some(r#"(2,"a b")"#)]),
            ("(ü,(é)", [Some("ü"), Some("(é")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|field| field.map(str::to_owned)).collect();
            assert_eq!(read_one(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (text, malformed) in [
            ("1,2", NO_PARENTHESIS),
            ("(1)", TOO_FEW),
            ("(1,2,3)", TOO_MANY),
            ("(1,2", CUT_OFF),
            (r#"(1,"2)"#, CUT_OFF),
            ("(1,2)3", JUNK),
        ] {
            assert_eq!(read_one(text), Err(malformed), "{text}");
        }
        assert_eq!(fields(&StringArray::from(vec![Some("(1)"), None, Some("")]), 1), Err((2, NO_PARENTHESIS)));
    }
}
