//! Deviations beside their two passes over random values that come and go, at the limits of their types.

use super::*;

const ALL: [Spread; 4] = [of(Kind::Variance), of(Kind::VarianceOfAll), of(Kind::Deviation), of(Kind::DeviationOfAll)];

const fn of(kind: Kind) -> Spread {
    Spread { kind, digits: 0 }
}

fn column(values: &[Option<f64>]) -> [ArrayRef; 1] {
    [Arc::new(Float64Array::from(values.to_vec()))]
}

fn bits(found: Option<f64>) -> Option<u64> {
    found.map(f64::to_bits)
}

/// Of all values, from scratch.
fn from_scratch(spread: Spread, values: &[Option<f64>]) -> Option<f64> {
    let mut group = Group { spread, sums: Sums::default() };
    group.update_batch(&column(values)).expect("added");
    match group.evaluate().expect("a spread") {
        ScalarValue::Float64(found) => found,
        other => panic!("{other} is no number"),
    }
}

/// By the average, which is made first.
fn twin(spread: Spread, values: &[Option<f64>]) -> Option<f64> {
    let values: Vec<f64> = values.iter().copied().flatten().collect();
    let count = values.len() as f64;
    let average = values.iter().sum::<f64>() / count;
    let far: f64 = values.iter().map(|value| (value - average) * (value - average)).sum();
    let parts = if spread.kind.is_of_all() { count } else { count - 1.0 };
    (parts > 0.0).then(|| if spread.kind.is_root() { (far / parts).sqrt() } else { far / parts })
}

/// Numbers that look random and are the same in each run.
fn drawn(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn what_is_kept_under_changes_is_what_is_computed_from_scratch() {
    let mut seed = 7;
    for round in 0..60 {
        let (mut kept, mut values): (Sums, Vec<Option<f64>>) = (Sums::default(), Vec::new());
        for _ in 0..80 {
            let goes = drawn(&mut seed).is_multiple_of(3) && !values.is_empty();
            let value = if goes {
                let at = drawn(&mut seed) as usize % values.len();
                values.swap_remove(at)
            } else {
                let large = if round % 2 == 0 { 100 } else { i64::MAX };
                let number = ((drawn(&mut seed) << 31) | drawn(&mut seed)) as i64 % large;
                let sign = if drawn(&mut seed).is_multiple_of(2) { 1 } else { -1 };
                let value = (!drawn(&mut seed).is_multiple_of(5)).then_some((number * sign) as f64);
                values.push(value);
                value
            };
            if let Some(value) = value {
                let weight = if goes { -1 } else { 1 };
                kept.count += weight;
                for (sum, part) in
                    [(&mut kept.sum, Part::Whole), (&mut kept.high, Part::High), (&mut kept.low, Part::Low)]
                {
                    *sum += part.of(value, 1.0) * i128::from(weight);
                }
            }
            let turned: Vec<Option<f64>> = values.iter().rev().copied().collect();
            for spread in ALL {
                let found = kept.spread(spread);
                assert_eq!(bits(found), bits(from_scratch(spread, &values)), "{values:?}");
                assert_eq!(bits(found), bits(from_scratch(spread, &turned)), "{values:?}");
                match (found, twin(spread, &values)) {
                    (Some(found), Some(expected)) => {
                        assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found}, {expected}: {values:?}");
                    }
                    (found, expected) => assert_eq!(found, expected, "{values:?}"),
                }
            }
        }
    }
}

#[test]
fn groups_are_those_of_their_parts() {
    let values = [Some(2.0), None, Some(-7.0), Some(9e18), Some(5.0), Some(-9e18), Some(5.0), None];
    let groups = [0, 0, 1, 1, 0, 1, 1, 0];
    let filter = BooleanArray::from(vec![true, true, true, true, true, false, true, true]);
    for spread in ALL {
        let made = || Groups { spread, sums: Vec::new() };
        let (mut whole, mut part, mut merged) = (made(), made(), made());
        whole.update_batch(&column(&values), &groups, Some(&filter), 2).expect("added");
        part.update_batch(&column(&values), &groups, Some(&filter), 2).expect("added");
        merged.merge_batch(&part.state(EmitTo::All).expect("a state"), &[0, 1], 2).expect("merged");
        let mut alone = made();
        let rows = alone.convert_to_state(&column(&values), Some(&filter)).expect("a state");
        alone.merge_batch(&rows, &groups, 2).expect("merged");
        let expected =
            [from_scratch(spread, &[Some(2.0), Some(5.0)]), from_scratch(spread, &[Some(-7.0), Some(9e18), Some(5.0)])];
        for mut found in [whole, merged, alone] {
            let found = found.evaluate(EmitTo::All).expect("spreads");
            let found: Vec<Option<f64>> = found.as_primitive::<Float64Type>().iter().collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn the_limits_of_bigint_are_within() {
    let ends = [Some(i64::MIN as f64), Some(i64::MAX as f64)];
    assert_eq!(from_scratch(of(Kind::VarianceOfAll), &ends), Some(2.0_f64.powi(126)));
    assert_eq!(from_scratch(of(Kind::DeviationOfAll), &ends), Some(2.0_f64.powi(63)));
    assert_eq!(from_scratch(of(Kind::Variance), &ends), Some(2.0_f64.powi(127)));
    let close = [Some(2.0_f64.powi(52)), Some(2.0_f64.powi(52) + 1.0)];
    assert_eq!(from_scratch(of(Kind::VarianceOfAll), &close), Some(0.25), "no digit is lost");
    assert_eq!(from_scratch(of(Kind::Variance), &[Some(3.0)]), None);
    assert_eq!(from_scratch(of(Kind::VarianceOfAll), &[Some(3.0), None]), Some(0.0));
    assert_eq!(from_scratch(of(Kind::VarianceOfAll), &[None]), None);
}

#[test]
fn parts_and_sums_are_made_of_columns() {
    let values = [Some(3.0), None, Some(-9_007_199_254_740_992.0), Some(4.0)];
    let made: Vec<Decimal128Array> = [Part::Whole, Part::High, Part::Low]
        .map(|part| values.iter().map(|value| value.map(|value| part.of(value, 1.0))).collect::<Decimal128Array>())
        .into();
    let sums: Vec<ArrayRef> = made
        .iter()
        .map(|part| Arc::new(Decimal128Array::from(vec![arrow::compute::sum(part)]).with_data_type(SUM)) as ArrayRef)
        .collect();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![3]))];
    columns.extend(sums);
    for spread in ALL {
        let found = spreads_of(&sums_of(&columns).expect("sums"), spread);
        let found = found.as_primitive::<Float64Type>().value(0);
        assert_eq!(Some(found), from_scratch(spread, &values));
    }
    let nothing: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![0])),
        Arc::new(Decimal128Array::from(vec![None::<i128>]).with_data_type(SUM)),
        Arc::new(Decimal128Array::from(vec![None::<i128>]).with_data_type(SUM)),
        Arc::new(Decimal128Array::from(vec![None::<i128>]).with_data_type(SUM)),
    ];
    assert!(spreads_of(&sums_of(&nothing).expect("sums"), of(Kind::VarianceOfAll)).is_null(0));
}

#[test]
fn digits_behind_the_point_are_found_again() {
    let mut seed = 3;
    for digits in 0..=15_u32 {
        let spread = Spread { kind: Kind::VarianceOfAll, digits };
        for _ in 0..200 {
            let number = ((drawn(&mut seed) << 31) | drawn(&mut seed)) as i64 % 10_i64.pow(15);
            let text = format!("{number}e-{digits}");
            let nearest: f64 = text.parse().expect("a number");
            assert_eq!(Part::Whole.of(nearest, unit(digits)), i128::from(number), "{text}");
            assert_eq!(Part::Whole.of(-nearest, unit(digits)), -i128::from(number), "-{text}");
        }
        let ends = [Some(10_f64.powi(-(digits as i32))), Some(0.0)];
        let found = from_scratch(spread, &ends).expect("a variance");
        let expected = 0.25 * 10_f64.powi(-2 * digits as i32);
        assert!((found - expected).abs() <= expected * 1e-12, "{digits}: {found}");
    }
}
