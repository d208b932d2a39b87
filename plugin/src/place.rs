//! A repository of a registry, a layout directory or an archive, opened.
//!
//! Owns what they have in common for a command: what it can do with the place, and the full name of whatever is in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_registry::{Cache, Client, Delete, Identifier, Location, Result, Source, Target};

/// A place that was opened to be read from, to be written to or to delete from. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Place<S: ?Sized = dyn Source> {
    content: Arc<S>,
    location: Location,
}

impl<S: ?Sized> Clone for Place<S> {
    fn clone(&self) -> Self {
        Self {
            content: Arc::clone(&self.content),
            location: self.location.clone(),
        }
    }
}

impl<S: ?Sized> Place<S> {
    fn new(content: Arc<S>, location: &Location) -> Self {
        let location = location.whole_repository();
        Self { content, location }
    }

    /// What is done with it.
    pub(crate) fn content(&self) -> &Arc<S> {
        &self.content
    }

    /// The place's own name.
    pub(crate) fn name(&self) -> String {
        self.location.to_string()
    }

    /// The full name of something in it.
    pub(crate) fn reference(&self, identifier: impl Into<Identifier>) -> String {
        self.location.with(identifier).to_string()
    }
}

impl Place {
    /// Opens a location for reading, with a relative path resolved against `base`.
    pub(crate) async fn open(client: &Client, location: &Location, base: &Path) -> Result<Self> {
        let location = absolute(location, base);
        let content = client.open_source(&location, base).await?;
        Ok(Self::new(content, &location))
    }

    /// The source to read from: of a registry, through the cache of what was read before.
    pub(crate) fn cached_by(&self, cache: Option<&Cache>) -> Arc<dyn Source> {
        let source = Arc::clone(&self.content);
        match (cache, &self.location) {
            (Some(cache), Location::Registry(_)) => cache.over(source),
            _ => source,
        }
    }
}

impl Place<dyn Target> {
    /// Opens a location for writing. A directory is created when it does not exist.
    pub(crate) async fn open_to_write(
        client: &Client,
        location: &Location,
        base: &Path,
    ) -> Result<Self> {
        let location = absolute(location, base);
        let content = client.open_target(&location, base).await?;
        Ok(Self::new(content, &location))
    }
}

/// A place whose content can be deleted.
pub(crate) type Shelf = dyn Delete;

impl Place<Shelf> {
    /// Opens a location for deleting; `None` for an archive, from which nothing can be deleted.
    pub(crate) async fn open_to_delete(
        client: &Client,
        location: &Location,
        base: &Path,
    ) -> Result<Option<Self>> {
        let location = absolute(location, base);
        let content = client.open_deletable(&location, base).await?;
        Ok(content.map(|content| Self::new(content, &location)))
    }
}

/// The location under a name that means the same in every directory.
fn absolute(location: &Location, base: &Path) -> Location {
    let mut location = location.clone().relative_to(base);
    if let Location::Layout {
        directory: path, ..
    }
    | Location::Archive { file: path, .. } = &mut location
    {
        // Without the dots that were written.
        *path = path.components().collect::<PathBuf>();
    }
    location
}
