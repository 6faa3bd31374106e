//! The hash that places every key: its top bits are the key group, the 32 bits below them the
//! index tag. The exchange between workers and the state tables use the same values.
//!
//! Invariant: these functions never change, because placement in stored checkpoints depends on
//! them; test vectors pin them. They are not made against adversaries.

const SECRET: [u64; 3] = [0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB, 0x8EBC_6AF0_9C88_C6E3];

/// The hash of a 64-bit key: the finaliser "moremur" of Pelle Evensen (2019) over the key plus
/// the golden ratio, so that 0 has no special place.
#[inline]
#[must_use]
pub const fn hash_u64(key: u64) -> u64 {
    let mut x = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 27)).wrapping_mul(0x3C79_AC49_2BA7_B653);
    x = (x ^ (x >> 33)).wrapping_mul(0x1C69_B3F7_4AC4_AE35);
    x ^ (x >> 27)
}

/// The hashes of a column of 64-bit keys; `out` is replaced.
pub fn hash_u64s(keys: &[u64], out: &mut Vec<u64>) {
    out.clear();
    out.extend(keys.iter().map(|&key| hash_u64(key)));
}

/// The hash of a byte string: wyhash's folded multiplications (Wang Yi, final version 4) with one
/// lane of 16 bytes, which is the fastest for keys of tens of bytes.
#[inline]
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let mut seed = SECRET[0];
    let (a, b) = if len > 16 {
        let mut rest = bytes;
        while let Some((lane, tail)) = rest.split_first_chunk::<16>() {
            if tail.is_empty() {
                break;
            }
            seed = fold(read8(lane, 0) ^ SECRET[1], read8(lane, 8) ^ seed);
            rest = tail;
        }
        (read8(bytes, len - 16), read8(bytes, len - 8))
    } else if len >= 4 {
        let step = (len >> 3) << 2;
        (read4(bytes, 0) << 32 | read4(bytes, step), read4(bytes, len - 4) << 32 | read4(bytes, len - 4 - step))
    } else if let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) {
        (u64::from(first) << 16 | u64::from(bytes[len / 2]) << 8 | u64::from(last), 0)
    } else {
        (0, 0)
    };
    let folded = u128::from(a ^ SECRET[1]) * u128::from(b ^ seed);
    fold(folded as u64 ^ SECRET[2] ^ len as u64, (folded >> 64) as u64 ^ SECRET[1])
}

/// The hash of a byte string that begins with the byte, or the whole hash, which places it: its
/// first byte is the top of its hash and so decides the key group. Values of a group live where
/// the group does, rows of a join's side where their join key does.
#[inline]
#[must_use]
pub fn hash_placed(bytes: &[u8]) -> u64 {
    let place = bytes.first().map_or(0, |first| u64::from(*first) << 56);
    place | hash_bytes(bytes) >> 8
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn read8(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the slice has eight bytes"))
}

#[inline]
fn read4(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the slice has four bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Persisted placement depends on these values: a change here loses every stored checkpoint.
    #[test]
    fn the_hashes_never_change() {
        let words: Vec<u64> = [0, 1, 2, u64::MAX, 1 << 63].map(hash_u64).to_vec();
        assert_eq!(words, PINNED_WORDS);
        let text = b"a stitch in time saves nine, and a page saves four thousand";
        let bytes: Vec<u64> =
            [0, 1, 3, 4, 8, 15, 16, 17, 32, 33, text.len()].iter().map(|&n| hash_bytes(&text[..n])).collect();
        assert_eq!(bytes, PINNED_BYTES);
        assert_eq!(hash_placed(text), u64::from(text[0]) << 56 | PINNED_BYTES[10] >> 8);
    }

    const PINNED_WORDS: [u64; 5] = [
        0xB70F_B2CC_55AF_013F,
        0x90FA_784D_FF59_DF1D,
        0x927C_0B9C_2732_9E1F,
        0x0871_64D5_C9E6_AE5E,
        0x92F9_8E73_61AA_CF96,
    ];
    const PINNED_BYTES: [u64; 11] = [
        0x5EA7_9A9B_8821_8624,
        0xD05B_FB72_B77C_BF3E,
        0x4DAA_68B1_0770_19CF,
        0x8C87_B20E_4BA3_C256,
        0x6EC9_92CA_1311_D854,
        0x082A_C957_31E9_43B6,
        0x4247_D380_66D4_428E,
        0xAF64_54A9_F551_62CD,
        0xC041_741C_2895_4B84,
        0xB4BF_3C9E_BB96_D76D,
        0x2006_5F27_E8F3_D634,
    ];

    #[test]
    fn sequential_keys_fill_groups_and_tags_evenly() {
        for stride in [1u64, 2, 8, 1 << 20, 1 << 40] {
            let mut groups = [0u32; 256];
            let mut homes = vec![0u32; 1 << 12];
            for i in 0..1u64 << 18 {
                let hash = hash_u64(i.wrapping_mul(stride));
                groups[(hash >> 56) as usize] += 1;
                homes[(hash >> 24) as usize & 0xFFF] += 1;
            }
            assert!(groups.iter().all(|&n| (824..=1224).contains(&n)), "stride {stride}: {groups:?}");
            assert!(homes.iter().all(|&n| (16..=128).contains(&n)), "stride {stride}");
        }
    }

    #[test]
    fn every_bit_of_a_byte_key_matters() {
        for len in 1..70usize {
            let base = vec![0x5Au8; len];
            for bit in 0..len * 8 {
                let mut other = base.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                let changed = (hash_bytes(&base) ^ hash_bytes(&other)).count_ones();
                assert!((8..=56).contains(&changed), "length {len} bit {bit}: {changed} bits changed");
            }
        }
    }
}
