//! Whole pipelines: rows in, groups out, exactly once over stops, crashes, failures and other
//! numbers of workers, compared with recomputation from scratch.

mod delivering;
mod numbers;
mod reading;
mod watermarks;

use delivering::grow;
use highwater_engine::core::Bytes;
use highwater_engine::plan::Operator;
use highwater_engine::{CheckpointSettings, Engine, EngineConfig, PipelineSpec, Status, Trigger};
use numbers::{Numbers, Panicking, Wanted, groups_of, pairs_of, plan_of, read_groups, read_pairs, spec_of};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

fn engine(folder: &std::path::Path, workers: usize) -> Engine {
    Engine::start(EngineConfig { workers, ..EngineConfig::new(folder) }).expect("an engine starts")
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_bounded_input_is_aggregated_and_finishes() {
    let folder = tempfile::tempdir().expect("a folder");
    for workers in [1, 2] {
        let engine = engine(&folder.path().join(workers.to_string()), workers);
        let numbers = Numbers::new(500_000, 777);
        let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
        assert!(pipeline.wait_finished(Some(Duration::from_secs(60))).expect("runs"), "{:?}", pipeline.status());
        assert_eq!(read_groups(&pipeline), groups_of(500_000, 777));
        assert!(pipeline.metrics().checkpoints >= 1);
        engine.shutdown().expect("stops");
    }
}

#[test]
fn a_pipeline_is_not_created_when_patience_with_its_root_is_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 1);
    let numbers = Numbers::new(1000, 7);
    // Who claims the place of a pipeline waits for the lock beside its pointer.
    let place = folder.path().join("checkpoints").join("p");
    std::fs::create_dir_all(&place).expect("a folder");
    let lock = std::fs::File::create(place.join(".current.lock")).expect("a file");
    lock.lock().expect("nobody has it");
    let mut looks = 0;
    let given_up = engine.create_while(spec_of("p", &numbers, Wanted::View), move |is_claimed| {
        looks += 1;
        is_claimed || looks < 3
    });
    assert!(given_up.expect("the root has not failed").is_none());
    drop(lock);
    // Once it is claimed patience is told, and the source gives its splits.
    numbers.held.store(true, Relaxed);
    let (held, deadline) = (Arc::clone(&numbers), Instant::now() + Duration::from_secs(60));
    let created = engine.create_while(spec_of("p", &numbers, Wanted::View), move |is_claimed| {
        let is_over = Instant::now() >= deadline;
        if is_claimed || is_over {
            held.held.store(false, Relaxed);
        }
        !is_over
    });
    let pipeline = created.expect("creates").expect("in time");
    assert!(pipeline.wait_finished(Some(Duration::from_secs(60))).expect("runs"), "{:?}", pipeline.status());
    engine.shutdown().expect("stops");
}

#[test]
fn a_source_that_does_not_answer_is_waited_for_as_long_as_it_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 1);
    let numbers = Numbers::new(0, 7);
    numbers.held.store(true, Relaxed);
    let given_up = engine.create_while(spec_of("p", &numbers, Wanted::View), |is_claimed| !is_claimed);
    assert!(given_up.expect("nothing has failed").is_none());
    numbers.held.store(false, Relaxed);
    let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
    numbers.held.store(true, Relaxed);
    numbers.fail_at.store(0, Relaxed);
    numbers.end.store(1000, Relaxed);
    wait_for("the restart that hangs", || pipeline.metrics().restarts == 1);
    pipeline.stop(false).expect("stops");
    engine.shutdown().expect("stops");
    numbers.held.store(false, Relaxed);
}

#[test]
fn a_pipeline_whose_beginning_panics_can_be_created_once_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 1);
    let numbers = Numbers::new(1000, 7);
    let mut spec = spec_of("p", &numbers, Wanted::View);
    spec.plan.nodes[0].operator = Operator::Source(Arc::new(Panicking(Arc::clone(&numbers))));
    let error = engine.create_while(spec, |_| true).expect_err("it panics");
    assert!(error.to_string().contains("told to panic"), "{error}");
    let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
    assert!(pipeline.wait_finished(Some(Duration::from_secs(60))).expect("runs"), "{:?}", pipeline.status());
    engine.shutdown().expect("stops");
}

#[test]
fn it_goes_on_after_a_stop_and_after_a_crash_with_any_number_of_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let numbers = Numbers::new(0, 5000);
    let mut stop_cleanly = true;
    for (round, workers) in [2usize, 2, 1, 3, 2].into_iter().enumerate() {
        let engine = engine(folder.path(), workers);
        let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
        let rows = 200_000 * (round as u64 + 1);
        numbers.end.store(rows, Relaxed);
        wait_for("reading to the end", || {
            read_groups(&pipeline).values().map(|(count, _)| count).sum::<i64>() == rows as i64
        });
        assert_eq!(read_groups(&pipeline), groups_of(rows, 5000), "round {round}");
        if stop_cleanly {
            engine.shutdown().expect("stops");
        } else {
            pipeline.checkpoint(Trigger::Manual).expect("a checkpoint");
            numbers.end.fetch_add(1000, Relaxed);
            drop(engine);
        }
        stop_cleanly = !stop_cleanly;
    }
}

#[test]
fn a_join_goes_on_after_a_stop_and_after_a_crash_with_any_number_of_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let numbers = Numbers::new(0, 50);
    for (round, workers) in [2usize, 1, 3, 2].into_iter().enumerate() {
        let engine = engine(folder.path(), workers);
        let pipeline = engine.create(spec_of("p", &numbers, Wanted::Joined)).expect("creates");
        let rows = 1000 * (round as u64 + 1);
        numbers.end.store(rows, Relaxed);
        let wanted = pairs_of(rows, 50);
        wait_for("all pairs", || read_pairs(&pipeline) == wanted);
        if round % 2 == 0 {
            engine.shutdown().expect("stops");
        } else {
            pipeline.checkpoint(Trigger::Manual).expect("a checkpoint");
            numbers.end.fetch_add(100, Relaxed);
            drop(engine);
        }
    }
}

#[test]
fn state_above_the_memory_budget_is_evicted_and_stays_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = 300_000;
    for round in 1..=2 {
        let config = EngineConfig { workers: 2, state_memory: Bytes(8 << 20), ..EngineConfig::new(folder.path()) };
        let engine = Engine::start(config).expect("an engine starts");
        let numbers = Numbers::new(0, keys);
        numbers.end.store(2 * keys * round, Relaxed);
        // No interval: only the need for memory asks for checkpoints.
        let mut spec = spec_of("p", &numbers, Wanted::View);
        spec.settings.interval = None;
        let pipeline = engine.create(spec).expect("creates");
        let mut metrics = pipeline.metrics();
        let since = Instant::now();
        while metrics.evicted_bytes.0 <= 4 << 20 {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "eviction did not come about in round {round}: {metrics:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
            metrics = pipeline.metrics();
        }
        wait_for("reading to the end", || {
            read_groups(&pipeline).values().map(|(count, _)| count).sum::<i64>() == 2 * keys as i64 * round as i64
        });
        assert_eq!(read_groups(&pipeline), groups_of(2 * keys * round, keys), "round {round}");
        // All rows of the groups are read back and changed, one after another.
        numbers.end.fetch_add(keys, Relaxed);
        wait_for("reading what was evicted", || {
            read_groups(&pipeline).values().map(|(count, _)| count).sum::<i64>() == (2 * round + 1) as i64 * keys as i64
        });
        assert_eq!(read_groups(&pipeline), groups_of((2 * round + 1) * keys, keys), "round {round}");
        drop(engine);
    }
}

#[test]
fn who_loses_its_pipeline_to_another_process_stays_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let numbers = Numbers::new(0, 100);
    numbers.end.store(1000, Relaxed);
    let start = |name: &str| {
        let root = folder.path().join("root").display().to_string();
        let config = EngineConfig { workers: 2, checkpoint_root: root, ..EngineConfig::new(folder.path().join(name)) };
        let engine = Engine::start(config).expect("an engine starts");
        let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
        (engine, pipeline)
    };
    let (_first, loser) = start("first");
    loser.checkpoint(Trigger::Manual).expect("a checkpoint");
    let (second, winner) = start("second");
    // The first one learns it when it publishes next.
    drop(loser.checkpoint(Trigger::Manual));
    wait_for("the loss", || matches!(loser.status(), Status::Lost { .. }));
    let report = winner.checkpoint(Trigger::Manual).expect("a checkpoint");
    assert_eq!(report.outcome, highwater_engine::CheckpointOutcome::Published);
    assert_eq!((loser.metrics().restarts, winner.metrics().restarts), (0, 0));
    second.shutdown().expect("stops");
}

#[test]
fn a_failing_source_fails_its_pipeline_alone_and_it_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 2);
    let (good, bad) = (Numbers::new(100_000, 100), Numbers::new(100_000, 100));
    bad.fail_at.store(50_000, Relaxed);
    let good_pipeline = engine.create(spec_of("good", &good, Wanted::View)).expect("creates");
    let bad_pipeline = engine.create(spec_of("bad", &bad, Wanted::View)).expect("creates");
    wait_for("the failure", || matches!(bad_pipeline.status(), Status::Failed { .. }));
    assert!(good_pipeline.wait_finished(Some(Duration::from_secs(60))).expect("runs"));
    bad.fail_at.store(u64::MAX, Relaxed);
    assert!(bad_pipeline.wait_finished(Some(Duration::from_secs(60))).expect("restarts"));
    assert_eq!(read_groups(&bad_pipeline), groups_of(100_000, 100));
    assert!(bad_pipeline.metrics().restarts >= 1);
    engine.shutdown().expect("stops");
}

#[test]
fn a_restart_that_hangs_holds_up_no_other_pipeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 2);
    let (stuck, other) = (Numbers::new(0, 100), Numbers::new(0, 100));
    let stuck_pipeline = engine.create(spec_of("stuck", &stuck, Wanted::View)).expect("creates");
    let other_pipeline = engine.create(spec_of("other", &other, Wanted::View)).expect("creates");
    let fail = |numbers: &Numbers| {
        numbers.fail_at.store(0, Relaxed);
        numbers.end.store(1000, Relaxed);
    };
    stuck.held.store(true, Relaxed);
    fail(&stuck);
    wait_for("the restart that hangs", || stuck_pipeline.metrics().restarts == 1);
    fail(&other);
    wait_for("the other failure", || matches!(other_pipeline.status(), Status::Failed { .. }));
    other.fail_at.store(u64::MAX, Relaxed);
    wait_for("the other restart", || other_pipeline.status() == Status::Running);
    assert!(matches!(stuck_pipeline.status(), Status::Failed { .. }), "it does not run before it has begun");
    assert_eq!(stuck_pipeline.metrics().restarts, 1, "it is begun once");
    stuck.fail_at.store(u64::MAX, Relaxed);
    stuck.held.store(false, Relaxed);
    wait_for("the restart", || stuck_pipeline.status() == Status::Running);
    for pipeline in [&stuck_pipeline, &other_pipeline] {
        wait_for("all numbers", || read_groups(pipeline) == groups_of(1000, 100));
    }
    engine.shutdown().expect("stops");
}

#[test]
fn an_engine_that_is_dropped_leaves_nobody_with_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let numbers = Numbers::new(0, 100);
    numbers.end.store(1000, Relaxed);
    // What is checkpointed, restarted or restored is ended wherever it is.
    for round in 0..20 {
        let engine = engine(folder.path(), 2);
        let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
        if round % 2 == 0 {
            numbers.fail_at.store(0, Relaxed);
            numbers.end.fetch_add(1000, Relaxed);
            wait_for("the failure", || matches!(pipeline.status(), Status::Failed { .. }));
            numbers.fail_at.store(u64::MAX, Relaxed);
        }
        drop(engine);
    }
}

#[test]
fn an_operator_that_is_new_gets_what_its_input_holds_already() {
    let folder = tempfile::tempdir().expect("a folder");
    let numbers = Numbers::new(0, 1000);
    numbers.end.store(100_000, Relaxed);
    let first = engine(folder.path(), 2);
    let pipeline = first.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
    wait_for("the first view", || read_groups(&pipeline) == groups_of(100_000, 1000));
    pipeline.stop(true).expect("stops");
    let larger = PipelineSpec { plan: plan_of(&numbers, Wanted::ViewOnView), ..spec_of("p", &numbers, Wanted::View) };
    let pipeline = first.create(larger).expect("creates again");
    numbers.end.store(150_000, Relaxed);
    wait_for("the second view", || {
        let scan = pipeline.scan(&["totals".to_owned()]).expect("reads");
        numbers::total_of(&scan.views[0]) == Some((1000, 150_000, (0..150_000).sum()))
    });
    first.shutdown().expect("stops");
}

#[test]
fn many_pipelines_come_and_go_on_one_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 2);
    let numbers: Vec<Arc<Numbers>> = (0..30).map(|_| Numbers::new(10_000, 10)).collect();
    let quick = CheckpointSettings { interval: Some(Duration::from_millis(50)), ..CheckpointSettings::default() };
    let make = |at: usize| {
        let spec = spec_of(&format!("p{at}"), &numbers[at], Wanted::View);
        engine.create(PipelineSpec { settings: quick.clone(), ..spec }).expect("creates")
    };
    let pipelines: Vec<_> = (0..30).map(make).collect();
    for (at, pipeline) in pipelines.iter().enumerate() {
        assert!(pipeline.wait_finished(Some(Duration::from_secs(60))).expect("runs"));
        assert_eq!(read_groups(pipeline), groups_of(10_000, 10));
        if at % 2 == 0 {
            pipeline.delete().expect("is deleted");
            assert_eq!(pipeline.status(), Status::Stopped);
        }
    }
    engine.shutdown().expect("stops");
}

#[test]
fn a_pipeline_that_is_deleted_leaves_no_pages_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path(), 2);
    let files = || engine.page_store().usage().expect("it tells").files;
    for round in 1..=2 {
        let numbers = Numbers::new(200_000, 100_000);
        let pipeline = engine.create(spec_of("p", &numbers, Wanted::View)).expect("creates");
        assert!(pipeline.wait_finished(Some(Duration::from_secs(60))).expect("runs"));
        assert!(files() > 0, "its state is in files, round {round}");
        pipeline.delete().expect("is deleted");
        assert_eq!(files(), 0, "round {round}");
    }
    engine.shutdown().expect("stops");
}

#[test]
fn state_files_of_failed_checkpoints_go_and_are_not_missed_with_any_number_of_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, away) = (folder.path().join("root"), folder.path().join("away"));
    let numbers = Numbers::new(0, 40_000);
    for workers in [2, 3, 1] {
        let config = EngineConfig {
            workers,
            state_memory: Bytes(512 << 10),
            checkpoint_root: root.display().to_string(),
            ..EngineConfig::new(folder.path().join("data"))
        };
        let engine = Engine::start(config).expect("an engine starts");
        let mut spec = spec_of("p", &numbers, Wanted::View);
        spec.settings.interval = None;
        let pipeline = engine.create(spec).expect("creates");
        let files = || engine.page_store().usage().expect("it tells").files;
        assert!(grow(&pipeline, &numbers, 40_000));
        let before = files();
        std::fs::rename(&root, &away).expect("it is unmounted");
        std::fs::create_dir(&root).expect("an empty folder is left");
        for _ in 0..14 {
            assert!(!grow(&pipeline, &numbers, 40_000), "there is no root");
        }
        let left = files().saturating_sub(before);
        assert!(left <= 9 * workers as u64, "{left} files of 14 checkpoints of {workers} workers");
        std::fs::remove_dir_all(&root).expect("it is hidden");
        std::fs::rename(&away, &root).expect("it is mounted again");
        assert!(grow(&pipeline, &numbers, 40_000));
        assert_eq!(read_groups(&pipeline), groups_of(numbers.end.load(Relaxed), 40_000));
        drop(engine);
    }
}
