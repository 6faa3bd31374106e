//! The command line from outside: exit codes, help, what goes to which stream.

use crate::program::{Scene, rows, text};
use std::time::Duration;

const BOUNDED: &str = "
    CREATE SOURCE gen (k bigint, v bigint)
        WITH (connector = 'datagen', datagen.rows = '1000', fields.k.kind = 'keyed', fields.k.keys = '10', fields.v.kind = 'event_number');
    CREATE MATERIALIZED VIEW counts AS SELECT v % 2 AS parity, count(*) AS n, sum(v) AS total FROM gen GROUP BY v % 2;
    SELECT parity, n FROM counts ORDER BY parity;";

fn code(scene: &Scene, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = scene.output(arguments);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn wrong_usage_is_2() {
    let scene = Scene::new();
    let wrong: [&[&str]; 6] = [
        &["nonsense"],
        &["run"],
        &["run", "x.sql", "--workers", "none"],
        &["run", "missing.sql"],
        &["serve", "--log", "warning"],
        &["serve", "--pg-listen", "7432"],
    ];
    for arguments in wrong {
        let (code, _, told) = code(&scene, arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {told}");
        assert!(!told.is_empty());
    }
}

#[test]
fn help_is_0_and_tells_exit_codes_and_examples() {
    let scene = Scene::new();
    let (exit, help, _) = code(&scene, &["--help"]);
    assert_eq!(exit, Some(0));
    assert!(help.contains("Exit codes:") && help.contains("Examples:"), "{help}");
    for command in ["serve", "sql", "users", "run", "demo", "checkpoints", "bench", "settings"] {
        let (exit, help, _) = code(&scene, &[command, "--help"]);
        assert_eq!(exit, Some(0), "{command}");
        assert!(help.contains("Examples:"), "{command}: {help}");
    }
}

#[test]
fn the_shell_has_the_options_of_psql() {
    // Nobody listens at port 1; -h is the host and not help.
    let (exit, _, told) = code(&Scene::new(), &["sql", "-h", "127.0.0.1", "-p", "1", "-c", "SELECT 1"]);
    assert_eq!(exit, Some(2), "{told}");
    assert!(told.contains("port 1 failed"), "{told}");
}

#[test]
fn settings_tell_where_they_come_from() {
    let scene = Scene::new();
    scene.write("highwater.toml", "workers = 3\nretain = 5\n");
    let output = scene
        .highwater(&["settings", "--retain", "7"])
        .env("HIGHWATER_CHECKPOINT_INTERVAL", "2s")
        .output()
        .expect("the program starts");
    let table = rows(&text(&output.stdout));
    let of = |key: &str| table.iter().find(|row| row[0] == key).expect("a known setting")[1..].to_vec();
    assert_eq!(of("workers"), ["3", "highwater.toml"]);
    assert_eq!(of("retain"), ["7", "flag"]);
    assert_eq!(of("checkpoint_interval"), ["2s", "environment"]);
    assert_eq!(of("log"), ["info", "default"]);
}

#[test]
fn a_mistyped_variable_is_warned_of() {
    let scene = Scene::new();
    let script = scene.write("x.sql", "SELECT 1 AS one;");
    let script = script.to_string_lossy().into_owned();
    let run = || scene.highwater(&["run", &script, "--data", "data", "--exit", "--progress", "off"]);
    let output = run().env("HIGHWATER_WORKER", "2").output().expect("the program starts");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("WARN") && told.contains("HIGHWATER_WORKER: did you mean HIGHWATER_WORKERS?"), "{told}");
    let output = run().env("HIGHWATER_WORKERS", "2").output().expect("the program starts");
    assert!(!text(&output.stderr).contains("did you mean"), "{}", text(&output.stderr));
}

#[test]
fn a_second_demo_leaves_the_folder_of_the_first_alone() {
    let scene = Scene::new();
    let kept = scene.write("highwater-demo/kept", "by the first");
    for claim in ["highwater-demo.lock", "highwater-demo/lock"] {
        let path = scene.write(claim, "");
        let first = std::fs::File::open(&path).expect("a file");
        first.try_lock().expect("nobody else has it");
        let mut second = scene.highwater(&["demo", "--minutes", "0.01", "--progress", "off"]);
        let second = second.env("TMPDIR", scene.path("")).output().expect("the program starts");
        let told = text(&second.stderr);
        assert_eq!(second.status.code(), Some(4), "{told}");
        assert!(told.contains("another demo runs there"), "{told}");
        assert!(kept.exists(), "what the first has is there");
        drop(first);
    }
}

#[test]
fn a_bounded_script_ends_with_0_and_prints_its_closing_select() {
    let scene = Scene::new();
    scene.write("script.sql", BOUNDED);
    let (exit, out, told) = code(&scene, &["run", "script.sql", "--data", "data"]);
    assert_eq!(exit, Some(0), "{told}");
    assert_eq!(rows(&out), [["0", "500"], ["1", "500"]].map(|row| row.map(str::to_owned).to_vec()), "{out}");
    assert_eq!(scene.select("SELECT sum(n) FROM counts"), [["1000".to_owned()]], "it is still there");
    let (exit, out, told) = code(&scene, &["run", "script.sql", "--data", "data"]);
    assert_eq!(exit, Some(0), "run again, it resumes: {told}");
    assert_eq!(rows(&out).len(), 2);
}

#[test]
fn a_wrong_statement_is_1_and_told_with_its_place() {
    let scene = Scene::new();
    scene.write("script.sql", "SELECT 1;\nSELECT nonsense FROM nowhere;\n");
    let (exit, _, told) = code(&scene, &["run", "script.sql", "--data", "data"]);
    assert_eq!(exit, Some(1), "{told}");
    assert!(told.contains("script.sql") && told.contains("nowhere"), "{told}");
}

#[test]
fn a_data_folder_that_cannot_be_is_4() {
    let scene = Scene::new();
    scene.write("script.sql", "SELECT 1;");
    scene.write("taken", "a file where the folder should be");
    let (exit, _, told) = code(&scene, &["run", "script.sql", "--data", "taken"]);
    assert_eq!(exit, Some(4), "{told}");
    let (exit, _, told) = code(&scene, &["serve", "--data", "taken"]);
    assert_eq!(exit, Some(4), "{told}");
    let (exit, _, told) = code(&scene, &["checkpoints", "list", "nowhere"]);
    assert_eq!(exit, Some(4), "{told}");
}

#[test]
fn a_signal_stops_it_cleanly_and_checkpoints_can_be_looked_at() {
    let scene = Scene::new();
    scene.write("script.sql", &BOUNDED.replace("datagen.rows = '1000'", "datagen.rows.per.second = '50000'"));
    // No other checkpoint just before the stop, after which there would be nothing for a final one.
    let arguments = ["run", "script.sql", "--data", "data", "--checkpoint-interval", "60s", "--progress", "off"];
    let mut running = scene.start(&arguments);
    assert_eq!(running.wait(Duration::from_secs(3)), None, "{}", scene.log());
    assert_eq!(running.stop(), Some(0), "{}", scene.log());
    let (exit, out, told) = code(&scene, &["checkpoints", "list", "data/checkpoints"]);
    assert_eq!(exit, Some(0), "{told}");
    let listed = rows(&out);
    assert!(!listed.is_empty() && listed.len() <= 3, "{out}");
    let (exit, out, _) = code(&scene, &["checkpoints", "show", "data/checkpoints", &listed[0][0]]);
    assert_eq!(exit, Some(0));
    assert!(out.contains("asked for by: final"), "{out}");
    let (exit, _, told) = code(&scene, &["checkpoints", "show", "data/checkpoints", "nobody"]);
    assert_eq!(exit, Some(4), "{told}");
    assert!(told.contains("there is no pipeline `nobody`"), "{told}");
    let (exit, out, _) = code(&scene, &["checkpoints", "verify", "data/checkpoints"]);
    assert_eq!(exit, Some(0), "{out}");
    let (exit, ..) = code(&scene, &["checkpoints", "prune", "data/checkpoints", "--retain", "1"]);
    assert_eq!(exit, Some(0));
    let (_, out, _) = code(&scene, &["checkpoints", "list", "data/checkpoints"]);
    assert_eq!(rows(&out).len(), 1, "{out}");
}
