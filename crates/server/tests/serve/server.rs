//! A server process of a test: started on free ports, asked over the wire, killed, started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) pg: u16,
    pub(crate) http: u16,
}

/// A port that nobody had a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

impl Server {
    /// Starts a server over a data folder and waits until it answers.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        // Another process may take a port before the server does, as a client's own.
        (0..5)
            .map(|_| Self::spawn(data, arguments))
            .find_map(|mut server| server.listens().then_some(server))
            .expect("a server that listens, or serve.log says why not")
    }

    pub(crate) fn spawn(data: &Path, arguments: &[&str]) -> Self {
        let (pg, http) = (free_port(), free_port());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("serve.log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_highwater"))
            .args(["serve", "--data"])
            .arg(data)
            .args(["--pg-listen", &format!("127.0.0.1:{pg}"), "--http-listen", &format!("127.0.0.1:{http}")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        Self { child, pg, http }
    }

    /// Whether it came to listen.
    fn listens(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        // It ends when it gets one of them only.
        let is_open = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        while !(is_open(self.http) && is_open(self.pg)) {
            if self.child.try_wait().expect("it can be asked").is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// A connection to it; waits while the server is still opening its database.
    pub(crate) async fn connect(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=tester dbname=any connect_timeout=60", self.pg);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
        tokio::spawn(async move {
            // It ends when the client or the server goes.
            let _ = connection.await;
        });
        client
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks for a clean stop; gives the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it can be told");
        let deadline = Instant::now() + PATIENCE;
        self.ended_before(deadline)
    }

    /// Waits until it has ended by itself; gives the exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.ended_before(Instant::now() + PATIENCE)
    }

    fn ended_before(&mut self, deadline: Instant) -> Option<i32> {
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A runtime for a test's clients.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A folder of the workspace's own tests.
pub(crate) fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
