//! Reads PostgreSQL's two forms of bytea: hexadecimal digits after `\x`, and text with escapes.

use super::values::Fault;

/// Appends a value's bytes to `bytes`.
pub(super) fn read(text: &str, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    match text.strip_prefix(r"\x") {
        Some(digits) => hexadecimal(digits, bytes),
        None => escaped(text.as_bytes(), bytes),
    }
}

/// Two digits a byte; spaces may stand between bytes.
fn hexadecimal(digits: &str, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let digit = |found: char| found.to_digit(16).ok_or(Fault::HexDigit(found));
    let mut digits = digits.chars();
    while let Some(high) = digits.next() {
        if matches!(high, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let high = digit(high)?;
        let low = digit(digits.next().ok_or(Fault::OddHex)?)?;
        bytes.push((high * 16 + low).to_le_bytes()[0]);
    }
    Ok(())
}

/// A backslash stands before another one or before three octal digits.
fn escaped(mut text: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault> {
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
            [b'\\', ..] => return Err(Fault::Syntax),
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}
