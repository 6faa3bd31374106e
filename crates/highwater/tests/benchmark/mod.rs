//! The queries of a benchmark's file: a line `-- qN words` begins each.

/// Names and queries, in the order of the file.
pub(crate) fn queries(file: &'static str) -> Vec<(&'static str, &'static str)> {
    let query = |part: &'static str| {
        let (head, sql) = part.split_once('\n')?;
        let name = head.split(' ').next().filter(|name| name.starts_with('q'))?;
        Some((name, sql.trim()))
    };
    file.split("\n-- ").filter_map(query).collect()
}
