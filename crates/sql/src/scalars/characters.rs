//! `chr`: the character of a number. Zero has none, as no text of PostgreSQL's holds it.

use super::{Scalar, by_row, may_be_whole, refused, whole};
use arrow::array::StringArray;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use std::sync::Arc;

pub(super) static CHR: Scalar = Scalar {
    name: "chr",
    takes: |given| match given {
        [of] if may_be_whole(of) => Some(vec![DataType::Int64]),
        _ => None,
    },
    gives: |_| DataType::Utf8,
    is_strict: true,
    compute: |args| {
        let characters = by_row(args, |row| character(whole(args, 0, row)).map(String::from))?;
        Ok(Arc::new(StringArray::from(characters)))
    },
};

fn character(number: i64) -> Result<char> {
    match number {
        ..0 => Err(refused("22023", "character number must be positive")),
        0 => Err(refused("54000", "null character not permitted")),
        _ => {
            let character = u32::try_from(number).ok().and_then(char::from_u32);
            character.ok_or_else(|| refused("54000", format!("requested character not valid for encoding: {number}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_characters() {
        for (number, expected) in [(65, Some('A')), (128_640, Some('\u{1F680}')), (0, None), (-1, None), (55_296, None)]
        {
            assert_eq!(character(number).ok(), expected, "{number}");
        }
        assert_eq!(character(i64::MAX).ok(), None);
    }
}
