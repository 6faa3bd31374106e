//! Backslash commands: what each is called, what it does, its line of help.

use super::input::Input;
use super::print::{Column, Table};
use super::{Session, Step, say};
use std::time::{Duration, SystemTime};

/// The commands with their arguments and what they do.
const HELP: [(&str, &str); 18] = [
    ("\\q", "leave"),
    ("\\?", "this list"),
    ("\\h", "the statements"),
    ("\\d", "list tables, sources, views, materialized views and sinks"),
    ("\\d NAME", "describe one of them"),
    ("\\dt", "list tables"),
    ("\\ds", "list sources"),
    ("\\dv", "list views"),
    ("\\dm", "list materialized views"),
    ("\\di", "list indexes"),
    ("\\i FILE", "execute a file"),
    ("\\watch [SECONDS]", "execute the query again every 2 or so many seconds, until Ctrl-C"),
    ("\\x [on|off]", "expanded output"),
    ("\\timing [on|off]", "how long statements take"),
    ("\\pset null TEXT", "what NULL looks like"),
    ("\\set VERBOSITY verbose", "errors with SQLSTATE and origin, or `default`"),
    ("\\errverbose", "the last error with SQLSTATE and origin"),
    ("\\conninfo  \\echo TEXT", "where this shell is connected to; print a text"),
];

/// The statements, shortly; the documentation has them in full.
const STATEMENTS: &str = "\
CREATE TABLE | SOURCE | VIEW | MATERIALIZED VIEW | INDEX | SINK | SUBSCRIPTION
CREATE [OR REPLACE] FUNCTION NAME (ARGUMENT TYPE, ...) RETURNS TYPE RETURN EXPRESSION
DROP TABLE | SOURCE | VIEW | MATERIALIZED VIEW | INDEX | SINK | SUBSCRIPTION [IF EXISTS] NAME [CASCADE]
DROP FUNCTION [IF EXISTS] NAME [(TYPE, ...)] [CASCADE]
ALTER KIND NAME RENAME TO NAME; ALTER TABLE NAME ADD COLUMN COLUMN TYPE
ALTER MATERIALIZED VIEW | SINK NAME SET (OPTION = VALUE, ...)
SELECT, VALUES, WITH, TABLE; EXPLAIN QUERY; EXPLAIN CREATE MATERIALIZED VIEW | SINK | INDEX
INSERT, UPDATE, DELETE, COPY; BEGIN, COMMIT, ROLLBACK, SAVEPOINT, RELEASE
PREPARE, EXECUTE, DEALLOCATE; DECLARE, FETCH, MOVE, CLOSE
SHOW TABLES | SOURCES | VIEWS | MATERIALIZED VIEWS | SINKS | SUBSCRIPTIONS | FUNCTIONS | JOBS
SHOW INDEXES [FROM NAME]; SHOW CHECKPOINTS [FOR VIEW]; SHOW [SUBSCRIPTION] CURSORS
SHOW CREATE KIND NAME; DESCRIBE NAME
CHECKPOINT [VIEW] [WAIT]; FLUSH; SET SETTING TO VALUE; SHOW SETTING; SHOW ALL
";

/// What there are kinds of, and what shows them.
pub(crate) const KINDS: [(&str, &str); 5] = [
    ("table", "SHOW TABLES"),
    ("source", "SHOW SOURCES"),
    ("view", "SHOW VIEWS"),
    ("materialized view", "SHOW MATERIALIZED VIEWS"),
    ("sink", "SHOW SINKS"),
];

/// Does a command; `input` holds what was typed before it.
pub(crate) fn run(session: &mut Session, command: &str, input: &mut Input) -> Step {
    let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let argument = argument.trim();
    let words = words(argument);
    match name {
        "q" => return Step::Quit,
        "?" => HELP.iter().for_each(|(command, help)| say(&format!("  {command:<24} {help}\n"))),
        "h" => say(STATEMENTS),
        "d" if argument.is_empty() => return list(session),
        "d" => return session.execute(&format!("DESCRIBE {}", argument.trim_end_matches(';'))),
        "dt" => return session.execute("SHOW TABLES"),
        "ds" => return session.execute("SHOW SOURCES"),
        "dv" => return session.execute("SHOW VIEWS"),
        "dm" => return session.execute("SHOW MATERIALIZED VIEWS"),
        "di" => return session.execute("SHOW INDEXES"),
        "i" => match words.as_slice() {
            [file] => return session.file(file),
            _ => return session.fail("\\i: missing required argument"),
        },
        "watch" => return watch(session, &words, input),
        "x" => return switch(session, &words, |session| &mut session.layout.expanded, "Expanded display"),
        "timing" => return switch(session, &words, |session| &mut session.timing, "Timing"),
        "echo" => say(&format!("{}\n", words.join(" "))),
        "conninfo" => {
            let target = session.connection.target();
            say(&format!(
                "You are connected to database \"{}\" as user \"{}\" on host \"{}\" at port \"{}\".\n",
                target.database, target.user, target.host, target.port
            ));
        }
        "errverbose" => match &session.last_error {
            Some(report) => say(&report.render(true)),
            None => say("There is no previous error.\n"),
        },
        "pset" | "set" => return set(session, name, &words),
        _ => return session.fail(&format!("invalid command \\{name}. Try \\? for help.")),
    }
    Step::Done
}

/// Arguments: words, and whatever stands in single quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(|c: char| c.is_whitespace() || c == '\'').unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// Turns something on or off, or round.
fn switch(session: &mut Session, words: &[String], of: fn(&mut Session) -> &mut bool, what: &str) -> Step {
    let current = of(session);
    *current = match words.first().map(String::as_str) {
        None => !*current,
        Some("on") => true,
        Some("off") => false,
        Some(other) => return session.fail(&format!("unrecognized value \"{other}\": on or off expected")),
    };
    let state = if *of(session) { "on" } else { "off" };
    session.remark(&format!("{what} is {state}."));
    Step::Done
}

fn set(session: &mut Session, command: &str, words: &[String]) -> Step {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (command, words.as_slice()) {
        ("pset", ["null", text @ ..]) => {
            session.layout.null = text.join(" ");
            session.remark(&format!("Null display is \"{}\".", session.layout.null));
        }
        ("set", ["VERBOSITY", level @ ("verbose" | "default")]) => session.verbose = *level == "verbose",
        ("pset", _) => return session.fail("\\pset: `null TEXT` is what can be set"),
        _ => return session.fail("\\set: `VERBOSITY verbose` and `VERBOSITY default` are what can be set"),
    }
    Step::Done
}

/// All relations with their kinds.
fn list(session: &mut Session) -> Step {
    let columns = ["Name", "Type"].map(|name| Column::new(name, 0)).to_vec();
    let mut table = Table { columns, rows: Vec::new() };
    for (kind, statement) in KINDS {
        let (answers, fault) = session.run(statement);
        if let Some(fault) = fault {
            return session.report(fault);
        }
        for row in answers.into_iter().filter_map(|answer| answer.table).flat_map(|table| table.rows) {
            table.rows.push(vec![row.into_iter().next().flatten(), Some(kind.to_owned())]);
        }
    }
    if table.rows.is_empty() {
        return session.fail("Did not find any relations.");
    }
    table.rows.sort();
    session.print(&table);
    Step::Done
}

/// Executes what was typed, or else the last query, again and again.
fn watch(session: &mut Session, words: &[String], input: &mut Input) -> Step {
    let seconds = words.first().map_or(Ok(2.0), |word| word.parse::<f64>());
    let time = seconds.ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let Some(time) = time else { return session.fail("\\watch: a number of seconds is expected") };
    let Some(query) = input.take().or_else(|| session.last_query.clone()) else {
        return session.fail("\\watch cannot be used with an empty query");
    };
    loop {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let (hour, minute, second) = (now / 3600 % 24, now / 60 % 60, now % 60);
        say(&format!("{hour:02}:{minute:02}:{second:02} UTC (every {}s)\n\n", time.as_secs_f64()));
        let step = session.execute(&query);
        if step != Step::Done {
            return step;
        }
        if session.connection.pause(time) {
            say("\n");
            return Step::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_words_and_quoted_texts() {
        assert_eq!(words(" null  '(no value)' x"), ["null", "(no value)", "x"]);
        assert_eq!(words("''"), [""]);
        assert!(words("").is_empty());
    }
}
