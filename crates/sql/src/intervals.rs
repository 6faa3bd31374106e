//! Dates and numbers of days, intervals times numbers and beside dates, those between two times, and the parts of
//! times that DataFusion cuts off, counts in another way or does not know: seconds with their fraction, the seconds
//! of an interval, whose years have 365.25 days, its milliseconds and microseconds, the parts of `24:00:00`, years
//! before 1, and decades, centuries and millennia.

use crate::bounded;
use crate::error::DataError;
use crate::floats::is_interval;
use crate::scalars;
use crate::types::catalog_name;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::IntervalUnit as Unit;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast as cast_expr,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::str::FromStr as _;
use std::sync::Arc;

const DAY_SECONDS: f64 = 86_400.0;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const STAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Puts `date_part` in the place of DataFusion's.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    state.register_udf(Arc::new(date_part()))?;
    Ok(())
}

fn date_part() -> ScalarUDF {
    ScalarUDF::from(DatePart(datafusion::functions::datetime::date_part()))
}

fn refused(sqlstate: &'static str, message: &str) -> DataFusionError {
    DataFusionError::External(Box::new(DataError { sqlstate, message: message.to_owned() }))
}

/// Binds operators of intervals.
#[derive(Debug)]
pub(crate) struct Intervals;

impl ExprPlanner for Intervals {
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(date_part()), args))))
    }

    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Multiply, NotEq, Plus};
        let RawBinaryExpr { op, left, right } = expr;
        // What has no type yet is left to others.
        let (Ok(of_left), Ok(of_right)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        Ok(match op {
            Multiply if is_interval(&of_left) && of_right.is_numeric() => scaled(left, right, false),
            Multiply if of_left.is_numeric() && is_interval(&of_right) => scaled(right, left, false),
            Divide if is_interval(&of_left) && of_right.is_numeric() => scaled(left, right, true),
            Plus if of_left == DataType::Date32 && of_right.is_integer() => {
                PlannerResult::Planned(scalars::days_later(left, right))
            }
            Plus if of_left.is_integer() && of_right == DataType::Date32 => {
                PlannerResult::Planned(scalars::days_later(right, left))
            }
            Minus if of_left == DataType::Date32 && of_right.is_integer() => {
                PlannerResult::Planned(scalars::days_earlier(left, right))
            }
            Plus | Minus if of_left == DataType::Date32 && is_interval(&of_right) => {
                PlannerResult::Original(RawBinaryExpr { op, left: cast_expr(left, STAMP), right })
            }
            Plus if is_interval(&of_left) && of_right == DataType::Date32 => {
                PlannerResult::Original(RawBinaryExpr { op, left, right: cast_expr(right, STAMP) })
            }
            Plus | Minus if is_interval(&of_left) => {
                PlannerResult::Original(RawBinaryExpr { op, left, right: written(right) })
            }
            Plus if is_time(&of_left) => PlannerResult::Original(RawBinaryExpr { op, left, right: written(right) }),
            Plus if is_time(&of_right) => PlannerResult::Original(RawBinaryExpr { op, left: written(left), right }),
            Plus | Minus if is_interval(&of_right) => {
                PlannerResult::Original(RawBinaryExpr { op, left: written(left), right })
            }
            Minus => match scalars::time_of_both(&of_left, &of_right) {
                Some(time) => PlannerResult::Planned(scalars::apart([(left, of_left), (right, of_right)], &time)),
                None => PlannerResult::Original(RawBinaryExpr { op, left, right }),
            },
            Eq | NotEq | Lt | LtEq | Gt | GtEq if is_interval(&of_left) => {
                PlannerResult::Original(RawBinaryExpr { op, left, right: written(right) })
            }
            Eq | NotEq | Lt | LtEq | Gt | GtEq if is_interval(&of_right) => {
                PlannerResult::Original(RawBinaryExpr { op, left: written(left), right })
            }
            op => PlannerResult::Original(RawBinaryExpr { op, left, right }),
        })
    }
}

/// Whether a type is that of times to which an interval is added and nothing else.
const fn is_time(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(..) | DataType::Time64(_))
}

/// A text that is written out beside an interval is one.
pub(crate) fn written(expr: Expr) -> Expr {
    match &expr {
        Expr::Literal(ScalarValue::Utf8(Some(_)), _) => cast_expr(expr, DataType::Interval(IntervalUnit::MonthDayNano)),
        _ => expr,
    }
}

fn scaled(interval: Expr, by: Expr, divides: bool) -> PlannerResult<RawBinaryExpr> {
    let function = ScalarUDF::from(Scaled { divides, signature: Signature::any(2, Volatility::Immutable) });
    let args = vec![interval, cast_expr(by, DataType::Float64)];
    PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args)))
}

/// A number with no more digits than microseconds have.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round_ties_even() / 1e6
}

/// An interval whose parts are multiplied; what is left of months becomes days, and what is left of days
/// becomes time.
pub(crate) fn multiplied(interval: IntervalMonthDayNano, by: impl Fn(f64) -> f64) -> Result<IntervalMonthDayNano> {
    let out_of_range = || refused("22008", "interval out of range");
    let whole = |number: f64| {
        let is_one = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number);
        is_one.then_some(number as i32).ok_or_else(out_of_range)
    };
    let (all_months, all_days) = (by(f64::from(interval.months)), by(f64::from(interval.days)));
    let (months, days) = (whole(all_months.trunc())?, whole(all_days.trunc())?);
    let left_days = rounded((all_months - all_months.trunc()) * 30.0);
    let mut seconds = rounded((all_days - all_days.trunc() + left_days - left_days.trunc()) * DAY_SECONDS);
    let mut more_days = left_days.trunc();
    if seconds.abs() >= DAY_SECONDS {
        more_days += (seconds / DAY_SECONDS).trunc();
        seconds -= (seconds / DAY_SECONDS).trunc() * DAY_SECONDS;
    }
    let days = days.checked_add(whole(more_days)?).ok_or_else(out_of_range)?;
    let micros = (by((interval.nanoseconds / 1000) as f64) + seconds * 1e6).round_ties_even();
    if micros.is_nan() || micros.abs() >= (i64::MAX / 1000) as f64 {
        return Err(out_of_range());
    }
    Ok(IntervalMonthDayNano::new(months, days, micros as i64 * 1000))
}

/// An interval times a number, or divided by one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Scaled {
    divides: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Scaled {
    fn name(&self) -> &'static str {
        if self.divides { "interval_divided" } else { "interval_times" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        bounded::by_columns(self.name(), &args, |args| {
            let [intervals, by] = args else { return plan_err!("{} takes two values", self.name()) };
            let scale = |interval: IntervalMonthDayNano, by: f64| {
                if self.divides && by == 0.0 {
                    return Err(refused("22012", "division by zero"));
                }
                multiplied(interval, |part| if self.divides { part / by } else { part * by })
            };
            let mut made = Vec::with_capacity(intervals.len());
            let (intervals, by) =
                (intervals.as_primitive::<IntervalMonthDayNanoType>(), by.as_primitive::<Float64Type>());
            for (interval, by) in intervals.iter().zip(by) {
                made.push(interval.zip(by).map(|(interval, by)| scale(interval, by)).transpose()?);
            }
            Ok(Arc::new(PrimitiveArray::<IntervalMonthDayNanoType>::from(made)))
        })
    }
}

/// Parts that are counted by years.
#[derive(Clone, Copy)]
struct Years(i32);

impl Years {
    fn of(part: &str) -> Option<Self> {
        match part.trim().to_lowercase().as_str() {
            "decade" | "decades" => Some(Self(10)),
            "century" | "centuries" => Some(Self(100)),
            "millennium" | "millennia" => Some(Self(1000)),
            _ => None,
        }
    }

    /// Of years of an interval whole ones. Of those of a calendar, in which 0 is the one before 1, centuries
    /// and millennia begin with a year 1, and there is none that is called 0.
    fn counted(self, year: i32, is_interval: bool) -> i32 {
        match self.0 {
            years if is_interval => year / years,
            10 => year.div_euclid(10),
            years if year > 0 => (year + years - 1) / years,
            years => -((years - year) / years),
        }
    }
}

/// Parts that only DataFusion computes, or none does.
const MORE_PARTS: [&str; 7] = ["isoyear", "qtr", "quarter", "doy", "dow", "isodow", "epoch"];
/// Parts that PostgreSQL has and that are not computed.
const NO_PARTS: [&str; 4] = ["julian", "timezone", "timezone_hour", "timezone_minute"];

/// Refuses a part that no time has.
fn check_part(part: &str, of: &DataType) -> Result<()> {
    let name = part.trim_matches(['\'', '"', ' ']).to_lowercase();
    if NO_PARTS.contains(&name.as_str()) {
        return Err(refused("0A000", &format!("unit \"{part}\" not supported for type {}", catalog_name(of))));
    }
    let is_known = MORE_PARTS.contains(&name.as_str()) || Years::of(&name).is_some() || Unit::from_str(&name).is_ok();
    if is_known {
        return Ok(());
    }
    Err(refused("22023", &format!("unit \"{part}\" not recognized for type {}", catalog_name(of))))
}

/// Whether a part is the year of a calendar, which has none that is called 0: the one before 1 is -1.
fn is_of_calendar(part: &str, of: &DataType) -> bool {
    let part = part.trim().to_lowercase();
    let is_year = part == "isoyear" || matches!(Unit::from_str(&part), Ok(Unit::Year));
    is_year && matches!(of, DataType::Date32 | DataType::Timestamp(..))
}

/// `date_part` of DataFusion, but for what is computed here.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart(Arc<ScalarUDF>);

/// What is computed here, besides what is counted by years.
#[derive(Clone, Copy)]
enum Part {
    /// The seconds of a minute, of any time.
    SecondsOfMinute,
    /// All seconds of an interval.
    AllSeconds,
    /// The hour of a time of day, which may be its end.
    Hour,
    /// The minute of the same.
    Minute,
    /// The milliseconds of a minute, whole ones, of an interval or a time of day.
    Milliseconds,
    /// The microseconds of the same.
    Microseconds,
}

impl Part {
    fn of(part: &str, data_type: &DataType) -> Option<Self> {
        let is_of_day = matches!(data_type, DataType::Time64(_));
        let is_time = is_of_day || matches!(data_type, DataType::Timestamp(..)) || is_interval(data_type);
        let part = part.trim().to_lowercase();
        match part.as_str() {
            "second" | "seconds" if is_time => Some(Self::SecondsOfMinute),
            "epoch" if is_interval(data_type) => Some(Self::AllSeconds),
            "hour" | "hours" if is_of_day => Some(Self::Hour),
            "minute" | "minutes" if is_of_day => Some(Self::Minute),
            other if is_of_day || is_interval(data_type) => match Unit::from_str(other) {
                Ok(Unit::Millisecond) => Some(Self::Milliseconds),
                Ok(Unit::Microsecond) => Some(Self::Microseconds),
                _ => None,
            },
            _ => None,
        }
    }

    const fn data_type(self) -> DataType {
        match self {
            Self::SecondsOfMinute | Self::AllSeconds => DataType::Float64,
            Self::Hour | Self::Minute | Self::Milliseconds | Self::Microseconds => DataType::Int32,
        }
    }

    fn computed(self, times: &ArrayRef) -> Result<ArrayRef> {
        match self {
            Self::SecondsOfMinute | Self::AllSeconds => self.seconds(times),
            Self::Hour => whole(times, |micros| micros / HOUR),
            Self::Minute => whole(times, |micros| micros % HOUR / MINUTE),
            Self::Milliseconds => whole(times, |micros| micros % MINUTE / 1000),
            Self::Microseconds => whole(times, |micros| micros % MINUTE),
        }
    }

    fn seconds(self, times: &ArrayRef) -> Result<ArrayRef> {
        let of_minute = |micros: i64| micros.rem_euclid(MINUTE) as f64 / 1e6;
        let seconds: Float64Array = match times.data_type() {
            DataType::Interval(_) => {
                let intervals = times.as_primitive::<IntervalMonthDayNanoType>();
                match self {
                    Self::AllSeconds => intervals.unary(seconds_of),
                    _ => intervals.unary(|of| (of.nanoseconds / 1000 % MINUTE) as f64 / 1e6),
                }
            }
            DataType::Time64(_) => {
                let times = cast(times, &DataType::Time64(TimeUnit::Microsecond))?;
                times.as_primitive::<Time64MicrosecondType>().unary(of_minute)
            }
            _ => {
                let times = cast(times, &STAMP)?;
                times.as_primitive::<TimestampMicrosecondType>().unary(of_minute)
            }
        };
        Ok(Arc::new(seconds))
    }
}

/// Whole numbers of the microseconds of times of day, or of intervals without their months and days.
fn whole(times: &ArrayRef, of: impl Fn(i64) -> i64) -> Result<ArrayRef> {
    if let DataType::Interval(_) = times.data_type() {
        let intervals = times.as_primitive::<IntervalMonthDayNanoType>();
        return Ok(Arc::new(intervals.unary::<_, Int32Type>(|interval| of(interval.nanoseconds / 1000) as i32)));
    }
    let times = cast(times, &DataType::Time64(TimeUnit::Microsecond))?;
    let whole = times.as_primitive::<Time64MicrosecondType>().unary::<_, Int32Type>(|micros| of(micros) as i32);
    Ok(Arc::new(whole))
}

/// The seconds of an interval: of a year 365.25 days, of a month 30.
fn seconds_of(interval: IntervalMonthDayNano) -> f64 {
    let (years, months) = (f64::from(interval.months / 12), f64::from(interval.months % 12));
    let days = years * 365.25 + months * 30.0 + f64::from(interval.days);
    days * DAY_SECONDS + (interval.nanoseconds / 1000) as f64 / 1e6
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.inner().return_type(args)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let part = args.scalar_arguments.first().copied().flatten().and_then(|part| part.try_as_str().flatten());
        let Some(part) = part else {
            return Err(refused("0A000", "date_part() of a part that is not written out is not supported"));
        };
        if let Some(time) = args.arg_fields.get(1) {
            check_part(part, time.data_type())?;
            if let Some(part) = Part::of(part, time.data_type()) {
                return Ok(Arc::new(Field::new(self.name(), part.data_type(), time.is_nullable())));
            }
        }
        self.0.inner().return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [ColumnarValue::Scalar(part), time] = args.args.as_slice()
            && let Some(years) = part.try_as_str().flatten().and_then(Years::of)
        {
            let is_interval = is_interval(&time.data_type());
            let of_year = vec![ColumnarValue::Scalar(ScalarValue::from("year")), time.clone()];
            let year = self.0.inner().invoke_with_args(ScalarFunctionArgs { args: of_year, ..args })?;
            return counted(&year, |year| years.counted(year, is_interval));
        }
        if let [ColumnarValue::Scalar(part), time] = args.args.as_slice()
            && part.try_as_str().flatten().is_some_and(|part| is_of_calendar(part, &time.data_type()))
        {
            let year = self.0.inner().invoke_with_args(args)?;
            return counted(&year, |year| if year > 0 { year } else { year - 1 });
        }
        let part = match args.args.as_slice() {
            [ColumnarValue::Scalar(part), time] => {
                part.try_as_str().flatten().and_then(|part| Part::of(part, &time.data_type()))
            }
            _ => None,
        };
        match (part, args.args.as_slice()) {
            (Some(part), [_, ColumnarValue::Array(times)]) => part.computed(times).map(ColumnarValue::Array),
            (Some(part), [_, ColumnarValue::Scalar(time)]) => {
                let computed = part.computed(&time.to_array()?)?;
                ScalarValue::try_from_array(&computed, 0).map(ColumnarValue::Scalar)
            }
            _ => self.0.inner().invoke_with_args(args),
        }
    }
}

/// Years counted as something else.
fn counted(years: &ColumnarValue, count: impl Fn(i32) -> i32) -> Result<ColumnarValue> {
    let of = |years: &ArrayRef| -> Result<ArrayRef> {
        let years = cast(years, &DataType::Int32)?;
        Ok(Arc::new(years.as_primitive::<Int32Type>().unary::<_, Int32Type>(&count)) as ArrayRef)
    };
    match years {
        ColumnarValue::Array(years) => of(years).map(ColumnarValue::Array),
        ColumnarValue::Scalar(year) => {
            ScalarValue::try_from_array(&of(&year.to_array()?)?, 0).map(ColumnarValue::Scalar)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centuries_begin_with_a_year_one() {
        let of = |years: i32, year: i32| Years(years).counted(year, false);
        for (year, decade, century, millennium) in [
            (2001, 200, 21, 3),
            (2000, 200, 20, 2),
            (1, 0, 1, 1),
            (0, 0, -1, -1),
            (-99, -10, -1, -1),
            (-100, -10, -2, -1),
        ] {
            assert_eq!([of(10, year), of(100, year), of(1000, year)], [decade, century, millennium], "{year}");
        }
        assert_eq!(Years(100).counted(250, true), 2);
    }

    #[test]
    fn parts_are_known_by_name() {
        let stamp = STAMP;
        for part in ["year", "MONTH", "seconds", "isodow", "millennium", "\"day\""] {
            assert!(check_part(part, &stamp).is_ok(), "{part}");
        }
        for (part, told) in [
            ("foo", "unit \"foo\" not recognized for type timestamp without time zone"),
            ("julian", "unit \"julian\" not supported for type timestamp without time zone"),
        ] {
            assert_eq!(check_part(part, &stamp).expect_err(part).to_string(), format!("External error: {told}"));
        }
        let end: ArrayRef =
            Arc::new(arrow::array::Time64MicrosecondArray::from(vec![24 * HOUR, 5 * HOUR + 7 * MINUTE]));
        let computed = |part: Part| part.computed(&end).expect("a part").as_primitive::<Int32Type>().values().to_vec();
        assert_eq!((computed(Part::Hour), computed(Part::Minute)), (vec![24, 5], vec![0, 7]));
        assert_eq!((computed(Part::Milliseconds), computed(Part::Microseconds)), (vec![0, 0], vec![0, 0]));
    }

    #[test]
    fn intervals_have_the_parts_of_a_second() {
        let intervals: ArrayRef = Arc::new(PrimitiveArray::<IntervalMonthDayNanoType>::from(vec![
            IntervalMonthDayNano::new(14, 3, 14_706_789_123_000),
            IntervalMonthDayNano::new(0, 0, -61_500_000_000),
        ]));
        let of = |part: &str| {
            let part = Part::of(part, intervals.data_type()).expect("a part");
            part.computed(&intervals).expect("computed").as_primitive::<Int32Type>().values().to_vec()
        };
        assert_eq!(of("milliseconds"), [6789, -1500]);
        assert_eq!(of("Microsecond"), [6_789_123, -1_500_000]);
        assert!(Part::of("microseconds", &STAMP).is_none());
    }

    #[test]
    fn the_year_before_1_is_the_first_one_before_it() {
        for part in ["year", "ISOYEAR", "years"] {
            assert!(is_of_calendar(part, &STAMP) && is_of_calendar(part, &DataType::Date32), "{part}");
            assert!(!is_of_calendar(part, &DataType::Interval(IntervalUnit::MonthDayNano)), "{part}");
        }
        assert!(!is_of_calendar("month", &STAMP));
    }

    #[test]
    fn what_is_left_of_months_and_days_goes_on_to_smaller_parts() {
        let interval = IntervalMonthDayNano::new;
        let second = 1_000_000_000;
        for (of, by, made) in [
            (interval(0, 1, 7384 * second), 2.0, interval(0, 2, 14_768 * second)),
            (interval(1, 0, 0), 1.5, interval(1, 15, 0)),
            (interval(0, 1, 0), 0.5, interval(0, 0, 43_200 * second)),
            (interval(14, -3, 0), -1.0, interval(-14, 3, 0)),
        ] {
            assert_eq!(multiplied(of, |part| part * by).expect("in range"), made, "{of:?} * {by}");
        }
        assert!(multiplied(interval(i32::MAX, 0, 0), |part| part * 2.0).is_err());
        assert_eq!(seconds_of(interval(12, 0, 0)), 31_557_600.0);
        assert_eq!(seconds_of(interval(1, 1, second / 2)), 2_678_400.5);
    }
}
