//! A client of a scripted server, and who it comes as.

use std::sync::Arc;

use oci_registry::{
    Access, Client, ClientOptions, Credential, CredentialProvider, CredentialRequest, Environment,
    Lookup, Repository, Secret,
};

use super::Server;

/// A secret that must be seen nowhere but in the right requests.
pub(crate) const CANARY: &str = "canary-5f3a";

/// Someone with a password.
#[derive(Debug)]
pub(crate) struct Me;

#[async_trait::async_trait]
impl CredentialProvider for Me {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        let credential = Credential::Basic {
            username: "me".into(),
            password: Secret::new(CANARY),
        };
        Ok(Lookup {
            found: Some((credential, "a test".into())),
            looked_in: vec!["a test".into()],
            ..Lookup::default()
        })
    }
}

/// Someone without one.
#[derive(Debug)]
pub(crate) struct Nobody;

#[async_trait::async_trait]
impl CredentialProvider for Nobody {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        Ok(Lookup {
            found: None,
            looked_in: vec!["here".into(), "there".into()],
            ..Lookup::default()
        })
    }
}

pub(crate) fn client(credentials: impl CredentialProvider + 'static) -> Client {
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = Arc::new(credentials);
    options.observer = super::observer();
    Client::new(options)
}

pub(crate) fn repository(
    server: &Server,
    credentials: impl CredentialProvider + 'static,
    access: Access,
) -> Repository {
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    client(credentials).repository(&reference, access).unwrap()
}
