//! Texts for the hints of the libraries, with the flags, commands and settings of `cargo oci`.

use oci_registry::{Error, ErrorKind, Hint};

/// Returns the hints of an error, one sentence each.
pub(crate) fn worded(error: &Error) -> Vec<String> {
    error.hints().iter().flat_map(sentences).collect()
}

/// Returns the hints of an error, as [`worded`], or the advice for its kind if it has none.
pub(crate) fn of(error: &Error) -> Vec<String> {
    let hints = worded(error);
    match advice_for(error.kind()) {
        Some(advice) if hints.is_empty() => vec![advice.to_owned()],
        _ => hints,
    }
}

fn sentences(hint: &Hint) -> Vec<String> {
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
                "the credential for `{registry}` was read from: {source}"
            )];
        }
        Hint::LogIn { registry } => {
            return vec![format!(
                "run `cargo oci login {registry}`, or set `DOCKER_AUTH_CONFIG`"
            )];
        }
        Hint::TrustCertificate => {
            "no trusted authority signed the certificate of the registry: pass the certificate of its authority with `--ca-file`, or store it as `certs.d/HOST[:PORT]/ca.crt`"
        }
        Hint::ClientCertificate => {
            "the registry requires a client certificate: pass `--cert-file` and `--key-file`, or store them as `certs.d/HOST[:PORT]/client.cert` and `client.key`"
        }
        Hint::UsePlainHttp => {
            "the server does not use TLS on this port: pass `--plain-http` if plain HTTP is intended"
        }
        Hint::UseTls => "the server requires TLS on this port: pass `--plain-http=false`",
        Hint::TryTls => "the server may expect TLS on this port: pass `--plain-http=false`",
        Hint::OverwriteVersion => {
            "publish a new version, or pass `--overwrite` to replace a released one"
        }
        Hint::OverwriteTag => "pass `--overwrite` to replace it",
        Hint::SkipIndex => {
            "publish under another tag, delete the manifest under this one, or pass `--no-index` to leave it unchanged"
        }
        Hint::DeclareTargets => {
            return vec![
                "list the targets of a release as `targets` in `[package.metadata.oci]`, so that its index is written once".into(),
                "or push each target with `--no-index`, and run `cargo oci index assemble` once".into(),
            ];
        }
        Hint::AssembleIndex { tag } => {
            return vec![format!(
                "the target is stored: run `cargo oci index assemble` for `{tag}` when no other process writes"
            )];
        }
        Hint::KeepArchives => "pass `--titles` to download the archives without unpacking them",
        Hint::CheckRepository {
            registry,
            repository,
        } => {
            return vec![format!(
                "check the name `{repository}`: `cargo oci catalog {registry}` lists the repositories, if the registry supports it"
            )];
        }
        Hint::ListTags { location } => {
            return vec![format!("`cargo oci tags {location}` lists the tags")];
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
                "set a `name-template` that distinguishes them, such as `{example}`"
            )];
        }
    };
    vec![text.to_owned()]
}

/// Returns the advice for an error kind, for errors without hints.
fn advice_for(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Io => Some("check the path, its permissions and the free space"),
        ErrorKind::Mismatch => {
            Some("try again; if the error remains, the stored content is damaged")
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
