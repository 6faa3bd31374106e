//! `highwater serve`: the database behind PostgreSQL's protocol and HTTP.
//!
//! Both ports are bound before the database is opened, so that what cannot be is told at once;
//! clients are let in when the catalog is there, and the views come back meanwhile. Beyond loopback a server without users does
//! not listen.

use crate::exit::{Exit, Failure, Outcome};
use crate::http;
use crate::pg::{self, Server, Session};
use crate::settings::{Flags, Settings};
use crate::signals::Stop;
use crate::users::Users;
use crate::{logs, run};
use highwater::Database;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often what is broken is tried again.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Arguments of `highwater serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Any database name is taken, and any user name as long as there are no users.
Ctrl-C or SIGTERM stops it with final checkpoints; a second one at once.
Exit codes: highwater --help.

Examples:
  highwater serve
  psql -h 127.0.0.1 -p 7432 highwater
  highwater serve --data /var/lib/highwater --checkpoint-root s3://bucket/highwater

Beyond this machine, with a user and TLS:
  echo 'a long password' | highwater users add app --role writer
  highwater serve --pg-listen 0.0.0.0:7432 --tls-cert server.crt --tls-key server.key")]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

/// Serves until a stop is asked for.
///
/// # Errors
/// An address, folder, root or certificate that cannot be used.
pub(crate) fn main(arguments: Arguments) -> Outcome {
    let settings = Settings::load(&arguments.flags)?;
    logs::start(&settings, false)?;
    let stop = Stop::on_signals()?;
    let users = Users::load(&settings.data())?;
    let tls = settings.tls()?.map(|(cert, key)| acceptor(&cert, &key)).transpose()?;
    let runtime = runtime("hw-serve", None)?;
    // HTTP answers whatever clients of the other port wait for.
    let web = self::runtime("hw-http", Some(1))?;
    let pg = runtime.block_on(bind(settings.pg_listen(), &users))?;
    let http = settings.http_listen().map(|address| web.block_on(bind(address, &users))).transpose()?;
    log_start(&settings);
    let (stopping, stopped) = watch::channel(false);
    let shared = Arc::new(http::Shared::new(users.clone()));
    let http = http.map(|listener| {
        let (shared, stopped, tls) = (Arc::clone(&shared), wait_for(stopped.clone()), tls.clone());
        web.spawn(http::serve(listener, tls, shared, stopped))
    });
    let opened = Database::open_catalog(run::config(&settings, false));
    let database = Arc::new(opened.map_err(|error| Failure::storage(settings.data().display(), error))?);
    let (ending, ended) = mpsc::channel();
    // Planning walks long chains of operators by recursion.
    let thread = std::thread::Builder::new().name("hw-restore".to_owned()).stack_size(highwater::STACK_BYTES);
    let restoring = thread.spawn({
        let database = Arc::clone(&database);
        move || restore(&database, &ended)
    });
    let restoring = restoring.map_err(|error| Failure::usage(format!("threads: {error}")))?;
    // Nobody else sets it.
    let _ = shared.database.set(Arc::clone(&database));
    let server = Arc::new(Server::new(Arc::clone(&database), users, settings.max_connections()));
    tracing::info!(address = settings.pg_listen(), "ready for connections");
    let accepting = runtime.spawn(accept(pg, tls, server, stopped));
    while !stop.wait(Duration::from_secs(3600)) {}
    tracing::info!("stopping, with final checkpoints");
    // Who listens may have ended.
    let _ = stopping.send(true);
    runtime.block_on(async {
        // A task that panicked has told so.
        let _ = accepting.await;
        if let Some(http) = http {
            let _ = http.await;
        }
    });
    drop(ending);
    let done = database.shutdown();
    if restoring.join().is_err() {
        tracing::error!("restoring the views ended with a panic");
    }
    runtime.shutdown_timeout(Duration::from_secs(5));
    web.shutdown_timeout(Duration::from_secs(1));
    done.map_err(|error| Failure::new(Exit::Pipeline, format!("stopping: {error}")))?;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Logs what is started with.
fn log_start(settings: &Settings) {
    let (version, data, root) = (env!("CARGO_PKG_VERSION"), settings.data(), settings.checkpoint_root());
    let (workers, http) = (settings.workers(), settings.http_listen().unwrap_or("off"));
    tracing::info!(version, data = %data.display(), root, workers, http, "starting");
}

/// Threads for a port; one a core unless told otherwise.
fn runtime(name: &str, threads: Option<usize>) -> Outcome<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    // Long chains of operators are walked by recursion.
    let built = builder.thread_name(name).thread_stack_size(highwater::STACK_BYTES).enable_all().build();
    built.map_err(|error| Failure::usage(format!("threads: {error}")))
}

/// Brings the views back while clients are served already, and then, until the server ends, what could not be
/// brought back at first.
fn restore(database: &Database, ended: &Receiver<()>) {
    let (pipelines, started) = (database.restoring().len(), Instant::now());
    database.restore_pipelines();
    if pipelines > 0 {
        let (ms, broken) = (started.elapsed().as_millis() as u64, database.broken().len());
        if broken == 0 {
            tracing::info!(pipelines, ms, "all pipelines are restored");
        } else {
            tracing::warn!(pipelines, ms, broken, "restoring has ended, and something is broken: SHOW JOBS tells");
        }
    }
    let mut pause = RETRY;
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let began = Instant::now();
        database.retry_broken();
        // Definitions wait for a try, which takes long when a store does not answer.
        pause = (began.elapsed() * 10).clamp(RETRY, LONGEST_PAUSE);
    }
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // The sender goes only when the process does.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Listens at an address.
async fn bind(address: &str, users: &Users) -> Outcome<TcpListener> {
    let refused = |error: std::io::Error| Failure::usage(cannot_listen(address, &error));
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(refused)?.collect();
    if users.is_empty() && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Failure::usage(format!(
            "{address} is beyond loopback and there are no users: add one with `highwater users add`"
        )));
    }
    let mut listening = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        listening = listen(address);
        if listening.is_ok() {
            break;
        }
    }
    listening.map_err(refused)
}

/// Why an address is not listened at, and what would be.
fn cannot_listen(address: &str, error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; stop who has it, or give another --pg-listen or --http-listen",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 are for the system's own",
        _ if address.rsplit_once(':').is_none_or(|(host, _)| host.is_empty()) => {
            "; an address is a host and a port, such as 127.0.0.1:7432"
        }
        _ => "",
    };
    format!("cannot listen at {address}: {error}{advice}")
}

/// Listens at one address. The system asks clients that say nothing whether they are there, so that those which
/// have gone without a word do not keep their connections; what is accepted has this from the listener.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets clients in until a stop is asked for.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, server: Arc<Server>, stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = wait_for(stopped.clone()) => return,
        };
        match accepted {
            Ok((socket, address)) => {
                let (server, tls, stopped) = (Arc::clone(&server), tls.clone(), stopped.clone());
                tokio::spawn(async move {
                    let session = Session::new(&server);
                    let client = pg::serve(socket, tls, session);
                    tokio::select! {
                        ended = client => {
                            if let Err(error) = ended {
                                tracing::debug!(%address, %error, "a client's connection ended");
                            }
                        }
                        () = wait_for(stopped) => {}
                    }
                });
            }
            Err(error) => {
                // Too many open files, most likely: others may end meanwhile.
                tracing::warn!(%error, "a client could not be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// TLS with the certificate and key of two PEM files.
fn acceptor(cert: &Path, key: &Path) -> Outcome<TlsAcceptor> {
    let refused = |path: &Path, what: String| Failure::usage(format!("{}: {what}", path.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| refused(cert, error.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(key, error.to_string()))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    let config = config.map_err(|error| refused(cert, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_listened_at_is_told_with_what_would_be() {
        let told = |address: &str, kind: std::io::ErrorKind| cannot_listen(address, &kind.into());
        for address in ["7432", ":7432"] {
            assert!(told(address, std::io::ErrorKind::InvalidInput).ends_with("such as 127.0.0.1:7432"));
        }
        assert!(told("127.0.0.1:7432", std::io::ErrorKind::AddrInUse).contains("--pg-listen"));
        let other = told("127.0.0.1:7432", std::io::ErrorKind::Other);
        assert_eq!(other, "cannot listen at 127.0.0.1:7432: other error");
    }
}
