//! The files of a push: those that cargo builds or built, that saved messages name, or that `--file` names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::str::FromStr;

use cargo_metadata::{CrateType, PackageId};
use oci_package::FileKind;
use oci_registry::FileName;

use super::subject::{Subject, check_targets};
use super::{Flags, targets};
use crate::cargo::{self, Output, PackageOutput, Request, Shell, Toolchain, Workspace};
use crate::report::Error;
use crate::session::Session;
use crate::typed_path::TypedPath;

/// Builds the files, finds those of an earlier build, or reads their names from saved messages.
pub(super) async fn built(
    session: &Session,
    workspace: &Workspace,
    subjects: &[Subject<'_>],
    flags: &Flags,
    host: &str,
) -> Result<Vec<Output>, Error> {
    let wanted: BTreeMap<PackageId, BTreeSet<FileKind>> = subjects
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
        // Cargo's messages are for programs; otherwise stdout is for the names of what is published.
        let line = |line: &str| session.reporter.pass_on(line);
        cargo::build(
            &session.cargo,
            &request,
            flags.build_tool,
            shell(session),
            line,
        )
        .await?
    };
    let packages = outputs.iter().flat_map(|output| &output.packages);
    let mut files = packages.flat_map(|package| &package.files);
    if let Some(file) = files.find(|file| !file.path.exists()) {
        return Err(Error::new(
            oci_registry::ErrorKind::Io,
            format!(
                "failed to push `{}`: the reported file `{}` is not on this machine",
                file.name,
                file.path.display()
            ),
        )
        .help("build it again, or copy it to this path"));
    }
    if outputs.iter().all(|output| output.packages.is_empty()) {
        let names: Vec<_> = subjects
            .iter()
            .map(|subject| subject.package.name.as_str())
            .collect();
        let names = names.join("`, `");
        return Err(if flags.messages.is_some() {
            let profile = flags.selection.profile();
            Error::usage(format!(
                "nothing to push: the messages name no file of `{names}` in the profile `{profile}`"
            ))
            .help("name another profile with `--profile`, or other kinds of files with `--kind`")
        } else {
            let error = Error::usage(format!(
                "nothing to push: `{names}` built no file of the wanted kinds"
            ));
            match other_kinds(subjects).as_deref() {
                Some(kinds) => error.help(format!(
                    "pass `--kind {kinds}` to push what there is; by default that are programs, C libraries and WebAssembly"
                )),
                None => error.help("select a package with programs or libraries with `--package`"),
            }
        });
    }
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
    Ok(outputs)
}

/// The kinds of files that the packages have and nobody wanted, as `--kind` takes them.
fn other_kinds(subjects: &[Subject<'_>]) -> Option<String> {
    let mut kinds = BTreeSet::new();
    for subject in subjects {
        for target in &subject.package.targets {
            kinds.extend(kinds_of(target).filter(|kind| !subject.kinds.contains(kind)));
        }
    }
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    (!kinds.is_empty()).then(|| kinds.join(","))
}

/// The kinds of the files that cargo writes for a target; an example is only built where it is asked for.
pub(super) fn kinds_of(target: &cargo_metadata::Target) -> impl Iterator<Item = FileKind> {
    let crate_types = target.crate_types.iter().map(|kind| match kind {
        CrateType::Lib => "rlib".to_owned(),
        other => other.to_string(),
    });
    let is_example = target.is_example();
    let kinds = crate_types.filter_map(|kind| kind.parse::<FileKind>().ok());
    kinds.filter(move |kind| !is_example && kind.is_built())
}

/// How cargo is to talk: as we do.
pub(super) fn shell(session: &Session) -> Shell<'static> {
    Shell {
        quiet: session.reporter.is_quiet(),
        verbose: session.reporter.verbosity(),
        color: session.reporter.color(),
        terminal: std::io::stderr().is_terminal(),
    }
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
    let file = oci_registry::open_input(&path).map_err(|error| {
        Error::of_file(format!("failed to open `{}`", path.display()), error).help(
            "save it with `cargo build --release --message-format json-render-diagnostics > FILE`",
        )
    })?;
    let file = tokio::fs::File::from_std(file);
    Ok(cargo::replay(tokio::io::BufReader::new(file), request).await?)
}

/// The files named with `--file`, as if a build had written them.
pub(super) async fn handed_in(
    session: &Session,
    subjects: &[Subject<'_>],
    flags: &Flags,
) -> Result<Output, Error> {
    let subject = &subjects[0];
    let host = if targets::need_host(&flags.selection) {
        Toolchain::ask(&session.cargo).await?.host
    } else {
        String::new()
    };
    let names = targets::names(&flags.selection, &host)?;
    let [target] = &names[..] else {
        return Err(
            Error::usage("failed to choose a target: `--file` is for exactly one")
                .help("name one with `--target TRIPLE`"),
        );
    };
    check_targets(subjects, &names)?;
    for (at, file) in flags.file.iter().enumerate() {
        if flags.file[..at]
            .iter()
            .any(|earlier| earlier.name == file.name)
        {
            return Err(Error::usage(format!(
                "failed to take the files: `--file` names `{}` twice",
                file.name
            )));
        }
    }
    let is_absent = |file: &&HandedFile| !session.resolve(&file.place.split(session).0).is_file();
    if let Some(file) = flags.file.iter().find(is_absent) {
        return Err(Error::new(
            oci_registry::ErrorKind::Io,
            format!(
                "failed to take `{}`: there is no file `{}`",
                file.name, file.place
            ),
        )
        .help("check the path, which is relative to where the command is typed"));
    }
    let files = flags.file.iter().map(|file| {
        let stem = file.name.as_str().trim_end_matches(".exe");
        let is_bin = subject
            .package
            .targets
            .iter()
            .any(|target| target.is_bin() && target.name == stem);
        cargo::Built {
            name: file.name.to_string(),
            kind: if is_bin {
                FileKind::Bin
            } else {
                FileKind::File
            },
            path: session.resolve(&file.place.split(session).0),
        }
    });
    let package = PackageOutput {
        id: subject.package.id.clone(),
        features: Vec::new(),
        crate_types: Vec::new(),
        files: files.collect(),
    };
    Ok(Output {
        target: target.clone(),
        packages: vec![package],
    })
}

/// A file of `--file NAME=PATH[:TYPE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandedFile {
    /// The file's name in the package.
    pub(crate) name: FileName,
    /// Its path, with its media type if one was given.
    pub(crate) place: TypedPath,
}

impl FromStr for HandedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split_once('=')
            .filter(|(name, place)| !name.is_empty() && !place.is_empty());
        let (name, place) = parts.ok_or("expected NAME=PATH or NAME=PATH:TYPE")?;
        let name = name
            .parse::<FileName>()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            name,
            place: place.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handed_file_is_a_name_and_a_place() {
        let parse = |text: &str| {
            let file: HandedFile = text.parse().ok()?;
            Some((file.name.to_string(), file.place.to_string()))
        };
        let expected = |name: &str, place: &str| Some((name.to_owned(), place.to_owned()));
        assert_eq!(parse("w=out/w"), expected("w", "out/w"));
        assert_eq!(parse("w=a=b"), expected("w", "a=b"));
        assert_eq!(
            parse("w=out/w.json:application/json"),
            expected("w", "out/w.json:application/json")
        );
        assert_eq!(parse("w"), None);
        assert_eq!(parse("=w"), None);
        assert_eq!(parse("w="), None);
        assert_eq!(parse("../w=x"), None);
    }
}
