//! `cargo oci push`: build packages with cargo, pack the built files, and publish them.
//!
//! Errors that do not depend on the build are reported before the build: invalid names, destinations and settings, and
//! unreachable registries. This file defines the flags and runs the steps. Each step is in a separate file.

mod destination;
mod extra;
mod files;
mod git_tag;
mod github;
mod include;
mod outcome;
mod plan;
mod publication;
mod publish;
mod targets;
mod work_tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use cargo_metadata::PackageId;
use clap::Args;
use oci_package::{FileKind, StoredTags};
use oci_registry::{Location, LocationText, Mode, Target};

use crate::cargo::{self, BuildTool, Selection, Toolchain, Workspace};
use crate::message::FormatFlag;
use crate::options::parse_location;
use crate::report::Error;
use crate::session::Session;
use files::FileArgument;
use publication::Publication;

/// Build packages and publish their artifacts
///
/// Builds the selected packages in release mode, packs the programs and libraries of each, and pushes them as
/// REGISTRY/PACKAGE:VERSION. Released versions are immutable: pushing the same files again sends nothing, and different
/// files are an error unless `--overwrite` is given.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate flag")]
#[command(
    after_help = "Examples:\n  cargo oci push --registry ghcr.io/acme\n  cargo oci push --registry oci:target/oci\n  cargo oci push --target x86_64-unknown-linux-musl ghcr.io/acme/widgets\n  cargo oci push --file widgets=dist/widgets --target aarch64-apple-darwin --registry ghcr.io/acme"
)]
pub(crate) struct Flags {
    /// Publish one package under exactly this name (tag defaults to the version)
    ///
    /// REGISTRY/REPOSITORY[:TAG], oci:DIR[:TAG] or oci-archive:FILE[:TAG].
    #[arg(value_name = "REFERENCE", value_parser = parse_location, conflicts_with = "registry")]
    reference: Option<LocationText>,

    /// Registry and prefix; each package is published as PREFIX/NAME
    ///
    /// HOST[:PORT][/PREFIX], or oci:DIR for OCI layouts in a directory. The default is the environment variable
    /// `CARGO_OCI_REGISTRY`, then `registry` in `[package.metadata.oci]`, `[workspace.metadata.oci]` or `oci.toml`.
    #[arg(long, value_name = "REGISTRY")]
    registry: Option<String>,

    /// Publish under this tag instead of the version
    ///
    /// May be given more than once. A tag that is a version, such as `1.2.3` or `v1.2.3`, must be the version of the
    /// package, and is immutable. Any other tag may be moved by a later push.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// Replace the manifest of a released version if it differs
    ///
    /// Replaces it also if the files are the same, for example to correct the revision. The previous manifest and its
    /// referrers are then no longer tagged.
    #[arg(long)]
    overwrite: bool,

    /// Push the targets without updating the version tag
    ///
    /// `cargo oci index assemble` updates the version tag later.
    #[arg(long)]
    no_index: bool,

    /// Also move tags `1.2`, `1` and `latest` to this release
    ///
    /// The tags move when all declared targets are pushed; see `--release-targets`. A package that has only one target
    /// needs no declaration.
    #[arg(long, conflicts_with = "no_index")]
    floating: bool,

    /// Hold back the version tag until all these targets are pushed
    ///
    /// Declares the targets of the release, and does not select targets to build. The default is the environment
    /// variable `CARGO_OCI_RELEASE_TARGETS`, then `release-targets` in `[package.metadata.oci]` or
    /// `[workspace.metadata.oci]`.
    #[arg(long, value_name = "TRIPLE", value_delimiter = ',')]
    release_targets: Vec<String>,

    /// Show what would be pushed, without pushing
    ///
    /// Reads the registry and prints the files and tags that would be written. The exit code is 5 if the push would fail
    /// with a conflict. With `--message-format json`, prints the exact documents.
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Kinds of files to publish
    ///
    /// One or more of bin, cdylib, staticlib, wasm, rlib, proc-macro, example and debuginfo, separated by commas. The
    /// default is `kinds` in `[package.metadata.oci]`, then bin, cdylib, staticlib and wasm.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = parse_kind)]
    kind: Vec<FileKind>,

    /// Add an annotation to the manifests
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_annotation)]
    annotation: Vec<(String, String)>,

    /// Push the files of the last build, without building
    ///
    /// Runs cargo with the same flags, and fails with "not built" if cargo would compile a crate. In a fresh checkout,
    /// use `--messages` or `--file` instead. Build scripts that cargo considers out of date still run. Cargo restores a
    /// file that was replaced after the build.
    #[arg(long, conflicts_with_all = ["file", "messages"])]
    no_build: bool,

    /// Read artifact paths from saved `cargo build --message-format json` output
    ///
    /// `-` reads stdin. `--message-format json-render-diagnostics` works too, and shows compiler errors during the
    /// build.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    messages: Option<std::path::PathBuf>,

    /// Publish this file instead of building
    ///
    /// NAME is the name of the published file (default: the file name in PATH). May be given more than once.
    #[arg(
        long,
        value_name = "[NAME=]PATH[:TYPE]",
        conflicts_with_all = ["kind", "lib", "bin", "bins", "example", "examples", "features", "all_features", "no_default_features"]
    )]
    file: Vec<FileArgument>,

    /// Also publish the files of the package that match, such as `README*`
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,

    /// Also publish the `.crate` file that `cargo package` creates
    #[arg(long = "crate")]
    crate_file: bool,

    /// Publish from a work tree with uncommitted changes
    ///
    /// By default, a push of a version to a registry fails if tracked files differ from the commit. `--crate` also
    /// fails if `cargo package` rejects changed or untracked files. The artifacts record changes of tracked files as
    /// `dirty`.
    #[arg(long)]
    allow_dirty: bool,

    /// Publish all files as one tar archive, which keeps directories and file modes
    #[arg(long)]
    archive: bool,

    /// Program to build with
    #[arg(long, value_name = "TOOL", value_enum, default_value_t, hide_default_value = true, conflicts_with_all = ["file", "messages", "no_build"])]
    build_tool: BuildTool,

    #[command(flatten)]
    pub(crate) format: FormatFlag,

    #[command(flatten)]
    selection: Selection,
}

fn parse_kind(text: &str) -> Result<FileKind, String> {
    let kind = text.parse::<FileKind>().ok().filter(|kind| kind.is_built());
    kind.ok_or_else(|| {
        let built = FileKind::ALL.into_iter().filter(|kind| kind.is_built());
        let known: Vec<_> = built.map(|kind| kind.to_string()).collect();
        format!("expected one of {}", known.join(", "))
    })
}

pub(super) fn parse_annotation(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or("expected KEY=VALUE")?;
    if key.contains(char::is_control) {
        return Err("the key contains a control character");
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Builds, packs and publishes the selected packages.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let (workspace, toolchain) = if flags.file.is_empty() {
        let (workspace, toolchain) = tokio::join!(
            Workspace::load(&session.cargo, &flags.selection),
            Toolchain::detect(&session.cargo)
        );
        (workspace?, Some(toolchain?))
    } else {
        // The compiler that built these files is unknown.
        (
            Workspace::load(&session.cargo, &flags.selection).await?,
            None,
        )
    };
    let publications = publication::select_publications(session, &workspace, &flags)?;
    // An invalid `SOURCE_DATE_EPOCH` is reported before the build.
    cargo::source_date_epoch(&session.cargo)?
        .map(publish::to_timestamp)
        .transpose()?;
    work_tree::check_before_build(session, &publications, &flags).await?;
    let extra = extra::find_included(session, &workspace, &publications).await?;
    extra::check_crates(session, &publications, &flags).await?;
    let (mut outputs, repositories) = if let Some(toolchain) = &toolchain {
        let targets = targets::target_names(&flags.selection, &toolchain.host)?;
        publication::check_targets(&publications, &targets)?;
        if flags.messages.is_none() && flags.selection.has_no_filter() {
            let built = publications
                .iter()
                .filter(|publication| publication.has_files());
            publication::check_destinations(session, &built.collect::<Vec<_>>())?;
        }
        let repositories = open_repositories(session, &publications, &targets).await?;
        publication::check_floating(session, &publications, &repositories, &targets).await?;
        (
            files::build(session, &workspace, &publications, &flags, &toolchain.host).await?,
            repositories,
        )
    } else {
        let output = files::from_arguments(session, &publications, &flags).await?;
        let targets = std::slice::from_ref(&output.target);
        let repositories = open_repositories(session, &publications, targets).await?;
        publication::check_floating(session, &publications, &repositories, targets).await?;
        (vec![output], repositories)
    };
    let pushed: Vec<_> = publications
        .iter()
        .filter(|publication| publication.has_output_in(&outputs))
        .collect();
    publication::check_destinations(session, &pushed)?;
    publication::note_shared_repositories(session, &pushed);
    git_tag::warn_about_mismatch(session, &pushed);
    let crates = extra::crate_files(session, &workspace, &pushed, &flags).await?;
    extra::add_to_outputs(&mut outputs, &[extra, crates]);
    let outputs = (outputs, repositories);
    publish::pack_and_publish(session, &publications, &flags, outputs, toolchain.as_ref()).await
}

/// Repository of a package at a registry, opened before the build.
struct OpenRepository {
    target: Arc<dyn Target>,
    /// Tags of the package in the repository. They are kept for publishing, so that they are read only once.
    stored: StoredTags,
}

/// Open repositories, each under the ID of the package that is pushed to it.
type OpenRepositories = BTreeMap<PackageId, OpenRepository>;

/// Opens the repository of each package and reads the package's tags, so that an unreachable registry or a rejected
/// credential is reported before the build. Directories and archives are skipped, because opening may create them.
async fn open_repositories(
    session: &Session,
    publications: &[Publication<'_>],
    targets: &[String],
) -> Result<OpenRepositories, Error> {
    let mut repositories = OpenRepositories::new();
    for publication in publications
        .iter()
        .filter(|publication| publication.may_have_files())
    {
        let destination = &publication.destination;
        let Location::Registry(_) = &destination.repository else {
            continue;
        };
        let target_tags = destination.target_tags(targets.iter().map(String::as_str))?;
        let target = session
            .open_target(&destination.repository, Mode::Write)
            .await?;
        let index_tags = destination.index_tags();
        let stored = StoredTags::read(&*target, &index_tags, &target_tags).await;
        let stored = stored.map_err(|error| {
            // The message about the failed request for tags is replaced by one that names the failed push.
            let name = destination.first_name();
            Error::from(error).with_message(format!("failed to push `{name}`"))
        })?;
        let repository = OpenRepository { target, stored };
        repositories.insert(publication.package.id.clone(), repository);
    }
    Ok(repositories)
}
