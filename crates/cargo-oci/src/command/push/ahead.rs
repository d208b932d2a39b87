//! Asking the registry before the build what a publication asks first.
//!
//! A registry that is not there, or wants other credentials, is found before minutes of compiling and not after them. The
//! answers are kept and given when the publication asks, so that the question costs no request.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use oci_registry::{
    Blob, BlobStream, Delivery, Descriptor, Error, ErrorKind, Identifier, Manifest, MediaType,
    Reference, Result, Source, Tag, TagStream, Target,
};

/// A target that some questions were put to already. Each answer is given once; then the target is asked again.
#[derive(Debug)]
pub(super) struct Ahead {
    target: Arc<dyn Target>,
    manifests: Answers<Manifest>,
    resolved: Answers<Descriptor>,
}

/// Answers, "not found" among them, by question.
type Answers<T> = Mutex<HashMap<Identifier, Result<T>>>;

impl Ahead {
    /// Asks what `index` names, and whether each of `targets` names anything.
    ///
    /// # Errors
    ///
    /// Anything but "it is there" and "it is not".
    pub(super) async fn ask(
        target: Arc<dyn Target>,
        index: Tag,
        targets: Vec<Tag>,
    ) -> Result<Self> {
        let index = Identifier::Tag(index);
        let ask_target = async |tag: Tag| {
            let identifier = Identifier::Tag(tag);
            let answer = target.resolve(&identifier).await;
            (identifier, answer)
        };
        let targets = futures_util::future::join_all(targets.into_iter().map(ask_target));
        let (manifest, resolved) =
            futures_util::future::join(target.manifest(&index), targets).await;
        let manifests = HashMap::from([(index, known(manifest)?)]);
        let resolved: Result<_> = resolved
            .into_iter()
            .map(|(asked, answer)| Ok((asked, known(answer)?)))
            .collect();
        Ok(Self {
            manifests: Mutex::new(manifests),
            resolved: Mutex::new(resolved?),
            target,
        })
    }
}

impl Ahead {
    /// The target itself, when `tag` is known to name nothing there: whatever is to be named so has to be sent.
    pub(super) fn wanting(&self, tag: &Tag) -> Option<Arc<dyn Target>> {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = resolved.get(&Identifier::Tag(tag.clone()))?;
        answer.is_err().then(|| Arc::clone(&self.target))
    }
}

/// An answer that settles the question, whichever way.
fn known<T>(answer: Result<T>) -> Result<Result<T>> {
    match answer {
        Err(error) if error.kind() != ErrorKind::NotFound => Err::<_, Error>(error),
        settled => Ok(settled),
    }
}

fn take<T>(answers: &Answers<T>, identifier: &Identifier) -> Option<Result<T>> {
    answers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(identifier)
}

#[async_trait]
impl Source for Ahead {
    async fn manifest(&self, identifier: &Identifier) -> Result<Manifest> {
        match take(&self.manifests, identifier) {
            Some(answer) => answer,
            None => self.target.manifest(identifier).await,
        }
    }

    async fn resolve(&self, identifier: &Identifier) -> Result<Descriptor> {
        match take(&self.resolved, identifier) {
            Some(answer) => answer,
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

    async fn push_file(&self, media_type: MediaType, path: &Path) -> Result<(Blob, Delivery)> {
        self.target.push_file(media_type, path).await
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
    use oci_registry::{Index, Memory, Optional};

    use super::*;

    #[tokio::test]
    async fn an_answer_is_given_once() {
        let memory = Memory::new();
        let (version, target): (Tag, Tag) =
            ("1".parse().expect("a tag"), "1__t".parse().expect("a tag"));
        let ahead = Ahead::ask(
            Arc::new(memory.clone()),
            version.clone(),
            vec![target.clone()],
        )
        .await
        .expect("memory");
        let manifest = Manifest::from_index(Index::new(None, vec![])).expect("a small index");
        memory.push_manifest(&manifest).await.expect("memory");
        memory.tag(&manifest, &version).await.expect("memory");
        let ask = async || {
            ahead
                .manifest(&version.clone().into())
                .await
                .optional()
                .expect("memory")
        };
        assert!(ask().await.is_none(), "as it was");
        assert!(ask().await.is_some(), "as it is");
        assert!(
            ahead
                .resolve(&target.into())
                .await
                .optional()
                .expect("memory")
                .is_none()
        );
    }
}
