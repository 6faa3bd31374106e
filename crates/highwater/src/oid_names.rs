//! Numbers of relations and types by their names, `'t'::regclass`, `'int4'::regtype` and `to_regtype('int4')::oid`, as
//! queries of catalogs that fail for what is not there, as PostgreSQL does.
//!
//! The casts are subqueries already when they come here: the crate datafusion-pg-catalog puts them in the place of the
//! casts, and they give null for what is not there, in a column that has no nulls.

use crate::catalog_queries::put;
use crate::pg_functions::{NO_RELATION, NO_TYPE, type_named};
use datafusion::sql::sqlparser::ast::{self, Expr, ObjectNamePart, SelectItem, SetExpr, TableFactor, Value};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Location;
use highwater_sql::walk_query;
use std::ops::ControlFlow;

/// Makes a subquery that stands for such a cast fail where it finds nothing; tells whether it was one.
pub(crate) fn resolve(query: &mut ast::Query) -> bool {
    let mut operand = Operand(None);
    let _: ControlFlow<()> = walk_query(query, &mut operand);
    let (Some(name), SetExpr::Select(select)) = (operand.0, query.body.as_mut()) else { return false };
    // Whatever a client writes in brackets begins later.
    if select.select_token.0.span.start != Location::new(1, 1) {
        return false;
    }
    let ([SelectItem::UnnamedExpr(item)], Some(from)) = (select.projection.as_mut_slice(), select.from.first()) else {
        return false;
    };
    let literal = literal(&name);
    match relation(&from.relation) {
        Some("pg_class") => *item = parsed(&format!("coalesce(max({item}), {NO_RELATION}({literal}))")),
        Some("pg_type") => {
            *item = parsed(&format!("coalesce(max({item}), {NO_TYPE}({literal}))"));
            if let Some(spelled) = type_named(&name) {
                select.selection = Some(parsed(&format!("format_type(oid, NULL) = '{spelled}'")));
            }
        }
        _ => return false,
    }
    true
}

/// The numbers of what has a name.
const TYPE_OF: &str = "(SELECT max(oid) FROM pg_catalog.pg_type WHERE format_type(oid, NULL) = hw_array)";
const RELATION_OF: &str = "(SELECT max(oid) FROM pg_catalog.pg_class WHERE relname = hw_array)";

/// The number of what `to_regtype` or `to_regclass` gives by its name, null where that is null.
pub(crate) fn number_of(function: &str, call: &ast::Function, to: &ast::DataType) -> Option<Expr> {
    let to = to.to_string().to_lowercase();
    if !["oid", "pg_catalog.oid", "int", "int4", "integer", "bigint", "int8"].contains(&to.as_str()) {
        return None;
    }
    let call = Expr::Function(call.clone());
    match function {
        "to_regtype" => Some(put(TYPE_OF, &call)),
        "to_regclass" => Some(put(RELATION_OF, &call)),
        _ => None,
    }
}

fn parsed(text: &str) -> Expr {
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).and_then(|mut parser| parser.parse_expr());
    parsed.expect("what was made of an expression parses")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The name of a relation of PostgreSQL's catalog.
fn relation(factor: &TableFactor) -> Option<&str> {
    let TableFactor::Table { name, .. } = factor else { return None };
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(name)] if schema.value == "pg_catalog" => {
            Some(&name.value)
        }
        _ => None,
    }
}

/// The first text that is written out.
struct Operand(Option<String>);

impl ast::Visitor for Operand {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ast::ValueWithSpan) -> ControlFlow<()> {
        match &value.value {
            Value::SingleQuotedString(text) => {
                self.0 = Some(text.clone());
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Option<String> {
        let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).expect("tokens");
        let mut query = parser.parse_query().expect("a query");
        resolve(&mut query).then(|| query.to_string())
    }

    #[test]
    fn casts_of_names_fail_for_what_is_not_there() {
        assert_eq!(
            resolved("SELECT oid FROM pg_catalog.pg_type WHERE typname = 'it''s'").as_deref(),
            Some("SELECT coalesce(max(oid), hw_no_type('it''s')) FROM pg_catalog.pg_type WHERE typname = 'it''s'")
        );
        assert_eq!(
            resolved("SELECT oid FROM pg_catalog.pg_type WHERE typname = 'int'").as_deref(),
            Some(
                "SELECT coalesce(max(oid), hw_no_type('int')) FROM pg_catalog.pg_type WHERE format_type(oid, NULL) = 'integer'"
            )
        );
        assert_eq!(
            resolved("SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname = 't'").as_deref(),
            Some("SELECT coalesce(max(c.oid), hw_no_relation('t')) FROM pg_catalog.pg_class c WHERE c.relname = 't'")
        );
        for other in [
            " SELECT oid FROM pg_catalog.pg_type WHERE typname = 'int'",
            "SELECT oid FROM pg_catalog.pg_type WHERE typname = $1",
            "SELECT oid FROM pg_catalog.pg_proc WHERE proname = 'f'",
        ] {
            assert_eq!(resolved(other), None, "{other}");
        }
    }
}
