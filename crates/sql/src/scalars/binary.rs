//! Bytes: their texts in PostgreSQL's encodings, and casts of texts to them; and integers in hexadecimal digits.

use super::{Scalar, by_row, call, may_be_text, refused, texts};
use crate::bytea::{self, Malformed};
use crate::types::is_text;
use arrow::array::{ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, cast as cast_expr};
use std::fmt::Write as _;
use std::sync::Arc;

/// Characters in a line of base 64.
const LINE: usize = 76;

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

static FROM_TEXT: Scalar = Scalar {
    name: "bytea_in",
    takes: |given| texts(given, 1),
    gives: |_| DataType::Binary,
    is_strict: true,
    compute: |args| read(args[0].as_string::<i32>()).map_err(malformed),
};

/// Texts in the forms of bytea as what they stand for.
///
/// # Errors
/// When one of them is no bytea.
pub(crate) fn read(texts: &StringArray) -> Result<ArrayRef, Malformed> {
    Ok(Arc::new(bytea::of_texts(texts, bytea::read)?))
}

pub(super) static ALL: [Scalar; 5] = [
    Scalar {
        name: "to_hex",
        takes: integer,
        gives: |_| DataType::Utf8,
        is_strict: true,
        compute: |args| Ok(Arc::new(digits(&args[0]))),
    },
    Scalar {
        name: "encode",
        takes: bytes_and_name,
        gives: |_| DataType::Utf8,
        is_strict: true,
        compute: |args| {
            let (bytes, encodings) = (args[0].as_binary::<i32>(), args[1].as_string::<i32>());
            let encoded = by_row(args, |row| Ok(Encoding::of(encodings.value(row))?.encoded(bytes.value(row))))?;
            Ok(Arc::new(StringArray::from(encoded)))
        },
    },
    Scalar {
        name: "decode",
        takes: |given| texts(given, 2),
        gives: |_| DataType::Binary,
        is_strict: true,
        compute: |args| {
            let (texts, encodings) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
            let decoded = by_row(args, |row| Encoding::of(encodings.value(row))?.decoded(texts.value(row)))?;
            Ok(Arc::new(decoded.into_iter().collect::<BinaryArray>()))
        },
    },
    Scalar {
        name: "convert_from",
        takes: bytes_and_name,
        gives: |_| DataType::Utf8,
        is_strict: true,
        compute: |args| {
            let (bytes, names) = (args[0].as_binary::<i32>(), args[1].as_string::<i32>());
            let converted = by_row(args, |row| {
                check_utf8(names.value(row), "source")?;
                let text = std::str::from_utf8(bytes.value(row));
                text.map_err(|_| refused("22021", "invalid byte sequence for encoding \"UTF8\""))
            })?;
            Ok(Arc::new(StringArray::from(converted)))
        },
    },
    Scalar {
        name: "convert_to",
        takes: |given| texts(given, 2),
        gives: |_| DataType::Binary,
        is_strict: true,
        compute: |args| {
            let (texts, names) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
            let converted = by_row(args, |row| {
                check_utf8(names.value(row), "destination")?;
                Ok(texts.value(row).as_bytes())
            })?;
            Ok(Arc::new(BinaryArray::from(converted)))
        },
    },
];

/// Whether a type is one of bytes.
pub(super) const fn is_bytes(of: &DataType) -> bool {
    matches!(of, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Bytes, as which a text is read in the form that they have, and a name.
fn bytes_and_name(given: &[DataType]) -> Option<Vec<DataType>> {
    match given {
        [bytes, name] if (is_bytes(bytes) || may_be_text(bytes)) && may_be_text(name) => {
            Some(vec![DataType::Binary, DataType::Utf8])
        }
        _ => None,
    }
}

/// An integer of 32 or of 64 bits; a smaller one has 32.
fn integer(given: &[DataType]) -> Option<Vec<DataType>> {
    match given {
        [DataType::Null | DataType::Int8 | DataType::Int16 | DataType::Int32] => Some(vec![DataType::Int32]),
        [of] if of.is_integer() => Some(vec![DataType::Int64]),
        _ => None,
    }
}

/// Integers in hexadecimal digits, negative ones by their two's complement.
fn digits(integers: &ArrayRef) -> StringArray {
    match integers.as_primitive_opt::<Int32Type>() {
        Some(integers) => integers.iter().map(|value| value.map(|value| format!("{value:x}"))).collect(),
        None => {
            let integers = integers.as_primitive::<Int64Type>();
            integers.iter().map(|value| value.map(|value| format!("{value:x}"))).collect()
        }
    }
}

/// A cast to bytes as the function that it is: Arrow takes those that the text consists of.
pub(crate) fn from_text(cast: Cast, schema: &DFSchema) -> Transformed<Expr> {
    match cast.expr.get_type(schema) {
        Ok(DataType::Utf8) => Transformed::yes(call(&FROM_TEXT, vec![*cast.expr])),
        Ok(of) if is_text(&of) => Transformed::yes(call(&FROM_TEXT, vec![cast_expr(*cast.expr, DataType::Utf8)])),
        _ => Transformed::no(Expr::Cast(cast)),
    }
}

fn malformed(malformed: Malformed) -> DataFusionError {
    refused(malformed.sqlstate(), malformed.to_string())
}

/// Refuses the name of an encoding of bytes that is none.
///
/// # Errors
/// That of the first value.
pub(crate) fn check_encoding(name: &str) -> Result<()> {
    Encoding::of(name).map(drop)
}

/// There is no other encoding of texts.
pub(crate) fn check_utf8(name: &str, which: &str) -> Result<()> {
    if ["utf8", "utf-8", "unicode"].contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(refused("22023", format!("invalid {which} encoding name \"{name}\": there is UTF8")))
}

/// How bytes are written.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    Hex,
    Base64,
    Escape,
}

impl Encoding {
    fn of(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "hex" => Ok(Self::Hex),
            "base64" => Ok(Self::Base64),
            "escape" => Ok(Self::Escape),
            _ => Err(refused("22023", format!("unrecognized encoding: \"{name}\""))),
        }
    }

    fn encoded(self, bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len() * 2);
        match self {
            Self::Hex => {
                for byte in bytes {
                    // Strings take all.
                    let _ = write!(text, "{byte:02x}");
                }
            }
            Self::Base64 => {
                for line in BASE64.encode(bytes).as_bytes().chunks(LINE) {
                    text.extend(line.iter().map(|digit| char::from(*digit)));
                    if line.len() == LINE {
                        text.push('\n');
                    }
                }
            }
            Self::Escape => {
                for byte in bytes {
                    match byte {
                        b'\\' => text.push_str("\\\\"),
                        1..=0x7f => text.push(char::from(*byte)),
                        _ => {
                            let _ = write!(text, "\\{byte:03o}");
                        }
                    }
                }
            }
        }
        text
    }

    fn decoded(self, text: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(text.len());
        match self {
            Self::Hex => bytea::hexadecimal(text, &mut bytes).map_err(malformed)?,
            Self::Escape => bytea::escaped(text.as_bytes(), &mut bytes).map_err(malformed)?,
            Self::Base64 => {
                let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')).collect();
                let decoded = BASE64.decode(digits);
                return decoded.map_err(|error| refused("22023", format!("invalid base64 data: {error}")));
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_and_read_in_all_encodings() {
        for (name, bytes, text) in [
            ("hex", &b"abc\xff"[..], "616263ff"),
            ("base64", b"ab", "YWI="),
            ("base64", b"123\0\x01", "MTIzAAE="),
            ("escape", b"a\\\0\xff", "a\\\\\\000\\377"),
        ] {
            let encoding = Encoding::of(name).expect(name);
            assert_eq!(encoding.encoded(bytes), text, "{name}");
            assert_eq!(encoding.decoded(text).expect(text), bytes, "{name}");
        }
        assert_eq!(Encoding::Base64.decoded("MTIz\n AAE=").expect("bytes"), b"123\0\x01");
        assert_eq!(Encoding::Base64.encoded(&[0; 60]).find('\n'), Some(76));
        assert_eq!(Encoding::Base64.encoded(&[0; 57]).len(), 77);
        for (encoding, text) in
            [(Encoding::Hex, "1"), (Encoding::Hex, "zz"), (Encoding::Base64, "YW"), (Encoding::Escape, "\\9")]
        {
            assert!(encoding.decoded(text).is_err(), "{text}");
        }
        assert!(Encoding::of("rot13").is_err());
    }
}
