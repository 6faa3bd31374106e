//! The types that a bound statement gives its parameters by where they stand.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan};
use std::collections::BTreeMap;

/// The types of parameters by their names, where they are known. One that stands in several places has the type
/// of the first, and is cast in the others when it has a value.
#[must_use]
pub fn parameter_types(plan: &LogicalPlan) -> BTreeMap<String, DataType> {
    let mut found = BTreeMap::new();
    let walked = plan.apply_with_subqueries(|node| {
        let is_count = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Placeholder(Placeholder { id, field }) = expr {
                    let data_type = field.as_ref().map(|field| field.data_type().clone());
                    if let Some(data_type) = data_type.or_else(|| is_count.then_some(DataType::Int64)) {
                        found.entry(id.clone()).or_insert(data_type);
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    // A walk that looks at expressions only does not fail.
    walked.map_or_else(|_| BTreeMap::new(), |_| found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Relations, Session};
    use crate::statement::Statement;
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    #[test]
    fn parameters_have_the_type_of_their_first_place() {
        let mut relations = Relations::default();
        let field = |name, of| Field::new(name, of, true);
        let fields = vec![field("i", DataType::Int32), field("n", DataType::Decimal128(12, 2))];
        relations.stream("t", Arc::new(Schema::new(fields)));
        let types = |text: &str| {
            let Ok(Statement::Query(query)) = crate::parse(text) else { panic!("{text}: a query") };
            let plan = Session::default().bind(&query, &relations).expect(text);
            parameter_types(&plan).into_iter().map(|(name, of)| format!("{name} {of}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            types("SELECT i FROM t WHERE n = $1 AND i > $2 LIMIT $3"),
            "$1 Decimal128(12, 2), $2 Int32, $3 Int64"
        );
        assert_eq!(types("SELECT i FROM t OFFSET $1"), "$1 Int64");
        assert_eq!(types("SELECT i FROM t WHERE i = $1 AND n > $1"), "$1 Int32");
        assert_eq!(types("SELECT $1"), "");
    }
}
