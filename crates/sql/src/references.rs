//! Which relations a query names, through TUMBLE and HOP too.

use crate::respell::rows_function;
use crate::statement::Query;
use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableFactor, Visit, Visitor,
};
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
    let mut found = Found::default();
    let _: ControlFlow<()> = query.ast.visit(&mut found);
    let Found { mut named, defined } = found;
    named.retain(|name| !defined.contains(name));
    named
}

#[derive(Default)]
struct Found {
    named: Vec<String>,
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
            TableFactor::Table { name, args: None, .. } => self.named.extend(last(name)),
            // The first argument of TUMBLE and HOP is a relation.
            TableFactor::Table { name, args: Some(call), .. } if rows_function(name).is_none() => {
                match call.args.first() {
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(table)))) => {
                        self.named.push(folded(table));
                    }
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))) => {
                        self.named.extend(parts.last().map(folded));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn last(name: &ObjectName) -> Option<String> {
    match name.0.last()? {
        ObjectNamePart::Identifier(ident) => Some(folded(ident)),
        ObjectNamePart::Function(_) => None,
    }
}

fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}
