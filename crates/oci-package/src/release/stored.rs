//! The tags of a publication as they were read before it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future;
use oci_registry::{Descriptor, Identifier, Manifest, Optional as _, Tag, Target};

/// What tags named when they were read, for example before a build.
///
/// A publication takes the answers for tags that named something from here, so that reading them early costs no further
/// request. A tag that named nothing is read again: another job may have published it meanwhile.
#[derive(Clone, Debug, Default)]
pub struct StoredTags {
    indexes: BTreeMap<Tag, Manifest>,
    targets: BTreeMap<Tag, Descriptor>,
    absent: BTreeSet<Tag>,
}

impl StoredTags {
    /// Reads what each of `indexes` names, and resolves each of `targets`. One request for each tag, all at once.
    ///
    /// # Errors
    ///
    /// What `from` fails with, unless a tag does not exist.
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

    /// Whether one of the tags of targets named nothing, so that a publication under it sends its files.
    pub fn lacks_any(&self, targets: &[Tag]) -> bool {
        targets.iter().any(|tag| self.absent.contains(tag))
    }

    /// Moves the answers for these tags out. A publication changes what they name, so no second one may use them.
    #[must_use]
    pub fn take<'t>(&mut self, tags: impl IntoIterator<Item = &'t Tag>) -> Self {
        let mut taken = Self::default();
        for tag in tags {
            taken.indexes.extend(self.indexes.remove_entry(tag));
            taken.targets.extend(self.targets.remove_entry(tag));
        }
        taken
    }

    /// The manifest that the tag of an index named.
    pub(super) fn index(&self, tag: &Tag) -> Option<&Manifest> {
        self.indexes.get(tag)
    }

    /// The descriptor to which the tag of a target resolved.
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
    async fn tags_that_named_something_are_taken_once() {
        let memory = Memory::new();
        let (version, target): (Tag, Tag) = ("1".parse().unwrap(), "1__t".parse().unwrap());
        let (index, own) = (manifest("index"), manifest("own"));
        put(&memory, &index, &version).await;
        put(&memory, &own, &target).await;
        let tags = [version.clone(), target.clone()];
        let mut stored = StoredTags::read(&memory, &tags[..1], &tags[1..])
            .await
            .unwrap();

        // A later change is not seen.
        put(&memory, &own, &version).await;
        let taken = stored.take(&tags);
        assert_eq!(taken.index(&version), Some(&index));
        assert_eq!(taken.target(&target).unwrap().digest, *own.digest());
        let nothing = stored.take(&tags);
        assert!(nothing.index(&version).is_none() && nothing.target(&target).is_none());
    }

    #[tokio::test]
    async fn absent_target_is_lacking_and_not_stored() {
        let memory = Memory::new();
        let (version, target): (Tag, Tag) = ("1".parse().unwrap(), "1__t".parse().unwrap());
        put(&memory, &manifest("index"), &version).await;
        let tags = [version.clone(), target.clone()];
        let mut stored = StoredTags::read(&memory, &tags[..1], &tags[1..])
            .await
            .unwrap();
        assert!(stored.lacks_any(&tags) && !stored.lacks_any(&tags[..1]));
        assert!(stored.take(&tags).target(&target).is_none());
    }
}
