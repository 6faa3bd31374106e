//! Which relations a query names, through TUMBLE and HOP too, and which functions a statement calls.

use crate::respell::rows_function;
use crate::statement::{Query, Statement};
use crate::text::Position;
use crate::walk::walk;
use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, Spanned, TableFactor, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The names of all relations that stand in FROM, without those that WITH defines.
#[must_use]
pub fn references(query: &Query) -> BTreeSet<String> {
    named(query).into_iter().collect()
}

/// The same in the order in which they are named; a name may come several times.
#[must_use]
pub fn named(query: &Query) -> Vec<String> {
    places(query).into_iter().map(|(name, _)| name).collect()
}

/// Where a query names a relation.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The name, with its schema.
    pub(crate) span: Span,
    pub(crate) form: Form,
}

/// What stands around a relation's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing: its columns are qualified by its own name.
    Bare,
    /// It has another name in the query.
    Aliased,
    /// It is the argument of TUMBLE or HOP, of which the same holds.
    BareCall,
    AliasedCall,
}

/// The names in the order in which they stand there, with their places.
pub(crate) fn places(query: &Query) -> Vec<(String, Place)> {
    let Found { mut named, defined } = found(query);
    named.retain(|(name, _)| !defined.contains(name));
    named
}

/// The names that WITH defines anywhere in a query.
pub(crate) fn defined(query: &Query) -> BTreeSet<String> {
    found(query).defined
}

fn found(query: &Query) -> Found {
    let mut found = Found::default();
    let _: ControlFlow<()> = walk(&query.ast, &mut found);
    found
}

#[derive(Default)]
struct Found {
    named: Vec<(String, Place)>,
    defined: BTreeSet<String>,
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.defined.extend(tables.map(|cte| folded(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let form = if alias.is_some() { Form::Aliased } else { Form::Bare };
                let parts: Option<Vec<&Ident>> = name.0.iter().map(ObjectNamePart::as_ident).collect();
                self.names(&parts.unwrap_or_default(), form);
            }
            // The first argument of TUMBLE and HOP is a relation.
            TableFactor::Table { name, alias, args: Some(call), .. } if rows_function(name).is_none() => {
                let form = if alias.is_some() { Form::AliasedCall } else { Form::BareCall };
                match call.args.first() {
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(table)))) => {
                        self.names(&[table], form);
                    }
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))) => {
                        self.names(&parts.iter().collect::<Vec<_>>(), form);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Found {
    fn names(&mut self, parts: &[&Ident], form: Form) {
        if let (Some(first), Some(last)) = (parts.first(), parts.last()) {
            let span = Span::new(first.span.start, last.span.end);
            self.named.push((folded(last), Place { span, form }));
        }
    }
}

/// The functions that a CREATE calls in what it keeps.
#[must_use]
pub fn calls(statement: &Statement) -> BTreeSet<String> {
    let mut found = Calls::default();
    let expressions: Vec<&Expr> = match statement {
        Statement::CreateTable(table) => {
            table.columns.iter().flat_map(|column| column.default.iter().chain(&column.column.generated)).collect()
        }
        Statement::CreateSource(source) => source.columns.iter().filter_map(|c| c.generated.as_ref()).collect(),
        Statement::CreateFunction(function) => vec![&function.body],
        Statement::CreateView(view) | Statement::CreateMaterializedView(view) => {
            let _: ControlFlow<()> = walk(&view.query.ast, &mut found);
            Vec::new()
        }
        Statement::CreateSink(sink) => {
            let _: ControlFlow<()> = walk(&sink.query.ast, &mut found);
            Vec::new()
        }
        _ => Vec::new(),
    };
    for expression in expressions {
        let _: ControlFlow<()> = walk(expression, &mut found);
    }
    found.calls.into_iter().map(|(name, _)| name).collect()
}

/// Where a query calls a function, if it does so in one place.
pub(crate) fn called_at(query: &Query, function: &str) -> Option<Position> {
    let mut found = Calls::default();
    let _: ControlFlow<()> = walk(&query.ast, &mut found);
    let mut places = found.calls.into_iter().filter(|(name, _)| name == function);
    let (first, second) = (places.next(), places.next());
    first.filter(|_| second.is_none()).and_then(|(_, span)| Position::of(&query.text, span.start))
}

#[derive(Default)]
struct Calls {
    calls: Vec<(String, Span)>,
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expr
            && let Some(name) = function_name(&call.name)
        {
            self.calls.push((name, call.name.span()));
        }
        ControlFlow::Continue(())
    }
}

/// A function's name without `public.`; none in another schema.
pub(crate) fn function_name(name: &ObjectName) -> Option<String> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident().map(folded)).collect();
    match parts.as_slice() {
        [name] => Some(name.clone()),
        [schema, name] if schema == "public" => Some(name.clone()),
        _ => None,
    }
}

fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}
