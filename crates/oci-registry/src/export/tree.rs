//! Merged tree of the layers of an image.
//!
//! Implements the effect of a layer on the layers below it: entries replace or join lower ones, and whiteouts hide
//! them. A whiteout hides entries of lower layers only, regardless of its position in its own layer. Paths are resolved
//! as a kernel does within the root: symbolic links in a path are followed and never leave the root. The tree holds no
//! content, only the position of each entry in its layer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use snafu::Snafu;

use crate::tarball::{Entry, Kind};

/// Prefix of the name of a whiteout, before the name that it hides (image-spec, `layer.md`, "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Name of the opaque whiteout, which hides the content of a directory in lower layers.
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";

/// Maximum total size of the names, link targets and attributes in the tree, in bytes.
const MAX_METADATA_BYTES: usize = 256 << 20;

/// Maximum number of path components that are resolved for one name, including those of links.
const MAX_COMPONENTS: usize = 8192;

/// Maximum number of symbolic links that are followed for one name.
const MAX_LINKS: usize = 255;

/// Maximum number of visits for whiteouts, on average for each allowed entry.
const MAX_VISITS_PER_ENTRY: usize = 100;

#[derive(Debug, Snafu)]
#[snafu(display("invalid entry `{}`: {problem}", path.escape_ascii()))]
pub(crate) struct Error {
    path: Vec<u8>,
    problem: &'static str,
}

/// Limits on the size of the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    entries: usize,
    metadata_bytes: usize,
}

impl Limits {
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            entries,
            metadata_bytes: MAX_METADATA_BYTES,
        }
    }
}

/// Position of an entry: its layer, and its number in that layer.
pub(crate) type Position = (usize, usize);

/// Node of the tree.
#[derive(Debug)]
struct Node {
    /// Last layer that has this node.
    layer: usize,
    kind: NodeKind,
}

#[derive(Debug)]
enum NodeKind {
    /// Directory, with the entry of the last layer that has one. A directory that exists only as a parent has none.
    Directory(Option<Box<Entry>>),
    /// Any other inode, which several names may share.
    Other(Rc<Inode>),
}

#[derive(Debug)]
struct Inode {
    position: Position,
    kind: Kind,
    link: Vec<u8>,
}

/// Tree of the layers that were applied so far.
#[derive(Debug)]
pub(crate) struct Tree {
    limits: Limits,
    /// Nodes by normalized path, so a directory comes before its content. The path of the root is empty.
    nodes: BTreeMap<Vec<u8>, Node>,
    layer: usize,
    /// Paths that the current layer hides.
    hidden: BTreeSet<Vec<u8>>,
    entries: usize,
    metadata_bytes: usize,
    visits: usize,
}

impl Tree {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            nodes: BTreeMap::new(),
            layer: 0,
            hidden: BTreeSet::new(),
            entries: 0,
            metadata_bytes: 0,
            visits: 0,
        }
    }

    /// Starts the next layer.
    pub(crate) fn next_layer(&mut self) {
        self.layer += 1;
        self.hidden.clear();
    }

    /// Applies an entry of the current layer.
    pub(crate) fn apply(&mut self, position: Position, entry: Entry) -> Result<(), Error> {
        let name = entry.path.clone();
        self.put(position, entry).map_err(|problem| Error {
            path: name,
            problem,
        })
    }

    fn put(&mut self, position: Position, mut entry: Entry) -> Result<(), &'static str> {
        self.entries += 1;
        require(
            self.entries <= self.limits.entries,
            "there are too many entries",
        )?;
        let mut parts = parts(&entry.path)?;
        let Some(last) = parts.pop() else {
            require(
                entry.kind == Kind::Directory,
                "the root must be a directory",
            )?;
            return self.put_directory(Vec::new(), Some(Box::new(entry)));
        };
        let last = last.to_vec();
        if last == OPAQUE_WHITEOUT {
            return match self.resolve(&parts)? {
                Some(directory) => self.hide(directory, true),
                None => Ok(()),
            };
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT_PREFIX) {
            // Some storage drivers use these names for their own metadata.
            if hidden.starts_with(WHITEOUT_PREFIX) {
                return Ok(());
            }
            require(
                !matches!(hidden, b"" | b"." | b".."),
                "the whiteout names no file",
            )?;
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
                position,
                kind: entry.kind,
                link: if entry.kind == Kind::Symlink {
                    entry.link
                } else {
                    Vec::new()
                },
            })
        };
        self.insert(path, NodeKind::Other(inode))
    }

    /// Returns the inode that a hard link refers to.
    fn linked(&self, link: &[u8]) -> Result<Rc<Inode>, &'static str> {
        const NOTHING: &str = "the target of the link does not exist";
        let mut parts = parts(link)?;
        let last = parts.pop().ok_or(NOTHING)?;
        let directory = self.resolve(&parts)?.ok_or(NOTHING)?;
        match self
            .nodes
            .get(&join(&directory, last))
            .map(|node| &node.kind)
        {
            Some(NodeKind::Other(inode)) => Ok(Rc::clone(inode)),
            Some(NodeKind::Directory(_)) => Err("it is a hard link to a directory"),
            None => Err(NOTHING),
        }
    }

    fn put_directory(
        &mut self,
        path: Vec<u8>,
        entry: Option<Box<Entry>>,
    ) -> Result<(), &'static str> {
        if let Some(node) = self.nodes.get_mut(&path)
            && let NodeKind::Directory(held) = &mut node.kind
        {
            if let Some(entry) = entry {
                self.metadata_bytes -= held.as_ref().map_or(0, |held| metadata_size(held));
                self.metadata_bytes += metadata_size(&entry);
                *held = Some(entry);
                node.layer = self.layer;
            }
            return require(
                self.metadata_bytes <= self.limits.metadata_bytes,
                "names and attributes are too large",
            );
        }
        self.remove(&path);
        self.insert(path, NodeKind::Directory(entry))
    }

    fn insert(&mut self, path: Vec<u8>, kind: NodeKind) -> Result<(), &'static str> {
        let node = Node {
            layer: self.layer,
            kind,
        };
        self.metadata_bytes += weight(&path, &node);
        let previous = self.nodes.insert(path, node);
        debug_assert!(previous.is_none(), "the previous node was removed");
        require(
            self.nodes.len() <= self.limits.entries,
            "there are too many entries",
        )?;
        require(
            self.metadata_bytes <= self.limits.metadata_bytes,
            "names and attributes are too large",
        )
    }

    /// Removes a node and everything below it.
    fn remove(&mut self, path: &[u8]) {
        if let Some(node) = self.nodes.remove(path) {
            self.metadata_bytes -= weight(path, &node);
            if let NodeKind::Directory(_) = node.kind {
                for name in self.below(path) {
                    if let Some(node) = self.nodes.remove(&name) {
                        self.metadata_bytes -= weight(&name, &node);
                    }
                }
            }
        }
    }

    /// Returns the paths below a directory.
    fn below(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let names = self.nodes.range(range(directory));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Hides a path and everything below it in lower layers, or only what is below it if `is_opaque` is set. Nodes of
    /// the current layer and their parent directories stay.
    fn hide(&mut self, path: Vec<u8>, is_opaque: bool) -> Result<(), &'static str> {
        let is_hidden = ancestors(&path).any(|ancestor| self.hidden.contains(ancestor));
        if is_hidden || (is_opaque && self.hidden.contains(&path)) {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        let below = self.below(&path);
        self.visits += below.len() + 1;
        let visits = self.limits.entries.saturating_mul(MAX_VISITS_PER_ENTRY);
        require(self.visits <= visits, "there are too many whiteouts")?;
        let own = (!is_opaque).then(|| path.clone());
        // Reverse order: the content of a directory comes after the directory.
        for name in below.into_iter().rev().chain(own) {
            let Some(node) = self.nodes.get(&name) else {
                continue;
            };
            if node.layer == self.layer || needed.contains(&name) {
                if let Some(parent) = ancestors(&name).last() {
                    needed.insert(parent.to_vec());
                }
            } else if let Some(node) = self.nodes.remove(&name) {
                self.metadata_bytes -= weight(&name, &node);
            }
        }
        self.hidden.insert(path);
        Ok(())
    }

    /// Resolves a path to a directory; `None` if it does not exist.
    fn resolve(&self, parts: &[&[u8]]) -> Result<Option<Vec<u8>>, &'static str> {
        let parts = parts.iter().map(|part| part.to_vec()).collect();
        let mut walk = PathWalk::new(parts);
        Ok(match walk.step(self)? {
            Resolution::Arrived => Some(walk.at),
            Resolution::Missing(_) => None,
        })
    }

    /// Resolves a path to a directory and creates missing directories.
    fn make(&mut self, parts: &[Vec<u8>]) -> Result<Vec<u8>, &'static str> {
        let mut walk = PathWalk::new(parts.to_vec());
        loop {
            match walk.step(self)? {
                Resolution::Arrived => return Ok(walk.at),
                Resolution::Missing(path) => {
                    self.put_directory(path.clone(), None)?;
                    walk.at = path;
                }
            }
        }
    }

    /// Returns the entries of all directories, and the paths of everything else by the position of its content.
    pub(crate) fn into_parts(self) -> (Vec<Entry>, BTreeMap<Position, Vec<Vec<u8>>>) {
        let mut directories = Vec::new();
        let mut others = BTreeMap::<_, Vec<_>>::new();
        for (path, node) in self.nodes {
            match node.kind {
                NodeKind::Directory(entry) => {
                    let mut entry = entry.map_or_else(implicit_directory, |entry| *entry);
                    entry.path = if path.is_empty() { b".".to_vec() } else { path };
                    entry.path.push(b'/');
                    directories.push(entry);
                }
                NodeKind::Other(inode) => others.entry(inode.position).or_default().push(path),
            }
        }
        (directories, others)
    }
}

/// Entry of a directory that no layer contains.
fn implicit_directory() -> Entry {
    Entry {
        kind: Kind::Directory,
        mode: 0o755,
        ..Entry::file("", 0)
    }
}

/// Resolution of a path.
struct PathWalk {
    at: Vec<u8>,
    /// Remaining components, the next one last.
    rest: Vec<Vec<u8>>,
    steps: usize,
    links: usize,
}

enum Resolution {
    Arrived,
    /// Nothing exists at this path. The resolution can continue below it.
    Missing(Vec<u8>),
}

impl PathWalk {
    fn new(mut parts: Vec<Vec<u8>>) -> Self {
        parts.reverse();
        Self {
            at: Vec::new(),
            rest: parts,
            steps: 0,
            links: 0,
        }
    }

    /// Resolves up to the end, or up to the next missing component.
    fn step(&mut self, tree: &Tree) -> Result<Resolution, &'static str> {
        while let Some(part) = self.rest.pop() {
            self.steps += 1;
            require(
                self.steps <= MAX_COMPONENTS,
                "its path has too many components",
            )?;
            if part == b".." {
                let parent = ancestors(&self.at).last().unwrap_or_default().len();
                self.at.truncate(parent);
                continue;
            }
            let path = join(&self.at, &part);
            match tree.nodes.get(&path).map(|node| &node.kind) {
                None => return Ok(Resolution::Missing(path)),
                Some(NodeKind::Directory(_)) => self.at = path,
                Some(NodeKind::Other(inode)) if inode.kind == Kind::Symlink => {
                    self.links += 1;
                    require(
                        self.links <= MAX_LINKS,
                        "its path leads through too many links",
                    )?;
                    if inode.link.starts_with(b"/") {
                        self.at.clear();
                    }
                    let parts = inode.link.split(|byte| *byte == b'/').rev();
                    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                    self.rest.extend(parts.map(<[u8]>::to_vec));
                }
                Some(NodeKind::Other(_)) => return Err("its parent is not a directory"),
            }
        }
        Ok(Resolution::Arrived)
    }
}

fn require(holds: bool, problem: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(problem) }
}

/// Splits a path into its components. A leading slash has no effect, because all paths start at the root.
fn parts(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let parts = name.split(|byte| *byte == b'/');
    let parts: Vec<_> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
    require(!parts.contains(&&b".."[..]), "its path contains `..`")?;
    Ok(parts)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}

/// Returns the parent directories of a path, starting with the root. The root itself has none.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let root = (!path.is_empty()).then_some(&path[..0]);
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    root.into_iter().chain(slashes.map(|(at, _)| &path[..at]))
}

/// Returns the range of the paths below a directory.
fn range(directory: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    if directory.is_empty() {
        return (Bound::Excluded(Vec::new()), Bound::Unbounded);
    }
    let end = |byte| Bound::Excluded([directory, &[byte]].concat());
    (end(b'/'), end(b'/' + 1))
}

/// Returns the size of the link target and attributes of an entry in bytes.
fn metadata_size(entry: &Entry) -> usize {
    let attributes = entry.attributes.iter();
    attributes
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>()
        + entry.link.len()
}

fn weight(path: &[u8], node: &Node) -> usize {
    let own = match &node.kind {
        NodeKind::Directory(entry) => entry.as_ref().map_or(0, |entry| metadata_size(entry)),
        NodeKind::Other(inode) => inode.link.len(),
    };
    path.len() + own
}
