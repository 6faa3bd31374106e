//! SQL functions: what CREATE FUNCTION says, and their expressions in the place of their calls.
//!
//! Owns binding a function's expression over its arguments, and putting it where the function is
//! called. Such a function is one to DataFusion's planner alone: the expression takes the call's place
//! before anything else looks at a bound plan, so all that is kept knows nothing of it. Invariants: each
//! argument is brought to its type before the expression sees it; one that may be another value each
//! time it is computed stands at most once in what takes the call's place.

use crate::error::{Error, Result};
use crate::function::{self, Volatility, is_taken_for};
use crate::references::{called_at, function_name};
use crate::respell::{respelled, rows_function};
use crate::session::{Relations, Session};
use crate::statement::{Name, Query, Statement, computed_from, constants};
use crate::text::Position;
use crate::types::{self, is_text};
use crate::walk::walk_mut;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue, internal_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::expr::{Case, Exists, InSubquery, Placeholder, ScalarFunction, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    self, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDFImpl, Signature, cast,
};
use datafusion::sql::sqlparser::ast::{self, Ident, Spanned, Value, ValueWithSpan, VisitorMut};
use std::iter;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The most nodes of an expression that takes a call's place: arguments that stand in it several times
/// make those of nested calls large.
const LARGEST: usize = 20_000;

/// CREATE FUNCTION.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateFunction {
    /// The new function.
    pub name: Name,
    /// OR REPLACE.
    pub or_replace: bool,
    /// What it takes.
    pub arguments: Vec<Argument>,
    /// The type of what it gives.
    pub returns: DataType,
    /// On what its result depends, as it says; what counts is what its expression calls.
    pub volatility: Volatility,
    /// STRICT: it gives NULL when an argument is.
    pub strict: bool,
    /// The one expression.
    pub body: ast::Expr,
    /// The text that the expression's places are in.
    pub body_text: String,
    /// Where the body stands.
    pub body_at: Position,
    /// Whether places in `body_text` are places in the statement.
    pub is_placed: bool,
}

/// An argument of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// It may have none.
    pub name: Option<Name>,
    /// Its type.
    pub data_type: DataType,
}

/// DROP FUNCTION.
#[derive(Clone, Debug, PartialEq)]
pub struct DropFunction {
    /// The function.
    pub name: Name,
    /// The types of its arguments, if it says them.
    pub arguments: Option<Vec<DataType>>,
    /// IF EXISTS.
    pub if_exists: bool,
    /// CASCADE.
    pub cascade: bool,
}

impl CreateFunction {
    /// The types of its arguments.
    #[must_use]
    pub fn types(&self) -> Vec<DataType> {
        self.arguments.iter().map(|argument| argument.data_type.clone()).collect()
    }

    /// Its arguments as they are declared: `a integer, b varchar`.
    #[must_use]
    pub fn signature(&self) -> String {
        let one = |argument: &Argument| {
            let data_type = type_name(&argument.data_type);
            argument.name.as_ref().map_or_else(|| data_type.clone(), |name| format!("{name} {data_type}"))
        };
        self.arguments.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// The columns that its arguments are in its expression.
    fn columns(&self) -> Vec<String> {
        let column = |(at, argument): (usize, &Argument)| match &argument.name {
            Some(name) => name.value.clone(),
            None => format!("${}", at + 1),
        };
        self.arguments.iter().enumerate().map(column).collect()
    }

    /// An error in the text of the body as one in the statement.
    fn place(&self, error: Error) -> Error {
        let error = if self.is_placed { error } else { error.nowhere() };
        error.or_at(Some(self.body_at))
    }
}

/// A type as a function's declaration has it.
#[must_use]
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Decimal128(..) => "numeric".to_owned(),
        other => types::pg_name(other),
    }
}

/// Types as they stand in parentheses after a function's name.
#[must_use]
pub fn type_names(types: &[DataType]) -> String {
    types.iter().map(type_name).collect::<Vec<_>>().join(", ")
}

/// A function that is bound.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SqlFunction {
    name: String,
    /// The columns of `body` that stand for its arguments.
    columns: Vec<String>,
    arguments: Vec<DataType>,
    returns: DataType,
    /// Of its result's type.
    body: Expr,
    signature: Signature,
}

impl ScalarUDFImpl for SqlFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.returns.clone())
    }

    /// A text that is written out may be a value of any type: `inlined` knows whether it is.
    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>, DataFusionError> {
        let fits = |(to, from): (&DataType, &DataType)| is_text(from) || is_argument(from, to);
        if given.len() == self.arguments.len() && self.arguments.iter().zip(given).all(fits) {
            return Ok(self.arguments.clone());
        }
        plan_err!("{}", self.no_such(given))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        internal_err!("the call of {} was not replaced by its expression", self.name)
    }
}

/// Whether an argument of one type is brought to another one without being asked.
fn is_argument(from: &DataType, to: &DataType) -> bool {
    if let (DataType::List(from), DataType::List(to)) = (from, to) {
        return is_argument(from.data_type(), to.data_type());
    }
    let is_plain = types::plain(from).is_some_and(|plain| plain == *to);
    is_plain || is_taken_for(from, to) && is_text(from) == is_text(to) || from.is_null()
}

/// Whether a result of one type is brought to another one, as by an assignment.
fn is_result(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::List(from), DataType::List(to)) => is_result(from.data_type(), to.data_type()),
        (from, DataType::Utf8) => is_text(from) || from.is_integer() || matches!(from, DataType::Boolean),
        (DataType::Timestamp(..), DataType::Date32) => true,
        (from, to) if from.is_numeric() && to.is_numeric() => true,
        _ => is_argument(from, to),
    }
}

/// A value that is written out, or a parameter: its text is read as whatever type is wanted.
fn is_open(expr: &Expr, data_type: &DataType) -> bool {
    matches!(expr, Expr::Literal(..) | Expr::Placeholder(_)) && (is_text(data_type) || data_type.is_null())
}

/// Refuses a text that is written out and is no number or truth value where the function gives one.
fn check_written(body: &Expr, statement: &CreateFunction) -> Result<()> {
    let Expr::Literal(value, _) = body else { return Ok(()) };
    let Some(Some(text)) = value.try_as_str() else { return Ok(()) };
    let returns = &statement.returns;
    let is_plain = returns.is_numeric() || matches!(returns, DataType::Boolean);
    if !is_plain || value.cast_to(returns).is_ok() {
        return Ok(());
    }
    let message = format!("invalid input syntax for type {}: {text:?}", type_name(returns));
    Err(Error::Invalid { sqlstate: "22P02", message, position: Some(statement.body_at) })
}

impl Session {
    /// Refuses a name that a new function cannot have.
    ///
    /// # Errors
    /// `Invalid` when it is no name for a function (42602), or it is built in (42723).
    pub fn check_function_name(&self, name: &Name) -> Result<()> {
        let refused = |sqlstate, message| Err(Error::Invalid { sqlstate, message, position: Some(name.at) });
        function::check_name(&name.value).or_else(|message| refused("42602", message))?;
        if self.knows_function(&name.value) || !is_plain_call(&name.value) {
            return refused("42723", format!("function {name} is built in: give yours another name"));
        }
        Ok(())
    }

    /// Binds a function's expression.
    ///
    /// # Errors
    /// `Unsupported` for subqueries, aggregates and its like, and when it calls itself; `Invalid` for
    /// arguments that cannot be told apart and for a result of another type (42P13); those of binding.
    pub fn sql_function(&self, statement: &CreateFunction) -> Result<SqlFunction> {
        let columns = statement.columns();
        for (at, argument) in statement.arguments.iter().enumerate() {
            let Some(name) = argument.name.as_ref().filter(|name| columns[..at].contains(&name.value)) else {
                continue;
            };
            let message = format!("parameter name {:?} used more than once", name.value);
            return Err(Error::Invalid { sqlstate: "42P13", message, position: Some(name.at) });
        }
        let (body, schema) = self.function_body(statement, &columns).map_err(|error| statement.place(error))?;
        let given = body.get_type(&schema).map_err(|error| statement.place(Error::of_planner(error, "")))?;
        if !is_result(&given, &statement.returns) && !is_open(&body, &given) {
            let (returns, given) = (type_name(&statement.returns), type_name(&given));
            let message = format!(
                "return type mismatch in function declared to return {returns}: its expression returns {given}"
            );
            return Err(Error::Invalid { sqlstate: "42P13", message, position: Some(statement.body_at) });
        }
        check_written(&body, statement)?;
        let body = if given == statement.returns { body } else { cast(body, statement.returns.clone()) };
        let body = if statement.strict { strict(body, &schema, &statement.returns)? } else { body };
        let signature = Signature::user_defined(volatility(&body));
        let are_named = statement.arguments.iter().all(|argument| argument.name.is_some());
        let signature = match are_named.then(|| signature.clone().with_parameter_names(columns.clone())) {
            Some(named) => named.map_err(|e| Error::Plan(Box::new(e)))?,
            None => signature,
        };
        let (name, arguments, returns) = (statement.name.value.clone(), statement.types(), statement.returns.clone());
        Ok(SqlFunction { name, columns, arguments, returns, body, signature })
    }

    /// The bound expression over a relation of the arguments.
    fn function_body(&self, statement: &CreateFunction, columns: &[String]) -> Result<(Expr, DFSchema)> {
        let mut body = statement.body.clone();
        let text = &statement.body_text;
        let walked = walk_mut(&mut body, &mut Arguments { columns, function: &statement.name.value, text });
        if let ControlFlow::Break(error) = walked {
            return Err(*error);
        }
        let mut relations = Relations::default();
        let query: Query = if columns.is_empty() {
            constants([&body], text)
        } else {
            let field = |(name, argument): (&String, &Argument)| Field::new(name, argument.data_type.clone(), true);
            let fields: Vec<Field> = columns.iter().zip(&statement.arguments).map(field).collect();
            relations.stream(&statement.name.value, Arc::new(Schema::new(fields)));
            computed_from(&statement.name, iter::once(body), text)
        };
        let plan = self.bind(&query, &relations)?;
        let LogicalPlan::Projection(projection) = plan else { return Err(not_scalar()) };
        if !matches!(projection.input.as_ref(), LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_)) {
            return Err(not_scalar());
        }
        let schema = DFSchema::clone(projection.input.schema());
        let Some(expr) = projection.expr.into_iter().next() else { return Err(not_scalar()) };
        Ok((expr.unalias_nested().data, schema))
    }
}

/// Whether what is written as a call of a function is one to the planner, whatever its arguments.
fn is_plain_call(name: &str) -> bool {
    ["()", "(NULL)", "(NULL, NULL)"].iter().all(|arguments| {
        let Ok(Statement::Query(query)) = crate::parse(&format!("SELECT {name}{arguments}")) else { return false };
        let query = respelled(&query.ast);
        let ast::SetExpr::Select(select) = query.body.as_ref() else { return false };
        let [ast::SelectItem::UnnamedExpr(ast::Expr::Function(call))] = select.projection.as_slice() else {
            return false;
        };
        call.name.to_string() == name && rows_function(&call.name).is_none()
    })
}

fn not_scalar() -> Error {
    let hint = "a function is an expression over its arguments alone";
    Error::unsupported("an aggregate, window or set-returning function in a function", hint, None)
}

/// NULL where an argument is.
fn strict(body: Expr, schema: &DFSchema, returns: &DataType) -> Result<Expr> {
    let is_null = |column| Expr::Column(column).is_null();
    let Some(any) = schema.columns().into_iter().map(is_null).reduce(Expr::or) else { return Ok(body) };
    let null = ScalarValue::try_new_null(returns).map_err(|e| Error::Plan(Box::new(e)))?;
    let null = Expr::Literal(null, None);
    Ok(Expr::Case(Case::new(None, vec![(Box::new(any), Box::new(null))], Some(Box::new(body)))))
}

/// On what an expression's value depends, by the functions that it calls.
fn volatility(expr: &Expr) -> logical_expr::Volatility {
    use logical_expr::Volatility as Of;
    let mut found = Of::Immutable;
    // Nothing fails.
    let _ = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr {
            found = match (found, call.func.signature().volatility) {
                (Of::Volatile, _) | (_, Of::Volatile) => Of::Volatile,
                (Of::Stable, _) | (_, Of::Stable) => Of::Stable,
                (Of::Immutable, Of::Immutable) => Of::Immutable,
            };
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// Gives `$1`, `$2`, ... the names of columns, and refuses what cannot stand in a function.
struct Arguments<'a> {
    columns: &'a [String],
    function: &'a str,
    text: &'a str,
}

impl VisitorMut for Arguments<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Box<Error>> {
        let hint = "a function is an expression over its arguments alone";
        let at = Position::of(self.text, query.span().start);
        ControlFlow::Break(Box::new(Error::unsupported("a subquery in a function", hint, at)))
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Box<Error>> {
        match expr {
            ast::Expr::Value(ValueWithSpan { value: Value::Placeholder(number), span }) => {
                let place = number.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()?.checked_sub(1));
                let Some(column) = place.and_then(|place| self.columns.get(place)) else {
                    let (message, position) =
                        (format!("there is no parameter {number}"), Position::of(self.text, span.start));
                    return ControlFlow::Break(Box::new(Error::Invalid { sqlstate: "42P02", message, position }));
                };
                *expr = ast::Expr::Identifier(Ident { value: column.clone(), quote_style: Some('"'), span: *span });
            }
            ast::Expr::Function(call) if function_name(&call.name).as_deref() == Some(self.function) => {
                let hint = "a function's expression cannot call the function itself";
                let at = Position::of(self.text, call.name.span().start);
                return ControlFlow::Break(Box::new(Error::unsupported("recursion", hint, at)));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A bound plan with the expressions of SQL functions in the place of their calls.
///
/// # Errors
/// `Invalid` when arguments are of other types (42883) or make an expression too large (54001),
/// `Unsupported` when one that may be another value each time is wanted several times.
pub(crate) fn inlined(plan: LogicalPlan, query: &Query) -> Result<LogicalPlan> {
    let mut refused: Option<(String, Error)> = None;
    let done = plan.transform_up_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            if !expr.exists(|part| Ok(is_call(part)))? {
                return Ok(Transformed::no(expr));
            }
            let mut named = |expr: Expr| -> Result<Transformed<Expr>, DataFusionError> {
                let name = names.save(&expr);
                let done = expr.transform_up(|part| replaced(part, &schema, &mut refused))?;
                Ok(done.update_data(|expr| name.restore(expr)))
            };
            match expr {
                // Names are those of its parts.
                Expr::GroupingSet(_) => expr.map_children(named),
                _ => named(expr),
            }
        })
    });
    match (done, refused) {
        (_, Some((function, error))) => Err(error.or_at(called_at(query, &function))),
        (Ok(done), None) => Ok(done.data),
        (Err(error), None) => Err(Error::of_planner(error, &query.text)),
    }
}

/// The expression of a call, or anything else as it is. Why there is none is put aside, with the function.
fn replaced(
    part: Expr,
    schema: &DFSchema,
    refused: &mut Option<(String, Error)>,
) -> Result<Transformed<Expr>, DataFusionError> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = part else { return Ok(Transformed::no(part)) };
    let Some(function) = func.inner().downcast_ref::<SqlFunction>() else {
        return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
    };
    function.in_place(args, schema).map(Transformed::yes).map_err(|error| {
        let told = plan_datafusion_err!("{error}");
        *refused = Some((function.name.clone(), error));
        told
    })
}

fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<SqlFunction>().is_some())
}

impl SqlFunction {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn no_such(&self, given: &[DataType]) -> String {
        let (name, given, takes) = (&self.name, type_names(given), type_names(&self.arguments));
        format!("function {name}({given}) does not exist: there is {name}({takes})")
    }

    /// The argument that a part of the expression stands for.
    fn place(&self, part: &Expr) -> Option<usize> {
        let Expr::Column(column) = part else { return None };
        self.columns.iter().position(|name| *name == column.name)
    }

    /// The expression over a call's arguments.
    fn in_place(&self, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
        let planned = |e: DataFusionError| Error::Plan(Box::new(e));
        let given = args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>, _>>().map_err(planned)?;
        let fits = |((arg, from), to): ((&Expr, &DataType), &DataType)| is_argument(from, to) || is_open(arg, from);
        if given.len() != self.arguments.len() || !args.iter().zip(&given).zip(&self.arguments).all(fits) {
            return Err(Error::Invalid { sqlstate: "42883", message: self.no_such(&given), position: None });
        }
        let types = given.iter().zip(&self.arguments);
        let args: Vec<Expr> = args.into_iter().zip(types).map(|(arg, (from, to))| brought(arg, from, to)).collect();
        self.check_repeated(&args)?;
        let stands = |part: Expr| {
            Ok(match self.place(&part) {
                Some(at) => Transformed::yes(args[at].clone()),
                None => Transformed::no(part),
            })
        };
        // Upwards, so that the columns of arguments are not taken for those of the expression.
        Ok(self.body.clone().transform_up(stands).map_err(planned)?.data)
    }

    /// Refuses arguments that cannot stand as often as the expression has them.
    fn check_repeated(&self, args: &[Expr]) -> Result<()> {
        let (mut size, mut uses) = (0, vec![0_usize; args.len()]);
        // Nothing fails.
        let _ = self.body.apply(|part| {
            size += 1;
            if let Some(at) = self.place(part) {
                uses[at] += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        });
        for (arg, uses) in args.iter().zip(uses) {
            if uses > 1 && !is_repeatable(arg) {
                let clause = format!("an argument of {}() that may be another value each time", self.name);
                let hint = "the function's expression has it several times: compute it in a subquery";
                return Err(Error::unsupported(clause, hint, None));
            }
            size += uses * nodes(arg);
        }
        if size > LARGEST {
            let message = format!("the calls of {}() make too large an expression", self.name);
            return Err(Error::Invalid { sqlstate: "54001", message, position: None });
        }
        Ok(())
    }
}

/// An argument as one of its type.
fn brought(arg: Expr, from: &DataType, to: &DataType) -> Expr {
    match arg {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Expr::Placeholder(Placeholder { id, field: Some(Arc::new(Field::new("", to.clone(), true))) })
        }
        arg if from == to => arg,
        arg => cast(arg, to.clone()),
    }
}

fn nodes(expr: &Expr) -> usize {
    let mut count = 0;
    // Nothing fails.
    let _ = expr.apply(|_| {
        count += 1;
        Ok(TreeNodeRecursion::Continue)
    });
    count
}

/// Whether an expression has the same value each time it is computed for a row.
fn is_repeatable(expr: &Expr) -> bool {
    let changes = |part: &Expr| {
        let subquery = match part {
            Expr::ScalarSubquery(subquery)
            | Expr::Exists(Exists { subquery, .. })
            | Expr::InSubquery(InSubquery { subquery, .. })
            | Expr::SetComparison(SetComparison { subquery, .. }) => Some(subquery),
            _ => None,
        };
        Ok(part.is_volatile_node() || subquery.is_some_and(|subquery| has_volatile(&subquery.subquery)))
    };
    !expr.exists(changes).unwrap_or(true)
}

fn has_volatile(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.is_volatile();
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    found || walked.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    fn session(functions: &[&str]) -> Session {
        let session = Session::new(1);
        for text in functions {
            session.declare(session.sql_function(&created(text)).expect(text));
        }
        session
    }

    fn created(text: &str) -> CreateFunction {
        match crate::parse(text) {
            Ok(Statement::CreateFunction(function)) => function,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn bound(session: &Session, text: &str) -> Result<LogicalPlan> {
        let columns = [("a", DataType::Int32), ("b", DataType::Utf8), ("n", DataType::Decimal128(38, 10))];
        let fields = columns.map(|(name, of)| Field::new(name, of, true)).to_vec();
        let mut relations = Relations::default();
        relations.stream("t", Arc::new(Schema::new(fields)));
        let Ok(Statement::Query(query)) = crate::parse(text) else { panic!("{text} is a query") };
        session.bind(&query, &relations)
    }

    fn projected(session: &Session, text: &str) -> String {
        let LogicalPlan::Projection(plan) = bound(session, text).expect(text) else { panic!("{text}: a projection") };
        plan.expr[0].clone().unalias_nested().data.to_string()
    }

    #[test]
    fn an_expression_takes_the_place_of_a_call() {
        let session = session(&[
            "CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql AS $$ SELECT $1 + b $$",
            "CREATE FUNCTION twice(x int) RETURNS int RETURN plus(x, x)",
            "CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql STRICT AS 'select upper($1)'",
            "CREATE FUNCTION five() RETURNS int LANGUAGE SQL AS 'select 5'",
        ]);
        for (query, expected) in [
            ("SELECT plus(a, a) FROM t", "t.a + t.a"),
            ("SELECT public.plus(b => a, a => 7) FROM t", "Int32(7) + t.a"),
            ("SELECT twice(plus(a, a)) FROM t", "t.a + t.a + t.a + t.a"),
            ("SELECT five() FROM t", "Int32(5)"),
        ] {
            assert_eq!(projected(&session, query), expected, "{query}");
        }
        let strict = projected(&session, "SELECT shout(b) FROM t");
        assert!(strict.starts_with("CASE WHEN t.b IS NULL THEN Utf8(NULL) ELSE"), "{strict}");
        let plan =
            bound(&session, "SELECT plus(a, 1), count(*) FROM t GROUP BY plus(a, 1) ORDER BY 1").expect("a plan");
        assert_eq!(plan.schema().field(0).name(), "plus(t.a,Int32(1))");
    }

    #[test]
    fn calls_that_do_not_fit_are_refused_at_their_place() {
        let session = session(&[
            "CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b'",
            "CREATE FUNCTION square(x float) RETURNS float LANGUAGE sql AS 'SELECT x * x'",
        ]);
        for (query, sqlstate) in [
            ("SELECT plus(a, b) FROM t", "42883"),
            ("SELECT plus(n, 1) FROM t", "42883"),
            ("SELECT plus(a) FROM t", "42883"),
            ("SELECT square(random()) FROM t", "0A000"),
            ("SELECT square((SELECT random())) FROM t", "0A000"),
        ] {
            assert_eq!(bound(&session, query).expect_err(query).sqlstate(), sqlstate, "{query}");
        }
        let refused = bound(&session, "SELECT 1, square(random()) FROM t").expect_err("it is drawn twice");
        assert_eq!(refused.position().map(|at| at.offset), Some(11));
        let deep = (0..20).fold("a".to_owned(), |inner, _| format!("square({inner})"));
        assert_eq!(bound(&session, &format!("SELECT {deep} FROM t")).expect_err("large").sqlstate(), "54001");
    }

    #[test]
    fn definitions_are_refused_with_their_places() {
        let session = session(&[]);
        for (text, sqlstate, at) in [
            ("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS $$ SELECT b $$", "42703", 64),
            ("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT $2'", "42P02", 62),
            ("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT f(a)'", "0A000", 62),
            ("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT (SELECT 1)'", "0A000", 63),
            ("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT count(a)'", "0A000", 54),
            ("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT now()'", "42P13", 54),
            ("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT ''x'' || upper(a::text)'", "42P13", 54),
            ("CREATE FUNCTION f(a int, a int) RETURNS int RETURN 1", "42P13", 26),
        ] {
            let error = session.sql_function(&created(text)).expect_err(text);
            assert_eq!(
                (error.sqlstate(), error.position().map(|at| at.offset)),
                (sqlstate, Some(at)),
                "{text}: {error}"
            );
        }
        for name in ["abs", "count", "row_number", "unnest", "jsonb_agg", "coalesce", "\"F\""] {
            let function = created(&format!("CREATE FUNCTION {name}(int) RETURNS int RETURN $1"));
            assert!(session.check_function_name(&function.name).is_err(), "{name}");
        }
        let function = created("CREATE FUNCTION mine(int) RETURNS int RETURN $1");
        session.check_function_name(&function.name).expect("a free name");
    }

    #[test]
    fn arguments_and_results_are_brought_to_their_types() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (from, to, argument, result) in [
            (DataType::Int64, DataType::Int32, true, true),
            (DataType::Float64, DataType::Int32, false, true),
            (DataType::Int32, DataType::Utf8, false, true),
            (DataType::Utf8, DataType::Int32, false, false),
            (DataType::Utf8View, DataType::Utf8, true, true),
            (DataType::Utf8, stamp.clone(), false, false),
            (DataType::Date32, stamp.clone(), true, true),
            (stamp, DataType::Date32, false, true),
            (types::JSONB, DataType::Utf8, false, false),
            (types::array_of(DataType::Int64), types::array_of(DataType::Int32), true, true),
            (types::array_of(DataType::Utf8), types::array_of(DataType::Int32), false, false),
        ] {
            assert_eq!((is_argument(&from, &to), is_result(&from, &to)), (argument, result), "{from} for {to}");
        }
    }
}
