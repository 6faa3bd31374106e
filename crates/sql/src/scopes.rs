//! Names of relations around a subquery that are also names of columns in it: `a.b` is column b of relation a,
//! wherever that is. DataFusion would first look for a column a in the subquery, and for a field of it.
//!
//! With their schema, `public.a.b`, they are nothing else than relations. And `a.*` of `FROM public.a` is told by
//! the name that DataFusion has for it.

use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableAlias, TableFactor,
    TableWithJoins, VisitorMut,
};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Gives the columns of relations around subqueries their schema.
pub(crate) fn tell_outer(query: &mut Query) {
    // Nothing breaks the walk off.
    let ControlFlow::Continue(()) = walk_mut(query, &mut Scopes::default());
}

/// What FROM names in each SELECT that is being walked through, the innermost last.
#[derive(Default)]
struct Scopes(Vec<BTreeSet<String>>);

impl VisitorMut for Scopes {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        let mut names = BTreeSet::new();
        select.from.iter().for_each(|from| names_in(from, &mut names));
        self.0.push(names);
        let qualified: Vec<String> = select.from.iter().flat_map(factors).filter_map(qualified).collect();
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
                && let [ObjectNamePart::Identifier(relation)] = name.0.as_slice()
                && qualified.contains(&folded(relation))
            {
                name.0.insert(0, ObjectNamePart::Identifier(Ident::new("public")));
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<Infallible> {
        self.0.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [relation, _] = parts.as_slice()
            && let Some((inner, around)) = self.0.split_last()
        {
            let relation = folded(relation);
            if !inner.contains(&relation) && around.iter().any(|names| names.contains(&relation)) {
                parts.insert(0, Ident::new("public"));
            }
        }
        ControlFlow::Continue(())
    }
}

fn factors(from: &TableWithJoins) -> impl Iterator<Item = &TableFactor> {
    std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
}

/// What a relation is called that is named with its schema alone.
fn qualified(factor: &TableFactor) -> Option<String> {
    let TableFactor::Table { name, alias: None, .. } = factor else { return None };
    let [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(own)] = name.0.as_slice() else { return None };
    (folded(schema) == "public").then(|| folded(own))
}

/// What the relations of a part of FROM are called.
pub(crate) fn names_in(from: &TableWithJoins, names: &mut BTreeSet<String>) {
    for factor in factors(from) {
        let named = |alias: &Option<TableAlias>| alias.as_ref().map(|alias| folded(&alias.name));
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let own = || name.0.last().and_then(ObjectNamePart::as_ident).map(folded);
                names.extend(named(alias).or_else(own));
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                names.extend(named(alias));
                names_in(table_with_joins, names);
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::Function { alias, .. } => names.extend(named(alias)),
            _ => {}
        }
    }
}

/// A name in the case that it means.
pub(crate) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template;

    #[test]
    fn relations_around_a_subquery_are_told_by_their_schema() {
        for (written, expected) in [
            (
                "SELECT a.a FROM t AS a WHERE EXISTS (SELECT 1 FROM big AS b WHERE b.a > a.a)",
                "SELECT a.a FROM t AS a WHERE EXISTS (SELECT 1 FROM big AS b WHERE b.a > public.a.a)",
            ),
            (
                "SELECT (SELECT max(a.x) FROM u AS a) FROM t AS a JOIN c ON a.k = c.k",
                "SELECT (SELECT max(a.x) FROM u AS a) FROM t AS a JOIN c ON a.k = c.k",
            ),
            (
                "SELECT (SELECT T.x FROM u WHERE EXISTS (SELECT u.y, t.z FROM v)) FROM t",
                "SELECT (SELECT public.T.x FROM u WHERE EXISTS (SELECT public.u.y, public.t.z FROM v)) FROM t",
            ),
            (
                "SELECT t.*, u.* FROM public.t JOIN public.v AS u ON t.k = u.k",
                "SELECT public.t.*, u.* FROM public.t JOIN public.v AS u ON t.k = u.k",
            ),
        ] {
            let mut query = *template(written);
            tell_outer(&mut query);
            assert_eq!(query.to_string(), expected, "{written}");
        }
    }
}
