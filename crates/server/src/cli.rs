//! The command line: which commands there are, their arguments, help and examples.

use crate::exit::{self, Exit, Failure, Outcome};
use crate::settings::{Flags, Settings};
use crate::{bench, checkpoints, demo, run, serve, shell, table, users};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  highwater serve --data /var/lib/highwater
  highwater run views.sql --data /var/lib/highwater
  highwater sql -c 'SHOW JOBS'
  highwater demo --kill --minutes 3
  highwater checkpoints list s3://bucket/highwater";

/// A streaming SQL database: materialized views that are always current, with checkpoints that nobody notices
#[derive(Debug, Parser)]
#[command(name = "highwater", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve PostgreSQL's clients, keeping all views current until a stop is asked for
    Serve(serve::Arguments),
    /// Talk to a server: statements at a prompt, from a file or from the command line
    Sql(shell::Options),
    /// Execute a script and keep its views current until input ends or Ctrl-C
    Run(run::Arguments),
    /// Watch four live views over a stream of auctions being checkpointed
    Demo(demo::Arguments),
    /// Look after the checkpoints of a root, without a server
    Checkpoints(checkpoints::Arguments),
    /// Look after the users of a server
    Users(users::Arguments),
    /// Measure a workload and print one JSON line
    Bench(bench::Arguments),
    /// Print the settings in effect and where each comes from
    #[command(after_help = "Examples:\n  highwater settings\n  HIGHWATER_WORKERS=4 highwater settings")]
    Settings(ShowSettings),
}

#[derive(Debug, clap::Args)]
struct ShowSettings {
    #[command(flatten)]
    flags: Flags,
}

/// Parses the command line and does what it says; gives the exit code.
///
/// # Errors
/// What the command gives; wrong usage ends the process with clap's message and code 2.
pub(crate) fn main() -> Result<u8, Failure> {
    let command = Cli::command().after_help(format!("{EXAMPLES}\n\n{}", exit::help()));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let done = match cli.command {
        Command::Sql(options) => return Ok(shell::shell(options)),
        Command::Serve(arguments) => serve::main(arguments),
        Command::Users(arguments) => users::main(arguments),
        Command::Run(arguments) => run::main(arguments),
        Command::Demo(arguments) => demo::main(arguments),
        Command::Checkpoints(arguments) => checkpoints::main(arguments),
        Command::Bench(arguments) => bench::main(arguments),
        Command::Settings(arguments) => show_settings(&arguments.flags),
    };
    done.map(Exit::code)
}

fn show_settings(flags: &Flags) -> Outcome {
    let settings = Settings::load(flags)?;
    let rows: Vec<Vec<String>> =
        settings.effective().into_iter().map(|(key, value, origin)| vec![key.to_owned(), value, origin]).collect();
    exit::print(&table::aligned(&["setting", "value", "origin"].map(str::to_owned), &[false; 3], &rows))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("highwater "), "{} has no example", command.get_name());
        }
    }
}
