//! A disk that is full: the stream goes on, the failure is told, and all heals when space returns.
//!
//! Needs a small file system of its own, made in a mount name space; where the system does not allow
//! that, the test says so and does nothing.

use crate::program::{Scene, wait_until};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SCRIPT: &str = "
    CREATE SOURCE gen (k bigint, v bigint) WITH (connector = 'datagen', datagen.rows.per.second = '100000',
        fields.k.kind = 'keyed', fields.k.keys = '20000', fields.v.kind = 'event_number');
    CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS n, sum(v) AS total FROM gen GROUP BY k;
    SELECT sum(n) = max(total_rows) AS whole FROM counts, (SELECT sum(n) AS total_rows FROM counts);";

/// Why a mount name space cannot be had here; `None` when it can.
fn refusal() -> Option<String> {
    let tried = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(crate::program::text(&output.stderr)),
        Err(error) => Some(error.to_string()),
    }
}

/// The program on a file system of 64 MiB, and that file system as this process can reach it.
struct Small {
    child: Child,
    disk: PathBuf,
}

impl Small {
    fn start(scene: &Scene) -> Self {
        std::fs::create_dir_all(scene.path("data")).expect("a folder");
        let log = std::fs::File::create(scene.path("log")).expect("a log");
        let again = log.try_clone().expect("a second handle");
        let program = env!("CARGO_BIN_EXE_highwater");
        let arguments = "run script.sql --data data --checkpoint-interval 200ms --progress lines";
        let command = format!("mount -t tmpfs -o size=64m tmpfs data && exec {program} {arguments}");
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", &command])
            .current_dir(scene.path(""))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .spawn()
            .expect("unshare was tried before");
        // `unshare` and the shell become the program: the process id stays.
        let seen = PathBuf::from(format!("/proc/{}/root", child.id()));
        let disk = seen.join(scene.path("data").strip_prefix("/").expect("absolute"));
        Self { child, disk }
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.disk.join("filler")).expect("made");
        for size in [1 << 20, 1 << 12] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.disk.join("filler")).expect("removed");
    }

    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        self.child.wait().expect("ends").code()
    }
}

/// The lines of the log that tell a checkpoint, good or failed.
fn checkpoints(scene: &Scene, failed: bool) -> usize {
    let log = scene.log();
    let told = log.lines().filter(|line| line.starts_with("counts ") && line.contains("FAILED") == failed);
    told.filter(|line| failed || line.ends_with('B')).count()
}

#[test]
fn a_full_disk_stops_checkpoints_and_nothing_else() {
    if let Some(reason) = refusal() {
        eprintln!("not run: a mount name space cannot be had here: {}", reason.trim());
        return;
    }
    let patience = Duration::from_secs(60);
    let scene = Scene::new();
    scene.write("script.sql", SCRIPT);
    let small = Small::start(&scene);
    wait_until("there are checkpoints", patience, || checkpoints(&scene, false) >= 3);
    small.fill();
    wait_until("failures are told", patience, || checkpoints(&scene, true) >= 2);
    assert!(scene.log().to_lowercase().contains("space"), "the reason is told: {}", scene.log());
    let before = rows_read(&scene);
    wait_until("the stream goes on", patience, || rows_read(&scene) > before);
    small.free();
    let good = checkpoints(&scene, false);
    wait_until("checkpoints go on", patience, || checkpoints(&scene, false) >= good + 3);
    assert_eq!(small.stop(), Some(0), "{}", scene.log());
    assert_eq!(crate::program::rows(&scene.log()), [["t"]], "{}", scene.log());
}

/// The text of the newest progress line of the pipeline: it changes as long as rows come.
fn rows_read(scene: &Scene) -> usize {
    scene.log().lines().filter(|line| line.starts_with("counts ") && line.contains("/s")).count()
}
