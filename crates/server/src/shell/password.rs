//! Asks for a password on the terminal, without showing it.

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use std::fs::OpenOptions;
use std::io::{Read, Write};

/// Ctrl-C as a byte.
const CANCEL: char = '\u{3}';

/// Asks.
///
/// # Errors
/// What is to be said when there is no terminal or nothing was typed.
pub(crate) fn ask(user: &str) -> Result<String, String> {
    let missing = |_| "the server wants a password; set PGPASSWORD\n".to_owned();
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(missing)?;
    let before = tcgetattr(&terminal).map_err(|error| missing(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    // Ctrl-C ends the line instead of the process, so that the terminal is always given back as it was.
    silent.special_codes[SpecialCodeIndex::VEOL] = CANCEL as u8;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| missing(error.into()))?;
    let mut line = [0; 4096];
    let read = write!(terminal, "Password for user {user}: ").and_then(|()| terminal.read(&mut line));
    let shown = writeln!(terminal);
    tcsetattr(&terminal, OptionalActions::Flush, &before).map_err(|error| missing(error.into()))?;
    let length = shown.and(read).map_err(missing)?;
    match String::from_utf8_lossy(&line[..length]).trim_end_matches(['\n', '\r']) {
        typed if typed.is_empty() || typed.contains(CANCEL) => Err("no password was given\n".to_owned()),
        typed => Ok(typed.to_owned()),
    }
}
