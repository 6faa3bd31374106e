//! `string_agg`, which gives more than the rows that it is given where its delimiter is long: a group is
//! bounded as a call of a function is. Queries count in the memory that they may take beside it.

use super::{check, lengths};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use datafusion::physical_expr::expressions::Literal;
use std::sync::Arc;

const NAME: &str = "string_agg";

/// DataFusion's function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Gathering(Arc<AggregateUDF>);

pub(super) fn register(state: &mut SessionState) -> Result<()> {
    let gathering = Gathering(state.udaf(NAME)?);
    state.register_udaf(Arc::new(AggregateUDF::from(gathering)))?;
    Ok(())
}

/// The bytes of the delimiter, which is a constant.
fn delimiter(args: &AccumulatorArgs<'_>) -> i64 {
    let literal = args.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>());
    let text = literal.and_then(|literal| literal.value().try_as_str().flatten());
    text.map_or(0, |text| text.len() as i64)
}

/// The bytes that texts, or arrays of texts, add with a delimiter for each.
fn added(values: &ArrayRef, delimiter: i64) -> Result<i64> {
    let texts = match values.as_list_opt::<i32>() {
        Some(lists) => {
            let (first, last) = (lists.value_offsets()[0] as usize, lists.value_offsets()[lists.len()] as usize);
            lists.values().slice(first, last - first)
        }
        None => Arc::clone(values),
    };
    let Some(lengths) = lengths(&texts)? else { return Ok(0) };
    let bytes = lengths.iter().flatten().fold(0, i64::saturating_add);
    let count = (lengths.len() - lengths.null_count()) as i64;
    Ok(bytes.saturating_add(count.saturating_mul(delimiter)))
}

impl AggregateUDFImpl for Gathering {
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
        self.0.return_type(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let delimiter = delimiter(&args);
        Ok(Box::new(Group { inner: self.0.accumulator(args)?, delimiter, bytes: 0, given: 0 }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let delimiter = delimiter(&args);
        Ok(Box::new(Groups { inner: self.0.create_groups_accumulator(args)?, delimiter }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Reversed(Arc::new(AggregateUDF::from(Self(Arc::clone(&self.0)))))
    }
}

/// One group.
#[derive(Debug)]
struct Group {
    inner: Box<dyn Accumulator>,
    delimiter: i64,
    /// Of the text so far.
    bytes: i64,
    /// Of all that was given: a window gives one text a row.
    given: i64,
}

impl Group {
    fn add(&mut self, values: &[ArrayRef]) -> Result<()> {
        let added = values.first().map_or(Ok(0), |values| added(values, self.delimiter))?;
        self.bytes = self.bytes.saturating_add(added);
        check(NAME, self.bytes)
    }
}

impl Accumulator for Group {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values)?;
        self.inner.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add(states)?;
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.given = self.given.saturating_add(self.bytes);
        check(NAME, self.given)?;
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }
}

/// Many groups at once, of which a batch may add no more than one may have.
struct Groups {
    inner: Box<dyn GroupsAccumulator>,
    delimiter: i64,
}

impl Groups {
    fn check(&self, values: &[ArrayRef]) -> Result<()> {
        check(NAME, values.first().map_or(Ok(0), |values| added(values, self.delimiter))?)
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.check(values)?;
        self.inner.update_batch(values, group_indices, filter, total)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total: usize) -> Result<()> {
        self.check(states)?;
        self.inner.merge_batch(states, group_indices, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, filter)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit_to)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }
}
