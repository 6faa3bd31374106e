//! `highwater sql`: an SQL shell that looks and feels like `psql`.
//!
//! It is a client of the wire protocol and knows nothing of the database's insides. It runs texts
//! and files, which end at the first error, or talks to a person at a terminal, where they do not.

mod commands;
mod connection;
mod errors;
mod input;
mod interrupt;
mod password;
mod print;
mod tap;
mod terminal;

use connection::{Answer, Connection, Fault, Target};
use errors::Report;
use input::{Input, Piece};
use interrupt::Interrupt;
use print::{Format, Layout, Table};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Without --command or --file, statements are read from the terminal or from standard input.
The password comes from PGPASSWORD, or is asked for.

Options mean what they mean in psql. A file or command ends at its first error.

Exit codes: 0 done, 1 a statement failed, 2 no connection.

Examples:
  highwater sql
  highwater sql -c 'SHOW MATERIALIZED VIEWS'
  highwater sql --csv -f report.sql > report.csv
  PGPASSWORD=secret highwater sql -h db.example.com -U analyst";

/// How many files may name each other with `\i`, so that one that names itself comes to an end.
const DEEPEST: usize = 32;

/// What `highwater sql` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub(crate) struct Options {
    /// The server's name or address
    #[arg(short = 'h', long, env = "PGHOST", default_value = "127.0.0.1")]
    host: String,
    /// The server's port
    #[arg(short, long, env = "PGPORT", default_value_t = 7432)]
    port: u16,
    /// The role to connect as
    #[arg(short = 'U', long, env = "PGUSER", default_value = "highwater")]
    user: String,
    /// The database to connect to
    #[arg(short, long, env = "PGDATABASE", default_value = "highwater")]
    database: String,
    /// Run statements or one backslash command, then end; may be repeated
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    command: Vec<String>,
    /// Run a file, after all --command, then end; `-` is standard input
    #[arg(short, long)]
    file: Option<String>,
    /// Print rows without names and counts
    #[arg(short, long)]
    tuples_only: bool,
    /// Print values without alignment, separated by `|`
    #[arg(short = 'A', long)]
    no_align: bool,
    /// Print results and errors only
    #[arg(short, long)]
    quiet: bool,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
    /// Print help
    #[arg(long = "help", action = clap::ArgAction::Help)]
    _help: Option<bool>,
}

/// Runs the shell: 0 when all went well, 1 when a statement failed, 2 when there is no connection.
pub(crate) fn shell(options: Options) -> u8 {
    match Session::open(&options).map(|mut session| session.run_all(&options)) {
        Ok(Step::Done | Step::Quit) => 0,
        Ok(Step::Failed) => 1,
        Ok(Step::Lost) => 2,
        Err(message) => {
            eprint!("highwater: error: {message}");
            2
        }
    }
}

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Done,
    Failed,
    /// The user wants to leave.
    Quit,
    /// There is no connection.
    Lost,
}

/// A connection and how to talk about it.
struct Session {
    connection: Rc<Connection>,
    /// Whether a person is typing.
    interactive: bool,
    layout: Layout,
    quiet: bool,
    timing: bool,
    verbose: bool,
    last_error: Option<Report>,
    last_query: Option<String>,
    /// The files that are being executed, each named by the one before it, and the lines in them.
    places: Vec<(String, usize)>,
}

impl Session {
    fn open(options: &Options) -> Result<Self, String> {
        let asked = options.command.is_empty() && options.file.is_none();
        let interactive = asked && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let target = Target {
            host: options.host.clone(),
            port: options.port,
            user: options.user.clone(),
            database: options.database.clone(),
        };
        let password = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty());
        let connection = Connection::open(target, password, Interrupt::listen(interactive))?;
        let format = match (options.csv, options.no_align) {
            (true, _) => Format::Csv,
            (false, true) => Format::Unaligned,
            (false, false) => Format::Aligned,
        };
        let layout = Layout { format, tuples_only: options.tuples_only, ..Layout::default() };
        Ok(Self {
            connection: Rc::new(connection),
            interactive,
            layout,
            quiet: options.quiet,
            timing: false,
            verbose: false,
            last_error: None,
            last_query: None,
            places: Vec::new(),
        })
    }

    /// Does what the options ask for.
    fn run_all(&mut self, options: &Options) -> Step {
        for command in &options.command {
            let step = match command.trim_start().strip_prefix('\\') {
                Some(command) => commands::run(self, command.trim_end(), &mut Input::default()),
                None => self.execute(command),
            };
            if step != Step::Done {
                return step;
            }
        }
        match options.file.as_deref() {
            Some("-") => self.script(&mut std::io::stdin().lock(), "<stdin>"),
            Some(file) => self.file(file),
            None if !options.command.is_empty() => Step::Done,
            None if !self.interactive => self.script(&mut std::io::stdin().lock(), "<stdin>"),
            None => {
                let target = self.connection.target();
                let version = env!("CARGO_PKG_VERSION");
                self.remark(&format!(
                    "highwater {version}, connected to {}:{}\nType \"help\" for help.\n",
                    target.host, target.port
                ));
                terminal::interact(self)
            }
        }
    }

    /// Executes a file; a `\q` in it ends the file.
    fn file(&mut self, path: &str) -> Step {
        match File::open(path) {
            Ok(file) => match self.script(&mut BufReader::new(file), path) {
                Step::Quit => Step::Done,
                step => step,
            },
            Err(error) => self.fail(&format!("{path}: {error}")),
        }
    }

    /// Executes lines as they come, up to the first error.
    fn script(&mut self, lines: &mut dyn BufRead, name: &str) -> Step {
        if self.places.len() == DEEPEST {
            return self.fail(&format!("{name}: more than {DEEPEST} files within each other"));
        }
        self.places.push((name.to_owned(), 0));
        let mut input = Input::default();
        let step = loop {
            let mut line = String::new();
            match lines.read_line(&mut line) {
                Ok(0) => break input.take().map_or(Step::Done, |rest| self.execute(&rest)),
                Ok(_) => input.push(&line),
                Err(error) => break self.fail(&error.to_string()),
            }
            if let Some((_, line)) = self.places.last_mut() {
                *line += 1;
            }
            let step = self.feed(&mut input, true);
            if step != Step::Done {
                break step;
            }
        };
        self.places.pop();
        step
    }

    /// Executes all complete pieces of input.
    fn feed(&mut self, input: &mut Input, stops_at_errors: bool) -> Step {
        while let Some(piece) = input.next() {
            let step = match piece {
                Piece::Statement(statement) => {
                    self.last_query = Some(statement.clone());
                    self.execute(&statement)
                }
                Piece::Command(command) => commands::run(self, &command, input),
            };
            if step == Step::Quit || (stops_at_errors && step != Step::Done) {
                return step;
            }
        }
        Step::Done
    }

    /// Executes a text of statements and prints what they give.
    fn execute(&mut self, text: &str) -> Step {
        let started = Instant::now();
        let (answers, fault) = self.run(text);
        let taken = started.elapsed();
        for answer in &answers {
            self.show(answer);
        }
        let step = fault.map_or(Step::Done, |fault| self.report(fault));
        if self.timing {
            say(&timing(taken));
        }
        step
    }

    fn run(&self, text: &str) -> (Vec<Answer>, Option<Fault>) {
        if self.interactive
            && let Err(message) = self.connection.restore()
        {
            return (Vec::new(), Some(Fault::Lost(message)));
        }
        self.connection.run(text)
    }

    fn show(&self, answer: &Answer) {
        if let Some(table) = &answer.table {
            self.print(table);
        }
        let changes = ["INSERT", "UPDATE", "DELETE", "MERGE"].iter().any(|verb| answer.tag.starts_with(verb));
        if !answer.tag.is_empty() && (answer.table.is_none() || changes) {
            self.remark(&answer.tag);
        }
    }

    fn print(&self, table: &Table) {
        say(&print::print(table, &self.layout));
    }

    /// Says something that only a person wants to know.
    fn remark(&self, text: &str) {
        if !self.quiet {
            say(&format!("{text}\n"));
        }
    }

    fn report(&mut self, fault: Fault) -> Step {
        match fault {
            Fault::Lost(message) => {
                eprint!("{message}");
                Step::Lost
            }
            Fault::Refused(report) => {
                eprint!("{}{}", self.origin(), report.render(self.verbose));
                let is_end = ["FATAL", "PANIC"].contains(&report.severity.as_str());
                self.last_error = Some(*report);
                if is_end { Step::Lost } else { Step::Failed }
            }
        }
    }

    /// Reports what went wrong on this side.
    fn fail(&self, message: &str) -> Step {
        eprintln!("{}{message}", self.origin());
        Step::Failed
    }

    /// Where in a script we are, as the start of a message.
    fn origin(&self) -> String {
        self.places.last().map_or_else(String::new, |(name, line)| format!("highwater:{name}:{line}: "))
    }

    fn prompt(&self, begins: bool) -> String {
        let transaction = match self.connection.transaction() {
            b'T' => "*",
            b'E' => "!",
            _ => "",
        };
        format!("{}{}{transaction}> ", self.connection.target().database, if begins { '=' } else { '-' })
    }
}

/// How long a statement took, as `psql` says it.
fn timing(taken: Duration) -> String {
    let (millis, seconds) = (taken.as_secs_f64() * 1000.0, taken.as_secs_f64());
    let minutes = taken.as_secs() / 60;
    let rest = seconds - (minutes * 60) as f64;
    match minutes {
        _ if seconds < 1.0 => format!("Time: {millis:.3} ms\n"),
        0..60 => format!("Time: {millis:.3} ms ({minutes:02}:{rest:06.3})\n"),
        _ => format!("Time: {millis:.3} ms ({:02}:{:02}:{rest:06.3})\n", minutes / 60, minutes % 60),
    }
}

/// Writes to standard output. When nobody reads it any more there is nothing left to do.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_like_those_of_psql() {
        assert_eq!(timing(Duration::from_micros(12_345)), "Time: 12.345 ms\n");
        assert_eq!(timing(Duration::from_millis(83_450)), "Time: 83450.000 ms (01:23.450)\n");
        assert_eq!(timing(Duration::from_secs(3_661)), "Time: 3661000.000 ms (01:01:01.000)\n");
    }
}
