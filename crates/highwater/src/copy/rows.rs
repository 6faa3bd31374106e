//! Where the rows of COPY's data end, and where the data does.
//!
//! It knows newlines, escapes and quotes, but not fields. Invariants: every byte is looked at once,
//! however the data is cut, since what is known of a row that has not ended is kept; all rows end with
//! the newline of the first, as PostgreSQL demands; a row found here has no quote left open.

use super::{CopyFormat, CopyKind};
use memchr::{memchr2, memchr3};

/// What ends a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newline {
    Lf,
    CrLf,
}

/// What a stretch of data begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A complete row.
    Row {
        /// Without the newline.
        length: usize,
        /// Where the next row begins.
        next: usize,
        /// Whether there are escapes or quotes in it.
        special: bool,
    },
    /// The beginning of a row.
    Incomplete,
    /// The end marker.
    EndOfData,
}

/// Finds the rows one by one.
pub(super) struct Framing {
    kind: CopyKind,
    quote: u8,
    escape: u8,
    /// Unknown until the first row has ended.
    newline: Option<Newline>,
    /// How far the row at hand has been looked at.
    at: usize,
    /// Whether a quote is open there.
    quoted: bool,
    /// Whether there were escapes or quotes before.
    special: bool,
}

impl Framing {
    pub(super) fn new(format: &CopyFormat) -> Self {
        let CopyFormat { kind, quote, escape, .. } = *format;
        Self { kind, quote, escape, newline: None, at: 0, quoted: false, special: false }
    }

    /// The first row in `bytes`, which begin with a row. After `Incomplete` they must begin with the
    /// same row and go on.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Found, &'static str> {
        match self.kind {
            CopyKind::Text => self.next_text(bytes),
            CopyKind::Csv => self.next_csv(bytes),
        }
    }

    /// Ends the last row, which has no newline, so that `next` finds it.
    ///
    /// # Errors
    /// How the row is cut off. A backslash at the end, which PostgreSQL passes over, is taken for that.
    pub(super) fn terminate(&self, row: &mut Vec<u8>) -> Result<(), &'static str> {
        if self.quoted {
            return Err("unterminated CSV quoted field");
        }
        if self.kind == CopyKind::Text && row[self.at..] == *b"\\" {
            return Err("the data ends in a backslash that escapes nothing");
        }
        if self.newline == Some(Newline::CrLf) && row.last() != Some(&b'\r') {
            row.push(b'\r');
        }
        row.push(b'\n');
        Ok(())
    }

    fn next_text(&mut self, bytes: &[u8]) -> Result<Found, &'static str> {
        while let Some(found) = memchr3(b'\n', b'\\', b'\r', &bytes[self.at..]) {
            self.at += found;
            match (bytes[self.at], bytes.get(self.at + 1)) {
                (b'\\' | b'\r', None) => return Ok(Found::Incomplete),
                (b'\\', Some(b'.')) => return self.marker(bytes),
                (b'\\', Some(_)) => {
                    self.special = true;
                    self.at += 2;
                }
                _ => return self.row(bytes),
            }
        }
        self.at = bytes.len();
        Ok(Found::Incomplete)
    }

    /// A quote is one wherever it stands, as in PostgreSQL. An escape that is not the quote itself
    /// counts within quotes only, before a quote or an escape.
    fn next_csv(&mut self, bytes: &[u8]) -> Result<Found, &'static str> {
        loop {
            let rest = &bytes[self.at..];
            let found = match self.quoted {
                true => memchr2(self.quote, self.escape, rest),
                false => memchr3(b'\n', self.quote, b'\r', rest),
            };
            let Some(found) = found else {
                self.at = bytes.len();
                return Ok(Found::Incomplete);
            };
            self.at += found;
            let (byte, next) = (bytes[self.at], bytes.get(self.at + 1).copied());
            if byte == self.quote {
                self.quoted = !self.quoted;
                self.special = true;
                self.at += 1;
            } else if next.is_none() && byte != b'\n' {
                return Ok(Found::Incomplete);
            } else if self.quoted {
                self.at += if next == Some(self.quote) || next == Some(self.escape) { 2 } else { 1 };
            } else if bytes[..self.at] == *br"\." {
                return Ok(Found::EndOfData);
            } else {
                return self.row(bytes);
            }
        }
    }

    /// The row that ends with the newline here.
    fn row(&mut self, bytes: &[u8]) -> Result<Found, &'static str> {
        let (newline, width) = match bytes[self.at..] {
            [b'\n', ..] => (Newline::Lf, 1),
            [b'\r', b'\n', ..] => (Newline::CrLf, 2),
            _ => return Err(self.stray(Newline::CrLf)),
        };
        if *self.newline.get_or_insert(newline) != newline {
            return Err(self.stray(newline));
        }
        let length = std::mem::take(&mut self.at);
        Ok(Found::Row { length, next: length + width, special: std::mem::take(&mut self.special) })
    }

    /// The end marker here, which must be alone on its line.
    fn marker(&self, bytes: &[u8]) -> Result<Found, &'static str> {
        match bytes[self.at + 2..] {
            [] | [b'\r'] => Ok(Found::Incomplete),
            [b'\n', ..] | [b'\r', b'\n', ..] if self.at == 0 => Ok(Found::EndOfData),
            [b'\n', ..] | [b'\r', b'\n', ..] => Err("end-of-copy marker is not alone on its line"),
            _ => Err("end-of-copy marker corrupt"),
        }
    }

    /// What is wrong with a newline other than the first row's.
    const fn stray(&self, newline: Newline) -> &'static str {
        match (self.kind, newline) {
            (CopyKind::Text, Newline::Lf) => "literal newline found in data",
            (CopyKind::Text, Newline::CrLf) => "literal carriage return found in data",
            (CopyKind::Csv, Newline::Lf) => "unquoted newline found in data",
            (CopyKind::Csv, Newline::CrLf) => "unquoted carriage return found in data",
        }
    }
}
