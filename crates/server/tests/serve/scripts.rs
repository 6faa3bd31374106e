//! The scripts of PostgreSQL's clients in `tests/clients`. `./x test` tells which clients there are;
//! a script whose client is not told of is not run.

use crate::server::{Server, workspace};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A client's program by the variable that names it.
fn client(variable: &str) -> Option<String> {
    let program = std::env::var(variable).ok().filter(|program| !program.is_empty());
    if program.is_none() {
        eprintln!("{variable} names no program (see ./x test --help): not tested");
    }
    program
}

/// Runs a client to its end; gives whether it did well and all that it said, in its order.
fn run(command: &mut Command, script: &Path) -> (bool, String) {
    let mut said = tempfile::tempfile().expect("a file");
    let out = || said.try_clone().expect("one more handle");
    let input = File::open(script).expect("a script");
    let status = command.stdin(input).stdout(out()).stderr(out()).status().expect("the client starts");
    let mut text = String::new();
    said.rewind().expect("a file");
    said.read_to_string(&mut text).expect("text");
    (status.success(), text)
}

fn driver(variable: &str, script: &str) {
    let Some(program) = client(variable) else { return };
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    let script = workspace("tests/clients").join(script);
    let (well, said) = run(Command::new(program).arg(&script).arg(server.pg.to_string()), &script);
    assert!(well, "{}: {said}", script.display());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn psycopg_does_its_script() {
    driver("HIGHWATER_PYTHON", "driver.py");
}

#[test]
fn node_postgres_does_its_script() {
    driver("HIGHWATER_NODE", "driver.js");
}

/// psql, which reads no file of its own.
fn psql(program: &str, server: &Server) -> Command {
    let mut command = Command::new(program);
    command.args(["-X", "-h", "127.0.0.1", "-U", "tester", "-d", "any", "-p", &server.pg.to_string()]);
    command.env("LC_ALL", "C.UTF-8").env("PGCONNECT_TIMEOUT", "60").env_remove("PGOPTIONS");
    command
}

/// What psql prints for one command, without alignment and headings.
fn asked(program: &str, server: &Server, command: &str) -> String {
    let output = psql(program, server).args(["-At", "-c", command]).stdin(Stdio::null()).output().expect("psql starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{command}: {said}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// What psql prints for a script without mistakes, without alignment and headings.
fn told(program: &str, server: &Server, script: &str) -> String {
    let mut command = psql(program, server);
    command.args(["-Atq", "-v", "ON_ERROR_STOP=1"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("psql starts");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("it listens");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The statements of the README, block by block, with fewer events and with files in a folder.
fn blocks_of_the_readme(folder: &Path) -> Vec<String> {
    let readme = std::fs::read_to_string(workspace("README.md")).expect("a README");
    let blocks = readme.split("```sql\n").skip(1).filter_map(|block| block.split("```").next());
    let own = format!("'{}/", folder.display());
    blocks.map(|block| block.replace("'/tmp/", &own).replace("event.num = 5000000", "event.num = 50000")).collect()
}

#[test]
fn psql_does_what_the_readme_says() {
    let Some(program) = client("HIGHWATER_PSQL") else { return };
    let data = tempfile::tempdir().expect("a folder");
    for (folder, line) in [
        (
            "orders",
            "{\"id\":1,\"customer\":\"ann\",\"amount\":10.5}\n{\"id\":2,\"customer\":\"bob\",\"amount\":5000}\n",
        ),
        ("customers", "{\"before\":null,\"after\":{\"id\":1,\"name\":\"ann\"},\"op\":\"c\"}\n"),
    ] {
        let folder = data.path().join(folder);
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("1.ndjson"), line).expect("written");
    }
    let server = Server::start(data.path(), &["--workers", "2", "--checkpoint-interval", "1s"]);
    let blocks = blocks_of_the_readme(data.path());
    assert_eq!(blocks.len(), 5, "the README has another tour: say here what it prints");
    // The first one asks while the events come.
    let first = told(&program, &server, &blocks[0]);
    assert!(first.lines().count() <= 5, "{first}");
    let expected = ["ann|2|30.50", "1|10.50\n2|20.00\ncid|1|5.00|Insert|", "2026-01-01 10:00:00|1\nclick\norder", ""];
    for (block, expected) in blocks[1..].iter().zip(expected) {
        let said = told(&program, &server, block);
        // Rows without an order, and when a change was made.
        let mut lines: Vec<&str> = said.lines().filter_map(|line| line.split_inclusive("|Insert|").next()).collect();
        lines.sort_unstable();
        assert_eq!(lines.join("\n"), expected, "{block}");
    }
    told(&program, &server, "FLUSH; CHECKPOINT;");
    for (query, expected) in [
        ("SELECT auction, bids FROM bids_per_auction ORDER BY bids DESC LIMIT 2", "1500|841\n2700|833"),
        ("SELECT bids FROM bids_per_minute", "46000"),
        ("SELECT * FROM tagged ORDER BY tag", "new|1\nweb|2"),
        ("SELECT name FROM customers", "ann"),
        ("SELECT * FROM file_spending ORDER BY customer", "ann|1|10.5\nbob|1|5000"),
    ] {
        assert_eq!(asked(&program, &server, query), expected, "{query}");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_dir(data.path().join("big")).map_or(0, Iterator::count) == 0 {
        assert!(Instant::now() < deadline, "the sink delivers nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    for (kind, name) in
        [("SOURCE", "bid"), ("TABLE", "orders"), ("TABLE", "events"), ("SOURCE", "order_files"), ("TABLE", "customers")]
    {
        told(&program, &server, &format!("DROP {kind} {name} CASCADE;"));
    }
    for shown in ["TABLES", "SOURCES", "MATERIALIZED VIEWS", "SINKS"] {
        assert_eq!(asked(&program, &server, &format!("SHOW {shown}")), "", "{shown}");
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn psql_does_the_tour() {
    let Some(program) = client("HIGHWATER_PSQL") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let (orders, big) = (data.path().join("orders"), data.path().join("big"));
    std::fs::create_dir(&orders).expect("a folder");
    let rows = "{\"id\":1,\"customer\":\"ann\",\"amount\":10.5}\n{\"id\":2,\"customer\":\"bob\",\"amount\":5000}\n";
    std::fs::write(orders.join("1.ndjson"), rows).expect("written");
    let server = Server::start(data.path(), &["--workers", "2"]);
    let folder = workspace("tests/clients");
    let mut tour = psql(&program, &server);
    tour.args(["-a", "-v", &format!("orders={}/*.ndjson", orders.display()), "-v", &format!("big={}", big.display())]);
    let (_, said) = run(&mut tour, &folder.join("tour.sql"));
    let expected = folder.join("tour.out");
    if std::env::var_os("UPDATE_TESTSCRIPTS").is_some() {
        std::fs::write(&expected, &said).expect("written");
    }
    let expected = std::fs::read_to_string(expected).expect("what the tour says");
    for (at, (said, expected)) in said.lines().zip(expected.lines()).enumerate() {
        assert_eq!(said, expected, "line {} of tour.out", at + 1);
    }
    assert_eq!(said.lines().count(), expected.lines().count(), "the tour ends elsewhere");
    let delivered = std::fs::read_dir(&big).expect("the sink's folder").count();
    assert!(delivered > 0, "the sink delivered nothing");
    assert_eq!(server.stop(), Some(0));
}

/// What one of ten clients does: with rows of its own, and with one that all of them change.
fn work_of(client: usize) -> String {
    let mut script = String::new();
    for n in 0..20 {
        script += &format!("INSERT INTO numbers VALUES ({client}, {n}, 0);\nUPDATE counter SET n = n + 1;\n");
    }
    script += &format!(
        "BEGIN;
         UPDATE numbers SET v = v + n WHERE client = {client};
         DELETE FROM numbers WHERE client = {client} AND n >= 15;
         COMMIT;
         BEGIN;
         DELETE FROM numbers WHERE client = {client};
         ROLLBACK;
         COPY numbers FROM STDIN;\n{client}\t100\t1\n{client}\t101\t2\n\\.
         SELECT count(*), sum(v) FROM numbers WHERE client = {client};
         FLUSH;
         SELECT n, v FROM per_client WHERE client = {client};\n"
    );
    script
}

#[test]
fn ten_psqls_work_at_once() {
    const CLIENTS: usize = 10;
    let Some(program) = client("HIGHWATER_PSQL") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &["--workers", "2"]);
    for statement in [
        "CREATE TABLE numbers (client int, n int, v int, PRIMARY KEY (client, n))",
        "CREATE TABLE counter (n int)",
        "INSERT INTO counter VALUES (0)",
        "CREATE MATERIALIZED VIEW per_client AS SELECT client, count(*) AS n, sum(v) AS v FROM numbers GROUP BY client",
    ] {
        asked(&program, &server, statement);
    }
    let start = |_| {
        let mut command = psql(&program, &server);
        command.args(["-Atq", "-v", "ON_ERROR_STOP=1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("psql starts");
        let (input, output) = (child.stdin.take().expect("piped"), BufReader::new(child.stdout.take().expect("piped")));
        (child, input, output)
    };
    let mut all: Vec<_> = (0..CLIENTS).map(start).collect();
    for (_, input, output) in &mut all {
        // All of them are connected before one begins.
        writeln!(input, "SELECT 'ready';").expect("it listens");
        let mut line = String::new();
        output.read_line(&mut line).expect("it answers");
        assert_eq!(line, "ready\n");
    }
    for (client, (_, input, _)) in all.iter_mut().enumerate() {
        input.write_all(work_of(client).as_bytes()).expect("it listens");
    }
    for (mut child, input, mut output) in all {
        drop(input);
        let mut said = String::new();
        output.read_to_string(&mut said).expect("it answers");
        assert_eq!((said.as_str(), child.wait().expect("it ends").success()), ("17|108\n17|108\n", true));
    }
    assert_eq!(asked(&program, &server, "SELECT n FROM counter"), "200");
    assert_eq!(asked(&program, &server, "SELECT count(*), sum(n), sum(v) FROM per_client"), "10|170|1080");
    assert_eq!(server.stop(), Some(0));
}
