//! Functions whose values may be much longer than what they are made of: how much a call gives is
//! bounded, so that no number or text in a statement or a row takes all memory.
//!
//! A function is asked before it is called how many bytes it gives at most; where that cannot be told
//! without doing its work, what it finds is counted first if it may be too much. Lengths below 0 are 0, and
//! what takes the place of a match is spelled as PostgreSQL spells it. Texts end to end
//! (`||`) are put together here; what an aggregate gathers is in `gathered`.

use arrow::array::{Array, ArrayRef, AsArray as _, Int64Array, LargeStringArray};
use arrow::compute::cast;
use arrow::compute::kernels::concat_elements::concat_elements_dyn;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::functions::regex::regexpcount::regexp_count_func;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::sync::Arc;

mod gathered;

/// Bytes that one call may give, for all of its rows together: 32 KiB for each of a batch's 8192.
pub(crate) const MOST_BYTES: i64 = 256 << 20;
/// Bytes of a character at most.
const CHARACTER: i64 = 4;
/// Bytes of a value of fixed length at most.
const FIXED: i64 = 16;

/// DataFusion's functions that are bounded.
const GROWING: [(&str, Growth); 11] = [
    ("repeat", Growth::Repeated),
    ("lpad", Growth::Padded),
    ("rpad", Growth::Padded),
    ("concat", Growth::Joined),
    ("overlay", Growth::Joined),
    ("concat_ws", Growth::Separated),
    ("replace", Growth::Replaced),
    ("regexp_replace", Growth::Matched),
    ("translate", Growth::Translated),
    ("array_repeat", Growth::Filled { value: 0, count: 1 }),
    ("array_resize", Growth::Filled { value: 2, count: 1 }),
];

/// How long the values of a function become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// A text so many times.
    Repeated,
    /// A text brought to so many characters.
    Padded,
    /// Texts end to end.
    Joined,
    /// Texts with the first one between them.
    Separated,
    /// A text in which one text takes the places of another.
    Replaced,
    /// The same of what a pattern finds.
    Matched,
    /// A text in which single characters take the places of others.
    Translated,
    /// An array of so many times a value: the places of both among the arguments.
    Filled { value: usize, count: usize },
}

/// One of them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded(Arc<ScalarUDF>, Growth);

/// Puts the bounded functions in the places of those that are not.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for (name, growth) in GROWING {
        let bounded = Bounded(state.udf(name)?, growth);
        state.register_udf(Arc::new(ScalarUDF::from(bounded)))?;
    }
    gathered::register(state)
}

/// The error of a function that would give more.
pub(crate) fn too_much(name: &str) -> DataFusionError {
    DataFusionError::ResourcesExhausted(format!("{name} would give more than {} MiB at once", MOST_BYTES >> 20))
}

/// # Errors
/// When so many bytes are too many.
pub(crate) fn check(name: &str, bytes: i64) -> Result<()> {
    if bytes > MOST_BYTES { Err(too_much(name)) } else { Ok(()) }
}

/// The bytes of texts, of each one.
pub(crate) fn lengths(texts: &dyn Array) -> Result<Option<Int64Array>> {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    if !matches!(texts.data_type(), Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView) {
        return Ok(None);
    }
    let lengths = cast(&length(texts)?, &DataType::Int64)?;
    Ok(Some(lengths.as_primitive::<Int64Type>().clone()))
}

/// The arguments of a function, constants once a row.
///
/// # Errors
/// When they are too long for that.
pub(crate) fn spread(name: &str, args: &[ColumnarValue], rows: usize) -> Result<Vec<ArrayRef>> {
    let constants = args.iter().filter(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let (lists, others): (Vec<_>, Vec<_>) = constants.partition(|arg| arg.data_type().is_nested());
    check(name, total_of_all(others.into_iter(), rows)?)?;
    // Lists that are searched for each row may be long; all of them must fit into one array.
    if total_of_all(lists.into_iter(), rows)? > i64::from(i32::MAX) {
        return Err(too_much(name));
    }
    args.iter().map(|arg| arg.to_array(rows)).collect()
}

/// What a function makes of whole columns; of constants alone, once.
///
/// # Errors
/// The function's, and when constants are too long to stand beside each row.
pub(crate) fn by_columns(
    name: &str,
    args: &ScalarFunctionArgs,
    compute: impl FnOnce(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let is_constant = is_constant(&args.args);
    let rows = if is_constant { 1 } else { args.number_rows };
    let made = compute(&spread(name, &args.args, rows)?)?;
    if is_constant {
        return ScalarValue::try_from_array(&made, 0).map(ColumnarValue::Scalar);
    }
    Ok(ColumnarValue::Array(made))
}

/// `text || text`
pub(crate) fn joined(args: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
    let rows = if is_constant(args) { 1 } else { rows };
    check("||", total_of_all(args.iter(), rows)?)?;
    let joined = concat_elements_dyn(&args[0].to_array(rows)?, &args[1].to_array(rows)?)?;
    if is_constant(args) {
        return ScalarValue::try_from_array(&joined, 0).map(ColumnarValue::Scalar);
    }
    Ok(ColumnarValue::Array(joined))
}

/// What depends on constants alone is one value, for however many rows.
fn is_constant(args: &[ColumnarValue]) -> bool {
    args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)))
}

/// A column, or one value of a constant.
fn values(of: &ColumnarValue) -> Result<ArrayRef> {
    match of {
        ColumnarValue::Array(array) => Ok(Arc::clone(array)),
        ColumnarValue::Scalar(_) => of.to_array(1),
    }
}

/// A whole number a row, or one for all rows.
struct Numbers {
    values: Int64Array,
    is_one: bool,
}

impl Numbers {
    fn of(numbers: &ColumnarValue) -> Result<Self> {
        let values = cast(&values(numbers)?, &DataType::Int64)?;
        let is_one = matches!(numbers, ColumnarValue::Scalar(_));
        Ok(Self { values: values.as_primitive::<Int64Type>().clone(), is_one })
    }

    /// The bytes of values; of those that are no texts, what they have at most.
    fn lengths(of: &ColumnarValue) -> Result<Self> {
        let array = values(of)?;
        if let Some(values) = lengths(&array)? {
            return Ok(Self { values, is_one: matches!(of, ColumnarValue::Scalar(_)) });
        }
        let most = match array.data_type() {
            DataType::Null => 0,
            other if other.is_nested() => array.get_array_memory_size() as i64,
            _ => FIXED,
        };
        Ok(Self { values: Int64Array::from(vec![most]), is_one: true })
    }

    /// That of a row, when it is not null.
    fn at(&self, row: usize) -> Option<i64> {
        let row = if self.is_one { 0 } else { row };
        self.values.is_valid(row).then(|| self.values.value(row))
    }
}

/// The bytes of an argument's values in all rows.
fn total(of: &ColumnarValue, rows: usize) -> Result<i64> {
    if let ColumnarValue::Array(array) = of
        && let Some(texts) = array.as_string_opt::<i32>()
    {
        let offsets = texts.value_offsets();
        return Ok(i64::from(offsets[texts.len()] - offsets[0]));
    }
    let Numbers { values, is_one } = Numbers::lengths(of)?;
    let total = values.iter().flatten().fold(0, i64::saturating_add);
    Ok(if is_one { total.saturating_mul(rows as i64) } else { total })
}

fn total_of_all<'a>(mut args: impl Iterator<Item = &'a ColumnarValue>, rows: usize) -> Result<i64> {
    args.try_fold(0_i64, |sum, arg| Ok(sum.saturating_add(total(arg, rows)?)))
}

/// A text a row, or one for all rows.
struct Texts {
    values: LargeStringArray,
    is_one: bool,
}

impl Texts {
    fn of(texts: &ColumnarValue) -> Result<Self> {
        let values = cast(&values(texts)?, &DataType::LargeUtf8)?;
        Ok(Self { values: values.as_string::<i64>().clone(), is_one: matches!(texts, ColumnarValue::Scalar(_)) })
    }

    fn at(&self, row: usize) -> Option<&str> {
        let row = if self.is_one { 0 } else { row };
        self.values.is_valid(row).then(|| self.values.value(row))
    }
}

/// The sum over all rows; those that have a null count nothing.
fn sum(rows: usize, of_row: impl Fn(usize) -> Option<i64>) -> i64 {
    (0..rows).filter_map(of_row).fold(0, i64::saturating_add)
}

/// Whole numbers of which those below 0 count as 0.
fn not_negative(numbers: ColumnarValue) -> ColumnarValue {
    match numbers {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(number))) => {
            ColumnarValue::Scalar(ScalarValue::Int64(Some(number.max(0))))
        }
        ColumnarValue::Array(numbers) if *numbers.data_type() == DataType::Int64 => {
            let counts = numbers.as_primitive::<Int64Type>().unary::<_, Int64Type>(|number| number.max(0));
            ColumnarValue::Array(Arc::new(counts))
        }
        other => other,
    }
}

/// What takes the place of a match, in DataFusion's spelling: a dollar is one, and `\&` is the whole match.
fn replacement(of: ColumnarValue) -> Result<ColumnarValue> {
    let spelled = |text: &str| text.replace('$', "$$").replace("\\&", "\\0");
    match of {
        ColumnarValue::Scalar(value) => match value.try_as_str().flatten() {
            Some(text) if text.contains(['$', '&']) => {
                let text = ScalarValue::from(spelled(text)).cast_to(&value.data_type())?;
                Ok(ColumnarValue::Scalar(text))
            }
            _ => Ok(ColumnarValue::Scalar(value)),
        },
        ColumnarValue::Array(texts) => {
            let read = cast(&texts, &DataType::LargeUtf8)?;
            let spelled: LargeStringArray = read.as_string::<i64>().iter().map(|text| text.map(spelled)).collect();
            Ok(ColumnarValue::Array(cast(&spelled, texts.data_type())?))
        }
    }
}

impl Growth {
    /// The arguments as DataFusion's function takes them.
    fn settled(self, mut args: Vec<ColumnarValue>) -> Result<Vec<ColumnarValue>> {
        let count = match self {
            Self::Repeated | Self::Padded => Some(1),
            Self::Filled { count, .. } => Some(count),
            _ => None,
        };
        if let Some(number) = count.and_then(|count| args.get_mut(count)) {
            *number = not_negative(number.clone());
        }
        if let (Self::Matched, Some(to)) = (self, args.get_mut(2)) {
            *to = replacement(to.clone())?;
        }
        Ok(args)
    }

    /// The bytes that a call gives at most.
    fn bytes(self, args: &[ColumnarValue], rows: usize) -> Result<i64> {
        match (self, args) {
            (Self::Repeated, [text, times, ..]) => {
                let (lengths, times) = (Numbers::lengths(text)?, Numbers::of(times)?);
                Ok(sum(rows, |row| Some(times.at(row)?.max(0).saturating_mul(lengths.at(row)?))))
            }
            (Self::Padded, [_, characters, ..]) => {
                let characters = Numbers::of(characters)?;
                Ok(sum(rows, |row| Some(characters.at(row)?.max(0).saturating_mul(CHARACTER))))
            }
            (Self::Joined, args) => total_of_all(args.iter(), rows),
            (Self::Separated, [between, texts @ ..]) => {
                let between = total(between, rows)?.saturating_mul(texts.len() as i64);
                Ok(total_of_all(texts.iter(), rows)?.saturating_add(between))
            }
            (Self::Replaced, [text, from, to, ..]) => replaced(text, from, to, rows),
            (Self::Matched, [text, pattern, to, flags @ ..]) => matched(text, pattern, to, flags.first(), rows),
            (Self::Translated, [text, _, to]) if !Texts::of(to)?.values.is_ascii() => {
                Ok(total(text, rows)?.saturating_mul(CHARACTER))
            }
            (Self::Filled { value, count }, args) => {
                let (lengths, counts) = (args.get(value).map(Numbers::lengths).transpose()?, args.get(count));
                let Some(counts) = counts.map(Numbers::of).transpose()? else { return Ok(0) };
                let each = |row| lengths.as_ref().and_then(|lengths| lengths.at(row)).unwrap_or(0) + FIXED;
                Ok(sum(rows, |row| Some(counts.at(row)?.max(0).saturating_mul(each(row)))))
            }
            _ => Ok(0),
        }
    }
}

fn replaced(text: &ColumnarValue, from: &ColumnarValue, to: &ColumnarValue, rows: usize) -> Result<i64> {
    let [texts, parts, others] = [Numbers::lengths(text)?, Numbers::lengths(from)?, Numbers::lengths(to)?];
    let grown = |row: usize, times: i64| {
        let growth = (others.at(row)? - parts.at(row)?).max(0);
        Some(texts.at(row)?.saturating_add(times.saturating_mul(growth)))
    };
    // No text is there again and again: it replaces nothing.
    let most = sum(rows, |row| grown(row, texts.at(row)?.checked_div(parts.at(row)?).unwrap_or(0)));
    if most <= MOST_BYTES {
        return Ok(most);
    }
    let (texts, parts) = (Texts::of(text)?, Texts::of(from)?);
    let found = |row: usize| {
        let (text, part) = (texts.at(row)?, parts.at(row)?);
        Some(if part.is_empty() { 0 } else { text.matches(part).count() as i64 })
    };
    Ok(sum(rows, |row| grown(row, found(row)?)))
}

fn matched(
    text: &ColumnarValue,
    pattern: &ColumnarValue,
    to: &ColumnarValue,
    flags: Option<&ColumnarValue>,
    rows: usize,
) -> Result<i64> {
    let (lengths, others) = (Numbers::lengths(text)?, Texts::of(to)?);
    // What stands for a part of a match gives, in all matches together, no more than the text.
    let grown = |row: usize, times: i64| {
        let (length, other) = (lengths.at(row)?, others.at(row)?);
        let parts = other.matches(['\\', '$']).count() as i64;
        Some(length.saturating_mul(1 + parts).saturating_add(times.saturating_mul(other.len() as i64)))
    };
    let flags = match flags {
        None => Some(String::new()),
        Some(ColumnarValue::Scalar(flags)) => Some(flags.try_as_str().flatten().unwrap_or_default().to_owned()),
        Some(ColumnarValue::Array(_)) => None,
    };
    if flags.as_ref().is_some_and(|flags| !flags.contains('g')) {
        return Ok(sum(rows, |row| grown(row, 1)));
    }
    let most = sum(rows, |row| grown(row, lengths.at(row)? + 1));
    let is_told = matches!(text, ColumnarValue::Array(_)) || matches!(pattern, ColumnarValue::Scalar(_));
    let Some(flags) = flags.filter(|_| is_told && most > MOST_BYTES) else { return Ok(most) };
    let found: [ArrayRef; 4] = [
        Arc::new(Texts::of(text)?.values),
        Arc::new(Texts::of(pattern)?.values),
        Arc::new(Int64Array::from(vec![1])),
        Arc::new(LargeStringArray::from(vec![flags.replace('g', "")])),
    ];
    let found = regexp_count_func(&found)?;
    let found =
        Numbers { is_one: matches!(text, ColumnarValue::Scalar(_)), ..Numbers::of(&ColumnarValue::Array(found))? };
    Ok(sum(rows, |row| grown(row, found.at(row)?)))
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(given)
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.inner().return_type(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = if is_constant(&args.args) { 1 } else { args.number_rows };
        let args = ScalarFunctionArgs { args: self.1.settled(args.args)?, ..args };
        check(self.name(), self.1.bytes(&args.args, rows)?)?;
        self.0.inner().invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests;
