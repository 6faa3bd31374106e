//! Small messages between a pipeline's workers: ticks, supplies and receipts, each addressed.
//!
//! They travel as JSON between processes, as they are few and some hold values of any shape. A
//! broadcast is one parcel a worker, since Timely counts what goes in against what comes out.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::io::Write;
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};

/// A message for one worker; empty only after it was taken.
#[derive(Clone, Debug)]
pub(crate) struct Parcel<T> {
    pub(crate) to: usize,
    pub(crate) content: Option<T>,
}

impl<T> Default for Parcel<T> {
    fn default() -> Self {
        Self { to: 0, content: None }
    }
}

impl<T> Parcel<T> {
    pub(crate) const fn new(to: usize, content: T) -> Self {
        Self { to, content: Some(content) }
    }
}

impl<T> Accountable for Parcel<T> {
    fn record_count(&self) -> i64 {
        i64::from(self.content.is_some())
    }
}

thread_local! {
    static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<T: Serialize + DeserializeOwned> ContainerBytes for Parcel<T> {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes of length"));
        let content = serde_json::from_slice(&bytes[8..8 + length as usize]);
        Self { to: 0, content: content.expect("a peer of the same version sent a valid message") }
    }

    fn length_in_bytes(&self) -> usize {
        ENCODED.with_borrow_mut(|encoded| {
            *encoded = serde_json::to_vec(&self.content).expect("messages have string keys");
            8 + encoded.len().next_multiple_of(8)
        })
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        ENCODED.with_borrow_mut(|encoded| {
            let length = encoded.len() as u64;
            encoded.resize(encoded.len().next_multiple_of(8), b' ');
            let sent = writer.write_all(&length.to_le_bytes()).and_then(|()| writer.write_all(encoded));
            sent.expect("the buffer was sized by length_in_bytes");
        });
    }
}

/// Delivers parcels where they are addressed to.
pub(crate) struct ByAddress;

impl<T> Distributor<Parcel<T>> for ByAddress {
    fn partition<E: Clone, P: Push<Message<E, Parcel<T>>>>(
        &mut self,
        parcel: &mut Parcel<T>,
        time: &E,
        pushers: &mut [P],
    ) {
        let to = parcel.to;
        Message::push_at(parcel, time.clone(), &mut pushers[to]);
    }

    fn flush<E: Clone, P: Push<Message<E, Parcel<T>>>>(&mut self, _time: &E, _pushers: &mut [P]) {}
}
