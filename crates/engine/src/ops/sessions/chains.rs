//! Where the sessions of each key lie in time.
//!
//! A table of keys has the position of each key's newest session, and a table of sessions for each of them
//! the position of the next older one. A session's key is `place (1) | key | birth (8)`, the place being
//! the top byte of its key's hash, so that it lies in its key's key group, and the birth the time of the
//! row that made it: a session never loses a time, so no two that are there have one birth. Its words are
//! those of its accumulators and then [`OWN`] more.
//!
//! Most rows are in the newest session, or make a newer one. A row far behind that costs a search puts its
//! key's sessions in order, in memory, until too many are. Invariants: the sessions of a key are a gap or
//! more apart, and its chain goes from the newest to the oldest; an order has exactly the sessions of the
//! chain.

use crate::error::{Error, Result};
use crate::slices::last_chunk;
use highwater_state::{ByteKeys, Slot, Table, hash_placed};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

/// Words of a key.
pub(crate) const KEY_WORDS: usize = 1;
/// The word of a key: the position of its newest session.
const NEWEST: usize = 0;

/// Words of a session behind its accumulators.
pub(crate) const OWN: usize = 4;
/// Of these: the times of its first and its last row, the position of the next older session, and if the
/// open epoch has changed it and remembers what it was, the number of that from 1, which is 0 between epochs.
pub(super) const FIRST: usize = 0;
pub(super) const LAST: usize = 1;
const OLDER: usize = 2;
const REMEMBERED: usize = 3;

/// What a session's key has besides the key.
const PLACE: usize = 1;
const BIRTH: usize = 8;

/// A row that is behind so many sessions puts them in order.
const FAR: usize = 32;
/// As many sessions are in order at once.
const MOST_ORDERED: usize = 1 << 20;

/// A row's key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub(super) slot: Slot,
    pub(super) hash: u64,
    pub(super) bytes: &'a [u8],
}

/// What sessions are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) gap_us: i64,
    /// Others know them by their starts, and else by their ends alone.
    pub(super) are_known_by_start: bool,
}

/// The sessions of all keys of one worker.
pub(super) struct Chains {
    pub(super) keys: Table,
    pub(super) sessions: Table,
    /// Where a session's own words begin.
    own: usize,
    gap: u64,
    /// By key, sessions by the times of their first rows.
    orders: HashMap<Slot, BTreeMap<i64, Slot>>,
    /// How many sessions they have.
    ordered: usize,
    /// What sessions were before the open epoch changed them is remembered.
    pub(super) remembers: bool,
    /// Of two that are joined, what is left goes on from what the older one was, and else from the newer.
    older_goes_on: bool,
    changed: Vec<Slot>,
    /// The words that they had; zeros of those that were not there.
    before: Vec<u64>,
    /// Sessions that became a part of others in the open epoch.
    gone: Vec<Slot>,
    born: Vec<Slot>,
    created: Vec<u32>,
    key: Vec<u8>,
}

/// The key in a session's key.
pub(super) fn key_of(session: &[u8]) -> &[u8] {
    &session[PLACE..session.len() - BIRTH]
}

impl Chains {
    /// `keys` has keys of kind `Bytes` and [`KEY_WORDS`] words, `sessions` keys of kind `Placed` and
    /// [`OWN`] words behind `own` of accumulators.
    pub(super) fn new(keys: Table, sessions: Table, own: usize, of: Windows) -> Self {
        assert!(keys.words_per_row() == KEY_WORDS && sessions.words_per_row() == own + OWN, "as they are used");
        Self {
            keys,
            sessions,
            own,
            gap: of.gap_us.unsigned_abs(),
            orders: HashMap::new(),
            ordered: 0,
            remembers: false,
            older_goes_on: of.are_known_by_start,
            changed: Vec::new(),
            before: Vec::new(),
            gone: Vec::new(),
            born: Vec::new(),
            created: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Reads back what of the newest sessions of some keys was evicted, together.
    pub(super) fn fetch_newest(&mut self, keys: &[Slot]) -> Result<()> {
        if self.sessions.evicted_pages() == 0 {
            return Ok(());
        }
        let mut newest = Vec::with_capacity(keys.len());
        for key in keys {
            newest.extend(self.newest(*key)?);
        }
        Ok(self.sessions.make_slots_resident(&newest)?)
    }

    /// The newest session of a key, if a row at `time` is in it as it stands or makes it last longer.
    #[inline]
    pub(super) fn place_in_newest(&mut self, key: Slot, time: i64) -> Result<Option<Slot>> {
        let Some(newest) = self.newest(key)? else { return Ok(None) };
        self.sessions.make_slots_resident(&[newest])?;
        if time < self.word(newest, FIRST) || !self.reaches(newest, time) {
            return Ok(None);
        }
        self.remember(newest);
        self.lengthen(newest, time);
        Ok(Some(newest))
    }

    /// The session of a row: one that is there, that lasts longer or began earlier with it, or that is new.
    /// The row may close the gap between two; then the older one, which is to be added to the other, and
    /// that one go to `joined`.
    pub(super) fn place(&mut self, key: Key<'_>, time: i64, joined: &mut Vec<(Slot, Slot)>) -> Result<Slot> {
        if let Some(newest) = self.place_in_newest(key.slot, time)? {
            return Ok(newest);
        }
        let (newer, older) = self.around(key.slot, time)?;
        let near_older = older.filter(|older| self.reaches(*older, time));
        let near_newer = newer.filter(|newer| self.word(*newer, FIRST).abs_diff(time) < self.gap);
        for near in near_older.iter().chain(&near_newer) {
            self.remember(*near);
        }
        match (near_older, near_newer) {
            (Some(older), Some(newer)) => {
                // A row within the older one reaches no newer one.
                self.join(key.slot, older, newer);
                joined.push((older, newer));
                Ok(newer)
            }
            (Some(older), None) => {
                self.lengthen(older, time);
                Ok(older)
            }
            (None, Some(newer)) => {
                self.begin_at(key.slot, newer, time);
                Ok(newer)
            }
            (None, None) => self.bear(key, time, older, newer),
        }
    }

    #[inline]
    pub(super) fn word(&self, session: Slot, word: usize) -> i64 {
        self.sessions.words(session)[self.own + word] as i64
    }

    #[inline]
    fn set(&mut self, session: Slot, word: usize, value: u64) {
        let at = self.own + word;
        self.sessions.update(&[session], |_, words| words[at] = value);
    }

    /// Whether a row that is not before a session's first one is less than the gap after its last one.
    #[inline]
    fn reaches(&self, session: Slot, time: i64) -> bool {
        let last = self.word(session, LAST);
        time <= last || time.abs_diff(last) < self.gap
    }

    #[inline]
    fn lengthen(&mut self, session: Slot, time: i64) {
        if time > self.word(session, LAST) {
            self.set(session, LAST, time as u64);
        }
    }

    fn begin_at(&mut self, key: Slot, session: Slot, time: i64) {
        let first = self.word(session, FIRST);
        self.set(session, FIRST, time as u64);
        if let Some(order) = self.orders.get_mut(&key) {
            order.remove(&first);
            order.insert(time, session);
        }
    }

    /// Puts what is left of an older session into the place of both: its rows are added later.
    fn join(&mut self, key: Slot, older: Slot, newer: Slot) {
        let (first, behind) = (self.word(older, FIRST), self.word(older, OLDER));
        if let Some(order) = self.orders.get_mut(&key) {
            order.remove(&first);
            self.ordered -= 1;
        }
        self.begin_at(key, newer, first);
        self.set(newer, OLDER, behind as u64);
        if self.older_goes_on {
            self.exchange_before(older, newer);
        }
        self.gone.push(older);
    }

    /// Makes what one session was when the epoch began what the other was: so a window that is taken back
    /// and one of the same start that is given are one change.
    fn exchange_before(&mut self, one: Slot, other: Slot) {
        let places = [one, other].map(|session| (self.word(session, REMEMBERED) as usize).checked_sub(1));
        let [Some(one), Some(other)] = places else { return };
        let words = self.own + OWN;
        for at in 0..words {
            self.before.swap(one * words + at, other * words + at);
        }
    }

    /// Makes a session of one row between two others.
    fn bear(&mut self, key: Key<'_>, time: i64, older: Option<Slot>, newer: Option<Slot>) -> Result<Slot> {
        self.key.clear();
        self.key.push((key.hash >> 56) as u8);
        self.key.extend_from_slice(key.bytes);
        self.key.extend_from_slice(&time.to_be_bytes());
        let end = i32::try_from(self.key.len()).map_err(|_| Error::data("session", "a key of over 2 GiB"))?;
        let (ends, hash) = ([0, end], hash_placed(&self.key));
        let keys = ByteKeys::new(&self.key, &ends)?;
        self.created.clear();
        self.sessions.upsert_bytes(&[hash], keys, &mut self.born, &mut self.created)?;
        let Some(session) = self.born.first().copied().filter(|_| !self.created.is_empty()) else {
            return Err(Error::data("session", "two sessions began with one row: restore an older checkpoint"));
        };
        let behind = older.map_or(0, |older| self.sessions.position(older));
        self.set(session, FIRST, time as u64);
        self.set(session, LAST, time as u64);
        self.set(session, OLDER, u64::from(behind));
        self.remember(session);
        let position = u64::from(self.sessions.position(session));
        match newer {
            Some(newer) => self.set(newer, OLDER, position),
            None => self.keys.update(&[key.slot], |_, words| words[NEWEST] = position),
        }
        if let Some(order) = self.orders.get_mut(&key.slot) {
            order.insert(time, session);
            self.ordered += 1;
        }
        Ok(session)
    }
}

/// Search.
impl Chains {
    #[inline]
    fn newest(&self, key: Slot) -> Result<Option<Slot>> {
        self.named(self.keys.key_group(key), self.keys.words(key)[NEWEST])
    }

    /// The session that a chain names; none at its end.
    #[inline]
    fn named(&self, key_group: u16, position: u64) -> Result<Option<Slot>> {
        let session = self.sessions.slot_at(key_group, position as u32);
        if session.is_none() && position != 0 {
            return Err(Error::data("session", "a chain is broken: restore an older checkpoint"));
        }
        Ok(session)
    }

    /// The sessions of a key that are next to a time: the oldest that begins after it, and the newest that
    /// does not. Their pages are in memory.
    fn around(&mut self, key: Slot, time: i64) -> Result<(Option<Slot>, Option<Slot>)> {
        if !self.orders.contains_key(&key) {
            let (mut newer, mut at) = (None, self.newest(key)?);
            for _ in 0..FAR {
                let Some(session) = at else { return Ok((newer, None)) };
                self.sessions.make_slots_resident(&[session])?;
                if self.word(session, FIRST) <= time {
                    return Ok((newer, at));
                }
                newer = at;
                at = self.next_older(session)?;
            }
            self.put_in_order(key)?;
        }
        let order = &self.orders[&key];
        let newer = order.range((Excluded(time), Unbounded)).next().map(|(_, session)| *session);
        let older = order.range(..=time).next_back().map(|(_, session)| *session);
        for near in newer.iter().chain(&older) {
            self.sessions.make_slots_resident(&[*near])?;
        }
        Ok((newer, older))
    }

    /// The newest session of a key that does not begin after a time.
    pub(super) fn at(&mut self, key: Slot, time: i64) -> Result<Option<Slot>> {
        Ok(self.around(key, time)?.1)
    }

    fn next_older(&self, session: Slot) -> Result<Option<Slot>> {
        self.named(self.sessions.key_group(session), self.word(session, OLDER) as u64)
    }

    fn put_in_order(&mut self, key: Slot) -> Result<()> {
        if self.ordered >= MOST_ORDERED {
            self.orders.clear();
            self.ordered = 0;
        }
        let (mut order, mut at) = (BTreeMap::new(), self.newest(key)?);
        while let Some(session) = at {
            self.sessions.make_slots_resident(&[session])?;
            order.insert(self.word(session, FIRST), session);
            at = self.next_older(session)?;
        }
        self.ordered += order.len();
        self.orders.insert(key, order);
        Ok(())
    }
}

/// What no row reaches any more.
impl Chains {
    /// Removes the sessions of the keys on a page that a row reaches only at a time up to `bound`, and the keys
    /// that have no others. The open epoch's changes are given.
    pub(super) fn forget(&mut self, page: usize, bound: i64) -> Result<()> {
        let (mut keys, mut over, mut without) = (Vec::new(), Vec::new(), Vec::new());
        self.keys.live_slots(page, &mut keys)?;
        self.fetch_newest(&keys)?;
        for key in keys {
            let (mut newer, mut at) = (None, self.newest(key)?);
            while let Some(session) = at {
                self.sessions.make_slots_resident(&[session])?;
                if self.is_over(session, bound) {
                    break;
                }
                newer = at;
                at = self.next_older(session)?;
            }
            if at.is_none() {
                continue;
            }
            // What is older than one that is over is so as well.
            match newer {
                Some(newer) => self.set(newer, OLDER, 0),
                None => without.push(key),
            }
            while let Some(session) = at {
                self.sessions.make_slots_resident(&[session])?;
                over.push(session);
                at = self.next_older(session)?;
            }
            self.ordered -= self.orders.remove(&key).map_or(0, |order| order.len());
        }
        self.sessions.delete(&over)?;
        Ok(self.keys.delete(&without)?)
    }

    /// Whether a row beyond `bound` is a gap or more after a session.
    fn is_over(&self, session: Slot, bound: i64) -> bool {
        let last = self.word(session, LAST);
        last <= bound && bound.abs_diff(last) >= self.gap
    }
}

/// What the open epoch changes.
impl Chains {
    /// Keeps what a session was when the epoch began, before it changes.
    #[inline]
    fn remember(&mut self, session: Slot) {
        if !self.remembers || self.word(session, REMEMBERED) != 0 {
            return;
        }
        self.changed.push(session);
        self.before.extend_from_slice(self.sessions.words(session));
        self.set(session, REMEMBERED, self.changed.len() as u64);
    }

    /// Takes a chunk of the sessions that the epoch changed, and the words that they had.
    pub(super) fn take_changed(&mut self) -> Result<(Vec<Slot>, Vec<u64>)> {
        let changed = last_chunk(&mut self.changed);
        self.sessions.make_slots_resident(&changed)?;
        let at = self.own + REMEMBERED;
        self.sessions.update(&changed, |_, words| words[at] = 0);
        let before = self.before.len() - changed.len() * (self.own + OWN);
        Ok((changed, self.before.split_off(before)))
    }

    /// Removes a chunk of the sessions that became parts of others; true when none is left.
    pub(super) fn remove_gone(&mut self) -> Result<bool> {
        let gone = last_chunk(&mut self.gone);
        self.sessions.delete(&gone)?;
        Ok(self.gone.is_empty())
    }
}
