//! Names that PostgreSQL has for DataFusion's functions.

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use std::sync::Arc;

/// DataFusion's name of an aggregate, and PostgreSQL's.
const AGGREGATES: [(&str, &str); 2] = [("var", "variance"), ("bool_and", "every")];

/// Makes the names known.
///
/// # Errors
/// DataFusion's, when it takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for (known, name) in AGGREGATES {
        let aggregate = state.udaf(known)?.as_ref().clone().with_aliases([name]);
        state.register_udaf(Arc::new(aggregate))?;
    }
    let sign = state.udf("signum")?.as_ref().clone().with_aliases(["sign"]);
    state.register_udf(Arc::new(sign))?;
    let ceil = state.udf("ceil")?.as_ref().clone().with_aliases(["ceiling"]);
    state.register_udf(Arc::new(ceil))?;
    Ok(())
}
