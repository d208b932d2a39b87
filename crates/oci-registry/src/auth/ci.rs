//! Credentials in the variables of a CI job, each for the registry of the forge that runs the job.
//!
//! GitHub: `GITHUB_TOKEN` for `ghcr.io`. Forgejo and Gitea runners also set `GITHUB_TOKEN`, with a token for the forge
//! at `GITHUB_SERVER_URL`. GitLab: `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD` for the host in `CI_REGISTRY`. This
//! source is searched last, so that credentials that were configured for a registry take precedence.

use async_trait::async_trait;
use url::Url;

use super::{Credential, CredentialProvider, CredentialRequest, Lookup};
use crate::environment::Environment;
use crate::error::Forge;
use crate::reference::RegistryName;

/// GitHub's container registry.
const GITHUB_REGISTRY: &str = "ghcr.io";

/// Server whose tokens GitHub's container registry accepts.
const GITHUB_SERVER: &str = "https://github.com";

/// User name that GitHub documents for tokens that belong to no specific user.
const GITHUB_USER: &str = "x-access-token";

/// Returns the forge that runs the current CI job, if the registry belongs to this forge.
pub(crate) fn detect_job(environment: &Environment, registry: &RegistryName) -> Option<Forge> {
    let is_job = |forge: &Forge| match forge {
        Forge::GitHub => environment.var("GITHUB_ACTIONS").is_some(),
        Forge::GitLab => true,
    };
    find_forge(environment, registry).filter(is_job)
}

/// Returns the forge to which the registry belongs, according to the variables of the CI system.
fn find_forge(environment: &Environment, registry: &RegistryName) -> Option<Forge> {
    let registry = registry.as_str();
    let gitlab = environment.var("CI_REGISTRY");
    if gitlab.is_some_and(|host| host.eq_ignore_ascii_case(registry)) {
        Some(Forge::GitLab)
    } else if registry == GITHUB_REGISTRY && is_github(environment) {
        Some(Forge::GitHub)
    } else {
        None
    }
}

/// Whether `GITHUB_TOKEN` is a token for github.com, and not for another forge or a GitHub Enterprise server.
fn is_github(environment: &Environment) -> bool {
    let server = environment.var("GITHUB_SERVER_URL");
    let origin = |url: &str| Some(Url::parse(url).ok()?.origin().ascii_serialization());
    server.is_none_or(|url| origin(url).as_deref() == Some(GITHUB_SERVER))
}

/// Credential provider that reads the variables of the CI system.
#[derive(Debug)]
pub(super) struct CiVariables {
    environment: Environment,
}

impl CiVariables {
    pub(super) fn new(environment: Environment) -> Self {
        Self { environment }
    }

    fn github_credential(&self) -> Option<Credential> {
        let token = self.environment.var("GITHUB_TOKEN")?;
        let user = self.environment.var("GITHUB_ACTOR");
        Some(Credential::from_pair(user.unwrap_or(GITHUB_USER), token))
    }

    fn gitlab_credential(&self) -> Option<Credential> {
        let user = self.environment.var("CI_REGISTRY_USER")?;
        let password = self.environment.var("CI_REGISTRY_PASSWORD")?;
        Some(Credential::from_pair(user, password))
    }
}

#[async_trait]
impl CredentialProvider for CiVariables {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let lookup = match find_forge(&self.environment, request.registry) {
            Some(Forge::GitLab) => {
                Lookup::for_source("`CI_REGISTRY_PASSWORD`", self.gitlab_credential())
            }
            Some(Forge::GitHub) => Lookup::for_source("`GITHUB_TOKEN`", self.github_credential()),
            None => Lookup::not_applicable(),
        };
        Ok(Lookup {
            is_ambient: true,
            ..lookup
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_up(variables: &[(&str, &str)], registry: &str) -> Lookup {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let ci = CiVariables::new(Environment::new(variables, None, "/".into()));
        let registry = registry.parse().unwrap();
        ci.credential(&CredentialRequest::new(&registry))
            .await
            .unwrap()
    }

    fn pair(lookup: Lookup) -> Option<(Credential, String)> {
        lookup.found
    }

    #[tokio::test]
    async fn ci_credential_is_used_for_its_registry_only() {
        let github = [("GITHUB_TOKEN", "t")];
        let expected = Credential::from_pair("x-access-token", "t");
        let found = pair(look_up(&github, "ghcr.io").await);
        assert_eq!(found, Some((expected, "`GITHUB_TOKEN`".into())));
        let named = [("GITHUB_TOKEN", "t"), ("GITHUB_ACTOR", "carol")];
        let found = pair(look_up(&named, "ghcr.io").await).map(|(credential, _)| credential);
        assert_eq!(found, Some(Credential::from_pair("carol", "t")));
        for other in [
            "ghcr.io:443",
            "xghcr.io",
            "ghcr.io.example",
            "docker.pkg.github.com",
        ] {
            let lookup = look_up(&named, other).await;
            assert!(
                lookup.found.is_none() && lookup.searched.is_empty(),
                "{other}"
            );
        }

        let gitlab = [
            ("CI_REGISTRY", "Registry.acme.example:5050"),
            ("CI_REGISTRY_USER", "gitlab-ci-token"),
            ("CI_REGISTRY_PASSWORD", "p"),
        ];
        let found = pair(look_up(&gitlab, "registry.acme.example:5050").await);
        let expected = Credential::from_pair("gitlab-ci-token", "p");
        assert_eq!(found, Some((expected, "`CI_REGISTRY_PASSWORD`".into())));
        for other in ["registry.acme.example", "acme.example:5050", "ghcr.io"] {
            assert!(look_up(&gitlab, other).await.found.is_none(), "{other}");
        }
        let half = look_up(&gitlab[..2], "registry.acme.example:5050").await;
        assert!(half.found.is_none() && half.searched.len() == 1);
    }

    #[tokio::test]
    async fn token_of_another_forge_is_not_used() {
        for (server, is_used) in [
            ("", true),
            ("https://github.com", true),
            ("https://GitHub.com/", true),
            ("https://github.com:443", true),
            ("https://forge.example.org", false),
            ("https://github.com.example.org", false),
            ("https://github.com@forge.example.org", false),
            ("https://acme.ghe.com", false),
            ("https://github.com:8443", false),
            ("http://github.com", false),
            ("github.com", false),
        ] {
            let variables = [("GITHUB_TOKEN", "t"), ("GITHUB_SERVER_URL", server)];
            let lookup = look_up(&variables, "ghcr.io").await;
            assert_eq!(lookup.found.is_some(), is_used, "{server}");
            assert_eq!(lookup.searched.len(), usize::from(is_used), "{server}");
        }
    }

    #[tokio::test]
    async fn gitlab_credential_for_ghcr_needs_ci_registry() {
        let variables = [
            ("CI_REGISTRY_USER", "u"),
            ("CI_REGISTRY_PASSWORD", "p"),
            ("GITHUB_SERVER_URL", "https://forge.example.org"),
            ("CI_REGISTRY", "GHCR.io"),
        ];
        assert!(look_up(&variables[..3], "ghcr.io").await.found.is_none());
        let found = look_up(&variables, "ghcr.io").await.found;
        let expected = Credential::from_pair("u", "p");
        assert_eq!(found, Some((expected, "`CI_REGISTRY_PASSWORD`".into())));
    }
}
