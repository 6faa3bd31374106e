//! SHOW: what is to be shown.

use crate::statement::Name;

/// What SHOW shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// SHOW TABLES.
    Tables,
    /// SHOW SOURCES.
    Sources,
    /// SHOW VIEWS.
    Views,
    /// SHOW MATERIALIZED VIEWS.
    MaterializedViews,
    /// SHOW INDEXES [FROM v].
    Indexes(Option<Name>),
    /// SHOW SINKS.
    Sinks,
    /// SHOW SUBSCRIPTIONS.
    Subscriptions,
    /// SHOW CURSORS: the session's over queries.
    Cursors,
    /// SHOW SUBSCRIPTION CURSORS.
    SubscriptionCursors,
    /// SHOW FUNCTIONS.
    Functions,
    /// SHOW JOBS.
    Jobs,
    /// SHOW CHECKPOINTS [FOR v].
    Checkpoints(Option<Name>),
    /// SHOW CREATE kind x; the kind is not needed to find it, as all share one name space.
    Create(Name),
    /// SHOW CREATE FUNCTION.
    CreateFunction(Name),
    /// SHOW setting.
    Setting(Name),
    /// SHOW ALL.
    All,
}
