//! The one walk through syntax trees. The parser's is generic over its visitor and has some hundred kinds
//! of nodes, so each visitor that is given to it compiles all of it anew; here it knows a visitor by its
//! trait alone, and is compiled once for what looks and once for what changes.
//!
//! Invariant: no other file gives a visitor or a closure to the parser's own walk. What a newer parser
//! lets visitors see is to be added where `hooks!` is called.

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};
use std::ops::ControlFlow;

/// Shows a visitor all that is in a part of a statement, until it breaks off.
pub(crate) fn walk<B>(part: &impl Visit, visitor: &mut dyn Visitor<Break = B>) -> ControlFlow<B> {
    let mut kept = Looking { visitor, broken: None };
    let mut erased: Looking<'_, ()> = Looking { visitor: &mut kept, broken: None };
    // Whether it was broken off is kept.
    let _ = Visit::visit(part, &mut erased);
    kept.broken.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

/// Lets a visitor change what is in a part of a statement, until it breaks off.
pub(crate) fn walk_mut<B>(part: &mut impl VisitMut, visitor: &mut dyn VisitorMut<Break = B>) -> ControlFlow<B> {
    let mut kept = Changing { visitor, broken: None };
    let mut erased: Changing<'_, ()> = Changing { visitor: &mut kept, broken: None };
    // Whether it was broken off is kept.
    let _ = VisitMut::visit(part, &mut erased);
    kept.broken.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

/// Looks at each expression in a part of a statement before those in it, until it breaks off.
pub(crate) fn walk_expressions<B>(part: &impl Visit, look: &mut dyn FnMut(&Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    walk(part, &mut Expressions(look))
}

/// Shows a visitor all that is in a query, until it breaks off.
pub fn walk_query(query: &Query, visitor: &mut dyn Visitor<Break = ()>) -> ControlFlow<()> {
    walk(query, visitor)
}

/// Lets a visitor change what is in a statement, until it breaks off.
pub fn walk_statement_mut(statement: &mut Statement, visitor: &mut dyn VisitorMut<Break = ()>) -> ControlFlow<()> {
    walk_mut(statement, visitor)
}

/// Lets a visitor change an expression and what is in it, until it breaks off.
pub fn walk_expr_mut(expr: &mut Expr, visitor: &mut dyn VisitorMut<Break = ()>) -> ControlFlow<()> {
    walk_mut(expr, visitor)
}

struct Expressions<'a, B>(&'a mut dyn FnMut(&Expr) -> ControlFlow<B>);

impl<B> Visitor for Expressions<'_, B> {
    type Break = B;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<B> {
        (self.0)(expr)
    }
}

/// A visitor of which the walk does not know what it breaks off with, and that.
struct Looking<'a, B> {
    visitor: &'a mut dyn Visitor<Break = B>,
    broken: Option<B>,
}

/// The same of one that changes what it is shown.
struct Changing<'a, B> {
    visitor: &'a mut dyn VisitorMut<Break = B>,
    broken: Option<B>,
}

/// Hands nodes on to the visitor.
macro_rules! hooks {
    ($($before:ident, $after:ident: $node:ty;)*) => {
        $(
            fn $before(&mut self, node: $node) -> ControlFlow<()> {
                self.visitor.$before(node).map_break(|with| self.broken = Some(with))
            }

            fn $after(&mut self, node: $node) -> ControlFlow<()> {
                self.visitor.$after(node).map_break(|with| self.broken = Some(with))
            }
        )*
    };
}

impl<B> Visitor for Looking<'_, B> {
    type Break = ();

    hooks! {
        pre_visit_statement, post_visit_statement: &Statement;
        pre_visit_query, post_visit_query: &Query;
        pre_visit_select, post_visit_select: &Select;
        pre_visit_table_factor, post_visit_table_factor: &TableFactor;
        pre_visit_relation, post_visit_relation: &ObjectName;
        pre_visit_expr, post_visit_expr: &Expr;
        pre_visit_value, post_visit_value: &ValueWithSpan;
    }
}

impl<B> VisitorMut for Changing<'_, B> {
    type Break = ();

    hooks! {
        pre_visit_statement, post_visit_statement: &mut Statement;
        pre_visit_query, post_visit_query: &mut Query;
        pre_visit_select, post_visit_select: &mut Select;
        pre_visit_table_factor, post_visit_table_factor: &mut TableFactor;
        pre_visit_relation, post_visit_relation: &mut ObjectName;
        pre_visit_expr, post_visit_expr: &mut Expr;
        pre_visit_value, post_visit_value: &mut ValueWithSpan;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::DIALECT;
    use datafusion::sql::sqlparser::parser::Parser;

    /// Notes which hook was called, and breaks off at one of them.
    struct Noting {
        called: Vec<&'static str>,
        last: &'static str,
    }

    impl Noting {
        const fn until(last: &'static str) -> Self {
            Self { called: Vec::new(), last }
        }

        fn note(&mut self, hook: &'static str) -> ControlFlow<String> {
            self.called.push(hook);
            if hook == self.last { ControlFlow::Break(hook.to_owned()) } else { ControlFlow::Continue(()) }
        }
    }

    macro_rules! noted {
        ($($hook:ident: $node:ty;)*) => {
            $(fn $hook(&mut self, _: $node) -> ControlFlow<String> {
                self.note(stringify!($hook))
            })*
        };
    }

    impl Visitor for Noting {
        type Break = String;

        noted! {
            pre_visit_statement: &Statement;
            post_visit_statement: &Statement;
            pre_visit_query: &Query;
            post_visit_query: &Query;
            pre_visit_select: &Select;
            post_visit_select: &Select;
            pre_visit_table_factor: &TableFactor;
            post_visit_table_factor: &TableFactor;
            pre_visit_relation: &ObjectName;
            post_visit_relation: &ObjectName;
            pre_visit_expr: &Expr;
            post_visit_expr: &Expr;
            pre_visit_value: &ValueWithSpan;
            post_visit_value: &ValueWithSpan;
        }
    }

    impl VisitorMut for Noting {
        type Break = String;

        noted! {
            pre_visit_statement: &mut Statement;
            post_visit_statement: &mut Statement;
            pre_visit_query: &mut Query;
            post_visit_query: &mut Query;
            pre_visit_select: &mut Select;
            post_visit_select: &mut Select;
            pre_visit_table_factor: &mut TableFactor;
            post_visit_table_factor: &mut TableFactor;
            pre_visit_relation: &mut ObjectName;
            post_visit_relation: &mut ObjectName;
            pre_visit_expr: &mut Expr;
            post_visit_expr: &mut Expr;
            pre_visit_value: &mut ValueWithSpan;
            post_visit_value: &mut ValueWithSpan;
        }
    }

    const ALL: [&str; 14] = [
        "pre_visit_statement",
        "pre_visit_query",
        "pre_visit_select",
        "pre_visit_expr",
        "pre_visit_value",
        "post_visit_value",
        "post_visit_expr",
        "pre_visit_table_factor",
        "pre_visit_relation",
        "post_visit_relation",
        "post_visit_table_factor",
        "post_visit_select",
        "post_visit_query",
        "post_visit_statement",
    ];

    #[test]
    fn visitors_see_all_up_to_where_they_break_off() {
        let mut statement = Parser::parse_sql(&DIALECT, "SELECT 1 FROM t").expect("a statement").remove(0);
        for (at, last) in ALL.into_iter().enumerate() {
            let mut looking = Noting::until(last);
            assert_eq!(walk(&statement, &mut looking), ControlFlow::Break(last.to_owned()));
            assert_eq!(looking.called, ALL[..=at]);
            let mut changing = Noting::until(last);
            assert_eq!(walk_mut(&mut statement, &mut changing), ControlFlow::Break(last.to_owned()));
            assert_eq!(changing.called, ALL[..=at]);
        }
        assert_eq!(walk(&statement, &mut Noting::until("")), ControlFlow::Continue(()));
    }

    #[test]
    fn expressions_are_looked_at_from_the_outside_in() {
        let parsed = Parser::new(&DIALECT).try_with_sql("a + b * c").and_then(|mut parser| parser.parse_expr());
        let expr = parsed.expect("an expression");
        let mut seen = Vec::new();
        let found = walk_expressions(&expr, &mut |part| {
            seen.push(part.to_string());
            if seen.len() == 4 { ControlFlow::Break(4) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(found, ControlFlow::Break(4));
        assert_eq!(seen, ["a + b * c", "a", "b * c", "b"]);
    }
}
