//! Texts in the quotes that they need in a statement: as names and as literals.

use super::{Scalar, by_row, may_be_text, texts};
use crate::printed;
use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use std::borrow::Cow;
use std::sync::Arc;

/// PostgreSQL's words that are no names without quotes, in order.
static WORDS: [&str; 164] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "merge_action",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

pub(super) static ALL: [Scalar; 3] = [
    Scalar {
        name: "quote_ident",
        takes: |given| texts(given, 1),
        gives: |_| DataType::Utf8,
        is_strict: true,
        compute: |args| {
            let texts = args[0].as_string::<i32>();
            let quoted = by_row(args, |row| Ok(identifier(texts.value(row))))?;
            Ok(Arc::new(quoted.into_iter().collect::<StringArray>()))
        },
    },
    Scalar {
        name: "quote_literal",
        takes: one_value,
        gives: |_| DataType::Utf8,
        is_strict: true,
        compute: |args| literals(&args[0], None),
    },
    Scalar {
        name: "quote_nullable",
        takes: one_value,
        gives: |_| DataType::Utf8,
        is_strict: false,
        compute: |args| literals(&args[0], Some("NULL")),
    },
];

fn one_value(given: &[DataType]) -> Option<Vec<DataType>> {
    match given {
        [of] if may_be_text(of) => Some(vec![DataType::Utf8]),
        [of] => Some(vec![of.clone()]),
        _ => None,
    }
}

/// Values as literals, as a cast to text writes them.
fn literals(values: &ArrayRef, null: Option<&str>) -> Result<ArrayRef> {
    let texts: StringArray = match values.as_boolean_opt() {
        Some(values) => values.iter().map(|value| value.map(|value| if value { "true" } else { "false" })).collect(),
        None => printed::texts(values, None)?.as_string::<i32>().clone(),
    };
    let quoted = |text: Option<&str>| match text {
        Some(text) => Some(literal(text)),
        None => null.map(str::to_owned),
    };
    Ok(Arc::new(texts.iter().map(quoted).collect::<StringArray>()))
}

/// A name, in quotes where it is no name without.
pub(super) fn identifier(name: &str) -> Cow<'_, str> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if starts && name.chars().all(is_plain) && WORDS.binary_search(&name).is_err() {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A text as a literal; one with backslashes says that they are escapes.
pub(super) fn literal(text: &str) -> String {
    let start = if text.contains('\\') { "E" } else { "" };
    format!("{start}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::BooleanArray;

    #[test]
    fn names_are_quoted_where_they_need_it() {
        assert!(WORDS.is_sorted());
        for (name, quoted) in [
            ("foo_1", "foo_1"),
            ("Foo", "\"Foo\""),
            ("a b", "\"a b\""),
            ("select", "\"select\""),
            ("1a", "\"1a\""),
            ("", "\"\""),
            ("a\"b", "\"a\"\"b\""),
        ] {
            assert_eq!(identifier(name), quoted, "{name}");
        }
    }

    #[test]
    fn values_are_literals() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), "E'a\\\\b'");
        let values: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
        let quoted = literals(&values, Some("NULL")).expect("quoted");
        assert_eq!(quoted.as_string::<i32>(), &StringArray::from(vec!["'true'", "NULL"]));
    }
}
