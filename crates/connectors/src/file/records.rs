//! Where records begin and end in a stretch of text, so that offsets are exact after any of them.
//!
//! It knows framing only; what a record holds is `decode`'s affair. Invariant: a record found here
//! is complete, with its newline; what follows the last newline outside quotes is left for later.

use memchr::{memchr, memchr_iter};

/// How a text is divided into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// One record a line.
    Lines,
    /// The same, but `null`, which Debezium writes behind a delete, is no record.
    Changes,
    /// One record a line, but newlines between quotes belong to the value (RFC 4180).
    Quoted {
        /// Between two values.
        delimiter: u8,
    },
}

/// Complete records: their bytes and where each ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
    /// Where the first begins, as `ends` counts.
    origin: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(bytes: &'a [u8], ends: &'a [usize]) -> Self {
        let length = ends.last().copied().unwrap_or(0);
        Self { bytes: &bytes[..length], ends, origin: 0 }
    }

    /// The same records without the first bytes of the first.
    pub(super) fn without_prefix(self, length: usize) -> Self {
        Self { bytes: &self.bytes[length..], ends: self.ends, origin: self.origin + length }
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the first record begins in the stretch that was framed.
    pub(super) const fn origin(&self) -> usize {
        self.origin
    }

    /// The records one by one, with their newlines.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let (bytes, origin) = (self.bytes, self.origin);
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let record = &bytes[start..end - origin];
            start = end - origin;
            record
        })
    }

    /// The first half and the second; for at least two records.
    pub(super) fn halves(&self) -> (Self, Self) {
        let (first, second) = self.ends.split_at(self.ends.len() / 2);
        let middle = first.last().copied().expect("at least two records have a first half");
        let (left, right) = self.bytes.split_at(middle - self.origin);
        (Self { bytes: left, ends: first, origin: self.origin }, Self { bytes: right, ends: second, origin: middle })
    }
}

impl Framing {
    /// Puts the ends of the complete records in `bytes`, at most `most`, into `ends`.
    pub(super) fn find(self, bytes: &[u8], most: usize, ends: &mut Vec<usize>) {
        ends.clear();
        match self {
            Self::Quoted { delimiter } if memchr(b'"', bytes).is_some() => quoted(bytes, delimiter, most, ends),
            Self::Lines | Self::Changes | Self::Quoted { .. } => {
                ends.extend(memchr_iter(b'\n', bytes).take(most).map(|at| at + 1))
            }
        }
    }

    /// Whether a record holds nothing, so that decoders pass over it.
    pub(super) fn is_blank(self, record: &[u8]) -> bool {
        match self {
            Self::Lines => record.trim_ascii().is_empty(),
            Self::Changes => matches!(record.trim_ascii(), b"" | b"null"),
            Self::Quoted { .. } => record.iter().all(|byte| matches!(byte, b'\r' | b'\n')),
        }
    }
}

/// A quote opens a value only where the value begins; elsewhere it is an ordinary character. Between
/// quotes a doubled quote stands for one.
fn quoted(bytes: &[u8], delimiter: u8, most: usize, ends: &mut Vec<usize>) {
    #[derive(Clone, Copy)]
    enum Place {
        ValueStart,
        Bare,
        Inside,
        AfterQuote,
    }
    let mut place = Place::ValueStart;
    for (at, &byte) in bytes.iter().enumerate() {
        place = match (place, byte) {
            (Place::Inside, b'"') => Place::AfterQuote,
            (Place::Inside, _) | (Place::ValueStart | Place::AfterQuote, b'"') => Place::Inside,
            (_, b'\n') => {
                ends.push(at + 1);
                if ends.len() == most {
                    return;
                }
                Place::ValueStart
            }
            (_, byte) if byte == delimiter => Place::ValueStart,
            _ => Place::Bare,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(framing: Framing, text: &str, most: usize) -> Vec<String> {
        let mut ends = Vec::new();
        framing.find(text.as_bytes(), most, &mut ends);
        let records = Records::new(text.as_bytes(), &ends);
        records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
    }

    #[test]
    fn lines_end_at_newlines() {
        assert_eq!(find(Framing::Lines, "a\n\"b\nc", 9), ["a\n", "\"b\n"]);
        assert_eq!(find(Framing::Lines, "a\nb\nc\n", 2), ["a\n", "b\n"]);
    }

    #[test]
    fn a_tombstone_is_blank_among_changes() {
        for (record, of_changes, of_lines) in [("null\r\n", true, false), (" \n", true, true), ("nul\n", false, false)]
        {
            assert_eq!(Framing::Changes.is_blank(record.as_bytes()), of_changes, "{record:?}");
            assert_eq!(Framing::Lines.is_blank(record.as_bytes()), of_lines, "{record:?}");
        }
    }

    #[test]
    fn quoted_newlines_belong_to_the_value() {
        let csv = Framing::Quoted { delimiter: b',' };
        assert_eq!(find(csv, "a,\"b\nc\"\nd,e\n", 9), ["a,\"b\nc\"\n", "d,e\n"]);
        assert_eq!(find(csv, "\"a \"\"\n\"\"\"\nb\n", 9), ["\"a \"\"\n\"\"\"\n", "b\n"]);
        assert_eq!(find(csv, "5\" pipe,x\ny\n", 9), ["5\" pipe,x\n", "y\n"], "a quote within a value");
        assert_eq!(find(csv, "a\n\"open\n", 9), ["a\n"], "an open quote is not complete");
    }

    #[test]
    fn halves_make_a_whole() {
        let text = b"a\nbb\nccc\n";
        let mut ends = Vec::new();
        Framing::Lines.find(text, 9, &mut ends);
        let (left, right) = Records::new(text, &ends).halves();
        assert_eq!((left.bytes(), left.origin()), (&b"a\n"[..], 0));
        assert_eq!((right.bytes(), right.origin()), (&b"bb\nccc\n"[..], 2));
        assert_eq!(right.iter().collect::<Vec<_>>(), [&b"bb\n"[..], b"ccc\n"]);
    }
}
