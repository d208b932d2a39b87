//! Opened repository, layout directory or archive.
//!
//! Provides access to the content, and returns the full references of tags and manifests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_registry::{Cache, Client, Delete, Identifier, Location, Mode, Result, Source, Target};

/// Repository, layout or archive that was opened for reading, writing or deleting. Cheap to clone.
#[derive(Debug)]
pub(crate) struct OpenLocation<S: ?Sized = dyn Source> {
    content: Arc<S>,
    location: Location,
}

impl<S: ?Sized> Clone for OpenLocation<S> {
    fn clone(&self) -> Self {
        Self {
            content: Arc::clone(&self.content),
            location: self.location.clone(),
        }
    }
}

impl<S: ?Sized> OpenLocation<S> {
    fn new(content: Arc<S>, location: &Location) -> Self {
        let location = location.whole_repository();
        Self { content, location }
    }

    /// Returns the opened content.
    pub(crate) fn content(&self) -> &Arc<S> {
        &self.content
    }

    /// Returns the name of the location, without tag and digest.
    pub(crate) fn name(&self) -> String {
        self.location.to_string()
    }

    /// Returns the full reference of a tag or digest in the location.
    pub(crate) fn reference(&self, identifier: impl Into<Identifier>) -> String {
        self.location.with(identifier).to_string()
    }
}

impl OpenLocation {
    /// Opens a location for reading. A relative path is resolved against `base`.
    pub(crate) async fn open(client: &Client, location: &Location, base: &Path) -> Result<Self> {
        let location = to_absolute(location, base);
        let content = client.open_source(&location, base).await?;
        Ok(Self::new(content, &location))
    }

    /// Returns the content as a source. Reads from a registry use the cache.
    pub(crate) fn with_cache(&self, cache: Option<&Cache>) -> Arc<dyn Source> {
        let source = Arc::clone(&self.content);
        match (cache, &self.location) {
            (Some(cache), Location::Registry(_)) => cache.wrap(source),
            _ => source,
        }
    }
}

impl OpenLocation<dyn Target> {
    /// Opens a location for writing.
    pub(crate) async fn open_target(
        client: &Client,
        location: &Location,
        base: &Path,
        mode: Mode,
    ) -> Result<Self> {
        let location = to_absolute(location, base);
        let content = client.open_target(&location, base, mode).await?;
        Ok(Self::new(content, &location))
    }
}

impl OpenLocation<dyn Delete> {
    /// Opens a location for deletion. Returns `None` for an archive: archives do not support deletion.
    pub(crate) async fn open_deletable(
        client: &Client,
        location: &Location,
        base: &Path,
    ) -> Result<Option<Self>> {
        let location = to_absolute(location, base);
        let content = client.open_deletable(&location, base).await?;
        Ok(content.map(|content| Self::new(content, &location)))
    }
}

/// Returns the location with an absolute path.
fn to_absolute(location: &Location, base: &Path) -> Location {
    let mut location = location.clone().relative_to(base);
    if let Location::Layout {
        directory: path, ..
    }
    | Location::Archive { file: path, .. } = &mut location
    {
        // `components` omits `.` components.
        *path = path.components().collect::<PathBuf>();
    }
    location
}
