//! ASOF joins: each row of the left with the nearest row of the right that a comparison allows.
//!
//! `a ASOF [LEFT] JOIN b ON a.k = b.k AND a.ts >= b.ts` is said in other words when it is bound, so that
//! views and queries give the same. A row of the right is the nearest one from its own time until that
//! of the next row with its keys, so the join is one on a range: `a.ts >= b.ts AND a.ts < next`, where
//! `next` is a window function of the right. Of rows of the right with the same keys and time the one
//! whose columns come last is taken.
//!
//! The parser does not know this form: ASOF is given to it as the GLOBAL that other databases have, and
//! the condition is then put into a call that marks it.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::lower::ties;
use crate::statement::Query;
use crate::text::{self, Position};
use crate::types::is_jsonb;
use crate::walk::walk;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DataFusionError, JoinType, plan_err};
use datafusion::functions_window::expr_fn::lead;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprFunctionExt, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Operator,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SortExpr, Volatility, binary_expr, cast,
};
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, FunctionArguments, JoinConstraint, JoinOperator, Select, SelectItem, SetExpr,
    TableFactor, TableWithJoins, Value, Visitor,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The function that marks the condition of an ASOF join; no identifier has a blank without quotes.
pub(crate) const MARK: &str = "asof join";

/// Where the time of the next row of the right stands.
const NEXT: &str = "__next";

/// Gives the parser the words that it knows: ASOF before a join as GLOBAL, and GLOBAL as a name.
pub(crate) fn respell(tokens: &mut [TokenWithSpan]) {
    for at in 0..tokens.len() {
        let joins = is_join(&tokens[at + 1..]);
        let Token::Word(word) = &mut tokens[at].token else { continue };
        match word.keyword {
            Keyword::ASOF if joins => word.keyword = Keyword::GLOBAL,
            Keyword::GLOBAL if joins => word.keyword = Keyword::NoKeyword,
            _ => {}
        }
    }
}

/// Whether tokens begin with `[INNER | LEFT [OUTER]] JOIN`.
fn is_join(tokens: &[TokenWithSpan]) -> bool {
    let word = |at: usize| match tokens.get(at).map(|token| &token.token) {
        Some(Token::Word(word)) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let skipped = match (word(0), word(1)) {
        (Keyword::LEFT, Keyword::OUTER) => 2,
        (Keyword::LEFT | Keyword::INNER, _) => 1,
        _ => 0,
    };
    word(skipped) == Keyword::JOIN
}

/// Marks the conditions of the ASOF joins of a part of FROM.
pub(crate) fn mark(from: &mut TableWithJoins) {
    for join in from.joins.iter_mut().filter(|join| join.global) {
        if let JoinOperator::Join(JoinConstraint::On(condition))
        | JoinOperator::Inner(JoinConstraint::On(condition))
        | JoinOperator::Left(JoinConstraint::On(condition))
        | JoinOperator::LeftOuter(JoinConstraint::On(condition)) = &mut join.join_operator
        {
            let plain = std::mem::replace(condition, ast::Expr::Value(Value::Null.into()));
            *condition = marked(plain);
            join.global = false;
        }
    }
}

fn marked(condition: ast::Expr) -> ast::Expr {
    let ast::Query { body, .. } = *text::template("SELECT \"asof join\"(NULL)");
    let SetExpr::Select(mut select) = *body else { unreachable!("the query above selects") };
    let Some(SelectItem::UnnamedExpr(ast::Expr::Function(mut call))) = select.projection.pop() else {
        unreachable!("the query above calls a function")
    };
    if let FunctionArguments::List(list) = &mut call.args {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(condition))];
    }
    ast::Expr::Function(call)
}

/// Refuses the ASOF joins that have no condition to mark.
///
/// # Errors
/// `Unsupported` with the join's position.
pub(crate) fn check(query: &Query) -> Result<()> {
    if !is_mentioned(&query.text) {
        return Ok(());
    }
    let unmarked: ControlFlow<()> = walk(&query.ast, &mut Unmarked);
    if unmarked.is_continue() {
        return Ok(());
    }
    Err(Error::unsupported("ASOF JOIN without ON", "compare the times in ON", position(&query.text)))
}

struct Unmarked;

impl Unmarked {
    fn look(from: &[TableWithJoins]) -> ControlFlow<()> {
        let is_asof = |join: &ast::Join| join.global || matches!(join.join_operator, JoinOperator::AsOf { .. });
        if from.iter().flat_map(|from| &from.joins).any(is_asof) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl Visitor for Unmarked {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        Self::look(&select.from)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => {
                Self::look(std::slice::from_ref(table_with_joins.as_ref()))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Whether a statement may have an ASOF join.
fn is_mentioned(text: &str) -> bool {
    text.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"asof"))
}

/// Where the first ASOF of a statement stands.
fn position(text: &str) -> Option<Position> {
    Cursor::new(text).ok()?.word_after(Location::new(1, 1), "ASOF")
}

/// The function of a marked condition.
pub(crate) fn marker() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Marker { signature: Signature::any(1, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    signature: Signature,
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &'static str {
        MARK
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        plan_err!("{MARK} marks the condition of a join and cannot be called")
    }
}

/// Says ASOF joins in other words, in subqueries too.
///
/// # Errors
/// `Unsupported` for conditions that are not equalities and one comparison.
pub(crate) fn expand(plan: LogicalPlan, text: &str) -> Result<LogicalPlan> {
    if !is_mentioned(text) {
        return Ok(plan);
    }
    let mut refused = None;
    let expanded = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match condition_of(&join).cloned() {
            Some(condition) => nearest(join, condition, text).map(Transformed::yes).map_err(|error| {
                refused = Some(error);
                DataFusionError::Plan("an ASOF JOIN was refused".to_owned())
            }),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    });
    match refused {
        Some(error) => Err(error),
        None => expanded.map(|done| done.data).map_err(|e| Error::of_planner(e, text)),
    }
}

/// The condition of an ASOF join.
fn condition_of(join: &Join) -> Option<&Expr> {
    match join.filter.as_ref()? {
        Expr::ScalarFunction(call) if call.func.name() == MARK => call.args.first(),
        _ => None,
    }
}

/// The join on a range that an ASOF join is.
fn nearest(join: Join, condition: Expr, text: &str) -> Result<LogicalPlan> {
    let Join { left, right, join_type, schema, .. } = join;
    let Terms { keys, time, operator, right_time } = terms(condition.clone(), left.schema(), right.schema(), text)?;
    let until = operator.negate().filter(|_| matches!(join_type, JoinType::Inner | JoinType::Left));
    let Some(until) = until else {
        return Err(Error::unsupported(
            "this kind of ASOF JOIN",
            "there are ASOF JOIN and ASOF LEFT JOIN",
            position(text),
        ));
    };
    // The later row is the nearer one where the right comes before the left.
    let is_later = matches!(operator, Operator::Gt | Operator::GtEq);
    let mut order = vec![right_time.clone().sort(is_later, false)];
    order.extend(ties::all_columns(right.schema()).into_iter().map(|sort| comparable(sort, right.schema())));
    let next = || Expr::Column(Column::new_unqualified(NEXT));
    let columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    let planned = || -> Result<LogicalPlan, DataFusionError> {
        let following = lead(right_time, Some(1), None).partition_by(keys).order_by(order).build()?;
        let right = LogicalPlanBuilder::from(right).window(vec![following.alias(NEXT)])?.build()?;
        let range = condition.and(next().is_null().or(binary_expr(time, until, next())));
        LogicalPlanBuilder::from(left).join_on(right, join_type, [range])?.project(columns)?.build()
    };
    planned().map_err(|e| Error::of_planner(e, text))
}

/// A sort key by which rows can be sorted: jsonb, which has no order, has one as text.
fn comparable(sort: SortExpr, schema: &DFSchema) -> SortExpr {
    match sort.expr.get_type(schema) {
        Ok(of) if is_jsonb(&of) => SortExpr { expr: cast(sort.expr, DataType::Utf8), ..sort },
        _ => sort,
    }
}

/// What a condition compares.
struct Terms {
    /// What is equal, on the right.
    keys: Vec<Expr>,
    /// On the left.
    time: Expr,
    /// Between the left and the right.
    operator: Operator,
    right_time: Expr,
}

fn terms(condition: Expr, left: &DFSchema, right: &DFSchema, text: &str) -> Result<Terms> {
    let (mut keys, mut compared) = (Vec::new(), Vec::new());
    for part in split_conjunction_owned(condition) {
        let clause = format!("{part} in the condition of an ASOF JOIN");
        match sided(part, left, right) {
            Some((_, Operator::Eq, key)) => keys.push(key),
            Some((time, operator @ (Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq), right_time)) => {
                compared.push((time, operator, right_time));
            }
            _ => {
                let hint = "it takes equalities and one comparison of both sides: filter in a subquery";
                return Err(Error::unsupported(clause, hint, position(text)));
            }
        }
    }
    let count = compared.len();
    match <[_; 1]>::try_from(compared) {
        Ok([(time, operator, right_time)]) => Ok(Terms { keys, time, operator, right_time }),
        Err(_) => {
            let clause = format!("ASOF JOIN with {count} comparisons");
            Err(Error::unsupported(clause, "compare the times of both sides once", position(text)))
        }
    }
}

/// A comparison as (left, operator, right), if each of its sides reads one side of the join.
fn sided(part: Expr, left: &DFSchema, right: &DFSchema) -> Option<(Expr, Operator, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op, right: b }) = part else { return None };
    if reads(&a, left) && reads(&b, right) {
        return Some((*a, op, *b));
    }
    let turned = op.swap()?;
    (reads(&b, left) && reads(&a, right)).then_some((*b, turned, *a))
}

/// Whether an expression reads columns of this side and of nothing else.
fn reads(expr: &Expr, side: &DFSchema) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && columns.iter().all(|column| side.has_column(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Keyword> {
        let mut tokens = text::tokens(text).expect("tokens");
        respell(&mut tokens);
        let keyword = |token: TokenWithSpan| match token.token {
            Token::Word(word) => Some(word.keyword),
            _ => None,
        };
        tokens.into_iter().filter_map(keyword).collect()
    }

    #[test]
    fn asof_is_respelled_before_joins_that_there_are_and_nowhere_else() {
        for join in ["JOIN", "INNER JOIN", "LEFT JOIN", "left outer join"] {
            assert!(words(&format!("a ASOF {join} b")).contains(&Keyword::GLOBAL), "{join}");
            assert!(!words(&format!("a GLOBAL {join} b")).contains(&Keyword::GLOBAL), "{join}");
        }
        for other in ["a ASOF RIGHT JOIN b", "SELECT asof, b", "asof"] {
            assert!(!words(other).contains(&Keyword::GLOBAL), "{other}");
        }
    }
}
