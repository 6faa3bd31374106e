//! Reads PostgreSQL's two forms of bytea: hexadecimal digits after `\x`, and text with escapes.

use arrow::array::{Array as _, BinaryArray, BinaryBuilder, StringArray};
use thiserror::Error as ThisError;

/// A text that is no bytea, in PostgreSQL's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum Malformed {
    /// What stands for a hexadecimal digit.
    #[error("invalid hexadecimal digit: \"{0}\"")]
    Digit(char),
    /// A byte of one digit.
    #[error("invalid hexadecimal data: odd number of digits")]
    Odd,
    /// A backslash before something else than it may stand before.
    #[error("invalid input syntax for type bytea")]
    Escape,
}

impl Malformed {
    /// The class of the error.
    #[must_use]
    pub const fn sqlstate(self) -> &'static str {
        match self {
            Self::Digit(_) | Self::Odd => "22023",
            Self::Escape => "22P02",
        }
    }
}

/// A column of texts, each as `read` appends its bytes; nulls stay.
///
/// # Errors
/// The first of `read`.
pub fn of_texts(
    texts: &StringArray,
    read: impl Fn(&str, &mut Vec<u8>) -> Result<(), Malformed>,
) -> Result<BinaryArray, Malformed> {
    let mut made = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut bytes = Vec::new();
    for text in texts {
        let Some(text) = text else {
            made.append_null();
            continue;
        };
        bytes.clear();
        read(text, &mut bytes)?;
        made.append_value(&bytes);
    }
    Ok(made.finish())
}

/// Appends a value's bytes to `bytes`.
///
/// # Errors
/// When the text is no bytea; some bytes may have been appended by then.
pub fn read(text: &str, bytes: &mut Vec<u8>) -> Result<(), Malformed> {
    match text.strip_prefix(r"\x") {
        Some(digits) => hexadecimal(digits, bytes),
        None => escaped(text.as_bytes(), bytes),
    }
}

/// Two digits a byte; spaces may stand between bytes.
///
/// # Errors
/// When something else stands there; some bytes may have been appended by then.
pub fn hexadecimal(digits: &str, bytes: &mut Vec<u8>) -> Result<(), Malformed> {
    let digit = |found: char| found.to_digit(16).ok_or(Malformed::Digit(found));
    let mut digits = digits.chars();
    while let Some(high) = digits.next() {
        if matches!(high, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let high = digit(high)?;
        let low = digit(digits.next().ok_or(Malformed::Odd)?)?;
        bytes.push((high * 16 + low).to_le_bytes()[0]);
    }
    Ok(())
}

/// A backslash stands before another one or before three octal digits.
///
/// # Errors
/// When it does not; some bytes may have been appended by then.
pub fn escaped(mut text: &[u8], bytes: &mut Vec<u8>) -> Result<(), Malformed> {
    loop {
        text = match text {
            [] => return Ok(()),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest
            }
            [b'\\', ..] => return Err(Malformed::Escape),
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}
