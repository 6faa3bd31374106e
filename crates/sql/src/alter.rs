//! ALTER TABLE, where it gives a key, or a column another name.

use crate::statement::Name;

/// ALTER TABLE ... ADD PRIMARY KEY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddKey {
    /// The table.
    pub table: Name,
    /// The columns of the key, in its order.
    pub key: Vec<Name>,
    /// The key as it was written, from PRIMARY on.
    pub definition: String,
}

/// ALTER TABLE ... RENAME COLUMN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenameColumn {
    /// The table.
    pub table: Name,
    /// The column.
    pub column: Name,
    /// What it is to be called.
    pub to: Name,
}
