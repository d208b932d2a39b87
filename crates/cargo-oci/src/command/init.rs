//! `cargo oci init`: print suggested `[package.metadata.oci]` settings, derived from CI variables, the git remote and the CI
//! jobs that build releases.

mod jobs;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cargo::{self, PackageSettings, Selection, Workspace};
use crate::report::{self, Error};
use crate::session::Session;

/// Print suggested `[package.metadata.oci]` settings
///
/// The suggestions are derived from CI variables, the git remote, and the targets of CI jobs that build releases. No file
/// is changed. For a workspace with several packages, the table is `[workspace.metadata.oci]`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo oci init\n  cargo oci init >> Cargo.toml")]
pub(crate) struct Flags {
    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
}

/// Collects and prints the suggestions.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let selection = Selection::of_manifest(flags.manifest_path);
    let workspace = Workspace::load(&session.cargo, &selection).await?;
    let (table, file) = table(&workspace)?;
    let registry = registry(session, &workspace.root).await;
    let targets = jobs::targets(&workspace.root);
    session.reporter.status(
        "Suggesting",
        format_args!("`{table}` for `{}`", file.display()),
    );
    report::line(suggested_table(table, registry.as_ref(), &targets).trim_end())
}

/// Returns the name and file of the table: that of the package, or of the workspace if it has several packages.
fn table(workspace: &Workspace) -> Result<(&'static str, PathBuf), Error> {
    for package in &workspace.members {
        let settings = PackageSettings::of(workspace, package)?;
        if let Some(place) = settings.any_place() {
            return Err(Error::usage(format!(
                "refusing to suggest settings: {place} already exists"
            ))
            .help("run `cargo oci push --dry-run` to see the effect of the settings"));
        }
    }
    Ok(match &workspace.members[..] {
        [package] => (
            "package.metadata.oci",
            package.manifest_path.clone().into_std_path_buf(),
        ),
        _ => ("workspace.metadata.oci", workspace.root.join("Cargo.toml")),
    })
}

/// Suggested value and its origin.
#[derive(Debug, PartialEq, Eq)]
struct Suggestion {
    value: String,
    origin: String,
}

/// Returns the suggested registry: that of the CI job, or that of the forge that hosts the source repository.
async fn registry(session: &Session, root: &Path) -> Option<Suggestion> {
    if let Some(image) = session.environment.var("CI_REGISTRY_IMAGE") {
        return Some(Suggestion {
            value: image.to_ascii_lowercase(),
            origin: "`CI_REGISTRY_IMAGE`".to_owned(),
        });
    }
    let (url, origin) = match cargo::source_repository(&session.cargo) {
        Some(url) => (url, "the project that CI runs for"),
        None => (cargo::origin(&session.cargo, root).await?, "the git remote"),
    };
    let value = registry_of_forge(&url)?;
    let shown = oci_registry::escape(&oci_registry::without_user_info(&url), 200);
    let origin = format!("{origin}, `{shown}`");
    Some(Suggestion { value, origin })
}

/// Returns the container registry of the forge that hosts a repository, with the owner of the repository as prefix.
fn registry_of_forge(url: &str) -> Option<String> {
    let (host, path) = host_and_path(url)?;
    let path = path.to_ascii_lowercase();
    let (owner, _) = path.split_once('/')?;
    match host.to_ascii_lowercase().as_str() {
        "github.com" => Some(format!("ghcr.io/{owner}")),
        "gitlab.com" => Some(format!("registry.gitlab.com/{path}")),
        "codeberg.org" => Some(format!("codeberg.org/{owner}")),
        _ => None,
    }
}

/// Returns the host and path of `https://host/path.git`, `ssh://git@host:22/path` or `git@host:path`.
fn host_and_path(url: &str) -> Option<(&str, &str)> {
    let (host, path) = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?,
        None => url.split_once(':')?,
    };
    let host = host.rsplit('@').next()?;
    let host = host.split(':').next()?;
    let path = path.trim_matches('/');
    Some((host, path.strip_suffix(".git").unwrap_or(path)))
}

/// Returns the table as TOML, with the origins as comments.
fn suggested_table(table: &str, registry: Option<&Suggestion>, targets: &[Suggestion]) -> String {
    let mut text = format!("\n[{table}]\n");
    let _ = match registry {
        Some(found) => writeln!(
            text,
            "# From {}.\nregistry = {}",
            found.origin,
            quoted(&found.value)
        ),
        None => writeln!(
            text,
            "# Registry and prefix; each package is published as PREFIX/NAME.\n# registry = \"ghcr.io/OWNER\""
        ),
    };
    if targets.is_empty() {
        text.push_str("# Targets of a release. The version tag is written when all of them are pushed.\n# targets = [\"TRIPLE\"]\n");
        return text;
    }
    let mut files: Vec<&str> = targets.iter().map(|found| found.origin.as_str()).collect();
    files.dedup();
    let _ = writeln!(text, "# From {}.\ntargets = [", files.join(", "));
    for found in targets {
        let _ = writeln!(text, "    {},", quoted(&found.value));
    }
    text.push_str("]\n");
    text
}

/// Returns a TOML string literal.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_is_derived_from_forge_url() {
        for (url, expected) in [
            ("https://github.com/Acme/Widgets.git", Some("ghcr.io/acme")),
            ("git@github.com:acme/widgets.git", Some("ghcr.io/acme")),
            ("ssh://git@github.com:22/acme/widgets", Some("ghcr.io/acme")),
            (
                "https://user:canary@gitlab.com/group/sub/widgets/",
                Some("registry.gitlab.com/group/sub/widgets"),
            ),
            (
                "https://codeberg.org/acme/widgets",
                Some("codeberg.org/acme"),
            ),
            ("https://git.example.com/acme/widgets", None),
            ("/srv/git/widgets", None),
        ] {
            assert_eq!(registry_of_forge(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn suggested_table_is_toml_with_origins() {
        let found = |value: &str, origin: &str| Suggestion {
            value: value.to_owned(),
            origin: origin.to_owned(),
        };
        let registry = found("ghcr.io/acme", "the git remote");
        let targets = [found("a-b-c", "`ci.yml`"), found("d-e-f", "`ci.yml`")];
        assert_eq!(
            suggested_table("package.metadata.oci", Some(&registry), &targets),
            "\n[package.metadata.oci]\n# From the git remote.\nregistry = \"ghcr.io/acme\"\n\
             # From `ci.yml`.\ntargets = [\n    \"a-b-c\",\n    \"d-e-f\",\n]\n"
        );
        let nothing = suggested_table("package.metadata.oci", None, &[]);
        assert!(toml::from_str::<toml::Table>(&nothing).is_ok(), "{nothing}");
    }
}
