//! ON CONFLICT of an INSERT, and the query that says what existing rows become.

use crate::statement::{Name, Query, ROW_KEY, ROW_VALUE, new_column};
use crate::text::Position;
use datafusion::sql::sqlparser::ast;

/// What the row that an INSERT gives is called in DO UPDATE.
const EXCLUDED: &str = "excluded";
/// The relation of the rows that exist, with their keys and stored forms. The table itself, which subqueries may
/// read, goes by its own name.
pub const ROW_EXISTING: &str = "__row_existing";
/// The relation of the rows that an INSERT gives in their place.
pub const ROW_EXCLUDED: &str = "__row_excluded";
/// The column that pairs a row that exists with the new one.
pub const ROW_NUMBER: &str = "__row_number";

/// What an INSERT does where a row of the same key exists.
#[derive(Clone, Debug, PartialEq)]
pub struct OnConflict {
    /// The columns of the key; may be empty for DO NOTHING.
    pub target: Vec<Name>,
    /// Where it stands.
    pub at: Position,
    /// DO UPDATE; absent for DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// DO UPDATE. Expressions see the row that exists by the table's name or alias, the new one as `excluded`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConflictUpdate {
    /// SET.
    pub assignments: Vec<(Name, ast::Expr)>,
    /// WHERE.
    pub selection: Option<ast::Expr>,
}

impl ConflictUpdate {
    /// The query for the rows to change, as [`crate::statement::Update::query`]. It reads [`ROW_EXISTING`],
    /// which expressions call by the table's name or alias, and [`ROW_EXCLUDED`], which they call `excluded`;
    /// both have their rows' numbers as [`ROW_NUMBER`]. Its subqueries read what they name.
    #[must_use]
    pub fn query(&self, table: &Name, alias: Option<&Name>, columns: &[String], text: &str) -> Query {
        let called = alias.unwrap_or(table);
        let ours = |column: &str| {
            let parts = [&called.value, column].map(|part| ast::Ident::with_quote('"', part));
            ast::Expr::CompoundIdentifier(parts.to_vec())
        };
        let value = |column: &String| {
            let assigned = self.assignments.iter().find(|(name, _)| name.value == *column);
            assigned.map_or_else(|| ours(column), |(_, expr)| expr.clone())
        };
        let item = |(at, expr)| ast::SelectItem::ExprWithAlias { expr, alias: new_column(at) };
        let hidden = [ROW_KEY, ROW_VALUE].map(|name| ast::SelectItem::UnnamedExpr(ours(name)));
        let items = hidden.into_iter().chain(columns.iter().map(value).enumerate().map(item)).collect();
        let called = called.value.replace('"', "\"\"");
        let mut query = crate::text::template(&format!(
            "SELECT 1 FROM {ROW_EXISTING} AS \"{called}\" \
             JOIN {ROW_EXCLUDED} AS {EXCLUDED} ON \"{called}\".{ROW_NUMBER} = {EXCLUDED}.{ROW_NUMBER}"
        ));
        if let ast::SetExpr::Select(select) = query.body.as_mut() {
            select.projection = items;
            select.selection.clone_from(&self.selection);
        }
        Query { ast: query, text: text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;
    use crate::statement::Statement;

    #[test]
    fn the_table_itself_is_left_to_subqueries() {
        let text = "INSERT INTO t AS o VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = (SELECT max(b) FROM t)";
        let Statement::Insert(insert) = parse(text).expect("a statement") else { panic!("an INSERT") };
        let update = insert.on_conflict.as_ref().and_then(|conflict| conflict.update.as_ref()).expect("DO UPDATE");
        let columns = ["a".to_owned(), "b".to_owned()];
        assert_eq!(
            update.query(&insert.table, insert.alias.as_ref(), &columns, text).ast.to_string(),
            "SELECT \"o\".\"__row_key\", \"o\".\"__row_value\", \"o\".\"a\" AS \"__new_0\", \
             (SELECT max(b) FROM t) AS \"__new_1\" FROM __row_existing AS \"o\" \
             JOIN __row_excluded AS excluded ON \"o\".__row_number = excluded.__row_number"
        );
    }
}
