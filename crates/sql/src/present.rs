//! `FOR SYSTEM_TIME AS OF PROCTIME()`: a table as it is at present, which is the right side of a
//! temporal join.
//!
//! In a view each row of the left is joined with what the table holds when the row comes, and never again.
//! A query that runs once reads the present anyway, so there it means nothing.
//!
//! The dialect's parser does not know the clause: it is given to the parser as an argument of the table,
//! whose name no identifier has without quotes, and becomes the table's version afterwards. The argument
//! stands where the clause does. In a plan it is a node over the table that only lowering understands.

use crate::cursor::{Cursor, is_word};
use crate::error::{Error, Result};
use crate::text::Position;
use crate::walk::walk_mut;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, DataFusionError, JoinType, plan_err};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, Ident, TableFactor, TableFunctionArgs, TableVersion, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Whitespace, Word};
use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The clause's name in messages.
pub(crate) const CLAUSE: &str = "FOR SYSTEM_TIME AS OF";
/// What the parser takes it for.
const MARK: &str = "for system_time";
const WORDS: [&str; 5] = ["FOR", "SYSTEM_TIME", "AS", "OF", "PROCTIME"];

/// Whether tokens begin with the clause.
fn is_clause(tokens: &[TokenWithSpan]) -> bool {
    tokens.len() >= WORDS.len() + 2
        && tokens.iter().zip(WORDS).all(|(token, word)| is_word(Some(&token.token), word))
        && tokens[WORDS.len()].token == Token::LParen
        && tokens[WORDS.len() + 1].token == Token::RParen
}

/// Gives the parser the clause as an argument: as many tokens, of which the last three count.
pub(crate) fn respell(tokens: &mut [TokenWithSpan]) {
    for at in 0..tokens.len() {
        if !is_clause(&tokens[at..]) {
            continue;
        }
        let span = tokens[at].span;
        let mark = Word { value: MARK.to_owned(), quote_style: Some('"'), keyword: Keyword::NoKeyword };
        let argument = [Token::LParen, Token::Word(mark), Token::RParen];
        let blank = || Token::Whitespace(Whitespace::Space);
        let spelled = std::iter::repeat_with(blank).take(WORDS.len() - 1).chain(argument);
        for (token, spelled) in tokens[at..].iter_mut().zip(spelled) {
            *token = TokenWithSpan { token: spelled, span };
        }
    }
}

/// Where the clause stands in what a cursor has not read.
///
/// # Errors
/// `Unsupported` where it is of another time than the present.
pub(crate) fn asked(c: &Cursor<'_>) -> Result<Vec<Position>> {
    let mut all = Vec::new();
    for at in c.places(&["FOR", "SYSTEM_TIME"]) {
        let position = c.position_at(at);
        let after = at + WORDS.len();
        let is_present = c.words_at(at, &WORDS)
            && c.token_at(after) == Some(&Token::LParen)
            && c.token_at(after + 1) == Some(&Token::RParen);
        if !is_present {
            return Err(Error::unsupported(CLAUSE, "only the present is known: AS OF PROCTIME()", Some(position)));
        }
        all.push(position);
    }
    Ok(all)
}

/// Gives the tables of a parsed query their versions, of which there are as many as were asked for.
///
/// # Errors
/// `Unsupported` where the clause stands at something else than a table.
pub(crate) fn mark(query: &mut ast::Query, asked: &[Position], text: &str) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let mut found = Found(Vec::new());
    let _: ControlFlow<()> = walk_mut(query, &mut found);
    let marked: Vec<Option<Position>> = found.0.into_iter().map(|at| Position::of(text, at)).collect();
    match asked.iter().find(|at| !marked.contains(&Some(**at))) {
        Some(at) => Err(misplaced(Some(*at))),
        None => Ok(()),
    }
}

fn misplaced(at: Option<Position>) -> Error {
    let hint = "it stands on the right of JOIN or LEFT JOIN, between a table's name and its alias";
    Error::unsupported(format!("{CLAUSE} here"), hint, at)
}

/// Where there were marks.
struct Found(Vec<Location>);

impl VisitorMut for Found {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { args, version, .. } = factor
            && let Some(mark) = args.as_ref().and_then(mark_of)
        {
            self.0.push(mark.span.start);
            let present = Ident::with_span(mark.span, "PROCTIME()");
            *version = Some(TableVersion::ForSystemTimeAsOf(ast::Expr::Identifier(present)));
            *args = None;
        }
        ControlFlow::Continue(())
    }
}

fn mark_of(args: &TableFunctionArgs) -> Option<Ident> {
    match args.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(mark)))] if mark.value == MARK => {
            Some(mark.clone())
        }
        _ => None,
    }
}

/// Where the clause stands at a table, if it does.
fn span_of(factor: &TableFactor) -> Option<Span> {
    match factor {
        TableFactor::Table {
            version: Some(TableVersion::ForSystemTimeAsOf(ast::Expr::Identifier(present))), ..
        } => Some(present.span),
        _ => None,
    }
}

/// Binds tables at present.
#[derive(Debug)]
pub(crate) struct Presents;

impl RelationPlanner for Presents {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning, DataFusionError> {
        let Some(span) = span_of(&relation) else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let mut taken = None;
        if let TableFactor::Table { version, alias, .. } = &mut relation {
            *version = None;
            taken = alias.take();
        }
        let node = Present { input: context.plan(relation)?, at: span.start };
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, taken))))
    }
}

/// The input as it is at present.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) struct Present {
    pub(crate) input: LogicalPlan,
    /// Where the clause stands in its statement.
    at: Location,
}

impl Present {
    /// Refuses it where it is not the right side of a join.
    pub(crate) fn misplaced(&self, text: &str) -> Error {
        misplaced(self.position(text))
    }

    /// Where the clause stands in a statement; nowhere when it came with a plain view.
    pub(crate) fn position(&self, text: &str) -> Option<Position> {
        let position = Position::of(text, self.at)?;
        (Cursor::new(text).ok()?.word_after(self.at, "FOR") == Some(position)).then_some(position)
    }
}

impl UserDefinedLogicalNodeCore for Present {
    fn name(&self) -> &'static str {
        "Present"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self, DataFusionError> {
        let Ok([input]) = <[LogicalPlan; 1]>::try_from(inputs) else { return plan_err!("Present has one input") };
        Ok(Self { input, at: self.at })
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output.to_vec()])
    }
}

/// The node's content, if it is one.
pub(crate) fn present_of(node: &LogicalPlan) -> Option<&Present> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// Refuses tables at present that are not the right side of an inner or left join, in all of a bound plan.
///
/// # Errors
/// `Unsupported` with the clause's position.
pub(crate) fn check(plan: &LogicalPlan, text: &str) -> Result<()> {
    let (mut all, mut placed): (Vec<Present>, Vec<Present>) = (Vec::new(), Vec::new());
    let walked = plan.apply_with_subqueries(|node| {
        all.extend(present_of(node).cloned());
        if let LogicalPlan::Join(join) = node
            && matches!(join.join_type, JoinType::Inner | JoinType::Left)
        {
            placed.extend(aliased(&join.right).cloned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| Error::Plan(Box::new(e)))?;
    match all.iter().find(|present| !placed.contains(present)) {
        Some(present) => Err(present.misplaced(text)),
        None => Ok(()),
    }
}

/// A table at present, which may have an alias.
fn aliased(plan: &LogicalPlan) -> Option<&Present> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => present_of(&alias.input),
        other => present_of(other),
    }
}

/// Whether a query reads a table at present, in subqueries too.
pub(crate) fn is_in(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= present_of(node).is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The right side of a temporal join without what marks it as one, and the mark; none where it is another
/// plan. What is above the mark was put there by the optimizer.
pub(crate) fn unmarked(plan: &LogicalPlan) -> Result<Option<(LogicalPlan, Present)>, DataFusionError> {
    let mut found = None;
    let unmarked = plan.clone().transform_down(|node| {
        if let Some(present) = present_of(&node).cloned() {
            let input = present.input.clone();
            found = Some(present);
            return Ok(Transformed::new(input, true, TreeNodeRecursion::Jump));
        }
        let is_passed =
            matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_));
        Ok(if is_passed { Transformed::no(node) } else { Transformed::new(node, false, TreeNodeRecursion::Jump) })
    })?;
    Ok(found.map(|present| (unmarked.data, present)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn the_clause_keeps_its_place_and_as_many_tokens() {
        let text = "SELECT * FROM a JOIN t for system_time AS OF proctime() AS x ON a.k = x.k";
        let before = text::tokens(text).expect("tokens");
        let mut after = before.clone();
        respell(&mut after);
        assert_eq!(before.len(), after.len());
        let mark = after.iter().find(|token| matches!(&token.token, Token::Word(word) if word.value == MARK));
        assert_eq!(mark.expect("a mark").span.start, Location::new(1, 24));
        let other = "SELECT * FROM t FOR SYSTEM_TIME AS OF now()";
        let mut after = text::tokens(other).expect("tokens");
        respell(&mut after);
        assert_eq!(after, text::tokens(other).expect("tokens"));
    }
}
