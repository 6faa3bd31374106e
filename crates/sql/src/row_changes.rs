//! The queries of UPDATE and DELETE: for the rows that they change, and for what RETURNING tells of them.
//!
//! Invariant: the target is read as [`ROW_TARGET`] and called by its alias or name, so whatever else a statement
//! names, a relation of WITH that is called as the target or the table itself once more, is another relation.

use crate::error::{Error, Result};
use crate::merged::merges;
use crate::scopes::folded;
use crate::statement::{Delete, Name, Query, ROW_KEY, ROW_VALUE, Update, new_column, select};
use crate::text::{Position, template};
use crate::upsert::ROW_NUMBER;
use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, ObjectName, ObjectNamePart, SelectItem, SelectItemQualifiedWildcardKind, TableFactor,
    TableWithJoins,
};

/// The relation from which UPDATE and DELETE take the rows that they change, with their keys and stored forms.
pub const ROW_TARGET: &str = "__row_target";

/// What UPDATE and DELETE read beside their target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// WITH, before the statement.
    pub with: Option<ast::With>,
    /// FROM of an UPDATE, USING of a DELETE.
    pub items: Vec<TableWithJoins>,
}

impl Joined {
    /// Whether there is nothing beside the target.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.with.is_none() && self.items.is_empty()
    }

    /// Refuses a RETURNING for which it is not known what each relation gives.
    pub(crate) fn check_returned(&self, at: Position) -> Result<()> {
        if self.items.iter().any(merges) {
            let hint = "write the join with ON";
            return Err(Error::unsupported("RETURNING beside a join with USING or NATURAL", hint, Some(at)));
        }
        if self.items.iter().any(|item| names_in(item).is_none()) {
            let hint = "give it an alias";
            return Err(Error::unsupported("RETURNING beside a relation without a name", hint, Some(at)));
        }
        Ok(())
    }
}

/// What the relations of a part of FROM are called, in their order; none where one has no name.
fn names_in(item: &TableWithJoins) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for factor in std::iter::once(&item.relation).chain(item.joins.iter().map(|join| &join.relation)) {
        match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => names.push(folded(&alias.name)),
            TableFactor::Table { name, alias: None, args: None, .. } => {
                names.push(name.0.last().and_then(ObjectNamePart::as_ident).map(folded)?);
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => names.extend(names_in(table_with_joins)?),
            _ => return None,
        }
    }
    Some(names)
}

impl Update {
    /// The query for the rows to change: each row's key and stored form, then the table's columns with their new
    /// values, and then, for RETURNING, the columns of FROM. A row comes as often as FROM has rows for it.
    #[must_use]
    pub fn query(&self, columns: &[String]) -> Query {
        let called = self.alias.as_ref().unwrap_or(&self.table);
        let value = |column: &String| {
            let assigned = self.assignments.iter().find(|(name, _)| name.value == *column);
            assigned.map_or_else(|| column_of(&called.value, column), |(_, expr)| expr.clone())
        };
        let (joined, selection) = (&self.joined, self.selection.as_ref());
        let changed = Changed { called, joined, selection, returns: !self.returning.is_empty() };
        changed.query(columns.iter().map(value), &self.text)
    }
}

impl Delete {
    /// The query for the rows to delete: as [`Update::query`], with the columns as they are.
    #[must_use]
    pub fn query(&self, columns: &[String]) -> Query {
        let called = self.alias.as_ref().unwrap_or(&self.table);
        let values = columns.iter().map(|column| column_of(&called.value, column));
        let (joined, selection) = (&self.joined, self.selection.as_ref());
        let changed = Changed { called, joined, selection, returns: !self.returning.is_empty() };
        changed.query(values, &self.text)
    }
}

/// Which rows a statement changes.
struct Changed<'a> {
    /// What the target is called.
    called: &'a Name,
    joined: &'a Joined,
    selection: Option<&'a Expr>,
    /// Whether there is a RETURNING.
    returns: bool,
}

impl Changed<'_> {
    fn query(&self, values: impl Iterator<Item = Expr>, text: &str) -> Query {
        let Self { called, joined, selection, returns } = *self;
        let hidden = [ROW_KEY, ROW_VALUE].map(|name| SelectItem::UnnamedExpr(column_of(&called.value, name)));
        let value = |(at, expr): (usize, Expr)| SelectItem::ExprWithAlias { expr, alias: new_column(at) };
        let beside = joined.items.iter().filter(|_| returns).filter_map(names_in).flatten().map(|name| all_of(&name));
        let items = hidden.into_iter().chain(values.enumerate().map(value)).chain(beside).collect();
        let target = Name { value: ROW_TARGET.to_owned(), at: called.at };
        let mut query = select(&target, Some(called), items, text);
        query.ast.with.clone_from(&joined.with);
        if let ast::SetExpr::Select(select) = query.ast.body.as_mut() {
            select.selection = selection.cloned();
            select.from.extend(joined.items.iter().cloned());
        }
        query
    }
}

/// The query for RETURNING over several relations, whose rows of one number belong together: the target first, then
/// those of FROM. All have the number as [`ROW_NUMBER`], which `*` does not give.
#[must_use]
pub fn returning_joined(relations: &[(&str, SchemaRef)], items: &[SelectItem], text: &str) -> Query {
    let quoted: Vec<String> = relations.iter().map(|(name, _)| format!("\"{}\"", name.replace('"', "\"\""))).collect();
    let first = quoted.first().map_or("", String::as_str);
    let join = |name: &String| format!("JOIN {name} ON {first}.{ROW_NUMBER} = {name}.{ROW_NUMBER}");
    let joins: Vec<String> = quoted.iter().skip(1).map(join).collect();
    let mut query = template(&format!("SELECT 1 FROM {first} {}", joins.join(" ")));
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items.iter().flat_map(|item| written_out(item, relations)).collect();
    }
    Query { ast: query, text: text.to_owned() }
}

/// An item of RETURNING, or the columns that it stands for.
fn written_out(item: &SelectItem, relations: &[(&str, SchemaRef)]) -> Vec<SelectItem> {
    let wanted = match item {
        SelectItem::Wildcard(_) => None,
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            let name = name.0.last().and_then(ObjectNamePart::as_ident).map(folded);
            // What names no relation is refused where it is bound.
            match name.filter(|name| relations.iter().any(|(known, _)| known == name)) {
                Some(name) => Some(name),
                None => return vec![item.clone()],
            }
        }
        _ => return vec![item.clone()],
    };
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    let columns = |(name, schema): &(&str, SchemaRef)| -> Vec<SelectItem> {
        let shown = schema.fields().iter().filter(|field| field.name() != ROW_NUMBER);
        shown.map(|field| SelectItem::UnnamedExpr(column_of(name, field.name()))).collect()
    };
    relations.iter().filter(|(name, _)| is_wanted(name)).flat_map(columns).collect()
}

fn column_of(relation: &str, column: &str) -> Expr {
    Expr::CompoundIdentifier([relation, column].map(|part| Ident::with_quote('"', part)).to_vec())
}

/// `relation.*`.
fn all_of(relation: &str) -> SelectItem {
    let name = ObjectName::from(vec![Ident::with_quote('"', relation)]);
    let options = ast::WildcardAdditionalOptions::default();
    SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use crate::statement::Statement;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn query_of(text: &str) -> String {
        let columns = ["a".to_owned(), "b".to_owned()];
        match parse(text).expect("a statement") {
            Statement::Update(update) => update.query(&columns).ast.to_string(),
            Statement::Delete(delete) => delete.query(&columns).ast.to_string(),
            other => panic!("{other:?} changes no rows"),
        }
    }

    #[test]
    fn the_target_stands_before_what_it_is_joined_with() {
        assert_eq!(
            query_of("UPDATE t SET a = s.x FROM ONLY s, (SELECT 1 AS y) AS u WHERE t.b = s.y"),
            "SELECT \"t\".\"__row_key\", \"t\".\"__row_value\", s.x AS \"__new_0\", \"t\".\"b\" AS \"__new_1\" \
             FROM \"__row_target\" AS \"t\", s, (SELECT 1 AS y) AS u WHERE t.b = s.y"
        );
        assert_eq!(
            query_of("WITH t AS (SELECT 1 AS x) DELETE FROM t AS o USING ONLY t WHERE o.a = t.x"),
            "WITH t AS (SELECT 1 AS x) SELECT \"o\".\"__row_key\", \"o\".\"__row_value\", \"o\".\"a\" AS \"__new_0\", \
             \"o\".\"b\" AS \"__new_1\" FROM \"__row_target\" AS \"o\", t WHERE o.a = t.x"
        );
    }

    #[test]
    fn returning_asks_for_the_columns_of_each_relation() {
        let query = query_of("DELETE FROM t USING s JOIN \"U\" ON s.x = \"U\".x, (v CROSS JOIN w) RETURNING *");
        let (items, _) = query.split_once(" FROM ").expect("a FROM");
        assert!(items.ends_with(r#""s".*, "U".*, "v".*, "w".*"#), "{items}");
        for (text, at) in [
            ("UPDATE t SET a = 1 FROM s NATURAL JOIN u RETURNING a", 42),
            ("UPDATE t SET a = 1 FROM (SELECT 1) RETURNING a", 36),
        ] {
            let error = parse(text).expect_err("refused");
            assert_eq!((error.sqlstate(), error.position().map(|at| at.offset)), ("0A000", Some(at)), "{text}");
        }
    }

    #[test]
    fn stars_of_returning_are_the_relations_columns() {
        let relation = |columns: &[&str]| {
            let names = columns.iter().copied().chain([ROW_NUMBER]);
            Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int32, true)).collect::<Vec<_>>()))
        };
        let relations = [("t", relation(&["a", "b"])), ("S", relation(&["a"]))];
        let text = r#"UPDATE t SET a = 1 FROM "S" RETURNING *, "S".*, t.a + 1 AS c, x.*"#;
        let Ok(Statement::Update(update)) = parse(text) else { panic!("it is an UPDATE") };
        assert_eq!(
            returning_joined(&relations, &update.returning, "").ast.to_string(),
            "SELECT \"t\".\"a\", \"t\".\"b\", \"S\".\"a\", \"S\".\"a\", t.a + 1 AS c, x.* FROM \"t\" \
             JOIN \"S\" ON \"t\".__row_number = \"S\".__row_number"
        );
    }
}
