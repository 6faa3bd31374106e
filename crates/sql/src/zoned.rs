//! What a query means in a session whose time zone is another one than UTC.
//!
//! Plans compute with instants in UTC. Where a query leaves it to the session which zone is meant (a
//! cast between an instant and what clocks show, a part of an instant), the session's is put in, or
//! the expression is refused by name. It looks at a plan whose types were brought together, so that
//! casts that nobody wrote are seen too.

use crate::composites;
use crate::error::{DataError, Error, Result};
use crate::printed;
use crate::scalars;
use crate::session::Session;
use crate::types::pg_name;
use crate::zones::{self, AtZone, Zone};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, cast, lit};
use std::sync::Arc;

/// Functions that take instants as they are, whatever the zone.
const OF_INSTANTS: [&str; 20] = [
    zones::AT_ZONE,
    scalars::APART,
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "make_array",
    "arrow_typeof",
    "date_bin",
    "isfinite",
    "num_nulls",
    "num_nonnulls",
    "struct",
    "named_struct",
    "get_field",
    composites::ALL_NULL,
    composites::NONE_NULL,
    composites::ABSENT,
    composites::EMPTIED,
    composites::BROUGHT,
];
/// The function that gives the time: of UTC, in a type without a zone.
const OF_CLOCK: &str = "now";
/// Functions whose result is of the session's zone though they take no instant.
const OF_ZONE: [&str; 3] = ["current_date", "current_time", "today"];

/// A query in a session's zone.
#[derive(Debug)]
pub struct Zoned {
    /// What computes it.
    pub plan: LogicalPlan,
    /// The first of what depends on the zone, if anything does.
    pub depends: Option<String>,
}

impl Session {
    /// A query that can be run, in a session's zone.
    ///
    /// # Errors
    /// `Plan` with 0A000 for what depends on the zone and is not computed in it.
    pub fn zoned(&self, plan: LogicalPlan, zone: &Zone) -> Result<Zoned> {
        let state = self.state();
        let mut pass = Pass { zone, depends: None };
        let plan = state
            .analyzer()
            .execute_and_check(plan, state.config_options(), |_, _| {})
            .and_then(|plan| pass.plan(plan))
            .map_err(|e| Error::Plan(Box::new(e)))?;
        Ok(Zoned { plan, depends: pass.depends })
    }
}

type Made<T> = std::result::Result<T, DataFusionError>;

struct Pass<'a> {
    zone: &'a Zone,
    depends: Option<String>,
}

fn is_instant(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(_, Some(_)))
}

/// Whether values of a type are instants, or have such in them.
#[must_use]
pub fn has_instants(of: &DataType) -> bool {
    match of {
        DataType::List(of) => has_instants(of.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_instants(field.data_type())),
        other => is_instant(other),
    }
}

impl Pass<'_> {
    fn plan(&mut self, plan: LogicalPlan) -> Made<LogicalPlan> {
        let done = plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let done = expr.transform_up(|expr| self.expr(expr, &schema))?;
                Ok(done.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(done.data)
    }

    fn expr(&mut self, expr: Expr, schema: &DFSchema) -> Made<Transformed<Expr>> {
        match expr {
            Expr::Cast(Cast { expr: inner, field }) => {
                let Ok(from) = inner.get_type(schema) else {
                    return Ok(Transformed::no(Expr::Cast(Cast { expr: inner, field })));
                };
                if has_instants(&from) == has_instants(field.data_type()) || from.is_null() {
                    return Ok(Transformed::no(Expr::Cast(Cast { expr: inner, field })));
                }
                self.cast(*inner, &from, field.data_type()).map(Transformed::yes)
            }
            Expr::ScalarFunction(call) => self.function(call, schema),
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
                let is_one = |side: &Expr| side.get_type(schema).is_ok_and(|of| is_instant(&of));
                let is_long = |side: &Expr| side.get_type(schema).is_ok_and(|of| matches!(of, DataType::Interval(_)));
                let shifts = is_one(&left) && is_long(&right) && !is_of_clock(&right)
                    || is_one(&right) && is_long(&left) && !is_of_clock(&left);
                if shifts {
                    return Err(self.refused("days and months in timestamptz + interval"));
                }
                Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
            }
            other => Ok(Transformed::no(other)),
        }
    }

    /// Marks what depends on the zone.
    fn depend(&mut self, what: impl Into<String>) {
        if self.depends.is_none() {
            self.depends = Some(what.into());
        }
    }

    fn refused(&mut self, what: impl Into<String>) -> DataFusionError {
        let what = what.into();
        let hint = "SET TIME ZONE 'UTC', or name the zone with AT TIME ZONE";
        let message = format!("{what} in the time zone {} is not supported: {hint}", self.zone.name());
        self.depend(what);
        DataFusionError::External(Box::new(DataError { sqlstate: "0A000", message }))
    }

    /// `value AT TIME ZONE` the session's.
    fn at_zone(&self, value: Expr) -> Expr {
        let args = vec![lit(self.zone.called()), value];
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(AtZone::udf()), args))
    }

    /// now() as the zone's clocks show it.
    fn clock(&self, now: Expr, schema: &DFSchema) -> Made<Expr> {
        let of = now.get_type(schema)?;
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Ok(cast(self.at_zone(cast(now, instant)), of))
    }

    /// A cast between an instant and something else.
    fn cast(&mut self, inner: Expr, from: &DataType, to: &DataType) -> Made<Expr> {
        let what = format!("a cast of {} to {}", pg_name(from), pg_name(to));
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        match (from, to) {
            (DataType::Timestamp(_, None) | DataType::Date32, to) if is_instant(to) => {
                self.depend(what);
                // Not by way of what the zone's clocks show, which they may show twice.
                Ok(match instant_of(&inner) {
                    Some(now) => cast(now.clone(), to.clone()),
                    None => self.at_zone(cast(inner, stamp)),
                })
            }
            (from, DataType::Timestamp(_, None) | DataType::Date32 | DataType::Time64(_)) if is_instant(from) => {
                self.depend(what);
                let local = self.at_zone(inner);
                Ok(if *to == stamp { local } else { cast(local, to.clone()) })
            }
            _ => Err(self.refused(what)),
        }
    }

    fn function(&mut self, mut call: ScalarFunction, schema: &DFSchema) -> Made<Transformed<Expr>> {
        let name = call.func.name().to_owned();
        let is_one = |arg: &Expr| arg.get_type(schema).is_ok_and(|of| has_instants(&of));
        let takes = call.args.iter().any(is_one);
        // Seconds since 1970 are the same everywhere; what is read from a text is not.
        let is_of_seconds = name == "to_timestamp" && call.args.len() == 1;
        if OF_INSTANTS.contains(&name.as_str()) || is_of_seconds {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        }
        if let (scalars::INSTANT_OF_TEXT, [text]) = (name.as_str(), call.args.as_slice()) {
            let what = "a cast of varchar to timestamptz";
            let Some(read) = scalars::instant_of_text(text, self.zone)? else { return Err(self.refused(what)) };
            self.depend(what);
            return Ok(Transformed::yes(read));
        }
        if name == OF_CLOCK {
            return self.clock(Expr::ScalarFunction(call), schema).map(Transformed::yes);
        }
        if !takes {
            let call = Expr::ScalarFunction(call);
            if OF_ZONE.contains(&name.as_str()) || is_one(&call) {
                return Err(self.refused(format!("{name}()")));
            }
            return Ok(Transformed::no(call));
        }
        let part = call.args.first().and_then(written).map(|part| part.to_lowercase());
        let is_one_value = call.args.first().is_some_and(|arg| arg.get_type(schema).is_ok_and(|of| is_instant(&of)));
        match (name.as_str(), part.as_deref(), call.args.len()) {
            (printed::NAME, _, 1) if !is_one_value => Err(self.refused("a cast of composite values to varchar")),
            (printed::NAME, _, 1) => {
                self.depend("a cast of timestamptz to varchar");
                let text = printed::text_of(call.args.remove(0), Some(lit(self.zone.name())));
                Ok(Transformed::yes(text))
            }
            (printed::NAME, _, _) => Ok(Transformed::no(Expr::ScalarFunction(call))),
            ("date_part", Some("epoch"), 2) => Ok(Transformed::no(Expr::ScalarFunction(call))),
            ("date_part", Some(_), 2) => {
                self.depend("a part of a timestamptz");
                let instant = call.args.remove(1);
                call.args.push(self.at_zone(instant));
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            ("date_trunc", Some("microsecond" | "millisecond" | "second" | "minute"), 2) => {
                Ok(Transformed::no(Expr::ScalarFunction(call)))
            }
            ("date_trunc", Some("hour"), 2) => {
                self.depend("date_trunc() of a timestamptz");
                let args = vec![lit(self.zone.called()), call.args.remove(1)];
                let hour = ScalarFunction::new_udf(Arc::new(AtZone::hour()), args);
                Ok(Transformed::yes(Expr::ScalarFunction(hour)))
            }
            ("date_trunc", Some(_), 2) => {
                self.depend("date_trunc() of a timestamptz");
                let instant = call.args.remove(1);
                call.args.push(self.at_zone(instant));
                Ok(Transformed::yes(self.at_zone(Expr::ScalarFunction(call))))
            }
            _ => Err(self.refused(format!("{name}() of a timestamptz"))),
        }
    }
}

/// The instant in what [`Pass::clock`] makes of now().
fn instant_of(clock: &Expr) -> Option<&Expr> {
    let Expr::Cast(Cast { expr, .. }) = clock else { return None };
    let Expr::ScalarFunction(call) = expr.as_ref() else { return None };
    let [_, instant @ Expr::Cast(Cast { expr: now, .. })] = call.args.as_slice() else { return None };
    matches!(now.as_ref(), Expr::ScalarFunction(call) if call.func.name() == OF_CLOCK).then_some(instant)
}

/// A text that is written out.
fn written(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        Expr::Cast(Cast { expr, .. }) => written(expr),
        _ => None,
    }
}

/// Whether an interval is written out and has neither days nor months, which are not always as long.
fn is_of_clock(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(value), _) => {
            value.is_none_or(|value| value.months == 0 && value.days == 0)
        }
        Expr::Cast(Cast { expr, .. }) => is_of_clock(expr),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Statement;
    use crate::{Relations, parse};
    use arrow::datatypes::{Field, Schema};

    fn zoned(text: &str) -> Result<Zoned> {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let fields = [("i", instant), ("s", stamp), ("t", DataType::Utf8)];
        let fields = fields.map(|(name, of)| Field::new(name, of, true)).to_vec();
        let mut relations = Relations::default();
        relations.stream("r", Arc::new(Schema::new(fields)));
        let Ok(Statement::Query(query)) = parse(text) else { panic!("{text} is a query") };
        let session = Session::new(1);
        let plan = session.bind(&query, &relations)?;
        session.zoned(plan, &Zone::of("Europe/Berlin").expect("a zone"))
    }

    #[test]
    fn now_is_an_instant() {
        let local = "timezone(Utf8(\"Europe/Berlin\"), CAST(now() AS ";
        let plan = zoned("SELECT s FROM r WHERE s > now()").expect("a plan").plan.to_string();
        assert!(plan.contains(local), "{plan}");
        let plan = zoned("SELECT i FROM r WHERE i > now()").expect("a plan").plan.to_string();
        assert!(plan.contains("now()") && !plan.contains("timezone("), "{plan}");
    }

    #[test]
    fn what_depends_on_the_zone_is_found() {
        for (query, depends) in [
            ("SELECT i, count(*) FROM r GROUP BY i", false),
            ("SELECT i AT TIME ZONE 'Asia/Tokyo' FROM r", false),
            ("SELECT i + INTERVAL '1 hour' FROM r", false),
            ("SELECT extract(epoch FROM i) FROM r", false),
            ("SELECT to_timestamp(1.5) FROM r", false),
            ("SELECT i FROM r WHERE i > '2024-01-01'", true),
            ("SELECT i FROM r WHERE i > s", true),
            ("SELECT i::date, s::timestamptz FROM r", true),
            ("SELECT date_trunc('day', i), date_trunc('hour', i) FROM r", true),
            ("SELECT extract(hour FROM i) FROM r", true),
            ("SELECT i::varchar FROM r", true),
        ] {
            let zoned = zoned(query).expect(query);
            assert_eq!(zoned.depends.is_some(), depends, "{query}: {:?}", zoned.depends);
        }
        for query in [
            "SELECT t::timestamptz FROM r",
            "SELECT i + INTERVAL '1 day' FROM r",
            "SELECT to_char(i, '%H') FROM r",
            "SELECT to_jsonb(i) FROM r",
        ] {
            let refused = zoned(query).expect_err(query).to_string();
            assert!(refused.contains("Europe/Berlin"), "{query}: {refused}");
        }
    }
}
