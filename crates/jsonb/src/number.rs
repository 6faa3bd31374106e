//! Numbers: their normal form, which is that of PostgreSQL's numeric, and what they are as decimals.

use crate::Malformed;

/// The most digits before the point, and after it.
const MOST_WHOLE: i64 = 131_072;
const MOST_FRACTION: i64 = 16_383;

fn overflow() -> Malformed {
    Malformed { sqlstate: "22003", message: "value overflows numeric format", detail: None }
}

/// Whether a text is a number of JSON's grammar.
#[must_use]
pub fn is_number(text: &str) -> bool {
    length(text.as_bytes()) == Some(text.len())
}

/// How much of a text's beginning is a number of JSON's grammar; none when it begins with none.
pub(crate) fn length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = usize::from(text.first() == Some(&b'-'));
    let mut at = match text.get(whole)? {
        b'0' => whole + 1,
        b'1'..=b'9' => whole + digits(whole),
        _ => return None,
    };
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}

/// Writes a number of JSON's grammar in normal form.
pub(crate) fn write(text: &str, out: &mut String) -> Result<(), Malformed> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent: i64 = exponent.parse().map_err(|_| overflow())?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_zero = mantissa.bytes().all(|digit| matches!(digit, b'0' | b'.'));
    // Where the point comes to stand among the digits, and how many are after it.
    let point = (whole.len() as i64).checked_add(exponent).ok_or_else(overflow)?;
    let scale = (fraction.len() as i64).checked_sub(exponent).ok_or_else(overflow)?.max(0);
    if scale > MOST_FRACTION || point > MOST_WHOLE && !is_zero {
        return Err(overflow());
    }
    if !is_zero {
        out.push_str(sign);
    }
    if exponent == 0 {
        out.push_str(mantissa);
        return Ok(());
    }
    let zeros = |count: i64| std::iter::repeat_n('0', usize::try_from(count).unwrap_or(0));
    let all = [whole, fraction].concat();
    let split = usize::try_from(point).unwrap_or(0).min(all.len());
    let significant = all[..split].trim_start_matches('0');
    // Zeros at the begin, of a number below 1, are none of the whole part.
    if is_zero || significant.is_empty() {
        out.push('0');
    } else {
        out.push_str(significant);
        out.extend(zeros(point - all.len() as i64));
    }
    if scale > 0 {
        out.push('.');
        out.extend(zeros(if is_zero { scale } else { -point }));
        out.push_str(if is_zero { "" } else { &all[split..] });
    }
    Ok(())
}

/// Whether two numbers in normal form are equal: zeros at their ends do not count.
pub(crate) fn is_same(left: &str, right: &str) -> bool {
    fn short(number: &str) -> &str {
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
    }
    short(left) == short(right)
}

/// A number in normal form times 10 to the power of `scale`, rounded to a whole one, halves away from
/// zero; none when it is too large.
#[must_use]
pub fn decimal(number: &str, scale: usize) -> Option<i128> {
    let (is_negative, digits) = number.strip_prefix('-').map_or((false, number), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let kept = &fraction.as_bytes()[..fraction.len().min(scale)];
    let mut value: i128 = 0;
    for digit in whole.as_bytes().iter().chain(kept) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit.checked_sub(b'0')?))?;
    }
    for _ in kept.len()..scale {
        value = value.checked_mul(10)?;
    }
    let rounds = fraction.as_bytes().get(scale).is_some_and(|digit| *digit >= b'5');
    value = value.checked_add(i128::from(rounds))?;
    Some(if is_negative { -value } else { value })
}
