//! Where checkpoints are kept: a URL and the store behind it. Opens stores; calls are [`crate::store`]'s.

use crate::error::{Error, Result};
use crate::local::Folder;
use crate::names::Names;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// A place for checkpoints. Cloning is cheap and means the same place.
#[derive(Clone, Debug)]
pub struct Root {
    url: String,
    prefix: Path,
    objects: Arc<dyn ObjectStore>,
    /// The same store where it takes objects in parts.
    parts: Option<Parts>,
    folder: Option<Arc<Folder>>,
}

/// A store that takes objects in parts.
#[derive(Clone)]
struct Parts(Arc<dyn MultipartStore>);

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl Root {
    /// Opens `file:///path`, a plain path, `memory:`, or `s3://bucket/prefix` (or anything that
    /// speaks S3, with `AWS_ENDPOINT` and the other `AWS_` variables). A local folder is created.
    ///
    /// # Errors
    /// [`Error::Config`] for a URL that cannot be understood, and what creating the folder gives.
    pub fn open(url: &str) -> Result<Self> {
        match url.split_once(':') {
            Some(("memory", _)) => Ok(Self::memory()),
            Some(("s3" | "s3a", _)) => Self::s3(url),
            Some(("file", _)) => {
                let path = url::Url::parse(url).ok().and_then(|u| u.to_file_path().ok());
                let path =
                    path.ok_or_else(|| Error::config(format!("{url} does not name a folder of this machine")))?;
                Self::folder_at(url, &path)
            }
            Some((scheme, rest)) if rest.starts_with("//") => Err(Error::config(format!(
                "checkpoint root {url}: unknown scheme {scheme}; use a path, file://, s3:// or memory:"
            ))),
            _ => Self::folder_at(url, std::path::Path::new(url)),
        }
    }

    /// A new store in memory, gone with its last clone.
    #[must_use]
    pub fn memory() -> Self {
        Self::over(Arc::new(InMemory::new()), Path::default(), "memory:")
    }

    /// Any object store that can put if absent and compare and set, and takes large objects in parts.
    #[must_use]
    pub fn over<S: ObjectStore + MultipartStore>(objects: Arc<S>, prefix: Path, url: impl Into<String>) -> Self {
        let parts: Arc<dyn MultipartStore> = objects.clone();
        Self { url: url.into(), prefix, objects, parts: Some(Parts(parts)), folder: None }
    }

    fn folder_at(url: &str, path: &std::path::Path) -> Result<Self> {
        let folder = Arc::new(Folder::open(path)?);
        let objects = folder.objects();
        Ok(Self { url: url.to_owned(), prefix: Path::default(), objects, parts: None, folder: Some(folder) })
    }

    fn s3(url: &str) -> Result<Self> {
        let wrong = |reason: String| Error::config(format!("checkpoint root {url}: {reason}"));
        let parsed = url::Url::parse(url).map_err(|e| wrong(e.to_string()))?;
        let prefix = Path::from_url_path(parsed.path()).map_err(|e| wrong(e.to_string()))?;
        // Each call is bounded and retried by the store's client above, by whether bytes move; here only what ends
        // within its deadline.
        let retry = RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
        let client = ClientOptions::new().with_timeout_disabled().with_allow_http(true);
        let store = AmazonS3Builder::from_env()
            .with_url(url)
            .with_retry(retry)
            .with_client_options(client)
            .with_checksum_algorithm(Checksum::SHA256)
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        Ok(Self::over(Arc::new(store), prefix, url))
    }

    /// The URL as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What stands before every name.
    #[must_use]
    pub const fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The names of a pipeline here.
    ///
    /// # Errors
    /// [`Error::Config`] when the name cannot be one.
    pub fn names(&self, pipeline: &str) -> Result<Names> {
        Names::new(&self.prefix, pipeline)
    }

    pub(crate) const fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// The store for large objects.
    ///
    /// # Errors
    /// [`Error::Config`] for a local folder, which takes them whole.
    pub(crate) fn parts(&self) -> Result<&Arc<dyn MultipartStore>> {
        let parts = self.parts.as_ref().map(|parts| &parts.0);
        parts.ok_or_else(|| Error::config(format!("checkpoint root {} takes no objects in parts", self.url)))
    }

    pub(crate) const fn folder(&self) -> Option<&Arc<Folder>> {
        self.folder.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_or_refused() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a b/root");
        let path = path.to_str().expect("it is text");
        assert!(Root::open(path)?.folder().is_some());
        let url = url::Url::from_file_path(path).expect("an absolute path");
        assert!(Root::open(url.as_str())?.folder().is_some());
        assert!(Root::open("memory:")?.folder().is_none());
        let s3 = Root::open("s3://bucket/some/prefix")?;
        assert_eq!(s3.prefix().as_ref(), "some/prefix");
        assert!(matches!(Root::open("ftp://host/x"), Err(Error::Config { .. })));
        Ok(())
    }
}
