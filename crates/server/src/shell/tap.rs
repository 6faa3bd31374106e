//! A tap on the server's bytes: it hears what tokio-postgres does not pass on for simple queries,
//! which are command tags, column types, the state of the transaction and the wish for a password.
//!
//! Invariant: bytes pass through unchanged; what is heard waits in the order it was said.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What was heard and has not been asked for.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Per result with rows: its columns' type OIDs.
    pub(crate) types: VecDeque<Vec<u32>>,
    /// Per completed statement: its tag; empty for an empty statement.
    pub(crate) tags: VecDeque<String>,
    /// `I` idle, `T` in a transaction, `E` in a failed one; 0 before the first statement.
    pub(crate) transaction: u8,
    /// Whether the server has asked for a password.
    pub(crate) wants_password: bool,
    partial: Vec<u8>,
}

impl Heard {
    /// Forgets what was not asked for.
    pub(crate) fn forget(&mut self) {
        self.types.clear();
        self.tags.clear();
    }

    /// Takes in bytes that the server sent.
    fn listen(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let partial = std::mem::take(&mut self.partial);
        let mut rest = partial.as_slice();
        while let Some((kind, body, after)) = frame(rest) {
            self.hear(kind, body);
            rest = after;
        }
        self.partial = rest.to_vec();
    }

    fn hear(&mut self, kind: u8, body: &[u8]) {
        match kind {
            b'R' => self.wants_password |= matches!(body.get(..4), Some([0, 0, 0, 3 | 5 | 10])),
            b'T' => self.types.push_back(types(body)),
            b'C' => self.tags.push_back(String::from_utf8_lossy(body).trim_end_matches('\0').to_owned()),
            b'I' => self.tags.push_back(String::new()),
            b'Z' => self.transaction = body.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
}

/// The first message: its kind, its body and what follows; nothing while it is incomplete.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
    Some((*kind, rest.get(4..length)?, rest.get(length..)?))
}

/// The type OIDs of a RowDescription: each field is a name, a zero byte and 18 bytes, of which 6 to 9 are the OID.
fn types(body: &[u8]) -> Vec<u32> {
    let (mut types, mut rest) = (Vec::new(), body.get(2..).unwrap_or_default());
    while let Some(name) = rest.iter().position(|byte| *byte == 0)
        && let Some(field) = rest.get(name + 1..name + 19)
    {
        types.push(u32::from_be_bytes([field[6], field[7], field[8], field[9]]));
        rest = &rest[name + 19..];
    }
    types
}

/// A connection's stream with its tap.
#[derive(Debug)]
pub(crate) struct Tap {
    stream: TcpStream,
    heard: Arc<Mutex<Heard>>,
}

impl Tap {
    /// Taps a stream of which nothing has been read.
    pub(crate) fn new(stream: TcpStream, heard: Arc<Mutex<Heard>>) -> Self {
        Self { stream, heard }
    }
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).listen(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_heard_however_they_are_cut() {
        let mut bytes = b"R\0\0\0\x08\0\0\0\x0a".to_vec();
        bytes.extend(b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
        bytes.extend(b"D\0\0\0\x0b\0\x01\0\0\0\x017C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05T");
        for size in 1..bytes.len() {
            let mut heard = Heard::default();
            bytes.chunks(size).for_each(|chunk| heard.listen(chunk));
            assert!(heard.wants_password);
            assert_eq!((heard.types, heard.tags), (vec![vec![23]].into(), vec!["SELECT 1".to_owned()].into()));
            assert_eq!((heard.transaction, heard.partial.len()), (b'T', 0));
        }
    }
}
