//! Comparison of the git tag of a CI job with the versions of the pushed packages.

use oci_package::tag;
use oci_registry::Environment;
use semver::Version;

use super::publication::Publication;
use crate::figures::join_first;
use crate::session::Session;

/// Maximum number of packages that the warning names.
const MAX_NAMED_PACKAGES: usize = 5;

/// Prints a warning if the CI job builds a git tag that is a version, and no pushed package has this version.
pub(super) fn warn_about_mismatch(session: &Session, pushed: &[&Publication<'_>]) {
    let packages = pushed.iter().map(|publication| publication.package);
    let packages: Vec<_> = packages
        .map(|package| (package.name.as_str(), &package.version))
        .collect();
    if let Some(warning) = find_mismatch(&session.environment, &packages) {
        session.reporter.warn(warning);
    }
}

/// Returns the warning about a git tag that matches none of the packages.
fn find_mismatch(environment: &Environment, packages: &[(&str, &Version)]) -> Option<String> {
    let git_tag = git_tag(environment)?;
    let compared: Vec<_> = packages
        .iter()
        .filter_map(|&(name, version)| Some((name, version, tagged_version(git_tag, name)?)))
        .collect();
    if compared.is_empty()
        || compared
            .iter()
            .any(|(_, version, tagged)| *version == tagged)
    {
        return None;
    }
    let versions = compared
        .iter()
        .map(|(name, version, _)| format!("`{name}` has version {version}"));
    Some(format!(
        "the git tag `{git_tag}` does not match a pushed version: {}",
        join_first(versions, MAX_NAMED_PACKAGES, "packages have other versions")
    ))
}

/// Returns the git tag that the CI job builds.
fn git_tag(environment: &Environment) -> Option<&str> {
    match environment.var("GITHUB_REF_TYPE") {
        Some("tag") => environment.var("GITHUB_REF_NAME"),
        _ => environment.var("CI_COMMIT_TAG"),
    }
}

/// Returns the version that a git tag states for a package: `1.2.3` and `v1.2.3` for every package, `NAME-v1.2.3` for
/// the package NAME only.
fn tagged_version(git_tag: &str, package: &str) -> Option<Version> {
    tag::parse_version(git_tag).or_else(|| {
        let version = git_tag.strip_prefix(package)?.strip_prefix("-v")?;
        Version::parse(version).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment::new(variables, None, PathBuf::from("/"))
    }

    /// Returns the warning for the packages `client` 1.2.3 and `client-vnext` 2.0.0.
    fn mismatch(variables: &[(&str, &str)]) -> Option<String> {
        let environment = environment(variables);
        let versions = [Version::new(1, 2, 3), Version::new(2, 0, 0)];
        let packages = [("client", &versions[0]), ("client-vnext", &versions[1])];
        find_mismatch(&environment, &packages)
    }

    fn github(tag: &str) -> Option<String> {
        mismatch(&[("GITHUB_REF_TYPE", "tag"), ("GITHUB_REF_NAME", tag)])
    }

    #[test]
    fn git_tag_of_a_pushed_version_prints_no_warning() {
        for tag in [
            "1.2.3",
            "v2.0.0",
            "client-v1.2.3",
            "client-vnext-v2.0.0",
            "server-v9.9.9",
            "client-9.9.9",
            "release-9",
            "v9",
        ] {
            assert_eq!(github(tag), None, "{tag}");
            assert_eq!(mismatch(&[("CI_COMMIT_TAG", tag)]), None, "{tag}");
        }
        let branch = [("GITHUB_REF_TYPE", "branch"), ("GITHUB_REF_NAME", "9.9.9")];
        assert_eq!(mismatch(&branch), None);
    }

    #[test]
    fn git_tag_of_another_version_prints_warning() {
        let all = "the git tag `v1.2.4` does not match a pushed version: \
                   `client` has version 1.2.3, `client-vnext` has version 2.0.0";
        assert_eq!(github("v1.2.4").as_deref(), Some(all));
        assert_eq!(
            mismatch(&[("CI_COMMIT_TAG", "v1.2.4")]).as_deref(),
            Some(all)
        );
        let one = "the git tag `client-v2.0.0` does not match a pushed version: \
                   `client` has version 1.2.3";
        assert_eq!(github("client-v2.0.0").as_deref(), Some(one));
        assert!(github("v1.2.3-rc.1").is_some());
    }

    #[test]
    fn warning_names_a_limited_number_of_packages() {
        let environment = environment(&[("CI_COMMIT_TAG", "1.0.0")]);
        let version = Version::new(0, 1, 0);
        let warning = find_mismatch(&environment, &[("a", &version); 7]).expect("a warning");
        assert!(
            warning.ends_with("`a` has version 0.1.0, and 2 more packages have other versions"),
            "{warning}"
        );
    }
}
