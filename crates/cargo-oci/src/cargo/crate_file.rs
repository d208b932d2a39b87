//! The `.crate` files of packages: what cargo would publish of their sources.
//!
//! They are made as they are, without being built again and with what is not committed, which a push records as well; or
//! taken as an earlier `cargo package` left them.

use std::{collections::BTreeMap, io, path::PathBuf, process::Stdio};

use cargo_metadata::{Package, PackageId};
use oci_package::Kind;
use snafu::{ResultExt, Snafu, ensure};

use super::{Built, Environment, ErrorClass, Fault, Selection, Shell, Workspace, process};

#[derive(Debug, Snafu)]
enum Error {
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
            Self::Run { .. } => ErrorClass::Io,
            Self::Fail => ErrorClass::Build,
            Self::Absent { .. } => ErrorClass::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        let absent = matches!(self, Self::Absent { .. });
        absent.then(|| "make it with `cargo package`, or leave `--no-build` out".to_owned())
    }
}

/// The `.crate` files of these packages, made now unless they are to be there already.
pub(crate) async fn crate_files(
    environment: &Environment,
    workspace: &Workspace,
    selection: &Selection,
    packages: &[&Package],
    shell: Option<Shell<'_>>,
) -> Result<BTreeMap<PackageId, Built>, super::Error> {
    if let Some(shell) = shell {
        make(environment, workspace, selection, packages, shell).await?;
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
        let kind = Kind::Crate;
        files.insert(package.id.clone(), Built { name, kind, path });
    }
    Ok(files)
}

async fn make(
    environment: &Environment,
    workspace: &Workspace,
    selection: &Selection,
    packages: &[&Package],
    shell: Shell<'_>,
) -> Result<(), Error> {
    let mut command = process::command(environment, environment.cargo());
    command
        .args(["package", "--no-verify", "--allow-dirty"])
        .args(selection.manifest_arguments())
        .arg("--target-dir")
        .arg(&workspace.target_directory)
        .args(shell.words())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    for package in packages {
        command.args(["--package", package.name.as_str()]);
    }
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

    #[tokio::test]
    async fn a_crate_file_is_made_or_must_be_there() {
        let scratch = Scratch::new_package();
        let environment = scratch.environment();
        let selection = flags("--offline");
        let workspace = Workspace::load(&environment, &selection).await.unwrap();
        let packages: Vec<_> = workspace.members.iter().collect();
        let ask =
            async |shell| crate_files(&environment, &workspace, &selection, &packages, shell).await;
        let error = ask(None).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        assert!(story(&error).contains("a-0.1.0.crate"), "{}", story(&error));
        let shell = Shell {
            quiet: true,
            ..Shell::default()
        };
        let made = ask(Some(shell)).await.unwrap();
        let [file] = made.values().collect::<Vec<_>>()[..] else {
            panic!("{made:?}");
        };
        assert_eq!(
            (file.name.as_str(), file.kind),
            ("a-0.1.0.crate", Kind::Crate)
        );
        let bytes = std::fs::read(&file.path).unwrap();
        assert!(bytes.starts_with(&[0x1f, 0x8b]), "it is compressed");
        assert_eq!(ask(None).await.unwrap(), made);
    }
}
