//! The workspace as `cargo metadata` tells it, and which of its packages are selected.
//!
//! Dependencies are not asked for: the answer comes without resolving, in a few hundredths of a second.

use std::path::PathBuf;

use cargo_metadata::{Metadata, Package, PackageId};
use snafu::{OptionExt, ResultExt, Snafu, ensure};

use super::{Environment, ErrorClass, Fault, nearest, process, selection::Selection};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read the workspace"))]
    Ask { source: process::Error },
    #[snafu(display("failed to understand what `cargo metadata` printed"))]
    Understand { source: serde_json::Error },
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

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            // Cargo that ran and refused found something wrong with the manifests or the flags.
            Self::Ask { source } if source.is_refusal() => ErrorClass::Usage,
            Self::Ask { .. } | Self::Understand { .. } => ErrorClass::Io,
            Self::UnknownPackage { .. } | Self::ExcludeAlone | Self::Pattern { .. } => {
                ErrorClass::Usage
            }
        }
    }

    fn help(&self) -> Option<String> {
        if let Self::Ask { source } = self {
            return source.refusal().map(|words| advice(words).to_owned());
        }
        if let Self::ExcludeAlone = self {
            return Some("add `--workspace`, or leave `--exclude` out".to_owned());
        }
        let Self::UnknownPackage {
            specification,
            known,
        } = self
        else {
            return None;
        };
        let name = specification.split(['@', ':']).next().unwrap_or_default();
        Some(match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("a package with a similar name exists: `{near}`"),
            None => format!("the packages of the workspace are `{}`", known.join("`, `")),
        })
    }
}

/// What to do about what `cargo metadata` says.
fn advice(words: &str) -> &'static str {
    if words.contains("could not find `Cargo.toml`") {
        "run it in the directory of a package, or name one with `--manifest-path`"
    } else if words.contains("manifest path") {
        "check the path behind `--manifest-path`"
    } else {
        "mend what cargo complains of: `cargo metadata` says when it is right"
    }
}

/// A cargo workspace: its members, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The directory of the root manifest.
    pub(crate) root: PathBuf,
    /// The directory that builds write into, `--target-dir` respected.
    pub(crate) target_directory: PathBuf,
    /// All members, sorted by name.
    pub(crate) members: Vec<Package>,
    /// `[workspace.metadata]`, or null.
    pub(crate) metadata: serde_json::Value,
    default_members: Vec<PackageId>,
}

impl Workspace {
    /// Asks cargo for the workspace that the flags and the working directory name.
    pub(crate) async fn load(
        environment: &Environment,
        selection: &Selection,
    ) -> Result<Self, super::Error> {
        let mut command = process::command(environment, environment.cargo());
        command
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .args(selection.manifest_arguments());
        // `cargo metadata` has no `--target-dir`; the variable outranks everything but the flag.
        if let Some(directory) = selection.target_directory(&environment.directory) {
            command.env("CARGO_TARGET_DIR", directory);
        }
        let text = process::capture(command).await.context(AskSnafu)?;
        Self::parse(&text)
    }

    pub(super) fn parse(text: &str) -> Result<Self, super::Error> {
        let metadata: Metadata = serde_json::from_str(text).context(UnderstandSnafu)?;
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
        members.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        Ok(Self {
            root: metadata.workspace_root.into(),
            target_directory: metadata.target_directory.into(),
            members,
            metadata: metadata.workspace_metadata,
            default_members,
        })
    }

    /// The member with this identifier; `None` for what is not of this workspace.
    pub(crate) fn member(&self, id: &PackageId) -> Option<&Package> {
        self.members.iter().find(|package| package.id == *id)
    }

    /// The members that the flags select, as cargo selects them, sorted by name.
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
            self.mark(&mut selected, specification, true)?
                .context(UnknownPackageSnafu {
                    specification,
                    known: self.names(),
                })?;
        }
        for specification in selection.excluded() {
            // Cargo only warns of an exclusion that excludes nothing, and it will say so itself.
            let _ = self.mark(&mut selected, specification, false)?;
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

    /// Marks the members that match; `None` if none does.
    fn mark(
        &self,
        selected: &mut [bool],
        specification: &str,
        value: bool,
    ) -> Result<Option<()>, Error> {
        let specification = Specification::parse(specification)?;
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

/// A package ID specification as `-p` takes it, or a pattern of names.
enum Specification<'a> {
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

impl<'a> Specification<'a> {
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
        Ok(Self::named(text))
    }

    /// `name`, `name@version`, or the older `name:version`.
    fn named(text: &'a str) -> Self {
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
                    is_version(fragment, &package.version) || Self::named(fragment).matches(package)
                })
            }
        }
    }
}

/// Whether a version, or its leading numbers, is this one; a part never means a pre-release.
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
        super::scratch::{Scratch, flags, recorded, story},
        *,
    };

    fn selected(line: &str) -> Vec<String> {
        let workspace = recorded();
        let packages = workspace.select(&flags(line)).unwrap();
        packages
            .iter()
            .map(|package| package.name.to_string())
            .collect()
    }

    fn refused(line: &str) -> String {
        story(&recorded().select(&flags(line)).unwrap_err())
    }

    #[test]
    fn the_workspace_is_as_recorded() {
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
    fn packages_are_selected_as_cargo_does() {
        assert_eq!(selected(""), ["my-app", "shapes"]);
        assert_eq!(selected("--workspace"), ["mac", "my-app", "shapes"]);
        assert_eq!(selected("--all --exclude sh* --exclude mac"), ["my-app"]);
        assert_eq!(
            selected("--workspace --exclude nobody"),
            ["mac", "my-app", "shapes"]
        );
        assert_eq!(selected("-p shapes -p mac"), ["mac", "shapes"]);
        assert_eq!(selected("-p m*"), ["mac", "my-app"]);
        assert_eq!(selected("-p shapes@0.4 -p mac:0.1.0"), ["mac", "shapes"]);
        assert_eq!(selected("-p my-app@1.2.3-rc.1+build.5"), ["my-app"]);
        assert_eq!(
            selected("-p path+file:///home/me/ws/shapes#0.4.0"),
            ["shapes"]
        );
        assert_eq!(selected("-p file:///home/me/ws/app#my-app"), ["my-app"]);
        assert_eq!(selected("-p file:///home/me/ws/app"), ["my-app"]);
    }

    #[test]
    fn what_selects_nothing_is_named() {
        assert_eq!(
            refused("-p shape"),
            "no package of the workspace matches `shape`\n\
             help: a package with a similar name exists: `shapes`"
        );
        assert_eq!(
            refused("-p my-app@1.2"),
            "no package of the workspace matches `my-app@1.2`\n\
             help: a package with a similar name exists: `my-app`"
        );
        assert_eq!(
            refused("-p serde"),
            "no package of the workspace matches `serde`\n\
             help: the packages of the workspace are `mac`, `my-app`, `shapes`"
        );
        assert!(
            refused("-p shapes@0.5")
                .starts_with("no package of the workspace matches `shapes@0.5`")
        );
        assert!(refused("-p file:///home/me/ws/app#shapes").starts_with("no package"));
        assert!(refused("-p [").starts_with("failed to read the package pattern `[`"));
        assert_eq!(
            refused("--exclude mac"),
            "`--exclude` can only be used together with `--workspace`\n\
             help: add `--workspace`, or leave `--exclude` out"
        );
    }

    #[tokio::test]
    async fn a_directory_without_a_manifest_is_the_callers_mistake() {
        let scratch = Scratch::new();
        let error = Workspace::load(&scratch.environment(), &flags(""))
            .await
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        let story = story(&error);
        assert!(
            story.starts_with("failed to read the workspace\n`"),
            "{story}"
        );
        assert!(story.contains("could not find `Cargo.toml`"), "{story}");
        let help = error.help().unwrap();
        assert!(help.contains("`--manifest-path`"), "{help}");
    }
}
