//! Keeps the workspace in the shape its documents promise: ceilings for files and functions, an
//! opening comment in every file, names, the edges between crates as ARCHITECTURE.md lists them, and
//! mentions of documents that exist. Reads text only and depends on nothing.
//!
//! Functions are found by their indentation, which formatting guarantees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const FILE_CEILING: usize = 800;
const FUNCTION_CEILING: usize = 70;
const FORBIDDEN_NAMES: [&str; 7] = ["common", "util", "utils", "helper", "helpers", "manager", "misc"];

/// Outside crates that only some crates may know, by the start of their names.
const KNOWN_ONLY_BY: [(&str, &[&str]); 5] = [
    ("rocksdb", &["state", "tables"]),
    ("timely", &["engine"]),
    ("object_store", &["checkpoint", "engine", "sim"]),
    ("clap", &["server", "sim"]),
    ("pgwire", &["server"]),
];

/// One source file.
struct Source {
    /// From the root of the workspace.
    name: String,
    lines: Vec<String>,
    /// The line index at which the file's own test module starts; its length when there is none.
    tests_at: usize,
    /// Whether the whole file is a test.
    is_test: bool,
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the workspace's root exists")
}

fn files_under(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files_under(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut paths = Vec::new();
    files_under(&root.join("crates"), "rs", &mut paths);
    assert!(paths.len() > 20, "the workspace's sources were found");
    paths.iter().map(|path| source(&root, path)).collect()
}

fn source(root: &Path, path: &Path) -> Source {
    let name = path.strip_prefix(root).expect("under the root").to_string_lossy().into_owned();
    let lines: Vec<String> = read(path).lines().map(str::to_owned).collect();
    let inline = lines.windows(2).position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].ends_with('{'));
    let parts: Vec<&str> = name.split(['/', '.']).collect();
    let is_test = parts.iter().any(|part| ["tests", "benches", "twin"].contains(part));
    Source { tests_at: inline.unwrap_or(lines.len()), name, lines, is_test }
}

fn report(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}\n", faults.join("\n  "));
}

#[test]
fn every_file_says_what_it_owns() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| !source.lines.first().is_some_and(|line| line.starts_with("//! ")))
        .map(|source| format!("{}:1: does not open with `//! `", source.name))
        .collect();
    report("every file opens by saying what it owns and what not", &faults);
}

#[test]
fn files_stay_below_their_ceiling() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| source.tests_at > FILE_CEILING)
        .map(|source| format!("{}:{}: {} lines before its tests", source.name, FILE_CEILING + 1, source.tests_at))
        .collect();
    report(&format!("a file has at most {FILE_CEILING} lines; split it by noun"), &faults);
}

/// The name of the function that a line opens, if it opens one.
fn function_opened(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix("fn ") {
            return after.split(|c: char| !c.is_alphanumeric() && c != '_').next();
        }
        let (word, after) = rest.split_once(' ')?;
        let qualifier = matches!(word, "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"" | "default");
        if !(qualifier || word.starts_with("pub(") && word.ends_with(')')) {
            return None;
        }
        rest = after;
    }
}

/// How many lines the function opened at `start` has, by the closing brace at its indentation.
fn function_length(lines: &[String], start: usize) -> usize {
    let indent = lines[start].len() - lines[start].trim_start().len();
    let close = format!("{}}}", " ".repeat(indent));
    for (length, line) in lines[start..].iter().enumerate() {
        let ends = line.ends_with(';') || line.ends_with('}');
        let at_indent = line.len() - line.trim_start().len() == indent;
        let signature_only = length == 0 || line.trim_start().starts_with(')');
        if *line == close || (ends && at_indent && signature_only) {
            return length + 1;
        }
    }
    lines.len() - start
}

#[test]
fn functions_stay_below_their_ceiling() {
    let mut faults = Vec::new();
    for source in sources() {
        for (at, line) in source.lines.iter().enumerate() {
            let Some(name) = function_opened(line) else { continue };
            let length = function_length(&source.lines, at);
            if length > FUNCTION_CEILING {
                faults.push(format!("{}:{}: fn {name} has {length} lines", source.name, at + 1));
            }
        }
    }
    report(&format!("a function has at most {FUNCTION_CEILING} lines"), &faults);
}

#[test]
fn nothing_has_a_name_that_says_nothing() {
    let mut faults = Vec::new();
    for source in sources() {
        let stem = |part: &str| part.trim_end_matches(".rs").to_owned();
        for part in source.name.split('/').skip(1).map(stem) {
            let version =
                part.rsplit_once("_v").is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            if version || FORBIDDEN_NAMES.contains(&part.as_str()) {
                faults.push(format!("{}:1: `{part}` is no name for a module", source.name));
            }
        }
    }
    report("modules are nouns of the field; nothing is called common, utils, helpers, manager, misc or _v2", &faults);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        for (at, line) in source.lines[..source.tests_at].iter().enumerate() {
            if line.contains(".unwrap()") && !line.trim_start().starts_with("//") {
                faults.push(format!("{}:{}: .unwrap()", source.name, at + 1));
            }
        }
    }
    report("use `?`, or `expect` that says why it cannot fail", &faults);
}

/// The names in a manifest's `[dependencies]`, with their line numbers.
fn dependencies(manifest: &str) -> Vec<(String, usize)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (at, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && !line.trim_start().starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                found.push((name.to_owned(), at + 1));
            }
        }
    }
    found
}

/// The crate's folder for a dependency of ours.
fn ours(dependency: &str) -> Option<&str> {
    if dependency == "highwater" { Some("highwater") } else { dependency.strip_prefix("highwater-") }
}

/// The allowed edges, from the lines of ARCHITECTURE.md that look like "- `engine` → `core`, `state`".
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let quoted = |text: &str| -> BTreeSet<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let text = read(&root().join("ARCHITECTURE.md"));
    let edges: BTreeMap<String, BTreeSet<String>> = text
        .lines()
        .filter(|line| line.starts_with("- `"))
        .filter_map(|line| line.split_once('→'))
        .filter_map(|(from, to)| Some((quoted(from).pop_first()?, quoted(to.split('.').next()?))))
        .collect();
    assert!(edges.contains_key("core") && edges.contains_key("server"), "ARCHITECTURE.md lists the edges");
    edges
}

#[test]
fn crates_know_only_what_the_architecture_allows() {
    let edges = edges();
    let mut faults = Vec::new();
    for entry in fs::read_dir(root().join("crates")).expect("the crates' folder") {
        let folder = entry.expect("a readable folder").path();
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        let Some(allowed) = edges.get(&name) else {
            faults.push(format!("ARCHITECTURE.md:1: the edges of `{name}` are not listed"));
            continue;
        };
        for (dependency, line) in dependencies(&manifest) {
            let place = format!("crates/{name}/Cargo.toml:{line}");
            if let Some(ours) = ours(&dependency)
                && !allowed.contains(ours)
            {
                faults.push(format!("{place}: `{name}` may not know `{ours}`"));
            }
            for (outside, known_by) in KNOWN_ONLY_BY {
                if dependency.starts_with(outside) && !known_by.contains(&name.as_str()) {
                    faults.push(format!("{place}: only {known_by:?} may know `{outside}`"));
                }
            }
        }
    }
    report("edges between crates stand in ARCHITECTURE.md", &faults);
}

/// The paths of pages that a text names, such as `docs/formats/manifest.md`, with their line numbers.
fn pages_named(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for start in line.match_indices("docs/").map(|(start, _)| start) {
            let path: String =
                line[start..].chars().take_while(|c| c.is_alphanumeric() || "/-_.".contains(*c)).collect();
            if let Some(end) = path.find(".md") {
                found.push((path[..end + 3].to_owned(), at + 1));
            }
        }
    }
    found
}

#[test]
fn documents_that_are_named_exist() {
    let root = root();
    let mut texts = Vec::new();
    files_under(&root.join("crates"), "rs", &mut texts);
    files_under(&root.join("docs"), "md", &mut texts);
    texts.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)));
    let mut faults = Vec::new();
    for path in texts {
        let shown = path.strip_prefix(&root).expect("under the root").display().to_string();
        for (page, line) in pages_named(&read(&path)) {
            if !shown.ends_with("tidy.rs") && !root.join(&page).is_file() {
                faults.push(format!("{shown}:{line}: there is no {page}"));
            }
        }
    }
    report("a document that is named exists", &faults);
}

#[test]
fn every_format_page_is_named_by_the_code_that_writes_it() {
    let root = root();
    let mut pages = Vec::new();
    files_under(&root.join("docs/formats"), "md", &mut pages);
    let code: BTreeSet<String> = sources()
        .iter()
        .filter(|source| !source.is_test)
        .flat_map(|source| pages_named(&source.lines.join("\n")))
        .map(|(page, _)| page)
        .collect();
    let faults: Vec<String> = pages
        .iter()
        .map(|page| page.strip_prefix(&root).expect("under the root").display().to_string())
        .filter(|page| !code.contains(page) && !page.ends_with("README.md"))
        .map(|page| format!("{page}:1: no source names this page"))
        .collect();
    report("the code that reads and writes a format names its page", &faults);
}

#[test]
fn ci_runs_what_the_readme_says() {
    let root = root();
    assert!(read(&root.join("README.md")).contains("./x test"), "README.md:1: names the test command");
    assert!(read(&root.join(".ci/run")).contains("./x test"), ".ci/run:1: runs the README's test command");
}

#[test]
fn the_rules_see_what_they_look_for() {
    assert_eq!(function_opened("    pub(crate) const fn of(x: u8) -> Self {"), Some("of"));
    assert_eq!(function_opened("    // a fn that is none"), None);
    let text = ["    fn one() {", "        body();", "    }", "    fn two();", "}"].map(str::to_owned);
    assert_eq!(function_length(&text, 0), 3);
    assert_eq!(function_length(&text, 3), 1);
    let long = ["fn long(", "    a: u8,", ") -> u8", "where", "    u8: Copy,", "{", "    a", "}"].map(str::to_owned);
    assert_eq!(function_length(&long, 0), 8);
    let manifest =
        "[package]\nname = 1\n[dependencies]\nhighwater.workspace = true\ntoml = \"1\"\n[dev-dependencies]\nx = 1\n";
    assert_eq!(dependencies(manifest), [("highwater".to_owned(), 4), ("toml".to_owned(), 5)]);
    assert_eq!(pages_named("see docs/formats/manifest.md."), [("docs/formats/manifest.md".to_owned(), 1)]);
}
