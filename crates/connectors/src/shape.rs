//! What an item of a source or sink stands for, and which columns a source adds to those of its rows.
//!
//! The columns that a source gives are those of its rows, then the included ones, then [`DELETED`] where
//! the envelope has deletes, then [`ERROR_COLUMNS`] where rows that could not be read are kept.

/// What an item stands for: FORMAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Envelope {
    /// A row.
    #[default]
    Plain,
    /// A key and its row, or a key without one.
    Upsert,
    /// A change as Debezium writes it.
    Debezium,
}

impl Envelope {
    /// Its name in FORMAT.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Upsert => "UPSERT",
            Self::Debezium => "DEBEZIUM",
        }
    }
}

/// What a source knows of a row beside its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// The key that came with it, as text.
    Key,
    /// The file that it stands in.
    File,
    /// Where it stands in there.
    Offset,
}

/// A column of INCLUDE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// What it holds.
    pub what: Metadata,
    /// Its name.
    pub name: String,
}

/// What a statement says of its rows beside their columns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape<'a> {
    /// FORMAT.
    pub envelope: Envelope,
    /// The columns of the primary key: rows with the same one replace each other in the order in which
    /// they come. Empty when rows are only ever added.
    pub key: &'a [String],
    /// INCLUDE; each column is text.
    pub included: &'a [Included],
}

/// A boolean column of a source: true where the row's key is deleted, and only that is set.
pub const DELETED: &str = "__deleted";

/// The columns of a row that could not be read: a number that comes again after [`ERRORS_KEPT`] rows,
/// the split, the offset, the time of reading, the text (its first bytes) and the reason. The last one
/// is null where the row could be read; all others of the source are null where it could not.
pub const ERROR_COLUMNS: [&str; 6] =
    ["__error_slot", "__error_split", "__error_offset", "__error_at", "__error_raw", "__error_reason"];

/// How many of a split's rows that could not be read are kept, the newest ones.
pub const ERRORS_KEPT: u64 = 10_000;
