//! Argument that selects installed packages: a package name or a repository.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use oci_package::{is_package_name, tag};
use oci_registry::{ErrorKind, Identifier, LocationText};
use semver::{Version, VersionReq};

use crate::cargo::{self, InstalledPackage, InstalledPackages};
use crate::options::{ArgumentError, parse_location};
use crate::report::Error;
use crate::session::Session;

/// Package name or repository, with an optional version.
#[derive(Debug, Clone)]
pub(super) struct PackageArgument {
    text: String,
    selector: PackageSelector,
    version: Option<Version>,
}

#[derive(Debug, Clone)]
enum PackageSelector {
    Name(String),
    Repository(LocationText),
}

/// Parses `NAME[@VERSION]` or `REPOSITORY[:TAG][@VERSION]`.
pub(super) fn parse(text: &str) -> Result<PackageArgument, ArgumentError> {
    let (package, version) = split_version(text);
    let selector = if is_package_name(package) {
        PackageSelector::Name(package.to_owned())
    } else {
        PackageSelector::Repository(parse_location(package)?)
    };
    Ok(PackageArgument {
        text: text.to_owned(),
        selector,
        version,
    })
}

/// Splits `PACKAGE@1.2.3` into package and version. The part after `@` may also be a digest, which is not split off.
pub(super) fn split_version(text: &str) -> (&str, Option<Version>) {
    match text.rsplit_once('@') {
        Some((package, version)) => match version.parse() {
            Ok(version) => (package, Some(version)),
            Err(_) => (text, None),
        },
        None => (text, None),
    }
}

/// Returns advice for `PACKAGE@VERSION` with a version that [`split_version`] does not accept: a partial version, a
/// version requirement, or a version after `v`.
pub(super) fn version_advice(text: &str) -> Option<String> {
    let (_, version) = text.rsplit_once('@')?;
    let is_plain = version.starts_with(|first: char| first.is_ascii_digit());
    let number = version.trim_start_matches(['v', '^', '~', '=', '>', '<', ' ']);
    let count = number.split('.').count();
    let full = format!("{number}{}", ".0".repeat(3_usize.saturating_sub(count)));
    let full: Version = full.parse().ok()?;
    let requirement = if is_plain || version.starts_with('v') {
        format!("^{number}")
    } else {
        version.to_owned()
    };
    // A full version matches exactly. Characters such as `>` have a meaning in shells.
    let advice = match requirement.parse::<VersionReq>() {
        Ok(_) if count >= 3 && version.starts_with('v') => format!("write `@{full}`"),
        Ok(_) if requirement.contains(['<', '>', '~', ' ']) => {
            format!("write `@{full}`, or pass `--version '{requirement}'`")
        }
        Ok(_) => format!("write `@{full}`, or pass `--version {requirement}`"),
        Err(_) => format!("write `@{full}`"),
    };
    Some(advice)
}

/// Opens the records of installed packages. Prints a status line if another process holds their lock.
pub(super) async fn open_records(
    session: &Session,
    root: std::path::PathBuf,
) -> Result<InstalledPackages, Error> {
    let reporter = session.reporter;
    let waiting = move |path: &Path| {
        reporter.status(
            "Blocking",
            format_args!("waiting for file lock on {}", path.display()),
        );
    };
    Ok(InstalledPackages::open(root, waiting).await?)
}

/// Flag for the directory of installed packages.
#[derive(Debug, Args)]
pub(super) struct RootFlag {
    /// Directory that the packages were installed into
    ///
    /// The default is the environment variable `CARGO_INSTALL_ROOT`, then `install.root` of cargo's configuration, then
    /// cargo's home directory.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl RootFlag {
    /// Returns the directory.
    pub(super) fn resolve(&self, session: &Session) -> Result<PathBuf, Error> {
        Ok(cargo::install_root(&session.cargo, self.root.as_deref())?)
    }
}

impl PackageArgument {
    /// Returns the packages that the argument selects. `verb` is the operation, for messages. At least one package is
    /// returned. A name must select a single package.
    pub(super) async fn find(
        &self,
        session: &Session,
        installed: &InstalledPackages,
        verb: &str,
    ) -> Result<Vec<InstalledPackage>, Error> {
        let packages = installed.packages();
        let found = match &self.selector {
            PackageSelector::Name(name) => {
                let found: Vec<_> = packages.iter().filter(|one| one.name == *name).collect();
                if found.len() > 1 {
                    let sources = found.iter().map(|one| format!("`{}`", one.location));
                    let sources: Vec<_> = sources.collect();
                    return Err(Error::usage(format!(
                        "failed to {verb} `{name}`: it was installed from several repositories"
                    ))
                    .help(format!("pass one of them: {}", sources.join(", "))));
                }
                if found.is_empty() && installed.is_recorded(name) {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!("failed to {verb} `{name}`: it was installed by `cargo install`"),
                    )
                    .help(format!(
                        "run `cargo {} {name}`",
                        if verb == "uninstall" { verb } else { "install" }
                    )));
                }
                let requested = self.version.clone().map(RequestedVersion::Version);
                self.check_version(&found, verb, requested.as_ref())?;
                found
            }
            PackageSelector::Repository(text) => {
                let location = session.locate(text).await?;
                let source = cargo::source_of(&location, session.environment.current_dir());
                let is_source = |one: &&InstalledPackage| Some(&one.source) == source.as_ref();
                let found: Vec<_> = packages.iter().filter(is_source).collect();
                let requested = match (&self.version, location.identifier()) {
                    (Some(_), Some(_)) | (None, Some(Identifier::Digest(_))) => {
                        return Err(Error::usage(format!(
                            "failed to {verb} `{self}`: expected a tag or `@VERSION`, but not both, and no digest"
                        )));
                    }
                    (Some(version), None) => Some(RequestedVersion::Version(version.clone())),
                    (None, Some(Identifier::Tag(tag))) => Some(match tag::version(&tag) {
                        Some(version) => RequestedVersion::Version(version),
                        None => RequestedVersion::Tag(tag.to_string()),
                    }),
                    (None, None) => None,
                };
                self.check_version(&found, verb, requested.as_ref())?;
                found
            }
        };
        if found.is_empty() {
            return Err(self.not_installed(installed.root(), &packages, verb));
        }
        Ok(found.into_iter().cloned().collect())
    }

    /// Checks that the requested version or tag is the installed one.
    fn check_version(
        &self,
        found: &[&InstalledPackage],
        verb: &str,
        requested: Option<&RequestedVersion>,
    ) -> Result<(), Error> {
        let is_requested = |one: &InstalledPackage| match requested {
            None => true,
            Some(RequestedVersion::Version(version)) => one.version == version.to_string(),
            Some(RequestedVersion::Tag(tag)) => one.followed_tag.as_ref() == Some(tag),
        };
        match found.iter().find(|one| !is_requested(one)) {
            None => Ok(()),
            Some(other) => Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "failed to {verb} `{self}`: the installed version is {}",
                    other.version
                ),
            )
            .help(format!("run `cargo oci {verb} {}`", other.location))),
        }
    }

    fn not_installed(&self, root: &Path, packages: &[InstalledPackage], verb: &str) -> Error {
        let message = match &self.selector {
            PackageSelector::Name(_) => {
                format!("failed to {verb} `{self}`: no such package is installed")
            }
            PackageSelector::Repository(_) => {
                format!("failed to {verb} `{self}`: no package was installed from this repository")
            }
        };
        let root = root.display();
        let elsewhere = "pass `--root` if the package was installed in another directory";
        let error = Error::new(ErrorKind::NotFound, message);
        if packages.is_empty() {
            return error.help(format!(
                "`cargo oci install` installed no package in `{root}`; {elsewhere}"
            ));
        }
        let others = packages.iter();
        let others = others.map(|one| format!("`{}` from `{}`", one.name, one.location));
        let others: Vec<_> = others.collect();
        error.help(format!(
            "choose from the packages in `{root}`: {}; {elsewhere}",
            others.join(", ")
        ))
    }

    /// Whether the argument has a tag, a digest or a version.
    pub(super) async fn selects_version(&self, session: &Session) -> Result<bool, Error> {
        Ok(match &self.selector {
            PackageSelector::Repository(text) if self.version.is_none() => {
                session.locate(text).await?.identifier().is_some()
            }
            _ => self.version.is_some(),
        })
    }
}

/// Version or other tag of an installed package.
enum RequestedVersion {
    Version(Version),
    Tag(String),
}

impl fmt::Display for PackageArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_split_off_but_digest_is_not() {
        let digest = oci_registry::Digest::sha256(b"x");
        let with_digest = format!("a.b/c@{digest}");
        for (text, package, version) in [
            ("a.b/c@1.2.3", "a.b/c", Some("1.2.3")),
            ("a.b/c@1.2.3-rc.1+b", "a.b/c", Some("1.2.3-rc.1+b")),
            ("a.b/c:1@2.0.0", "a.b/c:1", Some("2.0.0")),
            ("a.b/c@1.2", "a.b/c@1.2", None),
            (&with_digest, &with_digest, None),
            ("a.b/c", "a.b/c", None),
        ] {
            let (found, found_version) = split_version(text);
            let found_version = found_version.map(|version| version.to_string());
            assert_eq!((found, found_version.as_deref()), (package, version));
        }
    }

    #[test]
    fn advice_for_invalid_version_has_full_version() {
        for (text, expected) in [
            (
                "a.b/c@0.2",
                Some("write `@0.2.0`, or pass `--version ^0.2`"),
            ),
            (
                "a.b/c@^0.2",
                Some("write `@0.2.0`, or pass `--version ^0.2`"),
            ),
            ("a.b/c@1", Some("write `@1.0.0`, or pass `--version ^1`")),
            (
                "a.b/c@~1.2.3",
                Some("write `@1.2.3`, or pass `--version '~1.2.3'`"),
            ),
            ("a.b/c@v0.2.0", Some("write `@0.2.0`")),
            ("a.b/c@latest", None),
            ("a.b/c@1.2.3.4", None),
            ("a.b/c", None),
        ] {
            assert_eq!(version_advice(text).as_deref(), expected, "{text}");
        }
    }
}
