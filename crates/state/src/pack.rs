//! Frame of reference: a column of words as its minimum and as many bytes a value as its range
//! needs. Also the cursor that reads stored bytes without ever panicking.
//!
//! The width is whole bytes, so packing and unpacking are branch-free loops that vectorise; a
//! general codec on top gains little (docs/decisions). A column of integers around zero is framed
//! by its signed minimum when that is narrower.

use crate::error::{Error, Result};

/// Appends `value` in LEB128.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a column: `width u8 | minimum varint | values little-endian`.
pub(crate) fn pack(values: &[u64], out: &mut Vec<u8>) {
    let (base, range) = frame(values);
    let width = 8 - range.leading_zeros() as usize / 8;
    out.push(width as u8);
    put_varint(base, out);
    match width {
        0 => {}
        1 => narrow::<1>(values, base, out),
        2 => narrow::<2>(values, base, out),
        3 => narrow::<3>(values, base, out),
        4 => narrow::<4>(values, base, out),
        5 => narrow::<5>(values, base, out),
        6 => narrow::<6>(values, base, out),
        7 => narrow::<7>(values, base, out),
        _ => narrow::<8>(values, base, out),
    }
}

/// The minimum and the range, in the order (unsigned or signed) in which the range is smaller.
fn frame(values: &[u64]) -> (u64, u64) {
    let Some(&first) = values.first() else { return (0, 0) };
    let (mut low, mut high, mut signed_low, mut signed_high) = (first, first, first as i64, first as i64);
    for &value in values {
        low = low.min(value);
        high = high.max(value);
        signed_low = signed_low.min(value as i64);
        signed_high = signed_high.max(value as i64);
    }
    let signed_range = signed_high.wrapping_sub(signed_low) as u64;
    if signed_range < high - low { (signed_low as u64, signed_range) } else { (low, high - low) }
}

fn narrow<const W: usize>(values: &[u64], base: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + values.len() * W, 0);
    for (packed, value) in out[start..].as_chunks_mut::<W>().0.iter_mut().zip(values) {
        packed.copy_from_slice(&value.wrapping_sub(base).to_le_bytes()[..W]);
    }
}

/// Reads a column of `count` values; `out` is replaced.
pub(crate) fn unpack(from: &mut Reader<'_>, count: usize, out: &mut Vec<u64>) -> Result<()> {
    let width = usize::from(from.byte()?);
    let base = from.varint()?;
    if width > 8 {
        return Err(Error::corrupt(format!("a column {width} bytes wide")));
    }
    let packed = from.take(count * width)?;
    out.clear();
    match width {
        0 => out.resize(count, base),
        1 => widen::<1>(packed, base, out),
        2 => widen::<2>(packed, base, out),
        3 => widen::<3>(packed, base, out),
        4 => widen::<4>(packed, base, out),
        5 => widen::<5>(packed, base, out),
        6 => widen::<6>(packed, base, out),
        7 => widen::<7>(packed, base, out),
        _ => widen::<8>(packed, base, out),
    }
    Ok(())
}

fn widen<const W: usize>(packed: &[u8], base: u64, out: &mut Vec<u64>) {
    out.extend(packed.as_chunks::<W>().0.iter().map(|value| {
        let mut wide = [0; 8];
        wide[..W].copy_from_slice(value);
        u64::from_le_bytes(wide).wrapping_add(base)
    }));
}

/// A cursor over stored bytes; reading past their end is [`Error::Corrupt`].
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((head, tail)) = self.bytes.split_at_checked(count) else {
            return Err(Error::corrupt(format!("{count} bytes wanted where {} are left", self.bytes.len())));
        };
        self.bytes = tail;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::corrupt("a number of more than 64 bits"))
    }

    /// A varint that must not be above `most`.
    pub(crate) fn varint_upto(&mut self, most: usize) -> Result<usize> {
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(value) if value <= most => Ok(value),
            _ => Err(Error::corrupt(format!("{value} where at most {most} is possible"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column() -> impl Strategy<Value = Vec<u64>> {
        (0u32..=64, any::<u64>()).prop_flat_map(|(bits, base)| {
            let range = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            proptest::collection::vec((0..=range).prop_map(move |v| base.wrapping_add(v)), 0..300)
        })
    }

    proptest! {
        #[test]
        fn columns_read_back(values in column()) {
            let mut bytes = Vec::new();
            pack(&values, &mut bytes);
            let mut out = vec![1, 2, 3];
            let mut reader = Reader::new(&bytes);
            unpack(&mut reader, values.len(), &mut out).expect("what was packed");
            prop_assert!(reader.is_empty());
            prop_assert_eq!(out, values);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0usize..200) {
            let _ = unpack(&mut Reader::new(&bytes), count, &mut Vec::new());
        }

        #[test]
        fn varints_read_back(value in any::<u64>()) {
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            prop_assert_eq!(Reader::new(&bytes).varint().expect("what was put"), value);
        }
    }

    #[test]
    fn sums_around_zero_stay_narrow() {
        let mut bytes = Vec::new();
        pack(&[(-3i64) as u64, 4, 0], &mut bytes);
        assert_eq!(bytes[0], 1);
    }
}
