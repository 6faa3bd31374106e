//! The text of JSON values in the normal form of PostgreSQL's `jsonb`: reading any JSON into it, and
//! finding, comparing and changing parts of it without a tree.
//!
//! The normal form has an object's keys once each (the last one given counts), the shorter ones
//! first and those of one length by their bytes; one space after `:` and `,` and no other; numbers
//! with all their digits and without an exponent; and only the escapes in strings that JSON demands.
//! So values are equal if their texts are, but for numbers that have different zeros at their end.
//! All functions that take a value take one in normal form. It knows no SQL and no columns.

mod change;
mod jsonpath;
mod number;
mod path;
mod read;
mod walk;

pub use change::{array_of, joined, object_of, without_item, without_keys};
pub use jsonpath::Jsonpath;
pub use number::{decimal, is_number};
pub use path::{Change, Unchangeable, changed, pretty, without_nulls};
pub use read::{DEEPEST, normal, normal_into};
pub use walk::{contains, elements, exists, get, item, members, path, quoted, text_of, write_string};

/// Why a text is no JSON, in PostgreSQL's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The class of the error.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: &'static str,
    /// PostgreSQL's DETAIL.
    pub detail: Option<String>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

impl Kind {
    /// What a value is, by how it begins.
    #[must_use]
    pub fn of(value: &str) -> Self {
        match value.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }

    /// As `jsonb_typeof` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
        }
    }

    /// Whether it has parts.
    #[must_use]
    pub const fn has_parts(self) -> bool {
        matches!(self, Self::Object | Self::Array)
    }
}

#[cfg(test)]
mod tests;
