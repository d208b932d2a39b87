//! The `.crate` files of packages, which `cargo package` makes of their sources.
//!
//! Cargo decides which files a package consists of, and refuses files with changes that are not committed. Packages are
//! not built again for it.

use std::{collections::BTreeMap, io, path::PathBuf, process::Stdio};

use cargo_metadata::{Package, PackageId};
use oci_package::FileKind;
use snafu::{ResultExt, Snafu, ensure};
use tokio::process::Command;

use super::{Built, Environment, ErrorClass, Fault, Selection, Shell, Workspace, process};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to list the files of a `.crate` file"))]
    List { source: process::Error },
    #[snafu(display("failed to run `{command}`"))]
    Run { command: String, source: io::Error },
    #[snafu(display("cargo failed to package"))]
    Fail,
    #[snafu(display("failed to find the `.crate` file of `{package}`: there is no `{}`", path.display()))]
    Absent { package: String, path: PathBuf },
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            // Cargo that ran and refused found something wrong with the sources or the manifest.
            Self::List { source } if source.is_refusal() => ErrorClass::Usage,
            Self::List { .. } | Self::Run { .. } => ErrorClass::Io,
            Self::Fail => ErrorClass::Build,
            Self::Absent { .. } => ErrorClass::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Self::List { source } if source.refusal()?.contains(ALLOW_DIRTY) => {
                "commit or ignore the files, or pass `--allow-dirty` to publish them as they are"
            }
            Self::List { .. } => "run `cargo package --list` to see the error",
            Self::Absent { .. } => "make it with `cargo package`, or leave `--no-build` out",
            Self::Run { .. } | Self::Fail => return None,
        };
        Some(help.to_owned())
    }
}

/// The flag with which cargo packages changes that are not committed. It names the flag where it refuses them.
const ALLOW_DIRTY: &str = "--allow-dirty";

/// Options of [`crate_files`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrateOptions<'a> {
    /// Packages changes that are not committed.
    pub(crate) allow_dirty: bool,
    /// The output of cargo; `None` takes the files of an earlier `cargo package`.
    pub(crate) shell: Option<Shell<'a>>,
}

/// Fails where cargo would refuse to package the sources as they are now.
pub(crate) async fn check_crates(
    environment: &Environment,
    selection: &Selection,
    packages: &[&Package],
    allow_dirty: bool,
) -> Result<(), super::Error> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut command = command(environment, selection, packages, allow_dirty);
    // Without `--quiet` warnings precede the refusal.
    command.args(["--list", "--quiet"]);
    process::capture(command).await.context(ListSnafu)?;
    Ok(())
}

/// Returns the `.crate` files of packages.
pub(crate) async fn crate_files(
    environment: &Environment,
    workspace: &Workspace,
    selection: &Selection,
    packages: &[&Package],
    options: CrateOptions<'_>,
) -> Result<BTreeMap<PackageId, Built>, super::Error> {
    // Again, because a build may change files.
    check_crates(environment, selection, packages, options.allow_dirty).await?;
    if let Some(shell) = options.shell {
        let mut command = command(environment, selection, packages, options.allow_dirty);
        command
            .arg("--no-verify")
            .arg("--target-dir")
            .arg(&workspace.target_directory)
            .args(shell.words());
        make(command).await?;
    }
    let mut files = BTreeMap::new();
    for package in packages {
        let name = format!("{}-{}.crate", package.name, package.version);
        let path = workspace.target_directory.join("package").join(&name);
        let package_name = package.name.as_str();
        ensure!(
            path.is_file(),
            AbsentSnafu {
                package: package_name,
                path
            }
        );
        let kind = FileKind::Crate;
        files.insert(package.id.clone(), Built { name, kind, path });
    }
    Ok(files)
}

/// `cargo package` of these packages.
fn command(
    environment: &Environment,
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

async fn make(mut command: Command) -> Result<(), Error> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let shown = process::shown(&command);
    let status = command
        .status()
        .await
        .context(RunSnafu { command: shown })?;
    ensure!(status.success(), FailSnafu);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::scratch::{Scratch, flags, story},
        *,
    };

    const QUIET: Shell<'static> = Shell {
        quiet: true,
        verbose: 0,
        color: None,
        terminal: false,
    };

    async fn ask(
        scratch: &Scratch,
        allow_dirty: bool,
        shell: Option<Shell<'_>>,
    ) -> Result<Vec<Built>, super::super::Error> {
        let environment = scratch.environment();
        let selection = flags("--offline");
        let workspace = Workspace::load(&environment, &selection).await?;
        let packages: Vec<_> = workspace.members.iter().collect();
        let options = CrateOptions { allow_dirty, shell };
        let files = crate_files(&environment, &workspace, &selection, &packages, options).await?;
        Ok(files.into_values().collect())
    }

    /// Whether the `.crate` file of the package holds a file; it is a compressed tar.
    fn holds(scratch: &Scratch, file: &str) -> bool {
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
    async fn a_crate_file_is_made_or_must_be_there() {
        let scratch = Scratch::new_package();
        let error = ask(&scratch, false, None).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        assert!(story(&error).contains("a-0.1.0.crate"), "{}", story(&error));
        let made = ask(&scratch, false, Some(QUIET)).await.unwrap();
        let [file] = &made[..] else {
            panic!("{made:?}");
        };
        assert_eq!(
            (file.name.as_str(), file.kind),
            ("a-0.1.0.crate", FileKind::Crate)
        );
        let bytes = std::fs::read(&file.path).unwrap();
        assert!(bytes.starts_with(&[0x1f, 0x8b]), "it is compressed");
        assert_eq!(ask(&scratch, false, None).await.unwrap(), made);
    }

    #[tokio::test]
    async fn untracked_file_is_refused_and_allowed_by_the_flag() {
        let scratch = Scratch::new_package();
        scratch.write(".gitignore", "target\nCargo.lock\n");
        scratch.git(&["init", "--quiet"]);
        scratch.git(&["add", "."]);
        scratch.git(&["commit", "--quiet", "--message", "all"]);
        ask(&scratch, false, Some(QUIET)).await.unwrap();

        scratch.write(".env", "SECRET=1");
        for shell in [Some(QUIET), None] {
            let error = ask(&scratch, false, shell).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Usage);
            let story = story(&error);
            assert!(story.contains("\n\n.env\n\n"), "{story}");
            assert!(
                story.contains("\nhelp: commit or ignore the files"),
                "{story}"
            );
        }
        assert!(!holds(&scratch, ".env"));
        ask(&scratch, true, Some(QUIET)).await.unwrap();
        assert!(holds(&scratch, ".env"));
    }

    #[tokio::test]
    async fn untracked_file_outside_git_is_packaged() {
        let scratch = Scratch::new_package();
        scratch.write("notes.txt", "");
        ask(&scratch, false, Some(QUIET)).await.unwrap();
        assert!(holds(&scratch, "notes.txt"));
    }
}
