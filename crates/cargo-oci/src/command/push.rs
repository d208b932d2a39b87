//! `cargo oci push`: build with cargo, pack what was built, publish it.
//!
//! Everything that can be wrong without a build is found before one: names, places, settings, and a registry that does
//! not answer.

mod ahead;
mod destination;
mod handed;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Arc;

use cargo_metadata::{Package, PackageId};
use clap::Args;
use oci_package::{Artifact, Build, File, Kind, NameTemplate, PackOptions, Revision};
use oci_package::{Event, PublishOptions};
use oci_registry::{Annotations, Delivery, Descriptor, Identifier, Location, Target};

use super::location;
use crate::cargo::{
    self, Output, PackageOutput, Provenance, Request, Selection, Settings, Shell, Toolchain,
    Workspace,
};
use crate::report::{Error, Size};
use crate::session::Session;
use ahead::Ahead;
use destination::{Asked, Destination};
use handed::HandedFile;

/// Keys that this version reads and cannot honour. What is asked for and not done would be worse than a refusal.
const UNSUPPORTED_KEYS: [&str; 4] = ["include", "tags", "floating", "archive"];

/// Build a package's artifacts and publish them
///
/// Builds the selected packages in release mode, packs the programs and libraries of each, and pushes them as
/// REGISTRY/PACKAGE:VERSION. A released version keeps its files: pushing the same again sends nothing, and other files
/// are refused.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci push --registry ghcr.io/acme\n  cargo oci push --registry oci:target/oci\n  cargo oci push --target x86_64-unknown-linux-musl ghcr.io/acme/widgets\n  cargo oci push --file widgets=dist/widgets --target aarch64-apple-darwin --registry ghcr.io/acme"
)]
pub(crate) struct Flags {
    /// Where one package goes: REGISTRY/REPOSITORY[:TAG] or oci:DIR[:TAG]; a tag stands in for the version
    #[arg(value_name = "REFERENCE", value_parser = location, conflicts_with = "registry")]
    reference: Option<Location>,

    /// Where packages go, each under its name: HOST[:PORT][/PREFIX] or oci:DIR [env: CARGO_OCI_REGISTRY]
    #[arg(long, value_name = "REGISTRY")]
    registry: Option<String>,

    /// Publish under this tag instead of the version; such a tag may move
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    /// Replace the files of a released version
    #[arg(long)]
    overwrite: bool,

    /// Leave the index of the version alone, and publish the targets only
    #[arg(long)]
    no_index: bool,

    /// Show what would be sent, as JSON, and change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Which kinds of files to publish: bin, cdylib, staticlib, wasm, rlib, proc-macro, example, debuginfo
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,

    /// Add an annotation
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,

    /// Take the files that an earlier build with the same flags left
    #[arg(long, conflicts_with_all = ["file", "messages"])]
    no_build: bool,

    /// Take the files that a saved `cargo build --message-format json-render-diagnostics` names; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    messages: Option<std::path::PathBuf>,

    /// Publish this file, and build nothing
    #[arg(long, value_name = "NAME=PATH[:TYPE]")]
    file: Vec<HandedFile>,

    /// Use verbose output of cargo (-vv very verbose)
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(flatten)]
    selection: Selection,
}

fn kind(text: &str) -> Result<Kind, String> {
    let kind: Kind = text
        .parse()
        .map_err(|error: oci_package::UnknownKind| error.to_string())?;
    if kind.is_built() {
        Ok(kind)
    } else {
        Err(format!("no build writes files of the kind `{kind}`"))
    }
}

fn annotation(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A package that is to be published, and how.
struct Subject<'a> {
    package: &'a Package,
    settings: Settings,
    destination: Destination,
    names: NameTemplate,
    annotations: Annotations,
    kinds: BTreeSet<Kind>,
}

/// Builds, packs and publishes.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let (workspace, toolchain) = if flags.file.is_empty() {
        let (workspace, toolchain) = tokio::join!(
            Workspace::load(&session.cargo, &flags.selection),
            Toolchain::ask(&session.cargo)
        );
        (workspace?, Some(toolchain?))
    } else {
        // What built the files is not known here.
        (
            Workspace::load(&session.cargo, &flags.selection).await?,
            None,
        )
    };
    let subjects = subjects(session, &workspace, &flags)?;
    let outputs = match &toolchain {
        Some(toolchain) => {
            check_targets(&subjects, &flags.selection, &toolchain.host)?;
            let targets = targets(&flags.selection, &toolchain.host);
            let places = places(session, &subjects, &targets).await?;
            (
                built(session, &workspace, &subjects, &flags, &toolchain.host).await?,
                places,
            )
        }
        None => {
            let output = handed_in(session, &subjects, &flags).await?;
            let places = places(session, &subjects, &[&output.target]).await?;
            (vec![output], places)
        }
    };
    publish_all(session, &subjects, &flags, outputs, toolchain.as_ref()).await
}

/// The triples that are built for, as far as the flags tell.
fn targets<'a>(selection: &'a Selection, host: &'a str) -> Vec<&'a str> {
    let targets = selection.targets();
    if targets.is_empty() {
        vec![host]
    } else {
        targets
    }
}

/// Where each package goes, asked before anything is built. A directory is not made before there is something to put in it.
async fn places(
    session: &Session,
    subjects: &[Subject<'_>],
    targets: &[&str],
) -> Result<Places, Error> {
    let mut places = Places::new();
    for subject in subjects.iter().filter(|subject| subject.may_have_files()) {
        let Destination { repository, tag } = &subject.destination;
        let Location::Registry(_) = repository else {
            continue;
        };
        let target_tags = targets
            .iter()
            .map(|target| tag.target(target))
            .collect::<Result<_, _>>()?;
        let ahead = Ahead::ask(
            session.target(repository).await?,
            tag.index().clone(),
            target_tags,
        )
        .await?;
        places.insert(subject.package.id.clone(), Arc::new(ahead));
    }
    Ok(places)
}

type Places = BTreeMap<PackageId, Arc<dyn Target>>;

impl Subject<'_> {
    /// Whether cargo can write files of the wanted kinds for the package at all.
    fn may_have_files(&self) -> bool {
        let of_target = |target: &cargo_metadata::Target| {
            target.is_bin() && (self.kinds.contains(&Kind::Bin) || self.kinds.contains(&Kind::Wasm))
                || target.is_example()
                || target.crate_types.iter().any(|kind| {
                    self.kinds
                        .iter()
                        .any(|wanted| wanted.as_str() == kind.to_string())
                })
        };
        self.package.targets.iter().any(of_target)
    }
}

/// The packages that are to be published. Everything that the manifests and flags get wrong about them is found here.
fn subjects<'a>(
    session: &Session,
    workspace: &'a Workspace,
    flags: &Flags,
) -> Result<Vec<Subject<'a>>, Error> {
    let selected = workspace.select(&flags.selection)?;
    let mut subjects = Vec::new();
    for package in selected {
        let settings = Settings::of(workspace, package)?;
        if settings.publishes() {
            subjects.push((package, settings));
        } else {
            session.reporter.note(format_args!(
                "`{}` is not to be published (`publish = false`)",
                package.name
            ));
        }
    }
    if !flags.file.is_empty() || flags.reference.is_some() {
        let why = if flags.file.is_empty() {
            "a reference"
        } else {
            "`--file`"
        };
        check_single(&subjects, why)?;
    }
    subjects
        .into_iter()
        .map(|(package, settings)| subject(session, workspace, package, settings, flags))
        .collect()
}

fn check_single(subjects: &[(&Package, Settings)], why: &str) -> Result<(), Error> {
    if subjects.len() == 1 {
        return Ok(());
    }
    let names: Vec<_> = subjects
        .iter()
        .map(|(package, _)| format!("`{}`", package.name))
        .collect();
    let found = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Err(Error::usage(format!(
        "failed to choose a package: {why} is for exactly one, and selected are: {found}"
    ))
    .help("select one with `--package NAME`"))
}

fn subject<'a>(
    session: &Session,
    workspace: &Workspace,
    package: &'a Package,
    settings: Settings,
    flags: &Flags,
) -> Result<Subject<'a>, Error> {
    for key in UNSUPPORTED_KEYS {
        if let Some(place) = settings.place(key) {
            return Err(Error::usage(format!(
                "failed to honour {place}: this version of cargo-oci does not support it"
            )));
        }
    }
    let asked = Asked {
        reference: flags.reference.as_ref(),
        registry: flags.registry.as_deref(),
        tag: flags.tag.as_deref(),
    };
    let destination = destination::of(session, &workspace.root, package, &settings, asked)?;
    let names = match &settings.name_template {
        Some(template) => template.parse()?,
        None => NameTemplate::default(),
    };
    let mut annotations: Annotations = settings.annotations.clone();
    annotations.extend(flags.annotation.iter().cloned());
    let kinds = match (&flags.kind[..], &settings.kinds) {
        ([], None) => flags.selection.default_kinds(),
        ([], Some(kinds)) => kinds.iter().copied().collect(),
        (kinds, _) => kinds.iter().copied().collect(),
    };
    Ok(Subject {
        package,
        settings,
        destination,
        names,
        annotations,
        kinds,
    })
}

/// Refuses targets that a release was declared not to have.
fn check_targets(subjects: &[Subject<'_>], selection: &Selection, host: &str) -> Result<(), Error> {
    let targets = targets(selection, host);
    for subject in subjects {
        let Some(declared) = &subject.settings.targets else {
            continue;
        };
        let undeclared = targets
            .iter()
            .find(|target| !declared.iter().any(|known| known == *target));
        if let Some(target) = undeclared {
            let name = &subject.package.name;
            return Err(Error::usage(format!(
                "failed to push `{name}` for `{target}`: it is not a declared target"
            ))
            .help(format!(
                "add it to {}",
                subject.settings.place("targets").unwrap_or_default()
            ))
            .help(format!("the declared targets are {}", declared.join(", "))));
        }
    }
    Ok(())
}

/// The files that cargo builds, has built, or said that it built.
async fn built(
    session: &Session,
    workspace: &Workspace,
    subjects: &[Subject<'_>],
    flags: &Flags,
    host: &str,
) -> Result<Vec<Output>, Error> {
    let wanted: BTreeMap<PackageId, BTreeSet<Kind>> = subjects
        .iter()
        .map(|subject| (subject.package.id.clone(), subject.kinds.clone()))
        .collect();
    let request = Request {
        workspace,
        selection: &flags.selection,
        wanted: &wanted,
        host,
    };
    let outputs = if flags.no_build {
        cargo::existing(&session.cargo, &request).await?
    } else if let Some(path) = &flags.messages {
        replayed(session, &request, path).await?
    } else {
        let shell = Shell {
            quiet: session.reporter.is_quiet(),
            verbose: flags.verbose,
            color: session.reporter.color(),
            terminal: std::io::stderr().is_terminal(),
        };
        // Cargo's messages are read, not passed on: stdout is for the names of what is published.
        cargo::build(&session.cargo, &request, shell, |_| ()).await?
    };
    for subject in subjects {
        let is_there = |output: &Output| {
            output
                .packages
                .iter()
                .any(|package| package.id == subject.package.id)
        };
        if !outputs.iter().any(is_there) {
            session.reporter.note(format_args!(
                "`{}` has nothing to push",
                subject.package.name
            ));
        }
    }
    if outputs.iter().all(|output| output.packages.is_empty()) {
        let names: Vec<_> = subjects
            .iter()
            .map(|subject| subject.package.name.as_str())
            .collect();
        let what = if names.is_empty() {
            "no package is selected".to_owned()
        } else {
            format!("`{}` built no file of the wanted kinds", names.join("`, `"))
        };
        return Err(Error::usage(format!("nothing to push: {what}"))
            .help("programs, C libraries and WebAssembly are pushed by default; name others with `--kind`"));
    }
    Ok(outputs)
}

async fn replayed(
    session: &Session,
    request: &Request<'_>,
    path: &std::path::Path,
) -> Result<Vec<Output>, Error> {
    if path == std::path::Path::new("-") {
        let stdin = tokio::io::BufReader::new(tokio::io::stdin());
        return Ok(cargo::replay(stdin, request).await?);
    }
    let path = session.resolve(path);
    let file = tokio::fs::File::open(&path).await.map_err(|error| {
        Error::new(
            oci_registry::ErrorKind::Io,
            format!("failed to open `{}`: {error}", path.display()),
        )
    })?;
    Ok(cargo::replay(tokio::io::BufReader::new(file), request).await?)
}

/// The files named with `--file`, as if a build had written them.
async fn handed_in(
    session: &Session,
    subjects: &[Subject<'_>],
    flags: &Flags,
) -> Result<Output, Error> {
    let subject = &subjects[0];
    let target = match flags.selection.targets()[..] {
        [target] => target.to_owned(),
        [] => Toolchain::ask(&session.cargo).await?.host,
        _ => {
            return Err(
                Error::usage("failed to choose a target: `--file` is for exactly one")
                    .help("name one with `--target TRIPLE`"),
            );
        }
    };
    check_targets(subjects, &flags.selection, &target)?;
    let files = flags.file.iter().map(|file| {
        let stem = file.name.strip_suffix(".exe").unwrap_or(&file.name);
        let is_bin = subject
            .package
            .targets
            .iter()
            .any(|target| target.is_bin() && target.name == stem);
        cargo::Built {
            name: file.name.clone(),
            kind: if is_bin { Kind::Bin } else { Kind::File },
            path: session.resolve(&file.path),
        }
    });
    let package = PackageOutput {
        id: subject.package.id.clone(),
        features: Vec::new(),
        crate_types: Vec::new(),
        files: files.collect(),
    };
    Ok(Output {
        target,
        packages: vec![package],
    })
}

async fn publish_all(
    session: &Session,
    subjects: &[Subject<'_>],
    flags: &Flags,
    (outputs, mut places): (Vec<Output>, Places),
    toolchain: Option<&Toolchain>,
) -> Result<(), Error> {
    let packages: Vec<_> = subjects.iter().map(|subject| subject.package).collect();
    let provenances = cargo::provenance(&session.cargo, &packages).await?;
    // All artifacts before the first request: what cannot be packed must not leave half a workspace published.
    let mut artifacts = Vec::new();
    for output in &outputs {
        for found in &output.packages {
            let Some(subject) = subjects
                .iter()
                .find(|subject| subject.package.id == found.id)
            else {
                continue;
            };
            let provenance = provenances.get(&found.id).cloned().unwrap_or_default();
            let artifact = pack(
                session,
                subject,
                flags,
                output,
                found,
                &provenance,
                toolchain,
            )
            .await?;
            artifacts.push((subject, artifact));
        }
    }
    let mut plans = Vec::new();
    for (subject, artifact) in &artifacts {
        let repository = &subject.destination.repository;
        let place = match places.remove(&subject.package.id) {
            Some(place) => place,
            None if flags.dry_run => session.prospective_target(repository).await?,
            None => session.target(repository).await?,
        };
        if flags.dry_run {
            plans.push(plan::of(&*place, subject, artifact, &options(subject, flags)).await?);
        } else {
            publish(
                session,
                &*place,
                subject,
                artifact,
                &options(subject, flags),
            )
            .await?;
        }
        places.insert(subject.package.id.clone(), place);
    }
    if flags.dry_run {
        return session.reporter.line(plan::show(&plans));
    }
    Ok(())
}

fn options(subject: &Subject<'_>, flags: &Flags) -> PublishOptions {
    let mut options = PublishOptions {
        overwrite: flags.overwrite,
        index: !flags.no_index,
        ..PublishOptions::default()
    };
    options.declared = subject
        .settings
        .targets
        .as_ref()
        .map(|targets| targets.iter().cloned().collect());
    options
}

async fn pack(
    session: &Session,
    subject: &Subject<'_>,
    flags: &Flags,
    output: &Output,
    found: &PackageOutput,
    provenance: &Provenance,
    toolchain: Option<&Toolchain>,
) -> Result<Artifact, Error> {
    let mut build = Build::new(&output.target, flags.selection.profile());
    build.features = found.features.iter().cloned().collect();
    build.crate_types = found.crate_types.iter().cloned().collect();
    build.rustc = toolchain.map(|toolchain| toolchain.rustc.clone());
    build.cargo = toolchain.map(|toolchain| toolchain.cargo.clone());
    build.revision = provenance.revision.clone().map(|commit| Revision {
        commit,
        dirty: provenance.dirty.unwrap_or(false),
    });
    build.created = provenance.created.map(timestamp).transpose()?;
    let mut files = Vec::new();
    for built in &found.files {
        let mut file = File::new(built.name.parse()?, built.kind, &built.path);
        file.media_type = flags
            .file
            .iter()
            .find(|handed| handed.name == built.name)
            .and_then(|handed| handed.media_type.clone());
        files.push(file);
    }
    let options = PackOptions {
        names: subject.names.clone(),
        annotations: subject.annotations.clone(),
    };
    Ok(oci_package::pack(&facts(session, subject.package), &build, &files, &options).await?)
}

/// What the manifest says about a package.
fn facts(session: &Session, package: &Package) -> oci_package::Package {
    let mut facts = oci_package::Package::new(package.name.as_str(), package.version.clone());
    facts.description.clone_from(&package.description);
    facts.license.clone_from(&package.license);
    facts.homepage.clone_from(&package.homepage);
    facts.repository = package
        .repository
        .clone()
        .or_else(|| cargo::source_repository(&session.cargo));
    facts.documentation.clone_from(&package.documentation);
    facts.authors.clone_from(&package.authors);
    facts
}

/// Seconds since 1970 in the notation of RFC 3339.
fn timestamp(seconds: i64) -> Result<String, Error> {
    match jiff::Timestamp::from_second(seconds) {
        Ok(moment) => Ok(moment.to_string()),
        Err(_) => Err(Error::usage(format!(
            "failed to read the time of the sources: {seconds} is no moment in history"
        ))
        .help("check `SOURCE_DATE_EPOCH`")),
    }
}

async fn publish(
    session: &Session,
    place: &dyn Target,
    subject: &Subject<'_>,
    artifact: &Artifact,
    options: &PublishOptions,
) -> Result<(), Error> {
    let Destination { repository, tag } = &subject.destination;
    let reporter = session.reporter;
    reporter.status(
        "Pushing",
        format_args!(
            "{} v{} ({}) to {}",
            subject.package.name,
            subject.package.version,
            artifact.target(),
            repository.with(tag.index().clone())
        ),
    );
    let observer = |event: Event<'_>| match event {
        Event::Blob(blob, delivery) => {
            let verb = match delivery {
                Delivery::Uploaded => "Uploaded",
                Delivery::Mounted => "Mounted",
                Delivery::Existed => "Found",
            };
            reporter.status(verb, format_args!("{} ({})", title(blob), Size(blob.size)));
        }
        Event::Tag(tag, _) => reporter.status("Tagged", repository.with(tag.clone())),
        Event::Index(tag, index) => {
            let targets = index.as_index().map_or(0, |index| index.manifests.len());
            let noun = if targets == 1 { "target" } else { "targets" };
            reporter.status(
                "Indexed",
                format_args!("{} ({targets} {noun})", repository.with(tag.clone())),
            );
        }
        Event::Note(note) => reporter.note(note),
        _ => {}
    };
    let published = oci_package::publish(
        artifact,
        place,
        std::slice::from_ref(tag),
        options,
        &observer,
    )
    .await?;
    if published.blobs.is_empty() {
        reporter.status(
            "Unchanged",
            format_args!(
                "{} for {}",
                repository.with(tag.index().clone()),
                artifact.target()
            ),
        );
    }
    let name = repository.with(Identifier::Digest(published.manifest.digest().clone()));
    reporter.line(name)
}

/// How a person would call a layer.
fn title(blob: &Descriptor) -> &str {
    blob.annotation(oci_package::annotation::TITLE)
        .unwrap_or("config")
}
