//! Prometheus' text format, version 0.0.4. Pure.
//!
//! Invariants: a family is told once, its samples stand together below its HELP and TYPE lines, and
//! one without samples is not told at all; whatever a label or a help holds, the text can be parsed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the values of a family mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// They only grow, until a pipeline or the process begins anew.
    Counter,
    /// They go up and down.
    Gauge,
    /// Quantiles, and how many values they are of.
    Summary,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

/// One name, with all that is measured under it.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

/// A label's name and value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// A page of metrics.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    told: BTreeSet<&'static str>,
}

/// The samples of one family.
pub(super) struct Samples<'a> {
    page: &'a mut Page,
    family: &'a Family,
    is_begun: bool,
}

impl Page {
    /// Begins a family.
    ///
    /// # Panics
    /// When it was told before, or its name is none: the table of families is wrong.
    pub(super) fn family<'a>(&'a mut self, family: &'a Family) -> Samples<'a> {
        assert!(self.told.insert(family.name), "{} is told twice", family.name);
        assert!(is_name(family.name), "{:?} is no name of a metric", family.name);
        Samples { page: self, family, is_begun: false }
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Samples<'_> {
    /// A sample.
    pub(super) fn add(&mut self, labels: &[Label<'_>], value: f64) {
        self.add_as("", labels, value);
    }

    /// How many values the quantiles are of.
    pub(super) fn add_count(&mut self, labels: &[Label<'_>], count: u64) {
        self.add_as("_count", labels, count as f64);
    }

    fn add_as(&mut self, suffix: &str, labels: &[Label<'_>], value: f64) {
        let Family { name, kind, help } = self.family;
        let text = &mut self.page.text;
        if !std::mem::replace(&mut self.is_begun, true) {
            let help = help.replace('\\', r"\\").replace('\n', r"\n");
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name()));
        }
        text.push_str(name);
        text.push_str(suffix);
        for (at, (label, value)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            text.push(open);
            write!(text, "{label}=\"{}\"", escaped(value)).expect("a string takes all text");
        }
        if !labels.is_empty() {
            text.push('}');
        }
        writeln!(text, " {}", number(value)).expect("a string takes all text");
    }
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// A value as the format wants it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(is_part)
}
