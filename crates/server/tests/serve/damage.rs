//! A server whose tables have lost what it had acknowledged does not start.

use crate::server::{Server, runtime};
use std::fs;
use std::path::{Path, PathBuf};

/// The write-ahead log of the tables that has most.
fn log_of(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("tables")).expect("the folder is there").map(|entry| entry.expect("an entry"));
    let logs = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|of| of == "log"));
    logs.max_by_key(|path| fs::metadata(path).expect("it is there").len()).expect("a log")
}

#[test]
fn a_damaged_log_of_tables_ends_the_server_with_4() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let client = server.connect().await;
        client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text)").await.expect("a table");
        let text = "x".repeat(300);
        for id in 0..200 {
            let sql = format!("INSERT INTO t VALUES ({id}, '{text}')");
            client.batch_execute(&sql).await.expect("inserts");
        }
    });
    server.kill();
    let log = log_of(data.path());
    let whole = fs::read(&log).expect("reads");
    let middle = whole.len() / 2;
    let (mut flipped, mut zeroed) = (whole.clone(), whole.clone());
    flipped[middle] ^= 1;
    zeroed[middle..middle + 4096].fill(0);
    for (at, bytes) in [flipped, zeroed, whole[..middle].to_vec()].into_iter().enumerate() {
        let copy = tempfile::tempdir().expect("a folder");
        copy_all(data.path(), copy.path());
        fs::write(log_of(copy.path()), &bytes).expect("writes");
        assert_eq!(Server::spawn(copy.path(), &[]).ended(), Some(4), "damage {at}");
        let told = fs::read_to_string(copy.path().join("serve.log")).expect("reads");
        assert!(told.contains("tables") && told.contains("from a copy"), "damage {at}: {told}");
    }
    let server = Server::start(data.path(), &[]);
    runtime().block_on(async {
        let client = server.connect().await;
        let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.expect("a count").get(0);
        assert_eq!(count, 200);
    });
    assert_eq!(server.stop(), Some(0));
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy_all(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}
