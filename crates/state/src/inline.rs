//! Records of a small state as one byte string, to stand inside a manifest.
//!
//! `"HWS1" | number u64 LE | count varint | records | BLAKE3 of all before, first 16 bytes`; a record is
//! `operator varint | table u8 | key group varint | page varint | kind u8 | length varint | value`.

use crate::error::{Error, Result};
use crate::key::{FileNumber, Record, RecordKey, TableId};
use crate::pack::{Reader, put_varint};
use crate::record::put_bytes;
use crate::restore::Part;
use highwater_core::OperatorId;

const MAGIC: &[u8; 4] = b"HWS1";
const DIGEST_BYTES: usize = 16;

/// The records as one byte string.
#[must_use]
pub fn encode_inline(number: FileNumber, records: &[Record]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + records.iter().map(|record| record.value.len() + 10).sum::<usize>());
    out.extend_from_slice(MAGIC);
    out.extend(number.to_u64().to_le_bytes());
    put_varint(records.len() as u64, &mut out);
    for Record { key, value } in records {
        put_varint(u64::from(key.table.operator.0), &mut out);
        out.push(key.table.table);
        put_varint(u64::from(key.group), &mut out);
        put_varint(u64::from(key.page), &mut out);
        out.push(key.kind as u8);
        put_bytes(value, &mut out);
    }
    let digest = blake3::hash(&out);
    out.extend_from_slice(&digest.as_bytes()[..DIGEST_BYTES]);
    out
}

/// Reads what [`encode_inline`] wrote.
///
/// # Errors
/// When the bytes are not exactly what was written.
pub fn decode_inline(bytes: &[u8]) -> Result<Part> {
    let Some((content, digest)) = bytes.split_last_chunk::<DIGEST_BYTES>() else {
        return Err(Error::corrupt("an inline part shorter than its digest"));
    };
    if blake3::hash(content).as_bytes()[..DIGEST_BYTES] != digest[..] {
        return Err(Error::corrupt("the digest of an inline part is wrong"));
    }
    let mut from = Reader::new(content);
    if from.take(MAGIC.len())? != MAGIC {
        return Err(Error::corrupt("an inline part of a format unknown to this version"));
    }
    let number = FileNumber::from_u64(u64::from_le_bytes(from.take(8)?.try_into().expect("eight bytes were taken")));
    let count = from.varint_upto(content.len())?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let operator = OperatorId(from.varint_upto(u32::MAX as usize)? as u32);
        let table = TableId { operator, table: from.byte()? };
        let group = from.varint_upto(usize::from(u16::MAX))? as u16;
        let page = from.varint_upto(u32::MAX as usize)? as u32;
        let key = RecordKey::from_parts(table, group, page, from.byte()?)?;
        let length = from.varint_upto(content.len())?;
        records.push(Record { key, value: from.take(length)?.to_vec() });
    }
    if from.is_empty() {
        Ok(Part::Inline(number, records))
    } else {
        Err(Error::corrupt("bytes after the end of an inline part"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;
    use highwater_core::{CheckpointId, WorkerIndex};

    #[test]
    fn parts_read_back_and_every_flipped_bit_is_noticed() {
        let table = TableId { operator: OperatorId(900), table: 1 };
        let record =
            |page, kind| Record { key: RecordKey { table, group: 200, page, kind }, value: vec![page as u8; 5] };
        let records = vec![record(0, Kind::BaseKeys), record(0, Kind::Image), record(300, Kind::Delta)];
        let number = FileNumber::new(CheckpointId(3), WorkerIndex(1));
        let bytes = encode_inline(number, &records);
        let Part::Inline(read_number, read) = decode_inline(&bytes).expect("what was encoded") else {
            panic!("an inline part")
        };
        assert_eq!((read_number, read), (number, records));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(decode_inline(&bad).is_err(), "byte {at}");
            assert!(decode_inline(&bytes[..at]).is_err(), "length {at}");
        }
    }
}
