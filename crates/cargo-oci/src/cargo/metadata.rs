//! Workspace metadata from `cargo metadata`, and package selection.
//!
//! `cargo metadata` runs with `--no-deps`, because resolving dependencies is slow.

use std::path::PathBuf;

use cargo_metadata::{Metadata, Package, PackageId};
use oci_package::find_similar_name;
use oci_registry::{ErrorKind, Failure, Hint};
use snafu::{OptionExt, ResultExt, Snafu, ensure};

use super::{CargoEnvironment, process, selection::Selection};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read the workspace"))]
    RunMetadata { source: process::Error },
    #[snafu(display("failed to parse the output of `cargo metadata`"))]
    ParseMetadata { source: serde_json::Error },
    #[snafu(display("no package of the workspace matches `{specification}`"))]
    UnknownPackage {
        specification: String,
        known: Vec<String>,
    },
    #[snafu(display("`--exclude` can only be used together with `--workspace`"))]
    ExcludeAlone,
    #[snafu(display("failed to read the package pattern `{specification}`"))]
    Pattern {
        specification: String,
        source: glob::PatternError,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            // If cargo ran and failed, the manifests or the flags are invalid.
            Self::RunMetadata { source } if source.has_failed() => ErrorKind::InvalidInput,
            Self::RunMetadata { .. } | Self::ParseMetadata { .. } => ErrorKind::Io,
            Self::UnknownPackage { .. } | Self::ExcludeAlone | Self::Pattern { .. } => {
                ErrorKind::InvalidInput
            }
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::RunMetadata { source } => {
                let stderr = source.stderr().into_iter();
                stderr.map(|stderr| advice_for(stderr).into()).collect()
            }
            Self::ExcludeAlone => vec!["add `--workspace`, or remove `--exclude`".into()],
            Self::UnknownPackage {
                specification,
                known,
            } => {
                let name = specification.split(['@', ':']).next().unwrap_or_default();
                let hint = match find_similar_name(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("a package with a similar name exists: `{near}`"),
                    None => format!(
                        "choose from the packages of the workspace: `{}`",
                        known.join("`, `")
                    ),
                };
                vec![hint.into()]
            }
            Self::ParseMetadata { .. } | Self::Pattern { .. } => Vec::new(),
        }
    }
}

/// Returns the hint for an error message of `cargo metadata`.
fn advice_for(stderr: &str) -> &'static str {
    if stderr.contains("could not find `Cargo.toml`") {
        "run the command in the directory of a package, or pass `--manifest-path`"
    } else if stderr.contains("manifest path") {
        "check the path of `--manifest-path`"
    } else {
        "run `cargo metadata` to see the error in the manifest"
    }
}

/// Cargo workspace, with its members and their metadata.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// Directory of the root manifest.
    pub(crate) root: PathBuf,
    /// Target directory: the value of `--target-dir`, else the directory that cargo's configuration sets.
    pub(crate) target_directory: PathBuf,
    /// Members, sorted by name.
    pub(crate) members: Vec<Package>,
    /// Table `[workspace.metadata]`, or null if the manifest has none.
    pub(crate) metadata: serde_json::Value,
    default_members: Vec<PackageId>,
}

impl Workspace {
    /// Runs `cargo metadata` to load the workspace of `--manifest-path`, or else of the working directory.
    pub(crate) async fn load(
        environment: &CargoEnvironment,
        selection: &Selection,
    ) -> Result<Self, super::Error> {
        let mut command = process::command(environment, environment.cargo());
        command
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .args(selection.manifest_arguments());
        // `cargo metadata` has no `--target-dir`, so the environment variable is set instead. The variable has
        // precedence over cargo's configuration.
        if let Some(directory) = selection.target_directory(&environment.directory) {
            command.env("CARGO_TARGET_DIR", directory);
        }
        let text = process::capture(command).await.context(RunMetadataSnafu)?;
        Self::parse(&text)
    }

    pub(super) fn parse(text: &str) -> Result<Self, super::Error> {
        let metadata: Metadata = serde_json::from_str(text).context(ParseMetadataSnafu)?;
        let default_members = if metadata.workspace_default_members.is_available() {
            metadata.workspace_default_members.to_vec()
        } else {
            metadata.workspace_members.clone()
        };
        let mut members: Vec<Package> = metadata
            .packages
            .into_iter()
            .filter(|package| metadata.workspace_members.contains(&package.id))
            .collect();
        members.sort_by(|first, second| first.name.as_str().cmp(second.name.as_str()));
        Ok(Self {
            root: metadata.workspace_root.into(),
            target_directory: metadata.target_directory.into(),
            members,
            metadata: metadata.workspace_metadata,
            default_members,
        })
    }

    /// Returns the member with this package ID.
    pub(crate) fn member(&self, id: &PackageId) -> Option<&Package> {
        self.members.iter().find(|package| package.id == *id)
    }

    /// Returns the members that the flags select, by the same rules as in cargo, sorted by name.
    pub(crate) fn select(&self, selection: &Selection) -> Result<Vec<&Package>, super::Error> {
        Ok(self.try_select(selection)?)
    }

    fn try_select(&self, selection: &Selection) -> Result<Vec<&Package>, Error> {
        ensure!(
            selection.excluded().is_empty() || selection.is_whole_workspace(),
            ExcludeAloneSnafu
        );
        let mut selected: Vec<bool> = vec![selection.is_whole_workspace(); self.members.len()];
        for specification in selection.packages() {
            self.set_matching(&mut selected, specification, true)?
                .context(UnknownPackageSnafu {
                    specification,
                    known: self.names(),
                })?;
        }
        for specification in selection.excluded() {
            // An `--exclude` that matches no member is not an error. Cargo only prints a warning.
            let _ = self.set_matching(&mut selected, specification, false)?;
        }
        if selection.packages().is_empty() && !selection.is_whole_workspace() {
            for (package, selected) in self.members.iter().zip(&mut selected) {
                *selected = self.default_members.contains(&package.id);
            }
        }
        let members = self.members.iter().zip(selected);
        Ok(members
            .filter_map(|(package, selected)| selected.then_some(package))
            .collect())
    }

    /// Selects or deselects the matching members. Returns `None` if no member matches.
    fn set_matching(
        &self,
        selected: &mut [bool],
        specification: &str,
        value: bool,
    ) -> Result<Option<()>, Error> {
        let specification = PackageSpec::parse(specification)?;
        let mut found = None;
        for (package, selected) in self.members.iter().zip(selected) {
            if specification.matches(package) {
                *selected = value;
                found = Some(());
            }
        }
        Ok(found)
    }

    fn names(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|package| package.name.to_string())
            .collect()
    }
}

/// Package ID specification or name pattern, such as the value of `-p`.
enum PackageSpec<'a> {
    Name {
        name: &'a str,
        version: Option<&'a str>,
    },
    Url {
        directory: &'a str,
        fragment: Option<&'a str>,
    },
    Pattern(glob::Pattern),
}

impl<'a> PackageSpec<'a> {
    fn parse(text: &'a str) -> Result<Self, Error> {
        if text.contains("://") {
            let (location, fragment) = match text.split_once('#') {
                Some((location, fragment)) => (location, Some(fragment)),
                None => (text, None),
            };
            let location = location.strip_prefix("path+").unwrap_or(location);
            return Ok(Self::Url {
                directory: location.strip_prefix("file://").unwrap_or(location),
                fragment,
            });
        }
        if text.contains(['*', '?', '[', ']']) {
            let pattern = glob::Pattern::new(text).context(PatternSnafu {
                specification: text,
            })?;
            return Ok(Self::Pattern(pattern));
        }
        Ok(Self::parse_name(text))
    }

    /// Parses `name`, `name@version`, or the older form `name:version`.
    fn parse_name(text: &'a str) -> Self {
        match text.split_once(['@', ':']) {
            Some((name, version)) => Self::Name {
                name,
                version: Some(version),
            },
            None => Self::Name {
                name: text,
                version: None,
            },
        }
    }

    fn matches(&self, package: &Package) -> bool {
        match self {
            Self::Name { name, version } => {
                package.name == *name
                    && version.is_none_or(|version| is_version(version, &package.version))
            }
            Self::Pattern(pattern) => pattern.matches(&package.name),
            Self::Url {
                directory,
                fragment,
            } => {
                let at = package
                    .manifest_path
                    .parent()
                    .is_some_and(|parent| parent == *directory);
                at && fragment.is_none_or(|fragment| {
                    is_version(fragment, &package.version)
                        || Self::parse_name(fragment).matches(package)
                })
            }
        }
    }
}

/// Whether text is this version, or only its first numbers, such as `1.2`. First numbers never match a pre-release.
fn is_version(text: &str, version: &semver::Version) -> bool {
    let numbers = [version.major, version.minor, version.patch];
    let partial = |text: &str| {
        let parts: Vec<_> = text.split('.').map(str::parse::<u64>).collect();
        version.pre.is_empty()
            && parts.len() <= numbers.len()
            && parts
                .iter()
                .zip(numbers)
                .all(|(part, number)| *part == Ok(number))
    };
    text.parse()
        .is_ok_and(|full: semver::Version| full == *version)
        || partial(text)
}

#[cfg(test)]
mod tests {
    use super::{
        super::scratch::{TestDirectory, error_chain, error_kind, flags, recorded},
        *,
    };

    fn select_names(line: &str) -> Vec<String> {
        let workspace = recorded();
        let packages = workspace.select(&flags(line)).unwrap();
        packages
            .iter()
            .map(|package| package.name.to_string())
            .collect()
    }

    fn selection_error(line: &str) -> String {
        error_chain(&recorded().select(&flags(line)).unwrap_err())
    }

    #[test]
    fn recorded_metadata_is_parsed() {
        let workspace = recorded();
        assert_eq!(workspace.root, PathBuf::from("/home/me/ws"));
        assert_eq!(
            workspace.target_directory,
            PathBuf::from("/home/me/ws/target")
        );
        assert_eq!(workspace.metadata["oci"]["registry"], "ghcr.io/acme");
        let names = workspace.names();
        assert_eq!(names, ["mac", "my-app", "shapes"]);
        assert_eq!(
            workspace.members[1].version.to_string(),
            "1.2.3-rc.1+build.5"
        );
        assert_eq!(
            workspace.member(&workspace.members[2].id).unwrap().name,
            "shapes"
        );
    }

    #[test]
    fn package_selection_matches_cargo() {
        assert_eq!(select_names(""), ["my-app", "shapes"]);
        assert_eq!(select_names("--workspace"), ["mac", "my-app", "shapes"]);
        assert_eq!(
            select_names("--all --exclude sh* --exclude mac"),
            ["my-app"]
        );
        assert_eq!(
            select_names("--workspace --exclude unknown"),
            ["mac", "my-app", "shapes"]
        );
        assert_eq!(select_names("-p shapes -p mac"), ["mac", "shapes"]);
        assert_eq!(select_names("-p m*"), ["mac", "my-app"]);
        assert_eq!(
            select_names("-p shapes@0.4 -p mac:0.1.0"),
            ["mac", "shapes"]
        );
        assert_eq!(select_names("-p my-app@1.2.3-rc.1+build.5"), ["my-app"]);
        assert_eq!(
            select_names("-p path+file:///home/me/ws/shapes#0.4.0"),
            ["shapes"]
        );
        assert_eq!(select_names("-p file:///home/me/ws/app#my-app"), ["my-app"]);
        assert_eq!(select_names("-p file:///home/me/ws/app"), ["my-app"]);
    }

    #[test]
    fn specification_without_match_is_rejected_with_hint() {
        assert_eq!(
            selection_error("-p shape"),
            "no package of the workspace matches `shape`\n\
             help: a package with a similar name exists: `shapes`"
        );
        assert_eq!(
            selection_error("-p my-app@1.2"),
            "no package of the workspace matches `my-app@1.2`\n\
             help: a package with a similar name exists: `my-app`"
        );
        assert_eq!(
            selection_error("-p serde"),
            "no package of the workspace matches `serde`\n\
             help: choose from the packages of the workspace: `mac`, `my-app`, `shapes`"
        );
        assert!(
            selection_error("-p shapes@0.5")
                .starts_with("no package of the workspace matches `shapes@0.5`")
        );
        assert!(selection_error("-p file:///home/me/ws/app#shapes").starts_with("no package"));
        assert!(selection_error("-p [").starts_with("failed to read the package pattern `[`"));
        assert_eq!(
            selection_error("--exclude mac"),
            "`--exclude` can only be used together with `--workspace`\n\
             help: add `--workspace`, or remove `--exclude`"
        );
    }

    #[tokio::test]
    async fn directory_without_manifest_is_rejected_with_hint() {
        let scratch = TestDirectory::new();
        let error = Workspace::load(&scratch.environment(), &flags(""))
            .await
            .unwrap_err();
        assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
        let error_chain = error_chain(&error);
        assert!(
            error_chain.starts_with("failed to read the workspace\n`"),
            "{error_chain}"
        );
        assert!(
            error_chain.contains("could not find `Cargo.toml`"),
            "{error_chain}"
        );
        assert!(error_chain.contains("`--manifest-path`"), "{error_chain}");
    }
}
