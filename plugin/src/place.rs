//! A repository of a registry, a layout directory or an archive, opened for reading.
//!
//! Owns what they have in common for a command: a source, and the full name of whatever is in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_registry::{Access, Archive, Cache, Client, Identifier, Layout, Location, Result, Source};

/// A place that artifacts are read from. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    source: Arc<dyn Source>,
    location: Location,
}

impl Place {
    /// Opens the place of this location, whose path is meant from `base`.
    pub(crate) async fn open(client: &Client, location: &Location, base: &Path) -> Result<Self> {
        // The name of a row must mean the same in every directory.
        let location = match location.clone().relative_to(base) {
            Location::Layout {
                directory,
                identifier,
            } => Location::Layout {
                directory: directory.components().collect::<PathBuf>(),
                identifier,
            },
            Location::Archive {
                file,
                format,
                identifier,
            } => Location::Archive {
                file: file.components().collect::<PathBuf>(),
                format,
                identifier,
            },
            registry @ Location::Registry(_) => registry,
        };
        let source: Arc<dyn Source> = match &location {
            Location::Registry(reference) => Arc::new(client.repository(reference, Access::Pull)?),
            Location::Layout { directory, .. } => Arc::new(Layout::open(directory).await?),
            Location::Archive { file, format, .. } => {
                Arc::new(Archive::open(file, format.clone()).await?)
            }
        };
        let location = location.whole_repository();
        Ok(Self { source, location })
    }

    /// What is read from.
    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The same through what has been read before, where that is worth it: a registry.
    pub(crate) fn cached_by(&self, cache: Option<&Cache>) -> Arc<dyn Source> {
        let source = Arc::clone(&self.source);
        match (cache, &self.location) {
            (Some(cache), Location::Registry(_)) => cache.over(source),
            _ => source,
        }
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
