//! Parser for the manifest of a package for one target triple, and for the files of any artifact.
//!
//! A manifest belongs to a package if it has the artifact type of this format. Some mirrors drop the artifact type; in
//! this case, the annotations are checked instead. This module sends no requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oci_registry::{
    Descriptor, ErrorKind, Failure, FileEntry, FileName, ImageManifest, Manifest, Platform,
};
use semver::Version;
use snafu::{ResultExt, Snafu};

use crate::annotation;
use crate::kind::FileKind;
use crate::media;
use crate::name::find_duplicate;
use crate::platform::{self, GlibcVersion, Libc};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read the files of a manifest: the layer {} has an unsafe file name", layer.digest))]
    UnsafeName {
        layer: Box<Descriptor>,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "failed to read the files of a manifest: the file names `{first}` and `{second}` conflict"
    ))]
    SameName { first: FileName, second: FileName },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnsafeName { source, .. } => source.kind(),
            Self::SameName { .. } => ErrorKind::Mismatch,
        }
    }
}

/// Metadata of a package for one target, parsed from its manifest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PackageTarget {
    /// Name of the package.
    pub name: Option<String>,
    /// Version of the package.
    pub version: Option<Version>,
    /// Target triple.
    pub target: String,
    /// Cargo profile.
    pub profile: Option<String>,
    /// Platform, including the required C library.
    pub platform: Option<Platform>,
    /// C library that the files of a Linux target require.
    pub libc: Option<Libc>,
    /// Lowest version of glibc that the files run with.
    pub glibc: Option<GlibcVersion>,
    /// Commit that the files were built from.
    pub revision: Option<String>,
    /// Total size of config and layers, in bytes.
    pub size: u64,
}

impl PackageTarget {
    /// Parses a manifest. Returns `None` if it is not a package for one target.
    pub fn read(manifest: &Manifest) -> Option<Self> {
        let image = manifest.as_image()?;
        let find = |key: &str| image.annotations.get(key).map(String::as_str);
        // A manifest without `artifactType` is recognized by the annotation of its target. A manifest with a different
        // artifact type is not a package, even if it has that annotation.
        if image
            .artifact_type
            .as_ref()
            .is_some_and(|found| *found != media::PACKAGE_TARGET)
        {
            return None;
        }
        let libc = find(annotation::LIBC).and_then(Libc::from_name);
        let platform = find(annotation::PLATFORM).and_then(|text| platform::parse(text).ok());
        Some(Self {
            name: find(annotation::TITLE).map(str::to_owned),
            version: find(annotation::VERSION).and_then(|text| Version::parse(text).ok()),
            target: find(annotation::TARGET)?.to_owned(),
            profile: find(annotation::PROFILE).map(str::to_owned),
            platform: platform.map(|platform| platform::with_libc(platform, libc)),
            libc,
            glibc: find(annotation::GLIBC).and_then(|text| text.parse().ok()),
            revision: find(annotation::REVISION).map(str::to_owned),
            size: total_size(image),
        })
    }
}

/// Returns the total size of config and layers, in bytes.
fn total_size(image: &ImageManifest) -> u64 {
    image.layers.iter().fold(image.config.size, |sum, layer| {
        sum.saturating_add(layer.size)
    })
}

/// File of a package, or of any artifact whose layers have titles.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PackageFile {
    /// Name under which the file is written: the name that cargo gave it, otherwise the title.
    pub name: FileName,
    /// Title, if the layer has a title that is a safe file name.
    pub title: Option<FileName>,
    /// Kind of the file; [`FileKind::File`] if the layer does not state it.
    pub kind: FileKind,
    /// Whether the file is written as executable.
    pub is_executable: bool,
    /// Descriptor of the layer.
    pub descriptor: Descriptor,
}

impl PackageFile {
    /// Creates the entry for a file in an archive ([`FileKind::Archive`]). An archive states only the name of a file
    /// and whether it is executable.
    pub fn from_archive(file: &FileEntry) -> Self {
        Self {
            name: file.name.clone(),
            title: None,
            kind: if file.executable {
                FileKind::Bin
            } else {
                FileKind::File
            },
            is_executable: file.executable,
            descriptor: file.descriptor.clone(),
        }
    }

    /// Whether the layer is a tar of several files: an archive, a directory of debug symbols, or a directory that ORAS
    /// packed.
    pub fn is_bundle(&self) -> bool {
        match self.kind {
            FileKind::Archive => true,
            FileKind::Debuginfo => self.descriptor.media_type == media::TAR,
            _ => is_packed_directory(&self.descriptor),
        }
    }

    /// Returns the common name prefix of the files in a packed directory, such as `widgets.dSYM/`; `None` for other
    /// files.
    pub fn bundled_directory(&self) -> Option<String> {
        let name = self.name.as_str();
        let directory = match self.kind {
            FileKind::Archive => return None,
            FileKind::Debuginfo => name.strip_suffix(".tar"),
            _ => (!is_current_directory(&self.descriptor)).then_some(name),
        };
        let directory = directory.filter(|_| self.is_bundle())?;
        Some(format!("{directory}/"))
    }

    /// Converts the file to an entry for extraction: name, mode and content.
    pub fn to_file_entry(&self) -> FileEntry {
        FileEntry {
            descriptor: self.descriptor.clone(),
            name: self.name.clone(),
            executable: self.is_executable,
        }
    }
}

/// Returns the files of an artifact, in the order of the layers. Layers that have neither a cargo file name nor a title
/// are skipped.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] if a name is unsafe, or if two names are equal on some file systems, such as file systems
/// that ignore letter case.
pub fn files(manifest: &Manifest) -> crate::Result<Vec<PackageFile>> {
    let layers = manifest.as_image().map_or(&[][..], |image| &image.layers);
    let files = layers
        .iter()
        .filter_map(|layer| parse_file(layer).transpose());
    let files = files.collect::<Result<Vec<_>, Error>>()?;
    if let Some((first, second)) = find_duplicate(&files, |file| file.name.folded()) {
        let (first, second) = (first.name.clone(), second.name.clone());
        return Err(SameNameSnafu { first, second }.build().into());
    }
    Ok(files)
}

/// Whether a layer is a directory that ORAS packed as a tar.
fn is_packed_directory(layer: &Descriptor) -> bool {
    layer.annotation(annotation::UNPACK) == Some("true")
}

/// Whether a layer is the working directory of `oras push`. Such a layer has the title `.`.
fn is_current_directory(layer: &Descriptor) -> bool {
    is_packed_directory(layer) && layer.annotation(annotation::TITLE) == Some(".")
}

fn parse_file(layer: &Descriptor) -> Result<Option<PackageFile>, Error> {
    let Some(name) = layer_name(layer) else {
        return Ok(None);
    };
    // The tar gets this name if it is not extracted.
    let packed = format!("{}.tar", layer.digest.encoded());
    let name = if is_current_directory(layer) {
        &packed
    } else {
        name
    };
    let name = name.parse().with_context(|_| UnsafeNameSnafu {
        layer: layer.clone(),
    })?;
    let kind = layer
        .annotation(annotation::KIND)
        .and_then(|kind| kind.parse().ok())
        .unwrap_or(FileKind::File);
    // Only the executable bits of the mode are used. The code that writes the file determines all other bits.
    let mode = layer
        .annotation(annotation::MODE)
        .and_then(|mode| u32::from_str_radix(mode, 8).ok());
    Ok(Some(PackageFile {
        name,
        title: layer
            .annotation(annotation::TITLE)
            .and_then(|title| title.parse().ok()),
        kind,
        is_executable: mode.map_or(kind.is_executable(), |mode| mode & 0o111 != 0),
        descriptor: layer.clone(),
    }))
}

fn layer_name(layer: &Descriptor) -> Option<&str> {
    layer
        .annotation(annotation::FILE)
        .or_else(|| layer.annotation(annotation::TITLE))
}

/// Difference of one file between two manifests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Difference {
    /// The file is in both manifests, with different content or of a different kind.
    Content(String),
    /// The file is only in the stored manifest.
    OnlyStored(String),
    /// The file is only in the new manifest.
    OnlyNew(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(file) => write!(f, "`{}` has different content", file.escape_debug()),
            Self::OnlyStored(file) => {
                write!(
                    f,
                    "`{}` is only in the stored manifest",
                    file.escape_debug()
                )
            }
            Self::OnlyNew(file) => {
                write!(f, "`{}` is only in the new manifest", file.escape_debug())
            }
        }
    }
}

/// Returns the differences between the files of two manifests: names, kinds and contents. Other metadata is ignored.
pub fn differences(stored: &Manifest, new: &Manifest) -> Vec<Difference> {
    let (stored, new) = (contents_by_name(stored), contents_by_name(new));
    let names: BTreeSet<_> = stored.keys().chain(new.keys()).collect();
    let differences =
        names
            .into_iter()
            .filter_map(|name| match (stored.get(name), new.get(name)) {
                (Some(stored), Some(new)) if stored == new => None,
                (Some(_), Some(_)) => Some(Difference::Content(name.clone())),
                (Some(_), None) => Some(Difference::OnlyStored(name.clone())),
                (None, _) => Some(Difference::OnlyNew(name.clone())),
            });
    differences.collect()
}

/// Returns the kinds and digests of layers by name. The values are sets, because other tools may use a name more than
/// once.
fn contents_by_name(manifest: &Manifest) -> BTreeMap<String, BTreeSet<(&str, &str)>> {
    let mut contents = BTreeMap::<_, BTreeSet<_>>::new();
    for layer in manifest.as_image().map_or(&[][..], |image| &image.layers) {
        let name = layer_name(layer)
            .unwrap_or(layer.digest.as_str())
            .to_owned();
        let kind = layer.annotation(annotation::KIND).unwrap_or_default();
        contents
            .entry(name)
            .or_default()
            .insert((kind, layer.digest.as_str()));
    }
    contents
}

#[cfg(test)]
mod tests {
    use oci_registry::{Blob, MediaType};

    use super::*;

    fn manifest(
        artifact_type: Option<MediaType>,
        annotations: &[(&str, &str)],
        layers: &[&[(&str, &str)]],
    ) -> Manifest {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let config = Blob::empty().descriptor().clone();
        let mut image = ImageManifest::new(media::PACKAGE_TARGET, config.clone());
        image.artifact_type = artifact_type;
        image.annotations = map(annotations);
        image.layers = layers
            .iter()
            .map(|pairs| Descriptor {
                annotations: map(pairs),
                ..config.clone()
            })
            .collect();
        Manifest::from_image(image).unwrap()
    }

    #[test]
    fn manifest_without_artifact_type_is_recognized_by_target() {
        let target = [(annotation::TARGET, "x86_64-apple-darwin")];
        for (artifact_type, annotations, expected) in [
            (Some(media::PACKAGE_TARGET), &target[..], true),
            (None, &target, true),
            (Some("application/x".into()), &target, false),
            (Some(media::PACKAGE_TARGET), &[], false),
            (None, &[], false),
        ] {
            let manifest = manifest(artifact_type.clone(), annotations, &[]);
            assert_eq!(
                PackageTarget::read(&manifest).is_some(),
                expected,
                "{artifact_type:?} {annotations:?}"
            );
        }
    }

    #[test]
    fn package_target_with_invalid_annotations_omits_values() {
        let manifest = manifest(
            None,
            &[
                (annotation::TARGET, "\u{1b}[31m"),
                (annotation::VERSION, "not a version"),
                (annotation::PLATFORM, "linux"),
                (annotation::LIBC, "newlib"),
                (annotation::GLIBC, "new"),
            ],
            &[],
        );
        let read = PackageTarget::read(&manifest).unwrap();
        assert_eq!(
            (read.version, read.platform, read.libc, read.glibc),
            (None, None, None, None)
        );
    }

    #[test]
    fn files_of_artifacts_by_other_tools_are_named_by_title() {
        let foreign = manifest(
            None,
            &[],
            &[
                &[(annotation::TITLE, "docs/guide.md")],
                &[],
                &[
                    (annotation::TITLE, "tool"),
                    (annotation::MODE, "4755"),
                    (annotation::KIND, "unheard-of"),
                ],
                &[(annotation::TITLE, "lib"), (annotation::MODE, "rw-")],
            ],
        );
        let files = files(&foreign).unwrap();
        let files: Vec<_> = files.iter().map(PackageFile::to_file_entry).collect();
        let files: Vec<_> = files
            .iter()
            .map(|file| (file.name.as_str(), file.executable))
            .collect();
        assert_eq!(
            files,
            [("docs/guide.md", false), ("tool", true), ("lib", false)]
        );
    }

    #[test]
    fn unsafe_and_duplicate_file_names_are_rejected() {
        for title in ["../x", "/x", "a\\b", "C:x", "CON", "a/../../b", "", "a\0"] {
            let error = files(&manifest(None, &[], &[&[(annotation::TITLE, title)]])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{title:?}");
        }
        for other in ["Tool", "tool"] {
            let twice = manifest(
                None,
                &[],
                &[
                    &[(annotation::TITLE, "tool")],
                    &[(annotation::TITLE, other)],
                ],
            );
            assert_eq!(
                files(&twice).unwrap_err().to_string(),
                format!(
                    "failed to read the files of a manifest: the file names `tool` and `{other}` conflict"
                )
            );
        }
        let named_by_file = manifest(
            None,
            &[],
            &[&[(annotation::TITLE, "fine"), (annotation::FILE, "../x")]],
        );
        assert!(files(&named_by_file).is_err());
    }
}
