//! What a statement takes and gives, before it runs: the types of its parameters and its columns.

use crate::connection::Connection;
use crate::database::Database;
use crate::dml::Target;
use crate::error::Result;
use crate::joined::{Paired, paired_in};
use crate::objects::{Body, Reading};
use crate::outcome::Rows;
use crate::parameters::Parameters;
use crate::prepared;
use crate::query::QUERY_PLAN;
use crate::returning::Returning;
use crate::set_config::Changes;
use crate::statements::is_taken_after_failure;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Expr, SetExpr, Value};
use datafusion::sql::sqlparser::tokenizer::Location;
use futures::future::BoxFuture;
use highwater_sql::session::plain;
use highwater_sql::statement::{
    CopyOut, Delete, Insert, Name, Query, ROW_EXCLUDED, ROW_EXISTING, ROW_KEY, ROW_NUMBER, ROW_TARGET, ROW_VALUE, Show,
    Statement, Update, constants,
};
use highwater_sql::{Position, Relations, SelectItem, is_default, references, rows_of, titled, walk_query};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a statement takes and gives.
#[derive(Clone, Debug)]
pub struct Described {
    /// The types of `$1`, `$2`, ...
    pub parameters: Vec<DataType>,
    /// The columns of its rows; absent when it gives none.
    pub columns: Option<SchemaRef>,
}

/// What is known of a statement's parameters so far.
#[derive(Default)]
pub(crate) struct Known {
    /// Types by the parameter's number, from 1.
    types: BTreeMap<usize, DataType>,
    /// The highest number that was seen.
    highest: usize,
}

impl Known {
    /// Takes a type for one that has none yet.
    fn learn(&mut self, number: usize, data_type: &DataType) {
        self.types.entry(number).or_insert_with(|| data_type.clone());
        self.highest = self.highest.max(number);
    }

    fn has_all(&self, count: usize) -> bool {
        (1..=count).all(|number| self.types.contains_key(&number))
    }

    fn saw(&mut self, count: usize) {
        self.highest = self.highest.max(count);
    }
}

impl Database {
    /// Describes a statement without running it. `told` are the types that the client gives to
    /// parameters. Must run on a multi-threaded Tokio runtime.
    ///
    /// # Errors
    /// Those of binding the statement.
    pub fn describe<'a>(
        &'a self,
        connection: &'a mut Connection,
        statement: &'a Statement,
        text: &'a str,
        told: &'a [Option<DataType>],
    ) -> BoxFuture<'a, Result<Described>> {
        Box::pin(async move {
            if !is_taken_after_failure(statement) {
                connection.check_not_failed()?;
            }
            match statement {
                Statement::Show(Show::Setting(name)) => {
                    let columns = Arc::new(Schema::new(vec![Field::new(&name.value, DataType::Utf8, true)]));
                    Ok(Described { parameters: Vec::new(), columns: Some(columns) })
                }
                Statement::ExplainAnalyze(_) => {
                    let columns = Arc::clone(&Rows::none(QUERY_PLAN).schema);
                    Ok(Described { parameters: Vec::new(), columns: Some(columns) })
                }
                Statement::Show(_)
                | Statement::Describe(_)
                | Statement::ExplainQuery(_)
                | Statement::ExplainView(_)
                | Statement::ExplainSink(_)
                | Statement::ExplainIndex(_) => {
                    // These change nothing, and only they know their columns.
                    let answer = self.run(connection, statement, text, &Parameters::none()).await?;
                    let columns = answer.rows.map(|rows| Arc::clone(rows.schema()));
                    Ok(Described { parameters: Vec::new(), columns })
                }
                other => {
                    let described = self.describe_rows(connection, other, told).await;
                    let mut described = described.map_err(|error| self.told_of_broken(error))?;
                    if let Statement::Query(query) = other
                        && self.is_system(query)
                    {
                        tell_of_numbers(query, told, &mut described.parameters);
                    }
                    Ok(described)
                }
            }
        })
    }

    /// Describes a statement that is bound for it, and not run.
    pub(crate) async fn describe_rows(
        &self,
        connection: &Connection,
        statement: &Statement,
        told: &[Option<DataType>],
    ) -> Result<Described> {
        let mut known = Known::default();
        let columns = match statement {
            Statement::Query(query) => Some(self.columns_of(connection, query, told, &mut known).await?),
            Statement::Declare { query, .. } | Statement::CopyOut(CopyOut { query, .. }) => {
                self.columns_of(connection, query, told, &mut known).await?;
                None
            }
            Statement::Fetch(fetch) if !fetch.skips => connection.cursor(&fetch.cursor.value),
            Statement::Execute { name, .. } => prepared::find(connection, name)?.described.columns.clone(),
            Statement::Insert(insert) => {
                self.infer_insert(insert, told, &mut known).await?;
                self.returned(insert.into(), told, &mut known).await?
            }
            Statement::Update(update) => {
                let paired = self.paired_with_updated(update, told, &mut known).await?;
                self.returned(Returning::from(update).beside(&paired), told, &mut known).await?
            }
            Statement::Delete(delete) => {
                let paired = self.paired_with_deleted(delete, told, &mut known).await?;
                self.returned(Returning::from(delete).beside(&paired), told, &mut known).await?
            }
            _ => None,
        };
        Ok(Described { parameters: types_of(told, &known), columns })
    }

    /// The relations of FROM that RETURNING of an UPDATE may name, without rows.
    pub(crate) async fn paired_with_updated(
        &self,
        update: &Update,
        told: &[Option<DataType>],
        known: &mut Known,
    ) -> Result<Vec<Paired>> {
        let target = self.target(&update.table)?;
        let mut set = update.clone();
        target.put_defaults(&mut set.assignments, None)?;
        for (name, expr) in &set.assignments {
            let at = target.places(std::slice::from_ref(name), 1)?[0];
            know(expr, target.schema().field(at).data_type(), known);
        }
        let plan = self.infer(&set.query(&target.columns()), Some(&update.table), told, known).await?;
        paired_in(&plan, &target)
    }

    /// Those of USING, of a DELETE.
    pub(crate) async fn paired_with_deleted(
        &self,
        delete: &Delete,
        told: &[Option<DataType>],
        known: &mut Known,
    ) -> Result<Vec<Paired>> {
        let target = self.target(&delete.table)?;
        let plan = self.infer(&delete.query(&target.columns()), Some(&delete.table), told, known).await?;
        paired_in(&plan, &target)
    }

    async fn columns_of(
        &self,
        connection: &Connection,
        query: &Query,
        told: &[Option<DataType>],
        known: &mut Known,
    ) -> Result<SchemaRef> {
        if self.is_system(query) {
            let count = placeholders(query);
            let parameters = Parameters(vec![ScalarValue::Utf8(None); count]);
            (1..=count).for_each(|number| known.learn(number, &DataType::Utf8));
            if let Some((plan, _)) = self.system_plan(connection, query, &parameters, &Changes::default()).await? {
                return Ok(titled(&plan.schema(), &query.ast));
            }
        }
        let relations = self.relations_of(query, None)?;
        self.columns_over(query, &relations, told, known).await
    }

    async fn columns_over(
        &self,
        query: &Query,
        relations: &Relations,
        told: &[Option<DataType>],
        known: &mut Known,
    ) -> Result<SchemaRef> {
        let plan = self.infer_over(query, relations, told, known).await?;
        let types = types_of(told, known);
        let columns = if highwater_sql::are_told(&plan, &types) {
            Arc::new(plan.schema().as_arrow().clone())
        } else {
            self.columns_with(query, relations, types).await?
        };
        Ok(titled(&columns, &query.ast))
    }

    /// The columns of a query when all its parameters have types: what stands beside one that may be anything need
    /// not have told its own.
    async fn columns_with(&self, query: &Query, relations: &Relations, types: Vec<DataType>) -> Result<SchemaRef> {
        let values = Parameters(types.iter().map(ScalarValue::try_from).collect::<Result<_, _>>()?);
        let types: Vec<Option<DataType>> = types.into_iter().map(Some).collect();
        let (session, query, relations) = (Arc::clone(&self.session), query.clone(), relations.clone());
        self.aside(move || {
            let plan = plain(session.bind_with(&query, &relations, &types)?)?;
            let bound = Arc::new(plan.schema().as_arrow().clone());
            // What fails without values is told when there are some.
            let run = values.put_into(plan).and_then(|plan| Ok(session.columns_when_run(plan)?));
            Ok(run.unwrap_or(bound))
        })
        .await
    }

    /// The relations of a query, which only have columns. `hidden` names the table that is [`ROW_TARGET`].
    fn relations_of(&self, query: &Query, hidden: Option<&Name>) -> Result<Relations> {
        let state = self.state();
        let mut relations = state.objects.relations(&self.session, &references(query), Reading::Stream)?;
        if let Some(name) = hidden
            && let Some(Body::Table(target)) = state.objects.get(&name.value).map(|object| &object.body)
        {
            relations.stream(ROW_TARGET, with_hidden(target));
        }
        Ok(relations)
    }

    /// Binds a query, and learns its parameters' types.
    async fn infer(
        &self,
        query: &Query,
        hidden: Option<&Name>,
        told: &[Option<DataType>],
        known: &mut Known,
    ) -> Result<LogicalPlan> {
        let relations = self.relations_of(query, hidden)?;
        self.infer_over(query, &relations, told, known).await
    }

    async fn infer_over(
        &self,
        query: &Query,
        relations: &Relations,
        told: &[Option<DataType>],
        known: &mut Known,
    ) -> Result<LogicalPlan> {
        let count = placeholders(query).max(told.len());
        let types: Vec<Option<DataType>> =
            (1..=count).map(|n| told.get(n - 1).cloned().flatten().or_else(|| known.types.get(&n).cloned())).collect();
        let (session, query, relations) = (Arc::clone(&self.session), query.clone(), relations.clone());
        let plan = self.aside(move || Ok(plain(session.bind_with(&query, &relations, &types)?)?)).await?;
        let inferred = highwater_sql::parameter_types(&plan);
        let arrays = highwater_sql::arrays::parameters(&plan);
        for number in 1..=count {
            let name = format!("${number}");
            if let Some(data_type) = inferred.get(&name).or_else(|| arrays.get(&name)) {
                known.learn(number, data_type);
            }
        }
        known.saw(count);
        Ok(plan)
    }

    async fn infer_insert(&self, insert: &Insert, told: &[Option<DataType>], known: &mut Known) -> Result<()> {
        let target = self.target(&insert.table)?;
        self.infer_source(insert, &target, told, known).await?;
        let Some(update) = insert.on_conflict.as_ref().and_then(|conflict| conflict.update.as_ref()) else {
            return Ok(());
        };
        let mut update = update.clone();
        target.put_defaults(&mut update.assignments, None)?;
        for (name, expr) in &update.assignments {
            let at = target.places(std::slice::from_ref(name), 1)?[0];
            know(expr, target.schema().field(at).data_type(), known);
        }
        let numbered = |schema: &SchemaRef| {
            let number = Arc::new(Field::new(ROW_NUMBER, DataType::Int64, false));
            Arc::new(Schema::new([schema.fields().to_vec(), vec![number]].concat()))
        };
        let query = update.query(&insert.table, insert.alias.as_ref(), &target.columns(), &insert.text);
        let mut relations = self.relations_of(&query, None)?;
        relations.stream(ROW_EXISTING, numbered(&with_hidden(&target)));
        relations.stream(ROW_EXCLUDED, numbered(target.schema()));
        self.infer_over(&query, &relations, told, known).await.map(|_| ())
    }

    async fn infer_source(
        &self,
        insert: &Insert,
        target: &Target,
        told: &[Option<DataType>],
        known: &mut Known,
    ) -> Result<()> {
        let Some(query) = &insert.source else { return Ok(()) };
        if let Some(rows) = rows_of(query) {
            for row in &rows {
                let places = target.places(&insert.columns, row.len())?;
                for (expr, at) in row.iter().zip(places) {
                    know(expr, target.schema().field(at).data_type(), known);
                }
            }
            let count = placeholders(query);
            if !known.has_all(count) {
                let is_computed = |expr: &&Expr| !matches!(expr, Expr::Value(_)) && !is_default(expr);
                let mut computed = constants(rows.into_iter().flatten().filter(is_computed), &insert.text);
                computed.ast.with.clone_from(&query.ast.with);
                // What cannot be bound is told when it is run.
                drop(self.infer(&computed, None, told, known).await);
            }
            known.saw(count);
            return Ok(());
        }
        know_selected(insert, query, target, known);
        self.infer(query, None, told, known).await.map(|_| ())
    }

    /// The columns of RETURNING.
    async fn returned(
        &self,
        returning: Returning<'_>,
        told: &[Option<DataType>],
        known: &mut Known,
    ) -> Result<Option<SchemaRef>> {
        if returning.is_empty() {
            return Ok(None);
        }
        let none = RecordBatch::new_empty(Arc::clone(self.target(returning.table)?.schema()));
        let given = returning.relations(&none)?;
        let mut relations = Relations::default();
        for (name, rows) in &given {
            relations.stream(name, rows.schema());
        }
        let query = returning.query(&given);
        self.columns_over(&query, &relations, told, known).await.map(Some)
    }
}

/// Gives parameters that are cast to `oid[]` a type of their own, by which drivers know how to send them: lists of
/// numbers without a sign, which nothing else has.
fn tell_of_numbers(query: &Query, told: &[Option<DataType>], types: &mut [DataType]) {
    struct Numbers(BTreeSet<usize>);
    impl datafusion::sql::sqlparser::ast::Visitor for Numbers {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> std::ops::ControlFlow<()> {
            if let Expr::Cast { expr, data_type, .. } = expr
                && let Expr::Value(value) = expr.as_ref()
                && let Value::Placeholder(name) = &value.value
                && data_type.to_string().eq_ignore_ascii_case("oid[]")
            {
                self.0.extend(number_of(name));
            }
            std::ops::ControlFlow::Continue(())
        }
    }
    let mut numbers = Numbers(BTreeSet::new());
    let _: std::ops::ControlFlow<()> = walk_query(&query.ast, &mut numbers);
    for (at, data_type) in types.iter_mut().enumerate() {
        if numbers.0.contains(&(at + 1)) && told.get(at).is_none_or(Option::is_none) {
            *data_type = DataType::List(Arc::new(Field::new_list_field(DataType::UInt32, true)));
        }
    }
}

/// The types of all parameters: as they were told, or learned; of others nothing is known, and they are texts.
fn types_of(told: &[Option<DataType>], known: &Known) -> Vec<DataType> {
    let last = known.highest.max(told.len());
    let parameter = |number: usize| {
        let told = told.get(number - 1).cloned().flatten();
        told.or_else(|| known.types.get(&number).cloned()).unwrap_or(DataType::Utf8)
    };
    (1..=last).map(parameter).collect()
}

/// A table's columns and those under which it gives its rows' keys and stored forms.
fn with_hidden(target: &Target) -> SchemaRef {
    let hidden = [ROW_KEY, ROW_VALUE].map(|name| Arc::new(Field::new(name, DataType::Binary, false)));
    Arc::new(Schema::new([target.schema().fields().to_vec(), hidden.to_vec()].concat()))
}

/// A parameter that stands for a value of a column has that column's type.
fn know(expr: &Expr, data_type: &DataType, known: &mut Known) {
    if let Expr::Value(value) = expr
        && let Value::Placeholder(name) = &value.value
        && let Some(number) = number_of(name)
    {
        known.learn(number, data_type);
    }
}

/// Parameters that a SELECT gives as they are have the types of the columns that they are inserted into; those among
/// which it looks for equal rows are texts.
fn know_selected(insert: &Insert, query: &Query, target: &Target, known: &mut Known) {
    let SetExpr::Select(select) = query.ast.body.as_ref() else { return };
    let given = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr.clone()),
        _ => None,
    };
    let given: Option<Vec<Expr>> = select.projection.iter().map(given).collect();
    // Columns that do not fit are told of when it is run.
    if select.distinct.is_none()
        && let Some(given) = given
        && let Ok(places) = target.places(&insert.columns, given.len())
    {
        for (expr, at) in given.iter().zip(places) {
            know(expr, target.schema().field(at).data_type(), known);
        }
    }
}

fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('$')?.parse().ok().filter(|number| (1..=65_535).contains(number))
}

/// The highest number of a parameter in a query.
pub(crate) fn placeholders(query: &Query) -> usize {
    highest(query).0
}

/// Refuses a parameter that is given no value.
pub(crate) fn check_parameters(query: &Query, parameters: &Parameters) -> Result<()> {
    let (number, at) = highest(query);
    if number <= parameters.0.len() {
        return Ok(());
    }
    let position = Position::locate(&query.text, at.line, at.column);
    let message = format!("there is no parameter ${number}");
    Err(highwater_sql::Error::Invalid { sqlstate: "42P02", message, position }.into())
}

/// The highest number of a parameter in a query, 0 when there is none, and where it stands.
fn highest(query: &Query) -> (usize, Location) {
    struct Highest(usize, Location);
    impl datafusion::sql::sqlparser::ast::Visitor for Highest {
        type Break = ();

        fn pre_visit_value(
            &mut self,
            value: &datafusion::sql::sqlparser::ast::ValueWithSpan,
        ) -> std::ops::ControlFlow<()> {
            if let Value::Placeholder(name) = &value.value {
                let number = number_of(name).unwrap_or(0);
                if number > self.0 {
                    *self = Self(number, value.span.start);
                }
            }
            std::ops::ControlFlow::Continue(())
        }
    }
    let mut highest = Highest(0, Location::empty());
    let _: std::ops::ControlFlow<()> = walk_query(&query.ast, &mut highest);
    (highest.0, highest.1)
}
