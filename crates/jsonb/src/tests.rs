//! The normal form against cases by hand and against `serde_json`, which makes trees.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn of(text: &str) -> String {
    normal(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
}

#[test]
fn values_come_into_postgresqls_normal_form() {
    for (text, expected) in [
        (" { } ", "{}"),
        ("[ ]", "[]"),
        (r#"{"b":1,"aa":2,"a":3}"#, r#"{"a": 3, "b": 1, "aa": 2}"#),
        (r#"{"a":1,"a":{"z":1,"y":[]},"b":null}"#, r#"{"a": {"y": [], "z": 1}, "b": null}"#),
        (r#"{"ü":1,"zz":2,"z":3}"#, r#"{"z": 3, "zz": 2, "ü": 1}"#),
        ("[1,2.50,-0,-0.0,1e3,1.5E1,12e-3,0.05e1,0e-2]", "[1, 2.50, 0, 0.0, 1000, 15, 0.012, 0.5, 0.00]"),
        ("123456789012345678901234567890.12345678901234567890", "123456789012345678901234567890.12345678901234567890"),
        (r#""\u00e9\/\u000a\u001f\ud83d\ude00\"""#, "\"é/\\n\\u001f😀\\\"\""),
        ("\n[true,\tfalse,null]\r", "[true, false, null]"),
        (r#"{"a\u0062":1,"ab":2}"#, r#"{"ab": 2}"#),
    ] {
        assert_eq!(of(text), expected, "{text}");
        assert_eq!(of(expected), expected, "it stays so");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "tru",
        "truex",
        "nul",
        "'a'",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"a\nb\"",
        "1 2",
        "[1]]",
        "1a",
        "{\"a\":1 \"b\":2}",
        "NaN",
    ] {
        let bad = normal(text).expect_err(text);
        assert_eq!(bad.sqlstate, "22P02", "{text}");
        assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
    }
    let state = |text: &str| normal(text).expect_err(text).sqlstate;
    assert_eq!(state(r#""\u0000""#), "22P05");
    assert_eq!((state("1e200000"), state("1e99999999999999999999"), state("1e-20000")), ("22003", "22003", "22003"));
    let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!((of(&deep(DEEPEST)), state(&deep(DEEPEST + 1))), (deep(DEEPEST), "54001"));
    let deepest = deep(DEEPEST);
    assert_eq!(array_of([deep(DEEPEST - 1).as_str()]), Ok(deepest.clone()));
    assert_eq!(array_of([deepest.as_str()]).map_err(|bad| bad.sqlstate), Err("54001"));
    assert_eq!(joined("{}", &deepest).map_err(|bad| bad.sqlstate), Ok(format!("[{{}}, {}", &deepest[1..])));
    assert_eq!(normal("{\"a\": x1}").expect_err("no value").detail.as_deref(), Some("Token \"x1\" is invalid."));
}

#[test]
fn parts_are_found() {
    let value = of(r#"{"a":{"b":[10,{"c":"d, e"}]},"k\"q":"x","n":null}"#);
    assert_eq!(path(&value, ["a", "b", "1", "c"]), Some(r#""d, e""#));
    assert_eq!(path(&value, ["a", "b", "-2"]), Some("10"));
    assert_eq!((path(&value, ["a", "b", "x"]), path(&value, ["n", "x"])), (None, None));
    assert_eq!(path(&value, []), Some(value.as_str()));
    assert_eq!(get(&value, &quoted("k\"q")).and_then(text_of).as_deref(), Some("x"));
    assert_eq!(get(&value, "\"n\"").map(text_of), Some(None));
    assert_eq!(elements("[1, [2, 3], \"a,]\\\"\", {}]").collect::<Vec<_>>(), ["1", "[2, 3]", "\"a,]\\\"\"", "{}"]);
    assert_eq!((item("[1, 2]", -1), item("[1, 2]", -3), item("[1, 2]", 2)), (Some("2"), None, None));
    assert_eq!((elements("{}").count(), members("[]").count(), elements("[]").count()), (0, 0, 0));
}

#[test]
fn containment_and_existence_are_postgresqls() {
    for (left, right, expected) in [
        ("[1, 2, 3]", "[3, 1, 1]", true),
        ("[1, 2, [1, 3]]", "[1, 3]", false),
        ("[1, 2, [1, 3]]", "[[1, 3]]", true),
        (r#"{"foo": {"bar": "baz"}}"#, r#"{"bar": "baz"}"#, false),
        (r#"{"foo": {"bar": "baz"}}"#, r#"{"foo": {}}"#, true),
        (r#"["foo", "bar"]"#, r#""bar""#, true),
        (r#""bar""#, r#"["bar"]"#, false),
        ("1.0", "1", true),
        ("[{\"a\": 1.50}]", "[{\"a\": 1.5}]", true),
        ("10", "1", false),
        ("{}", "[]", false),
        ("[]", "[]", true),
    ] {
        assert_eq!(contains(left, right), expected, "{left} @> {right}");
    }
    assert!(exists(r#"{"a": 1}"#, "\"a\"") && exists(r#"["a"]"#, "\"a\"") && exists("\"a\"", "\"a\""));
    assert!(!exists("[\"b\", 1]", "\"1\"") && !exists("1", "\"1\""));
}

#[test]
fn values_are_made_of_others() {
    let join = |left, right| joined(left, right).expect("a value");
    assert_eq!(join(r#"{"a": 1, "b": 2}"#, r#"{"b": 3, "c": 4}"#), r#"{"a": 1, "b": 3, "c": 4}"#);
    assert_eq!(
        (join("[1]", "[2]"), join("[1]", "2"), join("1", "2")),
        ("[1, 2]".into(), "[1, 2]".into(), "[1, 2]".into())
    );
    assert_eq!((join("[]", "{}"), join("{}", "{}")), ("[{}]".into(), "{}".into()));
    let keys = ["\"a\""];
    assert_eq!(without_keys(r#"{"a": 1, "b": 2}"#, &keys).as_deref(), Ok(r#"{"b": 2}"#));
    assert_eq!(without_keys(r#"["a", "b", "a"]"#, &keys).as_deref(), Ok(r#"["b"]"#));
    assert!(without_keys("1", &keys).is_err() && without_item("{}", 0).is_err());
    assert_eq!(without_item("[1, 2, 3]", -1).as_deref(), Ok("[1, 2]"));
    assert_eq!(without_item("[1, 2, 3]", 5).as_deref(), Ok("[1, 2, 3]"));
}

#[test]
fn numbers_become_decimals() {
    for (number, scale, expected) in [
        ("0", 0, Some(0)),
        ("2.5", 0, Some(3)),
        ("-2.5", 0, Some(-3)),
        ("2.49", 0, Some(2)),
        ("1.5", 3, Some(1500)),
        ("0.05", 1, Some(1)),
        ("999999999999999999999999999999999999999999", 0, None),
    ] {
        assert_eq!(decimal(number, scale), expected, "{number}");
    }
}

#[test]
fn paths_lead_to_changes_as_in_postgresql() {
    let set = |value, create| Change::Set { value, create };
    let insert = |value, after| Change::Insert { value, after };
    let object = r#"{"a": [1, {"b": 2}], "cc": null}"#;
    for (value, path, change, expected) in [
        (object, "a 1 b", set("9", true), r#"{"a": [1, {"b": 9}], "cc": null}"#),
        (object, "a 1 bb", set("9", true), r#"{"a": [1, {"b": 2, "bb": 9}], "cc": null}"#),
        (object, "a 1 a", set("9", true), r#"{"a": [1, {"a": 9, "b": 2}], "cc": null}"#),
        (object, "a 1 bb", set("9", false), object),
        (object, "x y", set("9", true), object),
        (object, "cc y", set("9", true), object),
        (object, "b", set("[]", true), r#"{"a": [1, {"b": 2}], "b": [], "cc": null}"#),
        (object, "a -1", set("9", true), r#"{"a": [1, 9], "cc": null}"#),
        (object, "a -9", set("9", true), r#"{"a": [9, 1, {"b": 2}], "cc": null}"#),
        (object, "a 9", set("9", true), r#"{"a": [1, {"b": 2}, 9], "cc": null}"#),
        (object, "a 9", set("9", false), object),
        (object, "a -9", set("9", false), object),
        (object, "", set("9", true), object),
        ("{}", "a", set("1", true), r#"{"a": 1}"#),
        ("{}", "a b", set("1", true), "{}"),
        ("[]", "5", set("1", true), "[1]"),
        ("[]", "-5", set("1", true), "[1]"),
        ("[]", "x", set("1", false), "[]"),
        ("[0, 1, 2]", "1", insert("9", false), "[0, 9, 1, 2]"),
        ("[0, 1, 2]", "1", insert("9", true), "[0, 1, 9, 2]"),
        ("[0, 1, 2]", "-1", insert("9", true), "[0, 1, 2, 9]"),
        ("[0, 1, 2]", "-9", insert("9", true), "[9, 0, 1, 2]"),
        ("[0, 1, 2]", "9", insert("9", false), "[0, 1, 2, 9]"),
        (object, "b", insert("9", false), r#"{"a": [1, {"b": 2}], "b": 9, "cc": null}"#),
        (object, "a 1 b", Change::Delete, r#"{"a": [1, {}], "cc": null}"#),
        (object, "a", Change::Delete, r#"{"cc": null}"#),
        (object, "a -2", Change::Delete, r#"{"a": [{"b": 2}], "cc": null}"#),
        (object, "a 7", Change::Delete, object),
        (object, "x", Change::Delete, object),
        ("[]", "x", Change::Delete, "[]"),
    ] {
        let steps: Vec<Option<&str>> = path.split_whitespace().map(Some).collect();
        assert_eq!(changed(value, &steps, change).as_deref(), Ok(expected), "{value} at {path}: {change:?}");
        assert_eq!(of(expected), expected, "it is in normal form");
    }
}

#[test]
fn paths_that_lead_nowhere_are_refused_as_in_postgresql() {
    let (set, insert) = (Change::Set { value: "1", create: true }, Change::Insert { value: "1", after: false });
    for (value, path, change, sqlstate, message) in [
        ("1", vec![Some("a")], set, "22023", "cannot set path in scalar"),
        ("null", vec![Some("a")], Change::Delete, "22023", "cannot delete path in scalar"),
        ("[1]", vec![Some("a")], set, "22P02", "path element at position 1 is not an integer: \"a\""),
        ("[1]", vec![Some("1 ")], set, "22P02", "path element at position 1 is not an integer: \"1 \""),
        ("{\"a\": [1]}", vec![Some("a"), None], set, "22004", "path element at position 2 is null"),
        ("{\"a\": 1}", vec![None], Change::Delete, "22004", "path element at position 1 is null"),
        ("{\"a\": 1}", vec![Some("a")], insert, "22023", "cannot replace existing key"),
    ] {
        let refused = changed(value, &path, change).expect_err(value);
        assert_eq!((refused.sqlstate, refused.message.as_str()), (sqlstate, message));
    }
    let deep = format!("{}{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST));
    let refused = changed("[0]", &[Some("0")], Change::Set { value: &deep, create: true }).expect_err("too deep");
    assert_eq!(refused.sqlstate, "54001");
}

#[test]
fn values_are_shown_over_several_lines() {
    for (value, expected) in [
        ("1", "1"),
        ("{}", "{\n}"),
        ("[]", "[\n]"),
        (r#"{"a": {}, "b": [1, "x"]}"#, "{\n    \"a\": {\n    },\n    \"b\": [\n        1,\n        \"x\"\n    ]\n}"),
    ] {
        assert_eq!(pretty(value, expected.len()).as_deref(), Some(expected));
        assert_eq!(pretty(value, expected.len() - 1), None);
    }
    let deep = format!("{}{}1{}", "[".repeat(400), "1, ".repeat(10_000), "]".repeat(400));
    assert_eq!(pretty(&deep, 1 << 20), None, "it is some 16 MB");
}

/// A tree without its objects' nulls.
fn stripped(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, stripped(v))).collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(stripped).collect()),
        other => other,
    }
}

/// Whether two trees are equal. Numbers are floats, of which `serde_json` may miss the last bit.
fn is_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let (left, right) = (left.as_f64().unwrap_or(f64::NAN), right.as_f64().unwrap_or(f64::NAN));
            (left - right).abs() <= left.abs() * 1e-12
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| is_equal(left, right)))
        }
        _ => left == right,
    }
}

/// JSON texts as people write them: with spaces, escapes and keys given twice.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,12})(\\.[0-9]{1,6})?([eE][+-]?[0-9])?",
        text(),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let space = "[ \n\t]{0,2}";
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..6), space)
                .prop_map(|(values, space)| format!("[{space}{}{space}]", values.join(&format!("{space},{space}")))),
            (prop::collection::vec(("\"[a-c]{0,2}\"", inner), 0..6), space).prop_map(|(members, space)| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
                format!("{{{space}{}{space}}}", members.join(&format!(",{space}")))
            }),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("no text holds it", |text| !text.contains('\0')).prop_map(|text| {
        let escaped = serde_json::to_string(&text);
        escaped.expect("a string can be written")
    })
}

#[test]
fn jsonpaths_lead_to_parts_as_lax_ones_of_postgresql() {
    let value = r#"{"a": [{"b": 1}, {"b": [2, 3]}, 4], "c": {"d": null, "e f": "x"}}"#;
    for (path, expected) in [
        ("$", vec![value]),
        ("$.a[*].b", vec!["1", "[2, 3]"]),
        ("$.a.b", vec!["1", "[2, 3]"]),
        ("$.a.b[*]", vec!["1", "2", "3"]),
        ("lax $ . a [ 0 ] . b", vec!["1"]),
        ("$.a[last]", vec!["4"]),
        ("$.a[2][0][last][*]", vec!["4"]),
        ("$.a[7]", vec![]),
        ("$.a[2][1]", vec![]),
        ("$.c.*", vec!["null", "\"x\""]),
        ("$.a.*", vec!["1", "[2, 3]"]),
        (r#"$.c."e\u0020f""#, vec!["\"x\""]),
        ("$.c.d.e", vec![]),
        ("$.nothing", vec![]),
    ] {
        let read = Jsonpath::of(path).unwrap_or_else(|| panic!("{path} is a path"));
        assert_eq!(read.all(value), expected, "{path}");
        assert_eq!(read.first(value), expected.first().copied(), "{path}");
    }
    assert_eq!(Jsonpath::of("$[*]").expect("a path").all("[]"), Vec::<&str>::new());
    assert_eq!(Jsonpath::of("$[last]").expect("a path").first("[]"), None);
}

#[test]
fn what_is_more_than_keys_and_places_is_no_jsonpath_here() {
    for text in [
        "",
        " ",
        "a",
        "$a",
        "$.",
        "$.a ? (@ > 1)",
        "$.a == 1",
        "strict $.a",
        "$.a.size()",
        "$.**",
        "$[1, 2]",
        "$[0 to 2]",
        "$[-1]",
        "$[last - 1]",
        "$[01]",
        "$[]",
        "$[2147483648]",
        "$.1",
        "$.\"a",
        "$.a b",
        "$[0",
        "$ + 1",
        "laxx $",
    ] {
        assert_eq!(Jsonpath::of(text), None, "{text}");
    }
    assert!(Jsonpath::of(&format!("${}", "[0]".repeat(DEEPEST))).is_some());
    assert_eq!(Jsonpath::of(&format!("${}", "[0]".repeat(DEEPEST + 1))), None);
}

proptest! {
    #[test]
    fn the_normal_form_is_the_same_value(text in json()) {
        let made = normal(&text).expect("JSON");
        let (before, after) = (serde_json::from_str::<Value>(&text), serde_json::from_str::<Value>(&made));
        let (before, after) = (before.expect("JSON"), after.expect("JSON"));
        prop_assert!(is_equal(&before, &after), "{} became {}", text, made);
        prop_assert_eq!(&normal(&made).expect("JSON"), &made);
        prop_assert!(contains(&made, &made));
        match &after {
            Value::Object(tree) => {
                prop_assert_eq!(members(&made).count(), tree.len());
                for (key, value) in members(&made) {
                    let key: String = serde_json::from_str(key).expect("a string");
                    let value: Value = serde_json::from_str(value).expect("a value");
                    prop_assert_eq!(&value, &tree[&key]);
                }
            }
            Value::Array(tree) => {
                let parts: Vec<Value> =
                    elements(&made).map(|part| serde_json::from_str(part).expect("a value")).collect();
                prop_assert_eq!(&parts, tree);
            }
            Value::String(tree) => {
                let text = text_of(&made);
                prop_assert_eq!(text.as_deref(), Some(tree.as_str()));
            }
            _ => {}
        }
    }

    #[test]
    fn other_forms_are_the_same_value(text in json()) {
        let made = normal(&text).expect("JSON");
        let tree = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        prop_assert_eq!(normal(&pretty(&made, usize::MAX).expect("bounded")).expect("JSON"), made.clone());
        let without = without_nulls(&made);
        prop_assert_eq!(tree(&without), stripped(tree(&made)));
        prop_assert_eq!(normal(&without).expect("JSON"), without);
    }

    #[test]
    fn what_was_set_is_there(text in json(), step in "[a-c]{0,2}") {
        let made = normal(&text).expect("JSON");
        let path = [Some(step.as_str())];
        if let Ok(with) = changed(&made, &path, Change::Set { value: "[7]", create: true }) {
            prop_assert_eq!(super::path(&with, [step.as_str()]), Some("[7]"));
            prop_assert_eq!(&normal(&with).expect("JSON"), &with);
            let without = changed(&with, &path, Change::Delete).expect("it is an object");
            prop_assert_eq!(changed(&made, &path, Change::Delete).expect("it is an object"), without);
        }
    }

    #[test]
    fn damaged_texts_are_judged_alike(text in json(), at in any::<prop::sample::Index>(), by in "[\\[\\]{}:,\"0-9a\\\\ -]?") {
        let place = at.index(text.chars().count());
        let damaged: String = text.chars().enumerate().flat_map(|(here, c)| {
            if here == place { by.chars().collect::<Vec<_>>() } else { vec![c] }
        }).collect();
        let ours = normal(&damaged);
        // Numbers out of range and \u0000 are refused by one of the two alone.
        let is_odd = matches!(&ours, Err(bad) if bad.sqlstate != "22P02");
        prop_assert!(is_odd || ours.is_ok() == serde_json::from_str::<Value>(&damaged).is_ok(), "{}", damaged);
    }
}
