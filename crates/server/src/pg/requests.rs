//! What clients send to execute a prepared statement once: Bind, Execute and Sync, looked at as a whole and in
//! place.

use super::frames::{self, Phase};

/// A request to execute a prepared statement to its end, by the portal without a name.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    /// The statement's name.
    pub(super) statement: &'a str,
    /// Whether the portal is to be described before.
    pub(super) is_described: bool,
    /// The columns' formats, two bytes each.
    pub(super) results: &'a [u8],
    /// The parameters' formats, two bytes each.
    formats: &'a [u8],
    /// How many parameters there are, and their values, each with its length before it.
    count: usize,
    values: &'a [u8],
    /// The bytes that it takes.
    pub(super) length: usize,
}

/// The request that bytes begin with; none when they begin with something else, or it is not there as a whole.
pub(super) fn first(bytes: &[u8]) -> Option<Request<'_>> {
    let (bind, rest) = message(bytes, b'B')?;
    let (portal, bind) = text(bind)?;
    let (statement, bind) = text(bind)?;
    let (formats, bind) = codes(bind)?;
    let (count, values) = number(bind)?;
    let mut behind = values;
    for _ in 0..count {
        (_, behind) = value(behind)?;
    }
    let (results, behind) = codes(behind)?;
    if !portal.is_empty() || !behind.is_empty() {
        return None;
    }
    let (is_described, rest) = match message(rest, b'D') {
        Some((b"P\0", rest)) => (true, rest),
        Some(_) => return None,
        None => (false, rest),
    };
    let (b"\0\0\0\0\0", rest) = message(rest, b'E')? else { return None };
    let ([], rest) = message(rest, frames::SYNC)? else { return None };
    let length = bytes.len() - rest.len();
    Some(Request { statement, is_described, results, formats, count, values, length })
}

impl<'a> Request<'a> {
    /// How many parameters it has.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// The value of a parameter, if it is not NULL, and whether it is in its binary form.
    pub(super) fn value(&self, place: usize) -> Option<(&'a [u8], bool)> {
        let is_binary = match self.formats {
            [] => false,
            [0, code] => *code == 1,
            codes => codes.get(place * 2..place * 2 + 2)? == &[0, 1][..],
        };
        let mut values = self.values;
        for _ in 0..place {
            (_, values) = value(values)?;
        }
        Some((value(values)?.0?, is_binary))
    }

    /// Whether two requests are alike but for the values of their parameters.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.statement == other.statement
            && self.results == other.results
            && self.formats == other.formats
            && self.count == other.count
    }

    /// Whether each format is one that exists, and they are none, one for all, or one each of parameters and of
    /// so many columns.
    pub(super) fn has_formats_for(&self, columns: usize) -> bool {
        let fits = |codes: &[u8], count: usize| {
            (codes.len() <= 2 || codes.len() == count * 2) && codes.chunks(2).all(|code| matches!(code, [0, 0 | 1]))
        };
        fits(self.formats, self.count) && fits(self.results, columns)
    }
}

/// The body of a message of a kind, and what is behind it.
fn message(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    if bytes.first() != Some(&kind) {
        return None;
    }
    let length = frames::first(bytes, Phase::Statements).ok()??;
    let (message, rest) = bytes.split_at_checked(length)?;
    Some((message.get(5..)?, rest))
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::from(u16::from_be_bytes(*number)), rest))
}

/// Codes of formats.
fn codes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = number(bytes)?;
    rest.split_at_checked(count * 2)
}

/// A value, none for NULL.
fn value(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = i32::from_be_bytes(*length);
    if length == -1 {
        return Some((None, rest));
    }
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Some(value), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    const BIND: &[u8] = b"\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x02xy\0\x01\0\x01";

    /// A request by its parts: all that comes between Bind and Execute, and what these two say.
    fn request(bind: &[u8], between: &[u8], execute: &[u8]) -> Vec<u8> {
        [&message(b'B', bind)[..], between, &message(b'E', execute), &message(b'S', b"")].concat()
    }

    const TO_THE_END: &[u8] = b"\0\0\0\0\0";

    #[test]
    fn requests_are_read_in_place() {
        for described in [false, true] {
            let describe = if described { message(b'D', b"P\0") } else { Vec::new() };
            let one = request(BIND, &describe, TO_THE_END);
            let two = [&one[..], b"B"].concat();
            let read = first(&two).unwrap_or_else(|| panic!("a request that is described: {described}"));
            assert_eq!((read.statement, read.is_described, read.length), ("s", described, one.len()));
            assert_eq!((read.count(), read.value(0), read.value(1)), (2, None, Some((&b"xy"[..], true))));
            assert!(read.value(2).is_none() && read.has_formats_for(7));
            for cut in 0..one.len() {
                assert!(first(&one[..cut]).is_none(), "{cut}");
            }
        }
    }

    #[test]
    fn what_is_more_than_a_request_is_none() {
        let is_one = |bind: &[u8], between: &[u8], execute: &[u8]| first(&request(bind, between, execute)).is_some();
        assert!(is_one(BIND, b"", TO_THE_END));
        assert!(!is_one(BIND, b"", b"\0\0\0\0\x05"), "some rows of it");
        assert!(!is_one(BIND, b"", b"c\0\0\0\0\0"), "another portal");
        assert!(!is_one(BIND, &message(b'D', b"Ss\0"), TO_THE_END), "its statement is described");
        assert!(!is_one(BIND, &message(b'H', b""), TO_THE_END), "its beginning is asked for");
        assert!(!is_one(b"c\0s\0\0\0\0\0\0\0", b"", TO_THE_END), "a portal with a name");
        assert!(!is_one(b"\0s\0\0\0\0\x01\0\0\0\x09x\0\0", b"", TO_THE_END), "a value that is not there");
    }

    #[test]
    fn formats_are_none_or_one_or_one_each() {
        let fits = |bind: &[u8], columns| {
            first(&request(bind, b"", TO_THE_END)).is_some_and(|read| read.has_formats_for(columns))
        };
        assert!(fits(b"\0s\0\0\0\0\0\0\x02\0\x01\0\0", 2));
        assert!(!fits(b"\0s\0\0\0\0\0\0\x02\0\x01\0\0", 3));
        assert!(!fits(b"\0s\0\0\0\0\0\0\x02\0\x01\0\x02", 2), "a format that does not exist");
        assert!(!fits(b"\0s\0\0\x02\0\x01\0\0\0\0\0\0", 2), "two formats of no parameters");
    }
}
