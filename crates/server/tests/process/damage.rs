//! Each object of the newest checkpoint truncated, flipped and removed in turn: the damage is told,
//! the checkpoint before is taken, and the views come out right. Never a silent start from nothing, also
//! without the catalog.

use crate::program::{Scene, files_below, rows, text, wait_until};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KEYS: u64 = 30_000;
const ROWS: u64 = 400_000;

/// A view big enough to have files, over a bounded source that takes some seconds.
fn script() -> String {
    format!(
        "CREATE SOURCE gen (k bigint, v bigint) WITH (connector = 'datagen', datagen.rows = '{ROWS}',
             datagen.rows.per.second = '150000', fields.k.kind = 'keyed', fields.k.keys = '{KEYS}',
             fields.v.kind = 'event_number');
         CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS n, sum(v) AS total FROM gen GROUP BY k;
         SELECT count(*), sum(n), sum(total) FROM counts;"
    )
}

const RUN: [&str; 8] = ["run", "script.sql", "--data", "data", "--checkpoint-interval", "300ms", "--progress", "off"];

#[derive(Clone, Copy, Debug)]
enum Damage {
    Truncated,
    Flipped,
    Removed,
}

impl Damage {
    fn apply(self, path: &Path) {
        let bytes = fs::read(path).expect("readable");
        match self {
            Self::Truncated => fs::write(path, &bytes[..bytes.len() / 2]).expect("written"),
            Self::Flipped => {
                let mut bytes = bytes;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                fs::write(path, bytes).expect("written");
            }
            Self::Removed => fs::remove_file(path).expect("removed"),
        }
    }
}

/// A data folder of a killed process that has at least two checkpoints with state.
fn killed() -> Scene {
    let scene = Scene::new();
    scene.write("script.sql", &script());
    let running = scene.start(&RUN);
    wait_until("there are three checkpoints", Duration::from_secs(60), || {
        let manifests = files_below(&scene.path("data/checkpoints"));
        manifests.iter().filter(|path| path.extension().is_some_and(|e| e == "json")).count() >= 3
    });
    running.kill();
    scene
}

/// Copies a data folder without what is kept on this machine alone, so that only the root is left.
fn copy_without_local_state(from: &Path, to: &Path) {
    for path in files_below(from) {
        let name = path.strip_prefix(from).expect("below");
        if name.starts_with("pages") || name.starts_with("files") {
            continue;
        }
        let target = to.join(name);
        fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        fs::copy(&path, target).expect("copied");
    }
}

/// The manifest of the newest checkpoint and the files that it names, by path below the root; and
/// whether the checkpoint before needs each of them too.
fn newest(scene: &Scene) -> Vec<(PathBuf, bool)> {
    let root = scene.path("data/checkpoints");
    let mut manifests: Vec<PathBuf> =
        files_below(&root).into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    manifests.sort();
    // The kill may have left the manifest of a checkpoint that was not yet one.
    let told = text(&scene.output(&["checkpoints", "verify", "data/checkpoints"]).stdout);
    let numbers = told.lines().filter_map(|line| line.strip_prefix("counts ")?.split(':').next()?.parse().ok());
    let committed: u64 = numbers.max().expect("a checkpoint");
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    manifests.retain(|path| number(path).is_some_and(|number| number <= committed));
    let newest = manifests.pop().expect("a manifest");
    let before = manifests.pop().map(|path| fs::read_to_string(path).expect("text")).unwrap_or_default();
    let content = fs::read_to_string(&newest).expect("text");
    let mut objects = vec![(newest, false)];
    for path in files_below(&root).into_iter().filter(|path| path.extension().is_some_and(|e| e == "sst")) {
        let id = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if content.contains(&id) {
            objects.push((path, before.contains(&id)));
        }
    }
    objects
        .into_iter()
        .map(|(path, shared)| (path.strip_prefix(scene.path("data")).expect("below").to_owned(), shared))
        .collect()
}

#[test]
fn damage_is_detected_told_and_survived() {
    let scene = killed();
    let objects = newest(&scene);
    assert!(objects.len() > 1, "the checkpoint has files: {objects:?}");
    for (object, shared) in objects {
        for damage in [Damage::Truncated, Damage::Flipped, Damage::Removed] {
            let case = format!("{} {damage:?}", object.display());
            let copy = Scene::new();
            copy.write("script.sql", &script());
            copy_without_local_state(&scene.path("data"), &copy.path("data"));
            damage.apply(&copy.path("data").join(&object));
            let verified = copy.output(&["checkpoints", "verify", "data/checkpoints"]);
            assert_eq!(verified.status.code(), Some(5), "{case}: {}", text(&verified.stdout));
            assert!(text(&verified.stdout).contains("DAMAGED"), "{case}");
            restart(&copy, &case, shared);
        }
    }
}

#[test]
fn pruning_keeps_a_whole_checkpoint_and_tells_of_a_damaged_one() {
    let scene = killed();
    let mut files = newest(&scene).into_iter().skip(1);
    let (file, _) = files.find(|(_, shared)| !shared).expect("a file that only the newest needs");
    Damage::Removed.apply(&scene.path("data").join(&file));
    let pruned = scene.output(&["checkpoints", "prune", "data/checkpoints", "--retain", "1"]);
    let told = text(&pruned.stderr);
    assert_eq!(pruned.status.code(), Some(5), "{told}");
    assert!(told.contains("DAMAGED") && told.contains("is not in the store; it stays"), "{told}");
    let verified = text(&scene.output(&["checkpoints", "verify", "data/checkpoints"]).stdout);
    let count = |what: &str| verified.lines().filter(|line| line.contains(what)).count();
    assert_eq!((count(": good"), count(": DAMAGED")), (1, 1), "{verified}");
}

/// Starts over a damaged root: falls back and finishes right, or refuses when nothing else is whole.
fn restart(copy: &Scene, case: &str, shared: bool) {
    let output = copy.output(&RUN);
    let (out, told) = (text(&output.stdout), text(&output.stderr));
    assert!(
        told.contains("WARN") || told.contains("ERROR") || !output.status.success(),
        "{case}: nothing told: {told}"
    );
    if output.status.success() {
        let total = ROWS * (ROWS - 1) / 2;
        assert_eq!(rows(&out), [[KEYS.to_string(), ROWS.to_string(), total.to_string()]], "{case}: {told}");
    } else {
        assert!(shared, "{case}: the checkpoint before is whole and must be taken: {told}");
        assert!(told.contains("verif"), "{case}: the reason is told: {told}");
    }
}

#[test]
fn a_catalog_that_is_missing_is_refused_and_nothing_begins_anew() {
    let scene = Scene::new();
    scene.write("script.sql", "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1);");
    let run = ["run", "script.sql", "--exit", "--data", "data", "--progress", "off"];
    let first = scene.output(&run);
    assert!(first.status.success(), "{}", text(&first.stderr));
    fs::remove_file(scene.path("data/catalog.json")).expect("removed");
    let refused = scene.output(&run);
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("catalog.json: it is missing"), "{told}");
    assert!(!scene.path("data/catalog.json").exists());
}
