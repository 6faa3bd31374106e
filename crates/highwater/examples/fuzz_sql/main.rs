//! Random views over random changes, each compared with its query run from scratch.
//!
//! A case is a script made from its seed: tables, views, and rounds of INSERT, UPDATE and DELETE,
//! between which the database is sometimes restarted or dropped. A case that fails is made smaller as
//! long as it fails, and printed as a script. Run with `./x fuzz-sql --seconds 60`.

mod grammar;

use grammar::{Column, Draw, Grammar, Relation, TYPES};
use highwater::engine::core::Rng;
use highwater::{Config, Database, same_rows};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// One step of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A statement that must succeed.
    Do(String),
    /// A view, its name and query; one that is refused is left out.
    View(String, String),
    /// Flushes, and compares all views.
    Compare,
    /// Stops and opens again, with a final checkpoint or without.
    Restart { clean: bool },
}

/// How a case ended.
enum Ending {
    /// Views kept and refused.
    Held {
        kept: usize,
        refused: usize,
    },
    Failed(String),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seconds, mut seed, mut only) = (60, 1, None);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
        match (name.as_str(), value) {
            ("--seconds", Some(value)) => seconds = value,
            ("--from", Some(value)) => seed = value,
            ("--seed", Some(value)) => only = Some(value),
            _ => {
                eprintln!("Usage: fuzz_sql [--seconds N] [--from FIRST_SEED] [--seed ONE]");
                return ExitCode::from(2);
            }
        }
    }
    if let Some(seed) = only {
        return run_seed(seed).map_or(ExitCode::SUCCESS, |_| ExitCode::FAILURE);
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let (first, mut kept, mut refused) = (seed, 0, 0);
    while Instant::now() < until {
        let case = case_of(seed);
        match run(&case) {
            Ending::Held { kept: views, refused: others } => (kept, refused) = (kept + views, refused + others),
            Ending::Failed(why) => {
                report(seed, &case, &why);
                return ExitCode::FAILURE;
            }
        }
        seed += 1;
    }
    println!("seeds {first} to {}: {kept} views equal their queries, {refused} were refused", seed - 1);
    ExitCode::SUCCESS
}

fn run_seed(seed: u64) -> Option<()> {
    let case = case_of(seed);
    let Ending::Failed(why) = run(&case) else {
        println!("seed {seed} holds");
        return None;
    };
    report(seed, &case, &why);
    Some(())
}

fn report(seed: u64, case: &[Step], why: &str) {
    println!("-- seed {seed}: {why}");
    let small = shrink(case.to_vec());
    for step in &small {
        match step {
            Step::Do(sql) => println!("{sql};"),
            Step::View(name, sql) => println!("CREATE MATERIALIZED VIEW {name} AS {sql};"),
            Step::Compare => println!("FLUSH; -- compare"),
            Step::Restart { clean: true } => println!("-- restart"),
            Step::Restart { clean: false } => println!("-- crash"),
        }
    }
    if let Ending::Failed(why) = run(&small) {
        println!("-- {why}");
    }
}

/// The script of a seed.
fn case_of(seed: u64) -> Vec<Step> {
    let mut draw = Draw(Rng::seeded(seed));
    let mut steps = Vec::new();
    let mut tables = Vec::new();
    for table in 0..3 {
        let columns: Vec<Column> = (0..2 + draw.below(3))
            .map(|at| Column { name: format!("{}{at}", ["a", "b", "c"][table]), ty: *draw.of(&TYPES) })
            .collect();
        let listed: Vec<String> = columns.iter().map(|c| format!("{} {}", c.name, c.ty.name())).collect();
        let name = format!("t{table}");
        steps.push(Step::Do(format!("CREATE TABLE {name} ({})", listed.join(", "))));
        tables.push(Relation { name, columns });
    }
    fill(&mut draw, &tables, &mut steps, 12);
    let mut relations = tables.clone();
    for view in 0..1 + draw.below(3) {
        let query = Grammar::new(&mut draw, &relations).query(2);
        let name = format!("v{view}");
        steps.push(Step::View(name.clone(), query.sql));
        if draw.once_in(3) {
            relations.push(Relation { name, columns: query.columns });
        }
    }
    steps.push(Step::Compare);
    for _ in 0..2 + draw.below(3) {
        if draw.once_in(3) {
            steps.push(Step::Restart { clean: draw.once_in(2) });
        }
        change(&mut draw, &tables, &mut steps);
        steps.push(Step::Compare);
    }
    steps
}

fn fill(draw: &mut Draw, tables: &[Relation], steps: &mut Vec<Step>, rows: usize) {
    for table in tables {
        let row = |draw: &mut Draw| {
            let values: Vec<String> = table.columns.iter().map(|column| draw.value(column.ty)).collect();
            format!("({})", values.join(", "))
        };
        let rows: Vec<String> = (0..1 + draw.below(rows)).map(|_| row(draw)).collect();
        steps.push(Step::Do(format!("INSERT INTO {} VALUES {}", table.name, rows.join(", "))));
    }
}

fn change(draw: &mut Draw, tables: &[Relation], steps: &mut Vec<Step>) {
    for _ in 0..1 + draw.below(5) {
        let table = draw.of(tables);
        let (set, by) = (draw.of(&table.columns), draw.of(&table.columns));
        let (new, old) = (draw.value(set.ty), draw.value(by.ty));
        let found = if old == "NULL" { format!("{} IS NULL", by.name) } else { format!("{} = {old}", by.name) };
        match draw.below(4) {
            0 => steps.push(Step::Do(format!("DELETE FROM {} WHERE {found}", table.name))),
            1 => steps.push(Step::Do(format!("UPDATE {} SET {} = {new} WHERE {found}", table.name, set.name))),
            _ => fill(draw, std::slice::from_ref(table), steps, 4),
        }
    }
}

fn open(folder: &Path) -> Database {
    let mut config = Config::new(folder);
    config.workers = Some(2);
    config.checkpoints.interval = Some(Duration::from_millis(200));
    Database::open(config).expect("a database")
}

fn run(case: &[Step]) -> Ending {
    let folder = tempfile::tempdir().expect("a folder");
    let mut database = open(folder.path());
    let (mut views, mut refused): (Vec<(&str, &str)>, usize) = (Vec::new(), 0);
    for step in case {
        match step {
            Step::Do(sql) => {
                if let Err(error) = database.execute(sql) {
                    return Ending::Failed(format!("{sql}: {error}"));
                }
            }
            Step::View(name, sql) => {
                match database.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}")) {
                    Ok(_) => views.push((name, sql)),
                    // What cannot be kept, and what reads a view that could not.
                    Err(error) if ["0A000", "42P01"].contains(&error.sqlstate()) => refused += 1,
                    Err(error) => return Ending::Failed(format!("{name}: {error}")),
                }
            }
            Step::Restart { clean } => {
                if *clean && let Err(error) = database.shutdown() {
                    return Ending::Failed(format!("a stop: {error}"));
                }
                drop(database);
                database = open(folder.path());
            }
            Step::Compare => {
                if let Some(why) = compare(&database, &views) {
                    return Ending::Failed(why);
                }
            }
        }
    }
    Ending::Held { kept: views.len(), refused }
}

/// What is wrong with a view.
fn compare(database: &Database, views: &[(&str, &str)]) -> Option<String> {
    if let Err(error) = database.execute("FLUSH") {
        return Some(format!("FLUSH: {error}"));
    }
    views.iter().find_map(|(name, sql)| {
        let theirs = match database.query(sql) {
            Ok(rows) => rows,
            Err(error) => return Some(format!("the query of {name}: {error}")),
        };
        let ours = match database.query(&format!("SELECT * FROM {name}")) {
            Ok(rows) => rows,
            Err(error) => return Some(format!("{name}: {error}")),
        };
        match same_rows(&ours.batches, &theirs.batches) {
            Ok(None) => None,
            Ok(Some(difference)) => Some(format!("{name}: {difference}")),
            Err(error) => Some(format!("{name}: {error}")),
        }
    })
}

/// Leaves out steps as long as the case fails.
fn shrink(mut case: Vec<Step>) -> Vec<Step> {
    let mut at = case.len();
    while at > 0 {
        at -= 1;
        let mut smaller = case.clone();
        smaller.remove(at);
        let broken = |why: &str| why.contains("does not exist");
        if matches!(run(&smaller), Ending::Failed(why) if !broken(&why)) {
            case = smaller;
        }
    }
    case
}
