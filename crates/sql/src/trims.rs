//! `trim(LEADING FROM text)`: the dialect's parser wants the characters that are trimmed, which are spaces when
//! none are told. It is given the function of that side.

use crate::cursor::is_word;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace, Word};

/// The words for the sides, and the functions.
const SIDES: [(&str, &str); 3] = [("LEADING", "ltrim"), ("TRAILING", "rtrim"), ("BOTH", "btrim")];

/// The function that tokens begin with a call of, if they do.
fn function(tokens: &[TokenWithSpan]) -> Option<&'static str> {
    let [name, open, side, from, ..] = tokens else { return None };
    let is_trim = is_word(Some(&name.token), "TRIM") && open.token == Token::LParen;
    if !is_trim || !is_word(Some(&from.token), "FROM") {
        return None;
    }
    SIDES.iter().find(|(word, _)| is_word(Some(&side.token), word)).map(|(_, function)| *function)
}

/// Gives the parser the calls as it takes them, in as many tokens.
pub(crate) fn respell(tokens: &mut [TokenWithSpan]) {
    for at in 0..tokens.len() {
        let Some(function) = function(&tokens[at..]) else { continue };
        let name = Word { value: function.to_owned(), quote_style: None, keyword: Keyword::NoKeyword };
        tokens[at].token = Token::Word(name);
        for blank in &mut tokens[at + 2..at + 4] {
            blank.token = Token::Whitespace(Whitespace::Space);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokens;

    #[test]
    fn sides_without_characters_are_functions() {
        for (written, expected) in [
            ("trim(LEADING FROM a)", "ltrim(  a)"),
            ("TRIM(both FROM a)", "btrim(  a)"),
            ("trim(trailing 'x' FROM a)", "trim(trailing'x'FROMa)"),
        ] {
            let mut all = tokens(written).expect(written);
            respell(&mut all);
            let text: String = all.iter().map(|token| token.token.to_string()).collect();
            assert_eq!(text, expected, "{written}");
        }
    }
}
