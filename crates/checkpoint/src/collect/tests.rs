//! The sweep's decisions, without a store.

use super::*;

fn listed(object: Object, modified: i64) -> Listed {
    Listed { path: Path::from(format!("{object:?}")), object, size: 1, modified: WallMicros(modified) }
}

fn file(id: u128, modified: i64) -> Listed {
    listed(Object::File(FileId(id)), modified)
}

fn manifest(id: u64, modified: i64) -> Listed {
    listed(Object::Checkpoint(CheckpointId(id)), modified)
}

fn sweep(listing: &[Listed], referenced: Option<&[u128]>) -> Plan {
    let referenced = referenced.map(|ids| ids.iter().map(|id| FileId(*id)).collect::<BTreeSet<_>>());
    plan(
        listing,
        Marks {
            listed: &BTreeSet::from([CheckpointId(4), CheckpointId(5)]),
            referenced: referenced.as_ref(),
            overtaken: &BTreeSet::from([FileId(1), FileId(2)]),
            now: WallMicros(1000),
            age_guard: Duration::from_micros(100),
        },
    )
}

#[test]
fn what_is_referenced_stays_and_what_was_overtaken_goes() {
    let files = [file(1, 0), file(2, 999), file(3, 0), file(4, 950), file(5, 2000)];
    let plan = sweep(&files, Some(&[1]));
    assert_eq!(plan.kept, [file(1, 0)]);
    assert_eq!(plan.data, [file(2, 999), file(3, 0)], "overtaken though young; unknown and old");
    assert_eq!(plan.young, [file(4, 950), file(5, 2000)], "within the guard; from the future");
}

#[test]
fn manifests_go_when_a_later_one_is_listed_or_nobody_will_list_them() {
    let manifests = [manifest(3, 999), manifest(4, 0), manifest(5, 0), manifest(6, 999), manifest(7, 0)];
    let plan = sweep(&manifests, Some(&[]));
    assert_eq!(plan.manifests, [manifest(3, 999), manifest(7, 0)]);
}

#[test]
fn an_unreadable_manifest_blocks_the_sweep() {
    let plan = sweep(&[file(2, 0), file(9, 0), manifest(1, 0)], None);
    assert!(plan.data.is_empty() && plan.manifests.is_empty());
    assert_eq!(plan.kept.len(), 2);
}

#[test]
fn the_pointer_and_what_is_not_ours_stay() {
    let others = [listed(Object::Current, 0), listed(Object::Foreign, 0), listed(Object::Temporary, 950)];
    assert_eq!(sweep(&others, Some(&[])), Plan::default());
    let old = listed(Object::Temporary, 0);
    assert_eq!(sweep(std::slice::from_ref(&old), Some(&[])).data, [old]);
}
