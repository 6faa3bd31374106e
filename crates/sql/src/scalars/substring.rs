//! `substring(text FROM pattern)`: what a regular expression finds, and parts of bytes, in the place of DataFusion's
//! `substr`, which stays for texts and numbers.

use super::binary::is_bytes;
use super::{by_row, may_be_text, may_be_whole, refused, whole};
use crate::bounded;
use crate::types::pg_name;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use regex::Regex;
use std::sync::Arc;

/// Puts the function in the place of DataFusion's.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    let by_number = state.udf("substr")?;
    let signature = Signature::user_defined(Volatility::Immutable);
    state.register_udf(Arc::new(ScalarUDF::from(Substring { by_number, signature })))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Substring {
    by_number: Arc<ScalarUDF>,
    signature: Signature,
}

/// Whether these are the types of a text and a pattern.
fn is_by_pattern(args: &[DataType]) -> bool {
    matches!(args, [_, DataType::Utf8])
}

/// What a pattern finds first in each text, or its first part in parentheses; null when it finds nothing.
fn found(texts: &StringArray, patterns: &StringArray) -> Result<StringArray> {
    let mut last: Option<(&str, Regex)> = None;
    let mut found = StringBuilder::with_capacity(texts.len(), 0);
    for (text, pattern) in texts.iter().zip(patterns) {
        let (Some(text), Some(pattern)) = (text, pattern) else {
            found.append_null();
            continue;
        };
        let kept = match last.take().filter(|(known, _)| *known == pattern) {
            Some(kept) => kept,
            None => {
                let invalid = |error: regex::Error| refused("2201B", format!("invalid regular expression: {error}"));
                (pattern, Regex::new(pattern).map_err(invalid)?)
            }
        };
        let captures = last.insert(kept).1.captures(text);
        let part = captures.and_then(|captures| captures.get(usize::from(captures.len() > 1)));
        found.append_option(part.map(|part| part.as_str()));
    }
    Ok(found.finish())
}

/// So many bytes from a place on, which may be before the first one, or all that follow.
///
/// # Errors
/// When the number of bytes is below 0.
fn part(bytes: &[u8], from: i64, count: Option<i64>) -> Result<&[u8]> {
    if count.is_some_and(|count| count < 0) {
        return Err(negative());
    }
    let place = |at: i64| usize::try_from(at.saturating_sub(1).max(0)).map_or(bytes.len(), |at| at.min(bytes.len()));
    let end = count.map_or(bytes.len(), |count| place(from.saturating_add(count)));
    Ok(&bytes[place(from).min(end)..end])
}

fn parts(args: &[ArrayRef]) -> Result<BinaryArray> {
    let bytes = args[0].as_binary::<i32>();
    let of_row = |row| part(bytes.value(row), whole(args, 1, row), args.get(2).map(|_| whole(args, 2, row)));
    Ok(BinaryArray::from(by_row(args, of_row)?))
}

fn negative() -> DataFusionError {
    refused("22011", "negative substring length not allowed")
}

/// Whether a number of characters is below 0.
fn is_negative(count: &ColumnarValue) -> bool {
    match count {
        ColumnarValue::Scalar(ScalarValue::Int64(count)) => count.is_some_and(|count| count < 0),
        ColumnarValue::Array(counts) if *counts.data_type() == DataType::Int64 => {
            counts.as_primitive::<Int64Type>().iter().flatten().any(|count| count < 0)
        }
        _ => false,
    }
}

impl ScalarUDFImpl for Substring {
    fn name(&self) -> &str {
        self.by_number.name()
    }

    fn aliases(&self) -> &[String] {
        self.by_number.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let taken = match given {
            [text, pattern] if may_be_text(text) && may_be_text(pattern) && !pattern.is_null() => {
                vec![DataType::Utf8; 2]
            }
            [text, numbers @ ..] if (1..=2).contains(&numbers.len()) && numbers.iter().all(may_be_whole) => {
                let taken = match text {
                    bytes if is_bytes(bytes) => DataType::Binary,
                    text if may_be_text(text) => DataType::Utf8,
                    _ => return self.refused(given),
                };
                let numbers = vec![DataType::Int64; numbers.len()];
                [vec![taken], numbers].concat()
            }
            _ => return self.refused(given),
        };
        Ok(taken)
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        if is_by_pattern(args) { Ok(DataType::Utf8) } else { self.by_number.inner().return_type(args) }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let is_of_bytes = matches!(types.as_slice(), [DataType::Binary, ..]);
        if !is_by_pattern(&types) && !is_of_bytes {
            let is_short = args.args.get(2).is_some_and(is_negative);
            let made = self.by_number.inner().invoke_with_args(args);
            return made.map_err(|error| if is_short { negative() } else { error });
        }
        bounded::by_columns(self.name(), &args, |args| {
            Ok(if is_of_bytes {
                Arc::new(parts(args)?) as ArrayRef
            } else {
                Arc::new(found(args[0].as_string::<i32>(), args[1].as_string::<i32>())?)
            })
        })
    }
}

impl Substring {
    fn refused<T>(&self, given: &[DataType]) -> Result<T> {
        let given: Vec<String> = given.iter().map(pg_name).collect();
        plan_err!("function {}({}) does not exist", self.name(), given.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_gives_what_it_finds_or_its_first_part() {
        let texts = StringArray::from(vec![Some("Thomas"), Some("foobar"), Some("foobar"), Some("b"), Some("x"), None]);
        let patterns = StringArray::from(vec!["...$", "o(.)b", "zz", "(a)|(b)", "x", "x"]);
        let expected = StringArray::from(vec![Some("mas"), Some("o"), None, None, Some("x"), None]);
        assert_eq!(found(&texts, &patterns).expect("found"), expected);
        assert!(found(&texts, &StringArray::from(vec!["("; 6])).is_err());
    }

    #[test]
    fn parts_of_bytes_begin_with_the_first_one() {
        for (from, count, expected) in [
            (1, None, &b"abc"[..]),
            (2, Some(1), b"b"),
            (-1, Some(3), b"a"),
            (0, Some(1), b""),
            (3, Some(9), b"c"),
            (4, None, b""),
            (i64::MIN, Some(i64::MAX), b""),
            (1, Some(i64::MAX), b"abc"),
        ] {
            assert_eq!(part(b"abc", from, count).expect("in range"), expected, "{from}, {count:?}");
        }
        assert!(part(b"abc", 1, Some(-1)).is_err());
    }
}
