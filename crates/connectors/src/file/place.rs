//! Where a source's files are: one file, a folder, or those that match a pattern.
//!
//! Invariant: a split's name is a path relative to the place's base, and so stays the same as long
//! as the file is where it is.

use crate::Format;
use highwater_engine::{Error, Result};
use std::path::{Path, PathBuf};

/// Endings of compressed files, which are refused.
const COMPRESSED: &[&str] = &["gz", "zst", "zstd", "bz2", "xz", "lz4", "br", "zip", "sz", "snappy"];

/// A place where files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One file.
    File {
        /// The folder it is in.
        base: PathBuf,
        /// Its name.
        name: String,
    },
    /// A folder and those within, except hidden ones.
    Folder(PathBuf),
    /// The files that match a pattern.
    Pattern {
        /// The longest part of the path without wildcards.
        base: PathBuf,
        /// The whole pattern.
        pattern: String,
    },
}

impl Place {
    /// What a path means: something that exists by that name, or else a pattern.
    pub(super) fn of(path: &str) -> Result<Self> {
        let path = path.strip_prefix("file://").unwrap_or(path);
        let literal = Path::new(path);
        let refuse = |why: String| Error::Plan(format!("option 'path' of connector 'file' is '{path}': {why}"));
        match literal.metadata() {
            Ok(found) if found.is_dir() => Ok(Self::Folder(literal.to_owned())),
            Ok(_) => {
                let name = literal.file_name().and_then(|name| name.to_str());
                let name = name.ok_or_else(|| refuse("not a file's name".into()))?.to_owned();
                Ok(Self::File { base: literal.parent().unwrap_or(Path::new("")).to_owned(), name })
            }
            Err(_) if path.contains(['*', '?', '[']) => {
                glob::Pattern::new(path).map_err(|error| refuse(error.to_string()))?;
                let plain = literal
                    .components()
                    .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']));
                Ok(Self::Pattern { base: plain.collect(), pattern: path.to_owned() })
            }
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    /// The path of a split.
    pub(super) fn resolve(&self, split: &str) -> PathBuf {
        match self {
            Self::File { base, .. } | Self::Folder(base) | Self::Pattern { base, .. } => base.join(split),
        }
    }

    /// All files, relative to the base and sorted. In a folder only those of the format count.
    pub(super) fn list(&self, format: Format) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Self::File { name, .. } => names.push(name.clone()),
            Self::Folder(base) => walk(base, base, format, &mut names)?,
            Self::Pattern { base, pattern } => {
                let found = glob::glob(pattern).map_err(|error| Error::connector(pattern, error))?;
                for path in found {
                    let path = path.map_err(|error| Error::connector(pattern, error))?;
                    if path.is_file() {
                        names.push(relative(base, &path)?);
                    }
                }
            }
        }
        names.sort_unstable();
        match names.iter().find(|name| is_compressed(name)) {
            Some(name) => Err(Error::connector(
                format!("file '{}'", self.resolve(name).display()),
                "compressed files cannot be read; decompress it or name the other files only",
            )),
            None => Ok(names),
        }
    }
}

fn is_compressed(name: &str) -> bool {
    extension(name).is_some_and(|extension| COMPRESSED.contains(&extension.as_str()))
}

/// A file name's ending, in lower case.
pub(super) fn extension(name: &str) -> Option<String> {
    Path::new(name).extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase)
}

fn relative(base: &Path, path: &Path) -> Result<String> {
    let within = path.strip_prefix(base).unwrap_or(path);
    let name = within
        .to_str()
        .ok_or_else(|| Error::connector(format!("file '{}'", path.display()), "its name is not UTF-8; rename it"))?;
    Ok(name.to_owned())
}

fn walk(base: &Path, folder: &Path, format: Format, names: &mut Vec<String>) -> Result<()> {
    let failed = |error: std::io::Error| Error::connector(format!("folder '{}'", folder.display()), error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || name.as_encoded_bytes().starts_with(b"_") {
            continue;
        }
        let path = entry.path();
        // A file that vanished since it was listed is none.
        let Ok(found) = path.metadata() else { continue };
        if found.is_dir() {
            walk(base, &path, format, names)?;
        } else {
            let name = relative(base, &path)?;
            if is_compressed(&name) || extension(&name).is_some_and(|own| format.extensions().contains(&own.as_str())) {
                names.push(name);
            }
        }
    }
    Ok(())
}
