//! How HTTP clients come in: TCP connections, with TLS over them when there is a certificate.
//!
//! Invariants: a slow handshake holds up nobody else; there are never more connections than
//! [`CONNECTIONS`], so that they cannot take all files the database may open; one on which nothing
//! happens for [`IDLE`] ends, so that dead clients do not take them all.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;

/// Connections at the same time.
const CONNECTIONS: usize = 256;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may stand still; longer than any request may take.
const IDLE: Duration = Duration::from_secs(900);
/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Lets clients in.
pub(super) struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    permits: Arc<Semaphore>,
    handshakes: JoinSet<Option<(Client, SocketAddr)>>,
}

/// One client's connection.
pub(super) struct Client {
    stream: Box<dyn Stream>,
    idle: Pin<Box<Sleep>>,
    /// It counts as long as it lives.
    _permit: OwnedSemaphorePermit,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Door {
    pub(super) fn new(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        Self { listener, tls, permits: Arc::new(Semaphore::new(CONNECTIONS)), handshakes: JoinSet::new() }
    }
}

impl Listener for Door {
    type Io = Client;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Client, SocketAddr) {
        loop {
            let (socket, address, permit) = tokio::select! {
                Some(ended) = self.handshakes.join_next() => match ended {
                    Ok(Some(client)) => return client,
                    // Told where it failed; one that panicked has told so, too.
                    Ok(None) | Err(_) => continue,
                },
                next = next(&self.listener, &self.permits) => next,
            };
            match &self.tls {
                None => return (Client::new(Box::new(socket), permit), address),
                Some(tls) => {
                    self.handshakes.spawn(shake_hands(tls.clone(), socket, address, permit));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The next connection, when there may be one more. Nothing is lost when it is dropped.
async fn next(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("nobody closes the semaphore");
    loop {
        match listener.accept().await {
            Ok((socket, address)) => return (socket, address, permit),
            Err(error) => {
                // Too many open files, most likely: others may end meanwhile.
                tracing::warn!(%error, "an HTTP client could not be let in");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn shake_hands(
    tls: TlsAcceptor,
    socket: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
) -> Option<(Client, SocketAddr)> {
    let shaken = tokio::time::timeout(HANDSHAKE, tls.accept(socket)).await;
    match shaken.map_err(io::Error::from).and_then(|shaken| shaken) {
        Ok(stream) => Some((Client::new(Box::new(stream), permit), address)),
        Err(error) => {
            tracing::debug!(%address, %error, "a TLS handshake failed");
            None
        }
    }
}

impl Client {
    fn new(stream: Box<dyn Stream>, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, idle: Box::pin(tokio::time::sleep(IDLE)), _permit: permit }
    }

    /// Takes note of what happened on the connection, and ends it when nothing has for too long.
    fn watched<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return polled;
        }
        self.idle.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.watched(cx, polled)
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watched(cx, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        // Flushing nothing is no sign of life.
        if polled.is_ready() { polled } else { this.watched(cx, polled) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watched(cx, polled)
    }
}
