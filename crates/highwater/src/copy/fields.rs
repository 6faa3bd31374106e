//! Divides a row among the columns and gathers each column's fields, with escapes and quotes resolved.
//!
//! It knows no types. Invariants: a column's `ends` has one entry more than the column has fields and
//! rises from 0 to the length of `bytes`, but while a field is being written; a null has no bytes.

use super::{CopyFormat, CopyKind};
use arrow::array::{NullBufferBuilder, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use highwater_sql::input::BadValue;
use memchr::{memchr, memchr2};

/// Bytes set aside for the next batch at most.
const MOST_RESERVED: usize = 1 << 20;

/// The fields of one column, one after the other.
pub(super) struct Fields {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    valid: NullBufferBuilder,
}

/// How a row does not fit the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It has no field for this column.
    Missing(usize),
    /// It has more fields than there are columns.
    Extra,
}

impl Default for Fields {
    fn default() -> Self {
        Self { bytes: Vec::new(), ends: vec![0], valid: NullBufferBuilder::new(0) }
    }
}

impl Fields {
    /// Makes a field of the bytes written since the last one.
    #[inline]
    fn end(&mut self) {
        self.ends.push(i32::try_from(self.bytes.len()).expect("rows and batches are bounded so that offsets fit"));
        self.valid.append_non_null();
    }

    /// Makes a null of the bytes written since the last field.
    #[inline]
    fn end_null(&mut self) {
        let end = self.ends[self.ends.len() - 1];
        self.bytes.truncate(place(end));
        self.ends.push(end);
        self.valid.append_null();
    }

    /// Forgets the fields after the first `rows`.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.bytes.truncate(place(self.ends[self.ends.len() - 1]));
        self.valid.truncate(rows);
    }

    /// All fields, which are then forgotten, or those before the first that is not text, and that one.
    pub(super) fn take(&mut self) -> (StringArray, Option<BadValue>) {
        let reserved = self.bytes.len().min(MOST_RESERVED);
        let bytes = Buffer::from_vec(std::mem::replace(&mut self.bytes, Vec::with_capacity(reserved)));
        let mut next = Vec::with_capacity(self.ends.len());
        next.push(0);
        let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.ends, next)));
        let valid = self.valid.finish();
        if memchr(0, &bytes).is_none()
            && let Ok(text) = StringArray::try_new(ends.clone(), bytes.clone(), valid.clone())
        {
            return (text, None);
        }
        let mut fields = ends.windows(2).map(|ends| &bytes[place(ends[0])..place(ends[1])]).enumerate();
        let (row, message) = fields
            .find_map(|(row, field)| Some((row, bad_text(field)?)))
            .expect("fields that are valid one by one are valid together");
        let valid = valid.map(|valid| valid.slice(0, row));
        let bytes = bytes.slice_with_length(0, place(ends[row]));
        let before = StringArray::new(ends.slice(0, row), bytes, valid);
        (before, Some(BadValue { row, sqlstate: "22021", message, detail: None }))
    }
}

fn place(end: i32) -> usize {
    usize::try_from(end).expect("offsets rise from 0")
}

/// What makes a field no text: bytes that are not UTF-8 or, as in PostgreSQL, a zero byte.
fn bad_text(field: &[u8]) -> Option<String> {
    let valid = std::str::from_utf8(field).map_or_else(|error| error.valid_up_to(), str::len);
    let at = memchr(0, &field[..valid]).unwrap_or(valid);
    let width = match field.get(at)? {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    };
    let shown: Vec<String> = field[at..].iter().take(width).map(|byte| format!("0x{byte:02x}")).collect();
    Some(format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")))
}

/// Gives each column its field of a row; `special` when the row has escapes or quotes.
///
/// # Errors
/// When the fields are too few or too many; the columns then have those that there were.
pub(super) fn split(format: &CopyFormat, row: &[u8], special: bool, columns: &mut [Fields]) -> Result<(), Misfit> {
    match (special, format.kind) {
        (false, _) => divide(row, columns, |rest, column| plain(format, rest, column)),
        (true, CopyKind::Text) => divide(row, columns, |rest, column| escaped(format, rest, column)),
        (true, CopyKind::Csv) => divide(row, columns, |rest, column| quoted(format, rest, column)),
    }
}

/// A row's fields, however many there are; `special` when it has escapes or quotes.
pub(super) fn names(format: &CopyFormat, row: &[u8], special: bool) -> Vec<Option<Vec<u8>>> {
    let (mut found, mut rest) = (Vec::new(), Some(row));
    while let Some(fields) = rest {
        let mut one = Fields::default();
        let length = match (special, format.kind) {
            (false, _) => plain(format, fields, &mut one),
            (true, CopyKind::Text) => escaped(format, fields, &mut one),
            (true, CopyKind::Csv) => quoted(format, fields, &mut one),
        };
        let is_null = one.valid.finish().is_some_and(|valid| valid.is_null(0));
        found.push((!is_null).then_some(one.bytes));
        rest = fields.get(length + 1..);
    }
    found
}

/// `next` takes a column's field from the beginning of the rest of the row and says how long it was.
#[inline]
fn divide(row: &[u8], columns: &mut [Fields], next: impl Fn(&[u8], &mut Fields) -> usize) -> Result<(), Misfit> {
    if columns.is_empty() && row.is_empty() {
        return Ok(());
    }
    let mut rest = Some(row);
    for (at, column) in columns.iter_mut().enumerate() {
        let fields = rest.ok_or(Misfit::Missing(at))?;
        let length = next(fields, column);
        rest = fields.get(length + 1..);
    }
    if rest.is_some() { Err(Misfit::Extra) } else { Ok(()) }
}

/// A field of a row that has neither escapes nor quotes.
#[inline]
fn plain(format: &CopyFormat, rest: &[u8], column: &mut Fields) -> usize {
    let length = memchr(format.delimiter, rest).unwrap_or(rest.len());
    let field = &rest[..length];
    if *field == format.null[..] {
        column.end_null();
    } else {
        column.bytes.extend_from_slice(field);
        column.end();
    }
    length
}

/// A field of the text format. Whether it is null is seen before escapes are resolved.
fn escaped(format: &CopyFormat, rest: &[u8], column: &mut Fields) -> usize {
    let mut at = 0;
    let length = loop {
        let Some(found) = memchr2(format.delimiter, b'\\', &rest[at..]) else {
            column.bytes.extend_from_slice(&rest[at..]);
            break rest.len();
        };
        column.bytes.extend_from_slice(&rest[at..at + found]);
        at += found;
        if rest[at] == format.delimiter {
            break at;
        }
        let (byte, width) = unescape(&rest[at + 1..]);
        column.bytes.push(byte);
        at += 1 + width;
    };
    if rest[..length] == format.null[..] {
        column.end_null()
    } else {
        column.end()
    }
    length
}

/// What stands after a backslash means, and how many bytes of it; there is at least one, since the row
/// would have gone on otherwise.
fn unescape(rest: &[u8]) -> (u8, usize) {
    let number = |from: usize, radix: u32, most: usize| {
        let digits = rest[from..].iter().take(most).map_while(|digit| char::from(*digit).to_digit(radix));
        // What does not fit into a byte is cut off, as in PostgreSQL.
        let (value, count) = digits.fold((0, 0), |(value, count), digit| (value * radix + digit, count + 1));
        (value.to_le_bytes()[0], from + count)
    };
    match rest[0] {
        b'b' => (0x08, 1),
        b'f' => (0x0C, 1),
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'v' => (0x0B, 1),
        b'0'..=b'7' => number(0, 8, 3),
        b'x' if rest.get(1).is_some_and(u8::is_ascii_hexdigit) => number(1, 16, 2),
        other => (other, 1),
    }
}

/// A field of CSV. One that has quotes is never null.
fn quoted(format: &CopyFormat, rest: &[u8], column: &mut Fields) -> usize {
    let (mut at, mut inside, mut seen) = (0, false, false);
    let length = loop {
        let stop = if inside { format.escape } else { format.delimiter };
        let Some(found) = memchr2(format.quote, stop, &rest[at..]) else {
            column.bytes.extend_from_slice(&rest[at..]);
            break rest.len();
        };
        column.bytes.extend_from_slice(&rest[at..at + found]);
        at += found;
        let (byte, next) = (rest[at], rest.get(at + 1).copied());
        if !inside && byte == format.delimiter {
            break at;
        }
        let escapes = inside && byte == format.escape;
        if let Some(next) = next.filter(|next| escapes && (*next == format.quote || *next == format.escape)) {
            column.bytes.push(next);
            at += 2;
            continue;
        }
        if byte == format.quote {
            inside = !inside;
            seen = true;
        } else {
            column.bytes.push(byte);
        }
        at += 1;
    };
    if !seen && rest[..length] == format.null[..] {
        column.end_null()
    } else {
        column.end()
    }
    length
}
