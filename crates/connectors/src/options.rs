//! The options of a WITH clause, and each connector's options as data.
//!
//! A connector declares a table of [`OptionSpec`]s; documentation and the check of a statement both
//! read that table, so they cannot drift apart. It knows no connector.
//! Invariant: [`Settings`] holds a value of the declared kind for every option that was given or has
//! a default; an option that is not declared never gets past [`Settings::read`].

use crate::duration;
use highwater_engine::{Error, Result};
use std::time::Duration;

/// The options of a WITH clause in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    entries: Vec<(String, String)>,
}

impl Options {
    /// Names and values as written.
    ///
    /// # Errors
    /// `Plan` when a name is given twice.
    pub fn new(entries: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut kept: Vec<(String, String)> = Vec::new();
        for (name, value) in entries {
            if kept.iter().any(|(other, _)| *other == name) {
                return Err(Error::Plan(format!("option '{name}' is given twice")));
            }
            kept.push((name, value));
        }
        Ok(Self { entries: kept })
    }

    /// The value of an option, if it was given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// All names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What an option's value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number within bounds; `_` may group digits.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A finite number.
    Number,
    /// true or false (also on/off, yes/no, 1/0).
    Boolean,
    /// Numbers with units, such as `5s`, `100ms` or `2h 30min`.
    Duration,
    /// One of these words, whatever their case.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// A whole number of at least 1.
    pub const COUNT: Self = Self::Integer { min: 1, max: i64::MAX };

    /// In words, for help and messages.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Integer { min: i64::MIN, max: i64::MAX } => "integer".into(),
            Self::Integer { min, max: i64::MAX } => format!("integer ≥ {min}"),
            Self::Integer { min, max } => format!("integer from {min} to {max}"),
            Self::Number => "number".into(),
            Self::Boolean => "boolean".into(),
            Self::Duration => "duration".into(),
            Self::Choice(words) => words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" or "),
        }
    }

    fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::Text(text.to_owned())),
            Self::Integer { min, max } => {
                let number: i64 = text.trim().replace('_', "").parse().ok()?;
                (min..=max).contains(&number).then_some(Value::Integer(number))
            }
            Self::Number => {
                let number: f64 = text.trim().replace('_', "").parse().ok()?;
                number.is_finite().then_some(Value::Number(number))
            }
            Self::Boolean => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "t" | "on" | "yes" | "1" => Some(Value::Boolean(true)),
                "false" | "f" | "off" | "no" | "0" => Some(Value::Boolean(false)),
                _ => None,
            },
            Self::Duration => duration::parse(text).map(Value::Duration),
            Self::Choice(words) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(text.trim()))?;
                Some(Value::Text((*word).to_owned()))
            }
        }
    }
}

/// One option that a connector takes. `<column>` in the name stands for any column's name.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Its name in the WITH clause.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// The value when it is not given, as it would be written.
    pub default: Option<&'static str>,
    /// Whether it must be given.
    pub required: bool,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

impl OptionSpec {
    /// An option that need not be given and has no default.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, default: None, required: false, doc }
    }

    /// The same with a default, as it would be written.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The same, to be given always.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    fn matches(&self, name: &str) -> bool {
        match self.name.split_once("<column>") {
            None => self.name == name,
            Some((before, after)) => {
                name.len() > before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Duration(Duration),
}

/// Refuses declarations of options that contradict themselves.
pub(crate) fn check_specs(connector: &str, specs: &[OptionSpec]) -> Result<()> {
    let refuse = |spec: &OptionSpec, why: &str| {
        Err(Error::Plan(format!("connector '{connector}' declares the option '{}' {why}", spec.name)))
    };
    for (at, spec) in specs.iter().enumerate() {
        if specs[..at].iter().any(|other| other.name == spec.name) {
            return refuse(spec, "twice");
        }
        if spec.name == "connector" {
            return refuse(spec, "which all connectors have");
        }
        if spec.required && spec.default.is_some() {
            return refuse(spec, "as required and with a default");
        }
        if spec.default.is_some_and(|default| spec.kind.parse(default).is_none()) {
            return refuse(spec, &format!("with a default that is not of its kind: {}", spec.kind.describe()));
        }
    }
    Ok(())
}

/// The options of one statement, checked against what its connector declares.
///
/// Asking for an option as another kind than it was declared as panics.
#[derive(Clone, Debug)]
pub struct Settings {
    connector: String,
    values: Vec<(String, Value)>,
}

impl Settings {
    /// Checks every option that was given and fills in defaults. `connector` itself is passed over.
    pub(crate) fn read(connector: &str, specs: &[OptionSpec], options: &Options) -> Result<Self> {
        let mut settings = Self { connector: connector.to_owned(), values: Vec::new() };
        for (name, text) in options.iter().filter(|(name, _)| *name != "connector") {
            let spec = specs.iter().find(|spec| spec.matches(name)).ok_or_else(|| unknown(connector, specs, name))?;
            let value = spec
                .kind
                .parse(text)
                .ok_or_else(|| settings.refuse(name, text, &format!("expected {}", spec.kind.describe())))?;
            settings.values.push((name.to_owned(), value));
        }
        for spec in specs {
            if settings.value(spec.name).is_some() {
                continue;
            }
            if spec.required {
                return Err(Error::Plan(format!(
                    "connector '{connector}' needs the option '{}': {}",
                    spec.name, spec.doc
                )));
            }
            if let Some(default) = spec.default.filter(|_| !spec.name.contains("<column>")) {
                let value = spec.kind.parse(default).expect("declarations are checked before they are used");
                settings.values.push((spec.name.to_owned(), value));
            }
        }
        Ok(settings)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// A text, or the word of a choice as it was declared; none when neither given nor defaulted.
    ///
    /// # Panics
    /// When it is declared as another kind.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => panic!("option '{name}' is not declared as text"),
        }
    }

    /// A whole number; none when neither given nor defaulted.
    ///
    /// # Panics
    /// When it is declared as another kind.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Integer(number) => Some(*number),
            _ => panic!("option '{name}' is not declared as an integer"),
        }
    }

    /// A whole number whose declared bounds exclude negative ones; none when neither given nor
    /// defaulted.
    ///
    /// # Panics
    /// When it is declared as another kind, or negative ones are not excluded.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        self.integer(name).map(|number| u64::try_from(number).expect("declared as not negative"))
    }

    /// A number; none when neither given nor defaulted.
    ///
    /// # Panics
    /// When it is declared as another kind.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.value(name)? {
            Value::Number(number) => Some(*number),
            _ => panic!("option '{name}' is not declared as a number"),
        }
    }

    /// A boolean; false when neither given nor defaulted.
    ///
    /// # Panics
    /// When it is declared as another kind.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Boolean(flag)) => *flag,
            None => false,
            Some(_) => panic!("option '{name}' is not declared as a boolean"),
        }
    }

    /// A duration; none when neither given nor defaulted.
    ///
    /// # Panics
    /// When it is declared as another kind.
    #[must_use]
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.value(name)? {
            Value::Duration(duration) => Some(*duration),
            _ => panic!("option '{name}' is not declared as a duration"),
        }
    }

    /// The names of all options that were given or have defaults.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str())
    }

    /// The error about a value that is of the declared kind and will not do: `Plan`.
    #[must_use]
    pub fn refuse(&self, name: &str, value: &str, why: &str) -> Error {
        Error::Plan(format!("option '{name}' of connector '{}' is '{value}': {why}", self.connector))
    }
}

fn unknown(connector: &str, specs: &[OptionSpec], name: &str) -> Error {
    let hint = match nearest(name, specs.iter().map(|spec| spec.name)) {
        Some(known) => format!("did you mean '{known}'?"),
        None if specs.is_empty() => "it takes none".to_owned(),
        None => format!("it takes {}", specs.iter().map(|s| format!("'{}'", s.name)).collect::<Vec<_>>().join(", ")),
    };
    Error::Plan(format!("option '{name}' is not one of connector '{connector}': {hint}"))
}

/// The candidate that is the fewest edits away, unless that is more than a third of the word.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, by rows.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec::new("rows.per.second", Kind::Integer { min: 0, max: i64::MAX }, "Rows.").or("0"),
        OptionSpec::new("fields.<column>.kind", Kind::Choice(&["random", "sequence"]), "Kind.").or("random"),
        OptionSpec::new("wait", Kind::Duration, "Wait."),
        OptionSpec::new("watch", Kind::Boolean, "Watch.").or("true"),
    ];

    fn read(entries: &[(&str, &str)]) -> Result<Settings> {
        let entries = entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read("test", SPECS, &Options::new(entries)?)
    }

    fn message(entries: &[(&str, &str)]) -> String {
        read(entries).expect_err("refused").to_string()
    }

    #[test]
    fn values_are_read_as_declared() {
        let settings = read(&[
            ("connector", "test"),
            ("rows.per.second", "10_000"),
            ("fields.a.kind", "SEQUENCE"),
            ("wait", "1s 5ms"),
            ("watch", "off"),
        ])
        .expect("accepted");
        assert_eq!(settings.integer("rows.per.second"), Some(10_000));
        assert_eq!(settings.text("fields.a.kind"), Some("sequence"));
        assert_eq!(settings.duration("wait"), Some(Duration::from_millis(1005)));
        assert!(!settings.flag("watch"));
        let defaults = read(&[]).expect("accepted");
        assert_eq!(defaults.integer("rows.per.second"), Some(0));
        assert!(defaults.flag("watch"));
        assert_eq!(defaults.duration("wait"), None);
    }

    #[test]
    fn a_misspelt_option_names_the_nearest() {
        assert!(message(&[("rows.per.secnd", "1")]).ends_with("did you mean 'rows.per.second'?"));
        assert!(message(&[("colour", "red")]).contains("it takes 'rows.per.second', "));
    }

    #[test]
    fn a_bad_value_names_option_and_value() {
        assert_eq!(
            message(&[("rows.per.second", "-1")]),
            "option 'rows.per.second' of connector 'test' is '-1': expected integer ≥ 0"
        );
        assert!(message(&[("fields.a.kind", "best")]).ends_with("expected 'random' or 'sequence'"));
        assert!(Options::new([("a".into(), "1".into()), ("a".into(), "2".into())]).is_err());
    }
}
