//! Deletion of tags, manifests and blobs from a layout. A manifest is removed from `index.json` before its file is
//! deleted, so that the file of a listed manifest is never missing.

use std::collections::HashSet;

use async_trait::async_trait;
use snafu::ensure;

use super::Layout;
use super::error::{Error, IsManifestSnafu, NoBlobSnafu, NoManifestSnafu};
use super::listing::{Listing, ListingEntry};
use crate::digest::Digest;
use crate::reference::Tag;
use crate::storage::Delete;

impl Listing {
    /// Removes a manifest and all its tags from the index. Returns whether the manifest was listed.
    fn remove_manifest(&mut self, digest: &Digest) -> bool {
        let before = self.entries().len();
        self.entries_mut().retain(|listed| listed.digest != *digest);
        self.entries().len() < before
    }
}

impl Layout {
    /// Whether a manifest with this digest is reachable from `index.json` through indexes. Missing indexes are skipped.
    async fn is_reachable(&self, digest: &Digest) -> crate::Result<bool> {
        let listing = self.read_listing().await?;
        let listed = listing.entries().iter().cloned();
        let mut pending: Vec<_> = listed.map(ListingEntry::into_descriptor).collect();
        let mut seen = HashSet::new();
        while let Some(next) = pending.pop() {
            if next.digest == *digest {
                return Ok(true);
            }
            if !next.media_type.is_index() || !seen.insert(next.digest.clone()) {
                continue;
            }
            let read = self.read_manifest(&next.digest, Some(&next.media_type));
            if let Some(manifest) = read.await? {
                pending.extend(manifest.successors().into_iter().cloned());
            }
        }
        Ok(false)
    }

    /// Deletes the file of a manifest or blob. Returns whether the file existed.
    async fn remove_file(&self, digest: &Digest) -> Result<bool, Error> {
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
        let mut existed = false;
        let change = |listing: &mut Listing| {
            existed = listing.untag(tag);
            existed
        };
        self.update_index(change).await?;
        let (directory, identifier) = (self.directory.clone(), tag.clone());
        ensure!(
            existed,
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
            was_listed = listing.remove_manifest(digest);
            was_listed
        };
        self.update_index(change).await?;
        let existed = self.remove_file(digest).await?;
        let (directory, identifier) = (self.directory.clone(), digest.clone());
        ensure!(
            was_listed || existed,
            NoManifestSnafu {
                directory,
                identifier
            }
        );
        Ok(())
    }

    async fn delete_blob(&self, digest: &Digest) -> crate::Result<()> {
        // Manifests and blobs are stored in the same directory, but a manifest must not be deleted as a blob.
        let is_manifest = self.is_reachable(digest).await?;
        let (directory, digest) = (self.directory.clone(), digest.clone());
        ensure!(!is_manifest, IsManifestSnafu { directory, digest });
        let is_gone = self.remove_file(&digest).await?;
        ensure!(is_gone, NoBlobSnafu { directory, digest });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;
    use crate::error::ErrorKind;
    use crate::manifest::{Annotations, Index, Manifest, MediaType};
    use crate::pack::Packed;
    use crate::storage::{Source, Target};

    #[tokio::test]
    async fn delete_blob_with_digest_of_a_manifest_fails() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::create(home.path()).await.unwrap();
        let layer = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
        let inner = Packed::new("a/b".into(), Blob::empty(), vec![layer], Annotations::new());
        let inner = inner.unwrap();
        for blob in inner.blobs() {
            layout.push_blob(blob).await.unwrap();
        }
        let inner = inner.manifest().clone();
        layout.push_manifest(&inner).await.unwrap();
        let mut root = inner.descriptor();
        for _ in 0..2 {
            let index = Manifest::from_index(Index::new(None, vec![root])).unwrap();
            layout.push_manifest(&index).await.unwrap();
            layout.tag(&index, &"1".parse().unwrap()).await.unwrap();
            root = index.descriptor();
        }
        let error = layout.delete_blob(inner.digest()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("it is a manifest"), "{error}");
        assert!(
            layout
                .manifest(&inner.digest().clone().into())
                .await
                .is_ok()
        );
        let layer = inner.as_image().unwrap().layers[0].digest.clone();
        layout.delete_blob(&layer).await.unwrap();
    }
}
