//! Errors and notices as `psql` shows them.

use std::fmt::Write;
use tokio_postgres::error::{DbError, ErrorPosition};

/// The longest piece of a line that is shown, and how much of it should follow the fault.
const WIDTH: usize = 60;
const MARGIN: usize = 10;

/// An error or a notice of the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// ERROR, NOTICE and so on.
    pub(crate) severity: String,
    code: String,
    message: String,
    /// The text that is wrong and the place in it, in characters from 1.
    place: Option<(String, usize)>,
    /// Lines that are always shown, as a label and a text.
    more: Vec<(&'static str, String)>,
    /// Lines that are shown when verbose.
    origin: Vec<(&'static str, String)>,
}

impl Report {
    /// What the server said about a text.
    pub(crate) fn new(error: &DbError, query: &str) -> Self {
        let at = |position: u32| usize::try_from(position).unwrap_or(usize::MAX);
        let (place, internal) = match error.position() {
            Some(ErrorPosition::Original(position)) => (Some((query.to_owned(), at(*position))), None),
            Some(ErrorPosition::Internal { position, query }) => {
                (Some((query.clone(), at(*position))), Some(query.as_str()))
            }
            None => (None, None),
        };
        let fails = ["ERROR", "FATAL", "PANIC"].contains(&error.severity());
        let context = error.where_().filter(|_| fails);
        let more = [("DETAIL", error.detail()), ("HINT", error.hint()), ("QUERY", internal), ("CONTEXT", context)];
        let location = format!(
            "{}, {}:{}",
            error.routine().unwrap_or_default(),
            error.file().unwrap_or_default(),
            error.line().unwrap_or_default()
        );
        let origin = [
            ("SCHEMA NAME", error.schema()),
            ("TABLE NAME", error.table()),
            ("COLUMN NAME", error.column()),
            ("DATATYPE NAME", error.datatype()),
            ("CONSTRAINT NAME", error.constraint()),
            ("LOCATION", error.file().map(|_| location.as_str())),
        ];
        let known = |fields: &[(&'static str, Option<&str>)]| {
            fields.iter().filter_map(|(label, text)| Some((*label, (*text)?.to_owned()))).collect()
        };
        Self {
            severity: error.severity().to_owned(),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            place,
            more: known(&more),
            origin: known(&origin),
        }
    }

    /// The text for people, with a newline at its end.
    pub(crate) fn render(&self, verbose: bool) -> String {
        let code = if verbose { format!("{}: ", self.code) } else { String::new() };
        let mut out = format!("{}:  {code}{}\n", self.severity, self.message);
        out.extend(self.place.as_ref().and_then(|(text, position)| pointer(text, *position)));
        let origin = if verbose { self.origin.as_slice() } else { &[] };
        for (label, text) in self.more.iter().chain(origin) {
            writeln!(out, "{label}:  {text}").expect("writing to a string does not fail");
        }
        out
    }
}

/// The line of a text that holds a position, and a caret below the position.
fn pointer(text: &str, position: usize) -> Option<String> {
    let text: Vec<char> = text.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let at = position.checked_sub(1).filter(|at| *at <= text.len())?;
    let (before, after) = text.split_at(at);
    let number = before.iter().filter(|c| **c == '\n').count() + 1;
    let line = before.iter().rposition(|c| *c == '\n').map_or(0, |newline| newline + 1);
    let line_end = at + after.iter().position(|c| matches!(c, '\n' | '\r')).unwrap_or(after.len());
    let (mut start, mut end) = (line, line_end);
    if end - start > WIDTH {
        end = end.min(if start + WIDTH >= at + MARGIN { start + WIDTH } else { at + MARGIN });
        start = start.max(end.saturating_sub(WIDTH));
    }
    let shown: String = text[start..end].iter().collect();
    let (left, right) = (if start > line { "..." } else { "" }, if end < line_end { "..." } else { "" });
    let label = format!("LINE {number}: {left}");
    let indent = label.chars().count() + at - start;
    Some(format!("{label}{shown}{right}\n{:indent$}^\n", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, position: usize) -> Report {
        Report {
            severity: "ERROR".to_owned(),
            code: "42703".to_owned(),
            message: "column \"nam\" does not exist".to_owned(),
            place: Some((text.to_owned(), position)),
            more: vec![("DETAIL", "None has it.".to_owned()), ("HINT", "Perhaps \"name\".".to_owned())],
            origin: vec![("LOCATION", "column, scope.rs:12".to_owned())],
        }
    }

    #[test]
    fn errors_point_at_their_line() {
        let shown = report("SELECT id,\n\tnam FROM t", 13).render(false);
        let wanted = "ERROR:  column \"nam\" does not exist\nLINE 2:  nam FROM t\n         ^\n\
                      DETAIL:  None has it.\nHINT:  Perhaps \"name\".\n";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn verbose_errors_show_code_and_origin() {
        let shown = report("SELECT nam", 8).render(true);
        assert!(shown.starts_with("ERROR:  42703: column \"nam\" does not exist\nLINE 1: SELECT nam\n"), "{shown}");
        assert!(shown.ends_with("LOCATION:  column, scope.rs:12\n"), "{shown}");
    }

    #[test]
    fn long_lines_are_cut_around_the_fault() {
        let text = format!("{}x{}", "a".repeat(99), "b".repeat(99));
        let middle = format!("LINE 1: ...{}x{}...\n{:61}^\n", "a".repeat(50), "b".repeat(9), "");
        assert_eq!(pointer(&text, 100), Some(middle));
        assert_eq!(pointer(&text, 1), Some(format!("LINE 1: {}...\n        ^\n", "a".repeat(60))));
        assert_eq!(pointer("SELECT", 7), Some("LINE 1: SELECT\n              ^\n".to_owned()));
        assert_eq!(pointer("SELECT", 8), None);
    }
}
