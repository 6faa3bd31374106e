//! Sealed JSON: readable text whose last field is the BLAKE3 checksum of the rest. Manifests and
//! the pointer are such texts, in every format there will be.
//!
//! Invariant: [`open`] accepts exactly what [`seal`] wrote; any other byte anywhere is damage.

use crate::digest::Digest;
use crate::error::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};

/// What stands between the sealed text and its checksum.
const BEFORE: &str = ",\n  \"checksum\": \"";
/// What stands after the checksum.
const AFTER: &str = "\"\n}\n";
/// The end of the text without the checksum field.
const CANONICAL_END: &str = "\n}\n";
/// A checksum is so many digits long.
const DIGITS: usize = 64;

/// The pretty JSON of a struct with at least one field, with the checksum as its last field.
#[must_use]
pub fn seal<T: Serialize>(value: &T) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a struct of plain fields becomes JSON");
    text.push('\n');
    let checksum = Digest::of(text.as_bytes());
    text.truncate(text.strip_suffix(CANONICAL_END).expect("pretty JSON of a struct ends so").len());
    text.push_str(BEFORE);
    text.push_str(&checksum.to_string());
    text.push_str(AFTER);
    text
}

/// Checks the seal, then the format number, then reads the struct; `object` is for the error.
///
/// # Errors
/// [`Error::Corrupt`] when the seal is broken, [`Error::Newer`] when it is not but the format is
/// newer than `supported`.
pub fn open<T: DeserializeOwned>(object: &str, bytes: &[u8], supported: u32) -> Result<T> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::corrupt(object, "it is not text"))?;
    check(text).map_err(|reason| Error::corrupt(object, reason))?;
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let format: Format = parse(object, text)?;
    if format.format > supported {
        return Err(Error::Newer { object: object.to_owned(), found: format.format, supported });
    }
    parse(object, text)
}

fn parse<T: DeserializeOwned>(object: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::corrupt(object, format!("its fields are wrong: {error}")))
}

fn check(text: &str) -> Result<(), &'static str> {
    const TRUNCATED: &str = "it does not end with a checksum, so it was cut short or rewritten";
    let rest = text.strip_suffix(AFTER).ok_or(TRUNCATED)?;
    let at = rest.len().checked_sub(DIGITS).filter(|at| rest.is_char_boundary(*at)).ok_or(TRUNCATED)?;
    let (rest, checksum) = rest.split_at(at);
    let body = rest.strip_suffix(BEFORE).ok_or(TRUNCATED)?;
    let mut canonical = blake3::Hasher::new();
    canonical.update(body.as_bytes()).update(CANONICAL_END.as_bytes());
    let found = Digest::from_bytes(*canonical.finalize().as_bytes());
    if Digest::parse(checksum) == Some(found) { Ok(()) } else { Err("its checksum is wrong") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        format: u32,
        text: String,
        ratio: f64,
    }

    fn note(format: u32) -> Note {
        Note { format, text: "line \"one\"\nzwei ü".into(), ratio: 0.1 }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_damage() {
        let sealed = seal(&note(1));
        assert_eq!(open::<Note>("n", sealed.as_bytes(), 1).expect("intact"), note(1));
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut bytes = sealed.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                assert!(matches!(open::<Note>("n", &bytes, 1), Err(Error::Corrupt { .. })), "{at} {bit}");
            }
            assert!(matches!(open::<Note>("n", &sealed.as_bytes()[..at], 1), Err(Error::Corrupt { .. })));
        }
        let longer = format!("{sealed}\n");
        assert!(matches!(open::<Note>("n", longer.as_bytes(), 1), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let sealed = seal(&note(2));
        let error = open::<Note>("n", sealed.as_bytes(), 1).expect_err("newer");
        assert!(matches!(error, Error::Newer { found: 2, supported: 1, .. }));
    }
}
