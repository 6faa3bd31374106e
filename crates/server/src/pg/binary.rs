//! Values in PostgreSQL's binary form, where arrow-pg does not write or read them as they are.

use super::encode::pg_type;
use arrow::array::{Array as _, ArrayRef, AsArray as _, BinaryArray, ListArray, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use std::sync::Arc;

/// Days and microseconds from 1970 to 2000, where PostgreSQL counts from.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = 946_684_800_000_000;

/// A column's values as bytes; none when arrow-pg writes them.
pub(super) fn bytes(array: &ArrayRef) -> Option<ArrayRef> {
    let bytes: BinaryArray = match array.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().iter();
            values.map(|v| v.map(|v| interval(v.months, v.days, v.nanoseconds / 1000))).collect()
        }
        DataType::Decimal128(_, scale) => {
            let scale = usize::try_from(*scale).unwrap_or(0);
            let values = array.as_primitive::<Decimal128Type>();
            (0..values.len()).map(|at| values.is_valid(at).then(|| numeric(values.value(at), scale))).collect()
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().iter();
            days.map(|v| v.map(|v| v.saturating_sub(DAYS_TO_2000).to_be_bytes())).collect()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().iter();
            micros.map(|v| v.map(|v| v.saturating_sub(MICROS_TO_2000).to_be_bytes())).collect()
        }
        DataType::List(_) => arrays(array.as_list::<i32>())?,
        DataType::Struct(_) => records(array.as_struct())?,
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(|v| v.map(document)).collect(),
        _ => return None,
    };
    Some(Arc::new(bytes))
}

/// Arrays of one dimension: whether it has nulls, the type of the elements, how many there are, the
/// first one's number, and each element with its length. An empty array has no dimension.
fn arrays(lists: &ListArray) -> Option<BinaryArray> {
    let of = pg_type(&lists.value_type()).ok()?.oid();
    let elements = elements(lists.values())?;
    let offsets = lists.value_offsets();
    let array = |row: usize| {
        let all = offsets[row] as usize..offsets[row + 1] as usize;
        let has_nulls = all.clone().any(|at| elements.is_null(at));
        let mut bytes = i32::from(!all.is_empty()).to_be_bytes().to_vec();
        bytes.extend(i32::from(has_nulls).to_be_bytes());
        bytes.extend(of.to_be_bytes());
        if !all.is_empty() {
            bytes.extend((all.len() as i32).to_be_bytes());
            bytes.extend(1_i32.to_be_bytes());
        }
        for at in all {
            if elements.is_null(at) {
                bytes.extend((-1_i32).to_be_bytes());
                continue;
            }
            let element = elements.value(at);
            bytes.extend((element.len() as i32).to_be_bytes());
            bytes.extend(element);
        }
        bytes
    };
    Some((0..lists.len()).map(|row| lists.is_valid(row).then(|| array(row))).collect())
}

/// Composite values: how many fields there are, and each with its type and its length.
fn records(rows: &StructArray) -> Option<BinaryArray> {
    let field = |column: &ArrayRef| Some((pg_type(column.data_type()).ok()?.oid(), elements(column)?));
    let fields: Vec<(u32, BinaryArray)> = rows.columns().iter().map(field).collect::<Option<_>>()?;
    let record = |row: usize| {
        let mut bytes = (fields.len() as i32).to_be_bytes().to_vec();
        for (of, values) in &fields {
            bytes.extend(of.to_be_bytes());
            if values.is_null(row) {
                bytes.extend((-1_i32).to_be_bytes());
                continue;
            }
            let value = values.value(row);
            bytes.extend((value.len() as i32).to_be_bytes());
            bytes.extend(value);
        }
        bytes
    };
    Some((0..rows.len()).map(|row| rows.is_valid(row).then(|| record(row))).collect())
}

/// The values of any type that columns have.
pub(super) fn elements(array: &ArrayRef) -> Option<BinaryArray> {
    if let Some(bytes) = bytes(array) {
        return Some(bytes.as_binary::<i32>().clone());
    }
    Some(match array.data_type() {
        DataType::Null => BinaryArray::new_null(array.len()),
        DataType::Boolean => array.as_boolean().iter().map(|v| v.map(|v| vec![u8::from(v)])).collect(),
        DataType::Int16 => array.as_primitive::<Int16Type>().iter().map(|v| v.map(i16::to_be_bytes)).collect(),
        DataType::Int32 => array.as_primitive::<Int32Type>().iter().map(|v| v.map(i32::to_be_bytes)).collect(),
        DataType::Int64 => array.as_primitive::<Int64Type>().iter().map(|v| v.map(i64::to_be_bytes)).collect(),
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().map(|v| v.map(f32::to_be_bytes)).collect(),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_be_bytes)).collect(),
        DataType::Utf8 => array.as_string::<i32>().iter().collect(),
        DataType::Binary => array.as_binary::<i32>().clone(),
        DataType::Time64(TimeUnit::Microsecond) => {
            array.as_primitive::<Time64MicrosecondType>().iter().map(|v| v.map(i64::to_be_bytes)).collect()
        }
        _ => return None,
    })
}

/// The version of jsonb's binary form, which is its text.
pub(super) const JSONB_VERSION: u8 = 1;

fn document(text: &str) -> Vec<u8> {
    [&[JSONB_VERSION][..], text.as_bytes()].concat()
}

fn interval(months: i32, days: i32, micros: i64) -> Vec<u8> {
    [&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat()
}

/// Whether the time of an interval in binary form can be counted in nanoseconds, as it is kept. Bytes that are no
/// interval are for its decoder.
pub(super) fn is_kept_interval(bytes: &[u8]) -> bool {
    bytes.first_chunk::<8>().is_none_or(|micros| i64::from_be_bytes(*micros).checked_mul(1000).is_some())
}

/// The sign of a numeric that is negative, and of one that is none.
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;

/// A numeric as groups of four decimal digits: how many groups, the place of the first one before the
/// point, the sign, the digits after the point, the groups.
fn numeric(value: i128, scale: usize) -> Vec<u8> {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let fraction = format!("{fraction}{}", "0".repeat((4 - scale % 4) % 4));
    let group = |four: &[u8]| four.iter().fold(0_i16, |group, digit| group * 10 + i16::from(digit - b'0'));
    let all = format!("{whole}{fraction}");
    let groups: Vec<i16> = all.as_bytes().chunks(4).map(group).collect();
    let first = groups.iter().position(|group| *group != 0).unwrap_or(groups.len());
    let last = groups.iter().rposition(|group| *group != 0).map_or(first, |last| last + 1);
    let weight = if first == last { 0 } else { (whole.len() / 4) as i16 - 1 - first as i16 };
    let sign = if value < 0 { NEGATIVE } else { 0 };
    let mut bytes = ((last - first) as i16).to_be_bytes().to_vec();
    bytes.extend(weight.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend((scale as i16).to_be_bytes());
    groups[first..last].iter().for_each(|group| bytes.extend(group.to_be_bytes()));
    bytes
}

/// A numeric in binary form as text; none when the bytes are none.
pub(super) fn numeric_text(bytes: &[u8]) -> Option<String> {
    let words: Vec<u16> =
        bytes.chunks(2).map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?))).collect::<Option<_>>()?;
    let [count, weight, sign, scale, groups @ ..] = words.as_slice() else { return None };
    if groups.len() != usize::from(*count) {
        return None;
    }
    if *sign == NAN {
        return Some("NaN".to_owned());
    }
    let weight = i32::from(*weight as i16);
    let at = |place: i32| usize::try_from(weight - place).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let whole: String = (0..=weight.max(0)).rev().map(|place| format!("{:04}", at(place))).collect();
    let places = i32::from(scale.div_ceil(4));
    let fraction: String = (1..=places).map(|place| format!("{:04}", at(-place))).collect();
    let sign = if *sign == NEGATIVE { "-" } else { "" };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.get(..usize::from(*scale))?;
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// An array of numerics in binary form as text; none when the bytes are none, or have more dimensions than one.
pub(super) fn numeric_array_text(mut bytes: &[u8]) -> Option<String> {
    let dimensions = word(&mut bytes)?;
    // Whether there are nulls, and the elements' type.
    word(&mut bytes)?;
    word(&mut bytes)?;
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = word(&mut bytes)?;
            // The number of the first element.
            word(&mut bytes)?;
            count
        }
        _ => return None,
    };
    let mut elements = Vec::new();
    for _ in 0..count {
        elements.push(match word(&mut bytes)? {
            -1 => "NULL".to_owned(),
            length => {
                let (element, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
                bytes = rest;
                numeric_text(element)?
            }
        });
    }
    Some(format!("{{{}}}", elements.join(",")))
}

/// Takes a number of four bytes off.
fn word(bytes: &mut &[u8]) -> Option<i32> {
    let (word, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_numerics_are_read_with_their_digits() {
        let mut bytes: Vec<u8> = [1_i32, 1, 1700, 2, 1, -1].iter().flat_map(|word| word.to_be_bytes()).collect();
        let half: Vec<u8> = [1_u16, u16::MAX, 0, 1, 5000].iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend((half.len() as i32).to_be_bytes());
        bytes.extend(half);
        assert_eq!(numeric_array_text(&bytes).as_deref(), Some("{NULL,0.5}"));
        assert_eq!(numeric_array_text(&[0; 12]).as_deref(), Some("{}"));
        assert_eq!(numeric_array_text(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_numeric_is_the_same_after_it_was_written_and_read() {
        let cases = [
            (0, 0, "0"),
            (0, 5, "0.00000"),
            (1, 0, "1"),
            (-1, 4, "-0.0001"),
            (10_000, 0, "10000"),
            (123_456_789, 3, "123456.789"),
            (100_000_000, 2, "1000000.00"),
            (i128::from(i64::MAX), 7, "922337203685.4775807"),
            (99_999_999_999_999_999_999_999_999_999_999_999_999, 9, "99999999999999999999999999999.999999999"),
            (-5, 10, "-0.0000000005"),
        ];
        for (value, scale, text) in cases {
            assert_eq!(numeric_text(&numeric(value, scale)).as_deref(), Some(text));
        }
        // As PostgreSQL writes 12345.678.
        assert_eq!(numeric(12_345_678, 3), [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 9, 41, 26, 124]);
        assert_eq!(numeric_text(&[0, 1, 0]), None);
    }

    #[test]
    fn an_array_has_its_elements_with_their_lengths() {
        let lists = [Some(vec![Some(7), None]), Some(Vec::new()), None];
        let arrays = arrays(&ListArray::from_iter_primitive::<Int16Type, _, _>(lists)).expect("a known type");
        let two: [&[u8]; 2] =
            [&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 21, 0, 0, 0, 2, 0, 0, 0, 1], &[0, 0, 0, 2, 0, 7, 255, 255, 255, 255]];
        assert_eq!(arrays.value(0), two.concat());
        assert_eq!(arrays.value(1), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21]);
        assert!(arrays.is_null(2));
    }

    #[test]
    fn a_record_has_its_fields_with_their_types_and_lengths() {
        use arrow::array::{Int16Array, StringArray};
        let fields: [(&str, ArrayRef); 2] = [
            ("x", Arc::new(Int16Array::from(vec![Some(7), None]))),
            ("y", Arc::new(StringArray::from(vec!["ab", ""]))),
        ];
        let rows = StructArray::try_from(fields.to_vec()).expect("a composite column");
        let records = records(&rows).expect("known types");
        let first: [&[u8]; 3] =
            [&[0, 0, 0, 2], &[0, 0, 0, 21, 0, 0, 0, 2, 0, 7], &[0, 0, 0, 25, 0, 0, 0, 2, b'a', b'b']];
        assert_eq!(records.value(0)[..14], first.concat()[..14]);
        assert_eq!(records.value(1)[4..12], [0, 0, 0, 21, 255, 255, 255, 255]);
        assert_eq!(records.value(0).len(), first.concat().len());
    }

    #[test]
    fn an_interval_is_microseconds_days_and_months() {
        assert_eq!(interval(1, -1, 2), [0, 0, 0, 0, 0, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 1]);
        assert!(is_kept_interval(&interval(1, 1, i64::MIN / 1000)));
        assert!(!is_kept_interval(&interval(1, 1, i64::MAX / 1000 + 1)));
    }
}
