//! Accumulators: which words of a slot an aggregate keeps, how a batch changes them column by
//! column, and what they say in the end.
//!
//! Word 0 of every slot is the number of rows in its group. Counts and integer sums are *additive*:
//! one pass adds them all; they may go around while an epoch's rows come in, which is counted apart
//! ([`Carries`]), and are exact at its end or an error. Float sums are kept as an unevaluated sum of two
//! doubles, so that deletes take back what inserts brought; where there are deletes, NaNs, infinities and
//! what is too large for a double are counted beside it (`floats`). Extremes of streams that only insert
//! are one word in an order-preserving form; all others are in ordered multisets (`extremes`).
//! Invariant: the words depend on the multiset of rows, not on their order (floats: to the last bit
//! or so).

mod combine;
mod floats;

use crate::decimal::Division;
use crate::error::{Error, Result};
use crate::plan::{Aggregate, AggregateFunction};
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray, UInt64Array, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
pub(crate) use combine::is_combinable;
use floats::{COUNTED, add_counted_floats, add_floats, counted_sum, float_sum};
use highwater_state::{Slot, Table};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The word that counts the rows of a group.
pub(crate) const ROWS: usize = 0;

/// One aggregate's place in the words, or in a multiset.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// count(*): [`ROWS`].
    Rows,
    /// The count of non-null arguments.
    Valid(usize),
    /// A sum: its first word, and the word that counts non-null arguments.
    Sum { kind: SumKind, word: usize, valid: usize },
    /// A sum divided by its count, which has so many decimal digits more behind the point.
    Avg { kind: SumKind, word: usize, valid: usize, digits: u32 },
    /// The least or greatest value in order-preserving form, of an append-only stream.
    Extreme { word: usize, valid: usize, max: bool },
    /// The least or greatest value of a multiset, by the multiset's number.
    Set { set: usize, max: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SumKind {
    /// One word; overflow at an epoch's end is an error.
    Integer,
    /// One word; overflow at an epoch's end is an error.
    Unsigned,
    /// Two words: the high and the low part.
    Float,
    /// The same of the finite values, and the numbers of NaNs, infinities, negative infinities and units (`floats`).
    CountedFloat,
    /// Two words: the low and the high half of an i128.
    Decimal,
}

impl Place {
    /// What it is called where state is kept for it.
    pub(crate) fn words(&self) -> String {
        let extreme = |max: bool| if max { "max" } else { "min" };
        match *self {
            Self::Rows => "rows".to_owned(),
            Self::Valid(valid) => format!("count {valid}"),
            Self::Sum { kind, word, valid } => format!("{} sum {word} count {valid}", kind.word()),
            Self::Avg { kind: SumKind::Decimal, word, valid, .. } => format!("rounded avg {word} count {valid}"),
            Self::Avg { kind, word, valid, .. } => format!("{} avg {word} count {valid}", kind.word()),
            Self::Extreme { word, valid, max } => format!("{} {word} count {valid}", extreme(max)),
            Self::Set { set, max } => format!("{} of set {set}", extreme(max)),
        }
    }
}

impl SumKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::Float => "float",
            Self::CountedFloat => "counted float",
            Self::Decimal => "decimal",
        }
    }
}

/// How the aggregates of one GROUP BY lie in a slot.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// In the order of the aggregates.
    pub(crate) places: Vec<(Place, DataType)>,
    /// Words a slot.
    pub(crate) words: usize,
    /// The input column of each additive word, after [`ROWS`].
    additive: Vec<Additive>,
    /// Float and decimal sums, and extremes in words: (input column, what).
    others: Vec<(usize, Other)>,
    /// The input column of each multiset.
    pub(crate) sets: Vec<(usize, DataType)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Additive {
    column: usize,
    /// Adds 1 a non-null value instead of the value.
    counts: bool,
}

#[derive(Clone, Copy, Debug)]
enum Other {
    Float { word: usize },
    CountedFloat { word: usize },
    Decimal { word: usize },
    Extreme { word: usize, max: bool },
}

/// One distinct argument column: its type and whether it can be null.
#[derive(Clone, Debug)]
pub(crate) struct Argument {
    pub(crate) data_type: DataType,
    pub(crate) nullable: bool,
}

impl Layout {
    /// `arguments[i]` is input column `i`; `columns[k]` is the argument of aggregate `k`.
    ///
    /// # Errors
    /// `Plan` that names a function and type that cannot be kept.
    pub(crate) fn new(
        aggregates: &[Aggregate],
        arguments: &[Argument],
        columns: &[Option<usize>],
        append_only: bool,
    ) -> Result<Self> {
        let mut layout =
            Self { places: Vec::new(), words: 1, additive: Vec::new(), others: Vec::new(), sets: Vec::new() };
        // Additive words come first and contiguous, so they are laid out before the others.
        for (aggregate, column) in aggregates.iter().zip(columns) {
            let Some(column) = *column else { continue };
            if !in_set(aggregate, append_only) {
                layout.valid_word(column, arguments);
                if sums_words(aggregate) == Some(SumKind::Integer) || sums_words(aggregate) == Some(SumKind::Unsigned) {
                    layout.additive_word(Additive { column, counts: false });
                }
            }
        }
        layout.words = 1 + layout.additive.len();
        for (aggregate, column) in aggregates.iter().zip(columns) {
            let place = layout.place(aggregate, *column, arguments, append_only)?;
            layout.places.push((place, aggregate.output.clone()));
        }
        Ok(layout)
    }

    fn valid_word(&mut self, column: usize, arguments: &[Argument]) -> usize {
        if arguments[column].nullable { self.additive_word(Additive { column, counts: true }) } else { ROWS }
    }

    fn additive_word(&mut self, additive: Additive) -> usize {
        let at = self.additive.iter().position(|a| *a == additive).unwrap_or_else(|| {
            self.additive.push(additive);
            self.additive.len() - 1
        });
        at + 1
    }

    fn other(&mut self, column: usize, words: usize, make: impl Fn(usize) -> Other) -> usize {
        let word = self.words;
        self.words += words;
        self.others.push((column, make(word)));
        word
    }

    fn place(
        &mut self,
        aggregate: &Aggregate,
        column: Option<usize>,
        arguments: &[Argument],
        append_only: bool,
    ) -> Result<Place> {
        let Some(column) = column else { return Ok(Place::Rows) };
        if in_set(aggregate, append_only) {
            let max = aggregate.function == AggregateFunction::Max;
            let known = self.sets.iter().position(|(c, _)| *c == column);
            let set = known.unwrap_or_else(|| {
                self.sets.push((column, arguments[column].data_type.clone()));
                self.sets.len() - 1
            });
            return Ok(Place::Set { set, max });
        }
        let valid = self.valid_word(column, arguments);
        match aggregate.function {
            AggregateFunction::Count => Ok(Place::Valid(valid)),
            AggregateFunction::Min | AggregateFunction::Max => {
                let max = aggregate.function == AggregateFunction::Max;
                let word = self.other(column, 1, |word| Other::Extreme { word, max });
                Ok(Place::Extreme { word, valid, max })
            }
            AggregateFunction::Sum | AggregateFunction::Avg => {
                let kind = sums_words(aggregate).ok_or_else(|| {
                    Error::Plan(format!("{:?} of {} cannot be kept incrementally", aggregate.function, aggregate.input))
                })?;
                let kind = if kind == SumKind::Float && !append_only { SumKind::CountedFloat } else { kind };
                let word = match kind {
                    SumKind::Integer | SumKind::Unsigned => self.additive_word(Additive { column, counts: false }),
                    SumKind::Float => self.other(column, 2, |word| Other::Float { word }),
                    SumKind::CountedFloat => self.other(column, COUNTED, |word| Other::CountedFloat { word }),
                    SumKind::Decimal => self.other(column, 2, |word| Other::Decimal { word }),
                };
                Ok(match aggregate.function {
                    AggregateFunction::Sum => Place::Sum { kind, word, valid },
                    _ => Place::Avg { kind, word, valid, digits: digits_gained(aggregate)? },
                })
            }
        }
    }
}

/// Whether the aggregate needs an ordered multiset.
fn in_set(aggregate: &Aggregate, append_only: bool) -> bool {
    matches!(aggregate.function, AggregateFunction::Min | AggregateFunction::Max)
        && !(append_only && order_word_type(&aggregate.input).is_some())
}

fn sums_words(aggregate: &Aggregate) -> Option<SumKind> {
    if !matches!(aggregate.function, AggregateFunction::Sum | AggregateFunction::Avg) {
        return None;
    }
    match aggregate.input {
        DataType::Int64 => Some(SumKind::Integer),
        DataType::UInt64 => Some(SumKind::Unsigned),
        DataType::Float64 => Some(SumKind::Float),
        DataType::Decimal128(_, _) => Some(SumKind::Decimal),
        _ => None,
    }
}

/// How many digits behind the point an average has more than what it is one of.
fn digits_gained(aggregate: &Aggregate) -> Result<u32> {
    match (&aggregate.input, &aggregate.output) {
        (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) => {
            u32::try_from(i32::from(*to) - i32::from(*from))
                .map_err(|_| Error::Plan(format!("an average of {} is no {}", aggregate.input, aggregate.output)))
        }
        _ => Ok(0),
    }
}

/// The 64-bit type through which a type's order is kept in a word.
fn order_word_type(data_type: &DataType) -> Option<DataType> {
    use DataType::{
        Boolean, Date32, Date64, Float32, Float64, Int8, Int16, Int32, Int64, Time32, Time64, Timestamp, UInt8, UInt16,
        UInt32, UInt64,
    };
    match data_type {
        Int8 | Int16 | Int32 | Int64 | Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(_, _) | Boolean => {
            Some(Int64)
        }
        UInt8 | UInt16 | UInt32 | UInt64 => Some(UInt64),
        Float32 | Float64 => Some(Float64),
        _ => None,
    }
}

/// The values of a column as words whose unsigned order is the values' order.
fn order_words(column: &ArrayRef) -> Result<Vec<u64>> {
    let broken = |e| Error::data("min/max", e);
    let target = order_word_type(column.data_type()).expect("checked when the layout was made");
    let through = match column.data_type() {
        DataType::Date32 | DataType::Time32(_) => cast(column, &DataType::Int32).map_err(broken)?,
        _ => Arc::clone(column),
    };
    let wide = cast(&through, &target).map_err(broken)?;
    Ok(match target {
        DataType::Int64 => wide.as_primitive::<Int64Type>().values().iter().map(|v| *v as u64 ^ SIGN).collect(),
        DataType::UInt64 => wide.as_primitive::<UInt64Type>().values().to_vec(),
        _ => wide.as_primitive::<Float64Type>().values().iter().map(|v| order_of_float(*v)).collect(),
    })
}

const SIGN: u64 = 1 << 63;

/// NaN is greater than all else, as in PostgreSQL; zeros are equal.
fn order_of_float(value: f64) -> u64 {
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() };
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn float_of_order(word: u64) -> f64 {
    f64::from_bits(if word & SIGN == 0 { !word } else { word & !SIGN })
}

fn column_of_order_words(words: Vec<u64>, nulls: Option<NullBuffer>, output: &DataType) -> Result<ArrayRef> {
    let wide: ArrayRef = match order_word_type(output).expect("checked when the layout was made") {
        DataType::Int64 => {
            let values: Vec<i64> = words.into_iter().map(|w| (w ^ SIGN) as i64).collect();
            Arc::new(Int64Array::new(values.into(), nulls))
        }
        DataType::UInt64 => Arc::new(UInt64Array::new(words.into(), nulls)),
        _ => {
            let values: Vec<f64> = words.into_iter().map(float_of_order).collect();
            Arc::new(Float64Array::new(values.into(), nulls))
        }
    };
    let broken = |e| Error::data("min/max", e);
    let through = match output {
        DataType::Date32 | DataType::Time32(_) => cast(&wide, &DataType::Int32).map_err(broken)?,
        _ => wide,
    };
    cast(&through, output).map_err(broken)
}

/// Buffers that a batch's update uses again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    ones: Vec<i64>,
    columns: Vec<Vec<i64>>,
}

/// How often words have gone around since the epoch began, up less down, by group and word. A word and
/// its carry are the exact sum; at the epoch's end there is nothing left of a sum that fits.
#[derive(Debug, Default)]
pub(crate) struct Carries(BTreeMap<(Slot, usize), i64>);

impl Carries {
    /// The epoch's rows have all come.
    ///
    /// # Errors
    /// `Data` when a sum is no bigint.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if std::mem::take(&mut self.0).into_values().any(|carry| carry != 0) {
            return Err(Error::data("sum", "bigint out of range; cast the argument to numeric"));
        }
        Ok(())
    }

    fn add(&mut self, slot: Slot, word: usize, carry: i64) {
        *self.0.entry((slot, word)).or_default() += carry;
    }

    /// Counts which of a slot's words went around when a row's addends came to them.
    #[cold]
    #[inline(never)]
    fn count(&mut self, slot: Slot, words: &[u64], columns: &[&[i64]], row: usize) {
        for (word, (sum, column)) in words.iter().zip(columns).enumerate() {
            let (sum, addend) = (*sum as i64, column[row]);
            if sum.wrapping_sub(addend).checked_add(addend).is_none() {
                self.add(slot, word, addend.signum());
            }
        }
    }

    /// Counts what products of values and weights have beyond 64 bits.
    #[cold]
    #[inline(never)]
    fn count_products(&mut self, slots: &[Slot], word: usize, column: &ArrayRef, weights: &[i64]) {
        for (row, (value, weight)) in sum_values(column).iter().zip(weights).enumerate() {
            let carry = carry_of_product(*value, *weight);
            if carry != 0 && column.is_valid(row) {
                self.add(slots[row], word, carry);
            }
        }
    }
}

/// What is left of a product without the 64 bits that are added.
fn carry_of_product(value: i64, weight: i64) -> i64 {
    let product = i128::from(value) * i128::from(weight);
    ((product - i128::from(product as i64)) >> 64) as i64
}

/// The input columns of one batch and the weights of its rows.
pub(crate) struct Input<'a> {
    pub(crate) columns: &'a [ArrayRef],
    pub(crate) weights: Option<&'a [i64]>,
    /// The weights of columns that have their own; empty when none has.
    pub(crate) own: &'a [Option<Vec<i64>>],
    pub(crate) rows: usize,
}

impl<'a> Input<'a> {
    fn own_weights(&self, column: usize) -> Option<&'a [i64]> {
        self.own.get(column)?.as_deref()
    }
}

impl Layout {
    /// Applies a batch: row `i` changes the group at `slots[i]`. `carries` are those of the table.
    ///
    /// # Errors
    /// `Data` when a sum of numerics leaves its range.
    pub(crate) fn update(
        &self,
        table: &mut Table,
        slots: &[Slot],
        input: &Input<'_>,
        scratch: &mut Scratch,
        carries: &mut Carries,
    ) -> Result<()> {
        for (column, other) in &self.others {
            let weights = input.own_weights(*column).or(input.weights);
            let column = &input.columns[*column];
            match *other {
                Other::Float { word } => add_floats(table, slots, column, weights, word),
                Other::CountedFloat { word } => add_counted_floats(table, slots, column, weights, word),
                Other::Decimal { word } => add_decimals(table, slots, column, weights, word)?,
                Other::Extreme { word, max } => take_extremes(table, slots, column, word, max)?,
            }
        }
        self.add(table, slots, input, scratch, carries);
        Ok(())
    }

    fn add(&self, table: &mut Table, slots: &[Slot], input: &Input<'_>, scratch: &mut Scratch, carries: &mut Carries) {
        if scratch.ones.len() < input.rows {
            scratch.ones.resize(input.rows, 1);
        }
        let weights = input.weights.unwrap_or(&scratch.ones[..input.rows]);
        scratch.columns.resize_with(self.additive.len(), Vec::new);
        let mut direct: Vec<Option<&[i64]>> = Vec::with_capacity(self.additive.len());
        for (at, (additive, out)) in self.additive.iter().zip(&mut scratch.columns).enumerate() {
            let (addends, is_around) = addends(*additive, input, weights, out);
            if is_around {
                let weights = input.own_weights(additive.column).unwrap_or(weights);
                carries.count_products(slots, at + 1, &input.columns[additive.column], weights);
            }
            direct.push(addends);
        }
        let columns: Vec<&[i64]> = std::iter::once(weights)
            .chain(direct.iter().zip(&scratch.columns).map(|(direct, own)| direct.unwrap_or(own)))
            .collect();
        match columns.as_slice() {
            [a] => add_columns(table, slots, [a], carries),
            [a, b] => add_columns(table, slots, [a, b], carries),
            [a, b, c] => add_columns(table, slots, [a, b, c], carries),
            [a, b, c, d] => add_columns(table, slots, [a, b, c, d], carries),
            many => add_many(table, slots, many, carries),
        }
    }
}

/// What an additive word grows by in each row: a column as it is, or computed into `out`; and whether
/// one that was computed may have gone around.
fn addends<'a>(
    additive: Additive,
    input: &Input<'a>,
    weights: &[i64],
    out: &mut Vec<i64>,
) -> (Option<&'a [i64]>, bool) {
    let column = &input.columns[additive.column];
    let own = input.own_weights(additive.column);
    let values = (!additive.counts).then(|| sum_values(column));
    if let (Some(values), None, 0) = (values, own.or(input.weights), column.null_count()) {
        return (Some(values), false);
    }
    let mut is_around = false;
    let weights = own.unwrap_or(weights);
    out.clear();
    match values {
        Some(values) => out.extend(values.iter().zip(weights).map(|(value, weight)| {
            let (product, around) = value.overflowing_mul(*weight);
            is_around |= around;
            product
        })),
        None => out.extend_from_slice(weights),
    }
    if let Some(nulls) = column.nulls() {
        for (value, valid) in out.iter_mut().zip(nulls.iter()) {
            *value *= i64::from(valid);
        }
    }
    (None, is_around)
}

/// The bits of a bigint column (unsigned ones are added by the same bits).
fn sum_values(column: &ArrayRef) -> &[i64] {
    match column.as_primitive_opt::<Int64Type>() {
        Some(signed) => signed.values(),
        None => column.as_primitive::<UInt64Type>().values().inner().typed_data(),
    }
}

fn add_columns<const N: usize>(table: &mut Table, slots: &[Slot], columns: [&[i64]; N], carries: &mut Carries) {
    let columns = columns.map(|column| &column[..slots.len()]);
    table.update(slots, |row, words| {
        let words: &mut [u64; N] = words.first_chunk_mut().expect("the layout has these words");
        let mut is_around = false;
        for k in 0..N {
            let (sum, around) = (words[k] as i64).overflowing_add(columns[k][row]);
            words[k] = sum as u64;
            is_around |= around;
        }
        if is_around {
            carries.count(slots[row], words, &columns, row);
        }
    });
}

fn add_many(table: &mut Table, slots: &[Slot], columns: &[&[i64]], carries: &mut Carries) {
    table.update(slots, |row, words| {
        let mut is_around = false;
        for (word, column) in words.iter_mut().zip(columns) {
            let (sum, around) = (*word as i64).overflowing_add(column[row]);
            *word = sum as u64;
            is_around |= around;
        }
        if is_around {
            carries.count(slots[row], words, columns, row);
        }
    });
}

fn add_decimals(
    table: &mut Table,
    slots: &[Slot],
    column: &ArrayRef,
    weights: Option<&[i64]>,
    word: usize,
) -> Result<()> {
    let values: &PrimitiveArray<Decimal128Type> = column.as_primitive();
    let mut overflow = false;
    table.update(slots, |row, words| {
        if values.is_valid(row) {
            let weight = i128::from(weights.map_or(1, |w| w[row]));
            let sum = decimal_of(words[word], words[word + 1]);
            let next = values.value(row).checked_mul(weight).and_then(|v| sum.checked_add(v));
            overflow |= next.is_none();
            let next = next.unwrap_or(sum);
            (words[word], words[word + 1]) = (next as u64, (next >> 64) as u64);
        }
    });
    if overflow { Err(Error::data("sum", "numeric out of range")) } else { Ok(()) }
}

const fn decimal_of(low: u64, high: u64) -> i128 {
    ((high as i128) << 64) | low as i128
}

/// Kept so that the greater word wins and 0 is the least there is: a minimum is kept as the
/// complement of its order word. Whether there is a value at all is told by the count of valid ones.
fn take_extremes(table: &mut Table, slots: &[Slot], column: &ArrayRef, word: usize, max: bool) -> Result<()> {
    let values = order_words(column)?;
    let nulls = column.nulls();
    table.update(slots, |row, words| {
        if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
            let value = if max { values[row] } else { !values[row] };
            words[word] = words[word].max(value);
        }
    });
    Ok(())
}

impl Layout {
    /// The column of one aggregate from `words`, row-major with [`Layout::words`] a row.
    /// `Place::Set` columns come from their multisets and are not asked for here.
    ///
    /// # Errors
    /// `Data` when a result leaves the range of its type.
    pub(crate) fn finish(&self, aggregate: usize, words: &[u64]) -> Result<ArrayRef> {
        let stride = self.words;
        let gather = |word: usize| words.chunks_exact(stride).map(move |row| row[word]);
        let nulls_of = |valid: usize| -> Option<NullBuffer> {
            let valid: BooleanBuffer = gather(valid).map(|n| n != 0).collect();
            (valid.count_set_bits() < valid.len()).then(|| NullBuffer::new(valid))
        };
        let (place, output) = &self.places[aggregate];
        match *place {
            Place::Rows => integers(gather(ROWS).collect(), None, output),
            Place::Valid(word) => integers(gather(word).collect(), None, output),
            Place::Sum { kind, word, valid } => {
                let nulls = nulls_of(valid);
                match kind {
                    SumKind::Integer | SumKind::Unsigned => integers(gather(word).collect(), nulls, output),
                    SumKind::Float => {
                        let values = gather(word).zip(gather(word + 1)).map(|(h, l)| float_sum(h, l));
                        Ok(Arc::new(Float64Array::new(values.collect::<Vec<f64>>().into(), nulls)))
                    }
                    SumKind::CountedFloat => {
                        let sums = words.chunks_exact(stride).map(|row| counted_sum(&row[word..word + COUNTED]));
                        Ok(Arc::new(Float64Array::new(sums.collect::<Vec<f64>>().into(), nulls)))
                    }
                    SumKind::Decimal => decimals(gather(word).zip(gather(word + 1)), nulls, output),
                }
            }
            Place::Avg { kind, word, valid, digits } => {
                let counts = gather(valid);
                if kind == SumKind::CountedFloat {
                    let sums = words.chunks_exact(stride).map(|row| counted_sum(&row[word..word + COUNTED]));
                    let sums = sums.map(|sum| (sum.to_bits(), 0));
                    return averages(SumKind::Float, sums.zip(counts), nulls_of(valid), output, 0);
                }
                let sums =
                    gather(word).zip(gather(word + usize::from(matches!(kind, SumKind::Float | SumKind::Decimal))));
                averages(kind, sums.zip(counts), nulls_of(valid), output, digits)
            }
            Place::Extreme { word, valid, max } => {
                let values = gather(word).map(|w| if max { w } else { !w }).collect();
                column_of_order_words(values, nulls_of(valid), output)
            }
            Place::Set { .. } => unreachable!("multisets are read by their owner"),
        }
    }
}

fn integers(words: Vec<u64>, nulls: Option<NullBuffer>, output: &DataType) -> Result<ArrayRef> {
    let length = words.len();
    let data = arrow::array::ArrayData::builder(output.clone())
        .len(length)
        .add_buffer(Buffer::from_vec(words))
        .nulls(nulls)
        .build()
        .map_err(|e| Error::data("aggregate", e))?;
    Ok(make_array(data))
}

fn decimals(
    halves: impl Iterator<Item = (u64, u64)>,
    nulls: Option<NullBuffer>,
    output: &DataType,
) -> Result<ArrayRef> {
    let values: Vec<i128> = halves.map(|(low, high)| decimal_of(low, high)).collect();
    let array = Decimal128Array::new(values.into(), nulls).with_data_type(output.clone());
    if let DataType::Decimal128(precision, _) = output {
        array.validate_decimal_precision(*precision).map_err(|e| Error::data("sum", e))?;
    }
    Ok(Arc::new(array))
}

fn averages(
    kind: SumKind,
    sums: impl Iterator<Item = ((u64, u64), u64)>,
    nulls: Option<NullBuffer>,
    output: &DataType,
    digits: u32,
) -> Result<ArrayRef> {
    if kind == SumKind::Decimal {
        let DataType::Decimal128(precision, _) = output else {
            return Err(Error::Plan("the average of a numeric is a numeric".into()));
        };
        let division = Division::new(digits, *precision);
        let average = |((low, high), n): ((u64, u64), u64)| match n {
            0 => Some(0),
            n => division.quotient(decimal_of(low, high), i128::from(n)),
        };
        let values: Option<Vec<i128>> = sums.map(average).collect();
        let values = values.ok_or_else(|| Error::data("avg", "numeric out of range"))?;
        return Ok(Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(output.clone())));
    }
    let values: Vec<f64> = sums
        .map(|((first, second), n)| {
            let sum = match kind {
                SumKind::Float => float_sum(first, second),
                SumKind::Unsigned => first as f64,
                _ => first as i64 as f64,
            };
            sum / (n as f64)
        })
        .collect();
    Ok(Arc::new(Float64Array::new(values.into(), nulls)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_of_products_complete_them() {
        for (value, weight) in [(i64::MAX, 2), (i64::MIN, -1), (i64::MIN, 3), (1 << 62, -4), (7, -3), (i64::MAX, -1)] {
            let (low, carry) = (value.wrapping_mul(weight), carry_of_product(value, weight));
            let whole = (i128::from(carry) << 64) + i128::from(low);
            assert_eq!(whole, i128::from(value) * i128::from(weight), "{value} * {weight}");
        }
    }

    #[test]
    fn averages_of_decimals_are_rounded() {
        let most = 10_i128.pow(38) - 1;
        let halves = |sum: i128| (sum as u64, (sum >> 64) as u64);
        let sums = [(10, 3), (-10, 3), (20, 3), (0, 0), (1, 20_000), (-1, 20_000), (most, 100_000)];
        let sums = sums.map(|(sum, n)| (halves(sum), n));
        let output = DataType::Decimal128(38, 6);
        let valid = NullBuffer::from(sums.map(|(_, n)| n != 0).to_vec());
        let found = averages(SumKind::Decimal, sums.into_iter(), Some(valid), &output, 4).expect("averages");
        let expected = [33_333, -33_333, 66_667, 0, 1, -1, 10_i128.pow(37)].to_vec();
        assert_eq!(found.as_primitive::<Decimal128Type>().values().to_vec(), expected);
        assert!(found.is_null(3));
        let error = averages(SumKind::Decimal, std::iter::once((halves(most), 1)), None, &output, 4);
        assert!(error.expect_err("too large").to_string().contains("numeric out of range"));
        let place = Place::Avg { kind: SumKind::Decimal, word: 3, valid: 1, digits: 2 };
        assert_eq!(place.words(), "rounded avg 3 count 1", "told from one that was cut off");
    }
}
