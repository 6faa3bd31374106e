//! `RANGE BETWEEN '1 day'::interval PRECEDING ...`: the dialect's parser takes an interval there, as in
//! `INTERVAL '1 day'`, or its text alone, and no cast of it. It is given the text.

use crate::cursor::is_word;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

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
        if is_bound(&tokens[at..]) {
            for blank in &mut tokens[at + 1..at + 3] {
                blank.token = Token::Whitespace(Whitespace::Space);
            }
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
        ] {
            let mut all = tokens(written).expect(written);
            respell(&mut all);
            let text: String = all.iter().map(|token| token.token.to_string()).collect();
            assert_eq!(text, expected, "{written}");
        }
    }
}
