//! Which form correlated subqueries get, and which are refused.

use crate::statement::Statement;
use crate::{Relations, Result, Session, parse};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

fn bound(text: &str) -> Result<String> {
    let fields = [("id", DataType::Int32), ("k", DataType::Int32), ("g", DataType::Int32), ("f", DataType::Float64)];
    let fields = fields.map(|(name, of)| Field::new(name, of, true)).to_vec();
    let schema = Arc::new(Schema::new(fields));
    let mut relations = Relations::default();
    for name in ["a", "b", "c"] {
        relations.stream(name, Arc::clone(&schema));
    }
    let Ok(Statement::Query(query)) = parse(text) else { panic!("{text} is a query") };
    Session::new(1).bind(&query, &relations).map(|plan| plan.display_indent().to_string())
}

#[test]
fn what_is_right_stays_as_it_is() {
    for query in [
        "SELECT id FROM a WHERE EXISTS (SELECT * FROM b WHERE b.k = a.k AND b.g <> a.g)",
        "SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b, c WHERE b.id = c.id AND b.k = a.k AND c.g > a.g)",
        "SELECT id FROM a WHERE g IN (SELECT DISTINCT g FROM b WHERE b.k < a.k)",
        "SELECT id FROM a WHERE EXISTS (SELECT k FROM b WHERE b.k = a.k GROUP BY k HAVING count(*) > 1)",
        "SELECT id, (SELECT count(*) FROM b WHERE b.k = a.k) FROM a",
        "SELECT id, (SELECT coalesce(max(g), 0) + 1 FROM b WHERE b.k = a.k AND b.g > 2) FROM a",
        "SELECT id, (SELECT max(g) FROM b WHERE b.k = a.k GROUP BY k) FROM a",
        "SELECT a.id, l.n FROM a, LATERAL (SELECT count(*) AS n FROM b WHERE b.k = a.k) AS l",
        "SELECT a.id, l.g FROM a LEFT JOIN LATERAL (SELECT g FROM b WHERE b.k < a.k) AS l ON true",
        "SELECT id FROM a WHERE g IN (SELECT max(g) FROM b)",
    ] {
        let plan = bound(query).expect(query);
        assert!(!plan.contains("__bound"), "{query}\n{plan}");
    }
}

#[test]
fn rows_of_aggregates_are_values() {
    for (query, expected) in [
        ("SELECT id FROM a WHERE EXISTS (SELECT count(*) FROM b WHERE b.k = a.k)", "Filter: Boolean(true)"),
        ("SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.k LIMIT 0)", "Filter: Boolean(false)"),
        ("SELECT id FROM a WHERE EXISTS (SELECT max(g) FROM b WHERE b.k = a.k HAVING count(*) = 0)", "IS TRUE"),
        ("SELECT id FROM a WHERE g = ANY (SELECT max(g) FROM b WHERE b.k = a.k)", "Filter: a.g = (<subquery>)"),
        ("SELECT id FROM a WHERE g > ALL (SELECT max(g) FROM b WHERE b.k = a.k)", "Filter: a.g > (<subquery>)"),
        ("SELECT id FROM a WHERE g IN (SELECT count(*) FROM b WHERE b.k = a.k)", "Filter: a.g = (<subquery>)"),
        ("SELECT id, (SELECT 7 FROM b WHERE b.k = a.k HAVING count(*) = 0) AS x FROM a", "CASE WHEN (<subquery>)"),
        ("SELECT a.id, l.t FROM a, LATERAL (SELECT count(*) AS n, 7 AS t FROM b WHERE b.k = a.k) AS l", "Int32(7)"),
        (
            "SELECT a.id, l.n FROM a, LATERAL (SELECT count(*) AS n FROM b WHERE b.k IS NOT DISTINCT FROM a.k) AS l",
            "(<subquery>)",
        ),
    ] {
        let plan = bound(query).expect(query);
        assert!(plan.contains(expected), "{query}\n{plan}");
    }
}

#[test]
fn ties_are_pulled_up_past_what_they_divide() {
    for (query, expected) in [
        (
            "SELECT a.id, l.n FROM a, LATERAL (SELECT row_number() OVER (ORDER BY id) AS n FROM b WHERE b.k = a.k) AS l",
            "PARTITION BY [__bound_1]",
        ),
        (
            "SELECT id, (SELECT max(g) FROM (SELECT g FROM b WHERE b.k = a.k) AS q) FROM a",
            "q.__bound_1 = outer_ref(a.k)",
        ),
        (
            "SELECT id, (SELECT max(b.g) FROM b JOIN c ON b.id = c.id WHERE b.k = a.k AND c.k = a.k) FROM a",
            "__bound_1 = outer_ref(a.k) AND __bound_2 = outer_ref(a.k)",
        ),
        ("SELECT id, (SELECT count(*) FROM b WHERE a.g = 0) FROM a", "Boolean(true) AS __bound_1"),
        ("SELECT id, (SELECT count(*) FROM b WHERE b.k = a.f) FROM a", "CAST(b.k AS Float64) AS __bound_1"),
        ("SELECT id FROM a WHERE EXISTS (SELECT a.g FROM b WHERE b.k = a.k LIMIT 3)", "Projection: Int64(1)"),
    ] {
        let plan = bound(query).expect(query);
        assert!(plan.contains(expected), "{query}\n{plan}");
    }
}

#[test]
fn what_is_neither_is_refused_with_its_place() {
    for (query, clause, place) in [
        (
            "SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM c WHERE NOT EXISTS (SELECT 2 FROM b WHERE b.k = a.k AND b.g = c.g))",
            "a subquery that is tied to a query two levels up",
            "SELECT 2",
        ),
        (
            "SELECT id FROM a ORDER BY (SELECT max(g) FROM b WHERE b.k = a.k)",
            "a correlated subquery in ORDER BY",
            "SELECT max",
        ),
        (
            "SELECT id, rank() OVER (ORDER BY (SELECT max(g) FROM b WHERE b.k = a.k)) FROM a",
            "a correlated subquery in OVER",
            "SELECT max",
        ),
        (
            "SELECT a.id, l.n FROM a, LATERAL (SELECT rank() OVER (ORDER BY id) AS n FROM b WHERE b.k < a.k) AS l",
            "OVER in a correlated subquery that is tied by more than equalities",
            "LATERAL",
        ),
        (
            "SELECT id, (SELECT max(g) FROM c) AS x, (SELECT count(*) FROM b WHERE b.k < a.k) AS y FROM a",
            "an aggregate in a correlated subquery that is tied by more than equalities",
            "SELECT count",
        ),
        (
            "SELECT id, (SELECT count(*) FROM b LEFT JOIN c ON c.g = b.g AND c.k = a.k) FROM a",
            "a tied side of an outer join in a correlated subquery",
            "SELECT count",
        ),
        (
            "SELECT id FROM a WHERE g IN (SELECT g FROM b WHERE b.k = a.k UNION SELECT g FROM c)",
            "UNION in a correlated subquery",
            "SELECT g FROM b",
        ),
        (
            "SELECT id, EXISTS (SELECT 1 FROM b WHERE b.k < a.k) FROM a",
            "EXISTS outside of WHERE of a correlated subquery that is tied by more than equalities",
            "SELECT 1",
        ),
        (
            "SELECT id, (SELECT g FROM b WHERE b.k = a.k) FROM a",
            "a correlated subquery that may give several rows as a value",
            "SELECT g",
        ),
        (
            "SELECT id, (SELECT sum(n) FROM (SELECT count(*) AS n FROM b WHERE b.k = a.k) AS q) FROM a",
            "an aggregate without GROUP BY within a correlated subquery",
            "SELECT sum",
        ),
    ] {
        let error = bound(query).expect_err(query);
        assert_eq!(error.sqlstate(), "0A000", "{query}\n{error}");
        assert!(error.to_string().starts_with(clause), "{query}\n{error}");
        let at = query.find(place).expect("the place is in the query") + 1;
        assert_eq!(error.position().map(|position| position.offset), Some(at), "{query}\n{error}");
    }
}
