//! Each function against a slow twin over vectors of options.

use super::*;
use arrow::array::{IntervalMonthDayNanoArray, TimestampMicrosecondArray};

type Rows = Vec<Option<Vec<Option<i64>>>>;

fn lists(rows: &Rows) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.clone()))
}

fn numbers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn rows_of(array: &ArrayRef) -> Rows {
    let list = array.as_list::<i32>();
    let row = |at: usize| list.is_valid(at).then(|| list.value(at).as_primitive::<Int64Type>().iter().collect());
    (0..list.len()).map(row).collect()
}

/// Arrays and values of a small range, nulls among both; the arrays' elements do not begin at 0.
fn cases() -> (Rows, ArrayRef, Vec<Option<i64>>) {
    let mut seed = 7_u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let value = |draw: &mut dyn FnMut(u64) -> u64| (draw(5) > 0).then(|| draw(4) as i64);
    let mut rows = Rows::new();
    let mut values = Vec::new();
    for _ in 0..200 {
        let length = draw(5);
        let row: Vec<Option<i64>> = (0..length).map(|_| value(&mut draw)).collect();
        rows.push((draw(6) > 0).then_some(row));
        values.push(value(&mut draw));
    }
    let array = lists(&rows).slice(3, 197);
    (rows.split_off(3), array, values.split_off(3))
}

fn each<T>(rows: &Rows, values: &[Option<i64>], f: impl Fn(&[Option<i64>], Option<i64>) -> T) -> Vec<Option<T>> {
    rows.iter().zip(values).map(|(row, value)| row.as_ref().map(|row| f(row, *value))).collect()
}

#[test]
fn elements_and_slices_are_within_the_array() {
    let (rows, array, values) = cases();
    let found = element(&[Arc::clone(&array), numbers(&values)]).expect("elements");
    let twin: Vec<Option<i64>> = each(&rows, &values, |row, place| {
        let place = usize::try_from(place? - 1).ok()?;
        row.get(place).copied().flatten()
    })
    .into_iter()
    .map(Option::flatten)
    .collect();
    assert_eq!(found.as_primitive::<Int64Type>(), &Int64Array::from(twin));
    let ends: Vec<Option<i64>> = values.iter().map(|value| value.map(|value| value + 1)).collect();
    let found = slice(&[array, numbers(&values), numbers(&ends)]).expect("slices");
    let twin: Rows = each(&rows, &values, |row, first| {
        let first = first?;
        let within = |at: usize| (first..=first + 1).contains(&(at as i64 + 1));
        Some(row.iter().enumerate().filter(|(at, _)| within(*at)).map(|(_, value)| *value).collect())
    })
    .into_iter()
    .map(Option::flatten)
    .collect();
    assert_eq!(rows_of(&found), twin);
}

#[test]
fn arrays_are_made_longer_and_shorter() {
    let (rows, array, values) = cases();
    let value = numbers(&values);
    let own = |row: &Option<Vec<Option<i64>>>| row.clone().unwrap_or_default();
    let pairs = || rows.iter().zip(&values);
    let twin: Rows = pairs().map(|(row, value)| Some([own(row), vec![*value]].concat())).collect();
    assert_eq!(rows_of(&append(&[Arc::clone(&array), Arc::clone(&value)]).expect("arrays")), twin);
    let twin: Rows = pairs().map(|(row, value)| Some([vec![*value], own(row)].concat())).collect();
    assert_eq!(rows_of(&prepend(&[Arc::clone(&value), Arc::clone(&array)]).expect("arrays")), twin);
    let turned: Rows = rows.iter().rev().cloned().collect();
    let both =
        |(a, b): (&Option<Vec<_>>, &Option<Vec<_>>)| (a.is_some() || b.is_some()).then(|| [own(a), own(b)].concat());
    let twin: Rows = rows.iter().zip(&turned).map(both).collect();
    assert_eq!(rows_of(&joined(&[Arc::clone(&array), lists(&turned)]).expect("arrays")), twin);
    let twin: Rows = each(&rows, &values, |row, value| row.iter().copied().filter(|v| *v != value).collect());
    assert_eq!(rows_of(&remove(&[Arc::clone(&array), Arc::clone(&value)]).expect("arrays")), twin);
    let nine = numbers(&vec![Some(9); rows.len()]);
    let swap = |v: Option<i64>, value: Option<i64>| if v == value { Some(9) } else { v };
    let twin: Rows = each(&rows, &values, |row, value| row.iter().map(|v| swap(*v, value)).collect());
    assert_eq!(rows_of(&replace(&[array, value, nine]).expect("arrays")), twin);
}

#[test]
fn elements_are_found() {
    let (rows, array, values) = cases();
    let value = numbers(&values);
    let found = position(&[Arc::clone(&array), Arc::clone(&value)]).expect("places");
    let place = |row: &[Option<i64>], value: Option<i64>| row.iter().position(|v| *v == value).map(|at| at as i32 + 1);
    let twin: Vec<Option<i32>> = each(&rows, &values, place).into_iter().map(Option::flatten).collect();
    assert_eq!(found.as_primitive::<Int32Type>(), &Int32Array::from(twin));
    for all in [false, true] {
        let found = compared(&[Arc::clone(&value), Arc::clone(&array)], Operator::Lt, all).expect("truths");
        let twin = each(&rows, &values, |row, value| {
            let truths: Vec<Option<bool>> = row.iter().map(|v| Some(value? < (*v)?)).collect();
            let decided = truths.contains(&Some(!all));
            if decided { Some(!all) } else { (!truths.contains(&None)).then_some(all) }
        });
        let twin: Vec<Option<bool>> = twin.into_iter().map(Option::flatten).collect();
        assert_eq!(found.as_boolean(), &BooleanArray::from(twin));
    }
    let turned: Rows = rows.iter().rev().cloned().collect();
    let is_there = |row: &[Option<i64>], v: &Option<i64>| v.is_some() && row.contains(v);
    let twin = rows.iter().zip(&turned);
    let twin = twin.map(|(a, b)| Some(b.as_ref()?.iter().all(|v| a.as_ref().is_some_and(|a| is_there(a, v)))));
    let twin: Vec<Option<bool>> = twin.zip(&rows).map(|(found, a)| found.filter(|_| a.is_some())).collect();
    let found = contains(&[array, lists(&turned)]).expect("truths");
    assert_eq!(found.as_boolean(), &BooleanArray::from(twin));
}

#[test]
fn texts_are_divided_and_joined() {
    let texts = |texts: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let text = texts(&[Some("a,b,,c"), Some(""), None, Some("xy"), Some("xy")]);
    let delimiter = texts(&[Some(","), Some(","), Some(","), None, Some("")]);
    let null = texts(&[Some(""), None, None, None, None]);
    let found = from_string(&[text, Arc::clone(&delimiter), Arc::clone(&null)]).expect("arrays");
    let spelled = crate::spelling::array_texts(found.as_list::<i32>()).expect("texts");
    let expected = [Some("{a,b,NULL,c}"), Some("{}"), None, Some("{x,y}"), Some("{xy}")];
    assert_eq!(spelled, StringArray::from(expected.to_vec()));
    let shown = to_string(&[Arc::clone(&found), delimiter, texts(&[Some("-"); 5])]).expect("texts");
    let expected = [Some("a,b,-,c"), Some(""), None, None, Some("xy")];
    assert_eq!(shown.as_string::<i32>(), &StringArray::from(expected.to_vec()));
}

#[test]
fn series_end_where_they_should() {
    let bounds = [
        (1, 3, 1, vec![1, 2, 3]),
        (3, 1, 1, vec![]),
        (3, 1, -2, vec![3, 1]),
        (i64::MIN, i64::MAX, i64::MAX, vec![i64::MIN, -1, i64::MAX - 1]),
        (i64::MAX, i64::MAX, 1, vec![i64::MAX]),
    ];
    for (first, last, step, expected) in bounds {
        let found = series(&[numbers(&[Some(first)]), numbers(&[Some(last)]), numbers(&[Some(step)])]);
        let expected: Rows = vec![Some(expected.into_iter().map(Some).collect())];
        assert_eq!(rows_of(&found.expect("a series")), expected, "{first} to {last} by {step}");
    }
    let none = series(&[numbers(&[Some(1)]), numbers(&[None])]).expect("a series");
    assert_eq!(rows_of(&none), Rows::from([Some(Vec::new())]));
    assert!(series(&[numbers(&[Some(1)]), numbers(&[Some(2)]), numbers(&[Some(0)])]).is_err());
    assert!(series(&[numbers(&[Some(1)]), numbers(&[Some(i64::MAX)])]).is_err());
}

#[test]
fn series_of_times_are_looked_at_before_they_are_made() {
    let interval = IntervalMonthDayNano::new;
    let hour = 3_600_000_000_000;
    for (last, step, is_made) in [
        (86_400_000_000, interval(0, 0, hour), true),
        (86_400_000_000, interval(0, 0, -1), true),
        (86_400_000_000, interval(0, 0, 1), false),
        (-86_400_000_000, interval(0, -1, -hour), true),
        (86_400_000_000, interval(1, -30, 0), false),
        (i64::MAX, interval(i32::MAX, i32::MAX, i64::MAX), true),
    ] {
        let [first, last] = [0, last].map(|time| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![time])) });
        let step: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![step]));
        assert_eq!(check_times(&[first, last, step]).is_ok(), is_made);
    }
}
