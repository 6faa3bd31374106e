//! docs/connectors.md says of the options what the connectors declare, or these tests fail. To write
//! the tables anew: `HIGHWATER_WRITE_DOCS=1 cargo test --release -p highwater-connectors documentation`.

use crate::options::Settings;
use crate::{Connector, Options, Role, connectors};
use std::fmt::Write;
use std::path::PathBuf;

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/connectors.md")
}

fn marker(connector: &Connector, edge: &str) -> String {
    let role = if connector.role == Role::Source { "source" } else { "sink" };
    format!("<!-- {} {role}: {edge} of options -->\n", connector.name)
}

fn table(connector: &Connector) -> String {
    let mut out = format!("{}\n", connector.doc);
    if connector.options.is_empty() {
        out.push_str("\nIt takes no options.\n");
        return out;
    }
    out.push_str("\n| option | value | default | |\n|---|---|---|---|\n");
    for option in connector.options {
        let default = match (option.required, option.default) {
            (true, _) => "required".to_owned(),
            (false, Some(default)) => format!("`{default}`"),
            (false, None) => String::new(),
        };
        let doc = option.doc.replace('|', "\\|");
        writeln!(out, "| `{}` | {} | {default} | {doc} |", option.name, option.kind.describe()).expect("text");
    }
    out
}

#[test]
fn the_page_says_what_the_connectors_declare() {
    let mut text = std::fs::read_to_string(page()).expect("docs/connectors.md is there");
    let before = text.clone();
    for connector in connectors() {
        let (begin, end) = (marker(connector, "begin"), marker(connector, "end"));
        let start = text.find(&begin).unwrap_or_else(|| panic!("the page lacks {begin}")) + begin.len();
        let stop = start + text[start..].find(&end).unwrap_or_else(|| panic!("the page lacks {end}"));
        text.replace_range(start..stop, &table(connector));
    }
    if std::env::var_os("HIGHWATER_WRITE_DOCS").is_some() {
        std::fs::write(page(), &text).expect("written");
    } else {
        assert_eq!(before, text, "docs/connectors.md is out of date; see the head of this file");
    }
}

#[test]
fn declared_options_are_sound() {
    for connector in connectors() {
        let mut names: Vec<&str> = connector.options.iter().map(|option| option.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), connector.options.len(), "{} declares an option twice", connector.name);
        for option in connector.options {
            assert!(!(option.required && option.default.is_some()), "{}", option.name);
            assert!(option.doc.ends_with('.'), "{}: a doc is a sentence", option.name);
            if let Some(default) = option.default {
                let given = Options::new([(option.name.replace("<column>", "c"), default.to_owned())]).expect("one");
                let read = Settings::read(connector.name, &[*option], &given);
                assert!(read.is_ok(), "{}: the default does not parse", option.name);
            }
        }
    }
}

#[test]
fn unknown_connectors_name_the_nearest() {
    let none = Options::default();
    let message = crate::source("nexmrk", &none, None, None).expect_err("unknown").to_string();
    assert!(message.ends_with("did you mean 'nexmark'?"), "{message}");
    let message = crate::sink("postgres", "s", &none, None).expect_err("unknown").to_string();
    assert_eq!(message, "connector 'postgres' is not one that a sink can have: there are 'file', 'blackhole'");
}
