//! Clients that go without a word do not keep their connections for ever.
#![cfg(target_os = "linux")]

use crate::server::Server;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The timers of the accepted connections of a port, as Linux shows them: 2 is that of keepalive.
fn timers(port: u16) -> Vec<String> {
    let connections = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows its connections");
    let timer = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_accepted = fields.get(1)?.ends_with(&format!(":{port:04X}")) && fields.get(3) == Some(&"01");
        fields.get(5)?.split(':').next().filter(|_| is_accepted).map(str::to_owned)
    };
    connections.lines().filter_map(timer).collect()
}

#[test]
fn the_system_asks_whether_clients_are_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    for port in [server.pg, server.http] {
        let client = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !timers(port).contains(&"02".to_owned()) {
            assert!(Instant::now() < deadline, "nobody asks");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(client);
    }
    server.stop();
}
