//! What CI systems leave in variables for their own registry, and for no other.
//!
//! GitHub: `GITHUB_TOKEN` for `ghcr.io`. GitLab: `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD` for the host that
//! `CI_REGISTRY` names. These come last, so that whatever was set up on purpose goes before.

use async_trait::async_trait;

use super::{Credential, CredentialProvider, CredentialRequest, Lookup};
use crate::environment::Environment;

/// GitHub's registry.
const GITHUB: &str = "ghcr.io";

/// The user name that GitHub documents for a token whose owner does not matter.
const GITHUB_USER: &str = "x-access-token";

/// The variables of the CI system that this runs in.
#[derive(Debug)]
pub(super) struct CiVariables {
    environment: Environment,
}

impl CiVariables {
    pub(super) fn new(environment: Environment) -> Self {
        Self { environment }
    }

    fn github(&self) -> Option<Credential> {
        let token = self.environment.var("GITHUB_TOKEN")?;
        let user = self.environment.var("GITHUB_ACTOR");
        Some(Credential::from_pair(user.unwrap_or(GITHUB_USER), token))
    }

    fn gitlab(&self) -> Option<Credential> {
        let user = self.environment.var("CI_REGISTRY_USER")?;
        let password = self.environment.var("CI_REGISTRY_PASSWORD")?;
        Some(Credential::from_pair(user, password))
    }
}

#[async_trait]
impl CredentialProvider for CiVariables {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let registry = request.registry.as_str();
        let gitlab = self.environment.var("CI_REGISTRY");
        Ok(if registry == GITHUB {
            Lookup::of("`GITHUB_TOKEN`", self.github())
        } else if gitlab.is_some_and(|host| host.eq_ignore_ascii_case(registry)) {
            Lookup::of("`CI_REGISTRY_PASSWORD`", self.gitlab())
        } else {
            Lookup::elsewhere()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look(variables: &[(&str, &str)], registry: &str) -> Lookup {
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
    async fn a_variable_is_for_its_own_registry_only() {
        let github = [("GITHUB_TOKEN", "t")];
        let expected = Credential::from_pair("x-access-token", "t");
        let found = pair(look(&github, "ghcr.io").await);
        assert_eq!(found, Some((expected, "`GITHUB_TOKEN`".into())));
        let named = [("GITHUB_TOKEN", "t"), ("GITHUB_ACTOR", "carol")];
        let found = pair(look(&named, "ghcr.io").await).map(|(credential, _)| credential);
        assert_eq!(found, Some(Credential::from_pair("carol", "t")));
        for other in [
            "ghcr.io:443",
            "xghcr.io",
            "ghcr.io.example",
            "docker.pkg.github.com",
        ] {
            let lookup = look(&named, other).await;
            assert!(
                lookup.found.is_none() && lookup.looked_in.is_empty(),
                "{other}"
            );
        }

        let gitlab = [
            ("CI_REGISTRY", "Registry.acme.example:5050"),
            ("CI_REGISTRY_USER", "gitlab-ci-token"),
            ("CI_REGISTRY_PASSWORD", "p"),
        ];
        let found = pair(look(&gitlab, "registry.acme.example:5050").await);
        let expected = Credential::from_pair("gitlab-ci-token", "p");
        assert_eq!(found, Some((expected, "`CI_REGISTRY_PASSWORD`".into())));
        for other in ["registry.acme.example", "acme.example:5050", "ghcr.io"] {
            assert!(look(&gitlab, other).await.found.is_none(), "{other}");
        }
        let half = look(&gitlab[..2], "registry.acme.example:5050").await;
        assert!(half.found.is_none() && half.looked_in.len() == 1);
    }
}
