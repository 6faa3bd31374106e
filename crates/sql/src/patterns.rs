//! `SIMILAR TO`, and `LIKE` with an escape of its own, in terms of what DataFusion has: regular expressions, and
//! `LIKE` with backslashes. `respell` calls the functions that translate the patterns.

use crate::error::DataError;
use crate::scalars::check_regex;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// The names of the functions: of a pattern and its escape, which is one character or none.
pub(crate) const SIMILAR: &str = "similar_pattern";
pub(crate) const LIKE: &str = "like_pattern";

/// Makes the functions known.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for name in [SIMILAR, LIKE] {
        let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
        state.register_udf(Arc::new(ScalarUDF::from(Translated { name, signature })))?;
    }
    Ok(())
}

fn refused(sqlstate: &'static str, message: &str) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate, message: message.to_owned() }))
}

fn escape_of(escape: &str) -> Result<Option<char>> {
    let mut characters = escape.chars();
    match (characters.next(), characters.next()) {
        (one, None) => Ok(one),
        _ => Err(refused("22025", "invalid escape string")),
    }
}

/// A pattern of LIKE whose escape is a backslash.
fn like(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut made = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        let escaped = if Some(c) == escape {
            Some(characters.next().ok_or_else(|| refused("22025", "LIKE pattern must not end with escape character"))?)
        } else {
            None
        };
        let meant = escaped.unwrap_or(c);
        if meant == '\\' || escaped.is_some() && matches!(meant, '%' | '_') {
            made.push('\\');
        }
        made.push(meant);
    }
    Ok(made)
}

/// A pattern of SIMILAR TO as a regular expression.
fn similar(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut made = String::from("^(?s:");
    let mut is_in_class = false;
    let mut characters = pattern.chars().peekable();
    while let Some(c) = characters.next() {
        if Some(c) == escape {
            match characters.next() {
                Some('"') => {
                    return Err(refused("0A000", "parts between escaped quotes in SIMILAR TO are not supported"));
                }
                Some(escaped) => {
                    if escaped.is_ascii() {
                        made.push('\\');
                    }
                    made.push(escaped);
                }
                None => made.push_str("\\\\"),
            }
        } else if is_in_class {
            let is_nested = c == '[' && characters.peek() != Some(&':');
            if is_nested || matches!(c, '\\' | '&' | '~') {
                made.push('\\');
            }
            made.push(c);
            is_in_class = c != ']';
        } else {
            match c {
                '%' => made.push_str(".*"),
                '_' => made.push('.'),
                '(' => made.push_str("(?:"),
                '\\' | '.' | '^' | '$' => made.extend(['\\', c]),
                c => {
                    is_in_class = c == '[';
                    made.push(c);
                }
            }
        }
    }
    made.push_str(")$");
    Ok(made)
}

/// Refuses a pattern of LIKE, with its escape, that nothing is compared with.
///
/// # Errors
/// That of the first comparison.
pub(crate) fn check_like(pattern: &str, escape: &str) -> Result<()> {
    like(pattern, escape_of(escape)?).map(drop)
}

/// The same of SIMILAR TO.
///
/// # Errors
/// That of the first comparison.
pub(crate) fn check_similar(pattern: &str, escape: &str) -> Result<()> {
    check_regex(&similar(pattern, escape_of(escape)?)?)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Translated {
    name: &'static str,
    signature: Signature,
}

impl Translated {
    fn computed(&self, patterns: &StringArray, escapes: &StringArray) -> Result<ArrayRef> {
        let translate = if self.name == SIMILAR { similar } else { like };
        let of_row = |row: usize| -> Result<Option<String>> {
            if patterns.is_null(row) || escapes.is_null(row) {
                return Ok(None);
            }
            translate(patterns.value(row), escape_of(escapes.value(row))?).map(Some)
        };
        let made = (0..patterns.len()).map(of_row).collect::<Result<StringArray>>()?;
        Ok(Arc::new(made))
    }
}

impl ScalarUDFImpl for Translated {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let [pattern, escape] = args.args.as_slice() else { return plan_err!("{} takes two values", self.name) };
        let (patterns, escapes) = (pattern.to_array(rows)?, escape.to_array(rows)?);
        let made = self.computed(patterns.as_string::<i32>(), escapes.as_string::<i32>())?;
        if is_constant {
            return ScalarValue::try_from_array(&made, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_translated() {
        for (pattern, escape, made) in [
            ("a%_b", Some('\\'), "^(?s:a.*.b)$"),
            ("(a|b)+.", Some('\\'), "^(?s:(?:a|b)+\\.)$"),
            ("[a-c]\\%", Some('\\'), "^(?s:[a-c]\\%)$"),
            ("x#%\\", Some('#'), "^(?s:x\\%\\\\)$"),
            ("[[:alpha:]&]", None, "^(?s:[[:alpha:]&])$"),
        ] {
            assert_eq!(similar(pattern, escape).expect(pattern), made, "{pattern}");
        }
        for (pattern, escape, made) in
            [("a#%b%", Some('#'), "a\\%b%"), ("##\\", Some('#'), "#\\\\"), ("\\%", None, "\\\\%")]
        {
            assert_eq!(like(pattern, escape).expect(pattern), made, "{pattern}");
        }
        assert!(like("a#", Some('#')).is_err());
        assert!(escape_of("ab").is_err());
    }
}
