//! Randomness that can be seeded: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
//!
//! Not for secrets. The same seed gives the same numbers on every machine and in every version.

/// SplitMix64's output function over one state: a good 64-bit mixer of a counter.
#[inline]
#[must_use]
pub const fn splitmix64(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A seeded stream of numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of a seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream nobody can repeat; for ids and for jitter.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    #[must_use]
    pub fn from_os() -> Self {
        let seed = getrandom::u64().expect("the operating system gives random bytes");
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        let out = splitmix64(self.state);
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        out
    }

    /// A number below `bound`, which is not 0 (by multiplication: the bias is below `bound`/2^64).
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// True once in `n` times on average.
    pub const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_sequence() {
        // The first outputs of SplitMix64 seeded with 1234567, from its reference implementation.
        let mut rng = Rng::seeded(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::seeded(7);
        assert!((0..10_000).all(|_| rng.below(10) < 10));
    }
}
