//! What people see on standard error while pipelines run: a live table on a terminal, lines
//! elsewhere. Rendering is pure; [`Screen`] alone writes.

use crate::figures;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A table that is drawn again in place.
    Table,
    /// A line for every checkpoint, and one for every pipeline now and then.
    Lines,
    /// Nothing.
    Off,
}

impl Style {
    /// The style of the setting `progress`; `auto` asks whether standard error is a terminal.
    pub(crate) fn of(setting: &str) -> Self {
        match setting {
            "table" => Self::Table,
            "lines" => Self::Lines,
            "off" => Self::Off,
            _ if std::io::stderr().is_terminal() => Self::Table,
            _ => Self::Lines,
        }
    }
}

/// One pipeline at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// Its name.
    pub(crate) pipeline: String,
    /// Its state in one word, with the reason when it has failed.
    pub(crate) status: String,
    /// Rows that its sources have given since it was started.
    pub(crate) rows: u64,
    /// Rows a second since the reading before.
    pub(crate) rate: f64,
    /// The median of its epochs' latency, in microseconds.
    pub(crate) epoch_p50: u64,
    /// Their 99th percentile.
    pub(crate) epoch_p99: u64,
    /// Keys it holds.
    pub(crate) keys: u64,
    /// Bytes of memory they take.
    pub(crate) state: u64,
    /// Checkpoints since the reading before, oldest first.
    pub(crate) checkpoints: Vec<Checkpoint>,
}

/// One checkpoint that ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    /// Its number.
    pub(crate) id: u64,
    /// Why it failed, when it did.
    pub(crate) failure: Option<String>,
    /// The longest pause of a worker, in microseconds.
    pub(crate) freeze_us: u64,
    /// From the request until it was published.
    pub(crate) duration: Duration,
    /// Keys changed since the one before.
    pub(crate) changed: u64,
    /// Bytes of the files made for it.
    pub(crate) delta: u64,
    /// Bytes that were sent to the root.
    pub(crate) uploaded: u64,
}

const HISTORY: usize = 10;

fn pipeline_line(reading: &Reading) -> String {
    format!(
        "{:<20} {:>10} {:>8} {:>9} {:>9} {:>8} {:>9}  {}",
        shortened(&reading.pipeline, 20),
        figures::rate(reading.rate),
        figures::count(reading.rows),
        figures::micros(reading.epoch_p50),
        figures::micros(reading.epoch_p99),
        figures::count(reading.keys),
        figures::bytes(reading.state),
        reading.status,
    )
}

fn checkpoint_line(pipeline: &str, checkpoint: &Checkpoint) -> String {
    let name = shortened(pipeline, 20);
    match &checkpoint.failure {
        Some(reason) => format!("{name:<20} {:>6}  FAILED: {reason}", checkpoint.id),
        None => format!(
            "{name:<20} {:>6} {:>9} {:>9} {:>8} {:>9} {:>9}",
            checkpoint.id,
            figures::micros(checkpoint.freeze_us),
            figures::duration(checkpoint.duration),
            figures::count(checkpoint.changed),
            figures::bytes(checkpoint.delta),
            figures::bytes(checkpoint.uploaded),
        ),
    }
}

fn pipeline_header() -> String {
    let columns = ("pipeline", "rows/s", "rows", "epoch p50", "p99", "keys", "state");
    format!(
        "{:<20} {:>10} {:>8} {:>9} {:>9} {:>8} {:>9}  status",
        columns.0, columns.1, columns.2, columns.3, columns.4, columns.5, columns.6
    )
}

fn checkpoint_header() -> String {
    let columns = ("checkpoint of", "no.", "freeze", "took", "changed", "delta", "uploaded");
    format!(
        "{:<20} {:>6} {:>9} {:>9} {:>8} {:>9} {:>9}",
        columns.0, columns.1, columns.2, columns.3, columns.4, columns.5, columns.6
    )
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { text.chars().take(width - 1).chain(['…']).collect() }
}

/// What has been shown so far, and how.
#[derive(Debug)]
pub(crate) struct Screen {
    style: Style,
    drawn: usize,
    history: Vec<String>,
    frames: u64,
}

impl Screen {
    /// Nothing shown yet.
    pub(crate) const fn new(style: Style) -> Self {
        Self { style, drawn: 0, history: Vec::new(), frames: 0 }
    }

    /// Shows one reading of all pipelines; `title` stands above the table.
    pub(crate) fn show(&mut self, title: &str, readings: &[Reading]) {
        let text = match self.style {
            Style::Off => return,
            Style::Table => self.frame(title, readings, width()),
            Style::Lines => self.lines(title, readings),
        };
        self.frames += 1;
        // A terminal that went away does not stop the pipelines.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Whether a live table occupies the terminal.
    pub(crate) fn is_table(&self) -> bool {
        self.style == Style::Table
    }

    /// Leaves what is drawn as it is; later output begins below it.
    pub(crate) const fn leave(&mut self) {
        self.drawn = 0;
    }

    /// The next frame, with the movements that put it over the last one.
    fn frame(&mut self, title: &str, readings: &[Reading], width: usize) -> String {
        for reading in readings {
            let lines = reading.checkpoints.iter().map(|checkpoint| checkpoint_line(&reading.pipeline, checkpoint));
            self.history.extend(lines);
        }
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
        let mut lines = vec![title.to_owned(), String::new(), pipeline_header()];
        lines.extend(readings.iter().map(pipeline_line));
        lines.extend([String::new(), checkpoint_header()]);
        lines.extend(self.history.iter().cloned());
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        for line in &lines {
            text += &format!("\x1b[2K{}\n", shortened(line, width));
        }
        text += "\x1b[J";
        self.drawn = lines.len();
        text
    }

    /// New checkpoints, and every fifth time the pipelines.
    fn lines(&self, title: &str, readings: &[Reading]) -> String {
        let mut text = String::new();
        for reading in readings {
            for checkpoint in &reading.checkpoints {
                if text.is_empty() {
                    text += &format!("{}\n", checkpoint_header());
                }
                text += &format!("{}\n", checkpoint_line(&reading.pipeline, checkpoint));
            }
        }
        if self.frames.is_multiple_of(5) {
            text += &format!("{title}\n{}\n", pipeline_header());
            text.extend(readings.iter().map(|reading| pipeline_line(reading) + "\n"));
        }
        text
    }
}

/// The columns of the terminal at standard error.
fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr())
        .map_or(100, |size| if size.ws_col == 0 { 100 } else { usize::from(size.ws_col) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        let checkpoint = Checkpoint {
            id: 12,
            freeze_us: 141,
            duration: Duration::from_millis(190),
            changed: 1_200_000,
            delta: 29 << 20,
            uploaded: 30 << 20,
            failure: None,
        };
        let failed = Checkpoint { id: 13, failure: Some("no space".to_owned()), ..Checkpoint::default() };
        Reading {
            pipeline: "bids".to_owned(),
            status: "running".to_owned(),
            rate: 12_345_678.0,
            rows: 99,
            epoch_p50: 900,
            epoch_p99: 2_100,
            keys: 10,
            state: 3 << 20,
            checkpoints: vec![checkpoint, failed],
        }
    }

    #[test]
    fn a_frame_covers_the_one_before() {
        let mut screen = Screen::new(Style::Table);
        let first = screen.frame("title", &[reading()], 100);
        assert!(!first.contains("\x1b[8A") && first.contains("12.3 M/s") && first.contains("141 µs"), "{first}");
        assert!(first.contains("13  FAILED: no space"), "{first}");
        let lines = first.matches('\n').count();
        let second = screen.frame("title", &[Reading { checkpoints: Vec::new(), ..reading() }], 40);
        assert!(second.starts_with(&format!("\x1b[{lines}A")), "{second:?}");
        assert!(second.contains("FAILED"), "history stays: {second}");
        let shown = second.split("\x1b[2K").skip(1).map(|line| line.trim_end_matches("\x1b[J").trim_end_matches('\n'));
        assert!(shown.clone().all(|line| line.chars().count() <= 40), "{second}");
    }

    #[test]
    fn history_is_bounded() {
        let mut screen = Screen::new(Style::Table);
        for _ in 0..30 {
            screen.frame("", &[reading()], 100);
        }
        assert_eq!(screen.history.len(), HISTORY);
    }

    #[test]
    fn lines_tell_every_checkpoint() {
        let screen = Screen { frames: 1, ..Screen::new(Style::Lines) };
        let text = screen.lines("title", &[reading()]);
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains("title"));
    }
}
