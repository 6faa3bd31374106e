//! The file formats, and how a statement says which.

use crate::options::{Kind, OptionSpec, Settings};
use highwater_engine::{Error, Result};

/// How rows are encoded in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Comma-separated values, RFC 4180.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// The option that says which, for those who do not write FORMAT PLAIN ENCODE.
pub(crate) const FORMAT_OPTION: OptionSpec = OptionSpec::new(
    "format",
    Kind::Choice(&["json", "csv", "parquet"]),
    "The format, unless FORMAT PLAIN ENCODE says it, or of a source the ending of path.",
);

impl Format {
    /// The name in FORMAT PLAIN ENCODE, whatever its case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Json, Self::Csv, Self::Parquet].into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Parquet => "PARQUET",
        }
    }

    /// The endings of file names in this format; the first is the one that sinks give.
    #[must_use]
    pub const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["ndjson", "jsonl", "json"],
            Self::Csv => &["csv"],
            Self::Parquet => &["parquet"],
        }
    }

    /// That of the clause, or the option, or the path's ending.
    pub(crate) fn choose(clause: Option<Self>, settings: &Settings, path: &str) -> Result<Self> {
        let option = settings.text("format").and_then(Self::named);
        if let (Some(clause), Some(option)) = (clause, option)
            && clause != option
        {
            let why = format!("but the statement says ENCODE {}", clause.name());
            return Err(settings.refuse("format", &option.name().to_lowercase(), &why));
        }
        let (_, ending) = path.rsplit_once('.').unwrap_or_default();
        let ending = ending.to_ascii_lowercase();
        let by_ending = [Self::Json, Self::Csv, Self::Parquet].into_iter();
        let by_ending = by_ending.into_iter().find(|format| format.extensions().contains(&ending.as_str()));
        clause.or(option).or(by_ending).ok_or_else(|| {
            let of = if path.is_empty() { String::new() } else { format!(" of '{path}'") };
            Error::Plan(format!("the format{of} is not known: add FORMAT PLAIN ENCODE JSON, CSV or PARQUET"))
        })
    }
}
