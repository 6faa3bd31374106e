//! Windows of the WINDOW clause, where OVER names them: `OVER w`, and `OVER (w ORDER BY x)`, which adds to them. They
//! are written out: DataFusion's planner passes over the name in the second form, and knows the first one in the list
//! of SELECT only.
//!
//! As in PostgreSQL a window takes over the PARTITION BY and the ORDER BY of the one that it names, which must have no
//! frame of its own.

use crate::error::{Error, Result};
use crate::scopes::folded;
use crate::statement::Query;
use crate::text::Position;
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, NamedWindowExpr, Select, SetExpr, VisitorMut, WindowSpec, WindowType,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Refuses windows that name one which is not there, or take over what they have themselves.
///
/// # Errors
/// `Invalid` (42704, 42P20) with the place of the name.
pub(crate) fn check(query: &Query) -> Result<()> {
    match walk_mut(&mut query.ast.clone(), &mut Windows::default()) {
        ControlFlow::Break(refused) => Err(refused.at(&query.text)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Writes out the windows of a query that was checked.
pub(crate) fn written_out(query: &mut ast::Query) {
    let _: ControlFlow<Refused> = walk_mut(query, &mut Windows::default());
}

/// What cannot be, and the name where it is said.
struct Refused {
    name: Ident,
    sqlstate: &'static str,
    message: String,
}

impl Refused {
    fn at(self, text: &str) -> Error {
        let position = Position::of(text, self.name.span.start);
        Error::Invalid { sqlstate: self.sqlstate, message: self.message, position }
    }

    fn overrides(name: &Ident, clause: &str) -> Self {
        let message = format!("cannot override {clause} clause of window {:?}", folded(name));
        Self { name: name.clone(), sqlstate: TAKEN_OVER, message }
    }
}

/// The SQLSTATE of windows that do not go together.
const TAKEN_OVER: &str = "42P20";

/// Windows by name.
type Named = BTreeMap<String, WindowSpec>;

/// Those of each query and SELECT that is being walked through, the innermost last.
#[derive(Default)]
struct Windows(Vec<Named>);

impl VisitorMut for Windows {
    type Break = Refused;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Refused> {
        // ORDER BY is computed from what its SELECT is.
        let named = match query.body.as_ref() {
            SetExpr::Select(select) => named_in(select),
            _ => Ok(Named::new()),
        };
        self.enter(named)
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<Refused> {
        self.0.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Refused> {
        self.enter(named_in(select))
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<Refused> {
        self.0.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Refused> {
        let (Expr::Function(function), Some(named)) = (expr, self.0.last()) else { return ControlFlow::Continue(()) };
        let whole = match &function.over {
            Some(WindowType::NamedWindow(name)) => found(named, name).cloned(),
            Some(WindowType::WindowSpec(spec)) if spec.window_name.is_some() => taken_over(named, spec),
            _ => return ControlFlow::Continue(()),
        };
        match whole {
            Ok(whole) => function.over = Some(WindowType::WindowSpec(whole)),
            Err(refused) => return ControlFlow::Break(refused),
        }
        ControlFlow::Continue(())
    }
}

impl Windows {
    fn enter(&mut self, named: Result<Named, Refused>) -> ControlFlow<Refused> {
        match named {
            Ok(named) => self.0.push(named),
            Err(refused) => return ControlFlow::Break(refused),
        }
        ControlFlow::Continue(())
    }
}

/// The windows of a WINDOW clause, of which each may name those before it.
fn named_in(select: &Select) -> Result<Named, Refused> {
    let mut named = Named::new();
    for window in &select.named_window {
        let name = folded(&window.0);
        if named.contains_key(&name) {
            let message = format!("window {name:?} is already defined");
            return Err(Refused { name: window.0.clone(), sqlstate: TAKEN_OVER, message });
        }
        let spec = match &window.1 {
            NamedWindowExpr::NamedWindow(other) => found(&named, other)?.clone(),
            NamedWindowExpr::WindowSpec(spec) => taken_over(&named, spec)?,
        };
        named.insert(name, spec);
    }
    Ok(named)
}

fn found<'a>(named: &'a Named, name: &Ident) -> Result<&'a WindowSpec, Refused> {
    named.get(&folded(name)).ok_or_else(|| Refused {
        name: name.clone(),
        sqlstate: "42704",
        message: format!("window {:?} does not exist", folded(name)),
    })
}

/// A window with what it takes over from the one that it names, if it names one.
fn taken_over(named: &Named, spec: &WindowSpec) -> Result<WindowSpec, Refused> {
    let Some(name) = &spec.window_name else { return Ok(spec.clone()) };
    let from = found(named, name)?;
    if !spec.partition_by.is_empty() {
        return Err(Refused::overrides(name, "PARTITION BY"));
    }
    if !spec.order_by.is_empty() && !from.order_by.is_empty() {
        return Err(Refused::overrides(name, "ORDER BY"));
    }
    if from.window_frame.is_some() {
        let message = format!("cannot copy window {:?} because it has a frame clause", folded(name));
        return Err(Refused { name: name.clone(), sqlstate: TAKEN_OVER, message });
    }
    let order_by = if spec.order_by.is_empty() { &from.order_by } else { &spec.order_by };
    Ok(WindowSpec {
        window_name: None,
        partition_by: from.partition_by.clone(),
        order_by: order_by.clone(),
        window_frame: spec.window_frame.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Statement;
    use crate::text::template;

    #[test]
    fn windows_are_written_out_where_they_are_named() {
        for (written, over) in [
            ("SELECT sum(x) OVER w FROM t WINDOW w AS (PARTITION BY y)", "(PARTITION BY y)"),
            ("SELECT sum(x) OVER (w ORDER BY x) FROM t WINDOW W AS (PARTITION BY y)", "(PARTITION BY y ORDER BY x)"),
            (
                "SELECT sum(x) OVER v FROM t WINDOW w AS (PARTITION BY y), v AS (w ORDER BY x ROWS 1 PRECEDING)",
                "(PARTITION BY y ORDER BY x ROWS 1 PRECEDING)",
            ),
        ] {
            let mut query = *template(written);
            written_out(&mut query);
            let expected = format!("SELECT sum(x) OVER {over} FROM t ");
            assert!(query.to_string().starts_with(&expected), "{written}: {query}");
        }
    }

    #[test]
    fn windows_that_do_not_go_together_are_refused() {
        for (text, sqlstate, message) in [
            ("SELECT sum(x) OVER w FROM t", "42704", "window \"w\" does not exist"),
            ("SELECT sum(x) OVER (w ORDER BY x) FROM t", "42704", "window \"w\" does not exist"),
            ("SELECT x FROM t WINDOW v AS (w), w AS ()", "42704", "window \"w\" does not exist"),
            ("SELECT 1 FROM (SELECT sum(x) OVER w FROM t) AS s WINDOW w AS ()", "42704", "does not exist"),
            ("SELECT x FROM t WINDOW w AS (), w AS ()", "42P20", "window \"w\" is already defined"),
            ("SELECT sum(x) OVER (w PARTITION BY y) FROM t WINDOW w AS ()", "42P20", "cannot override PARTITION BY"),
            ("SELECT sum(x) OVER (w ORDER BY y) FROM t WINDOW w AS (ORDER BY x)", "42P20", "cannot override ORDER BY"),
            ("SELECT sum(x) OVER (w) FROM t WINDOW w AS (ROWS 1 PRECEDING)", "42P20", "because it has a frame clause"),
        ] {
            let Ok(Statement::Query(query)) = crate::parse(text) else { panic!("{text} is a query") };
            let error = check(&query).expect_err(text);
            assert_eq!(error.sqlstate(), sqlstate, "{text}");
            assert!(error.position().is_some() && error.to_string().contains(message), "{text}: {error}");
        }
    }
}
