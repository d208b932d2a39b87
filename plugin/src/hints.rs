//! Text of the hints of library errors, with the plugin's flags, commands and settings.

use oci_registry::{Error, Forge, Hint};

/// Returns the hints of an error as text.
pub(crate) fn texts(error: &Error) -> Vec<String> {
    error.hints().iter().filter_map(text).collect()
}

fn text(hint: &Hint) -> Option<String> {
    let text = match hint {
        Hint::Advice(advice) => advice,
        Hint::NoCredential { registry, searched } => {
            let searched = if searched.is_empty() {
                "nothing".to_owned()
            } else {
                searched.join(", ")
            };
            return Some(format!(
                "no credential was found for `{registry}` (searched: {searched})"
            ));
        }
        Hint::RejectedCredential { registry, source } => {
            return Some(format!(
                "the credential for `{registry}` was read from: {source}"
            ));
        }
        Hint::LogIn { registry } => {
            return Some(format!(
                "run `cargo oci login {registry}` or `docker login {registry}`, or set `DOCKER_AUTH_CONFIG`"
            ));
        }
        Hint::JobToken {
            forge,
            has_credential,
            is_write,
            ..
        } => {
            let access = if *is_write { "write" } else { "read" };
            return Some(match (forge, has_credential) {
                (Forge::GitHub, false) => format!(
                    "add `packages: {access}` to `permissions` of the job, and `GITHUB_TOKEN: ${{{{ secrets.GITHUB_TOKEN }}}}` to its `env`"
                ),
                (Forge::GitHub, true) => format!(
                    "add `packages: {access}` to `permissions` of the job; if the package exists, grant the repository {access} access in the package settings"
                ),
                (Forge::GitLab, false) => {
                    "set `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD` in the job".to_owned()
                }
                (Forge::GitLab, true) => {
                    "if the repository belongs to another project, add this project to the job token allowlist of that project".to_owned()
                }
            });
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
        Hint::KeepArchives => "pass `--titles` to download the archives without unpacking them",
        Hint::CheckRepository { registry, .. } => {
            return Some(format!(
                "check the name; `oci catalog {registry}` lists the repositories, if the registry supports it\na private repository may require a login; `oci ping {registry}` shows which credential is used"
            ));
        }
        Hint::ListTags { location } => {
            return Some(format!("run `oci tags {location}` to list the tags"));
        }
        // These hints are for `cargo oci push`. The plugin does not publish packages.
        Hint::OverwriteVersion
        | Hint::OverwriteTag
        | Hint::SkipIndex
        | Hint::DeclareTargets
        | Hint::AssembleIndex { .. }
        | Hint::SetRepository
        | Hint::SetNameTemplate { .. } => return None,
    };
    Some(text.to_owned())
}
