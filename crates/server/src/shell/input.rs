//! Input as statements and backslash commands: where each ends, which is what `psql` decides too.
//!
//! Invariant: nothing within quotes, comments or dollar quotes ends a statement or starts a command.

/// What input is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A statement with its semicolon.
    Statement(String),
    /// A backslash command without its backslash; what was typed before it stays.
    Command(String),
}

/// What a character is part of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// 'text'; in E'text' a backslash protects.
    Text { escapes: bool },
    /// "name"
    Name,
    /// -- to the end of the line
    Line,
    /// /* nested */
    Block(usize),
    /// $tag$ text $tag$, with the tag as it stands
    Dollar(String),
}

/// Input that has been typed and not yet given back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    text: String,
    /// How far `text` has been looked at.
    at: usize,
    inside: Inside,
    /// Whether there is anything but white space and comments.
    says: bool,
}

impl Input {
    /// Adds a line.
    pub(crate) fn push(&mut self, line: &str) {
        self.text.push_str(line);
        if !line.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// Whether no statement has been begun.
    pub(crate) fn is_empty(&self) -> bool {
        !self.says && self.inside == Inside::Nothing
    }

    /// Takes what has been typed so far as a statement.
    pub(crate) fn take(&mut self) -> Option<String> {
        let Self { text, says, .. } = std::mem::take(self);
        says.then(|| text.trim().to_owned())
    }

    /// The next piece, if one is complete.
    pub(crate) fn next(&mut self) -> Option<Piece> {
        while let Some(c) = self.text[self.at..].chars().next() {
            let rest = &self.text[self.at..];
            match (&self.inside, c) {
                (Inside::Nothing, ';') => {
                    if let Some(statement) = self.cut() {
                        return Some(Piece::Statement(statement));
                    }
                    continue;
                }
                (Inside::Nothing, '\\') => return Some(self.command()),
                (Inside::Nothing, _) => {
                    let opened = opening(rest, &self.text[..self.at]);
                    let (inside, length) = opened.unwrap_or((Inside::Nothing, c.len_utf8()));
                    self.says |= !c.is_whitespace() && !matches!(inside, Inside::Line | Inside::Block(_));
                    self.inside = inside;
                    self.at += length;
                }
                _ => {
                    let (inside, length) = closing(rest, c, &self.inside);
                    self.inside = inside;
                    self.at += length;
                }
            }
        }
        None
    }

    /// Takes the statement that ends with the semicolon here; none when there is nothing before it.
    fn cut(&mut self) -> Option<String> {
        let rest = self.text.split_off(self.at + 1);
        let statement = self.take();
        self.text = rest;
        statement
    }

    /// Takes the command that starts here; it ends with the line.
    fn command(&mut self) -> Piece {
        let end = self.text[self.at..].find('\n').map_or(self.text.len(), |end| self.at + end);
        let command = self.text[self.at + 1..end].trim().to_owned();
        self.text.replace_range(self.at..end, "");
        if !self.says {
            *self = Self { text: self.text.split_off((self.at + 1).min(self.text.len())), ..Self::default() };
        }
        Piece::Command(command)
    }
}

/// What a quote or comment at the start of `rest` opens, and its length.
fn opening(rest: &str, before: &str) -> Option<(Inside, usize)> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut back = before.chars().rev();
    let last = back.next();
    match rest.as_bytes()[0] {
        b'\'' => {
            let escapes = matches!(last, Some('e' | 'E')) && !back.next().is_some_and(word);
            Some((Inside::Text { escapes }, 1))
        }
        b'"' => Some((Inside::Name, 1)),
        b'-' if rest.starts_with("--") => Some((Inside::Line, 2)),
        b'/' if rest.starts_with("/*") => Some((Inside::Block(1), 2)),
        b'$' if !last.is_some_and(word) => {
            let tag = &rest[1..1 + rest[1..].find('$')?];
            let mut name = tag.chars();
            let starts = name.next().is_none_or(|c| c.is_alphabetic() || c == '_');
            let is_tag = starts && name.all(|c| c.is_alphanumeric() || c == '_');
            is_tag.then(|| (Inside::Dollar(format!("${tag}$")), tag.len() + 2))
        }
        _ => None,
    }
}

/// What the character `c` at the start of `rest`, which is inside of something, leaves us in, and the length read.
fn closing(rest: &str, c: char, inside: &Inside) -> (Inside, usize) {
    match inside {
        Inside::Text { escapes: true } if c == '\\' => {
            (inside.clone(), 1 + rest[1..].chars().next().map_or(0, char::len_utf8))
        }
        // A quote that stands for itself.
        Inside::Text { .. } if rest.starts_with("''") => (inside.clone(), 2),
        Inside::Text { .. } if c == '\'' => (Inside::Nothing, 1),
        Inside::Name if c == '"' => (Inside::Nothing, 1),
        Inside::Line if c == '\n' => (Inside::Nothing, 1),
        Inside::Block(depth) if rest.starts_with("/*") => (Inside::Block(depth + 1), 2),
        Inside::Block(1) if rest.starts_with("*/") => (Inside::Nothing, 2),
        Inside::Block(depth) if rest.starts_with("*/") => (Inside::Block(depth - 1), 2),
        Inside::Dollar(tag) if rest.starts_with(tag.as_str()) => (Inside::Nothing, tag.len()),
        _ => (inside.clone(), c.len_utf8()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(lines: &[&str]) -> (Vec<Piece>, Input) {
        let (mut input, mut pieces) = (Input::default(), Vec::new());
        for line in lines {
            input.push(line);
            pieces.extend(std::iter::from_fn(|| input.next()));
        }
        (pieces, input)
    }

    fn statements(lines: &[&str]) -> Vec<String> {
        let (pieces, input) = pieces(lines);
        assert!(input.is_empty(), "{input:?}");
        let text = |piece| match piece {
            Piece::Statement(text) => text,
            Piece::Command(text) => panic!("\\{text} is no statement"),
        };
        pieces.into_iter().map(text).collect()
    }

    #[test]
    fn semicolons_end_statements_outside_of_quotes_and_comments() {
        for whole in [
            "SELECT 'a;''b';",
            "SELECT E'a\\';b';",
            "SELECT E'x''\\'y;';",
            "SELECT '';",
            "SELECT E'', '\\';",
            "SELECT 'a\\';",
            "SELECT \"a;b\";",
            "SELECT 1 -- a;\n+ 2;",
            "SELECT 1 /* a; /* b; */ ; */ + 2;",
            "SELECT $$a;'$$ || $x$b;$$$x$;",
            "SELECT a$b$, $1;",
            "SELECT 'a\n;\nb';",
            "SELECT 'grün;';",
        ] {
            assert_eq!(statements(&whole.split('\n').collect::<Vec<_>>()), [whole]);
        }
        assert_eq!(statements(&["SELECT 1; SELECT", "2 ;;", "-- no; more"]), ["SELECT 1;", "SELECT\n2 ;"]);
    }

    #[test]
    fn what_does_not_end_waits() {
        for open in ["SELECT 1", "SELECT 'a;", "SELECT $$;", "/* ;", "SELECT \"a;"] {
            let (pieces, mut input) = pieces(&[open]);
            assert!(pieces.is_empty() && !input.is_empty(), "{open}");
            assert_eq!(input.take().unwrap_or_default(), if open.starts_with('/') { "" } else { open });
        }
    }

    #[test]
    fn commands_end_with_their_line_and_keep_what_was_typed() {
        let command = |text: &str| Piece::Command(text.to_owned());
        assert_eq!(pieces(&["\\d t ", "-- x", "\\q"]).0, [command("d t"), command("q")]);
        let (found, mut input) = pieces(&["SELECT '\\a' \\watch 2"]);
        assert_eq!((found, input.take()), (vec![command("watch 2")], Some("SELECT '\\a'".to_owned())));
    }
}
