//! Conditions in forms whose nulls DataFusion's simplifier keeps.
//!
//! - It makes `x IS NOT NULL` of `x ~ '.*'`, and of a pattern without wildcards a LIKE, in which a backslash has
//!   another meaning: the pattern is put in parentheses, which it leaves alone.
//! - It computes lists with each other, of `x IN (...) AND x NOT IN (...)` and their like, as if they were of
//!   constants and none of these null: what else is in a list is compared beside it.
//! - What comes of that may be an empty list, which it takes for true or false whatever x is: that is said here.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::{Cast, InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Whether an operator matches regular expressions.
pub(crate) const fn is_match(op: Operator) -> bool {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    matches!(op, RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch)
}

/// A match of a text with a pattern.
pub(crate) fn matched(BinaryExpr { left, op, right }: BinaryExpr) -> Transformed<Expr> {
    match guarded(&right) {
        Some(right) => Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right: Box::new(right) })),
        None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
    }
}

/// `regexp_like(text, pattern)`, which the simplifier makes the operator of.
pub(crate) fn matched_by_call(mut call: ScalarFunction) -> Transformed<Expr> {
    let guarded = call.args.get(1).and_then(guarded);
    let is_changed = guarded.is_some();
    if let (Some(pattern), Some(guarded)) = (call.args.get_mut(1), guarded) {
        *pattern = guarded;
    }
    Transformed::new_transformed(Expr::ScalarFunction(call), is_changed)
}

/// A pattern in parentheses, when it needs them.
fn guarded(pattern: &Expr) -> Option<Expr> {
    let text = match pattern {
        Expr::Literal(text, _) => text,
        Expr::Cast(Cast { expr, field }) => {
            let expr = Box::new(guarded(expr)?);
            return Some(Expr::Cast(Cast { expr, field: field.clone() }));
        }
        _ => return None,
    };
    let within = |text: &str| {
        // A group at its begin is what the simplifier leaves alone.
        let is_group = text.starts_with('(') && !text.starts_with("(?");
        (!is_group && (text == ".*" || text.contains('\\'))).then(|| format!("({text})"))
    };
    let guarded = match text {
        ScalarValue::Utf8(Some(text)) => ScalarValue::Utf8(Some(within(text)?)),
        ScalarValue::LargeUtf8(Some(text)) => ScalarValue::LargeUtf8(Some(within(text)?)),
        ScalarValue::Utf8View(Some(text)) => ScalarValue::Utf8View(Some(within(text)?)),
        _ => return None,
    };
    Some(Expr::Literal(guarded, None))
}

/// A list of constants, and what else there is beside it.
pub(crate) fn listed(InList { expr, list, negated }: InList) -> Transformed<Expr> {
    let is_plain = |one: &Expr| value(one).is_some_and(|value| !value.is_null());
    if list.iter().all(is_plain) || expr.is_volatile() {
        return Transformed::no(Expr::InList(InList { expr, list, negated }));
    }
    let (plain, others): (Vec<Expr>, Vec<Expr>) = list.into_iter().partition(is_plain);
    let of = *expr;
    let compared = |other: Expr| match value(&other) {
        Some(value) if value.is_null() => unknown(),
        _ if negated => of.clone().not_eq(other),
        _ => of.clone().eq(other),
    };
    let among = (!plain.is_empty()).then(|| of.clone().in_list(plain, negated));
    let all = among.into_iter().chain(others.into_iter().map(compared));
    let all = all.reduce(|all, one| if negated { all.and(one) } else { all.or(one) });
    Transformed::yes(all.unwrap_or_else(unknown))
}

/// Two lists joined by AND or OR of which nothing is left; none where something is.
pub(crate) fn joined(left: &Expr, op: Operator, right: &Expr) -> Option<Expr> {
    let (one, other) = match op {
        Operator::And => (among(left)?, among(right)?),
        Operator::Or => (list_of(left)?, list_of(right)?),
        _ => return None,
    };
    if one.of != other.of || one.of.is_volatile() {
        return None;
    }
    let is_nothing = match (op, one.negated, other.negated) {
        (Operator::And, false, false) | (Operator::Or, true, true) => !one.values.iter().any(|of| other.has(of)),
        (Operator::And, false, true) => one.values.iter().all(|of| other.has(of)),
        (Operator::And, true, false) => other.values.iter().all(|of| one.has(of)),
        _ => false,
    };
    let of = || one.of.clone();
    is_nothing.then(|| match op {
        Operator::Or => of().is_not_null().or(unknown()),
        _ => of().is_null().and(unknown()),
    })
}

/// The constants that an expression is compared with.
struct Among<'a> {
    of: &'a Expr,
    values: Vec<ScalarValue>,
    negated: bool,
}

impl Among<'_> {
    fn has(&self, value: &ScalarValue) -> bool {
        self.values.contains(value)
    }
}

/// A list, or what the simplifier makes one of: comparisons of a column joined by OR.
fn among(expr: &Expr) -> Option<Among<'_>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) = expr else { return list_of(expr) };
    let (mut one, other) = (equal(left)?, equal(right)?);
    if one.of != other.of || one.negated || other.negated {
        return None;
    }
    one.values.extend(other.values);
    Some(one)
}

/// A list or the contrary of one.
fn list_of(expr: &Expr) -> Option<Among<'_>> {
    match expr {
        Expr::InList(InList { expr, list, negated }) => {
            let values = list.iter().map(|one| value(one).filter(|one| !one.is_null())).collect::<Option<_>>()?;
            Some(Among { of: expr, values, negated: *negated })
        }
        Expr::Not(of) => among(of).map(|of| Among { negated: !of.negated, ..of }),
        _ => None,
    }
}

/// A list, or a column that is equal to a constant.
fn equal(expr: &Expr) -> Option<Among<'_>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return among(expr) };
    match (left.as_ref(), right.as_ref()) {
        (of, constant) | (constant, of) if is_column(of) => {
            let constant = value(constant).filter(|constant| !constant.is_null())?;
            Some(Among { of, values: vec![constant], negated: false })
        }
        _ => None,
    }
}

/// A column, or one of another type than what it is compared with: the simplifier casts the constant instead.
fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Cast(Cast { expr, .. }) => matches!(expr.as_ref(), Expr::Column(_)),
        _ => false,
    }
}

/// The value of a constant.
pub(crate) fn value(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(Cast { expr, field }) => value(expr)?.cast_to(field.data_type()).ok(),
        _ => None,
    }
}

/// Whether a comparison is null whatever its column holds, as one with a null is.
pub(crate) fn is_unknown(left: &Expr, op: Operator, right: &Expr) -> bool {
    let is_null = |expr: &Expr| value(expr).is_some_and(|value| value.is_null());
    let compares =
        matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    compares && (is_column(left) && is_null(right) || is_null(left) && is_column(right))
}

pub(crate) fn unknown() -> Expr {
    Expr::Literal(ScalarValue::Boolean(None), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    fn list(values: &[i32], negated: bool) -> Expr {
        col("x").in_list(values.iter().map(|value| lit(*value)).collect(), negated)
    }

    #[test]
    fn patterns_that_would_be_taken_apart_are_put_in_parentheses() {
        for (pattern, expected) in [
            (".*", Some("(.*)")),
            (r"a\\b", Some(r"(a\\b)")),
            (r"(?i)\d", Some(r"((?i)\d)")),
            ("(.*)", None),
            ("a.*b", None),
            ("^a", None),
        ] {
            assert_eq!(guarded(&lit(pattern)), expected.map(lit), "{pattern}");
        }
        assert_eq!(guarded(&col("x")), None);
    }

    #[test]
    fn what_is_no_constant_is_compared_beside_its_list() {
        let listed_of = |list: Vec<Expr>, negated: bool| {
            listed(InList { expr: Box::new(col("x")), list, negated }).data.to_string()
        };
        assert_eq!(listed_of(vec![lit(1), lit(2)], false), "x IN ([Int32(1), Int32(2)])");
        let mixed = || vec![lit(1), col("y"), unknown(), lit(2)];
        assert_eq!(listed_of(mixed(), false), "x IN ([Int32(1), Int32(2)]) OR x = y OR Boolean(NULL)");
        assert_eq!(listed_of(mixed(), true), "x NOT IN ([Int32(1), Int32(2)]) AND x != y AND Boolean(NULL)");
        assert_eq!(listed_of(vec![unknown()], false), "Boolean(NULL)");
    }

    #[test]
    fn of_lists_of_which_nothing_is_left_null_stays_null() {
        use Operator::{And, Or};
        let either = |values: [i32; 2]| col("x").eq(lit(values[0])).or(lit(values[1]).eq(col("x")));
        let cases = [
            (list(&[1, 2], false), And, list(&[3, 4], false), Some("x IS NULL AND Boolean(NULL)")),
            (list(&[1, 2], false), And, list(&[2, 3], false), None),
            (list(&[1, 2], false), And, list(&[1, 2, 3], true), Some("x IS NULL AND Boolean(NULL)")),
            (list(&[1, 2], true), And, list(&[2], false), Some("x IS NULL AND Boolean(NULL)")),
            (list(&[1], true), And, list(&[1, 2], false), None),
            (list(&[1, 2], true), Or, list(&[3], true), Some("x IS NOT NULL OR Boolean(NULL)")),
            (list(&[1, 2], true), Or, list(&[2], true), None),
            (list(&[1, 2], false), Or, list(&[3], false), None),
            (either([1, 2]), And, either([3, 4]), Some("x IS NULL AND Boolean(NULL)")),
            (Expr::Not(Box::new(either([1, 2]))), Or, list(&[3, 4], true), Some("x IS NOT NULL OR Boolean(NULL)")),
            (list(&[1], true), Or, col("y").in_list(vec![lit(2)], true), None),
        ];
        for (left, op, right, expected) in cases {
            let found = joined(&left, op, &right).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{left} {op} {right}");
        }
    }
}
