//! A package for one target triple, written: from facts and files to the artifact that is sent.
//!
//! Owns what stands where: layers, their titles and order, the config, the manifest's annotations, and the limits that
//! hold before anything is sent. Determinism is a law here: the same facts and files are the same bytes, on every machine
//! and in every directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_registry::{
    Annotations, Blob, Bundled, Delivery, Digest, ErrorKind, FileName, Manifest, MediaType, Packed,
    Target, bundle,
};
use snafu::{ResultExt, Snafu, ensure};

use crate::annotation;
use crate::concurrent;
use crate::config::{self, Config, ConfigFile};
use crate::elf::Elf;
use crate::error::Failure;
use crate::kind::Kind;
use crate::media;
use crate::name::{NameTemplate, Naming, first_clash};
use crate::package::{Build, File, Package};
use crate::platform::{self, GlibcVersion, Libc};

/// How many layers a manifest may have; some registries take no more.
pub const MAX_LAYERS: usize = 500;

/// How many files are read at once: enough for one processor to hash while another's file is still being read.
const FILES_AT_ONCE: usize = 4;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to pack `{package}`: there are no files"))]
    NoFiles { package: String },
    #[snafu(display(
        "failed to pack `{package}`: it has {count} files, and a manifest takes {MAX_LAYERS}"
    ))]
    TooManyFiles { package: String, count: usize },
    #[snafu(display("failed to pack `{package}`: there are two files `{first}` and `{second}`"))]
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
    #[snafu(display("failed to set the annotation `{}`: it says what the package itself says", key.escape_debug()))]
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

    fn help(&self) -> Vec<String> {
        match self {
            Self::TooManyFiles { .. } => vec!["publish fewer files, or one archive of them".into()],
            Self::SameFile { .. } => {
                vec![
                    "file systems that ignore letter case take them for one file: rename one"
                        .into(),
                ]
            }
            Self::ReservedAnnotation { .. } => {
                vec![
                    "leave it out: name, version and `dev.cargo-oci.*` follow from the package"
                        .into(),
                ]
            }
            Self::SameTitle { .. } => {
                vec!["set a `name-template` that tells them apart, such as `{bin}-{kind}-{version}-{target}{ext}`".into()]
            }
            _ => Vec::new(),
        }
    }

    fn registry_error(&self) -> Option<&oci_registry::Error> {
        match self {
            Self::PackFile { source, .. }
            | Self::PackDirectory { source, .. }
            | Self::WriteArchive { source, .. }
            | Self::WriteManifest { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Files above this size, in bytes, are sent ahead where that is wanted.
const AHEAD_FROM: u64 = 8 << 20;

/// What the caller may choose about an artifact.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// How titles are made.
    pub names: NameTemplate,
    /// Annotations of the caller's own. They replace those of the package, but for title, version and
    /// `dev.cargo-oci.*`, which are refused.
    pub annotations: Annotations,
    /// Where large files are sent while they are read for their digests, when they are known to be needed there.
    pub send_ahead: Option<Arc<dyn Target>>,
    /// Whether the files become one layer, a tar stream of a directory with its modes, instead of one each. Nothing is
    /// sent ahead then.
    pub archive: bool,
}

/// A package for one target triple, ready to be published: the blobs, and the manifest that names them.
#[derive(Clone, Debug)]
pub struct Artifact {
    target: String,
    packed: Packed,
    sent_ahead: BTreeMap<Digest, Delivery>,
}

impl Artifact {
    /// The target triple.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        self.packed.manifest()
    }

    /// How this blob came to be where the artifact is to be published, when it was sent there while it was packed.
    pub(crate) fn sent_ahead(&self, digest: &Digest) -> Option<Delivery> {
        self.sent_ahead.get(digest).copied()
    }

    /// The artifact as a source: of a publication, or of a copy to anywhere.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }
}

/// Makes the artifact of a package for one target.
///
/// Every file is read once, for its digest; programs are also asked which C library they need.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for what cannot be published: no files or too many, two files of one name, an unknown
/// target, an unusable title or annotation. [`ErrorKind::Io`] when a file cannot be read.
pub async fn pack(
    package: &Package,
    build: &Build,
    files: &[File],
    options: &PackOptions,
) -> crate::Result<Artifact> {
    let target = platform::Target::new(&build.target, build.cfg.as_ref())?;
    let version = package.version.to_string();
    let naming = Naming {
        template: &options.names,
        name: &package.name,
        version: &version,
        target: &build.target,
        profile: &build.profile,
        exe_suffix: target.cfg.exe_suffix(),
    };
    let named = name_files(package, &naming, files)?;
    check_annotations(&options.annotations)?;

    let ahead = options.send_ahead.as_ref().filter(|_| !options.archive);
    let loading = named.iter().map(|named| load(named, ahead)).collect();
    let loaded = concurrent::all(FILES_AT_ONCE, loading).await?;

    // The least portable file decides for all: whoever takes one of them takes the package.
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

    let listed = named.iter().zip(&loaded);
    let listed = listed
        .map(|(file, loaded)| ConfigFile::new(file.title.to_string(), file.kind, &loaded.layer));
    let config = Config::new(package, build, listed.collect()).to_blob();
    let sent_ahead = loaded
        .iter()
        .filter_map(|file| Some((file.layer.digest().clone(), file.delivery?)));
    let sent_ahead = sent_ahead.collect();
    let layers = if options.archive {
        vec![archive(&package.name, &naming, &named).await?]
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
        sent_ahead,
    })
}

/// A file under the names it is published by.
struct Named<'a> {
    file: FileName,
    title: FileName,
    kind: Kind,
    source: &'a File,
    /// Whether it is a directory, which is published as a tar of what is in it.
    is_directory: bool,
}

/// What the name of a directory's tar ends with.
const TAR: &str = ".tar";

/// Names the files, in the order of the layers: by kind, then by name.
fn name_files<'a>(
    package: &Package,
    naming: &Naming<'_>,
    files: &'a [File],
) -> crate::Result<Vec<Named<'a>>> {
    let count = files.len();
    let package = &package.name;
    ensure!(count > 0, NoFilesSnafu { package });
    ensure!(count <= MAX_LAYERS, TooManyFilesSnafu { package, count });
    let named = files.iter().map(|source| {
        let kind = source.kind;
        // The symbols of a Mac's program (`widgets.dSYM`) are the only thing of several files that a build writes as one.
        let is_directory = kind == Kind::Debuginfo && source.path.is_dir();
        let mut file = naming.file(&source.name, kind)?;
        if is_directory {
            let named = format!("{file}{TAR}").parse();
            file = named.with_context(|_| PackFileSnafu { file: file.clone() })?;
        }
        Ok(Named {
            title: naming.title(&file, kind)?,
            file,
            kind,
            source,
            is_directory,
        })
    });
    let mut named = named.collect::<crate::Result<Vec<_>>>()?;
    named.sort_by(|a, b| (a.kind, &a.file).cmp(&(b.kind, &b.file)));
    if let Some((first, second)) = first_clash(&named, |file| file.file.folded()) {
        let (first, second) = (first.file.clone(), second.file.clone());
        return Err(SameFileSnafu {
            package,
            first,
            second,
        }
        .build()
        .into());
    }
    if let Some((first, second)) = first_clash(&named, |file| file.title.folded()) {
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

/// Refuses annotations that nobody may add, before anything is packed; [`pack`] does so too.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for what the package itself says: its title and version, and `dev.cargo-oci.*`.
pub fn check_annotations(annotations: &Annotations) -> crate::Result<()> {
    match annotations.keys().find(|key| is_reserved(key)) {
        Some(key) => Err(ReservedAnnotationSnafu { key }.build().into()),
        None => Ok(()),
    }
}

/// What the package itself says, and what readers of this layout decide by.
fn is_reserved(key: &str) -> bool {
    key == annotation::TITLE || key == annotation::VERSION || key.starts_with(annotation::PREFIX)
}

/// All files as one layer.
async fn archive(package: &str, naming: &Naming<'_>, named: &[Named<'_>]) -> crate::Result<Blob> {
    let kind = Kind::Archive;
    let name = format!("{package}.tar").parse::<FileName>();
    let name = name.context(WriteArchiveSnafu { package })?;
    let title = naming.title(&name, kind)?;
    let mut files = Vec::new();
    for named in named {
        if named.is_directory {
            files.extend(directory(&named.source.name, &named.source.path).await?);
        } else {
            files.push(Bundled {
                name: named.file.clone(),
                path: named.source.path.clone(),
                executable: named.kind.is_executable(),
            });
        }
    }
    let bundled = bundle(media::TAR, files).await;
    let mut layer = bundled.context(WriteArchiveSnafu { package })?;
    annotate(&mut layer, &title, &name, kind);
    Ok(layer)
}

/// All files in a directory, under its name; it may itself be a link, as cargo makes one.
async fn directory(name: &FileName, path: &Path) -> crate::Result<Vec<Bundled>> {
    let (name, path) = (name.clone(), path.to_owned());
    let walk = tokio::task::spawn_blocking(move || walk(&name, path));
    Ok(walk.await.expect("walking a directory does not panic")?)
}

fn walk(name: &FileName, path: PathBuf) -> Result<Vec<Bundled>, Error> {
    let mut files = Vec::new();
    let mut waiting = vec![(name.to_string(), path)];
    while let Some((name, path)) = waiting.pop() {
        let entries = std::fs::read_dir(&path).context(ReadDirectorySnafu { path: &path })?;
        for entry in entries {
            let entry = entry.context(ReadDirectorySnafu { path: &path })?;
            let found = entry
                .file_type()
                .context(ReadDirectorySnafu { path: &path })?;
            let (name, path) = (
                format!("{name}/{}", entry.file_name().to_string_lossy()),
                entry.path(),
            );
            if found.is_dir() {
                waiting.push((name, path));
                continue;
            }
            ensure!(found.is_file(), NotAFileSnafu { path });
            files.push(Bundled {
                name: name.parse().context(PackDirectorySnafu { path: &path })?,
                path,
                executable: false,
            });
        }
    }
    Ok(files)
}

fn annotate(layer: &mut Blob, title: &FileName, file: &FileName, kind: Kind) {
    let mut add = |key: &str, value: &str| {
        let annotations = &mut layer.descriptor_mut().annotations;
        annotations.insert(key.to_owned(), value.to_owned());
    };
    add(annotation::TITLE, title.as_str());
    add(annotation::FILE, file.as_str());
    add(annotation::KIND, kind.as_str());
    add(annotation::MODE, config::mode(kind));
}

/// A file that was read: its layer, and what it needs.
struct Loaded {
    layer: Blob,
    /// How it came to be where it was sent ahead.
    delivery: Option<Delivery>,
    libc: Option<Libc>,
    glibc: Option<GlibcVersion>,
}

async fn load(named: &Named<'_>, send_ahead: Option<&Arc<dyn Target>>) -> crate::Result<Loaded> {
    let (file, kind, path) = (&named.file, named.kind, &named.source.path);
    if named.is_directory {
        let files = directory(&named.source.name, path).await?;
        let layer = bundle(media::TAR, files).await;
        let mut layer = layer.with_context(|_| PackFileSnafu { file: file.clone() })?;
        annotate(&mut layer, &named.title, file, kind);
        return Ok(Loaded {
            layer,
            delivery: None,
            libc: None,
            glibc: None,
        });
    }
    let media_type = named.source.media_type.clone();
    let media_type = media_type.or_else(|| kind.media_type().map(MediaType::new_static));
    let media_type = media_type.unwrap_or_else(|| media::of_file_name(file.as_str()));
    let ahead = match send_ahead {
        Some(target) if is_large(path).await => Some(target),
        _ => None,
    };
    let layer = match ahead {
        Some(target) => {
            let sent = target
                .push_file(media_type, path, &named.source.meter)
                .await;
            sent.map(|(layer, delivery)| (layer, Some(delivery)))
        }
        None => Blob::from_file(media_type, path)
            .await
            .map(|layer| (layer, None)),
    };
    let (mut layer, delivery) = layer.with_context(|_| PackFileSnafu { file: file.clone() })?;
    annotate(&mut layer, &named.title, file, kind);

    let elf = if is_loaded_by_the_system(kind) {
        let opened = path.clone();
        let elf = tokio::task::spawn_blocking(move || Elf::open(&opened)).await;
        let elf = elf.expect("reading an ELF file does not panic");
        elf.with_context(|_| ReadProgramSnafu {
            file: file.clone(),
            path,
        })?
    } else {
        None
    };
    Ok(Loaded {
        layer,
        delivery,
        libc: elf.as_ref().and_then(Elf::libc),
        glibc: elf.and_then(|elf| elf.glibc),
    })
}

/// Whether reading a file twice takes longer than asking for it once more. What cannot be read is found out later.
async fn is_large(path: &Path) -> bool {
    tokio::fs::metadata(path)
        .await
        .is_ok_and(|metadata| metadata.len() > AHEAD_FROM)
}

/// Whether a file of this kind meets the dynamic loader, so that it matters which one it was made for.
fn is_loaded_by_the_system(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bin | Kind::Example | Kind::Cdylib | Kind::ProcMacro
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::elf::tests::program;
    use crate::package::Revision;
    use crate::target::{self, Difference, PackageTarget};

    fn package() -> Package {
        let mut package = Package::new("widgets", "1.2.3".parse().unwrap());
        package.license = Some("MIT/Apache-2.0".into());
        package.repository = Some("https://github.com/acme/widgets".into());
        package
    }

    fn build(target: &str) -> Build {
        let mut build = Build::new(target, "release");
        build.rustc = Some("1.95.0".into());
        build.crate_types = ["bin", "cdylib"].map(str::to_owned).into();
        build.revision = Some(Revision {
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            dirty: false,
        });
        build.created = Some("2026-03-14T15:09:26Z".into());
        build
    }

    fn file(directory: &Path, name: &str, kind: Kind, content: &[u8]) -> File {
        let path = directory.join(name.replace('/', "-"));
        std::fs::write(&path, content).unwrap();
        File::new(name.parse().unwrap(), kind, path)
    }

    async fn packed(build: &Build, files: &[File]) -> Artifact {
        pack(&package(), build, files, &PackOptions::default())
            .await
            .unwrap()
    }

    const MUSL: &str = "x86_64-unknown-linux-musl";

    #[tokio::test]
    async fn the_same_facts_and_files_are_the_same_bytes_everywhere() {
        let mut digests = Vec::new();
        for backwards in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let mut files = vec![
                file(
                    directory.path(),
                    "widgets",
                    Kind::Bin,
                    &program(None, &[], &[]),
                ),
                file(
                    directory.path(),
                    "libshapes.so",
                    Kind::Cdylib,
                    b"not an ELF file",
                ),
                file(directory.path(), "README.md", Kind::File, b"# widgets\n"),
            ];
            if backwards {
                files.reverse();
            }
            digests.push(
                packed(&build(MUSL), &files)
                    .await
                    .manifest()
                    .digest()
                    .to_string(),
            );
        }
        // This digest is a promise to everyone who published before: it changes with the major version, or never.
        let golden = "sha256:dbe138d598711485b6cb624e05a1b9cac8960dd5df4ec0cf0c4026771c12d939";
        assert_eq!(digests, [golden, golden]);
    }

    /// A `widgets.dSYM` as dsymutil makes one, behind a link as cargo makes one.
    #[cfg(unix)]
    fn symbols(home: &Path) -> File {
        let real = home.join("deps/widgets-0123.dSYM/Contents");
        std::fs::create_dir_all(real.join("Resources/DWARF")).unwrap();
        std::fs::write(real.join("Info.plist"), "plist").unwrap();
        std::fs::write(real.join("Resources/DWARF/widgets-0123"), "symbols").unwrap();
        let link = home.join("widgets.dSYM");
        std::os::unix::fs::symlink(home.join("deps/widgets-0123.dSYM"), &link).unwrap();
        File::new("widgets.dSYM".parse().unwrap(), Kind::Debuginfo, link)
    }

    /// The names of the files in the tar that is an artifact's first layer.
    #[cfg(unix)]
    async fn names_in(artifact: &Artifact, home: &Path) -> Vec<String> {
        let layer = &artifact.manifest().as_image().unwrap().layers[0];
        let meter = oci_registry::Meter::default();
        let bundle = oci_registry::Bundle::fetch(artifact.packed(), layer, home, &meter).await;
        let bundle = bundle.unwrap();
        let names = bundle.files().iter().map(|file| file.name.to_string());
        names.collect()
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_directory_of_symbols_is_one_tar_that_is_the_same_everywhere() {
        let mac = build("aarch64-apple-darwin");
        let mut digests = Vec::new();
        for _ in 0..2 {
            let home = tempfile::tempdir().unwrap();
            let artifact = packed(&mac, &[symbols(home.path())]).await;
            let image = artifact.manifest().as_image().unwrap().clone();
            let [layer] = &image.layers[..] else {
                panic!("one directory is one layer")
            };
            assert_eq!(layer.media_type, media::TAR);
            let title = "widgets-1.2.3-aarch64-apple-darwin.dSYM.tar";
            assert_eq!(layer.annotation(annotation::TITLE), Some(title));
            assert_eq!(layer.annotation(annotation::FILE), Some("widgets.dSYM.tar"));
            assert_eq!(layer.annotation(annotation::KIND), Some("debuginfo"));
            let files = target::files(artifact.manifest()).unwrap();
            assert!(files[0].is_bundle());
            assert_eq!(
                files[0].bundled_directory().as_deref(),
                Some("widgets.dSYM/")
            );
            assert_eq!(
                names_in(&artifact, home.path()).await,
                [
                    "widgets.dSYM/Contents/Info.plist",
                    "widgets.dSYM/Contents/Resources/DWARF/widgets-0123"
                ]
            );
            digests.push(artifact.manifest().digest().clone());

            // In an archive its files are among the others.
            let options = PackOptions {
                archive: true,
                ..PackOptions::default()
            };
            std::fs::write(home.path().join("program"), "program").unwrap();
            let program = File::new(
                "widgets".parse().unwrap(),
                Kind::Bin,
                home.path().join("program"),
            );
            let link = home.path().join("widgets.dSYM");
            let symbols = File::new("widgets.dSYM".parse().unwrap(), Kind::Debuginfo, link);
            let archive = pack(&package(), &mac, &[program, symbols], &options)
                .await
                .unwrap();
            assert_eq!(names_in(&archive, home.path()).await.len(), 3);
        }
        assert_eq!(digests[0], digests[1]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_in_a_directory_of_symbols_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let symbols = symbols(home.path());
        let inside = home.path().join("deps/widgets-0123.dSYM/link");
        std::os::unix::fs::symlink("/etc/hostname", &inside).unwrap();
        let mac = build("aarch64-apple-darwin");
        let refused = pack(&package(), &mac, &[symbols], &PackOptions::default()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.to_string().contains("link"), "{refused}");
    }

    #[tokio::test]
    async fn layers_are_the_files_under_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            file(directory.path(), "LICENSE", Kind::File, b"do"),
            file(directory.path(), "examples/demo", Kind::Example, b"demo"),
            file(directory.path(), "widgets", Kind::Bin, b"widgets"),
        ];
        let artifact = packed(&build(MUSL), &files).await;
        let image = artifact.manifest().as_image().unwrap();
        let layers: Vec<_> = image
            .layers
            .iter()
            .map(|layer| {
                let annotation = |key| layer.annotation(key).unwrap();
                assert_eq!(layer.annotations.len(), 4);
                (
                    layer.media_type.as_str(),
                    annotation(annotation::TITLE),
                    annotation(annotation::FILE),
                    annotation(annotation::MODE),
                )
            })
            .collect();
        assert_eq!(
            layers,
            [
                (
                    "application/vnd.cargo-oci.bin",
                    "widgets-1.2.3-x86_64-unknown-linux-musl",
                    "widgets",
                    "0755"
                ),
                (
                    "application/vnd.cargo-oci.example",
                    "demo-1.2.3-x86_64-unknown-linux-musl",
                    "examples/demo",
                    "0755"
                ),
                ("text/plain", "LICENSE", "LICENSE", "0644"),
            ]
        );
        assert_eq!(
            image.layers[0].digest,
            oci_registry::Digest::sha256(b"widgets")
        );
        assert!(
            image.config.annotations.is_empty(),
            "some registries refuse annotations there"
        );
        assert_eq!(image.config.media_type, media::CONFIG);

        let read = target::files(artifact.manifest()).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|file| (file.name.as_str(), file.kind, file.is_executable))
            .collect();
        assert_eq!(
            read,
            [
                ("widgets", Kind::Bin, true),
                ("examples/demo", Kind::Example, true),
                ("LICENSE", Kind::File, false)
            ]
        );
    }

    #[tokio::test]
    async fn an_archive_is_one_layer_and_the_config_still_names_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            file(
                directory.path(),
                "widgets",
                Kind::Bin,
                &program(None, &[], &[]),
            ),
            file(directory.path(), "README.md", Kind::File, b"# widgets\n"),
        ];
        let options = PackOptions {
            archive: true,
            ..PackOptions::default()
        };
        let artifact = pack(&package(), &build(MUSL), &files, &options)
            .await
            .unwrap();
        let read = target::files(artifact.manifest()).unwrap();
        let [archive] = &read[..] else {
            panic!("{read:?}");
        };
        assert_eq!(archive.name.as_str(), "widgets.tar");
        let title = archive.title.as_ref().unwrap();
        assert_eq!(
            title.as_str(),
            "widgets-1.2.3-x86_64-unknown-linux-musl.tar"
        );
        assert_eq!(
            (archive.kind, archive.is_executable),
            (Kind::Archive, false)
        );
        assert_eq!(
            archive.descriptor.media_type,
            "application/vnd.oci.image.layer.v1.tar".into()
        );
        let annotations = artifact.manifest().annotations();
        assert_eq!(annotations[annotation::LIBC], "static");
        let mut blobs = artifact.packed().blobs();
        let config = blobs.next().unwrap().open().await.unwrap();
        let config = config.read_to_end(10_000).await.unwrap();
        let config = String::from_utf8(config.to_vec()).unwrap();
        for file in ["widgets-1.2.3-x86_64-unknown-linux-musl", "README.md"] {
            assert!(config.contains(file), "{config}");
        }
    }

    #[tokio::test]
    async fn the_least_portable_program_decides_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let bin = |name: &str, content: &[u8]| file(directory.path(), name, Kind::Bin, content);
        let fully_static = || bin("a", &program(None, &[], &[]));
        let old = || {
            bin(
                "b",
                &program(
                    Some("/lib64/ld-linux-x86-64.so.2"),
                    &["libc.so.6"],
                    &["GLIBC_2.17"],
                ),
            )
        };
        let new = || {
            bin(
                "c",
                &program(
                    Some("/lib64/ld-linux-x86-64.so.2"),
                    &["libc.so.6"],
                    &["GLIBC_2.34"],
                ),
            )
        };
        let script = || bin("d", b"#!/bin/sh\n");
        let gnu = "x86_64-unknown-linux-gnu";
        for (target, files, libc, glibc) in [
            (MUSL, vec![fully_static()], Some("static"), None),
            (gnu, vec![fully_static()], Some("static"), None),
            (
                gnu,
                vec![fully_static(), new(), old()],
                Some("glibc"),
                Some("2.34"),
            ),
            (gnu, vec![old(), script()], Some("glibc"), Some("2.17")),
            (MUSL, vec![script()], Some("musl"), None),
            (gnu, vec![script()], Some("glibc"), None),
            ("x86_64-unknown-freebsd", vec![fully_static()], None, None),
            ("x86_64-pc-windows-gnu", vec![script()], None, None),
        ] {
            let artifact = packed(&build(target), &files).await;
            let annotations = artifact.manifest().annotations();
            assert_eq!(
                annotations.get(annotation::LIBC).map(String::as_str),
                libc,
                "{target}"
            );
            assert_eq!(
                annotations.get(annotation::GLIBC).map(String::as_str),
                glibc,
                "{target}"
            );
            let read = PackageTarget::read(artifact.manifest()).unwrap();
            let features = read.platform.unwrap().os_features;
            let expected = libc
                .filter(|libc| *libc != "static")
                .map(|libc| format!("libc.{libc}"));
            assert_eq!(features, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_manifest_says_all_that_a_reader_needs_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let files = [file(directory.path(), "widgets", Kind::Bin, b"content")];
        let artifact = packed(&build("aarch64-apple-darwin"), &files).await;
        let annotations: Vec<_> = artifact.manifest().annotations().iter().collect();
        let annotations: Vec<_> = annotations
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            annotations,
            [
                "dev.cargo-oci.platform=darwin/arm64",
                "dev.cargo-oci.profile=release",
                "dev.cargo-oci.target=aarch64-apple-darwin",
                "dev.cargo-oci.vcs.dirty=false",
                "org.opencontainers.image.created=2026-03-14T15:09:26Z",
                "org.opencontainers.image.licenses=MIT OR Apache-2.0",
                "org.opencontainers.image.revision=0123456789abcdef0123456789abcdef01234567",
                "org.opencontainers.image.source=https://github.com/acme/widgets",
                "org.opencontainers.image.title=widgets",
                "org.opencontainers.image.url=https://github.com/acme/widgets",
                "org.opencontainers.image.vendor=acme",
                "org.opencontainers.image.version=1.2.3",
            ]
        );
        let read = PackageTarget::read(artifact.manifest()).unwrap();
        assert_eq!(
            (read.name.as_deref(), read.target.as_str()),
            (Some("widgets"), "aarch64-apple-darwin")
        );
        assert_eq!(read.version, Some("1.2.3".parse().unwrap()));
        assert_eq!(
            read.size,
            artifact.packed().blobs().map(Blob::size).sum::<u64>()
        );
    }

    #[tokio::test]
    async fn own_annotations_add_and_cannot_change_what_the_package_is() {
        let directory = tempfile::tempdir().unwrap();
        let files = [file(directory.path(), "widgets", Kind::Bin, b"content")];
        let with = async |key: &str| {
            let mut options = PackOptions::default();
            options.annotations.insert(key.into(), "mine".into());
            pack(&package(), &build(MUSL), &files, &options).await
        };
        for key in ["com.example.build", annotation::URL] {
            assert_eq!(
                with(key).await.unwrap().manifest().annotations()[key],
                "mine"
            );
        }
        for key in [
            annotation::TITLE,
            annotation::VERSION,
            annotation::TARGET,
            "dev.cargo-oci.new",
        ] {
            assert_eq!(
                with(key).await.unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{key}"
            );
        }
    }

    #[tokio::test]
    async fn what_cannot_be_published_is_refused_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, kind| file(directory.path(), name, kind, b"x");
        let message = async |files: &[File]| {
            let error = pack(&package(), &build(MUSL), files, &PackOptions::default())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            error.to_string()
        };
        assert_eq!(
            message(&[]).await,
            "failed to pack `widgets`: there are no files"
        );
        assert_eq!(
            message(&[
                file("demo", Kind::Bin),
                file("examples/demo", Kind::Example)
            ])
            .await,
            "failed to pack `widgets`: `demo` and `examples/demo` both have the title `demo-1.2.3-x86_64-unknown-linux-musl`"
        );
        assert_eq!(
            message(&[file("Demo", Kind::File), file("demo", Kind::Crate)]).await,
            "failed to pack `widgets`: there are two files `demo` and `Demo`"
        );
        let many = vec![file("x", Kind::File); MAX_LAYERS + 1];
        assert_eq!(
            message(&many).await,
            "failed to pack `widgets`: it has 501 files, and a manifest takes 500"
        );

        let missing = [File::new(
            "widgets".parse().unwrap(),
            Kind::Bin,
            directory.path().join("none"),
        )];
        let error = pack(&package(), &build(MUSL), &missing, &PackOptions::default())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Io, "failed to pack `widgets`")
        );
        let error = pack(
            &package(),
            &build("acme"),
            &many[..1],
            &PackOptions::default(),
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn files_differ_by_name_kind_and_content_and_by_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, kind, content: &[u8]| file(directory.path(), name, kind, content);
        let stored = packed(
            &build(MUSL),
            &[file("a", Kind::Bin, b"1"), file("b", Kind::Bin, b"1")],
        )
        .await;
        let mut dirty = build(MUSL);
        dirty.revision = None;
        let same = packed(
            &dirty,
            &[file("b", Kind::Bin, b"1"), file("a", Kind::Bin, b"1")],
        )
        .await;
        assert_ne!(stored.manifest().digest(), same.manifest().digest());
        assert_eq!(target::differences(stored.manifest(), same.manifest()), []);
        let other = packed(
            &dirty,
            &[file("a", Kind::Example, b"1"), file("c", Kind::Bin, b"1")],
        )
        .await;
        assert_eq!(
            target::differences(stored.manifest(), other.manifest()),
            [
                Difference::Content("a".into()),
                Difference::OnlyStored("b".into()),
                Difference::OnlyNew("c".into()),
            ]
        );
    }
}
