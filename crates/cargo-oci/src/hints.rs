//! Conversion of the libraries' hints to text that names flags, commands and settings of `cargo oci`.

use oci_registry::{Error, ErrorKind, Forge, Hint};

/// Returns the hints of an error as text.
pub(crate) fn describe(error: &Error) -> Vec<String> {
    error.hints().iter().flat_map(describe_hint).collect()
}

/// Returns the hints of an error as text, or the general advice for its kind if the error has no hints.
pub(crate) fn describe_or_advise(error: &Error) -> Vec<String> {
    let hints = describe(error);
    match general_advice(error.kind()) {
        Some(advice) if hints.is_empty() => vec![advice.to_owned()],
        _ => hints,
    }
}

fn describe_hint(hint: &Hint) -> Vec<String> {
    let text = match hint {
        Hint::Advice(advice) => advice,
        Hint::NoCredential { registry, searched } => {
            let searched = if searched.is_empty() {
                "nothing".to_owned()
            } else {
                searched.join(", ")
            };
            return vec![format!(
                "no credential was found for `{registry}` (searched: {searched})"
            )];
        }
        Hint::RejectedCredential { registry, source } => {
            return vec![format!(
                "check the credential for `{registry}`, which was read from: {source}"
            )];
        }
        Hint::LogIn { registry } => {
            return vec![format!(
                "run `cargo oci login {registry}`, or set `DOCKER_AUTH_CONFIG`"
            )];
        }
        Hint::JobToken {
            forge,
            registry,
            has_credential,
            is_write,
        } => return describe_job_token(*forge, registry, *has_credential, *is_write),
        Hint::TrustCertificate => {
            "pass the CA certificate of the registry with `--ca-file`, or store it as `certs.d/HOST[:PORT]/ca.crt`: no trusted authority signed the certificate of the registry"
        }
        Hint::ClientCertificate => {
            "pass a client certificate with `--cert-file` and `--key-file`, or store it as `certs.d/HOST[:PORT]/client.cert` and `client.key`"
        }
        Hint::UsePlainHttp => {
            "pass `--plain-http` if plain HTTP is intended: the server does not use TLS on this port"
        }
        Hint::UseTls => "pass `--plain-http=false`: the server requires TLS on this port",
        Hint::TryTls => "pass `--plain-http=false` if the server expects TLS on this port",
        Hint::OverwriteVersion => {
            "publish a new version, or pass `--overwrite` to replace the released version"
        }
        Hint::OverwriteTag => "pass `--overwrite` to replace the tag",
        Hint::SkipIndex => {
            "publish under another tag, delete this tag, or pass `--no-index` to leave this tag unchanged"
        }
        Hint::DeclareTargets => {
            return vec![
                "set `release-targets` in `[package.metadata.oci]` to the targets of a release, so that its index is written only once".into(),
                "or push each target with `--no-index`, and then run `cargo oci index assemble` once".into(),
            ];
        }
        Hint::AssembleIndex { tag } => {
            return vec![format!(
                "run `cargo oci index assemble` for `{tag}` after all other jobs have finished; the manifest of this target was pushed"
            )];
        }
        Hint::KeepArchives => "pass `--titles` to download the archives without unpacking them",
        Hint::CheckRepository {
            registry,
            repository,
        } => {
            return vec![format!(
                "check the name `{repository}`, or run `cargo oci catalog {registry}` to list the repositories, if the registry supports it"
            )];
        }
        Hint::ListTags { location } => {
            return vec![format!("run `cargo oci tags {location}` to list the tags")];
        }
        Hint::SetRepository => {
            "set `repository` in `[package.metadata.oci]`, or pass the full reference"
        }
        Hint::SetNameTemplate { example: None } => {
            "set another `name-template` in `[package.metadata.oci]`"
        }
        Hint::SetNameTemplate {
            example: Some(example),
        } => {
            return vec![format!(
                "set a `name-template` that gives each file a different name, such as `{example}`"
            )];
        }
    };
    vec![text.to_owned()]
}

/// Returns the settings of a CI job that give it access to the registry of its forge.
fn describe_job_token(
    forge: Forge,
    registry: &str,
    has_credential: bool,
    is_write: bool,
) -> Vec<String> {
    let access = if is_write { "write" } else { "read" };
    match (forge, has_credential) {
        (Forge::GitHub, false) => vec![format!(
            "the job has no token for `{registry}`: add these lines to the job in the workflow file
permissions:
  contents: read
  packages: {access}
env:
  GITHUB_TOKEN: ${{{{ secrets.GITHUB_TOKEN }}}}"
        )],
        (Forge::GitHub, true) => vec![
            format!(
                "if the job uses `secrets.GITHUB_TOKEN`, add these lines to it in the workflow file
permissions:
  contents: read
  packages: {access}"
            ),
            format!(
                "if the package exists, grant the repository {access} access in the package settings, under \"Manage Actions access\""
            ),
        ],
        (Forge::GitLab, false) => vec![format!(
            "the job has no credential for `{registry}`: enable the container registry of the project, or set `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD`"
        )],
        (Forge::GitLab, true) => vec![
            "if the repository belongs to another project, add this project to the allowlist there: Settings > CI/CD > Job token permissions".into(),
            format!(
                "alternatively, set `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD` to the user name and password of a deploy token with the scope `{access}_registry`"
            ),
        ],
    }
}

/// Returns the general advice for an error kind, or `None` if no advice fits all errors of this kind.
fn general_advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Io => Some("check the path, its permissions and the free space"),
        ErrorKind::Mismatch => {
            Some("try again; if the error persists, the stored content is damaged")
        }
        ErrorKind::Network | ErrorKind::RateLimited => Some("try again later"),
        ErrorKind::InvalidInput
        | ErrorKind::Unauthenticated
        | ErrorKind::Denied
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Unsupported
        | ErrorKind::Protocol => None,
    }
}
