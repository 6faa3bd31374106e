//! Makes Nexmark events as Arrow columns: those that are asked for, and without a string per row.
//!
//! With seed 0 the events are those of the `nexmark` crate, value for value, whose configuration is
//! used; the tests compare the two. Each event is a pure function of its number, the configuration
//! and the base time. Event times are exact, where the crate's 32-bit floats lose milliseconds after
//! some hundred thousand events.
//! Invariant: an event draws from its random stream in the crate's order and with its types, so a
//! column that is not wanted is skipped only by drawing for it all the same.

use super::words::{CHANNELS, Channel};
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use highwater_core::splitmix64;
use nexmark::config::NexmarkConfig;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

/// Of so many people or auctions in a row, one is hot.
const HOT_GROUP: usize = 100;

/// Which of a table's columns are wanted, by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted(pub(super) u16);

impl Wanted {
    pub(super) const ALL: Self = Self(u16::MAX);

    pub(super) fn of(places: &[usize]) -> Self {
        Self(places.iter().fold(0, |mask, place| mask | 1 << place))
    }

    #[inline]
    const fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }
}

/// What every event is made from.
#[derive(Debug)]
pub(super) struct Events {
    config: NexmarkConfig,
    channels: &'static [Channel],
    mix: u64,
    micros_per_event: f64,
}

/// The text of one column, row after row.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Text {
    /// Room for so many rows of so many bytes.
    fn with_room(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(rows * bytes), ends }
    }

    fn end_row(&mut self) {
        self.ends.push(i32::try_from(self.bytes.len()).expect("a batch holds less than 2 GiB of text"));
    }

    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.end_row();
    }

    fn letters(&mut self, rng: &mut SmallRng, length: usize) {
        self.bytes.extend((0..length).map(|_| rng.gen_range(b'a'..=b'z')));
    }

    fn finish(self) -> ArrayRef {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        Arc::new(StringArray::new(offsets, Buffer::from_vec(self.bytes), None))
    }
}

fn skip_letters(rng: &mut SmallRng, length: usize) {
    for _ in 0..length {
        rng.gen_range(b'a'..=b'z');
    }
}

fn price(rng: &mut SmallRng) -> i64 {
    price_of(rng.r#gen::<f32>())
}

fn price_of(draw: f32) -> i64 {
    (10.0_f32.powf(draw * 6.0) * 100.0).round() as i64
}

/// How long the filler must be for the event to have the average size.
fn filler(rng: &mut SmallRng, current: usize, average: usize) -> usize {
    if current > average {
        return 0;
    }
    let missing = average - current;
    let spread = (missing + 2) / 5;
    missing - spread + if spread == 0 { 0 } else { rng.gen_range(0..2 * spread) }
}

fn longs(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values))
}

impl Events {
    pub(super) fn new(config: NexmarkConfig, seed: u64) -> Self {
        let micros_per_event = config.us_per_unit as f64 / config.first_rate as f64;
        let mix = if seed == 0 { 0 } else { splitmix64(seed) };
        Self { config, channels: &CHANNELS, mix, micros_per_event }
    }

    /// How many events of all types make up one round of types.
    pub(super) const fn round(&self) -> usize {
        self.config.person_proportion + self.config.auction_proportion + self.config.bid_proportion
    }

    pub(super) const fn config(&self) -> &NexmarkConfig {
        &self.config
    }

    /// An event's time in milliseconds since 1970.
    fn time_ms(&self, number: usize, base_us: i64) -> i64 {
        base_us.div_euclid(1000) + (number as f64 * self.micros_per_event / 1000.0).round() as i64
    }

    fn rng(&self, number: usize) -> SmallRng {
        SmallRng::seed_from_u64(number as u64 ^ self.mix)
    }

    fn event_times(&self, numbers: &[usize], base_us: i64) -> ArrayRef {
        times(numbers.iter().map(|&number| self.time_ms(number, base_us) * 1000).collect())
    }

    /// The newest person when event `number` happens, counted from 0.
    const fn last_person(&self, number: usize) -> usize {
        let (round, within) = (number / self.round(), number % self.round());
        let newest = self.config.person_proportion - 1;
        round * self.config.person_proportion + if within < newest { within } else { newest }
    }

    /// The newest auction when event `number` happens, counted from 0.
    const fn last_auction(&self, number: usize) -> usize {
        let (round, within) = (number / self.round(), number % self.round());
        let per_round = self.config.auction_proportion;
        if within < self.config.person_proportion {
            return (round * per_round).saturating_sub(1);
        }
        let newest = within - self.config.person_proportion;
        round * per_round + if newest < per_round { newest } else { per_round - 1 }
    }

    fn some_person(&self, number: usize, rng: &mut SmallRng) -> usize {
        let people = self.last_person(number) + 1;
        let active = people.min(self.config.active_people);
        people - active + rng.gen_range(0..active + self.config.person_id_lead)
    }

    fn some_auction(&self, number: usize, rng: &mut SmallRng) -> usize {
        let newest = self.last_auction(number);
        let oldest = newest.saturating_sub(self.config.in_flight_auctions);
        oldest + rng.gen_range(0..newest - oldest + 1 + self.config.auction_id_lead)
    }

    /// Bids: auction, bidder, price, channel, url, date_time, extra.
    pub(super) fn bids(&self, numbers: &[usize], base_us: i64, want: Wanted) -> Vec<Option<ArrayRef>> {
        let rows = numbers.len();
        let (mut auctions, mut bidders) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut draws: Vec<f32> = Vec::with_capacity(rows);
        let room = |place, bytes| if want.has(place) { Text::with_room(rows, bytes) } else { Text::default() };
        let (mut names, mut urls, mut extras) = (room(3, 12), room(4, 72), room(6, self.config.avg_bid_byte_size));
        let strings = want.has(3) || want.has(4) || want.has(6);
        for &number in numbers {
            let rng = &mut self.rng(number);
            auctions.push(self.bid_auction(number, rng));
            bidders.push(self.bidder(number, rng));
            draws.push(rng.r#gen());
            if !strings {
                continue;
            }
            let (name, url) = self.channel(rng);
            if want.has(3) {
                names.push(name);
            }
            if want.has(4) {
                urls.push(url);
            }
            if want.has(6) {
                let length = filler(rng, 32, self.config.avg_bid_byte_size);
                extras.letters(rng, length);
                extras.end_row();
            }
        }
        vec![
            want.has(0).then(|| longs(auctions)),
            want.has(1).then(|| longs(bidders)),
            want.has(2).then(|| longs(draws.into_iter().map(price_of).collect())),
            want.has(3).then(|| names.finish()),
            want.has(4).then(|| urls.finish()),
            want.has(5).then(|| self.event_times(numbers, base_us)),
            want.has(6).then(|| extras.finish()),
        ]
    }

    #[inline]
    fn bid_auction(&self, number: usize, rng: &mut SmallRng) -> i64 {
        let auction = if 0 < rng.gen_range(0..self.config.hot_auction_ratio) {
            self.last_auction(number) / HOT_GROUP * HOT_GROUP
        } else {
            self.some_auction(number, rng)
        };
        (auction + self.config.first_auction_id) as i64
    }

    #[inline]
    fn bidder(&self, number: usize, rng: &mut SmallRng) -> i64 {
        // The second of a group, because the first is its hot seller.
        let bidder = if 0 < rng.gen_range(0..self.config.hot_bidder_ratio) {
            self.last_person(number) / HOT_GROUP * HOT_GROUP + 1
        } else {
            self.some_person(number, rng)
        };
        (bidder + self.config.first_person_id) as i64
    }

    #[inline]
    fn channel(&self, rng: &mut SmallRng) -> (&str, &str) {
        if rng.gen_range(0..self.config.hot_channel_ratio) > 0 {
            let index = rng.gen_range(0..self.config.hot_channels.len());
            (&self.config.hot_channels[index], &self.config.hot_urls[index])
        } else {
            let channel = self.channels.choose(rng).expect("there are channels");
            (&channel.name, &channel.url)
        }
    }

    /// People: id, name, email_address, credit_card, city, state, date_time, extra.
    pub(super) fn people(&self, numbers: &[usize], base_us: i64, want: Wanted) -> Vec<Option<ArrayRef>> {
        let rows = numbers.len();
        let config = &self.config;
        let mut ids = Vec::with_capacity(rows);
        let mut texts = [16, 18, 20, 14, 3, config.avg_person_byte_size].map(|bytes| Text::with_room(rows, bytes));
        for &number in numbers {
            let rng = &mut self.rng(number);
            ids.push((self.last_person(number) + config.first_person_id) as i64);
            let [names, emails, cards, cities, states, extras] = &mut texts;
            let before = [&*names, emails, cards, cities, states].map(|text| text.bytes.len());
            names.bytes.extend_from_slice(pick(&config.first_names, rng).as_bytes());
            names.bytes.push(b' ');
            names.push(pick(&config.last_names, rng));
            emails.letters(rng, 7);
            emails.bytes.push(b'@');
            emails.letters(rng, 5);
            emails.push(".com");
            card(cards, rng);
            cities.push(pick(&config.us_cities, rng));
            states.push(pick(&config.us_states, rng));
            let after = [&*names, emails, cards, cities, states].map(|text| text.bytes.len());
            let size = 8 + after.iter().sum::<usize>() - before.iter().sum::<usize>();
            if want.has(7) {
                let length = filler(rng, size, config.avg_person_byte_size);
                extras.letters(rng, length);
                extras.end_row();
            }
        }
        let [names, emails, cards, cities, states, extras] = texts;
        vec![
            want.has(0).then(|| longs(ids)),
            want.has(1).then(|| names.finish()),
            want.has(2).then(|| emails.finish()),
            want.has(3).then(|| cards.finish()),
            want.has(4).then(|| cities.finish()),
            want.has(5).then(|| states.finish()),
            want.has(6).then(|| self.event_times(numbers, base_us)),
            want.has(7).then(|| extras.finish()),
        ]
    }

    /// Auctions: id, item_name, description, initial_bid, reserve, date_time, expires, seller,
    /// category, extra.
    pub(super) fn auctions(&self, numbers: &[usize], base_us: i64, want: Wanted) -> Vec<Option<ArrayRef>> {
        let rows = numbers.len();
        let mut fixed: [Vec<i64>; 6] = std::array::from_fn(|_| Vec::with_capacity(rows));
        let room = |place, bytes| if want.has(place) { Text::with_room(rows, bytes) } else { Text::default() };
        let (mut items, mut descriptions, mut extras) =
            (room(1, 20), room(2, 100), room(9, self.config.avg_auction_byte_size));
        for &number in numbers {
            let rng = &mut self.rng(number);
            letters_or_skip(&mut items, rng, 20, want.has(1));
            letters_or_skip(&mut descriptions, rng, 100, want.has(2));
            for (column, value) in fixed.iter_mut().zip(self.auction_numbers(number, base_us, rng)) {
                column.push(value);
            }
            if want.has(9) {
                let length = filler(rng, 168, self.config.avg_auction_byte_size);
                extras.letters(rng, length);
                extras.end_row();
            }
        }
        let [ids, initial_bids, reserves, expires, sellers, categories] = fixed;
        vec![
            want.has(0).then(|| longs(ids)),
            want.has(1).then(|| items.finish()),
            want.has(2).then(|| descriptions.finish()),
            want.has(3).then(|| longs(initial_bids)),
            want.has(4).then(|| longs(reserves)),
            want.has(5).then(|| self.event_times(numbers, base_us)),
            want.has(6).then(|| times(expires)),
            want.has(7).then(|| longs(sellers)),
            want.has(8).then(|| longs(categories)),
            want.has(9).then(|| extras.finish()),
        ]
    }

    /// An auction's id, initial bid, reserve, end, seller and category.
    fn auction_numbers(&self, number: usize, base_us: i64, rng: &mut SmallRng) -> [i64; 6] {
        let config = &self.config;
        let initial_bid = price(rng);
        let reserve = initial_bid + price(rng);
        let begins = self.time_ms(number, base_us);
        let ahead = config.in_flight_auctions * self.round() / config.auction_proportion;
        let horizon = (self.time_ms(number + ahead, base_us) - begins) as u64;
        let expires = begins + 1 + rng.gen_range(0..(horizon * 2).max(1)) as i64;
        let seller = if rng.gen_range(0..config.hot_seller_ratio) > 0 {
            self.last_person(number) / HOT_GROUP * HOT_GROUP
        } else {
            self.some_person(number, rng)
        };
        let category = config.first_category_id + rng.gen_range(0..config.num_categories);
        [
            (self.last_auction(number) + config.first_auction_id) as i64,
            initial_bid,
            reserve,
            expires * 1000,
            (seller + config.first_person_id) as i64,
            category as i64,
        ]
    }
}

fn letters_or_skip(text: &mut Text, rng: &mut SmallRng, length: usize, wanted: bool) {
    if wanted {
        text.letters(rng, length);
        text.end_row();
    } else {
        skip_letters(rng, length);
    }
}

fn pick<'a>(words: &'a [String], rng: &mut SmallRng) -> &'a str {
    words.choose(rng).expect("lists of words are not empty")
}

/// Sixteen digits in four groups.
fn card(cards: &mut Text, rng: &mut SmallRng) {
    for group in 0..4 {
        if group > 0 {
            cards.bytes.push(b' ');
        }
        // The draw is of an i32, as in the crate: other types draw other numbers.
        let number = rng.gen_range(0..10_000i32);
        cards.bytes.extend([1000, 100, 10, 1].map(|place| b'0' + (number / place % 10) as u8));
    }
    cards.end_row();
}
