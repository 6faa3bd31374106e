//! A set of slot numbers of a page, in the smallest of three forms: a range, a bitmap, or gaps.
//!
//! Tags are persisted: 0 range `start varint | length varint`; 1 bitmap `words u8 | words`;
//! 2 gaps `count varint | per slot its distance from the one before, less one, where a byte of
//! 255 adds 255 and goes on`.

use crate::bits;
use crate::error::{Error, Result};
use crate::pack::{Reader, put_varint};
use crate::page::PAGE_SLOTS;

const RANGE: u8 = 0;
const BITMAP: u8 = 1;
const GAPS: u8 = 2;

/// Appends a set; `slots` ascend strictly and are below [`PAGE_SLOTS`].
pub(crate) fn put(slots: &[u16], out: &mut Vec<u8>) {
    let (Some(&first), Some(&last)) = (slots.first(), slots.last()) else {
        out.extend([RANGE, 0, 0]);
        return;
    };
    if usize::from(last - first) + 1 == slots.len() {
        out.push(RANGE);
        put_varint(u64::from(first), out);
        put_varint(slots.len() as u64, out);
        return;
    }
    let words = bits::words_for(usize::from(last) + 1);
    // A byte a slot, and one for each 255 that are passed over.
    if words * 8 < slots.len() + usize::from(last) / 255 {
        put_bitmap(slots, words, out);
        return;
    }
    out.push(GAPS);
    put_varint(slots.len() as u64, out);
    let mut next = 0;
    for &slot in slots {
        let mut gap = slot - next;
        while gap >= 255 {
            out.push(255);
            gap -= 255;
        }
        out.push(gap as u8);
        next = slot + 1;
    }
}

fn put_bitmap(slots: &[u16], words: usize, out: &mut Vec<u8>) {
    out.extend([BITMAP, words as u8]);
    let mut bitmap = [0u64; PAGE_SLOTS / 64];
    for &slot in slots {
        bits::set(&mut bitmap, usize::from(slot));
    }
    for word in &bitmap[..words] {
        out.extend(word.to_le_bytes());
    }
}

/// Reads a set; `out` is replaced by it, ascending.
pub(crate) fn get(from: &mut Reader<'_>, out: &mut Vec<u16>) -> Result<()> {
    match from.byte()? {
        RANGE => {
            let start = from.varint_upto(PAGE_SLOTS)?;
            let length = from.varint_upto(PAGE_SLOTS - start)?;
            out.clear();
            out.extend(start as u16..(start + length) as u16);
            Ok(())
        }
        BITMAP => {
            let words = usize::from(from.byte()?);
            if words > PAGE_SLOTS / 64 {
                return Err(Error::corrupt(format!("a slot bitmap of {words} words")));
            }
            let words = from.take(words * 8)?.as_chunks::<8>().0;
            bits::positions(words.iter().map(|word| u64::from_le_bytes(*word)), out);
            Ok(())
        }
        GAPS => get_gaps(from, out),
        tag => Err(Error::corrupt(format!("slot set form {tag} is unknown"))),
    }
}

fn get_gaps(from: &mut Reader<'_>, out: &mut Vec<u16>) -> Result<()> {
    let count = from.varint_upto(PAGE_SLOTS)?;
    out.clear();
    let mut next = 0usize;
    for _ in 0..count {
        loop {
            let gap = from.byte()?;
            next += usize::from(gap);
            if gap < 255 {
                break;
            }
        }
        if next >= PAGE_SLOTS {
            return Err(Error::corrupt(format!("slot {next} of a page of {PAGE_SLOTS}")));
        }
        out.push(next as u16);
        next += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sets_read_back(density in 1u32..200, seed in any::<u64>(), from in 0u16..4096) {
            let mut rng = highwater_core::Rng::seeded(seed);
            let slots: Vec<u16> = (from..4096).filter(|_| rng.one_in(u64::from(density))).collect();
            let mut bytes = Vec::new();
            put(&slots, &mut bytes);
            prop_assert!(bytes.len() <= 2 + 512 + 2);
            let mut out = vec![9];
            let mut reader = Reader::new(&bytes);
            get(&mut reader, &mut out).expect("what was put");
            prop_assert!(reader.is_empty());
            prop_assert_eq!(out, slots);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut out = Vec::new();
            if get(&mut Reader::new(&bytes), &mut out).is_ok() {
                prop_assert!(out.windows(2).all(|w| w[0] < w[1]) && out.iter().all(|s| *s < 4096));
            }
        }
    }
}
