//! The channels that bids come through, the same as those of the `nexmark` crate, which keeps its
//! own list to itself. The tests compare the two.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::LazyLock;

/// How many channels there are besides the hot ones.
const COUNT: u64 = 10_000;

/// A channel's name and the page it shows.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: String,
    pub(super) url: String,
}

/// All channels in the order in which they are drawn from.
pub(super) static CHANNELS: LazyLock<Vec<Channel>> = LazyLock::new(|| (0..COUNT).map(channel).collect());

fn channel(number: u64) -> Channel {
    let mut url = base_url(number);
    let mut rng = SmallRng::seed_from_u64(number);
    // The draw is of an i32, as in the crate: other types draw other numbers.
    if rng.gen_range(0..10i32) > 0 {
        let id = i64::from((number as i32).reverse_bits()).abs();
        url.push_str(&format!("&channel_id={id}"));
    }
    Channel { name: format!("channel-{number}"), url }
}

fn base_url(seed: u64) -> String {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let (first, second, third) = (path_part(rng), path_part(rng), path_part(rng));
    format!("https://www.nexmark.com/{first}/{second}/{third}/item.htm?query=1")
}

fn path_part(rng: &mut SmallRng) -> String {
    let length = rng.gen_range(3..5usize);
    (0..length)
        .map(|_| if rng.gen_range(0..13i32) == 0 { '_' } else { char::from(rng.gen_range(b'a'..=b'z')) })
        .collect()
}
