//! docs/connectors.md says of the options what the connectors declare, or these tests fail. To write
//! the tables anew: `HIGHWATER_WRITE_DOCS=1 cargo test --release -p highwater-connectors documentation`.

use crate::options::{OptionSpec, check_specs};
use crate::{Connectors, Created, Options, Shape};
use std::fmt::Write;
use std::path::PathBuf;

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/connectors.md")
}

/// A connector as the page has it.
struct Described {
    role: &'static str,
    name: String,
    doc: String,
    options: Vec<OptionSpec>,
}

fn connectors() -> Vec<Described> {
    let all = Connectors::default();
    let described = |role, name: &str, doc: &str, options: &[OptionSpec]| Described {
        role,
        name: name.to_owned(),
        doc: doc.to_owned(),
        options: options.to_vec(),
    };
    let sources = all.sources().map(|c| described("source", c.name(), c.doc(), c.options()));
    let sinks = all.sinks().map(|c| described("sink", c.name(), c.doc(), c.options()));
    sources.chain(sinks).collect()
}

fn marker(connector: &Described, edge: &str) -> String {
    format!("<!-- {} {}: {edge} of options -->\n", connector.name, connector.role)
}

fn table(connector: &Described) -> String {
    let mut out = format!("{}\n", connector.doc);
    if connector.options.is_empty() {
        out.push_str("\nIt takes no options.\n");
        return out;
    }
    out.push_str("\n| option | value | default | |\n|---|---|---|---|\n");
    for option in &connector.options {
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
        let (begin, end) = (marker(&connector, "begin"), marker(&connector, "end"));
        let start = text.find(&begin).unwrap_or_else(|| panic!("the page lacks {begin}")) + begin.len();
        let stop = start + text[start..].find(&end).unwrap_or_else(|| panic!("the page lacks {end}"));
        text.replace_range(start..stop, &table(&connector));
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
        check_specs(&connector.name, &connector.options).expect("sound");
        for option in connector.options {
            assert!(option.doc.ends_with('.'), "{}: a doc is a sentence", option.name);
        }
    }
}

#[test]
fn unknown_connectors_name_the_nearest() {
    let (all, none) = (Connectors::default(), Options::default());
    let of = |connector| Created {
        connector,
        name: "s",
        incarnation: 0,
        options: &none,
        columns: None,
        format: None,
        shape: Shape::default(),
    };
    let message = all.source(&of("nexmrk")).expect_err("unknown").to_string();
    assert!(message.ends_with("did you mean 'nexmark'?"), "{message}");
    let message = all.sink(&of("postgres")).expect_err("unknown").to_string();
    assert_eq!(message, "connector 'postgres' is not one that a sink can have: there are 'file', 'blackhole'");
}
