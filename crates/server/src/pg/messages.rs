//! One client's messages, from the first to the last.
//!
//! pgwire reads and dispatches them. It does not know function calls (libpq's `PQfn`): these are
//! refused here as a statement is, and the connection goes on.

use super::extended::Prepared;
use super::{Session, errors, status_of};
use bytes::Buf as _;
use futures::{Sink, StreamExt as _};
use pgwire::api::{ClientInfo, ErrorHandler as _, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::{MaybeTls, PgWireMessageServerCodec, negotiate_tls, process_error, process_message};
use std::fmt::Debug;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::Framed;

/// How long a client may take until it is let in.
const STARTUP: Duration = Duration::from_secs(60);
/// The kind of a function call.
const FUNCTION_CALL: u8 = b'F';
/// Bytes of the longest function call that is read to its end.
const LONGEST_CALL: usize = 1 << 20;

type Socket = Framed<MaybeTls, PgWireMessageServerCodec<Prepared>>;

/// Serves a client until it goes.
///
/// # Errors
/// Those of the socket.
pub(crate) async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, session: Arc<Session>) -> io::Result<()> {
    let mut startup = pin!(tokio::time::sleep(STARTUP));
    let negotiated = tokio::select! {
        negotiated = negotiate_tls(stream, tls) => negotiated?,
        () = &mut startup => return Ok(()),
    };
    let Some(mut socket): Option<Socket> = negotiated else { return Ok(()) };
    loop {
        let state = socket.state();
        let is_starting =
            matches!(state, PgWireConnectionState::AwaitingStartup | PgWireConnectionState::AuthenticationInProgress);
        let next = if is_starting {
            tokio::select! {
                next = socket.next() => next,
                () = &mut startup => None,
            }
        } else {
            tokio::select! {
                biased;
                () = session.ended.told.notified() => {
                    return process_error(&mut socket, errors::terminated(), false).await;
                }
                next = socket.next() => next,
            }
        };
        let (done, waits_for_sync) = match next {
            None | Some(Ok(PgWireFrontendMessage::Terminate(_))) => return Ok(()),
            Some(Ok(message)) => {
                let is_extended = match state {
                    PgWireConnectionState::CopyInProgress(is_extended) => is_extended,
                    _ => message.is_extended_query(),
                };
                (dispatch(&mut socket, message, &session).await, is_extended)
            }
            Some(Err(PgWireError::InvalidMessageType(FUNCTION_CALL))) if !is_starting => {
                let Some(behind) = past_call(socket).await else { return Ok(()) };
                socket = behind;
                match state {
                    // As all other messages after an error.
                    PgWireConnectionState::AwaitingSync => continue,
                    PgWireConnectionState::CopyInProgress(is_extended) => {
                        let message = "unexpected message type 0x46 during COPY from stdin";
                        (Err(errors::error("08P01", message)), is_extended)
                    }
                    _ => (session.refuse_call(&mut socket).await, false),
                }
            }
            Some(Err(_)) => return Ok(()),
        };
        if let Err(mut error) = done {
            session.on_error(&socket, &mut error);
            if session.ended.is_ended() {
                return process_error(&mut socket, errors::terminated(), false).await;
            }
            process_error(&mut socket, error, waits_for_sync).await?;
        }
    }
}

/// Does what a message asks for.
async fn dispatch(socket: &mut Socket, message: PgWireFrontendMessage, session: &Arc<Session>) -> PgWireResult<()> {
    let handler = || Arc::clone(session);
    process_message(message, socket, handler(), handler(), handler(), handler(), handler()).await
}

/// The socket behind the function call that stands first; none when it ends within.
async fn past_call(mut socket: Socket) -> Option<Socket> {
    loop {
        let length = call_length(socket.read_buffer());
        if length.is_some_and(|length| length > LONGEST_CALL) {
            return None;
        }
        if let Some(length) = length.filter(|length| *length <= socket.read_buffer().len()) {
            socket.read_buffer_mut().advance(length);
            // A socket looks at what it has read only when more comes; a new one at once.
            return Some(Framed::from_parts(socket.into_parts()));
        }
        // After an error nothing comes once, and then what was read with more of it.
        if socket.next().await.is_none()
            && !matches!(socket.next().await, Some(Err(PgWireError::InvalidMessageType(FUNCTION_CALL))))
        {
            return None;
        }
    }
}

/// How many bytes a message has, once that is known.
fn call_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..5)?.try_into().map(u32::from_be_bytes).ok()?;
    // Its kind is not counted, the length itself is.
    Some(1 + usize::try_from(length).ok()?.max(4))
}

impl Session {
    /// The error of a function call. It fails the transaction, as a statement does.
    async fn refuse_call<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.go_on_without_portals(client).await?;
        let mut connection = self.connection.lock().await;
        connection.fail_transaction();
        client.set_transaction_status(status_of(&connection));
        Err(errors::error("0A000", "function calls by the protocol are not supported: call functions in SELECT"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_lengths() {
        assert_eq!(call_length(b"F\0\0\0"), None);
        assert_eq!(call_length(b"F\0\0\0\x0e"), Some(15));
        assert_eq!(call_length(b"F\0\0\0\0"), Some(5));
        assert_eq!(call_length(b"F\xff\xff\xff\xff"), Some(1 << 32));
    }
}
