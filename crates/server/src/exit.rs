//! How the program ends: its exit codes as one table, which `--help` and docs/operations.md show.
//!
//! Invariant: a code keeps its meaning for ever; supervisors and scripts rely on it.

use std::fmt;
use std::io::Write as _;

/// Why the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done,
    /// A statement was wrong or failed.
    Statement,
    /// The command line or a setting was wrong.
    Usage,
    /// A pipeline failed and did not recover.
    Pipeline,
    /// The data folder or the checkpoint root cannot be used.
    Storage,
    /// A comparison found a difference, or a verification found damage.
    Differs,
    /// A second signal asked to stop at once, without a final checkpoint.
    Interrupted,
}

/// Every code with its meaning, in order.
pub(crate) const EXITS: [(Exit, u8, &str); 7] = [
    (Exit::Done, 0, "everything asked for was done"),
    (Exit::Statement, 1, "a statement was wrong or failed"),
    (Exit::Usage, 2, "the command line or a setting was wrong; of `sql`, there is no server"),
    (Exit::Pipeline, 3, "a pipeline failed and did not recover"),
    (Exit::Storage, 4, "the data folder or the checkpoint root cannot be used"),
    (Exit::Differs, 5, "views differ from recomputation, or a checkpoint is damaged"),
    (Exit::Interrupted, 130, "a second signal stopped it at once, without a final checkpoint"),
];

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        EXITS.iter().find(|(exit, ..)| *exit == self).map_or(1, |(_, code, _)| *code)
    }
}

/// Ends the process, when all that it has to write is written but to standard output. What a thread that is left
/// may still use, such as RocksDB's statics while a store does not answer, is not destroyed under it.
pub(crate) fn leave(code: u8) -> ! {
    // Nobody reads it, most likely.
    let _ = std::io::stdout().flush();
    signal_hook::low_level::exit(i32::from(code))
}

/// Writes to standard output. Who has read enough of it and is gone, as `head` is, misses nothing.
///
/// # Errors
/// What cannot be written, as the disk is full.
pub(crate) fn print(text: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Storage, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The table as `--help` shows it.
pub(crate) fn help() -> String {
    let rows = EXITS.iter().map(|(_, code, meaning)| format!("  {code:>3}  {meaning}"));
    format!("Exit codes:\n{}", rows.collect::<Vec<_>>().join("\n"))
}

/// An end that is not as asked for: the code, and what a person is told.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The class.
    pub(crate) exit: Exit,
    /// What, which object, what to do next.
    pub(crate) message: String,
}

impl Failure {
    /// A failure of a class.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// A wrong command line or setting.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A file or folder that cannot be used.
    pub(crate) fn storage(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        let (what, error) = (what.to_string(), error.to_string());
        // Some errors begin with what they are about.
        Self::new(Exit::Storage, if error.starts_with(&what) { error } else { format!("{what}: {error}") })
    }
}

/// What a command gives.
pub(crate) type Outcome<T = Exit> = Result<T, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named_once() {
        assert_eq!(Failure::storage("a/b", "a/b: is locked").message, "a/b: is locked");
        assert_eq!(Failure::storage("a/b", "it is locked").message, "a/b: it is locked");
    }

    #[test]
    fn codes_are_what_the_documentation_says() {
        let page = include_str!("../../../docs/operations.md");
        for (exit, code, meaning) in EXITS {
            assert_eq!(exit.code(), code);
            let row = format!("| {code} | {meaning} |");
            assert!(page.contains(&row), "docs/operations.md lacks the row {row}");
        }
    }
}
