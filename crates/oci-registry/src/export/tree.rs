//! The tree that layers make, one on top of the other.
//!
//! Owns what a layer does to those below: what it replaces, joins, and whites out. A whiteout hides what lower layers
//! hold, and nothing of its own layer, wherever it stands in it. Names are resolved as a kernel would within the root:
//! links on the way to a name are followed and never lead out. There is no content here, only where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use snafu::Snafu;

use crate::tarball::{Entry, Kind};

/// What precedes the name of what is hidden.
const WHITEOUT: &[u8] = b".wh.";

/// The whiteout of all that lower layers have in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Most bytes of names, links and attributes that are remembered.
const MAX_WORDS: usize = 256 << 20;

/// Most parts of a name, and of the links on its way, that are looked at.
const MAX_STEPS: usize = 8192;

/// Most links on the way to a name.
const MAX_LINKS: usize = 255;

/// How often each entry may be looked at for whiteouts, on average.
const MAX_LOOKS: usize = 100;

#[derive(Debug, Snafu)]
#[snafu(display("refused the entry `{}`: {problem}", path.escape_ascii()))]
pub(crate) struct Error {
    path: Vec<u8>,
    problem: &'static str,
}

/// How large the tree may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    entries: usize,
    words: usize,
}

impl Limits {
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            entries,
            words: MAX_WORDS,
        }
    }
}

/// Where an entry is: its layer, and its number there.
pub(crate) type Place = (usize, usize);

/// What a name stands for.
#[derive(Debug)]
struct Node {
    /// The layer that has it last.
    layer: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Its own entry is told by the layer that has it; a directory that is only on the way to others has none.
    Directory(Option<Box<Entry>>),
    /// What several names may share.
    Other(Rc<Inode>),
}

#[derive(Debug)]
struct Inode {
    place: Place,
    kind: Kind,
    link: Vec<u8>,
}

/// The tree so far.
#[derive(Debug)]
pub(crate) struct Tree {
    limits: Limits,
    /// By names without dots and doubled slashes; a directory stands before what is in it. The root is the empty name.
    nodes: BTreeMap<Vec<u8>, Node>,
    layer: usize,
    /// What the current layer hides.
    hidden: BTreeSet<Vec<u8>>,
    entries: usize,
    words: usize,
    looks: usize,
}

impl Tree {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            nodes: BTreeMap::new(),
            layer: 0,
            hidden: BTreeSet::new(),
            entries: 0,
            words: 0,
            looks: 0,
        }
    }

    /// What comes now is of the next layer.
    pub(crate) fn next_layer(&mut self) {
        self.layer += 1;
        self.hidden.clear();
    }

    /// Does what an entry of the current layer does.
    pub(crate) fn apply(&mut self, place: Place, entry: Entry) -> Result<(), Error> {
        let name = entry.path.clone();
        self.put(place, entry).map_err(|problem| Error {
            path: name,
            problem,
        })
    }

    fn put(&mut self, place: Place, mut entry: Entry) -> Result<(), &'static str> {
        self.entries += 1;
        require(self.entries <= self.limits.entries, "there are too many")?;
        let mut parts = parts(&entry.path)?;
        let Some(last) = parts.pop() else {
            require(entry.kind == Kind::Directory, "the root is a directory")?;
            return self.put_directory(Vec::new(), Some(Box::new(entry)));
        };
        let last = last.to_vec();
        if last == OPAQUE {
            return match self.resolve(&parts)? {
                Some(directory) => self.hide(directory, true),
                None => Ok(()),
            };
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            // Others keep their own accounts under such names.
            if hidden.starts_with(WHITEOUT) {
                return Ok(());
            }
            require(!matches!(hidden, b"" | b"." | b".."), "it hides nothing")?;
            return match self.resolve(&parts)? {
                Some(directory) => self.hide(join(&directory, hidden), false),
                None => Ok(()),
            };
        }
        let parts: Vec<Vec<u8>> = parts.into_iter().map(<[u8]>::to_vec).collect();
        let directory = self.make(&parts)?;
        let path = join(&directory, &last);
        if entry.kind == Kind::Directory {
            entry.path.clear();
            return self.put_directory(path, Some(Box::new(entry)));
        }
        self.remove(&path);
        let inode = if entry.kind == Kind::HardLink {
            self.linked(&entry.link)?
        } else {
            Rc::new(Inode {
                place,
                kind: entry.kind,
                link: if entry.kind == Kind::Symlink {
                    entry.link
                } else {
                    Vec::new()
                },
            })
        };
        self.insert(path, What::Other(inode))
    }

    /// What a hard link leads to, which must be there.
    fn linked(&self, link: &[u8]) -> Result<Rc<Inode>, &'static str> {
        const NOTHING: &str = "it is a link to nothing";
        let mut parts = parts(link)?;
        let last = parts.pop().ok_or(NOTHING)?;
        let directory = self.resolve(&parts)?.ok_or(NOTHING)?;
        match self
            .nodes
            .get(&join(&directory, last))
            .map(|node| &node.what)
        {
            Some(What::Other(inode)) => Ok(Rc::clone(inode)),
            Some(What::Directory(_)) => Err("it is a hard link to a directory"),
            None => Err(NOTHING),
        }
    }

    fn put_directory(
        &mut self,
        path: Vec<u8>,
        entry: Option<Box<Entry>>,
    ) -> Result<(), &'static str> {
        if let Some(node) = self.nodes.get_mut(&path)
            && let What::Directory(held) = &mut node.what
        {
            if let Some(entry) = entry {
                self.words -= held.as_ref().map_or(0, |held| words(held));
                self.words += words(&entry);
                *held = Some(entry);
                node.layer = self.layer;
            }
            return require(self.words <= self.limits.words, "there are too many words");
        }
        self.remove(&path);
        self.insert(path, What::Directory(entry))
    }

    fn insert(&mut self, path: Vec<u8>, what: What) -> Result<(), &'static str> {
        let node = Node {
            layer: self.layer,
            what,
        };
        self.words += weight(&path, &node);
        let previous = self.nodes.insert(path, node);
        debug_assert!(previous.is_none(), "what was there was removed");
        require(
            self.nodes.len() <= self.limits.entries,
            "there are too many",
        )?;
        require(self.words <= self.limits.words, "there are too many words")
    }

    /// Takes away what a name stands for, with all that is in it.
    fn remove(&mut self, path: &[u8]) {
        if let Some(node) = self.nodes.remove(path) {
            self.words -= weight(path, &node);
            if let What::Directory(_) = node.what {
                for name in self.below(path) {
                    if let Some(node) = self.nodes.remove(&name) {
                        self.words -= weight(&name, &node);
                    }
                }
            }
        }
    }

    /// The names below a directory.
    fn below(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let names = self.nodes.range(range(directory));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Hides what lower layers have under a name, or only what they have in it. What the current layer has stays, and the
    /// directories on the way to it.
    fn hide(&mut self, path: Vec<u8>, is_opaque: bool) -> Result<(), &'static str> {
        let is_hidden = ancestors(&path).any(|ancestor| self.hidden.contains(ancestor));
        if is_hidden || (is_opaque && self.hidden.contains(&path)) {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        let below = self.below(&path);
        self.looks += below.len() + 1;
        let looks = self.limits.entries.saturating_mul(MAX_LOOKS);
        require(self.looks <= looks, "there are too many whiteouts")?;
        let own = (!is_opaque).then(|| path.clone());
        // What is in a directory stands behind it.
        for name in below.into_iter().rev().chain(own) {
            let Some(node) = self.nodes.get(&name) else {
                continue;
            };
            if node.layer == self.layer || needed.contains(&name) {
                if let Some(parent) = ancestors(&name).last() {
                    needed.insert(parent.to_vec());
                }
            } else if let Some(node) = self.nodes.remove(&name) {
                self.words -= weight(&name, &node);
            }
        }
        self.hidden.insert(path);
        Ok(())
    }

    /// What directory a name means, when it is there.
    fn resolve(&self, parts: &[&[u8]]) -> Result<Option<Vec<u8>>, &'static str> {
        let parts = parts.iter().map(|part| part.to_vec()).collect();
        let mut walk = Walk::new(parts);
        Ok(match walk.step(self)? {
            Step::Arrived => Some(walk.at),
            Step::Missing(_) => None,
        })
    }

    /// What directory a name means; what is missing on the way is made.
    fn make(&mut self, parts: &[Vec<u8>]) -> Result<Vec<u8>, &'static str> {
        let mut walk = Walk::new(parts.to_vec());
        loop {
            match walk.step(self)? {
                Step::Arrived => return Ok(walk.at),
                Step::Missing(path) => {
                    self.put_directory(path.clone(), None)?;
                    walk.at = path;
                }
            }
        }
    }

    /// The directories, ready to be written, and the names of everything else by where its content is.
    pub(crate) fn into_parts(self) -> (Vec<Entry>, BTreeMap<Place, Vec<Vec<u8>>>) {
        let mut directories = Vec::new();
        let mut others = BTreeMap::<_, Vec<_>>::new();
        for (path, node) in self.nodes {
            match node.what {
                What::Directory(entry) => {
                    let mut entry = entry.map_or_else(on_the_way, |entry| *entry);
                    entry.path = if path.is_empty() { b".".to_vec() } else { path };
                    entry.path.push(b'/');
                    directories.push(entry);
                }
                What::Other(inode) => others.entry(inode.place).or_default().push(path),
            }
        }
        (directories, others)
    }
}

/// A directory that no layer tells about.
fn on_the_way() -> Entry {
    Entry {
        kind: Kind::Directory,
        mode: 0o755,
        ..Entry::file("", 0)
    }
}

/// A way through the tree.
struct Walk {
    at: Vec<u8>,
    /// The parts still to go, the next one last.
    rest: Vec<Vec<u8>>,
    steps: usize,
    links: usize,
}

enum Step {
    Arrived,
    /// There is nothing under this name, and the way goes on below it.
    Missing(Vec<u8>),
}

impl Walk {
    fn new(mut parts: Vec<Vec<u8>>) -> Self {
        parts.reverse();
        Self {
            at: Vec::new(),
            rest: parts,
            steps: 0,
            links: 0,
        }
    }

    /// Goes on to the end, or to the next name that is missing.
    fn step(&mut self, tree: &Tree) -> Result<Step, &'static str> {
        while let Some(part) = self.rest.pop() {
            self.steps += 1;
            require(self.steps <= MAX_STEPS, "the way to it is too long")?;
            if part == b".." {
                let parent = ancestors(&self.at).last().unwrap_or_default().len();
                self.at.truncate(parent);
                continue;
            }
            let path = join(&self.at, &part);
            match tree.nodes.get(&path).map(|node| &node.what) {
                None => return Ok(Step::Missing(path)),
                Some(What::Directory(_)) => self.at = path,
                Some(What::Other(inode)) if inode.kind == Kind::Symlink => {
                    self.links += 1;
                    require(
                        self.links <= MAX_LINKS,
                        "there are too many links on the way to it",
                    )?;
                    if inode.link.starts_with(b"/") {
                        self.at.clear();
                    }
                    let parts = inode.link.split(|byte| *byte == b'/').rev();
                    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                    self.rest.extend(parts.map(<[u8]>::to_vec));
                }
                Some(What::Other(_)) => return Err("it is below what is no directory"),
            }
        }
        Ok(Step::Arrived)
    }
}

fn require(holds: bool, problem: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(problem) }
}

/// The parts of a name; a leading slash means the root, where names begin anyway.
fn parts(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let parts = name.split(|byte| *byte == b'/');
    let parts: Vec<_> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
    require(!parts.contains(&&b".."[..]), "it leads elsewhere")?;
    Ok(parts)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}

/// The directories that a name is in, from the outermost; the root is in none, and everything else is in the root.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let root = (!path.is_empty()).then_some(&path[..0]);
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    root.into_iter().chain(slashes.map(|(at, _)| &path[..at]))
}

/// Where the names below a directory are.
fn range(directory: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    if directory.is_empty() {
        return (Bound::Excluded(Vec::new()), Bound::Unbounded);
    }
    let end = |byte| Bound::Excluded([directory, &[byte]].concat());
    (end(b'/'), end(b'/' + 1))
}

/// What remembering an entry costs, in bytes.
fn words(entry: &Entry) -> usize {
    let attributes = entry.attributes.iter();
    attributes
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>()
        + entry.link.len()
}

fn weight(path: &[u8], node: &Node) -> usize {
    let own = match &node.what {
        What::Directory(entry) => entry.as_ref().map_or(0, |entry| words(entry)),
        What::Other(inode) => inode.link.len(),
    };
    path.len() + own
}
