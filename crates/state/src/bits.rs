//! Bitmaps over the slots of a page: plain words, lowest bit first.

/// How many words `slots` bits need.
#[inline]
pub(crate) const fn words_for(slots: usize) -> usize {
    slots.div_ceil(64)
}

#[inline]
pub(crate) fn get(words: &[u64], at: usize) -> bool {
    words[at / 64] >> (at % 64) & 1 == 1
}

#[inline]
pub(crate) fn set(words: &mut [u64], at: usize) {
    words[at / 64] |= 1 << (at % 64);
}

#[inline]
pub(crate) fn clear(words: &mut [u64], at: usize) {
    words[at / 64] &= !(1 << (at % 64));
}

#[inline]
pub(crate) fn assign(words: &mut [u64], at: usize, value: bool) {
    let word = &mut words[at / 64];
    *word = *word & !(1 << (at % 64)) | u64::from(value) << (at % 64);
}

/// How many bits are set.
pub(crate) fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

/// Replaces `out` by the positions of the set bits, ascending; bitmaps are at most 65,536 bits.
pub(crate) fn positions(words: impl Iterator<Item = u64>, out: &mut Vec<u16>) {
    out.clear();
    for (index, mut word) in words.enumerate() {
        let base = (index * 64) as u16;
        if word == u64::MAX {
            out.extend(base..=base + 63);
            continue;
        }
        while word != 0 {
            out.push(base + word.trailing_zeros() as u16);
            word &= word - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_that_were_set() {
        let mut words = vec![0u64; words_for(200)];
        for at in [0, 63, 64, 130, 199] {
            set(&mut words, at);
        }
        clear(&mut words, 64);
        assign(&mut words, 65, true);
        assign(&mut words, 130, false);
        let mut out = Vec::new();
        positions(words.iter().copied(), &mut out);
        assert_eq!(out, [0, 63, 65, 199]);
        assert_eq!(count(&words), 4);
        assert!(get(&words, 65) && !get(&words, 130));
        positions([u64::MAX, 1].into_iter(), &mut out);
        assert_eq!(out, (0..65).collect::<Vec<u16>>());
    }
}
