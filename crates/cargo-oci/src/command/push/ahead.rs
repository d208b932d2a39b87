//! Asking the registry before the build what a publication asks first.
//!
//! A registry that is not there, or wants other credentials, is found before minutes of compiling and not after them. What
//! was found is kept and given when the publication asks, so that an unchanged push costs no request more. What was
//! absent is asked again: another job may have published it during the build.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use oci_registry::{
    Blob, BlobStream, Delivery, Descriptor, Identifier, Manifest, MediaType, Meter, Optional,
    Reference, Result, Source, Tag, TagStream, Target,
};

/// A target that some questions were put to already. Each answer is given once; then the target is asked again.
#[derive(Debug)]
pub(super) struct Ahead {
    target: Arc<dyn Target>,
    manifests: Answers<Manifest>,
    resolved: Answers<Descriptor>,
    absent: HashSet<Identifier>,
}

/// What was found, by question.
type Answers<T> = Mutex<HashMap<Identifier, T>>;

impl Ahead {
    /// Asks what each of `indexes` names, and whether each of `targets` names anything.
    ///
    /// # Errors
    ///
    /// Anything but "it is there" and "it is not".
    pub(super) async fn ask(
        target: Arc<dyn Target>,
        indexes: Vec<Tag>,
        targets: Vec<Tag>,
    ) -> Result<Self> {
        let ask_index = async |tag: Tag| {
            let identifier = Identifier::Tag(tag);
            let answer = target.manifest(&identifier).await;
            (identifier, answer)
        };
        let ask_target = async |tag: Tag| {
            let identifier = Identifier::Tag(tag);
            let answer = target.resolve(&identifier).await;
            (identifier, answer)
        };
        let targets = futures_util::future::join_all(targets.into_iter().map(ask_target));
        let indexes = futures_util::future::join_all(indexes.into_iter().map(ask_index));
        let (indexes, resolved) = futures_util::future::join(indexes, targets).await;
        let mut manifests = HashMap::new();
        for (asked, answer) in indexes {
            if let Some(manifest) = answer.optional()? {
                manifests.insert(asked, manifest);
            }
        }
        let (mut found, mut absent) = (HashMap::new(), HashSet::new());
        for (asked, answer) in resolved {
            match answer.optional()? {
                Some(descriptor) => {
                    found.insert(asked, descriptor);
                }
                None => {
                    absent.insert(asked);
                }
            }
        }
        Ok(Self {
            target,
            manifests: Mutex::new(manifests),
            resolved: Mutex::new(found),
            absent,
        })
    }

    /// The target itself, when one of `tags` named nothing there: whatever is to be named so will have to be sent.
    pub(super) fn wanting_any(&self, tags: &[Tag]) -> Option<Arc<dyn Target>> {
        tags.iter()
            .any(|tag| self.absent.contains(&Identifier::Tag(tag.clone())))
            .then(|| Arc::clone(&self.target))
    }
}

fn take<T>(answers: &Answers<T>, identifier: &Identifier) -> Option<T> {
    answers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(identifier)
}

#[async_trait]
impl Source for Ahead {
    async fn manifest(&self, identifier: &Identifier) -> Result<Manifest> {
        match take(&self.manifests, identifier) {
            Some(answer) => Ok(answer),
            None => self.target.manifest(identifier).await,
        }
    }

    async fn resolve(&self, identifier: &Identifier) -> Result<Descriptor> {
        match take(&self.resolved, identifier) {
            Some(answer) => Ok(answer),
            None => self.target.resolve(identifier).await,
        }
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobStream> {
        self.target.blob(descriptor).await
    }

    fn origin(&self) -> Option<&Reference> {
        self.target.origin()
    }

    fn tags(&self) -> TagStream {
        self.target.tags()
    }

    fn describe(&self, identifier: &Identifier) -> String {
        self.target.describe(identifier)
    }
}

#[async_trait]
impl Target for Ahead {
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool> {
        self.target.exists(descriptor).await
    }

    async fn push_blob(&self, blob: &Blob) -> Result<Delivery> {
        self.target.push_blob(blob).await
    }

    async fn push_file(
        &self,
        media_type: MediaType,
        path: &Path,
        meter: &Meter,
    ) -> Result<(Blob, Delivery)> {
        self.target.push_file(media_type, path, meter).await
    }

    async fn push_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.target.push_manifest(manifest).await
    }

    async fn tag(&self, manifest: &Manifest, tag: &Tag) -> Result<()> {
        self.target.tag(manifest, tag).await
    }

    async fn tag_once(&self, manifest: &Manifest, tag: &Tag) -> Result<()> {
        self.target.tag_once(manifest, tag).await
    }
}

#[cfg(test)]
mod tests {
    use oci_registry::{Index, Memory};

    use super::*;

    #[tokio::test]
    async fn what_was_found_is_given_once_and_what_was_absent_is_asked_again() {
        let memory = Memory::new();
        let (version, target): (Tag, Tag) =
            ("1".parse().expect("a tag"), "1__t".parse().expect("a tag"));
        let manifest = |text: &str| {
            let mut index = Index::new(None, vec![]);
            index.annotations.insert("a".into(), text.into());
            Manifest::from_index(index).expect("a small index")
        };
        let put = async |manifest: &Manifest, tag: &Tag| {
            memory.push_manifest(manifest).await.expect("memory");
            memory.tag(manifest, tag).await.expect("memory");
        };
        let (first, second) = (manifest("first"), manifest("second"));
        put(&first, &version).await;
        let asked = Ahead::ask(
            Arc::new(memory.clone()),
            vec![version.clone()],
            vec![target.clone()],
        )
        .await;
        let ahead = asked.expect("memory");
        let wanting = |tags: &[&Tag]| {
            let tags: Vec<_> = tags.iter().copied().cloned().collect();
            ahead.wanting_any(&tags).is_some()
        };
        assert!(wanting(&[&version, &target]) && !wanting(&[&version]));
        put(&second, &version).await;
        put(&second, &target).await;
        let version = version.into();
        assert_eq!(ahead.manifest(&version).await.expect("as it was"), first);
        assert_eq!(ahead.manifest(&version).await.expect("as it is"), second);
        assert_eq!(
            ahead
                .resolve(&target.into())
                .await
                .expect("as it is")
                .digest,
            *second.digest()
        );
    }
}
