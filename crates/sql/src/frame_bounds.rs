//! What the dialect's parser does not know of frames.
//!
//! `RANGE BETWEEN '1 day'::interval PRECEDING ...`: it takes an interval there, as in `INTERVAL '1 day'`, or its
//! text alone, and no cast of it. It is given the text. `EXCLUDE NO OTHERS` says nothing and is left out; what
//! leaves rows out of a frame is refused.

use crate::cursor::is_word;
use crate::error::{Error, Result};
use crate::text::Position;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

/// What says that no row is left out.
const NO_OTHERS: &str = "EXCLUDE NO OTHERS";

/// What the words after the first of these, which ends a frame, leave out of it.
fn left_out(tokens: &[TokenWithSpan]) -> Option<&'static str> {
    let is = |token: &TokenWithSpan, word: &str| is_word(Some(&token.token), word);
    let [bound, exclude, rest @ ..] = tokens else { return None };
    if !is(exclude, "EXCLUDE") || !["ROW", "PRECEDING", "FOLLOWING"].iter().any(|word| is(bound, word)) {
        return None;
    }
    match rest {
        [current, row, ..] if is(current, "CURRENT") && is(row, "ROW") => Some("EXCLUDE CURRENT ROW"),
        [no, others, ..] if is(no, "NO") && is(others, "OTHERS") => Some(NO_OTHERS),
        [group, ..] if is(group, "GROUP") => Some("EXCLUDE GROUP"),
        [ties, ..] if is(ties, "TIES") => Some("EXCLUDE TIES"),
        _ => None,
    }
}

/// Refuses frames that leave rows out.
///
/// # Errors
/// `Unsupported` with the clause and its place.
pub(crate) fn check(tokens: &[TokenWithSpan], text: &str) -> Result<()> {
    for at in 0..tokens.len() {
        if let Some(clause) = left_out(&tokens[at..]).filter(|clause| *clause != NO_OTHERS) {
            let position = Position::of(text, tokens[at + 1].span.start);
            return Err(Error::unsupported(clause, "aggregate over two frames without these rows", position));
        }
    }
    Ok(())
}

/// Whether tokens begin with a text that is cast to an interval and bounds a frame.
fn is_bound(tokens: &[TokenWithSpan]) -> bool {
    let [text, cast, of, side, ..] = tokens else { return false };
    matches!(text.token, Token::SingleQuotedString(_))
        && cast.token == Token::DoubleColon
        && is_word(Some(&of.token), "INTERVAL")
        && ["PRECEDING", "FOLLOWING"].iter().any(|word| is_word(Some(&side.token), word))
}

/// Gives the parser the bounds as it takes them, in as many tokens.
pub(crate) fn respell(tokens: &mut [TokenWithSpan]) {
    for at in 0..tokens.len() {
        let blanks = match &tokens[at..] {
            bound if is_bound(bound) => 2,
            frame if left_out(frame) == Some(NO_OTHERS) => 3,
            _ => 0,
        };
        for blank in &mut tokens[at + 1..][..blanks] {
            blank.token = Token::Whitespace(Whitespace::Space);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokens;

    #[test]
    fn intervals_that_bound_frames_are_texts() {
        for (written, expected) in [
            ("BETWEEN '1 day'::interval PRECEDING AND", "BETWEEN'1 day'  PRECEDINGAND"),
            ("'1 day'::INTERVAL following", "'1 day'  following"),
            ("'1 day'::interval + a", "'1 day'::interval+a"),
            ("CURRENT ROW EXCLUDE NO OTHERS)", "CURRENTROW   )"),
            ("x EXCLUDE NO OTHERS", "xEXCLUDENOOTHERS"),
        ] {
            let mut all = tokens(written).expect(written);
            respell(&mut all);
            let text: String = all.iter().map(|token| token.token.to_string()).collect();
            assert_eq!(text, expected, "{written}");
        }
    }

    #[test]
    fn frames_that_leave_rows_out_are_refused() {
        for (text, clause) in [
            ("ROWS 1 PRECEDING EXCLUDE CURRENT ROW", Some("EXCLUDE CURRENT ROW")),
            ("ROWS 1 PRECEDING exclude group", Some("EXCLUDE GROUP")),
            ("BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES", Some("EXCLUDE TIES")),
            ("ROWS CURRENT ROW EXCLUDE NO OTHERS", None),
            ("SELECT * EXCLUDE ties", None),
        ] {
            let found = check(&tokens(text).expect(text), text).err().map(|error| error.to_string());
            let expected = clause.map(|clause| format!("{clause} is not supported"));
            assert_eq!(found.is_some(), expected.is_some(), "{text}");
            assert!(found.unwrap_or_default().starts_with(&expected.unwrap_or_default()), "{text}");
        }
    }
}
