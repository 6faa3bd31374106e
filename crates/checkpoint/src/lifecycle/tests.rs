//! Runs the plain-text scripts in `testscripts/`: each line is a fact, the indented lines below it
//! are the decisions it leads to. `UPDATE_TESTSCRIPTS=1` writes what the code decides.

use super::*;
use std::fmt::Write;

struct Runner {
    life: Lifecycle,
}

fn seconds(text: &str) -> Duration {
    let number = text.strip_suffix('s').and_then(|n| n.parse().ok());
    Duration::from_secs_f64(number.expect("seconds such as 1.5s"))
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn trigger(text: &str) -> Trigger {
    match text {
        "interval" => Trigger::Interval,
        "manual" => Trigger::Manual,
        "final" => Trigger::Final,
        "creation" => Trigger::Creation,
        other => panic!("no trigger is called {other}"),
    }
}

/// `limits workers=2 timeout=10s pause=1s failures=1 [restored=7]`
fn limits(words: &[&str]) -> Lifecycle {
    let mut limits =
        Limits { workers: 1, timeout: Duration::from_secs(60), min_pause: Duration::ZERO, tolerable_failures: 0 };
    let mut restored = None;
    for word in words {
        match word.split_once('=').expect("name=value") {
            ("workers", n) => limits.workers = number(n) as u32,
            ("timeout", time) => limits.timeout = seconds(time),
            ("pause", time) => limits.min_pause = seconds(time),
            ("failures", n) => limits.tolerable_failures = number(n) as u32,
            ("restored", n) => restored = Some(CheckpointId(number(n))),
            (other, _) => panic!("no limit is called {other}"),
        }
    }
    Lifecycle::new(limits, restored)
}

fn fact(words: &[&str]) -> Fact {
    let attempt = |text: &str| Attempt(number(text));
    match words {
        ["request", name] => Fact::Request(trigger(name), true),
        ["request", name, "unchanged"] => Fact::Request(trigger(name), false),
        ["barrier", n] => Fact::Barrier(attempt(n)),
        ["moved", n] => Fact::Moved(attempt(n)),
        ["frozen", n, worker] => Fact::Worker(attempt(n), number(worker) as u32, Stage::Frozen),
        ["written", n, worker] => Fact::Worker(attempt(n), number(worker) as u32, Stage::Written),
        ["uploaded", n, worker] => Fact::Worker(attempt(n), number(worker) as u32, Stage::Uploaded),
        ["published", n, checkpoint] => Fact::Published(attempt(n), CheckpointId(number(checkpoint))),
        ["failed", n, reason @ ..] => Fact::Failed(attempt(n), reason.join(" ")),
        ["fenced", n] => Fact::Fenced(attempt(n)),
        ["collected", checkpoint] => Fact::Collected(CheckpointId(number(checkpoint))),
        ["time"] => Fact::Time,
        other => panic!("no fact is called {other:?}"),
    }
}

fn tell(decision: &Decision) -> String {
    match decision {
        Decision::SendBarrier(n, trigger) => format!("send barrier {} ({trigger:?})", n.0).to_lowercase(),
        Decision::Publish(n) => format!("publish {}", n.0),
        Decision::Deliver(checkpoint) => format!("deliver {checkpoint}"),
        Decision::Collect(checkpoint) => format!("collect what is older than {checkpoint}"),
        Decision::GiveUp(n, reason) => format!("give up {}: {reason}", n.0),
        Decision::Skip(trigger, reason) => format!("{}: {reason}", format!("skip {trigger:?}").to_lowercase()),
        Decision::WakeAt(time) => format!("wake at {}s", time.as_secs_f64()),
        Decision::FailPipeline(reason) => format!("fail the pipeline: {reason}"),
        Decision::Stop => "stop".to_owned(),
    }
}

impl Runner {
    fn line(&mut self, line: &str, out: &mut String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["limits", limits @ ..] => self.life = self::limits(limits),
            ["stage"] => {
                let stage =
                    self.life.under_way().map_or("idle".to_owned(), |(n, _, stage)| format!("{} is {stage}", n.0));
                writeln!(out, "    {stage}").expect("text accepts text");
            }
            [time, fact @ ..] => {
                for decision in self.life.step(seconds(time), self::fact(fact)) {
                    writeln!(out, "    {}", tell(&decision)).expect("text accepts text");
                }
            }
        }
    }
}

fn run(script: &str) -> String {
    let mut runner = Runner { life: limits(&[]) };
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("    ")) {
        out.push_str(line);
        out.push('\n');
        runner.line(line, &mut out);
    }
    out
}

#[test]
fn scripts_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts");
    let mut scripts = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts are there") {
        let path = entry.expect("an entry").path();
        let expected = std::fs::read_to_string(&path).expect("a script");
        let found = run(&expected);
        if std::env::var_os("UPDATE_TESTSCRIPTS").is_some() {
            std::fs::write(&path, &found).expect("a script can be written");
        } else {
            assert_eq!(found, expected, "{}", path.display());
        }
        scripts += 1;
    }
    assert!(scripts >= 5, "the scripts were found");
}
