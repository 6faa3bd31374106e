//! The text format, what is decided without a database, and the server as its clients see it.

use super::auth::{Login, Logins, login};
use super::encoder::{Family, Kind, Page};
use super::failed::Failed;
use super::latest::{Latest, Seen};
use super::metrics::{BUILD, OF_PIPELINE, OF_PROCESS, ProcessReading, Reading, render};
use super::{Shared, health, serve};
use crate::users::{Role, User, Users};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use highwater::{
    Bytes, CheckpointId, CheckpointOutcome, CheckpointReport, Epoch, Metrics, Status, Trigger, WallMicros,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What must happen happens within this.
const PATIENCE: Duration = Duration::from_secs(60);

const SIZE: Family = Family { name: "size_bytes", kind: Kind::Gauge, help: "A \\ and\na \"quote\"." };
const ASKED: Family = Family { name: "asked_seconds", kind: Kind::Summary, help: "Asked." };

#[test]
fn labels_and_help_are_escaped() {
    let mut page = Page::default();
    page.family(&SIZE).add(&[("name", "a\\b\"c\nd"), ("other", "é")], 1.5);
    let wanted = "# HELP size_bytes A \\\\ and\\na \"quote\".\n\
                  # TYPE size_bytes gauge\n\
                  size_bytes{name=\"a\\\\b\\\"c\\nd\",other=\"é\"} 1.5\n";
    assert_eq!(page.finish(), wanted);
}

#[test]
fn help_and_type_are_told_once_and_only_for_samples() {
    let mut page = Page::default();
    let _ = page.family(&SIZE);
    let mut asked = page.family(&ASKED);
    for pipeline in ["a", "b"] {
        asked.add(&[("pipeline", pipeline), ("quantile", "0.5")], 1e-6);
        asked.add_count(&[("pipeline", pipeline)], 12_345_678_901);
    }
    let wanted = "# HELP asked_seconds Asked.\n\
                  # TYPE asked_seconds summary\n\
                  asked_seconds{pipeline=\"a\",quantile=\"0.5\"} 0.000001\n\
                  asked_seconds_count{pipeline=\"a\"} 12345678901\n\
                  asked_seconds{pipeline=\"b\",quantile=\"0.5\"} 0.000001\n\
                  asked_seconds_count{pipeline=\"b\"} 12345678901\n";
    assert_eq!(page.finish(), wanted);
}

#[test]
fn values_that_are_no_numbers_have_their_names() {
    let mut page = Page::default();
    let mut samples = page.family(&SIZE);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0] {
        samples.add(&[], value);
    }
    let page = page.finish();
    let told: Vec<&str> = page.lines().skip(2).collect();
    assert_eq!(told, ["size_bytes NaN", "size_bytes +Inf", "size_bytes -Inf", "size_bytes 0"]);
}

#[test]
#[should_panic(expected = "told twice")]
fn a_family_is_told_once() {
    let mut page = Page::default();
    page.family(&SIZE).add(&[], 1.0);
    page.family(&SIZE).add(&[], 2.0);
}

fn families() -> Vec<&'static Family> {
    let of_process = OF_PROCESS.iter().map(|measure| &measure.family);
    [&BUILD].into_iter().chain(of_process).chain(OF_PIPELINE.iter().map(|measure| &measure.family)).collect()
}

#[test]
fn metrics_are_those_of_the_documentation() {
    let page = include_str!("../../../../docs/metrics.md");
    for Family { name, kind, help } in families() {
        let row = format!("| `{name}` | {} | {help} |", kind.name());
        assert!(page.contains(&row), "docs/metrics.md lacks the row {row}");
    }
    let known: BTreeSet<&str> = families().iter().map(|family| family.name).collect();
    let words = page.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    for name in words.filter(|word| word.starts_with("highwater_") || word.starts_with("process_")) {
        assert!(known.contains(name), "docs/metrics.md has {name}, which is not measured");
    }
}

#[test]
fn names_say_what_they_count() {
    let units =
        ["_seconds", "_bytes", "_ratio", "_info", "_up", "_keys", "_objects", "_position", "_commits", "_deliveries"];
    for Family { name, kind, help } in families() {
        assert!(name.starts_with("highwater_") || name.starts_with("process_"), "{name}");
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert!(*kind == Kind::Counter || units.iter().any(|unit| name.ends_with(unit)), "{name} has no unit");
        assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
    }
}

fn report() -> CheckpointReport {
    CheckpointReport {
        id: CheckpointId(7),
        epoch: Epoch(40),
        trigger: Trigger::Interval,
        wall: WallMicros(1_700_000_000_250_000),
        outcome: CheckpointOutcome::Published,
        freeze_us: 150,
        duration: Duration::from_millis(1500),
        changed_keys: 3,
        delta_bytes: Bytes(30),
        base_bytes: Bytes(0),
        image_bytes: Bytes(300),
        uploaded_bytes: Bytes(42),
        full_bytes: Bytes(400),
        files: 2,
    }
}

fn process_reading() -> ProcessReading {
    ProcessReading {
        started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        uptime: Duration::from_millis(2500),
        resident: 4096,
        cpu: Duration::from_millis(10),
        tables: None,
        broken: None,
    }
}

#[test]
fn a_pipeline_is_told_in_seconds_bytes_and_ratios() {
    let mut metrics = Metrics {
        rows_in: 5,
        checkpoints: 2,
        failed_checkpoints: 1,
        stuck_deliveries: 3,
        backfill: 415,
        ..Metrics::default()
    };
    (metrics.epoch_us.count, metrics.epoch_us.p99) = (9, 2_500);
    let readings = [
        Reading { name: "bids".to_owned(), is_up: true, metrics, last: Some(report()) },
        Reading { name: "new".to_owned(), is_up: false, metrics: Metrics::default(), last: None },
    ];
    let page = render(&process_reading(), &readings);
    let wanted = [
        "highwater_uptime_seconds 2.5",
        "process_start_time_seconds 1700000000",
        "process_resident_memory_bytes 4096",
        "highwater_pipeline_up{pipeline=\"bids\"} 1",
        "highwater_pipeline_up{pipeline=\"new\"} 0",
        "highwater_pipeline_rows_in_total{pipeline=\"bids\"} 5",
        "highwater_pipeline_epoch_seconds{pipeline=\"bids\",quantile=\"0.99\"} 0.0025",
        "highwater_pipeline_epoch_seconds_count{pipeline=\"bids\"} 9",
        "highwater_pipeline_checkpoints_total{pipeline=\"bids\",outcome=\"published\"} 2",
        "highwater_pipeline_checkpoints_total{pipeline=\"bids\",outcome=\"failed\"} 1",
        "highwater_pipeline_stuck_deliveries{pipeline=\"bids\"} 3",
        "highwater_pipeline_backfill_ratio{pipeline=\"bids\"} 0.415",
        "highwater_pipeline_last_checkpoint_timestamp_seconds{pipeline=\"bids\"} 1700000000.25",
        "highwater_pipeline_last_checkpoint_duration_seconds{pipeline=\"bids\"} 1.5",
        "highwater_pipeline_last_checkpoint_uploaded_bytes{pipeline=\"bids\"} 42",
    ];
    let lines: BTreeSet<&str> = page.lines().collect();
    for line in wanted {
        assert!(lines.contains(line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("last_checkpoint_uploaded_bytes{pipeline=\"new\"}"), "it has made none");
    assert!(!page.contains("highwater_tables_bytes"), "there is no database");
}

#[test]
fn every_sample_stands_below_the_type_of_its_family() {
    let reading = Reading { name: "p".to_owned(), is_up: true, metrics: Metrics::default(), last: Some(report()) };
    let page = render(&process_reading(), &[reading]);
    let mut types = BTreeMap::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, kind) = told.split_once(' ').expect("a name and a type");
            assert_eq!(types.insert(name, kind), None, "{name} is told twice");
            family = name;
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a name");
            assert!(name == family || name.strip_suffix("_count") == Some(family), "{line} is below {family}");
        }
    }
    assert_eq!(types.len(), families().len() - 4, "all but those of an open database");
}

#[test]
fn only_what_makes_views_wrong_or_old_holds_up_readiness() {
    let reason = "boom".to_owned();
    let cases = [
        (Status::Running, 1000, None),
        (Status::Finished, 0, None),
        (Status::Stopped, 0, None),
        (Status::Running, 415, Some("41.5 % done")),
        (Status::Starting, 1000, Some("starting")),
        (Status::Failed { reason: reason.clone(), restarts: 2 }, 1000, Some("after 2 restarts: boom")),
        (Status::Lost { reason }, 1000, Some("boom")),
    ];
    for (status, backfill, wanted) in cases {
        let found = health::reason(&status, backfill, false);
        let is_right = match (&found, wanted) {
            (Some(found), Some(wanted)) => found.contains(wanted),
            (found, wanted) => found.is_none() && wanted.is_none(),
        };
        assert!(is_right, "{status:?}: {found:?}");
    }
    assert!(health::reason(&Status::Running, 1000, true).is_some_and(|reason| reason.contains("paused")));
    assert!(health::reason(&Status::Finished, 1000, true).is_none());
    let failed = Status::Failed { reason: "division by zero for the row secret".to_owned(), restarts: 2 };
    let told = health::reason(&health::without_reason(failed), 1000, false).expect("it is not ready");
    assert!(told.contains("after 2 restarts") && !told.contains("secret"), "{told}");
}

#[test]
fn the_sqlstate_says_the_status() {
    let cases = [
        ("28P01", 401),
        ("42501", 403),
        ("42704", 404),
        ("0A000", 405),
        ("42601", 400),
        ("55000", 409),
        ("57014", 504),
        ("57P03", 503),
        ("58030", 500),
        ("XX000", 500),
    ];
    for (sqlstate, status) in cases {
        assert_eq!(Failed::new(sqlstate, "").status().as_u16(), status, "{sqlstate}");
    }
}

#[test]
fn basic_logins_are_read() {
    let read =
        |value: &'static str| login(&HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]));
    let wanted = Login { name: "app".to_owned(), password: "a:b c".to_owned() };
    assert_eq!(read("Basic YXBwOmE6YiBj"), Some(wanted.clone()));
    assert_eq!(read("basic  YXBwOmE6YiBj"), Some(wanted));
    for wrong in ["Bearer YXBwOmE6YiBj", "Basic", "Basic !", "Basic YXBw", "Basic gIA6"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
    assert_eq!(login(&HeaderMap::new()), None);
}

#[test]
fn a_right_login_is_remembered_for_a_minute() {
    let logins = Logins::default();
    let user = User::new(Role::Reader, "secret");
    let right = Login { name: "app".to_owned(), password: "secret".to_owned() };
    let now = Instant::now();
    assert!(!logins.remembers(&right, &user, now));
    logins.remember(&right, &user, now);
    assert!(logins.remembers(&right, &user, now + Duration::from_secs(59)));
    assert!(!logins.remembers(&right, &user, now + Duration::from_secs(60)));
    let wrong = Login { password: "Secret".to_owned(), ..right.clone() };
    assert!(!logins.remembers(&wrong, &user, now));
    assert!(!logins.remembers(&right, &User::new(Role::Reader, "new"), now), "the password was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_is_under_way_and_impatience_gets_the_last() {
    let latest = Arc::new(Latest::default());
    let first = latest.get(|| 1, PATIENCE).await;
    assert!(matches!(first, Seen::Now(found) if *found == 1));
    let (go, wait) = channel::<()>();
    let blocked = move || {
        // It ends, too, when the test does.
        let _ = wait.recv();
        2
    };
    let before = latest.get(blocked, Duration::ZERO).await;
    assert!(matches!(before, Seen::Before(Some(found)) if *found == 1));
    let joining = Arc::clone(&latest);
    let joined = tokio::spawn(async move { joining.get(|| 3, PATIENCE).await });
    go.send(()).expect("the look waits");
    let joined = joined.await.expect("no panic").newest().expect("found");
    assert!([2, 3].contains(&*joined), "what ended after it had asked");
    let _: Seen<i32> = latest.get(|| panic!("a look that fails"), PATIENCE).await;
    let after = latest.get(|| 4, PATIENCE).await;
    assert!(matches!(after, Seen::Now(found) if *found == 4), "the next one looks again");
}

/// A server without a database.
struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<()>>,
}

async fn served(users: Users, tls: Option<TlsAcceptor>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel();
    let until = async move {
        let _ = stopped.await;
    };
    let ended = tokio::spawn(serve(listener, tls, Arc::new(Shared::new(users)), until));
    Served { address, stop, ended }
}

/// Users as their file has them.
fn users(all: &[(&str, Role)]) -> Users {
    let folder = tempfile::tempdir().expect("a folder");
    let all: BTreeMap<&str, User> = all.iter().map(|(name, role)| (*name, User::new(*role, "secret"))).collect();
    let path = folder.path().join("users.json");
    std::fs::write(&path, serde_json::to_string(&all).expect("JSON")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
    Users::load(folder.path()).expect("read")
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    let whole = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(whole.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("answered");
    answer
}

impl Served {
    /// The head and the body of what is answered to a request line with further headers.
    async fn ask(&self, request: &str) -> (String, String) {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let answer = exchange(stream, request).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }

    async fn status(&self, request: &str) -> u16 {
        let (head, _) = self.ask(request).await;
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test]
async fn a_server_without_a_database_lives_and_is_not_ready() {
    let server = served(Users::default(), None).await;
    let (head, body) = server.ask("GET /health HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 200") && json(&body)["status"] == "starting", "{head} {body}");
    let (head, body) = server.ask("GET /ready HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(json(&body)["reasons"][0]["reason"], "the database is being opened");
    let (head, body) = server.ask("GET /metrics HTTP/1.1").await;
    assert!(head.contains("text/plain; version=0.0.4") && body.contains("highwater_build_info{version="), "{body}");
    let (head, body) = server.ask("GET /api/v1/pipelines/p HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 503") && json(&body)["sqlstate"] == "57P03", "{head} {body}");
    let (head, body) = server.ask("GET /nothing HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 404") && json(&body)["sqlstate"] == "42704", "{head} {body}");
    assert_eq!(server.status("DELETE /health HTTP/1.1").await, 405);
    assert_eq!(server.status("GET /api/v1/pipelines/p/pause HTTP/1.1").await, 405);
    let page = "POST /api/v1/pipelines/p/pause HTTP/1.1\r\nOrigin: http://elsewhere";
    assert_eq!(server.status(page).await, 403, "a page of a browser");
}

#[tokio::test]
async fn users_read_and_administrators_change() {
    let server = served(users(&[("r", Role::Reader), ("w", Role::Writer), ("a", Role::Admin)]), None).await;
    for open in ["/health", "/ready"] {
        assert_ne!(server.status(&format!("GET {open} HTTP/1.1")).await, 401, "{open}");
    }
    for guarded in ["/metrics", "/api/v1/openapi.json", "/api/v1/views", "/nothing"] {
        let (head, body) = server.ask(&format!("GET {guarded} HTTP/1.1")).await;
        assert!(head.starts_with("HTTP/1.1 401") && head.contains("www-authenticate: Basic"), "{guarded}: {head}");
        assert_eq!(json(&body)["sqlstate"], "28P01");
    }
    let [r, w, a] = ["cjpzZWNyZXQ=", "dzpzZWNyZXQ=", "YTpzZWNyZXQ="];
    let [wrong, unknown] = ["cjpTZWNyZXQ=", "eDpzZWNyZXQ="];
    let cases = [("GET /metrics", r, 200), ("GET /metrics", r, 200), ("HEAD /metrics", w, 200)];
    let refused = [("GET /metrics", wrong, 401), ("GET /metrics", unknown, 401)];
    let pause = "POST /api/v1/pipelines/p/pause";
    let changes = [(pause, r, 403), (pause, w, 403), (pause, wrong, 401), (pause, a, 503)];
    for (request, login, wanted) in cases.into_iter().chain(refused).chain(changes) {
        let found = server.status(&format!("{request} HTTP/1.1\r\nAuthorization: Basic {login}")).await;
        assert_eq!(found, wanted, "{request} as {login}");
    }
}

#[tokio::test]
async fn the_description_is_of_what_there_is() {
    let server = served(Users::default(), None).await;
    let (_, text) = server.ask("GET /api/v1/openapi.json HTTP/1.1").await;
    let description = json(&text);
    let paths = description["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 11);
    for (path, methods) in paths {
        let method = methods.as_object().and_then(|all| all.keys().next()).expect("a method").to_uppercase();
        let status = server.status(&format!("{method} {} HTTP/1.1", path.replace("{name}", "p"))).await;
        assert!([200, 503].contains(&status), "{method} {path}: {status}");
    }
    for named in text.split("\"#/components/schemas/").skip(1) {
        let name = named.split('"').next().expect("a name");
        assert!(description["components"]["schemas"][name].is_object(), "{name} is not described");
    }
    assert_eq!(description["components"]["securitySchemes"]["basic"]["scheme"], "basic");
}

#[tokio::test]
async fn a_stop_ends_it_when_requests_are_answered() {
    let server = served(Users::default(), None).await;
    let mut idle = TcpStream::connect(server.address).await.expect("connected");
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    assert!(idle.read(&mut [0; 1024]).await.expect("answered") > 0);
    server.stop.send(()).expect("it serves");
    let ended = tokio::time::timeout(PATIENCE, server.ended).await.expect("in time");
    assert!(ended.expect("no panic").is_ok());
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_handshake_that_stalls_holds_up_nobody() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let secret = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], secret);
    let server = served(Users::default(), Some(TlsAcceptor::from(Arc::new(config.expect("they match"))))).await;
    let _silent = TcpStream::connect(server.address).await.expect("connected");
    let mut plain = TcpStream::connect(server.address).await.expect("connected");
    plain.write_all(b"GET /health HTTP/1.1\r\n\r\n").await.expect("sent");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = tokio::time::timeout(PATIENCE, connected).await.expect("in time").expect("shaken");
    let answer = exchange(stream, "GET /health HTTP/1.1").await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {}", StatusCode::OK.as_u16())), "{answer}");
}
