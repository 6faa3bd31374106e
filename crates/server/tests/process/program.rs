//! The program as a process: a scratch folder, starting, killing, asking. Shared by process tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A scratch folder with a script, a data folder and whatever a test puts there.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a scratch folder") }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, atomically: a growing folder never shows half of it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("in the folder")).expect("a folder");
        let draft = path.with_file_name(format!("_{}", path.file_name().expect("a name").to_string_lossy()));
        std::fs::write(&draft, text).expect("written");
        std::fs::rename(&draft, &path).expect("renamed");
        path
    }

    /// `highwater` with arguments, in the scene's folder, its environment without settings.
    pub(crate) fn highwater(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HIGHWATER_")) {
            command.env_remove(name);
        }
        command
    }

    /// Runs to the end and gives everything it said.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.highwater(arguments).output().expect("the program starts")
    }

    /// Starts it in the background; what it says goes to `log` in the scene.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        let again = log.try_clone().expect("a second handle");
        Running { child: self.highwater(arguments).stdout(log).stderr(again).spawn().expect("the program starts") }
    }

    /// What was said so far by programs that were started.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The rows of a SELECT over the data folder `data` once the program has stopped, cells trimmed.
    pub(crate) fn select(&self, sql: &str) -> Vec<Vec<String>> {
        self.write("ask.sql", sql);
        let output = self.output(&["run", "ask.sql", "--exit", "--data", "data", "--progress", "off"]);
        assert!(output.status.success(), "{sql}: {}", text(&output.stderr));
        rows(&text(&output.stdout))
    }

    /// All lines of the finished files of a folder, in no particular order.
    pub(crate) fn lines_of(&self, folder: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(self.path(folder)).into_iter().flatten() {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if !name.starts_with(['.', '_']) {
                lines.extend(std::fs::read_to_string(&path).expect("text").lines().map(str::to_owned));
            }
        }
        lines
    }
}

/// A program in the background; killed when dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        self.child.wait().expect("ends").code()
    }

    /// Waits for it to end by itself, or for the time to pass; its exit code if it ended.
    pub(crate) fn wait(&mut self, time: Duration) -> Option<Option<i32>> {
        let until = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().expect("asked") {
                return Some(status.code());
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The cells of the last psql-like table in a text.
pub(crate) fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let rule = lines.iter().rposition(|line| line.starts_with("--") && line.chars().all(|c| "-+".contains(c)));
    let rule = rule.unwrap_or_else(|| panic!("no table in {text}"));
    let cells = |line: &&str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
    lines[rule + 1..].iter().take_while(|line| !line.starts_with('(')).map(cells).collect()
}

/// Waits until `done`; panics with `what` after the deadline.
pub(crate) fn wait_until(what: &str, deadline: Duration, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + deadline;
    while !done() {
        assert!(Instant::now() < until, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The files below a folder, by path.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// SplitMix64: the generator of seeded tests, and of the source `keyed`.
pub(crate) fn splitmix64(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
