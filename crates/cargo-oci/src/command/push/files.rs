//! Files to push: built by cargo, listed in saved messages, or given with `--file`.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cargo_metadata::{CrateType, PackageId};
use oci_package::FileKind;
use oci_registry::FileName;

use super::publication::{Publication, check_targets};
use super::{Flags, targets};
use crate::cargo::{
    self, BuildOutput, BuildRequest, OutputOptions, PackageOutput, Toolchain, Workspace,
};
use crate::report::Error;
use crate::session::Session;
use crate::typed_path::TypedPath;

/// Builds the files, finds the files of an earlier build, or reads the paths of files from saved messages.
pub(super) async fn build(
    session: &Session,
    workspace: &Workspace,
    publications: &[Publication<'_>],
    flags: &Flags,
    host: &str,
) -> Result<Vec<BuildOutput>, Error> {
    let wanted: BTreeMap<PackageId, BTreeSet<FileKind>> = publications
        .iter()
        .map(|publication| (publication.package.id.clone(), publication.kinds.clone()))
        .collect();
    let request = BuildRequest {
        workspace,
        selection: &flags.selection,
        wanted: &wanted,
        host,
    };
    let outputs = if flags.no_build {
        cargo::find_existing(&session.cargo, &request).await?
    } else if let Some(path) = &flags.messages {
        from_messages(session, &request, path).await?
    } else {
        // Cargo's messages are written to stdout only in JSON format. In human format, stdout contains only the
        // published references.
        let line = |line: &str| session.reporter.forward_line(line);
        cargo::build(
            &session.cargo,
            &request,
            flags.build_tool,
            output_options(session),
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
                "failed to push `{}`: the file `{}`, which cargo reported, does not exist on this machine",
                file.name,
                file.path.display()
            ),
        )
        .help("build it again, or copy it to this path"));
    }
    if outputs.iter().all(|output| output.packages.is_empty()) {
        let names: Vec<_> = publications
            .iter()
            .map(|publication| publication.package.name.as_str())
            .collect();
        let names = names.join("`, `");
        return Err(if flags.messages.is_some() {
            let profile = flags.selection.profile();
            Error::usage(format!(
                "nothing to push: the messages contain no file of `{names}` in the profile `{profile}`"
            ))
            .help("select another profile with `--profile`, or other kinds of files with `--kind`")
        } else {
            let error = Error::usage(format!(
                "nothing to push: the build of `{names}` produced no file of the selected kinds"
            ));
            match other_kinds(publications).as_deref() {
                Some(kinds) => error.help(format!(
                    "pass `--kind {kinds}` to push its other files; the default is programs, C libraries and WebAssembly"
                )),
                None => error.help("select a package with programs or libraries with `--package`"),
            }
        });
    }
    for publication in publications {
        let has_files = |output: &BuildOutput| {
            output
                .packages
                .iter()
                .any(|package| package.id == publication.package.id)
        };
        if !outputs.iter().any(has_files) {
            session.reporter.note(format_args!(
                "`{}` has nothing to push",
                publication.package.name
            ));
        }
    }
    Ok(outputs)
}

/// Returns the kinds of files that could be built but are not selected, as a value for `--kind`. Returns `None` if
/// there are none.
fn other_kinds(publications: &[Publication<'_>]) -> Option<String> {
    let mut kinds = BTreeSet::new();
    for publication in publications {
        for target in &publication.package.targets {
            kinds.extend(file_kinds(target).filter(|kind| !publication.kinds.contains(kind)));
        }
    }
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    (!kinds.is_empty()).then(|| kinds.join(","))
}

/// Returns the kinds of files that cargo writes for a target by default. An example has none, because cargo builds it
/// only on request.
pub(super) fn file_kinds(target: &cargo_metadata::Target) -> impl Iterator<Item = FileKind> {
    let crate_types = target.crate_types.iter().map(|kind| match kind {
        CrateType::Lib => "rlib".to_owned(),
        other => other.to_string(),
    });
    let is_example = target.is_example();
    let kinds = crate_types.filter_map(|kind| kind.parse::<FileKind>().ok());
    kinds.filter(move |kind| !is_example && kind.is_built())
}

/// Returns the output options of this process for cargo.
pub(super) fn output_options(session: &Session) -> OutputOptions<'static> {
    OutputOptions {
        quiet: session.reporter.is_quiet(),
        verbose: session.reporter.verbosity(),
        color: session.reporter.color(),
        terminal: std::io::stderr().is_terminal(),
    }
}

async fn from_messages(
    session: &Session,
    request: &BuildRequest<'_>,
    path: &std::path::Path,
) -> Result<Vec<BuildOutput>, Error> {
    if path == std::path::Path::new("-") {
        let stdin = tokio::io::BufReader::new(tokio::io::stdin());
        return Ok(cargo::replay(stdin, request).await?);
    }
    let path = session.resolve(path);
    let file = oci_registry::open_input(&path).map_err(|error| {
        Error::from_io(format!("failed to open `{}`", path.display()), error).help(
            "create it with `cargo build --release --message-format json-render-diagnostics > FILE`",
        )
    })?;
    let file = tokio::fs::File::from_std(file);
    Ok(cargo::replay(tokio::io::BufReader::new(file), request).await?)
}

/// Returns the files that `--file` names, as if one build had written them.
pub(super) async fn from_arguments(
    session: &Session,
    publications: &[Publication<'_>],
    flags: &Flags,
) -> Result<BuildOutput, Error> {
    let publication = &publications[0];
    let host = if targets::needs_host(&flags.selection) {
        Toolchain::detect(&session.cargo).await?.host
    } else {
        String::new()
    };
    let names = targets::target_names(&flags.selection, &host)?;
    let [target] = &names[..] else {
        return Err(
            Error::usage("failed to select a target: `--file` requires exactly one")
                .help("pass one with `--target TRIPLE`"),
        );
    };
    check_targets(publications, &names)?;
    let files = flags.file.iter().map(|file| file.resolve(session));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    for (at, file) in files.iter().enumerate() {
        if files[..at].iter().any(|earlier| earlier.name == file.name) {
            return Err(Error::usage(format!(
                "failed to push the files: more than one `--file` has the name `{}`",
                file.name
            )));
        }
    }
    if let Some(file) = files.iter().find(|file| !file.path.is_file()) {
        return Err(Error::new(
            oci_registry::ErrorKind::Io,
            format!(
                "failed to push `{}`: no such file `{}`",
                file.name, file.written
            ),
        )
        .help("check the path, which is relative to the working directory"));
    }
    let files = files.into_iter().map(|file| {
        let stem = file.name.as_str().trim_end_matches(".exe");
        let is_bin = publication
            .package
            .targets
            .iter()
            .any(|target| target.is_bin() && target.name == stem);
        cargo::BuiltFile {
            name: file.name.to_string(),
            kind: if is_bin {
                FileKind::Bin
            } else {
                FileKind::File
            },
            path: file.path,
        }
    });
    let package = PackageOutput {
        id: publication.package.id.clone(),
        features: Vec::new(),
        crate_types: Vec::new(),
        files: files.collect(),
    };
    Ok(BuildOutput {
        target: target.clone(),
        packages: vec![package],
    })
}

/// Value of `--file`: `PATH` or `NAME=PATH[:TYPE]`.
///
/// A path may contain `=`, so the value is split only if no file has this path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileArgument(String);

/// File of a `--file` flag.
pub(super) struct NamedFile {
    /// Name of the published file.
    pub(super) name: FileName,
    /// Absolute path.
    path: PathBuf,
    /// Path as written, with an optional media type.
    pub(super) written: TypedPath,
}

impl FileArgument {
    /// Splits the value. Fails if it has no name and no file has this path.
    pub(super) fn resolve(&self, session: &Session) -> Result<NamedFile, Error> {
        let (name, written) = self.split(|path| session.resolve(path).exists())?;
        Ok(NamedFile {
            name,
            path: session.resolve(&written.split(session).0),
            written,
        })
    }

    /// Returns the name and the path. The name of a path without a name is its file name.
    fn split(&self, exists: impl Fn(&Path) -> bool) -> Result<(FileName, TypedPath), Error> {
        let whole = Path::new(&self.0);
        let file_name = whole.file_name().and_then(OsStr::to_str);
        let parts = match file_name {
            Some(name) if exists(whole) => Some((name, self.0.as_str())),
            _ => self.0.split_once('='),
        };
        let parts = parts.filter(|(name, path)| !name.is_empty() && !path.is_empty());
        let Some((name, path)) = parts else {
            return Err(
                Error::usage(format!("failed to push `{}`: no such file", self.0))
                    .help("pass the path of a file, NAME=PATH or NAME=PATH:TYPE"),
            );
        };
        Ok((name.parse::<FileName>()?, path.into()))
    }
}

impl FromStr for FileArgument {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_argument_is_path_or_split_at_first_equals_sign() {
        let parse = |text: &str| {
            let file = text.parse::<FileArgument>().ok()?;
            let existing = ["out/w", "out/a=b"].map(Path::new);
            let (name, path) = file.split(|path| existing.contains(&path)).ok()?;
            Some((name.to_string(), path.to_string()))
        };
        let expected = |name: &str, path: &str| Some((name.to_owned(), path.to_owned()));
        assert_eq!(parse("out/w"), expected("w", "out/w"));
        assert_eq!(parse("out/a=b"), expected("a=b", "out/a=b"));
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
