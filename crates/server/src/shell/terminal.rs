//! The shell at a terminal: line editing, history, prompts and completion.
//!
//! Names for completion are asked for when Tab is pressed, and again after statements were executed.

use super::commands::KINDS;
use super::connection::Connection;
use super::input::Input;
use super::{Session, Step, say};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const KEYWORDS: &str = "ALL ALTER AND AS ASC BEGIN BETWEEN BY CASCADE CASE CAST CHECKPOINT CHECKPOINTS COMMIT COPY \
    CREATE CROSS DELETE DESC DESCRIBE DISTINCT DROP ELSE ENCODE END EXCEPT EXISTS EXPLAIN FALSE FLUSH FOR FORMAT FROM \
    FULL GROUP HAVING IF IN INNER INSERT INTERSECT INTERVAL INTO IS JOBS JOIN LEFT LIKE LIMIT MATERIALIZED NOT NULL \
    OFFSET ON OR ORDER OUTER OVER PARTITION PRIMARY RETURNING RIGHT ROLLBACK SELECT SET SHOW SINK SINKS SOURCE SOURCES \
    TABLE TABLES THEN TRUE UNION UPDATE USING VALUES VIEW VIEWS WAIT WATERMARK WHEN WHERE WITH";

/// Reads and executes what is typed until the user leaves.
pub(crate) fn interact(session: &mut Session) -> Step {
    let config = Config::builder().completion_type(CompletionType::List).build();
    let mut editor: Editor<Names, FileHistory> = match Editor::with_config(config) {
        Ok(editor) => editor,
        Err(error) => return session.fail(&format!("the terminal cannot be used: {error}")),
    };
    editor.set_helper(Some(Names { connection: Rc::clone(&session.connection), known: RefCell::default() }));
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let history = home.map(|home| PathBuf::from(home).join(".highwater_history"));
    if let Some(path) = &history {
        // The first time there is none.
        let _absent = editor.load_history(path);
    }
    let (mut input, mut typed) = (Input::default(), String::new());
    loop {
        let line = match editor.readline(&session.prompt(input.is_empty())) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                (input, typed) = Default::default();
                continue;
            }
            Err(ReadlineError::Eof) => {
                say("\\q\n");
                return Step::Quit;
            }
            Err(error) => return session.fail(&error.to_string()),
        };
        typed += &line;
        input.push(if input.is_empty() { alias(&line) } else { &line });
        let step = session.feed(&mut input, false);
        if input.is_empty() {
            remember(&mut editor, &std::mem::take(&mut typed), history.as_deref());
        } else {
            typed.push('\n');
        }
        if step == Step::Quit {
            return step;
        }
        if let Some(names) = editor.helper_mut() {
            *names.known.borrow_mut() = None;
        }
    }
}

/// What people type who have not heard of backslash commands.
fn alias(line: &str) -> &str {
    match line.trim() {
        "quit" | "exit" => "\\q",
        "help" => "\\?",
        _ => line,
    }
}

/// Adds to the history, which is a comfort: when it cannot be written the shell goes on without.
fn remember(editor: &mut Editor<Names, FileHistory>, typed: &str, history: Option<&Path>) {
    let added = !typed.trim().is_empty() && editor.add_history_entry(typed).unwrap_or(false);
    if let Some(path) = history.filter(|_| added) {
        let _lost = editor.append_history(path);
    }
}

/// Names of relations and columns, and what completes a word.
struct Names {
    connection: Rc<Connection>,
    known: RefCell<Option<BTreeSet<String>>>,
}

impl Names {
    /// The names there are; none while asking could disturb a transaction.
    fn ask(&self) -> BTreeSet<String> {
        let first_values = |statement: &str| -> Vec<String> {
            if self.connection.transaction() != b'I' {
                return Vec::new();
            }
            let (answers, _) = self.connection.run(statement);
            let rows = answers.into_iter().filter_map(|answer| answer.table).flat_map(|table| table.rows);
            rows.filter_map(|row| row.into_iter().next().flatten()).map(|name| quoted(&name)).collect()
        };
        let relations: Vec<String> = KINDS.iter().flat_map(|(_, statement)| first_values(statement)).collect();
        let columns = relations.iter().flat_map(|relation| first_values(&format!("DESCRIBE {relation}")));
        columns.collect::<BTreeSet<_>>().into_iter().chain(relations.iter().cloned()).collect()
    }
}

/// A name as it stands in statements.
fn quoted(name: &str) -> String {
    let plain = |c: char| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_plain = name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '"';
        let start = line[..at].trim_end_matches(word).len();
        let mut known = self.known.borrow_mut();
        let names = known.get_or_insert_with(|| self.ask());
        Ok((start, candidates(&line[start..at], names, line.trim_start().starts_with('\\'))))
    }
}

/// Names and keywords that begin with a word; keywords in the word's case.
fn candidates(word: &str, names: &BTreeSet<String>, only_names: bool) -> Vec<String> {
    let lower = word.to_lowercase();
    let names = names.iter().filter(|name| name.to_lowercase().starts_with(&lower)).cloned();
    let keywords = KEYWORDS.split_whitespace().filter(|_| !only_names && !word.is_empty());
    let keywords = keywords.filter(|keyword| keyword.starts_with(&word.to_uppercase()));
    let is_lower = word.chars().any(char::is_lowercase);
    names.chain(keywords.map(|k| if is_lower { k.to_lowercase() } else { k.to_owned() })).collect()
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Validator for Names {}

impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_in_their_case() {
        let names = ["seller", "\"Set\"", "bids"].map(str::to_owned).into();
        assert_eq!(candidates("SEL", &names, false), ["seller", "SELECT"]);
        assert_eq!(candidates("sel", &names, false), ["seller", "select"]);
        assert_eq!(candidates("se", &names, true), ["seller"]);
        assert_eq!(candidates("\"s", &names, false), ["\"Set\""]);
        assert_eq!(candidates("", &names, false).len(), 3);
    }

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!(["bids_2", "2bids", "Bids", "a\"b"].map(quoted), ["bids_2", "\"2bids\"", "\"Bids\"", "\"a\"\"b\""]);
    }
}
