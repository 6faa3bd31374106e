//! What the records of a page hold, to and from bytes (docs/formats/state-records.md).
//!
//! Encoding reads a [`PageView`]; decoding writes into a [`PageSink`] and refuses anything that
//! was not written here with [`Error::Corrupt`]. This module knows nothing of files or tables.

use crate::bits;
use crate::error::{Error, Result};
use crate::key::Kind;
use crate::pack::{Reader, pack, put_varint, unpack};
use crate::page::{Layout, PAGE_SLOTS, Page, heap_key};
use crate::slotset;
use crate::table::KeyKind;

/// The format of records, their first byte.
pub(crate) const FORMAT: u8 = 1;

const ALL_LIVE: u8 = 0;
const LIVE_BITMAP: u8 = 1;

/// A page as it was when it was frozen.
#[derive(Debug)]
pub(crate) struct PageView<'a> {
    pub(crate) rows: &'a [u64],
    pub(crate) heap: &'a [u8],
    pub(crate) live: &'a [u64],
    pub(crate) layout: Layout,
}

/// Buffers that encoding and decoding reuse.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    column: Vec<u64>,
    slots: Vec<u16>,
    live: Vec<u16>,
}

impl PageView<'_> {
    fn gather(&self, slots: &[u16], word: usize, column: &mut Vec<u64>) {
        column.clear();
        let (rows, stride) = (self.rows, self.layout.stride);
        column.extend(slots.iter().map(|&slot| rows[usize::from(slot) * stride + word]));
    }

    fn put_columns(&self, slots: &[u16], scratch: &mut Vec<u64>, out: &mut Vec<u8>) {
        for word in 1..self.layout.stride {
            self.gather(slots, word, scratch);
            pack(scratch, out);
        }
    }
}

/// The head of a record of `slots`, with room for so many columns.
fn begin(slots: &[u16], columns: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + PAGE_SLOTS / 8 + slots.len() * columns * 3);
    out.push(FORMAT);
    slotset::put(slots, &mut out);
    out
}

/// The keys of `slots`, which are live and ascend: `format | set | keys`.
pub(crate) fn encode_keys(view: &PageView<'_>, slots: &[u16], scratch: &mut Scratch) -> Vec<u8> {
    let mut bytes = begin(slots, 1);
    let out = &mut bytes;
    view.gather(slots, 0, &mut scratch.column);
    match view.layout.kind {
        KeyKind::U64 => pack(&scratch.column, out),
        KeyKind::Bytes | KeyKind::Placed => {
            let words = std::mem::take(&mut scratch.column);
            let lengths: Vec<u64> = words.iter().map(|word| word & 0xFFFF_FFFF).collect();
            pack(&lengths, out);
            for &word in &words {
                out.extend_from_slice(heap_key(view.heap, word));
            }
            scratch.column = words;
        }
    }
    bytes
}

/// The words of all live slots: `format | set | columns`.
pub(crate) fn encode_image(view: &PageView<'_>, live: &[u16], scratch: &mut Scratch) -> Vec<u8> {
    let mut out = begin(live, view.layout.stride - 1);
    view.put_columns(live, &mut scratch.column, &mut out);
    out
}

/// The words of changed slots and which of them are live:
/// `format | set | 0, or 1 and a bitmap over the set | columns of the live ones`.
pub(crate) fn encode_delta(view: &PageView<'_>, changed: &[u16], scratch: &mut Scratch) -> Vec<u8> {
    let mut out = begin(changed, view.layout.stride - 1);
    let mut live = std::mem::take(&mut scratch.live);
    live.clear();
    live.extend(changed.iter().copied().filter(|&slot| bits::get(view.live, usize::from(slot))));
    if live.len() == changed.len() {
        out.push(ALL_LIVE);
    } else {
        out.push(LIVE_BITMAP);
        let mut bitmap = vec![0u8; changed.len().div_ceil(8)];
        for (at, &slot) in changed.iter().enumerate() {
            bitmap[at / 8] |= u8::from(bits::get(view.live, usize::from(slot))) << (at % 8);
        }
        out.extend_from_slice(&bitmap);
    }
    view.put_columns(&live, &mut scratch.column, &mut out);
    scratch.live = live;
    out
}

/// Applies one record to a page; a page's records apply in the order of their file numbers and,
/// within a file, of their kinds.
pub(crate) fn apply(kind: Kind, bytes: &[u8], layout: Layout, page: &mut Page, scratch: &mut Scratch) -> Result<()> {
    let mut from = Reader::new(bytes);
    let format = from.byte()?;
    if format != FORMAT {
        return Err(Error::corrupt(format!("record format {format} is unknown to this version")));
    }
    let mut slots = std::mem::take(&mut scratch.slots);
    let done = slotset::get(&mut from, &mut slots).and_then(|()| {
        if let Some(&last) = slots.last() {
            let len = usize::from(last) + 1;
            if len > page.capacity(layout.stride) {
                page.grow(len, layout.stride);
            }
            page.len = page.len.max(len);
        }
        match kind {
            Kind::BaseKeys | Kind::Keys => apply_keys(&mut from, &slots, layout, page, scratch),
            Kind::Image => apply_image(&mut from, &slots, layout, page, scratch),
            Kind::Delta => apply_delta(&mut from, &slots, layout, page, scratch),
        }
    });
    scratch.slots = slots;
    done?;
    if from.is_empty() { Ok(()) } else { Err(Error::corrupt("bytes after the end of a record")) }
}

fn apply_keys(
    from: &mut Reader<'_>,
    slots: &[u16],
    layout: Layout,
    page: &mut Page,
    scratch: &mut Scratch,
) -> Result<()> {
    unpack(from, slots.len(), &mut scratch.column)?;
    match layout.kind {
        KeyKind::U64 => scatter(slots, &scratch.column, layout.stride, 0, &mut page.rows),
        KeyKind::Bytes | KeyKind::Placed => {
            for (&slot, &length) in slots.iter().zip(&scratch.column) {
                let length = usize::try_from(length).map_err(|_| Error::corrupt("a key longer than memory"))?;
                let word = page.push_key(from.take(length)?)?;
                let old = std::mem::replace(&mut page.rows[usize::from(slot) * layout.stride], word);
                page.cold.garbage += old as u32 as usize;
            }
        }
    }
    Ok(())
}

fn apply_image(
    from: &mut Reader<'_>,
    slots: &[u16],
    layout: Layout,
    page: &mut Page,
    scratch: &mut Scratch,
) -> Result<()> {
    let live = page.bitmap_mut(crate::page::Bitmap::Live);
    live.fill(0);
    for &slot in slots {
        bits::set(live, usize::from(slot));
    }
    take_columns(from, slots, layout, page, scratch)
}

fn apply_delta(
    from: &mut Reader<'_>,
    slots: &[u16],
    layout: Layout,
    page: &mut Page,
    scratch: &mut Scratch,
) -> Result<()> {
    let bitmap = match from.byte()? {
        ALL_LIVE => None,
        LIVE_BITMAP => Some(from.take(slots.len().div_ceil(8))?),
        tag => return Err(Error::corrupt(format!("delta form {tag} is unknown"))),
    };
    let mut live = std::mem::take(&mut scratch.live);
    live.clear();
    let bitmap_of_page = page.bitmap_mut(crate::page::Bitmap::Live);
    for (at, &slot) in slots.iter().enumerate() {
        let alive = bitmap.is_none_or(|bitmap| bitmap[at / 8] >> (at % 8) & 1 == 1);
        bits::assign(bitmap_of_page, usize::from(slot), alive);
        if alive {
            live.push(slot);
        }
    }
    let done = take_columns(from, &live, layout, page, scratch);
    scratch.live = live;
    done
}

fn take_columns(
    from: &mut Reader<'_>,
    slots: &[u16],
    layout: Layout,
    page: &mut Page,
    scratch: &mut Scratch,
) -> Result<()> {
    for word in 1..layout.stride {
        unpack(from, slots.len(), &mut scratch.column)?;
        scatter(slots, &scratch.column, layout.stride, word, &mut page.rows);
    }
    Ok(())
}

fn scatter(slots: &[u16], column: &[u64], stride: usize, word: usize, rows: &mut [u64]) {
    for (&slot, &value) in slots.iter().zip(column) {
        rows[usize::from(slot) * stride + word] = value;
    }
}

/// Appends a length-prefixed byte string.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
