//! Whether a source ends, as far as its options tell.

use highwater_connectors::Options;

/// How far a source goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It ends by itself.
    Bounded,
    /// It has so many rows now and may have more later.
    Growing,
    /// It makes rows for ever.
    Endless,
}

impl Extent {
    /// What a connector's options say.
    pub(crate) fn of(connector: &str, options: &Options) -> Self {
        let limited = |name: &str| options.get(name).is_some_and(|n| n.parse::<i64>().is_ok_and(|n| n >= 0));
        match connector {
            "nexmark" if limited("nexmark.event.num") => Self::Bounded,
            "datagen" if limited("datagen.rows") => Self::Bounded,
            "datagen" if options.iter().any(|(name, _)| name.starts_with("fields.") && name.ends_with(".end")) => {
                Self::Bounded
            }
            "file" => Self::Growing,
            _ => Self::Endless,
        }
    }
}
