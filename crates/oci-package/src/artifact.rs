//! Packing: converts package metadata and files into the artifact for one target triple.
//!
//! This module defines the layers, their titles and order, the config, the annotations of the manifest, and the limits
//! that are checked before anything is uploaded. Packing is deterministic: the same metadata and files produce the same
//! bytes on every machine and in every directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_registry::{
    Annotations, Blob, BundleFile, Delivery, Digest, ErrorKind, Failure, FileName, Hint, Manifest,
    MediaType, Packed, Target, bundle,
};
use snafu::{ResultExt, Snafu, ensure};

use crate::annotation;
use crate::concurrent;
use crate::config::{self, ConfigFile, PackageConfig};
use crate::elf::Elf;
use crate::kind::FileKind;
use crate::media;
use crate::name::{NameTemplate, TitleContext, find_duplicate};
use crate::package::{Build, InputFile, Package};
use crate::platform::{self, GlibcVersion, Libc};

/// Maximum number of layers of a manifest. Some registries reject more.
pub const MAX_LAYERS: usize = 500;

/// Maximum number of files that are read concurrently, so that the client computes the digest of one file while it
/// reads another file.
const MAX_CONCURRENT_FILES: usize = 4;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to pack `{package}`: there are no files"))]
    NoFiles { package: String },
    #[snafu(display(
        "failed to pack `{package}`: it has {count} files, and the limit is {MAX_LAYERS}"
    ))]
    TooManyFiles { package: String, count: usize },
    #[snafu(display(
        "failed to pack `{package}`: the file names `{first}` and `{second}` conflict"
    ))]
    SameFile {
        package: String,
        first: FileName,
        second: FileName,
    },
    #[snafu(display(
        "failed to pack `{package}`: `{first}` and `{second}` both have the title `{title}`"
    ))]
    SameTitle {
        package: String,
        first: FileName,
        second: FileName,
        title: FileName,
    },
    #[snafu(display("failed to set the annotation `{}`: it is reserved for values of the package", key.escape_debug()))]
    ReservedAnnotation { key: String },
    #[snafu(display("failed to read `{file}` from `{}`", path.display()))]
    ReadProgram {
        file: FileName,
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to pack `{file}`"))]
    PackFile {
        file: FileName,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to read the directory `{}`", path.display()))]
    ReadDirectory {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to pack `{}`", path.display()))]
    PackDirectory {
        path: PathBuf,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to pack `{}`: it is neither a file nor a directory", path.display()))]
    NotAFile { path: PathBuf },
    #[snafu(display("failed to pack the files of `{package}` into one archive"))]
    WriteArchive {
        package: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to write the manifest of `{package}` for `{target}`"))]
    WriteManifest {
        package: String,
        target: String,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoFiles { .. }
            | Self::TooManyFiles { .. }
            | Self::SameFile { .. }
            | Self::SameTitle { .. }
            | Self::ReservedAnnotation { .. }
            | Self::NotAFile { .. } => ErrorKind::InvalidInput,
            Self::ReadProgram { .. } | Self::ReadDirectory { .. } => ErrorKind::Io,
            Self::PackFile { source, .. }
            | Self::PackDirectory { source, .. }
            | Self::WriteArchive { source, .. }
            | Self::WriteManifest { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::TooManyFiles { .. } => {
                vec!["publish fewer files, or one archive that contains them".into()]
            }
            Self::SameFile { .. } => vec![
                "rename one of the files: a file system that ignores letter case cannot store both".into(),
            ],
            Self::ReservedAnnotation { .. } => vec![
                "remove the annotation: title, version and `dev.cargo-oci.*` are set from the package".into(),
            ],
            Self::SameTitle { .. } => vec![Hint::SetNameTemplate {
                example: Some("{bin}-{kind}-{version}-{target}{ext}"),
            }],
            _ => Vec::new(),
        }
    }
}

/// Size of a file, in bytes, above which it is uploaded while it is packed ([`PackOptions::upload_to`]).
const MIN_EARLY_UPLOAD_SIZE: u64 = 8 << 20;

/// Options of [`pack`].
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Template for the titles of files.
    pub names: NameTemplate,
    /// Additional annotations of the manifest. They replace annotations that come from the package, except for title,
    /// version and `dev.cargo-oci.*`, which are rejected.
    pub annotations: Annotations,
    /// Target to which large files are uploaded while their digests are computed. Set it only if the target does not
    /// have the files yet.
    pub upload_to: Option<Arc<dyn Target>>,
    /// Whether all files are packed into one layer, a tar stream that keeps their modes, instead of one layer per file.
    /// If set, [`Self::upload_to`] is ignored.
    pub archive: bool,
}

/// Package for one target triple, ready to be published: its blobs and its manifest.
#[derive(Clone, Debug)]
pub struct Artifact {
    target: String,
    packed: Packed,
    early_deliveries: BTreeMap<Digest, Delivery>,
}

impl Artifact {
    /// Returns the target triple.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        self.packed.manifest()
    }

    /// Returns the delivery of a blob that was uploaded during packing ([`PackOptions::upload_to`]); `None` for all
    /// other blobs.
    pub(crate) fn early_delivery(&self, digest: &Digest) -> Option<Delivery> {
        self.early_deliveries.get(digest).copied()
    }

    /// Returns the artifact as a source that can be published or copied.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }
}

/// Packs the files of a package for one target into an artifact.
///
/// Each file is read once to compute its digest. For programs and shared libraries, the required C library is also
/// determined.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if there are no files or too many, if two files have the same name, or if the target, a
/// title or an annotation is invalid. [`ErrorKind::Io`] if a file cannot be read.
pub async fn pack(
    package: &Package,
    build: &Build,
    files: &[InputFile],
    options: &PackOptions,
) -> crate::Result<Artifact> {
    let target = platform::TargetPlatform::new(&build.target, build.cfg.as_ref())?;
    let version = package.version.to_string();
    let naming = TitleContext {
        template: &options.names,
        name: &package.name,
        version: &version,
        target: &build.target,
        profile: &build.profile,
        exe_suffix: target.cfg.exe_suffix(),
    };
    let named = name_files(package, &naming, files)?;
    check_annotations(&options.annotations)?;

    let upload_to = options.upload_to.as_ref().filter(|_| !options.archive);
    let loading = named
        .iter()
        .map(|named| load_file(named, upload_to))
        .collect();
    let loaded = concurrent::run_all(MAX_CONCURRENT_FILES, loading).await?;

    // The least portable file determines the requirement, because the files of a package are used together.
    let libc = target.libc(loaded.iter().filter_map(|file| file.libc).max());
    let glibc = loaded
        .iter()
        .filter_map(|file| file.glibc)
        .max()
        .filter(|_| libc == Some(Libc::Glibc));

    let mut annotations = Annotations::new();
    package.annotate(&mut annotations);
    build.annotate(&mut annotations)?;
    let mut add = |key: &str, value: String| annotations.insert(key.to_owned(), value);
    add(annotation::PLATFORM, target.platform().to_string());
    libc.map(|libc| add(annotation::LIBC, libc.to_string()));
    glibc.map(|glibc| add(annotation::GLIBC, glibc.to_string()));
    annotations.extend(options.annotations.clone());

    let config_files = named.iter().zip(&loaded);
    let config_files = config_files.map(|(file, loaded)| {
        let mode = config::file_mode(file.source.is_executable());
        ConfigFile::new(file.title.to_string(), file.kind, mode, &loaded.layer)
    });
    let config = PackageConfig::new(package, build, config_files.collect()).to_blob();
    let early_deliveries = loaded
        .iter()
        .filter_map(|file| Some((file.layer.digest().clone(), file.delivery?)));
    let early_deliveries = early_deliveries.collect();
    let layers = if options.archive {
        vec![pack_archive(&package.name, &naming, &named).await?]
    } else {
        loaded.into_iter().map(|file| file.layer).collect()
    };
    let packed =
        Packed::new(media::PACKAGE_TARGET, config, layers, annotations).with_context(|_| {
            WriteManifestSnafu {
                package: &package.name,
                target: &build.target,
            }
        })?;
    Ok(Artifact {
        target: build.target.clone(),
        packed,
        early_deliveries,
    })
}

/// File to pack, and the names under which it is published.
struct NamedFile<'a> {
    file: FileName,
    title: FileName,
    kind: FileKind,
    source: &'a InputFile,
    /// Whether the file is a directory. A directory is published as a tar stream of its files.
    is_directory: bool,
}

/// File name suffix of a packed directory.
const TAR_SUFFIX: &str = ".tar";

/// Assigns names and titles to the files and sorts them in the order of the layers: by kind, then by name.
fn name_files<'a>(
    package: &Package,
    naming: &TitleContext<'_>,
    files: &'a [InputFile],
) -> crate::Result<Vec<NamedFile<'a>>> {
    let count = files.len();
    let package = &package.name;
    ensure!(count > 0, NoFilesSnafu { package });
    ensure!(count <= MAX_LAYERS, TooManyFilesSnafu { package, count });
    let named = files.iter().map(|source| {
        let kind = source.kind;
        // Debug symbols of macOS (`widgets.dSYM`) are the only build output that is a directory.
        let is_directory = kind == FileKind::Debuginfo && source.path.is_dir();
        let mut file = naming.file_name(&source.name, kind)?;
        if is_directory {
            let named = format!("{file}{TAR_SUFFIX}").parse();
            file = named.with_context(|_| PackFileSnafu { file: file.clone() })?;
        }
        Ok(NamedFile {
            title: naming.title(&file, kind)?,
            file,
            kind,
            source,
            is_directory,
        })
    });
    let mut named = named.collect::<crate::Result<Vec<_>>>()?;
    named.sort_by(|a, b| (a.kind, &a.file).cmp(&(b.kind, &b.file)));
    if let Some((first, second)) = find_duplicate(&named, |file| file.file.folded()) {
        let (first, second) = (first.file.clone(), second.file.clone());
        return Err(SameFileSnafu {
            package,
            first,
            second,
        }
        .build()
        .into());
    }
    if let Some((first, second)) = find_duplicate(&named, |file| file.title.folded()) {
        let title = first.title.clone();
        let (first, second) = (first.file.clone(), second.file.clone());
        return Err(SameTitleSnafu {
            package,
            first,
            second,
            title,
        }
        .build()
        .into());
    }
    Ok(named)
}

/// Checks that additional annotations do not replace reserved ones. [`pack`] performs the same check; callers use this
/// function to report the error earlier.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for the title, the version and `dev.cargo-oci.*`.
pub fn check_annotations(annotations: &Annotations) -> crate::Result<()> {
    match annotations.keys().find(|key| is_reserved(key)) {
        Some(key) => Err(ReservedAnnotationSnafu { key }.build().into()),
        None => Ok(()),
    }
}

/// Whether an annotation always has the value that [`pack`] sets. Clients that know this format rely on these
/// annotations.
fn is_reserved(key: &str) -> bool {
    key == annotation::TITLE || key == annotation::VERSION || key.starts_with(annotation::PREFIX)
}

/// Packs all files into one layer.
async fn pack_archive(
    package: &str,
    naming: &TitleContext<'_>,
    named: &[NamedFile<'_>],
) -> crate::Result<Blob> {
    let kind = FileKind::Archive;
    let name = format!("{package}.tar").parse::<FileName>();
    let name = name.context(WriteArchiveSnafu { package })?;
    let title = naming.title(&name, kind)?;
    let mut files = Vec::new();
    for named in named {
        if named.is_directory {
            files.extend(list_directory(&named.source.name, &named.source.path).await?);
        } else {
            files.push(BundleFile {
                name: named.file.clone(),
                path: named.source.path.clone(),
                executable: named.source.is_executable(),
            });
        }
    }
    let bundled = bundle(media::TAR, files).await;
    let mut layer = bundled.context(WriteArchiveSnafu { package })?;
    annotate_layer(&mut layer, &title, &name, kind, kind.is_executable());
    Ok(layer)
}

/// Returns all files below a directory. The names of the files begin with `name`. `path` may be a symbolic link,
/// because cargo creates `*.dSYM` as a link to the directory.
async fn list_directory(name: &FileName, path: &Path) -> crate::Result<Vec<BundleFile>> {
    let (name, path) = (name.clone(), path.to_owned());
    let walk = tokio::task::spawn_blocking(move || walk_directory(&name, path));
    Ok(walk.await.expect("directory walk does not panic")?)
}

fn walk_directory(name: &FileName, path: PathBuf) -> Result<Vec<BundleFile>, Error> {
    let mut files = Vec::new();
    let mut pending = vec![(name.to_string(), path)];
    while let Some((name, path)) = pending.pop() {
        let entries = std::fs::read_dir(&path).context(ReadDirectorySnafu { path: &path })?;
        for entry in entries {
            let entry = entry.context(ReadDirectorySnafu { path: &path })?;
            let file_type = entry
                .file_type()
                .context(ReadDirectorySnafu { path: &path })?;
            let (name, path) = (
                format!("{name}/{}", entry.file_name().to_string_lossy()),
                entry.path(),
            );
            if file_type.is_dir() {
                pending.push((name, path));
                continue;
            }
            ensure!(file_type.is_file(), NotAFileSnafu { path });
            files.push(BundleFile {
                name: name.parse().context(PackDirectorySnafu { path: &path })?,
                path,
                executable: false,
            });
        }
    }
    Ok(files)
}

fn annotate_layer(
    layer: &mut Blob,
    title: &FileName,
    file: &FileName,
    kind: FileKind,
    executable: bool,
) {
    let mut add = |key: &str, value: &str| {
        let annotations = &mut layer.descriptor_mut().annotations;
        annotations.insert(key.to_owned(), value.to_owned());
    };
    add(annotation::TITLE, title.as_str());
    add(annotation::FILE, file.as_str());
    add(annotation::KIND, kind.as_str());
    add(annotation::MODE, config::file_mode(executable));
}

/// Layer for a file, and the C library that the file requires.
struct LoadedFile {
    layer: Blob,
    /// Delivery of the blob, if it was uploaded while it was packed.
    delivery: Option<Delivery>,
    libc: Option<Libc>,
    glibc: Option<GlibcVersion>,
}

async fn load_file(
    named: &NamedFile<'_>,
    upload_to: Option<&Arc<dyn Target>>,
) -> crate::Result<LoadedFile> {
    let (file, kind, path) = (&named.file, named.kind, &named.source.path);
    if named.is_directory {
        let files = list_directory(&named.source.name, path).await?;
        let layer = bundle(media::TAR, files).await;
        let mut layer = layer.with_context(|_| PackFileSnafu { file: file.clone() })?;
        annotate_layer(
            &mut layer,
            &named.title,
            file,
            kind,
            named.source.is_executable(),
        );
        return Ok(LoadedFile {
            layer,
            delivery: None,
            libc: None,
            glibc: None,
        });
    }
    let media_type = named.source.media_type.clone();
    let media_type = media_type.or_else(|| kind.media_type().map(MediaType::new_static));
    let media_type = media_type.unwrap_or_else(|| media::from_file_name(file.as_str()));
    let early_target = match upload_to {
        Some(target) if is_large(path).await => Some(target),
        _ => None,
    };
    let (mut layer, delivery) = if let Some(target) = early_target {
        let sent = target
            .push_file(media_type, path, &named.source.meter)
            .await;
        // The error names the path.
        let (layer, delivery) = sent?;
        (layer, Some(delivery))
    } else {
        let layer = Blob::from_file(media_type, path).await;
        let layer = layer.with_context(|_| PackFileSnafu { file: file.clone() })?;
        (layer, None)
    };
    annotate_layer(
        &mut layer,
        &named.title,
        file,
        kind,
        named.source.is_executable(),
    );

    let elf = if uses_dynamic_loader(kind) {
        let opened = path.clone();
        let elf = tokio::task::spawn_blocking(move || Elf::open(&opened)).await;
        let elf = elf.expect("ELF reader does not panic");
        elf.with_context(|_| ReadProgramSnafu {
            file: file.clone(),
            path,
        })?
    } else {
        None
    };
    Ok(LoadedFile {
        layer,
        delivery,
        libc: elf.as_ref().and_then(Elf::libc),
        glibc: elf.and_then(|elf| elf.glibc),
    })
}

/// Whether a file is so large that reading it a second time takes longer than an additional request. Returns `false` if
/// the file cannot be read; the error is reported when the file is packed.
async fn is_large(path: &Path) -> bool {
    tokio::fs::metadata(path)
        .await
        .is_ok_and(|metadata| metadata.len() > MIN_EARLY_UPLOAD_SIZE)
}

/// Whether files of this kind are loaded by the dynamic loader, so that their C library matters.
fn uses_dynamic_loader(kind: FileKind) -> bool {
    matches!(
        kind,
        FileKind::Bin | FileKind::Example | FileKind::Cdylib | FileKind::ProcMacro
    )
}

#[cfg(test)]
mod tests;
