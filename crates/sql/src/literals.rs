//! Texts that are written out as intervals and numerics, in the spellings that Arrow reads: it takes no
//! `02:03:04` in an interval and no exponent in a numeric.

use datafusion::sql::sqlparser::ast::{DataType, Expr, Value, ValueWithSpan};

/// Respells a text that is cast, or stands behind a type's name.
pub(crate) fn respell(expr: &mut Expr) {
    let respelled = match expr {
        Expr::Cast { expr: of, data_type, .. } => text_of(of).map(|text| (spelled(data_type, text), text)),
        Expr::TypedString(typed) => match &mut typed.value.value {
            Value::SingleQuotedString(text) => Some((spelled(&typed.data_type, text), text)),
            _ => None,
        },
        Expr::Interval(interval) if interval.leading_field.is_none() => {
            text_of(&mut interval.value).map(|text| (with_units(text), text))
        }
        _ => None,
    };
    if let Some((Some(spelled), text)) = respelled {
        *text = spelled;
    }
}

fn text_of(expr: &mut Expr) -> Option<&mut String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

/// A text of a type in another spelling; none when it needs none, or is none.
fn spelled(data_type: &DataType, text: &str) -> Option<String> {
    match data_type {
        DataType::Interval { .. } => with_units(text),
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_) => without_exponent(text),
        _ => None,
    }
}

/// `1 day -02:03:04.5` as `1 day -2 hours -3 mins -4.5 secs`; none when it is written with units.
pub(crate) fn with_units(text: &str) -> Option<String> {
    if !text.contains(':') {
        return None;
    }
    let words =
        text.split_ascii_whitespace().map(|word| if word.contains(':') { clock(word) } else { Some(word.into()) });
    Some(words.collect::<Option<Vec<String>>>()?.join(" "))
}

fn clock(word: &str) -> Option<String> {
    let (sign, word) = match word.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", word.strip_prefix('+').unwrap_or(word)),
    };
    let mut parts = word.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    let is_whole = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    let is_time = is_whole(hours)
        && is_whole(minutes)
        && seconds.split('.').all(is_whole)
        && minutes.parse::<u8>().is_ok_and(|minutes| minutes < 60)
        && seconds.parse::<f64>().is_ok_and(|seconds| seconds < 60.0)
        && parts.next().is_none();
    is_time.then(|| format!("{sign}{hours} hours {sign}{minutes} mins {sign}{seconds} secs"))
}

/// `1.5e3` as `1500`.
pub(crate) fn without_exponent(text: &str) -> Option<String> {
    let (number, exponent) = text.trim().split_once(['e', 'E'])?;
    // No numeric has more digits.
    let exponent = exponent.parse::<i32>().ok().filter(|exponent| exponent.abs() <= 76)?;
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let point = whole.len() as i32 + exponent;
    Some(match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{sign}{digits}{}", "0".repeat(point - digits.len())),
        Ok(point) if point > 0 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        _ => format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_arrow_does_not_read_become_those_that_it_does() {
        for (text, spelled) in [
            ("1 day 02:03:04", Some("1 day 02 hours 03 mins 04 secs")),
            ("-00:00:01.5", Some("-00 hours -00 mins -01.5 secs")),
            ("10:30", Some("10 hours 30 mins 0 secs")),
            ("1 day", None),
            ("1:99:00", None),
        ] {
            assert_eq!(with_units(text).as_deref(), spelled, "{text}");
        }
        for (text, spelled) in
            [("1e3", "1000"), ("-1.5E-2", "-0.015"), ("1.25e1", "12.5"), ("0.5e1", "05"), ("12e-2", "0.12")]
        {
            assert_eq!(without_exponent(text).as_deref(), Some(spelled), "{text}");
        }
        assert_eq!(without_exponent("west"), None);
    }
}
