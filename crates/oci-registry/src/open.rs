//! Functions that open locations, and functions that separate the path and the name in a [`LocationText`]. The
//! separation depends on the files that exist.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use snafu::Snafu;

use crate::archive::Archive;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint, Optional, Result};
use crate::layout::{Layout, NamedEntry, tag_in_name};
use crate::memory::Memory;
use crate::reference::{ArchiveFormat, Location, LocationText, ParsedLocation, PathAndName, Tag};
use crate::registry::{Access, Client};
use crate::storage::{Delete, Source, Target};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to write `{}` to `{storage}`: the name in a layout or archive must be a tag, not a full image name",
        name.escape_debug()
    ))]
    NotATag { name: String, storage: Location },
    #[snafu(display("failed to read `{storage}:`: the name after the colon is missing"))]
    NoName { storage: Location },
    #[snafu(display("failed to delete `{written}`: the reference has both a tag and a digest"))]
    TagAndDigest {
        written: LocationText,
        tag: Tag,
        digest: Digest,
    },
    #[snafu(display("failed to delete `{written}`: several names end with `:{tag}`"))]
    SharedTag {
        written: LocationText,
        tag: Tag,
        manifest: Location,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::NotATag { name, storage } => {
                let tag = tag_in_name(name).map_or_else(|| "TAG".to_owned(), |tag| tag.to_string());
                format!("write `{storage}:{tag}`")
            }
            Self::NoName { storage } => format!("write `{storage}` or `{storage}:TAG`"),
            Self::TagAndDigest { tag, digest, .. } => {
                format!("remove `@{digest}` to delete the tag, or `:{tag}` to delete the manifest")
            }
            Self::SharedTag { manifest, .. } => {
                format!("write `{manifest}` to delete the manifest with all its names")
            }
        };
        vec![advice.into()]
    }
}

/// Separated path and name of a [`LocationText`].
struct SplitText<'a> {
    storage: Location,
    written: &'a PathAndName,
    name: Option<&'a str>,
}

impl SplitText<'_> {
    /// Returns the location if its name is a tag or absent. Otherwise returns the name as the error.
    fn to_location_with_tag(&self) -> std::result::Result<Location, &str> {
        let tag = match self.name.map(|name| name.parse::<Tag>().map_err(|_| name)) {
            Some(Err(name)) => return Err(name),
            Some(Ok(tag)) => Some(tag),
            None => None,
        };
        let digest = self.written.digest.clone();
        Ok(self.storage.clone().with_tag_and_digest(tag, digest))
    }
}

impl LocationText {
    /// Separates path and name. Relative paths are resolved against `base`. A full name is replaced by the tag that
    /// identifies the same manifest, or else by the digest of the manifest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the layout or archive has no entry with this full name, [`ErrorKind::InvalidInput`]
    /// if the name after the colon is missing, and the errors of [`Layout::open`] and [`Archive::open`].
    pub async fn locate(&self, base: &Path) -> Result<Location> {
        let split = match self.split_text(base) {
            Ok(split) => split,
            Err(location) => return Ok(location),
        };
        let name = match split.to_location_with_tag() {
            Ok(location) => return Ok(location),
            Err(name) => name,
        };
        let SplitText {
            storage, written, ..
        } = &split;
        if name.is_empty() {
            let storage = storage.clone();
            return Err(Error::NoName { storage }.into());
        }
        if let Some(digest) = &written.digest {
            let storage = storage.clone();
            return Ok(storage.with_tag_and_digest(tag_in_name(name), Some(digest.clone())));
        }
        let NamedEntry {
            tag,
            is_tagged,
            digest,
        } = match storage.clone().relative_to(base) {
            Location::Layout { directory, .. } => {
                Layout::open(directory).await?.find_name(name).await?
            }
            Location::Archive { file, format, .. } => {
                Archive::open(file, format).await?.find_name(name)?
            }
            Location::Registry(_) => unreachable!("a registry has no path"),
        };
        let digest = (!is_tagged).then_some(digest);
        Ok(storage.clone().with_tag_and_digest(tag, digest))
    }

    /// Separates path and name like [`LocationText::locate`], for a target. The name must be a tag, not a full image name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the name is not a tag.
    pub fn locate_target(&self, base: &Path) -> Result<Location> {
        let split = match self.split_text(base) {
            Ok(split) => split,
            Err(location) => return Ok(location),
        };
        split.to_location_with_tag().map_err(|name| {
            let (name, storage) = (name.to_owned(), split.storage.clone());
            Error::NotATag { name, storage }.into()
        })
    }

    /// Separates path and name like [`LocationText::locate`], for a deletion. The location has a tag, a digest, or
    /// neither.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the text has both a tag and a digest, or if it has a full name whose tag does not
    /// identify the manifest. In the second case, only the whole manifest could be deleted. Also the errors of
    /// [`LocationText::locate`].
    pub async fn locate_deletable(&self, base: &Path) -> Result<Location> {
        let location = self.locate(base).await?;
        let (Some(tag), Some(digest)) = (location.tag(), location.digest()) else {
            return Ok(location);
        };
        let (written, tag, digest) = (self.clone(), tag.clone(), digest.clone());
        let has_digest = match &self.0 {
            ParsedLocation::Complete(_) => true,
            ParsedLocation::Layout(written) | ParsedLocation::Archive(written) => {
                written.digest.is_some()
            }
        };
        let error = if has_digest {
            Error::TagAndDigest {
                written,
                tag,
                digest,
            }
        } else {
            let manifest = location.with(digest);
            Error::SharedTag {
                written,
                tag,
                manifest,
            }
        };
        Err(error.into())
    }

    /// Separates path and name. Returns the location as the error if its path is already known.
    fn split_text(&self, base: &Path) -> std::result::Result<SplitText<'_>, Location> {
        let is_layout = |path: &Path| base.join(path).join("oci-layout").is_file();
        let is_file = |path: &Path| base.join(path).is_file();
        let (storage, written, name) = match &self.0 {
            ParsedLocation::Complete(location) => return Err(location.clone()),
            ParsedLocation::Layout(written) => {
                let (path, name) = written.split(is_layout);
                (Location::layout(path), written, name)
            }
            ParsedLocation::Archive(written) => {
                let (path, name) = written.split(is_file);
                (Location::archive(path, ArchiveFormat::Oci), written, name)
            }
        };
        Ok(SplitText {
            storage,
            written,
            name,
        })
    }
}

/// Purpose for which [`Client::open_target`] opens a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Writes content. A layout that does not exist is created. An archive is written whenever a tag is set.
    Write,
    /// Writes content as with [`Mode::Write`], except that an archive is written only by [`Target::complete`].
    WriteOnce,
    /// Changes content. The layout or archive must exist.
    Existing,
    /// Compares existing content with a planned write. A layout that does not exist counts as empty and is not created.
    Plan,
}

impl Client {
    /// Opens a location for reading. Relative paths are resolved against `base`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the layout or archive does not exist, and the errors of [`Layout::open`] and
    /// [`Archive::open`].
    pub async fn open_source(&self, location: &Location, base: &Path) -> Result<Arc<dyn Source>> {
        Ok(match location {
            Location::Registry(reference) => Arc::new(self.repository(reference, Access::Pull)?),
            Location::Layout { directory, .. } => {
                Arc::new(self.open_layout(base.join(directory)).await?)
            }
            Location::Archive { file, format, .. } => {
                Arc::new(self.open_archive(base.join(file), format).await?)
            }
        })
    }

    /// Opens a location as a target. Relative paths are resolved against `base`.
    ///
    /// # Errors
    ///
    /// With [`Mode::Existing`], the errors of [`Client::open_source`]. With [`Mode::Plan`], the errors of
    /// [`Layout::open`] for an existing layout, and of [`Archive::create`]. With other modes, the errors of
    /// [`Layout::create`] and [`Archive::create`].
    pub async fn open_target(
        &self,
        location: &Location,
        base: &Path,
        mode: Mode,
    ) -> Result<Arc<dyn Target>> {
        match location {
            Location::Registry(reference) => {
                Ok(Arc::new(self.repository(reference, Access::Push)?))
            }
            Location::Layout { directory, .. } => {
                self.open_layout_target(base.join(directory), mode).await
            }
            Location::Archive { file, format, .. } => {
                let file = base.join(file);
                let archive = match mode {
                    Mode::Write | Mode::Plan => self.create_archive(file, format).await?,
                    Mode::WriteOnce => self.create_archive(file, format).await?.with_single_write(),
                    Mode::Existing => self.open_archive(file, format).await?,
                };
                Ok(Arc::new(archive))
            }
        }
    }

    /// Opens a location for deletion. Returns `None` for an archive, which does not support deletion.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::open_source`].
    pub async fn open_deletable(
        &self,
        location: &Location,
        base: &Path,
    ) -> Result<Option<Arc<dyn Delete>>> {
        Ok(match location {
            Location::Registry(reference) => {
                Some(Arc::new(self.repository(reference, Access::Push)?))
            }
            Location::Layout { directory, .. } => {
                Some(Arc::new(self.open_layout(base.join(directory)).await?))
            }
            Location::Archive { .. } => None,
        })
    }

    async fn open_layout_target(&self, directory: PathBuf, mode: Mode) -> Result<Arc<dyn Target>> {
        let layout = match mode {
            Mode::Write | Mode::WriteOnce => {
                let layout = Layout::create(directory).await?;
                layout.with_observer(self.observer().clone())
            }
            Mode::Existing => self.open_layout(directory).await?,
            Mode::Plan => match self.open_layout(directory).await.optional()? {
                Some(layout) => layout,
                None => return Ok(Arc::new(Memory::new())),
            },
        };
        Ok(Arc::new(layout))
    }

    async fn open_layout(&self, directory: PathBuf) -> Result<Layout> {
        let layout = Layout::open(directory).await?;
        Ok(layout.with_observer(self.observer().clone()))
    }

    async fn open_archive(&self, file: PathBuf, format: &ArchiveFormat) -> Result<Archive> {
        let archive = Archive::open(file, format.clone()).await?;
        Ok(archive.with_observer(self.observer().clone()))
    }

    async fn create_archive(&self, file: PathBuf, format: &ArchiveFormat) -> Result<Archive> {
        let archive = Archive::create(file, format.clone()).await?;
        Ok(archive.with_observer(self.observer().clone()))
    }
}
