//! The schema `information_schema` with what the database's own relations have, in PostgreSQL's words:
//! columns, and primary keys as constraints. Its other relations are DataFusion's.

use crate::characters;
use crate::pg_catalog::{Column, Relations, plain, table, texts};
use crate::system::{DATABASE, Shown};
use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use highwater_sql::statement::Characters;
use highwater_sql::types::{catalog_name, pg_name};
use std::sync::Arc;

/// What the schema is called.
pub(crate) const NAME: &str = "information_schema";
/// Its relations that are made here.
const OWN: [&str; 3] = ["columns", "table_constraints", "key_column_usage"];
const SCHEMA: &str = "public";

/// The schema for one query.
#[derive(Debug)]
pub(crate) struct InformationSchema {
    inner: InformationSchemaProvider,
    relations: Relations,
}

/// A column of one of the relations.
struct Listed<'a> {
    relation: &'a str,
    /// From 1.
    place: i32,
    field: &'a Field,
    is_not_null: bool,
    default: Option<&'a str>,
    /// How many characters its texts have at most.
    characters: Option<Characters>,
    is_of_table: bool,
}

impl InformationSchema {
    /// The schema over a catalog's others.
    pub(crate) fn over(catalog: &dyn CatalogProvider, relations: Relations) -> Result<Self> {
        let others = MemoryCatalogProvider::new();
        for name in catalog.schema_names() {
            if let Some(schema) = catalog.schema(&name) {
                others.register_schema(&name, schema)?;
            }
        }
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(DATABASE.to_owned(), Arc::new(others));
        Ok(Self { inner: InformationSchemaProvider::new(Arc::new(catalogs)), relations })
    }

    fn listed(&self) -> Vec<Listed<'_>> {
        self.relations.iter().flat_map(|(relation, shown)| listed(relation, shown)).collect()
    }

    fn columns(&self) -> Result<RecordBatch> {
        let all = self.listed();
        let count = all.len();
        let null = |name: &str, of: &DataType| plain(name, new_null_array(of, count));
        let words = |name: &str, of: fn(&Listed<'_>) -> &'static str| {
            plain(name, texts(all.iter().map(|column| of(column).to_owned())))
        };
        let numbers = |name: &str, of: fn(&DataType) -> Option<i32>| {
            let numbers = all.iter().map(|column| of(column.field.data_type())).collect::<Int32Array>();
            plain(name, Arc::new(numbers) as ArrayRef)
        };
        let lengths = |name: &str, of_each: i32| {
            let length = |column: &Listed<'_>| Some(characters::number(column.characters?) as i32 * of_each);
            plain(name, Arc::new(all.iter().map(length).collect::<Int32Array>()) as ArrayRef)
        };
        let types: Vec<(String, String)> = all.iter().map(words_of).collect();
        table(vec![
            always("table_catalog", DATABASE, count),
            always("table_schema", SCHEMA, count),
            plain("table_name", texts(all.iter().map(|column| column.relation.to_owned()))),
            plain("column_name", texts(all.iter().map(|column| column.field.name().clone()))),
            plain("ordinal_position", Arc::new(all.iter().map(|column| Some(column.place)).collect::<Int32Array>())),
            plain("column_default", Arc::new(all.iter().map(|column| column.default).collect::<StringArray>())),
            words("is_nullable", |column| yes_or_no(!column.is_not_null)),
            plain("data_type", texts(types.iter().map(|(words, _)| words.clone()))),
            lengths("character_maximum_length", 1),
            lengths("character_octet_length", 4),
            numbers("numeric_precision", precision),
            numbers("numeric_precision_radix", |of| precision(of).map(|_| if is_decimal(of) { 10 } else { 2 })),
            numbers("numeric_scale", scale),
            numbers("datetime_precision", datetime_precision),
            null("interval_type", &DataType::Utf8),
            null("character_set_name", &DataType::Utf8),
            null("collation_name", &DataType::Utf8),
            null("domain_name", &DataType::Utf8),
            always("udt_catalog", DATABASE, count),
            always("udt_schema", "pg_catalog", count),
            plain("udt_name", texts(types.iter().map(|(_, name)| name.clone()))),
            always("is_identity", "NO", count),
            always("is_generated", "NEVER", count),
            null("generation_expression", &DataType::Utf8),
            words("is_updatable", |column| yes_or_no(column.is_of_table)),
        ])
    }

    /// The relations with primary keys.
    fn keyed(&self) -> impl Iterator<Item = (&String, &Arc<Shown>)> {
        self.relations.iter().filter(|(_, shown)| !shown.key.is_empty())
    }

    fn constraints(&self) -> Result<RecordBatch> {
        let names: Vec<&String> = self.keyed().map(|(name, _)| name).collect();
        let count = names.len();
        table(vec![
            always("constraint_catalog", DATABASE, count),
            always("constraint_schema", SCHEMA, count),
            plain("constraint_name", texts(names.iter().map(|name| key_name(name)))),
            always("table_catalog", DATABASE, count),
            always("table_schema", SCHEMA, count),
            plain("table_name", texts(names.iter().map(|name| (*name).clone()))),
            always("constraint_type", "PRIMARY KEY", count),
            always("is_deferrable", "NO", count),
            always("initially_deferred", "NO", count),
            always("enforced", "YES", count),
        ])
    }

    fn key_columns(&self) -> Result<RecordBatch> {
        let columns_of = |(name, shown): (&String, &Arc<Shown>)| {
            let columns = shown.key.iter().zip(1_i32..);
            let named = columns.map(|(at, place)| (name.clone(), shown.schema.field(*at).name().clone(), place));
            named.collect::<Vec<_>>()
        };
        let all: Vec<(String, String, i32)> = self.keyed().flat_map(columns_of).collect();
        let count = all.len();
        table(vec![
            always("constraint_catalog", DATABASE, count),
            always("constraint_schema", SCHEMA, count),
            plain("constraint_name", texts(all.iter().map(|(name, ..)| key_name(name)))),
            always("table_catalog", DATABASE, count),
            always("table_schema", SCHEMA, count),
            plain("table_name", texts(all.iter().map(|(name, ..)| name.clone()))),
            plain("column_name", texts(all.iter().map(|(_, column, _)| column.clone()))),
            plain("ordinal_position", Arc::new(all.iter().map(|(.., place)| Some(*place)).collect::<Int32Array>())),
            plain("position_in_unique_constraint", new_null_array(&DataType::Int32, count)),
        ])
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.inner.table_names();
        names.extend(OWN.iter().skip(1).map(|name| (*name).to_owned()));
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let name = name.to_ascii_lowercase();
        let batch = match name.as_str() {
            "columns" => self.columns()?,
            "table_constraints" => self.constraints()?,
            "key_column_usage" => self.key_columns()?,
            _ => return self.inner.table(&name).await,
        };
        let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?);
        Ok(Some(table))
    }

    fn table_exist(&self, name: &str) -> bool {
        OWN.contains(&name.to_ascii_lowercase().as_str()) || self.inner.table_exist(name)
    }
}

fn listed<'a>(relation: &'a str, shown: &'a Shown) -> impl Iterator<Item = Listed<'a>> {
    let fields = shown.schema.fields().iter().zip(1_i32..).enumerate();
    fields.map(move |(at, (field, place))| {
        let known = shown.columns.get(at);
        Listed {
            relation,
            place,
            field: field.as_ref(),
            is_not_null: known.is_some_and(|(not_null, _)| *not_null) || shown.key.contains(&at),
            default: known.and_then(|(_, default)| default.as_deref()),
            characters: shown.characters.get(at).copied().flatten(),
            is_of_table: !shown.columns.is_empty(),
        }
    })
}

fn always(name: &str, word: &str, count: usize) -> Column {
    plain(name, texts(std::iter::repeat_n(word.to_owned(), count)))
}

fn key_name(relation: &str) -> String {
    format!("{relation}_pkey")
}

const fn yes_or_no(is: bool) -> &'static str {
    if is { "YES" } else { "NO" }
}

/// A column's type in the standard's words, and PostgreSQL's name of it.
fn words_of(column: &Listed<'_>) -> (String, String) {
    match column.characters {
        Some(Characters::Fixed(_)) => ("character".to_owned(), "bpchar".to_owned()),
        Some(Characters::Varying(_)) => ("character varying".to_owned(), "varchar".to_owned()),
        None => type_words(column.field.data_type()),
    }
}

/// A type in the standard's words, and PostgreSQL's name of it.
fn type_words(of: &DataType) -> (String, String) {
    if let DataType::List(of) | DataType::LargeList(of) = of {
        return ("ARRAY".to_owned(), format!("_{}", type_words(of.data_type()).1));
    }
    let words = catalog_name(of);
    let name = match words.as_str() {
        "boolean" => "bool",
        "smallint" => "int2",
        "integer" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" => "float8",
        "time without time zone" => "time",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        other => other,
    };
    let name = name.to_owned();
    (words, name)
}

const fn is_decimal(of: &DataType) -> bool {
    matches!(of, DataType::Decimal128(..))
}

fn precision(of: &DataType) -> Option<i32> {
    match pg_name(of).as_str() {
        "smallint" => Some(16),
        "integer" => Some(32),
        "bigint" => Some(64),
        "real" => Some(24),
        "double precision" => Some(53),
        _ => match of {
            DataType::Decimal128(digits, _) => Some(i32::from(*digits)),
            _ => None,
        },
    }
}

fn scale(of: &DataType) -> Option<i32> {
    match of {
        DataType::Decimal128(_, scale) => Some(i32::from(*scale)),
        of if of.is_integer() => Some(0),
        _ => None,
    }
}

const fn datetime_precision(of: &DataType) -> Option<i32> {
    match of {
        DataType::Date32 => Some(0),
        DataType::Timestamp(..) | DataType::Time64(_) | DataType::Interval(_) => Some(6),
        _ => None,
    }
}
