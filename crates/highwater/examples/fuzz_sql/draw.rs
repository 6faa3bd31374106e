//! What a case is drawn from: the types of columns, and few values of each, so that rows meet.
//!
//! Values are such that each result is the same however it is computed: sums of floats are exact, equal
//! intervals are written alike, and products and sums of sums stay far from the limits of their types.

use highwater::engine::core::Rng;

/// The types of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ty {
    Bool,
    Small,
    Int,
    Big,
    /// A numeric of two digits behind the point.
    Numeric,
    /// One of five.
    Fine,
    /// With -0 and NaN.
    Float,
    Text,
    Varchar,
    Date,
    Time,
    Span,
    /// What is only looked at: its last digits may differ, or it is an array.
    Rough,
}

/// The types of columns of tables.
pub(crate) const TYPES: [Ty; 12] = [
    Ty::Bool,
    Ty::Small,
    Ty::Int,
    Ty::Big,
    Ty::Numeric,
    Ty::Fine,
    Ty::Float,
    Ty::Text,
    Ty::Varchar,
    Ty::Date,
    Ty::Time,
    Ty::Span,
];

/// Types whose values can be compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Bool,
    Number,
    Text,
    Moment,
    Span,
    Rough,
}

impl Ty {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Small => "smallint",
            Self::Int => "int",
            Self::Big => "bigint",
            Self::Numeric => "numeric(12, 2)",
            Self::Fine => "numeric(24, 5)",
            Self::Float => "double precision",
            Self::Text | Self::Rough => "text",
            Self::Varchar => "varchar",
            Self::Date => "date",
            Self::Time => "timestamp",
            Self::Span => "interval",
        }
    }

    /// The type of its kind that holds all that queries make of it.
    pub(crate) const fn wide(self) -> Self {
        match self {
            Self::Small | Self::Int | Self::Big => Self::Big,
            Self::Numeric | Self::Fine => Self::Fine,
            Self::Text | Self::Varchar => Self::Text,
            other => other,
        }
    }

    /// What holds this and another type of its family.
    pub(crate) fn beside(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::Float, _) | (_, Self::Float) => Self::Float,
            (Self::Numeric | Self::Fine, _) | (_, Self::Numeric | Self::Fine) => Self::Fine,
            (Self::Date | Self::Time, _) => Self::Time,
            _ => self.wide(),
        }
    }

    pub(crate) const fn family(self) -> Family {
        match self {
            Self::Bool => Family::Bool,
            Self::Small | Self::Int | Self::Big | Self::Numeric | Self::Fine | Self::Float => Family::Number,
            Self::Text | Self::Varchar => Family::Text,
            Self::Date | Self::Time => Family::Moment,
            Self::Span => Family::Span,
            Self::Rough => Family::Rough,
        }
    }

    pub(crate) const fn is_whole(self) -> bool {
        matches!(self, Self::Small | Self::Int | Self::Big)
    }

    pub(crate) const fn is_decimal(self) -> bool {
        matches!(self, Self::Numeric | Self::Fine)
    }

    pub(crate) fn is_text(self) -> bool {
        self.family() == Family::Text
    }
}

/// A column as a query sees it.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) ty: Ty,
}

/// Something to read from.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

/// Draws of one case.
pub(crate) struct Draw(Rng);

impl Draw {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(Rng::seeded(seed))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A value of few, so that rows meet, or none.
    pub(crate) fn value(&mut self, ty: Ty) -> String {
        if self.once_in(8) {
            return "NULL".to_owned();
        }
        self.literal(ty)
    }

    /// A value of few.
    pub(crate) fn literal(&mut self, ty: Ty) -> String {
        let n = self.below(6);
        match ty {
            Ty::Bool => ["true", "false"][n % 2].to_owned(),
            Ty::Small | Ty::Int | Ty::Big => n.to_string(),
            Ty::Text | Ty::Varchar | Ty::Rough => format!("'{}'", ["x", "y", "yy", "zed", "", "x%"][n]),
            Ty::Numeric => format!("{n}.50"),
            Ty::Fine => format!("{n}.{}", ["50000", "25", "00"][n % 3]),
            Ty::Float => format!("CAST('{}' AS double precision)", ["-0", "0", "1", "2.5", "5.5", "NaN"][n]),
            Ty::Date => format!("DATE '2024-01-0{}'", n + 1),
            Ty::Time if n < 3 => format!("TIMESTAMP '2024-01-01 00:00:0{n}'"),
            Ty::Time => format!("TIMESTAMP '2024-01-0{n} 00:00:00'"),
            Ty::Span => format!("INTERVAL '{n} hours'"),
        }
    }
}
