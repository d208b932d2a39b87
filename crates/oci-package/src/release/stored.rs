//! Stored state of tags, read before a publication starts.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future;
use oci_registry::{Descriptor, Identifier, Manifest, Optional as _, Tag, Target};

/// Stored state of tags, read in advance, for example before a build.
///
/// For tags that exist, a publication uses this state instead of a request, so reading the tags early causes no
/// additional request. A tag that did not exist is read again, because another job may have created it in the meantime.
#[derive(Clone, Debug, Default)]
pub struct StoredTags {
    indexes: BTreeMap<Tag, Manifest>,
    targets: BTreeMap<Tag, Descriptor>,
    absent: BTreeSet<Tag>,
}

impl StoredTags {
    /// Reads the manifests of the tags in `indexes`, and resolves the tags in `targets`. Sends one request per tag, all
    /// concurrently.
    ///
    /// # Errors
    ///
    /// The error of `from`. A tag that does not exist is not an error.
    pub async fn read(
        from: &dyn Target,
        indexes: &[Tag],
        targets: &[Tag],
    ) -> oci_registry::Result<Self> {
        let read_indexes = future::join_all(indexes.iter().map(async |tag| {
            let manifest = from.manifest(&Identifier::Tag(tag.clone())).await;
            (tag.clone(), manifest)
        }));
        let resolve_targets = future::join_all(targets.iter().map(async |tag| {
            let descriptor = from.resolve(&Identifier::Tag(tag.clone())).await;
            (tag.clone(), descriptor)
        }));
        let (indexes, targets) = future::join(read_indexes, resolve_targets).await;
        let mut stored = Self::default();
        for (tag, manifest) in indexes {
            if let Some(manifest) = manifest.optional()? {
                stored.indexes.insert(tag, manifest);
            }
        }
        for (tag, descriptor) in targets {
            match descriptor.optional()? {
                Some(descriptor) => {
                    stored.targets.insert(tag, descriptor);
                }
                None => {
                    stored.absent.insert(tag);
                }
            }
        }
        Ok(stored)
    }

    /// Whether at least one of the tags did not exist, so that a publication uploads files.
    pub fn has_absent(&self, targets: &[Tag]) -> bool {
        targets.iter().any(|tag| self.absent.contains(tag))
    }

    /// Removes the state of the given tags and returns it. A publication changes the tags, so the state must not be
    /// used twice.
    #[must_use]
    pub fn take<'t>(&mut self, tags: impl IntoIterator<Item = &'t Tag>) -> Self {
        let mut taken = Self::default();
        for tag in tags {
            taken.indexes.extend(self.indexes.remove_entry(tag));
            taken.targets.extend(self.targets.remove_entry(tag));
        }
        taken
    }

    /// Returns the index that a tag pointed to.
    pub(super) fn index(&self, tag: &Tag) -> Option<&Manifest> {
        self.indexes.get(tag)
    }

    /// Returns the descriptor of the manifest that a target tag pointed to.
    pub(super) fn target(&self, tag: &Tag) -> Option<&Descriptor> {
        self.targets.get(tag)
    }
}

#[cfg(test)]
mod tests {
    use oci_registry::{Index, Memory};

    use super::*;

    fn manifest(text: &str) -> Manifest {
        let mut index = Index::new(None, vec![]);
        index.annotations.insert("a".into(), text.into());
        Manifest::from_index(index).unwrap()
    }

    async fn put(memory: &Memory, manifest: &Manifest, tag: &Tag) {
        memory.push_manifest(manifest).await.unwrap();
        memory.tag(manifest, tag).await.unwrap();
    }

    #[tokio::test]
    async fn stored_tags_that_were_taken_are_removed() {
        let memory = Memory::new();
        let (version, target): (Tag, Tag) = ("1".parse().unwrap(), "1__t".parse().unwrap());
        let (index, own) = (manifest("index"), manifest("own"));
        put(&memory, &index, &version).await;
        put(&memory, &own, &target).await;
        let tags = [version.clone(), target.clone()];
        let mut stored = StoredTags::read(&memory, &tags[..1], &tags[1..])
            .await
            .unwrap();

        // The stored state does not include later changes.
        put(&memory, &own, &version).await;
        let taken = stored.take(&tags);
        assert_eq!(taken.index(&version), Some(&index));
        assert_eq!(taken.target(&target).unwrap().digest, *own.digest());
        let nothing = stored.take(&tags);
        assert!(nothing.index(&version).is_none() && nothing.target(&target).is_none());
    }

    #[tokio::test]
    async fn absent_target_tag_is_reported_as_absent() {
        let memory = Memory::new();
        let (version, target): (Tag, Tag) = ("1".parse().unwrap(), "1__t".parse().unwrap());
        put(&memory, &manifest("index"), &version).await;
        let tags = [version.clone(), target.clone()];
        let mut stored = StoredTags::read(&memory, &tags[..1], &tags[1..])
            .await
            .unwrap();
        assert!(stored.has_absent(&tags) && !stored.has_absent(&tags[..1]));
        assert!(stored.take(&tags).target(&target).is_none());
    }
}
