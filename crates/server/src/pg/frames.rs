//! What a client's bytes must be before pgwire decodes them: messages that are there as a whole, and
//! whose parts are as long as they say. At others pgwire panics, or reads on in the message behind.
//!
//! Knows no socket and nothing of what messages mean.

/// The kind of a password, or of a message of SCRAM.
const PASSWORD: u8 = b'p';
/// The kind of a message that ends the connection.
pub(super) const TERMINATE: u8 = b'X';
/// The kind of the message that ends a pipeline.
pub(super) const SYNC: u8 = b'S';
/// The kind of a function call.
pub(super) const FUNCTION_CALL: u8 = b'F';

/// The longest message of a kind that has no long ones, and of any client that is not let in yet.
const SHORT: usize = 10_000;
/// The longest function call that is read to its end.
const LONGEST_CALL: usize = 1 << 20;
/// The longest message.
const LONG: usize = (1 << 30) - 2;

const TOO_SHORT: &str = "insufficient data left in message";
const NO_TEXT: &str = "invalid string in message";
const TOO_LONG: &str = "invalid message format";

/// What a client may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its first message, which has no kind.
    Startup,
    /// Which mechanism it takes, and that one's first message.
    Mechanism,
    /// The mechanism's other messages.
    Password,
    /// Everything else.
    Statements,
}

/// How many bytes the message has that stands first, once all of it is there.
///
/// # Errors
/// What is wrong with it, when nothing behind it can be read either.
pub(super) fn first(bytes: &[u8], phase: Phase) -> Result<Option<usize>, String> {
    let (kind, bytes) = match phase {
        Phase::Startup => (None, bytes),
        _ => match bytes.split_first() {
            Some((kind, rest)) => (Some(*kind), rest),
            None => return Ok(None),
        },
    };
    let longest = match kind {
        Some(kind) => longest(kind, phase)?,
        None => SHORT,
    };
    let Some((length, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    // Its own four bytes count, and those of the version that the first message has.
    let shortest = if phase == Phase::Startup { 8 } else { 4 };
    if !(shortest..=longest).contains(&length) {
        let what = if phase == Phase::Startup { "length of startup packet" } else { "message length" };
        return Err(format!("invalid {what}"));
    }
    Ok((length <= bytes.len()).then_some(length + usize::from(kind.is_some())))
}

/// The longest message of a kind.
fn longest(kind: u8, phase: Phase) -> Result<usize, String> {
    match (phase, kind) {
        (Phase::Mechanism | Phase::Password, PASSWORD | TERMINATE) => Ok(SHORT),
        (Phase::Mechanism | Phase::Password, _) => Err(format!("expected SASL response, got message type {kind}")),
        (_, b'Q' | b'P' | b'B' | b'd') => Ok(LONG),
        (_, FUNCTION_CALL) => Ok(LONGEST_CALL),
        (_, b'D' | b'E' | b'C' | b'H' | b'c' | b'f' | SYNC | TERMINATE) => Ok(SHORT),
        _ => Err(format!("invalid frontend message type {kind}")),
    }
}

/// Whether an error within a message of this kind is followed by those behind it being passed over, up
/// to Sync.
pub(super) const fn is_of_pipeline(kind: u8) -> bool {
    matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'H')
}

/// Whether a client may send this while it copies into a table.
pub(super) const fn is_of_copy(kind: u8) -> bool {
    matches!(kind, b'd' | b'c' | b'f' | b'H' | SYNC)
}

/// Checks the parts of a whole message.
///
/// # Errors
/// What is wrong with them. Messages behind it can be read.
pub(super) fn check(message: &[u8], phase: Phase) -> Result<(), String> {
    let (Phase::Mechanism | Phase::Statements, [kind, _, _, _, _, body @ ..]) = (phase, message) else { return Ok(()) };
    let mut body = Body(body);
    match *kind {
        b'Q' => body.text()?,
        b'P' => {
            body.text()?;
            body.text()?;
            let types = body.count()?;
            body.bytes(types * 4)?;
        }
        b'B' => body.bind()?,
        b'D' | b'C' => {
            let of = body.bytes(1)?;
            body.text()?;
            if !matches!(of, b"S" | b"P") {
                let what = if *kind == b'D' { "DESCRIBE" } else { "CLOSE" };
                return Err(format!("invalid {what} message subtype {}", of[0]));
            }
        }
        b'E' => {
            body.text()?;
            body.bytes(4)?;
        }
        b'f' => body.text()?,
        PASSWORD => {
            body.text()?;
            body.value()?;
        }
        b'H' | SYNC => {}
        // The rest is read as it comes.
        _ => return Ok(()),
    }
    if body.0.is_empty() { Ok(()) } else { Err(TOO_LONG.to_owned()) }
}

/// What is left of a message.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], String> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn count(&mut self) -> Result<usize, String> {
        self.number().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    /// A text with the zero behind it.
    fn text(&mut self) -> Result<(), String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(NO_TEXT)?;
        self.0 = &self.0[end + 1..];
        Ok(())
    }

    /// A value with its length before it, which is -1 for NULL.
    fn value(&mut self) -> Result<(), String> {
        let length = i32::from_be_bytes(self.number()?);
        if length != -1 {
            self.bytes(usize::try_from(length).map_err(|_| TOO_SHORT)?)?;
        }
        Ok(())
    }

    fn bind(&mut self) -> Result<(), String> {
        self.text()?;
        self.text()?;
        let formats = self.count()?;
        self.bytes(formats * 2)?;
        for _ in 0..self.count()? {
            self.value()?;
        }
        let formats = self.count()?;
        self.bytes(formats * 2).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn messages_are_whole_when_they_are_as_long_as_they_say() {
        let query = message(b'Q', b"SELECT 1\0");
        for cut in 0..query.len() {
            assert_eq!(first(&query[..cut], Phase::Statements), Ok(None), "{cut}");
        }
        let behind = [&query[..], b"P"].concat();
        assert_eq!(first(&behind, Phase::Statements), Ok(Some(query.len())));
        let startup = [0, 0, 0, 9, 0, 3, 0, 0, 0, 1];
        assert_eq!(first(&startup[..8], Phase::Startup), Ok(None));
        assert_eq!(first(&startup, Phase::Startup), Ok(Some(9)));
    }

    #[test]
    fn lengths_and_kinds_that_cannot_be_are_refused() {
        for length in [0, 3, 1 << 30, u32::MAX] {
            let head = [&b"Q"[..], &length.to_be_bytes()].concat();
            assert!(first(&head, Phase::Statements).is_err_and(|why| why == "invalid message length"), "{length}");
        }
        for length in [7, 10_001] {
            assert!(first(&u32::to_be_bytes(length), Phase::Startup).is_err(), "{length}");
        }
        assert!(first(b"F\0\x10\0\0", Phase::Statements).is_ok());
        assert!(first(b"F\0\x10\0\x01", Phase::Statements).is_err());
        assert!(first(b"p", Phase::Statements).is_err_and(|why| why.ends_with("type 112")));
        assert!(first(b"Q", Phase::Password).is_err_and(|why| why.ends_with("got message type 81")));
        assert_eq!(first(b"p", Phase::Mechanism), Ok(None));
    }

    #[test]
    fn parts_are_as_long_as_they_say() {
        let told = |kind, body: &[u8]| check(&message(kind, body), Phase::Statements);
        let refused = |why: &str| Err(why.to_owned());
        assert_eq!(told(b'Q', b"SELECT 1"), refused(NO_TEXT));
        assert_eq!(told(b'Q', b"SELECT 1\0\0"), refused(TOO_LONG));
        assert_eq!(told(b'P', b"\0SELECT 1\0\0\x02\0\0\0\x17"), refused(TOO_SHORT));
        assert_eq!(told(b'P', b"\0SELECT 1\0\0\x01\0\0\0\x17"), Ok(()));
        assert_eq!(told(b'B', b"\0\0\0\x05"), refused(TOO_SHORT));
        assert_eq!(told(b'B', b"\0"), refused(NO_TEXT));
        let bind = b"\0\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x01x\0\0";
        assert_eq!(told(b'B', bind), Ok(()));
        for cut in 0..bind.len() {
            assert!(told(b'B', &bind[..cut]).is_err(), "{cut}");
        }
        // The length of its second parameter.
        for wrong in [&b"\0\0\0\x04"[..], b"\x7f\xff\xff\xff", b"\xff\xff\xff\xfe"] {
            let lies = [&bind[..12], wrong, &bind[16..]].concat();
            assert_eq!(told(b'B', &lies), refused(TOO_SHORT));
        }
        assert_eq!(told(b'D', b"X\0"), refused("invalid DESCRIBE message subtype 88"));
        assert_eq!(told(b'C', b"P\0"), Ok(()));
        assert_eq!(told(b'E', b"\0\0\0\0"), refused(TOO_SHORT));
        assert_eq!(told(b'S', b"\0"), refused(TOO_LONG));
        assert_eq!(told(b'd', b"anything"), Ok(()));
        assert_eq!(told(b'f', b"why"), refused(NO_TEXT));
        let sasl = |body: &[u8]| check(&message(b'p', body), Phase::Mechanism);
        assert_eq!(sasl(b""), refused(NO_TEXT));
        assert_eq!(sasl(b"SCRAM-SHA-256\0\0\0\xff\xffn,"), refused(TOO_SHORT));
        assert_eq!(sasl(b"SCRAM-SHA-256\0\xff\xff\xff\xff"), Ok(()));
        assert_eq!(check(&message(b'p', b""), Phase::Password), Ok(()));
    }
}
