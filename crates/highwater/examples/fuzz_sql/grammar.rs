//! Random queries over some tables, by a grammar whose every sentence has one result: whatever cuts
//! rows off or numbers them orders by all columns, numbers are small, and floats are sums of halves.

use highwater::engine::core::Rng;

/// The types of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ty {
    Int,
    Text,
    Numeric,
    Time,
}

pub(crate) const TYPES: [Ty; 4] = [Ty::Int, Ty::Text, Ty::Numeric, Ty::Time];

impl Ty {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Text => "varchar",
            Self::Numeric => "numeric(12, 2)",
            Self::Time => "timestamp",
        }
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

/// A query and its columns.
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) columns: Vec<Column>,
}

/// Draws of one case.
pub(crate) struct Draw(pub(crate) Rng);

impl Draw {
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

    /// A value of few, so that rows meet.
    pub(crate) fn value(&mut self, ty: Ty) -> String {
        if self.once_in(8) {
            return "NULL".to_owned();
        }
        self.literal(ty)
    }

    fn literal(&mut self, ty: Ty) -> String {
        let n = self.below(6);
        match ty {
            Ty::Int => n.to_string(),
            Ty::Text => format!("'{}'", ["x", "y", "yy", "zed", "", "x%"][n]),
            Ty::Numeric => format!("{n}.50"),
            Ty::Time => format!("TIMESTAMP '2024-01-01 00:00:0{n}'"),
        }
    }
}

/// Makes queries over some relations.
pub(crate) struct Grammar<'a> {
    pub(crate) draw: &'a mut Draw,
    pub(crate) relations: &'a [Relation],
    aliases: usize,
}

impl<'a> Grammar<'a> {
    pub(crate) const fn new(draw: &'a mut Draw, relations: &'a [Relation]) -> Self {
        Self { draw, relations, aliases: 0 }
    }

    /// A query at most so deep.
    pub(crate) fn query(&mut self, depth: usize) -> Query {
        match self.draw.below(if depth == 0 { 3 } else { 8 }) {
            0 | 1 => self.plain(depth),
            2 | 3 => self.grouped(depth),
            4 => self.set_operation(depth),
            5 => self.numbered(depth),
            6 => self.limited(depth),
            _ => self.plain(depth),
        }
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    /// A FROM clause and the columns in its scope, qualified.
    fn from(&mut self, depth: usize) -> (String, Vec<Column>) {
        let (mut sql, mut scope) = self.factor(depth);
        for _ in 0..[0, 0, 1, 1, 2][self.draw.below(5)] {
            let (right, columns) = self.factor(depth.saturating_sub(1));
            let kind = *self.draw.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            let Some(condition) = self.equality(&scope, &columns) else { continue };
            let both: Vec<Column> = scope.iter().chain(&columns).cloned().collect();
            let more = if self.draw.once_in(3) { format!(" AND {}", self.comparison(&both)) } else { String::new() };
            // A condition that may be unknown at both sides of an outer join is a hard case on purpose.
            sql = format!("{sql} {kind} {right} ON {condition}{more}");
            scope = both;
        }
        (sql, scope)
    }

    fn factor(&mut self, depth: usize) -> (String, Vec<Column>) {
        let alias = self.alias();
        let (sql, columns) = if depth > 0 && self.draw.once_in(3) {
            let inner = self.query(depth - 1);
            (format!("({})", inner.sql), inner.columns)
        } else {
            let relation = self.draw.of(self.relations);
            (relation.name.clone(), relation.columns.clone())
        };
        let qualified =
            columns.into_iter().map(|column| Column { name: format!("{alias}.{}", column.name), ..column }).collect();
        (format!("{sql} AS {alias}"), qualified)
    }

    fn equality(&mut self, left: &[Column], right: &[Column]) -> Option<String> {
        for _ in 0..10 {
            let (a, b) = (self.draw.of(left), self.draw.of(right));
            if a.ty == b.ty {
                let operator = if self.draw.once_in(6) { "IS NOT DISTINCT FROM" } else { "=" };
                return Some(format!("({} {operator} {})", a.name, b.name));
            }
        }
        None
    }

    fn comparison(&mut self, scope: &[Column]) -> String {
        let column = self.draw.of(scope).clone();
        let same: Vec<&Column> = scope.iter().filter(|other| other.ty == column.ty).collect();
        let operator = *self.draw.of(&["=", "<>", "<", "<=", ">", ">="]);
        let other = if self.draw.once_in(2) { self.draw.of(&same).name.clone() } else { self.draw.literal(column.ty) };
        match self.draw.below(8) {
            0 => format!("{} IS NULL", column.name),
            1 => format!("{} IS NOT NULL", column.name),
            2 => {
                let (a, b) = (self.draw.literal(column.ty), self.draw.literal(column.ty));
                format!("{} IN ({a}, {b})", column.name)
            }
            3 if column.ty == Ty::Text => format!("{} LIKE '%y%'", column.name),
            _ => format!("{} {operator} {other}", column.name),
        }
    }

    fn predicate(&mut self, scope: &[Column], depth: usize) -> String {
        match self.draw.below(if depth == 0 { 5 } else { 9 }) {
            0 => format!("({} OR {})", self.comparison(scope), self.comparison(scope)),
            1 => format!("({} AND {})", self.comparison(scope), self.comparison(scope)),
            2 => format!("NOT ({})", self.comparison(scope)),
            5 | 6 => self.subquery(scope, depth - 1),
            7 => format!("({} AND {})", self.subquery(scope, depth - 1), self.comparison(scope)),
            _ => self.comparison(scope),
        }
    }

    /// IN, EXISTS and comparisons with an aggregate.
    fn subquery(&mut self, scope: &[Column], depth: usize) -> String {
        let (from, inner) = self.factor(depth);
        let not = if self.draw.once_in(3) { "NOT " } else { "" };
        let Some(pair) = self.equality(scope, &inner) else { return self.comparison(scope) };
        let extra = if self.draw.once_in(2) { format!(" AND {}", self.comparison(&inner)) } else { String::new() };
        match self.draw.below(3) {
            0 => {
                let (outer, found) =
                    pair.split_once(" = ").or_else(|| pair.split_once(" IS NOT DISTINCT FROM ")).expect("an equality");
                let (outer, found) = (outer.trim_start_matches('('), found.trim_end_matches(')'));
                let filter = if extra.is_empty() { String::new() } else { format!(" WHERE{}", &extra[4..]) };
                format!("{outer} {not}IN (SELECT {found} FROM {from}{filter})")
            }
            1 => format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {pair}{extra})"),
            _ => {
                let numbers: Vec<Column> = inner.iter().filter(|c| c.ty == Ty::Int).cloned().collect();
                let ours: Vec<Column> = scope.iter().filter(|c| c.ty == Ty::Int).cloned().collect();
                if numbers.is_empty() || ours.is_empty() {
                    return self.comparison(scope);
                }
                let (column, argument) = (self.draw.of(&ours).name.clone(), self.draw.of(&numbers).name.clone());
                let function = *self.draw.of(&["max", "min", "count"]);
                let correlated = if self.draw.once_in(2) { format!(" WHERE {pair}{extra}") } else { String::new() };
                format!("{column} <= (SELECT {function}({argument}) FROM {from}{correlated})")
            }
        }
    }

    fn expression(&mut self, scope: &[Column]) -> (String, Ty) {
        let column = self.draw.of(scope).clone();
        let name = column.name;
        match (column.ty, self.draw.below(5)) {
            (Ty::Int, 0) => (format!("{name} + 1"), Ty::Int),
            (Ty::Int, 1) => (format!("CASE WHEN {name} > 2 THEN {name} ELSE 0 END"), Ty::Int),
            (Ty::Text, 0) => (format!("upper({name})"), Ty::Text),
            (Ty::Text, 1) => (format!("length({name})"), Ty::Int),
            (Ty::Text, 2) => (format!("{name} || '!'"), Ty::Text),
            (ty, 3) => (format!("coalesce({name}, {})", self.draw.literal(ty)), ty),
            (ty, _) => (name, ty),
        }
    }

    fn filter(&mut self, scope: &[Column], depth: usize) -> String {
        if self.draw.once_in(2) { format!(" WHERE {}", self.predicate(scope, depth)) } else { String::new() }
    }

    fn plain(&mut self, depth: usize) -> Query {
        let (from, scope) = self.from(depth);
        let filter = self.filter(&scope, depth);
        let mut columns = Vec::new();
        let mut items = Vec::new();
        for at in 0..=self.draw.below(4) {
            let (sql, ty) = self.expression(&scope);
            items.push(format!("{sql} AS c{at}"));
            columns.push(Column { name: format!("c{at}"), ty });
        }
        let distinct = if self.draw.once_in(6) { "DISTINCT " } else { "" };
        Query { sql: format!("SELECT {distinct}{} FROM {from}{filter}", items.join(", ")), columns }
    }

    fn grouped(&mut self, depth: usize) -> Query {
        let (from, scope) = self.from(depth);
        let filter = self.filter(&scope, depth);
        let (mut items, mut keys, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..self.draw.below(3) {
            let (sql, ty) = self.expression(&scope);
            items.push(format!("{sql} AS c{at}"));
            keys.push(sql);
            columns.push(Column { name: format!("c{at}"), ty });
        }
        for at in keys.len()..=keys.len() + self.draw.below(3) {
            let (sql, ty) = self.aggregate(&scope);
            items.push(format!("{sql} AS c{at}"));
            columns.push(Column { name: format!("c{at}"), ty });
        }
        let group = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
        let having = if self.draw.once_in(4) { " HAVING count(*) > 1" } else { "" };
        Query { sql: format!("SELECT {} FROM {from}{filter}{group}{having}", items.join(", ")), columns }
    }

    fn aggregate(&mut self, scope: &[Column]) -> (String, Ty) {
        let column = self.draw.of(scope).clone();
        let distinct = if self.draw.once_in(3) { "DISTINCT " } else { "" };
        let filter =
            if self.draw.once_in(4) { format!(" FILTER (WHERE {})", self.comparison(scope)) } else { String::new() };
        let name = column.name;
        let (call, ty) = match (column.ty, self.draw.below(6)) {
            (_, 0) => ("count(*)".to_owned(), Ty::Int),
            (Ty::Int, 1) => (format!("sum({distinct}{name})"), Ty::Int),
            (Ty::Numeric, 1) => (format!("sum({distinct}{name})"), Ty::Numeric),
            (ty, 2) => (format!("min({name})"), ty),
            (ty, 3) => (format!("max({name})"), ty),
            (Ty::Text, 4) => (format!("string_agg({name}, ',' ORDER BY {name})"), Ty::Text),
            _ => (format!("count({distinct}{name})"), Ty::Int),
        };
        (format!("{call}{filter}"), ty)
    }

    fn set_operation(&mut self, depth: usize) -> Query {
        let left = self.plain(depth - 1);
        let (from, scope) = self.from(depth - 1);
        let filter = self.filter(&scope, depth - 1);
        let mut items = Vec::new();
        for (at, column) in left.columns.iter().enumerate() {
            let same: Vec<&Column> = scope.iter().filter(|other| other.ty == column.ty).collect();
            let value = if same.is_empty() { self.draw.literal(column.ty) } else { self.draw.of(&same).name.clone() };
            items.push(format!("CAST({value} AS {}) AS c{at}", column.ty.name()));
        }
        let operator = *self.draw.of(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
        let right = format!("SELECT {} FROM {from}{filter}", items.join(", "));
        let cast = left.columns.iter().map(|c| format!("CAST({0} AS {1}) AS {0}", c.name, c.ty.name()));
        let first = format!("SELECT {} FROM ({}) AS first_side", cast.collect::<Vec<_>>().join(", "), left.sql);
        Query { sql: format!("{first} {operator} {right}"), columns: left.columns }
    }

    fn all_of(columns: &[Column]) -> String {
        columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ")
    }

    /// Functions over windows, and the first rows of each group.
    fn numbered(&mut self, depth: usize) -> Query {
        let inner = self.plain(depth - 1);
        let all = Self::all_of(&inner.columns);
        let part = self.draw.of(&inner.columns).name.clone();
        let numbers: Vec<&Column> = inner.columns.iter().filter(|column| column.ty == Ty::Int).collect();
        let order = if self.draw.once_in(2) { format!("{part} DESC, {all}") } else { all.clone() };
        let partition = if self.draw.once_in(5) { String::new() } else { format!("PARTITION BY {part} ") };
        let function = match (self.draw.below(5), numbers.first()) {
            (0, _) => "rank()".to_owned(),
            (1, Some(number)) => format!("sum({})", number.name),
            (2, Some(number)) => format!("lag({})", number.name),
            (3, _) => "count(*)".to_owned(),
            _ => "row_number()".to_owned(),
        };
        let mut columns = inner.columns;
        let sql = format!(
            "SELECT {all}, {function} OVER ({partition}ORDER BY {order}) AS c_over FROM ({}) AS numbered",
            inner.sql
        );
        columns.push(Column { name: "c_over".to_owned(), ty: Ty::Int });
        if self.draw.once_in(2) {
            return Query { sql: format!("SELECT * FROM ({sql}) AS firsts WHERE c_over <= 2"), columns };
        }
        Query { sql, columns }
    }

    fn limited(&mut self, depth: usize) -> Query {
        let inner = self.query(depth - 1);
        let all = Self::all_of(&inner.columns);
        let offset = if self.draw.once_in(3) { " OFFSET 1" } else { "" };
        let limit = 1 + self.draw.below(4);
        let sql = format!("SELECT {all} FROM ({}) AS cut ORDER BY {all} LIMIT {limit}{offset}", inner.sql);
        Query { sql, columns: inner.columns }
    }
}
