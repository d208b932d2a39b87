//! `.crate` files, which `cargo package` creates from the sources of a package.
//!
//! Cargo selects the source files, and rejects those with uncommitted changes. The packages are not built again.

use std::{collections::BTreeMap, io, path::PathBuf, process::Stdio};

use cargo_metadata::{Package, PackageId};
use oci_package::FileKind;
use oci_registry::{ErrorKind, Failure, Hint};
use snafu::{ResultExt, Snafu, ensure};
use tokio::process::Command;

use super::{BuiltFile, CargoEnvironment, OutputOptions, Selection, Workspace, process};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to list the files of a `.crate` file"))]
    List { source: process::Error },
    #[snafu(display("failed to run `{command}`"))]
    Run { command: String, source: io::Error },
    #[snafu(display("failed to find the `.crate` file of `{package}`: no such file `{}`", path.display()))]
    NoCrateFile { package: String, path: PathBuf },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            // If cargo ran and failed, the sources or the manifest are invalid.
            Self::List { source } if source.has_failed() => ErrorKind::InvalidInput,
            Self::List { .. } | Self::Run { .. } => ErrorKind::Io,
            Self::NoCrateFile { .. } => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let hint = match self {
            Self::List { source }
                if source
                    .stderr()
                    .is_some_and(|stderr| stderr.contains(ALLOW_DIRTY)) =>
            {
                "commit or ignore the files, or pass `--allow-dirty` to publish uncommitted changes"
            }
            Self::List { .. } => "run `cargo package --list` to see the error",
            Self::NoCrateFile { .. } => "create it with `cargo package`, or remove `--no-build`",
            Self::Run { .. } => return Vec::new(),
        };
        vec![hint.into()]
    }
}

/// Cargo flag to package uncommitted changes. Cargo's error message about uncommitted changes contains the flag.
const ALLOW_DIRTY: &str = "--allow-dirty";

/// Options of [`crate_files`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrateOptions<'a> {
    /// Whether to package uncommitted changes.
    pub(crate) allow_dirty: bool,
    /// Output options for cargo. If `None`, no files are created, and those of an earlier `cargo package` are used.
    pub(crate) output: Option<OutputOptions<'a>>,
}

/// Checks that cargo would package the current sources.
pub(crate) async fn check_crates(
    environment: &CargoEnvironment,
    selection: &Selection,
    packages: &[&Package],
    allow_dirty: bool,
) -> Result<(), super::Error> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut command = command(environment, selection, packages, allow_dirty);
    // `--quiet` suppresses the warnings that cargo would print before the error message.
    command.args(["--list", "--quiet"]);
    process::capture(command).await.context(ListSnafu)?;
    Ok(())
}

/// Returns the `.crate` files of packages. Creates the files if [`CrateOptions::output`] is set.
pub(crate) async fn crate_files(
    environment: &CargoEnvironment,
    workspace: &Workspace,
    selection: &Selection,
    packages: &[&Package],
    options: CrateOptions<'_>,
) -> Result<BTreeMap<PackageId, BuiltFile>, super::Error> {
    // The check is repeated, because the build may have changed source files.
    check_crates(environment, selection, packages, options.allow_dirty).await?;
    if let Some(output) = options.output {
        let mut command = command(environment, selection, packages, options.allow_dirty);
        command
            .arg("--no-verify")
            .arg("--target-dir")
            .arg(&workspace.target_directory)
            .args(output.common_arguments());
        run(command).await?;
    }
    let mut files = BTreeMap::new();
    for package in packages {
        let name = format!("{}-{}.crate", package.name, package.version);
        let path = workspace.target_directory.join("package").join(&name);
        let package_name = package.name.as_str();
        ensure!(
            path.is_file(),
            NoCrateFileSnafu {
                package: package_name,
                path
            }
        );
        let kind = FileKind::Crate;
        files.insert(package.id.clone(), BuiltFile { name, kind, path });
    }
    Ok(files)
}

/// Returns the `cargo package` command for these packages.
fn command(
    environment: &CargoEnvironment,
    selection: &Selection,
    packages: &[&Package],
    allow_dirty: bool,
) -> Command {
    let mut command = process::command(environment, environment.cargo());
    command.arg("package").args(selection.manifest_arguments());
    for package in packages {
        command.args(["--package", package.name.as_str()]);
    }
    command.args(allow_dirty.then_some(ALLOW_DIRTY));
    command
}

async fn run(mut command: Command) -> Result<(), super::Error> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let shown = process::display_command(&command);
    let status = command
        .status()
        .await
        .context(RunSnafu { command: shown })?;
    if status.success() {
        Ok(())
    } else {
        Err(super::Error::BuildFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::scratch::{TestDirectory, error_chain, error_kind, flags},
        *,
    };

    const QUIET: OutputOptions<'static> = OutputOptions {
        quiet: true,
        verbose: 0,
        color: None,
        terminal: false,
    };

    async fn package(
        scratch: &TestDirectory,
        allow_dirty: bool,
        output: Option<OutputOptions<'_>>,
    ) -> Result<Vec<BuiltFile>, super::super::Error> {
        let environment = scratch.environment();
        let selection = flags("--offline");
        let workspace = Workspace::load(&environment, &selection).await?;
        let packages: Vec<_> = workspace.members.iter().collect();
        let options = CrateOptions {
            allow_dirty,
            output,
        };
        let files = crate_files(&environment, &workspace, &selection, &packages, options).await?;
        Ok(files.into_values().collect())
    }

    /// Whether the `.crate` file of the package, a compressed tar archive, contains a file.
    fn contains(scratch: &TestDirectory, file: &str) -> bool {
        let listed = std::process::Command::new("tar")
            .args(["-tzf", "target/package/a-0.1.0.crate"])
            .current_dir(scratch.path())
            .output()
            .unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        assert!(text.contains("a-0.1.0/Cargo.toml\n"), "{text}");
        text.lines().any(|line| line == format!("a-0.1.0/{file}"))
    }

    #[tokio::test]
    async fn missing_crate_file_is_rejected_unless_created() {
        let scratch = TestDirectory::new_package();
        let error = package(&scratch, false, None).await.unwrap_err();
        assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
        assert!(
            error_chain(&error).contains("a-0.1.0.crate"),
            "{}",
            error_chain(&error)
        );
        let made = package(&scratch, false, Some(QUIET)).await.unwrap();
        let [file] = &made[..] else {
            panic!("{made:?}");
        };
        assert_eq!(
            (file.name.as_str(), file.kind),
            ("a-0.1.0.crate", FileKind::Crate)
        );
        let bytes = std::fs::read(&file.path).unwrap();
        assert!(bytes.starts_with(&[0x1f, 0x8b]), "gzip magic number");
        assert_eq!(package(&scratch, false, None).await.unwrap(), made);
    }

    #[tokio::test]
    async fn untracked_file_is_rejected_unless_allow_dirty() {
        let scratch = TestDirectory::new_package();
        scratch.write(".gitignore", "target\nCargo.lock\n");
        scratch.git(&["init", "--quiet"]);
        scratch.git(&["add", "."]);
        scratch.git(&["commit", "--quiet", "--message", "all"]);
        package(&scratch, false, Some(QUIET)).await.unwrap();

        scratch.write(".env", "SECRET=1");
        for output in [Some(QUIET), None] {
            let error = package(&scratch, false, output).await.unwrap_err();
            assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
            let error_chain = error_chain(&error);
            assert!(error_chain.contains("\n\n.env\n\n"), "{error_chain}");
            assert!(
                error_chain.contains("\nhelp: commit or ignore the files"),
                "{error_chain}"
            );
        }
        assert!(!contains(&scratch, ".env"));
        package(&scratch, true, Some(QUIET)).await.unwrap();
        assert!(contains(&scratch, ".env"));
    }

    #[tokio::test]
    async fn untracked_file_outside_git_is_packaged() {
        let scratch = TestDirectory::new_package();
        scratch.write("notes.txt", "");
        package(&scratch, false, Some(QUIET)).await.unwrap();
        assert!(contains(&scratch, "notes.txt"));
    }
}
