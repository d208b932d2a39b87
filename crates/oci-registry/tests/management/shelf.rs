//! A repository as a registry keeps it: enough of one to see what is left after a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use oci_registry::{Digest, Manifest};

use crate::scripted::{Asked, Reply, Server};

/// What the registry lets people delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletes {
    Everything,
    /// Manifests, blobs, and no tags: for those there is this status.
    NoTags(u16),
    /// Nothing: this status.
    Nothing(u16),
}

#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) deletes: Deletes,
    pub(crate) manifests: BTreeMap<String, Manifest>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) blobs: Vec<String>,
}

/// A shelf that a server serves.
pub(crate) struct Served {
    pub(crate) server: Server,
    shelf: Arc<Mutex<Shelf>>,
}

impl Served {
    /// What is there now.
    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }

    /// What a tag names now.
    pub(crate) fn tagged(&self, tag: &str) -> Option<Manifest> {
        self.shelf().find(tag).cloned()
    }

    /// How many requests of this method for something that ends so were sent.
    pub(crate) fn count(&self, method: &str, end: &str) -> usize {
        let asked = self.server.asked();
        let same = |asked: &&Asked| asked.method == method && asked.target.ends_with(end);
        asked.iter().filter(same).count()
    }
}

impl Shelf {
    /// Serves an empty shelf without lists of referrers. The script may answer in its place; it sees how many requests
    /// with the same method and path came before.
    pub(crate) async fn serve(
        deletes: Deletes,
        script: impl Fn(&Asked, usize, &mut Self) -> Option<Reply> + Send + Sync + 'static,
    ) -> Served {
        let shelf = Arc::new(Mutex::new(Self {
            deletes,
            manifests: BTreeMap::new(),
            tags: BTreeMap::new(),
            blobs: Vec::new(),
        }));
        let serving = Arc::clone(&shelf);
        let server = Server::start(move |asked, before| {
            let mut shelf = serving.lock().unwrap();
            script(asked, before, &mut shelf).unwrap_or_else(|| shelf.answer(asked))
        })
        .await;
        Served { server, shelf }
    }

    pub(crate) fn put(&mut self, name: &str, manifest: &Manifest) {
        let digest = manifest.digest().to_string();
        if name != digest {
            self.tags.insert(name.to_owned(), digest.clone());
        }
        self.manifests.insert(digest, manifest.clone());
    }

    fn find(&self, name: &str) -> Option<&Manifest> {
        self.manifests
            .get(self.tags.get(name).map_or(name, String::as_str))
    }

    pub(crate) fn answer(&mut self, asked: &Asked) -> Reply {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        if path == "/v2/" {
            return Reply::new(200);
        }
        if path == "/upload" {
            let digest = query.strip_prefix("digest=").unwrap().replace("%3A", ":");
            self.blobs.push(digest);
            return Reply::new(201);
        }
        // A client that is turned away without a reason asks at the root for one.
        let Some(rest) = path.strip_prefix("/v2/acme/widgets/") else {
            return Reply::new(200);
        };
        let (kind, name) = rest.split_once('/').unwrap();
        match (asked.method.as_str(), kind) {
            ("POST", "blobs") => Reply::new(202).header("Location", "/upload"),
            ("HEAD", "blobs") if self.blobs.iter().any(|digest| digest == name) => Reply::new(200),
            ("GET" | "HEAD", "manifests") => match self.find(name) {
                Some(manifest) => crate::served(manifest),
                None => Reply::new(404)
                    .body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#),
            },
            ("PUT", "manifests") => {
                let body = asked.body.clone().into();
                let manifest = Manifest::parse(body, asked.header("content-type")).unwrap();
                self.put(name, &manifest);
                Reply::new(201).header("Docker-Content-Digest", manifest.digest())
            }
            ("DELETE", _) => self.delete(kind, name),
            _ => Reply::new(404).body("404 page not found\n"),
        }
    }

    fn delete(&mut self, kind: &str, name: &str) -> Reply {
        let is_tag = kind == "manifests" && name.parse::<Digest>().is_err();
        let gone = match self.deletes {
            Deletes::Nothing(status) => return Reply::new(status),
            Deletes::NoTags(status) if is_tag => return Reply::new(status),
            _ if is_tag => self.tags.remove(name).is_some(),
            _ if kind == "manifests" => {
                self.tags.retain(|_, named| named != name);
                self.manifests.remove(name).is_some()
            }
            _ => {
                let before = self.blobs.len();
                self.blobs.retain(|digest| digest != name);
                self.blobs.len() < before
            }
        };
        Reply::new(if gone { 202 } else { 404 })
    }
}
