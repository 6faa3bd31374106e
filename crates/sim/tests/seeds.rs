//! Some seeds, the same seed twice, and a crash at every step of one play.

use highwater_sim::{Plan, Run, run, run_plan};

fn must_hold(run: &Run) {
    if let Some(violation) = &run.violation {
        panic!("seed {} broke an invariant: {violation}\n{}", run.seed, run.trace.join("\n"));
    }
}

#[test]
fn two_hundred_seeds_hold() {
    let runs: Vec<Run> = (0..200).map(run).collect();
    runs.iter().for_each(must_hold);
    let total = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>();
    assert!(total(|r| r.counts.published) > 500, "the plays publish");
    for rare in [
        total(|r| r.counts.crashes),
        total(|r| r.counts.fenced),
        total(|r| r.counts.failed),
        total(|r| r.counts.stale),
        total(|r| r.counts.fallbacks),
        total(|r| r.counts.deleted),
    ] {
        assert!(rare > 0, "nothing that is simulated fails to occur");
    }
}

#[test]
fn one_seed_twice_gives_the_same_trace() {
    for seed in [1, 42, 4711, u64::MAX] {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.digest, second.digest);
        assert_eq!(first.trace, second.trace);
    }
    assert_ne!(run(1).digest, run(2).digest);
}

#[test]
fn a_crash_at_every_step_is_survived() {
    for faults in [0, 100] {
        let plan = Plan {
            faults,
            supervisors: 1,
            processes: 2,
            rounds: 8,
            crashes: 0,
            slow: 0,
            rot: 0,
            prunes: 1,
            keep: 2,
            ..Plan::of(7)
        };
        let mut step = 1;
        loop {
            let run = run_plan(&Plan { crash_at: Some(step), ..plan.clone() });
            must_hold(&run);
            if run.counts.crashes == 0 {
                break;
            }
            step += 1;
        }
        assert!(step > 50, "a play has many steps, {step} were crashed at");
    }
}
