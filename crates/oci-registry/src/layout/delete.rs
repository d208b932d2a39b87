//! Taking content away from a layout: first from `index.json`, then its file, so that nothing listed is missing.

use async_trait::async_trait;
use snafu::ensure;

use super::{Error, Layout, Listing, NoBlobSnafu, NoManifestSnafu};
use crate::digest::Digest;
use crate::reference::Tag;
use crate::storage::Delete;

impl Listing {
    /// Forgets a manifest and all its tags.
    fn forget(&mut self, digest: &Digest) -> bool {
        let before = self.manifests.len();
        self.manifests.retain(|listed| listed.digest != *digest);
        self.manifests.len() < before
    }
}

impl Layout {
    /// Removes the file of some content; whether it was there.
    async fn remove(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.blob_path(digest);
        match tokio::fs::remove_file(&path).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Remove { path, source }),
        }
    }
}

#[async_trait]
impl Delete for Layout {
    async fn delete_tag(&self, tag: &Tag) -> crate::Result<()> {
        let mut was_there = false;
        let change = |listing: &mut Listing| {
            was_there = listing.untag(tag);
            was_there
        };
        self.update(change).await?;
        let (directory, identifier) = (self.directory.clone(), tag.clone());
        ensure!(
            was_there,
            NoManifestSnafu {
                directory,
                identifier
            }
        );
        Ok(())
    }

    async fn delete_manifest(&self, digest: &Digest) -> crate::Result<()> {
        let mut was_listed = false;
        let change = |listing: &mut Listing| {
            was_listed = listing.forget(digest);
            was_listed
        };
        self.update(change).await?;
        let was_there = self.remove(digest).await?;
        let (directory, identifier) = (self.directory.clone(), digest.clone());
        ensure!(
            was_listed || was_there,
            NoManifestSnafu {
                directory,
                identifier
            }
        );
        Ok(())
    }

    async fn delete_blob(&self, digest: &Digest) -> crate::Result<()> {
        let listing = self.read_listing().await?;
        // Manifests have files as blobs have; one that is listed is none to be taken away as a blob.
        let mut listed = listing.manifests.iter();
        let is_manifest = listed.any(|listed| listed.digest == *digest);
        let is_gone = !is_manifest && self.remove(digest).await?;
        let (directory, digest) = (self.directory.clone(), digest.clone());
        ensure!(is_gone, NoBlobSnafu { directory, digest });
        Ok(())
    }
}
