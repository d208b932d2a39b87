//! `cargo oci init`: print suggested `[package.metadata.oci]` settings, or add them to `Cargo.toml`. They are derived from CI variables, the git
//! remote and the CI jobs that build releases.

mod jobs;
mod manifest;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use oci_registry::Reference;
use url::Url;

use crate::cargo::{self, PackageSettings, Selection, Workspace};
use crate::report::{self, Error};
use crate::session::Session;

/// Maximum length of a URL or file name in the printed TOML comments, in characters.
const MAX_TEXT_LENGTH: usize = 200;

/// Print suggested `[package.metadata.oci]` settings
///
/// The suggestions are derived from CI variables, the git remote, and the targets of CI jobs that build releases. For a
/// workspace with several packages, the table is `[workspace.metadata.oci]`. No file is changed unless `--write` is
/// given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo oci init\n  cargo oci init --write")]
pub(crate) struct Flags {
    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,

    /// Add the settings to Cargo.toml instead of printing them
    ///
    /// Fails if the settings already exist. The rest of the file stays unchanged.
    #[arg(long)]
    write: bool,
}

/// Collects and prints the suggestions.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let selection = Selection::from_manifest(flags.manifest_path);
    let workspace = Workspace::load(&session.cargo, &selection).await?;
    let (table, file) = settings_table(&workspace)?;
    let registry = suggest_registry(session, &workspace.root).await;
    let targets = jobs::targets(&workspace.root);
    let text = suggested_table(table, registry.as_ref(), &targets);
    if flags.write {
        manifest::add_table(&file, table, &text)?;
        session
            .reporter
            .status("Added", format_args!("`{table}` to `{}`", file.display()));
        return Ok(());
    }
    session.reporter.status(
        "Suggesting",
        format_args!("`{table}` for `{}`", file.display()),
    );
    report::write_line(text.trim_end())
}

/// Returns the name and the file of the table to suggest. If the workspace has several packages, this is the table of
/// the workspace. Fails if a manifest already contains settings.
fn settings_table(workspace: &Workspace) -> Result<(&'static str, PathBuf), Error> {
    for package in &workspace.members {
        let settings = PackageSettings::load(workspace, package)?;
        if let Some(table) = settings.first_table() {
            return Err(Error::usage(format!(
                "refusing to suggest settings: {table} already exists"
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

/// Suggested value, and the source from which it was derived.
#[derive(Debug, PartialEq, Eq)]
struct Suggestion {
    value: String,
    origin: String,
}

/// Returns the registry that the CI job uses, or else the registry of the forge that hosts the source repository.
async fn suggest_registry(session: &Session, root: &Path) -> Option<Suggestion> {
    let image = session.environment.var("CI_REGISTRY_IMAGE");
    if let Some(value) = image.and_then(|image| prefix(image.to_ascii_lowercase())) {
        return Some(Suggestion {
            value,
            origin: "`CI_REGISTRY_IMAGE`".to_owned(),
        });
    }
    let (url, origin) = match cargo::source_repository(&session.cargo) {
        Some(url) => (url, "the project that CI runs for"),
        None => (cargo::origin(&session.cargo, root).await?, "the git remote"),
    };
    let remote = Remote::parse(&url)?;
    Some(Suggestion {
        value: remote.registry()?,
        origin: format!("{origin}, `{}`", remote.shown),
    })
}

/// Returns the text unchanged if it is a repository name that has neither a tag nor a digest.
fn prefix(text: String) -> Option<String> {
    let reference: Reference = text.parse().ok()?;
    let is_whole = reference.tag().is_none() && reference.digest().is_none();
    is_whole.then_some(text)
}

/// Parsed URL of a source repository.
#[derive(Debug)]
struct Remote {
    host: String,
    /// Path without leading slash and without `.git`, in lower case.
    path: String,
    /// URL to print. User information and query are removed, because they may contain a credential.
    shown: String,
}

impl Remote {
    /// Parses `https://host/path.git`, `ssh://git@host:22/path` or `git@host:path`.
    fn parse(url: &str) -> Option<Self> {
        if url.chars().any(oci_registry::needs_escape) {
            return None;
        }
        let (host, path, shown) = if url.contains("://") {
            let mut url = Url::parse(url).ok()?;
            url.set_username("").ok()?;
            url.set_password(None).ok()?;
            url.set_query(None);
            url.set_fragment(None);
            (
                url.host_str()?.to_owned(),
                url.path().to_owned(),
                url.to_string(),
            )
        } else {
            let (host, path) = url.split_once(':')?;
            let host = host.rsplit('@').next()?;
            (host.to_owned(), path.to_owned(), format!("{host}:{path}"))
        };
        let path = path.trim_matches('/').to_ascii_lowercase();
        Some(Self {
            host: host.to_ascii_lowercase(),
            path: path.strip_suffix(".git").unwrap_or(&path).to_owned(),
            shown: oci_registry::escape(&shown, MAX_TEXT_LENGTH),
        })
    }

    /// Returns the registry of the forge, with the owner of the repository as prefix.
    fn registry(&self) -> Option<String> {
        let Self { host, path, .. } = self;
        let (owner, _) = path.split_once('/')?;
        prefix(match host.as_str() {
            "github.com" => format!("ghcr.io/{owner}"),
            "gitlab.com" => format!("registry.gitlab.com/{path}"),
            "codeberg.org" => format!("codeberg.org/{owner}"),
            _ => return None,
        })
    }
}

/// Returns the table as TOML. A comment names the source of each value.
fn suggested_table(table: &str, registry: Option<&Suggestion>, targets: &[Suggestion]) -> String {
    let mut text = format!("\n[{table}]\n");
    let _ = match registry {
        Some(found) => writeln!(
            text,
            "# From {}.\nregistry = {}",
            found.origin,
            quote(&found.value)
        ),
        None => writeln!(
            text,
            "# Registry and prefix; each package is published as PREFIX/NAME.\n# registry = \"ghcr.io/OWNER\""
        ),
    };
    text.push_str(
        "# All targets of a release. If they are declared, the version tag is written when all of them are pushed.\n",
    );
    if targets.is_empty() {
        text.push_str("# release-targets = [\"TRIPLE\"]\n");
        return text;
    }
    let mut files: Vec<&str> = targets.iter().map(|found| found.origin.as_str()).collect();
    files.dedup();
    let _ = writeln!(text, "# From {}.\n# release-targets = [", files.join(", "));
    for found in targets {
        let _ = writeln!(text, "#     {},", quote(&found.value));
    }
    text.push_str("# ]\n");
    text
}

/// Returns a TOML string literal.
fn quote(text: &str) -> String {
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
            ("https://github.com/acme", None),
            ("https://github.com/a%0ab/widgets", None),
            ("https://github.com/a\nb/widgets", None),
            ("https://github.com/acme\"]/widgets", None),
            ("git@github.com:ac me/widgets", None),
        ] {
            let found = Remote::parse(url).and_then(|remote| remote.registry());
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn shown_url_has_no_user_information_and_no_query() {
        let expected = "https://github.com/acme/widgets.git";
        for url in [
            "https://me:can@ry@github.com/acme/widgets.git",
            "https://canary@github.com/acme/widgets.git",
            "https://github.com/acme/widgets.git?token=canary#canary",
        ] {
            let remote = Remote::parse(url).expect("a URL");
            assert_eq!(remote.shown, expected, "{url}");
            assert_eq!(remote.registry().as_deref(), Some("ghcr.io/acme"), "{url}");
        }
        let remote = Remote::parse("canary@github.com:acme/widgets").expect("a path");
        assert_eq!(remote.shown, "github.com:acme/widgets");
    }

    #[test]
    fn registry_prefix_is_a_repository_name() {
        for text in ["a.b/c:1", "a.b/c\"", "a.b/c\nx", "a.b/C", ""] {
            assert_eq!(prefix(text.to_owned()), None, "{text}");
        }
        assert!(prefix("a.b/c".to_owned()).is_some());
    }

    #[test]
    fn suggested_table_is_toml_with_source_comments() {
        let found = |value: &str, origin: &str| Suggestion {
            value: value.to_owned(),
            origin: origin.to_owned(),
        };
        let registry = found("ghcr.io/acme", "the git remote");
        let targets = [found("a-b-c", "`ci.yml`"), found("d-e-f", "`ci.yml`")];
        assert_eq!(
            suggested_table("package.metadata.oci", Some(&registry), &targets),
            "\n[package.metadata.oci]\n# From the git remote.\nregistry = \"ghcr.io/acme\"\n\
             # All targets of a release. If they are declared, the version tag is written when all of them are pushed.\n\
             # From `ci.yml`.\n# release-targets = [\n#     \"a-b-c\",\n#     \"d-e-f\",\n# ]\n"
        );
        let nothing = suggested_table("package.metadata.oci", None, &[]);
        assert!(toml::from_str::<toml::Table>(&nothing).is_ok(), "{nothing}");
    }
}
