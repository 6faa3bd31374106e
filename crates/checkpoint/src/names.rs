//! The one module that makes and reads object names.
//!
//! ```text
//! <root>/<pipeline>/files/<32 hex digits>.sst
//! <root>/<pipeline>/checkpoints/<20 decimal digits>.json
//! <root>/<pipeline>/current
//! ```
//! A local root has two kinds of names more, which other stores never see: `.tmp-<32 hex digits>`
//! for a file that is being written and `.current.lock`.
//!
//! Invariants: names are never reused; every name has one spelling; a name that this module did not
//! make parses as [`Object::Foreign`] and is left alone.
//!
//! The format: docs/formats/object-names.md.

use crate::encoding::{from_hex, to_hex};
use crate::error::{Error, Result};
use crate::host::Host;
use highwater_core::CheckpointId;
use object_store::path::Path;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// The unique id of a file: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u128);

impl FileId {
    /// An id that nobody else has.
    #[must_use]
    pub fn random(host: &dyn Host) -> Self {
        Self(u128::from(host.random()) << 64 | u128::from(host.random()))
    }

    /// Reads 32 digits of lower-case hex.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(u128::from_be_bytes(from_hex(text)?.try_into().ok()?)))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0.to_be_bytes()))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for FileId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a file id of 32 hex digits"))
    }
}

/// What a name below a pipeline stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A file of state or of an outbox.
    File(FileId),
    /// A manifest.
    Checkpoint(CheckpointId),
    /// The pointer.
    Current,
    /// A file of a local root whose writing has not ended.
    Temporary,
    /// Not ours.
    Foreign,
}

/// The names of one pipeline below one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pipeline: String,
    base: Path,
}

pub(crate) const FILES: &str = "files";
pub(crate) const CHECKPOINTS: &str = "checkpoints";
pub(crate) const CURRENT: &str = "current";
const TEMPORARY: &str = ".tmp-";
/// The lock beside the pointer of a local root.
pub(crate) const LOCK: &str = ".current.lock";

impl Names {
    /// The names of a pipeline below a root's prefix.
    ///
    /// # Errors
    /// [`Error::Config`] when the pipeline's name is empty or too long for a folder's name.
    pub fn new(root: &Path, pipeline: &str) -> Result<Self> {
        let folder = folder_of(pipeline);
        if folder.is_empty() || folder.len() > 255 {
            return Err(Error::config(format!("{pipeline:?} cannot name a pipeline: 1 to 255 bytes are allowed")));
        }
        // Parsed, not joined: joining would escape the percent signs once more.
        let base = if root.is_root() { folder } else { format!("{root}/{folder}") };
        let base = Path::parse(base).map_err(Error::config)?;
        Ok(Self { pipeline: pipeline.to_owned(), base })
    }

    /// The pipeline whose folder this is; `None` when no pipeline has such a folder.
    #[must_use]
    pub fn pipeline_of(root: &Path, folder: &Path) -> Option<String> {
        let mut parts = folder.prefix_match(root)?;
        let name = parts.next()?;
        if parts.next().is_some() { None } else { pipeline_at(name.as_ref()) }
    }

    /// The pipeline.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The folder of all of it.
    #[must_use]
    pub const fn base(&self) -> &Path {
        &self.base
    }

    /// The folder of its files.
    #[must_use]
    pub fn files(&self) -> Path {
        self.base.clone().join(FILES)
    }

    /// The folder of its manifests.
    #[must_use]
    pub fn checkpoints(&self) -> Path {
        self.base.clone().join(CHECKPOINTS)
    }

    /// A file.
    #[must_use]
    pub fn file(&self, id: FileId) -> Path {
        self.files().join(format!("{id}.sst"))
    }

    /// A manifest.
    #[must_use]
    pub fn checkpoint(&self, id: CheckpointId) -> Path {
        self.checkpoints().join(format!("{:020}.json", id.0))
    }

    /// The pointer.
    #[must_use]
    pub fn current(&self) -> Path {
        self.base.clone().join(CURRENT)
    }

    /// What a name stands for.
    #[must_use]
    pub fn parse(&self, name: &Path) -> Object {
        let Some(parts) = name.prefix_match(&self.base) else { return Object::Foreign };
        let parts: Vec<_> = parts.collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let parsed = match parts.as_slice() {
            [.., last] if last.strip_prefix(TEMPORARY).is_some_and(|id| FileId::parse(id).is_some()) => {
                Some(Object::Temporary)
            }
            [FILES, name] => name.strip_suffix(".sst").and_then(FileId::parse).map(Object::File),
            [CHECKPOINTS, name] => name.strip_suffix(".json").and_then(digits).map(Object::Checkpoint),
            [CURRENT] => Some(Object::Current),
            _ => None,
        };
        parsed.unwrap_or(Object::Foreign)
    }
}

/// The name of a file of a local root while it is being written.
pub(crate) fn temporary(id: FileId) -> String {
    format!("{TEMPORARY}{id}")
}

fn digits(text: &str) -> Option<CheckpointId> {
    let plain = text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok().map(CheckpointId) } else { None }
}

/// A folder's name for any pipeline's name: letters, digits, `_`, `-` and inner dots stay, every
/// other byte becomes `%` and two hex digits.
#[must_use]
pub fn folder_of(pipeline: &str) -> String {
    let mut folder = String::new();
    for (at, byte) in pipeline.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || (byte == b'.' && at > 0) {
            folder.push(char::from(byte));
        } else {
            folder.push('%');
            folder.push_str(&to_hex(&[byte]));
        }
    }
    folder
}

/// The pipeline whose folder has this name, as [`folder_of`] gives it; none when no pipeline has.
#[must_use]
pub fn pipeline_at(folder: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = folder;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.extend(from_hex(rest.get(at + 1..at + 3)?)?);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    let pipeline = String::from_utf8(bytes).ok()?;
    // One spelling: what this module would not write is not ours.
    if folder_of(&pipeline) == folder && !folder.is_empty() { Some(pipeline) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read() {
        let root = Path::from("a/b");
        for pipeline in ["q5", "sales.by_day-2", ".hidden", "ä b/c", "100%", "%25"] {
            let names = Names::new(&root, pipeline).expect("a good name");
            assert_eq!(Names::pipeline_of(&root, names.base()).as_deref(), Some(pipeline));
            assert_eq!(names.base().parts_count(), 3, "{}", names.base());
            let file = FileId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
            assert_eq!(names.parse(&names.file(file)), Object::File(file));
            let checkpoint = CheckpointId(42);
            assert_eq!(names.parse(&names.checkpoint(checkpoint)), Object::Checkpoint(checkpoint));
            assert_eq!(names.parse(&names.current()), Object::Current);
            let temporary = names.files().join(temporary(file));
            assert_eq!(names.parse(&temporary), Object::Temporary);
        }
    }

    #[test]
    fn names_are_as_documented() {
        let names = Names::new(&Path::from("root"), "q5").expect("a good name");
        assert_eq!(names.file(FileId(255)).as_ref(), "root/q5/files/000000000000000000000000000000ff.sst");
        assert_eq!(names.checkpoint(CheckpointId(7)).as_ref(), "root/q5/checkpoints/00000000000000000007.json");
        assert_eq!(names.current().as_ref(), "root/q5/current");
    }

    #[test]
    fn what_is_not_ours_is_foreign() {
        let names = Names::new(&Path::from("root"), "q5").expect("a good name");
        for other in [
            "root/q5/files/00FF.sst",
            "root/q5/files/000000000000000000000000000000FF.sst",
            "root/q5/checkpoints/7.json",
            "root/q5/checkpoints/+0000000000000000007.json",
            "root/q5/.current.lock",
            "root/q55/current",
            "root/q5/files/deep/000000000000000000000000000000ff.sst",
        ] {
            assert_eq!(names.parse(&Path::from(other)), Object::Foreign, "{other}");
        }
        assert!(Names::new(&Path::from("root"), "").is_err());
    }
}
