//! Tables against a plain map: both go through the same random epochs, and must agree after each.
//!
//! The real page store, real files and inline parts are used; a restart throws the tables away and
//! restores them from what was stored last, on as many workers as chance wants.

mod world;

use highwater_state::KeyKind;
use proptest::prelude::*;
use world::{Op, Shape, World};

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (any::<u64>(), 1usize..3000).prop_map(|(seed, rows)| Op::Upsert { seed, rows }),
        4 => (any::<u64>(), 1usize..3000).prop_map(|(seed, rows)| Op::Delete { seed, rows }),
        4 => (any::<u64>(), any::<bool>()).prop_map(|(rebase, all)| Op::Freeze { rebase, all }),
        5 => (1usize..8).prop_map(Op::CopyOut),
        3 => Just(Op::Store),
        1 => Just(Op::StoreInline),
        2 => Just(Op::Fail),
        2 => Just(Op::FreezeForRead),
        3 => (1usize..8).prop_map(Op::CopyRows),
        1 => Just(Op::EndRead),
        2 => Just(Op::Evict),
        2 => (1usize..4).prop_map(|workers| Op::Restart { workers }),
        1 => Just(Op::Compare),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let kind = prop_oneof![Just(KeyKind::U64), Just(KeyKind::Bytes), Just(KeyKind::Placed)];
    (kind, 0usize..4, prop_oneof![Just(1u16), Just(4), Just(16)], prop_oneof![Just(50u64), Just(3000), Just(12_000)])
        .prop_map(|(kind, words, groups, universe)| Shape { kind, words, groups, universe })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn tables_agree_with_a_map(shape in shape(), ops in proptest::collection::vec(op(), 1..60)) {
        let mut world = World::new(shape);
        for op in &ops {
            world.apply(op);
        }
        world.apply(&Op::Compare);
        world.apply(&Op::Restart { workers: 2 });
        world.apply(&Op::Compare);
    }
}

#[test]
fn a_long_life_with_steady_checkpoints_agrees() {
    for kind in [KeyKind::U64, KeyKind::Bytes] {
        let mut world = World::new(Shape { kind, words: 2, groups: 4, universe: 30_000 });
        for round in 0..40 {
            world.apply(&Op::Upsert { seed: round, rows: 6000 });
            world.apply(&Op::Freeze { rebase: 1 << (round % 4), all: false });
            world.apply(&Op::Delete { seed: round + 1000, rows: 3000 });
            world.apply(&Op::CopyOut(2));
            world.apply(&Op::Upsert { seed: round + 2000, rows: 3000 });
            world.apply(if round % 7 == 3 { &Op::Fail } else { &Op::Store });
            if round % 9 == 8 {
                world.apply(&Op::Evict);
                world.apply(&Op::Restart { workers: 1 + round as usize % 3 });
            }
            world.apply(&Op::Compare);
        }
    }
}
