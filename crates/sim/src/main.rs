//! `sim`: plays seeds of the checkpoint protocol's simulation and prints the first that breaks an
//! invariant, with its trace.

use clap::Parser;
use highwater_checkpoint::digest::Hashing;
use highwater_sim::{Run, run, world::Counts};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Plays the checkpoint protocol under faults, crashes, two owners, rot and collection.
///
/// Exit code 0: every invariant held. 1: one was broken; its seed and trace are printed.
#[derive(Debug, Parser)]
#[command(name = "sim", version, after_help = "Examples:\n  sim --seeds 10000\n  sim --seed 4711 --trace")]
struct Arguments {
    /// How many seeds to play, from --first on.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Play this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Print what happens, line by line.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// So many seeds at once; by default one a core.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(seed, arguments.trace),
        None => many(&arguments),
    }
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let run = run(seed);
    if trace || run.violation.is_some() {
        print_trace(&run);
    }
    println!("seed {seed}: {} steps, trace {}; {}", run.steps, run.digest, tell(&run.counts));
    conclude(run.violation.as_deref().map(|violation| (seed, violation)))
}

fn many(arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let next = AtomicU64::new(0);
    let is_broken = AtomicBool::new(false);
    let runs: Mutex<Vec<(u64, Run)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !is_broken.load(Ordering::SeqCst) {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= arguments.seeds {
                        break;
                    }
                    let mut run = run(arguments.first + n);
                    is_broken.fetch_or(run.violation.is_some(), Ordering::SeqCst);
                    if run.violation.is_none() {
                        run.trace = Vec::new();
                    }
                    runs.lock().expect("no job panics while it holds the list").push((n, run));
                    progress(n + 1, arguments.seeds);
                }
            });
        }
    });
    let mut runs = runs.into_inner().expect("no job panics while it holds the list");
    runs.sort_by_key(|(n, _)| *n);
    let mut total = Counts::default();
    let mut digests = Hashing::default();
    for (_, run) in &runs {
        add(&mut total, &run.counts);
        digests.write_all(run.digest.as_bytes()).expect("a digest accepts every byte");
    }
    let broken = runs.iter().map(|(_, run)| run).find(|run| run.violation.is_some());
    if let Some(run) = broken {
        print_trace(run);
    }
    let took = started.elapsed().as_secs_f64();
    println!("{} seeds in {took:.1} s, traces {}; {}", runs.len(), digests.finish().0, tell(&total));
    conclude(broken.and_then(|run| Some((run.seed, run.violation.as_deref()?))))
}

fn conclude(broken: Option<(u64, &str)>) -> ExitCode {
    match broken {
        None => {
            println!("every invariant held");
            ExitCode::SUCCESS
        }
        Some((seed, violation)) => {
            println!("seed {seed} broke an invariant: {violation}\nplay it again: sim --seed {seed} --trace");
            ExitCode::FAILURE
        }
    }
}

fn print_trace(run: &Run) {
    let mut out = std::io::stdout().lock();
    for line in &run.trace {
        // A reader that went away wants no more lines.
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}

fn progress(done: u64, all: u64) {
    if done.is_multiple_of(1000) && std::io::stderr().is_terminal() {
        eprint!("\r{done} of {all} seeds");
        if done >= all {
            eprintln!();
        }
    }
}

fn tell(counts: &Counts) -> String {
    format!(
        "{} processes, {} crashes, {} fenced; {} checkpoints, {} failed, {} stale; {} restores, {} fallbacks; {} faults, {} rotten, {} deleted",
        counts.processes,
        counts.crashes,
        counts.fenced,
        counts.published,
        counts.failed,
        counts.stale,
        counts.restored,
        counts.fallbacks,
        counts.faults,
        counts.rotten,
        counts.deleted
    )
}

fn add(total: &mut Counts, counts: &Counts) {
    total.processes += counts.processes;
    total.crashes += counts.crashes;
    total.fenced += counts.fenced;
    total.published += counts.published;
    total.failed += counts.failed;
    total.stale += counts.stale;
    total.restored += counts.restored;
    total.fallbacks += counts.fallbacks;
    total.faults += counts.faults;
    total.rotten += counts.rotten;
    total.deleted += counts.deleted;
}
