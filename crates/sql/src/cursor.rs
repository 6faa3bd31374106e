//! A cursor over a statement's tokens: what the hand-written part of the parser is made of.
//! Queries, expressions and types are left to sqlparser, which is given the tokens it may read.

use crate::asof;
use crate::chains;
use crate::error::{Error, Result};
use crate::frame_bounds;
use crate::only;
use crate::precedence;
use crate::present;
use crate::statement::Name;
use crate::symmetric;
use crate::text::{self, DIALECT, Position};
use crate::trims;
use crate::whole_tables;
use datafusion::sql::sqlparser::ast::VisitMut;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

/// The tokens of one statement and the next one to read.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a str,
    tokens: Vec<TokenWithSpan>,
    next: usize,
    /// Tokens from here on belong to a clause that is read later.
    end: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self> {
        let mut tokens = text::tokens(text)?;
        while tokens.last().is_some_and(|t| t.token == Token::SemiColon) {
            tokens.pop();
        }
        if let Some(literal) = tokens.iter().find(|token| matches!(token.token, Token::UnicodeStringLiteral(_))) {
            let hint = "write a character by its number as in E'\\u0061'";
            return Err(Error::unsupported("U&'...'", hint, Position::of(text, literal.span.start)));
        }
        chains::check(&tokens, text)?;
        frame_bounds::check(&tokens, text)?;
        symmetric::check(&tokens, text)?;
        let end = tokens.len();
        Ok(Self { text, tokens, next: 0, end })
    }

    pub(crate) fn peek(&self) -> Option<&Token> {
        self.peek_at(0)
    }

    pub(crate) fn peek_at(&self, ahead: usize) -> Option<&Token> {
        let at = self.next + ahead;
        (at < self.end).then(|| &self.tokens[at].token)
    }

    pub(crate) fn at_end(&self) -> bool {
        self.next >= self.end
    }

    /// Where the next token starts, or the end of the text.
    pub(crate) fn position(&self) -> Position {
        self.location().and_then(|l| Position::of(self.text, l)).unwrap_or_else(|| Position::end(self.text))
    }

    /// The text from one place up to another, with blanks around it: places in it are places in the
    /// statement.
    pub(crate) fn alone(&self, from: Position, to: Position) -> String {
        let inside = from.offset - 1..to.offset - 1;
        let blank = |(at, c)| if inside.contains(&at) || c == '\n' { c } else { ' ' };
        self.text.chars().enumerate().map(blank).collect::<String>().trim_end().to_owned()
    }

    /// The same from here to the end, which the cursor then has read.
    pub(crate) fn rest(&mut self) -> String {
        let rest = self.alone(self.position(), Position::end(self.text));
        self.next = self.end;
        rest
    }

    /// The text of the tokens from a place up to here, as it was written.
    pub(crate) fn since(&self, from: Location) -> &'a str {
        let last = self.next.checked_sub(1).map(|at| self.tokens[at].span.end);
        text::slice(self.text, from, last)
    }

    pub(crate) fn location(&self) -> Option<Location> {
        (self.next < self.end).then(|| self.tokens[self.next].span.start)
    }

    pub(crate) fn advance(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += usize::from(token.is_some());
        token
    }

    /// Whether the next tokens are these unquoted words.
    pub(crate) fn is(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| is_word(self.peek_at(i), word))
    }

    /// Reads these words if they come next.
    pub(crate) fn accept(&mut self, words: &[&str]) -> bool {
        let found = self.is(words);
        if found {
            self.next += words.len();
        }
        found
    }

    pub(crate) fn expect(&mut self, words: &[&str]) -> Result<()> {
        if self.accept(words) { Ok(()) } else { Err(self.unexpected(&words.join(" "))) }
    }

    pub(crate) fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    pub(crate) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.accept_token(token) { Ok(()) } else { Err(self.unexpected(&token.to_string())) }
    }

    /// `syntax error at or near ...`, as PostgreSQL says it, and what was expected.
    pub(crate) fn unexpected(&self, expected: &str) -> Error {
        let near = match self.peek() {
            Some(token) => format!("at or near \"{token}\""),
            None => "at end of input".to_owned(),
        };
        Error::Syntax { message: format!("syntax error {near}: expected {expected}"), position: Some(self.position()) }
    }

    pub(crate) fn finish(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.unexpected("the end of the statement")) }
    }

    /// One identifier: folded to lower case unless quoted.
    pub(crate) fn ident(&mut self, what: &str) -> Result<Name> {
        let at = self.position();
        match self.peek() {
            Some(Token::Word(word)) => {
                let value = match word.quote_style {
                    Some(_) => word.value.clone(),
                    None => word.value.to_lowercase(),
                };
                self.next += 1;
                Ok(Name { value, at })
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// An object's name; `public.` may stand before it and means nothing.
    pub(crate) fn name(&mut self, what: &str) -> Result<Name> {
        let name = self.ident(what)?;
        if !self.accept_token(&Token::Period) {
            return Ok(name);
        }
        if name.value != "public" {
            let hint = "all objects are in the schema \"public\"";
            return Err(Error::unsupported(format!("schema {:?}", name.value), hint, Some(name.at)));
        }
        self.ident(what)
    }

    /// The value of an option: a string, a number, or a bare word.
    pub(crate) fn value(&mut self) -> Result<String> {
        let minus = self.accept_token(&Token::Minus);
        let value = match self.peek() {
            Some(Token::SingleQuotedString(s)) if !minus => s.clone(),
            Some(Token::Number(n, _)) if minus => format!("-{n}"),
            Some(Token::Number(n, _)) => n.clone(),
            Some(Token::Word(w)) if !minus => w.value.clone(),
            _ => return Err(self.unexpected("a string, a number or a word")),
        };
        self.next += 1;
        Ok(value)
    }

    /// Ends the statement early: the tokens from the first at or after the next one for which
    /// `found` holds outside of parentheses are set aside until [`Cursor::restore`].
    pub(crate) fn set_aside(&mut self, found: impl Fn(&Self, usize) -> bool) -> usize {
        let whole = self.end;
        let mut depth = 0_i32;
        for at in self.next..whole {
            match self.tokens[at].token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ if depth == 0 && found(self, at) => {
                    self.end = at;
                    break;
                }
                _ => {}
            }
        }
        whole
    }

    pub(crate) fn restore(&mut self, end: usize) {
        self.end = end;
    }

    /// Whether the tokens at an absolute place are these words.
    pub(crate) fn words_at(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, w)| is_word(self.token_at(at + i), w))
    }

    /// The absolute places of these words in what is not read yet.
    pub(crate) fn places(&self, words: &[&str]) -> impl Iterator<Item = usize> {
        (self.next..self.end).filter(move |at| self.words_at(*at, words))
    }

    /// Where the token at an absolute place starts, or the end of the text.
    pub(crate) fn position_at(&self, at: usize) -> Position {
        let start = self.tokens.get(at).and_then(|token| Position::of(self.text, token.span.start));
        start.unwrap_or_else(|| Position::end(self.text))
    }

    pub(crate) fn token_at(&self, at: usize) -> Option<&Token> {
        self.tokens.get(at).map(|t| &t.token)
    }

    /// Lets sqlparser read from here, and goes on after what it has read.
    pub(crate) fn sqlparser<T: VisitMut>(
        &mut self,
        read: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
    ) -> Result<T> {
        let mut tokens = self.tokens[self.next..self.end].to_vec();
        asof::respell(&mut tokens);
        present::respell(&mut tokens);
        only::respell(&mut tokens);
        trims::respell(&mut tokens);
        frame_bounds::respell(&mut tokens);
        symmetric::respell(&mut tokens);
        whole_tables::respell(&mut tokens);
        let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens);
        let mut value = read(&mut parser).map_err(|e| self.of_sqlparser(&e, &parser))?;
        self.next += parser.index().min(self.end - self.next);
        whole_tables::written_out(&mut value, self.text)?;
        precedence::group(&mut value);
        symmetric::written_out(&mut value);
        chains::balance(&mut value);
        Ok(value)
    }

    fn of_sqlparser(&self, error: &ParserError, parser: &Parser<'_>) -> Error {
        let (ParserError::ParserError(text) | ParserError::TokenizerError(text)) = error else {
            return Error::Invalid {
                sqlstate: "54001",
                message: "the statement is nested too deeply".to_owned(),
                position: None,
            };
        };
        let (message, position) = match text.rsplit_once(" at Line: ") {
            Some((message, place)) => (message, self.place(place)),
            None => (text.as_str(), None),
        };
        let fallback = self.tokens.get(self.next + parser.index().saturating_sub(1));
        let position = position
            .or_else(|| Position::of(self.text, fallback?.span.start))
            .unwrap_or_else(|| Position::end(self.text));
        let message = match message.split_once(", found: ") {
            Some((expected, "EOF")) => {
                format!("syntax error at end of input: {}", lower_first(expected))
            }
            Some((expected, found)) => {
                format!("syntax error at or near \"{found}\": {}", lower_first(expected))
            }
            None => format!("syntax error: {message}"),
        };
        Error::Syntax { message: message.replace("expected: ", "expected "), position: Some(position) }
    }

    fn place(&self, place: &str) -> Option<Position> {
        let (line, column) = place.split_once(", Column: ")?;
        Position::locate(self.text, line.parse().ok()?, column.parse().ok()?)
    }

    /// The last unquoted word before a location, for clauses whose keyword has no span of its own.
    pub(crate) fn word_before(&self, location: Location, word: &str) -> Option<Position> {
        let found = self
            .tokens
            .iter()
            .rev()
            .skip_while(|t| t.span.start >= location)
            .find(|t| is_word(Some(&t.token), word))?;
        Position::of(self.text, found.span.start)
    }

    /// Where an unquoted word stands that is there once.
    pub(crate) fn only_word(&self, word: &str) -> Option<Position> {
        let mut found = self.tokens.iter().filter(|t| is_word(Some(&t.token), word));
        let (first, second) = (found.next(), found.next());
        first.filter(|_| second.is_none()).and_then(|t| Position::of(self.text, t.span.start))
    }

    /// Where a token stands that is there once.
    pub(crate) fn only_token(&self, token: &str) -> Option<Position> {
        let mut found = self.tokens.iter().filter(|t| t.token.to_string() == token);
        let (first, second) = (found.next(), found.next());
        first.filter(|_| second.is_none()).and_then(|t| Position::of(self.text, t.span.start))
    }

    /// The first unquoted word at or after a location.
    pub(crate) fn word_after(&self, location: Location, word: &str) -> Option<Position> {
        let found = self.tokens.iter().find(|t| t.span.start >= location && is_word(Some(&t.token), word))?;
        Position::of(self.text, found.span.start)
    }
}

/// Whether a token is an unquoted word.
pub(crate) fn is_word(token: Option<&Token>, word: &str) -> bool {
    matches!(token, Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().collect::<String>() + chars.as_str())
}
