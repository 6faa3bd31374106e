//! Every setting as data: one table gives the flags, the environment variables, the keys of
//! `highwater.toml`, the help and what `highwater settings` prints, so that they cannot drift.
//!
//! Invariants: a flag wins over the environment, that over the file, that over the default; a value
//! is checked where it is read, and a wrong one is told with the place it came from. An empty one of the
//! environment or the file is not said.

mod value;
mod variables;

use crate::exit::{Failure, Outcome};
use clap::{Arg, ArgMatches, Command, FromArgMatches};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub(crate) use value::{Kind, parse_duration};
pub(crate) use variables::unread;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its key in the file.
    pub(crate) key: &'static str,
    /// Its flag, without the dashes in front: the key with dashes for underscores.
    pub(crate) flag: &'static str,
    /// What values it takes.
    pub(crate) kind: Kind,
    /// When nothing is said; empty when the program finds it out.
    pub(crate) default: &'static str,
    /// One line for people.
    pub(crate) help: &'static str,
}

/// All settings.
pub(crate) const SETTINGS: [Setting; 18] = [
    Setting {
        key: "data",
        flag: "data",
        kind: Kind::Path,
        default: "highwater-data",
        help: "Folder of the catalog and the local state",
    },
    Setting {
        key: "checkpoint_root",
        flag: "checkpoint-root",
        kind: Kind::Text("URL"),
        default: "",
        help: "Folder or s3://bucket/prefix that holds the checkpoints [default: `checkpoints` in the data folder]",
    },
    Setting {
        key: "workers",
        flag: "workers",
        kind: Kind::Count,
        default: "",
        help: "Worker threads [default: one a core]",
    },
    Setting {
        key: "state_memory",
        flag: "state-memory",
        kind: Kind::Size,
        default: "",
        help: "Memory for the state of all views; above it what is not in use is read from disk when needed [default: half of the machine's]",
    },
    Setting {
        key: "memory_reserve",
        flag: "memory-reserve",
        kind: Kind::Size,
        default: "",
        help: "Memory of the machine that is to stay free; when less is, the pipeline fails whose state its open epoch made grow most [default: a sixteenth of the machine's, at most 2GiB]",
    },
    Setting {
        key: "block_cache",
        flag: "block-cache",
        kind: Kind::Size,
        default: "64MiB",
        help: "Memory for blocks of RocksDB, all pipelines together",
    },
    Setting {
        key: "checkpoint_interval",
        flag: "checkpoint-interval",
        kind: Kind::Interval,
        default: "10s",
        help: "Between two checkpoints of a pipeline, or off",
    },
    Setting {
        key: "retain",
        flag: "retain",
        kind: Kind::Count,
        default: "3",
        help: "How many checkpoints of a pipeline are kept",
    },
    Setting {
        key: "pg_listen",
        flag: "pg-listen",
        kind: Kind::Text("ADDRESS"),
        default: "127.0.0.1:7432",
        help: "Where `serve` listens for PostgreSQL's clients; beyond loopback there must be users",
    },
    Setting {
        key: "http_listen",
        flag: "http-listen",
        kind: Kind::Text("ADDRESS"),
        default: "127.0.0.1:7433",
        help: "Where `serve` listens for HTTP: health, metrics and the API; off for nowhere",
    },
    Setting {
        key: "max_connections",
        flag: "max-connections",
        kind: Kind::Count,
        default: "100",
        help: "Clients of `serve` at the same time",
    },
    Setting {
        key: "query_memory",
        flag: "query-memory",
        kind: Kind::Size,
        default: "1GiB",
        help: "Memory that one query may take before it is refused",
    },
    Setting {
        key: "tls_cert",
        flag: "tls-cert",
        kind: Kind::Path,
        default: "",
        help: "PEM file with the certificate chain of `serve`, for both ports; needs tls_key",
    },
    Setting {
        key: "tls_key",
        flag: "tls-key",
        kind: Kind::Path,
        default: "",
        help: "PEM file with the private key of the certificate",
    },
    Setting {
        key: "progress",
        flag: "progress",
        kind: Kind::Choice(&["auto", "table", "lines", "off"]),
        default: "auto",
        help: "Progress on standard error: a live table, a line now and then, or nothing",
    },
    Setting {
        key: "log",
        flag: "log",
        kind: Kind::Text("FILTER"),
        default: "info",
        help: "What is logged: error, warn, info, debug, or a filter such as highwater_engine=debug",
    },
    Setting {
        key: "log_format",
        flag: "log-format",
        kind: Kind::Choice(&["text", "json"]),
        default: "text",
        help: "How it is logged",
    },
    Setting {
        key: "log_file",
        flag: "log-file",
        kind: Kind::Path,
        default: "",
        help: "Where it is logged [default: standard error; `highwater.log` in the data folder beside a live table]",
    },
];

impl Setting {
    /// `HIGHWATER_CHECKPOINT_ROOT`.
    pub(crate) fn variable(&self) -> String {
        format!("HIGHWATER_{}", self.key.to_uppercase())
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// A file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The settings' flags on a command line, as given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    given: BTreeMap<&'static str, String>,
    config: Option<PathBuf>,
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("Settings file [env: HIGHWATER_CONFIG] [default: highwater.toml when it is there]")
            .help_heading("Settings");
        SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let default =
                if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
            let choices = setting.kind.choices();
            let help = format!("{}{choices} [env: {}]{default}", setting.help, setting.variable());
            let arg = Arg::new(setting.key).long(setting.flag).value_name(setting.kind.placeholder());
            command.arg(arg.help(help).help_heading("Settings"))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in &SETTINGS {
            if let Some(value) = matches.get_one::<String>(setting.key) {
                self.given.insert(setting.key, value.clone());
            }
        }
        self.config = matches.get_one::<String>("config").map(PathBuf::from);
        Ok(())
    }
}

impl Flags {
    /// What was given for a key on the command line.
    pub(crate) fn given(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(String::as_str)
    }

    /// These flags with another value for one key.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.given.insert(key, value.into());
        self
    }

    /// The flags as arguments of a command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for setting in &SETTINGS {
            if let Some(value) = self.given.get(setting.key) {
                arguments.extend([format!("--{}", setting.flag), value.clone()]);
            }
        }
        if let Some(config) = &self.config {
            arguments.extend(["--config".to_owned(), config.to_string_lossy().into_owned()]);
        }
        arguments
    }

    /// These flags with another value for one key unless it was given.
    pub(crate) fn or(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.given.entry(key).or_insert_with(|| value.into());
        self
    }
}

/// The effective settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Settings {
    /// Reads the file and the environment and puts the flags on top.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key or a wrong value, with its place.
    pub(crate) fn load(flags: &Flags) -> Outcome<Self> {
        let named = flags.config.clone().or_else(named_by_environment);
        let file = match named {
            Some(path) => Some(path),
            None => Some(PathBuf::from("highwater.toml")).filter(|path| path.is_file()),
        };
        let from_file = match &file {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        let file = file.unwrap_or_default();
        Self::resolve(flags, |variable| std::env::var(variable).ok(), &from_file, &file)
    }

    fn resolve(
        flags: &Flags,
        environment: impl Fn(&str) -> Option<String>,
        from_file: &BTreeMap<String, String>,
        file: &Path,
    ) -> Outcome<Self> {
        let mut values = BTreeMap::new();
        for setting in &SETTINGS {
            let (value, origin) = if let Some(value) = flags.given.get(setting.key) {
                if value.is_empty() {
                    return Err(Failure::usage(format!("--{}: no value is given", setting.flag)));
                }
                (value.clone(), Origin::Flag)
            } else if let Some(value) = environment(&setting.variable()).filter(|value| !value.is_empty()) {
                (value, Origin::Environment)
            } else if let Some(value) = from_file.get(setting.key).filter(|value| !value.is_empty()) {
                (value.clone(), Origin::File(file.to_owned()))
            } else {
                (setting.default.to_owned(), Origin::Default)
            };
            if let Err(reason) = setting.kind.check(&value) {
                let place = match origin {
                    Origin::Flag => format!("--{}", setting.flag),
                    Origin::Environment => setting.variable(),
                    _ => format!("{origin}: {}", setting.key),
                };
                return Err(Failure::usage(format!("{place}: `{value}` {reason}")));
            }
            values.insert(setting.key, (value, origin));
        }
        Ok(Self { values })
    }

    fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", |(value, _)| value)
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        PathBuf::from(self.text("data"))
    }

    /// The checkpoint root as a path or URL.
    pub(crate) fn checkpoint_root(&self) -> String {
        match self.text("checkpoint_root") {
            "" => self.data().join("checkpoints").to_string_lossy().into_owned(),
            root => root.to_owned(),
        }
    }

    /// How many workers.
    pub(crate) fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.text("workers").parse().unwrap_or_else(|_| cores())
    }

    /// Memory for the state of all views, in bytes; `None` for the engine's own choice.
    pub(crate) fn state_memory(&self) -> Option<u64> {
        value::parse_size(self.text("state_memory"))
    }

    /// Memory that is to stay free, in bytes; `None` for the engine's own choice.
    pub(crate) fn memory_reserve(&self) -> Option<u64> {
        value::parse_size(self.text("memory_reserve"))
    }

    /// The cache of RocksDB's blocks, in bytes.
    pub(crate) fn block_cache(&self) -> u64 {
        value::parse_size(self.text("block_cache")).unwrap_or(64 << 20)
    }

    /// Between two checkpoints; `None` for off.
    pub(crate) fn checkpoint_interval(&self) -> Option<Duration> {
        parse_duration(self.text("checkpoint_interval"))
    }

    /// How many checkpoints are kept.
    pub(crate) fn retain(&self) -> usize {
        self.text("retain").parse().unwrap_or(3)
    }

    /// Where PostgreSQL's clients are listened for.
    pub(crate) fn pg_listen(&self) -> &str {
        self.text("pg_listen")
    }

    /// Where HTTP is listened for; `None` for nowhere.
    pub(crate) fn http_listen(&self) -> Option<&str> {
        Some(self.text("http_listen")).filter(|address| *address != "off")
    }

    /// How many clients at the same time.
    pub(crate) fn max_connections(&self) -> usize {
        self.text("max_connections").parse().unwrap_or(100)
    }

    /// Memory that one query may take, in bytes.
    pub(crate) fn query_memory(&self) -> u64 {
        value::parse_size(self.text("query_memory")).unwrap_or(1 << 30)
    }

    /// The files of the certificate and its key; none when neither is named.
    pub(crate) fn tls(&self) -> Outcome<Option<(PathBuf, PathBuf)>> {
        let path = |key: &str| Some(self.text(key)).filter(|path| !path.is_empty()).map(PathBuf::from);
        match (path("tls_cert"), path("tls_key")) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (None, None) => Ok(None),
            _ => Err(Failure::usage("TLS needs both tls_cert and tls_key")),
        }
    }

    /// `auto`, `table`, `lines` or `off`.
    pub(crate) fn progress(&self) -> &str {
        self.text("progress")
    }

    /// The filter of what is logged.
    pub(crate) fn log(&self) -> &str {
        self.text("log")
    }

    /// Whether log lines are JSON.
    pub(crate) fn log_json(&self) -> bool {
        self.text("log_format") == "json"
    }

    /// Where is logged, when a file was named.
    pub(crate) fn log_file(&self) -> Option<PathBuf> {
        Some(self.text("log_file")).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// Key, value in effect and where it comes from, in the table's order.
    pub(crate) fn effective(&self) -> Vec<(&'static str, String, String)> {
        let found = |key: &str| match key {
            "checkpoint_root" => self.checkpoint_root(),
            "workers" => self.workers().to_string(),
            "state_memory" if self.state_memory().is_none() => "half of the machine's memory".to_owned(),
            "memory_reserve" if self.memory_reserve().is_none() => "a sixteenth of it, at most 2 GiB".to_owned(),
            _ => self.text(key).to_owned(),
        };
        let origin = |key: &str| self.values.get(key).map_or_else(String::new, |(_, origin)| origin.to_string());
        SETTINGS.iter().map(|setting| (setting.key, found(setting.key), origin(setting.key))).collect()
    }
}

/// The settings file that the environment names.
fn named_by_environment() -> Option<PathBuf> {
    std::env::var_os("HIGHWATER_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// The keys and values of a settings file.
fn read_file(path: &Path) -> Outcome<BTreeMap<String, String>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let mut found = BTreeMap::new();
    for (key, value) in table {
        if !SETTINGS.iter().any(|setting| setting.key == key) {
            return Err(Failure::usage(format!("{shown}: there is no setting `{key}`; see `highwater settings`")));
        }
        let value = match value {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        found.insert(key, value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flag: Option<&str>, env: Option<&str>, file: Option<&str>) -> Outcome<Settings> {
        let mut flags = Flags::default();
        if let Some(value) = flag {
            flags.given.insert("workers", value.to_owned());
        }
        let file: BTreeMap<_, _> = file.map(|value| ("workers".to_owned(), value.to_owned())).into_iter().collect();
        let environment = |name: &str| (name == "HIGHWATER_WORKERS").then(|| env.map(str::to_owned)).flatten();
        Settings::resolve(&flags, environment, &file, Path::new("a.toml"))
    }

    #[test]
    fn a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default() {
        let origin = |settings: Settings| settings.values.get("workers").expect("known").clone();
        let all = resolve(Some("1"), Some("2"), Some("3")).expect("right");
        assert_eq!(origin(all), ("1".to_owned(), Origin::Flag));
        let two = resolve(None, Some("2"), Some("3")).expect("right");
        assert_eq!(origin(two), ("2".to_owned(), Origin::Environment));
        let one = resolve(None, None, Some("3")).expect("right");
        assert_eq!(origin(one), ("3".to_owned(), Origin::File("a.toml".into())));
        assert_eq!(origin(resolve(None, None, None).expect("right")).1, Origin::Default);
    }

    #[test]
    fn what_is_empty_is_not_said_and_refused_as_a_flag() {
        let origin = |settings: Settings| settings.values.get("workers").expect("known").clone();
        let three = resolve(None, Some(""), Some("3")).expect("right");
        assert_eq!(origin(three), ("3".to_owned(), Origin::File("a.toml".into())));
        assert_eq!(origin(resolve(None, Some(""), Some("")).expect("right")).1, Origin::Default);
        assert_eq!(resolve(Some(""), None, None).expect_err("empty").message, "--workers: no value is given");
        let none = |_: &str| Some(String::new());
        let settings = Settings::resolve(&Flags::default(), none, &BTreeMap::new(), Path::new("")).expect("right");
        assert_eq!(settings.checkpoint_interval(), Some(Duration::from_secs(10)), "and not off");
    }

    #[test]
    fn a_wrong_value_is_told_with_its_place() {
        let told = |result: Outcome<Settings>| result.expect_err("wrong").message;
        assert!(told(resolve(Some("many"), None, None)).starts_with("--workers: `many`"));
        assert!(told(resolve(None, Some("0"), None)).starts_with("HIGHWATER_WORKERS: `0`"));
        assert!(told(resolve(None, None, Some("-1"))).starts_with("a.toml: workers: `-1`"));
    }

    #[test]
    fn every_default_is_a_right_value_and_every_setting_is_documented() {
        let page = include_str!("../../../docs/operations.md");
        for setting in &SETTINGS {
            assert_eq!(setting.kind.check(setting.default), Ok(()), "{}", setting.key);
            assert_eq!(setting.flag, setting.key.replace('_', "-"));
            let row = format!("| `{}` | `--{}` | `{}` |", setting.key, setting.flag, setting.variable());
            assert!(page.contains(&row), "docs/operations.md lacks a row that begins {row}");
        }
    }

    #[test]
    fn a_file_with_an_unknown_key_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("highwater.toml");
        std::fs::write(&path, "workers = 3\nworker = 2\n").expect("written");
        assert!(read_file(&path).expect_err("unknown").message.contains("`worker`"));
        std::fs::write(&path, "workers = 3\ndata = \"d\"\n").expect("written");
        assert_eq!(read_file(&path).expect("right").get("workers").map(String::as_str), Some("3"));
    }
}
