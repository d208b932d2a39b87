//! Tree of the merged layers of an image.
//!
//! Applies the layers of an image in order. An entry replaces a lower entry with the same path, two directories are
//! merged, and a whiteout hides lower entries. A whiteout hides entries of lower layers only, regardless of its
//! position in its layer. Symbolic links in a path are followed and resolved within the root, as after `chroot`. The
//! tree contains no file content, only the position of each entry in the layers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use snafu::Snafu;

use crate::tarball::{Entry, Kind};

/// Prefix of a whiteout. The rest of the name is the name of the hidden entry (image-spec, `layer.md`, "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Name of the opaque whiteout, which hides the content of a directory in lower layers.
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";

/// Maximum total size of the names, link targets and attributes in the tree, in bytes.
const MAX_METADATA_BYTES: usize = 256 << 20;

/// Maximum number of path components that are resolved for one name, including the components of link targets.
const MAX_COMPONENTS: usize = 8192;

/// Maximum number of symbolic links that are followed for one name.
const MAX_LINKS: usize = 255;

/// Maximum number of nodes that all whiteouts together visit, as a multiple of the maximum number of entries. It limits
/// the time for whiteouts of large directories.
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
    /// Number of the last layer that contains this node.
    layer: usize,
    kind: NodeKind,
}

#[derive(Debug)]
enum NodeKind {
    /// Directory, with its entry from the last layer that contains an entry for it. `None` if the directory exists only
    /// as a parent.
    Directory(Option<Box<Entry>>),
    /// File, link or device. Several paths may share it as hard links.
    Other(Rc<Inode>),
}

#[derive(Debug)]
struct Inode {
    position: Position,
    kind: Kind,
    link: Vec<u8>,
}

/// Merged tree of the layers that were applied so far.
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
        self.apply_entry(position, entry).map_err(|problem| Error {
            path: name,
            problem,
        })
    }

    fn apply_entry(&mut self, position: Position, mut entry: Entry) -> Result<(), &'static str> {
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
            // Storage drivers such as aufs use names that start with `.wh..wh.` for metadata.
            if hidden.starts_with(WHITEOUT_PREFIX) {
                return Ok(());
            }
            require(
                !matches!(hidden, b"" | b"." | b".."),
                "the name of the hidden file is missing",
            )?;
            return match self.resolve(&parts)? {
                Some(directory) => self.hide(join(&directory, hidden), false),
                None => Ok(()),
            };
        }
        let parts: Vec<Vec<u8>> = parts.into_iter().map(<[u8]>::to_vec).collect();
        let directory = self.create_directories(&parts)?;
        let path = join(&directory, &last);
        if entry.kind == Kind::Directory {
            entry.path.clear();
            return self.put_directory(path, Some(Box::new(entry)));
        }
        self.remove(&path);
        let inode = if entry.kind == Kind::HardLink {
            self.find_linked_inode(&entry.link)?
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
    fn find_linked_inode(&self, link: &[u8]) -> Result<Rc<Inode>, &'static str> {
        const MISSING: &str = "the target of the link does not exist";
        let mut parts = parts(link)?;
        let last = parts.pop().ok_or(MISSING)?;
        let directory = self.resolve(&parts)?.ok_or(MISSING)?;
        match self
            .nodes
            .get(&join(&directory, last))
            .map(|node| &node.kind)
        {
            Some(NodeKind::Other(inode)) => Ok(Rc::clone(inode)),
            Some(NodeKind::Directory(_)) => Err("it is a hard link to a directory"),
            None => Err(MISSING),
        }
    }

    fn put_directory(
        &mut self,
        path: Vec<u8>,
        entry: Option<Box<Entry>>,
    ) -> Result<(), &'static str> {
        if let Some(node) = self.nodes.get_mut(&path)
            && let NodeKind::Directory(existing) = &mut node.kind
        {
            if let Some(entry) = entry {
                self.metadata_bytes -= existing
                    .as_ref()
                    .map_or(0, |existing| metadata_size(existing));
                self.metadata_bytes += metadata_size(&entry);
                *existing = Some(entry);
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
        self.metadata_bytes += node_size(&path, &node);
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

    /// Removes a node and all nodes below it.
    fn remove(&mut self, path: &[u8]) {
        if let Some(node) = self.nodes.remove(path) {
            self.metadata_bytes -= node_size(path, &node);
            if let NodeKind::Directory(_) = node.kind {
                for name in self.paths_below(path) {
                    if let Some(node) = self.nodes.remove(&name) {
                        self.metadata_bytes -= node_size(&name, &node);
                    }
                }
            }
        }
    }

    /// Returns the paths below a directory.
    fn paths_below(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let names = self.nodes.range(range_below(directory));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Removes the nodes of lower layers at a path and below it. If `is_opaque` is set, the node at the path stays.
    /// Nodes of the current layer and their parent directories always stay.
    fn hide(&mut self, path: Vec<u8>, is_opaque: bool) -> Result<(), &'static str> {
        let is_hidden = ancestors(&path).any(|ancestor| self.hidden.contains(ancestor));
        if is_hidden || (is_opaque && self.hidden.contains(&path)) {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        let below = self.paths_below(&path);
        self.visits += below.len() + 1;
        let visits = self.limits.entries.saturating_mul(MAX_VISITS_PER_ENTRY);
        require(self.visits <= visits, "there are too many whiteouts")?;
        let own = (!is_opaque).then(|| path.clone());
        // The reverse order visits the content of a directory before the directory.
        for name in below.into_iter().rev().chain(own) {
            let Some(node) = self.nodes.get(&name) else {
                continue;
            };
            if node.layer == self.layer || needed.contains(&name) {
                if let Some(parent) = ancestors(&name).last() {
                    needed.insert(parent.to_vec());
                }
            } else if let Some(node) = self.nodes.remove(&name) {
                self.metadata_bytes -= node_size(&name, &node);
            }
        }
        self.hidden.insert(path);
        Ok(())
    }

    /// Resolves the path of a directory. Returns `None` if the directory does not exist.
    fn resolve(&self, parts: &[&[u8]]) -> Result<Option<Vec<u8>>, &'static str> {
        let parts = parts.iter().map(|part| part.to_vec()).collect();
        let mut walk = PathWalk::new(parts);
        Ok(match walk.step(self)? {
            Resolution::Resolved => Some(walk.at),
            Resolution::Missing(_) => None,
        })
    }

    /// Resolves the path of a directory, and creates missing directories.
    fn create_directories(&mut self, parts: &[Vec<u8>]) -> Result<Vec<u8>, &'static str> {
        let mut walk = PathWalk::new(parts.to_vec());
        loop {
            match walk.step(self)? {
                Resolution::Resolved => return Ok(walk.at),
                Resolution::Missing(path) => {
                    self.put_directory(path.clone(), None)?;
                    walk.at = path;
                }
            }
        }
    }

    /// Returns the entries of all directories, and the paths of all other nodes by the position of their entries in the
    /// layers.
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

/// Returns the entry of a directory that exists only as a parent.
fn implicit_directory() -> Entry {
    Entry {
        kind: Kind::Directory,
        mode: 0o755,
        ..Entry::file("", 0)
    }
}

/// Progress of resolving a path.
struct PathWalk {
    at: Vec<u8>,
    /// Remaining components in reverse order.
    rest: Vec<Vec<u8>>,
    steps: usize,
    links: usize,
}

enum Resolution {
    Resolved,
    /// Path of the first missing component. The resolution can continue after the caller has created a directory there.
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

    /// Resolves the remaining components, up to the first missing component.
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
                        "its path contains too many symbolic links",
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
        Ok(Resolution::Resolved)
    }
}

fn require(condition: bool, problem: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(problem) }
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

/// Returns the parent directories of a path, starting with the root. The result is empty for the root itself.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let root = (!path.is_empty()).then_some(&path[..0]);
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    root.into_iter().chain(slashes.map(|(at, _)| &path[..at]))
}

/// Returns the range of the paths below a directory.
fn range_below(directory: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    if directory.is_empty() {
        return (Bound::Excluded(Vec::new()), Bound::Unbounded);
    }
    let end = |byte| Bound::Excluded([directory, &[byte]].concat());
    (end(b'/'), end(b'/' + 1))
}

/// Returns the combined size of an entry's link target and attributes, in bytes.
fn metadata_size(entry: &Entry) -> usize {
    let attributes = entry.attributes.iter();
    attributes
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>()
        + entry.link.len()
}

/// Returns the combined size of a node's path and metadata, in bytes.
fn node_size(path: &[u8], node: &Node) -> usize {
    let own = match &node.kind {
        NodeKind::Directory(entry) => entry.as_ref().map_or(0, |entry| metadata_size(entry)),
        NodeKind::Other(inode) => inode.link.len(),
    };
    path.len() + own
}
