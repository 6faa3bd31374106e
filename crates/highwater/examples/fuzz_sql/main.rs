//! Random views over random changes, each compared with its query run from scratch: as queries are run, without
//! the optimizer's rules, and by PostgreSQL; and the keys of each, which none of its rows share.
//!
//! A case is a script made from its seed: tables, views, and rounds of changes, between which the
//! database is sometimes restarted or dropped. A case that fails is made smaller as long as it fails,
//! and printed as a script. Run with `./x fuzz-sql --seconds 60`.

mod case;
mod draw;
mod grammar;
mod postgres;
mod rows;
mod run;

use case::{Step, case_of};
use postgres::Postgres;
use run::{Ending, Tally, run};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "Usage: fuzz_sql [--seconds N] [--from FIRST_SEED] [--seed ONE] [--postgres URL] [--keep-going]";

/// What is asked for.
struct Arguments {
    seconds: u64,
    from: u64,
    only: Option<u64>,
    postgres: Option<String>,
    keeps_going: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let postgres = match arguments.postgres.as_deref().map(Postgres::connect).transpose() {
        Ok(postgres) => postgres,
        Err(why) => {
            eprintln!("PostgreSQL: {why}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = arguments.only {
        return run_seed(seed, postgres.as_ref());
    }
    run_many(&arguments, postgres.as_ref())
}

fn arguments(mut given: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { seconds: 60, from: 1, only: None, postgres: None, keeps_going: false };
    while let Some(name) = given.next() {
        if name == "--keep-going" {
            arguments.keeps_going = true;
            continue;
        }
        let value = given.next()?;
        match name.as_str() {
            "--seconds" => arguments.seconds = value.parse().ok()?,
            "--from" => arguments.from = value.parse().ok()?,
            "--seed" => arguments.only = Some(value.parse().ok()?),
            "--postgres" => arguments.postgres = Some(value),
            _ => return None,
        }
    }
    Some(arguments)
}

fn run_many(arguments: &Arguments, postgres: Option<&Postgres>) -> ExitCode {
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let (mut seed, mut all, mut failed) = (arguments.from, Tally::default(), 0);
    while Instant::now() < until {
        let case = case_of(seed);
        match run(&case, postgres) {
            Ending::Held(tally) => {
                if !tally.errors.is_empty() {
                    println!("-- seed {seed}: {} kinds of errors", tally.errors.len());
                }
                all += tally;
            }
            Ending::Failed(why) => {
                report(seed, &case, &why, postgres);
                failed += 1;
                if !arguments.keeps_going {
                    return ExitCode::FAILURE;
                }
            }
        }
        seed += 1;
    }
    println!("seeds {} to {}: {}", arguments.from, seed - 1, said(&all));
    if failed == 0 {
        return if all.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    println!("{failed} seeds failed");
    ExitCode::FAILURE
}

/// What was compared, in words.
fn said(tally: &Tally) -> String {
    let Tally { kept, refused, keys, errors, unoptimized, unplanned, postgres, not_postgres } = tally;
    let mut said =
        format!("{kept} views equal their queries, {refused} were refused; {keys} times no key was repeated; ");
    said += &format!("{unoptimized} comparisons without optimization, {postgres} with PostgreSQL");
    for (whose, (count, why)) in [("without optimization", unplanned), ("in PostgreSQL", not_postgres)] {
        if let Some(why) = why {
            said += &format!("\n{count} queries were not run {whose}, such as: {why}");
        }
    }
    for (why, (count, sql)) in errors {
        said += &format!("\n{count} queries failed with {why}, such as: {sql}");
    }
    said
}

fn run_seed(seed: u64, postgres: Option<&Postgres>) -> ExitCode {
    let case = case_of(seed);
    match run(&case, postgres) {
        Ending::Held(tally) => {
            println!("seed {seed}: {}", said(&tally));
            ExitCode::SUCCESS
        }
        Ending::Failed(why) => {
            report(seed, &case, &why, postgres);
            ExitCode::FAILURE
        }
    }
}

fn report(seed: u64, case: &[Step], why: &str, postgres: Option<&Postgres>) {
    println!("-- seed {seed}: {why}");
    let small = shrink(case.to_vec(), postgres);
    for step in &small {
        println!("{}", step.text());
    }
    if let Ending::Failed(why) = run(&small, postgres) {
        println!("-- {why}");
    }
}

/// Leaves out steps, and statements of transactions, as long as the case fails.
fn shrink(mut case: Vec<Step>, postgres: Option<&Postgres>) -> Vec<Step> {
    let still_fails = |case: &[Step]| match run(case, postgres) {
        Ending::Failed(why) => !why.contains("does not exist"),
        Ending::Held(_) => false,
    };
    let mut at = case.len();
    while at > 0 {
        at -= 1;
        let mut smaller = case.clone();
        let removed = smaller.remove(at);
        if still_fails(&smaller) {
            case = smaller;
            continue;
        }
        let Step::Together { mut statements, is_kept } = removed else { continue };
        for one in (0..statements.len()).rev() {
            let mut fewer = statements.clone();
            fewer.remove(one);
            let mut smaller = case.clone();
            smaller[at] = Step::Together { statements: fewer.clone(), is_kept };
            if !fewer.is_empty() && still_fails(&smaller) {
                (case, statements) = (smaller, fewer);
            }
        }
    }
    case
}
