//! Authenticated exchange with one registry: sends a request, responds to the challenge and sends the request again.
//!
//! The transport stores the authentication state of a registry: the scheme that the registry demands, the credentials
//! and the tokens. It looks up a credential only after a challenge, and responds only to a challenge from the origin of
//! the registry. A rejected credential is looked up once more, because it may have changed. After a challenge, a
//! request is sent again at most once, so there is no retry loop.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use snafu::{ResultExt, Snafu};
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use crate::auth::challenge::Challenge;
use crate::auth::scope::Scope;
use crate::auth::token::{self, Token};
use crate::auth::{Credential, CredentialProvider, CredentialRequest, Lookup};
use crate::error::{ErrorKind, Failure, Forge, Hint};
use crate::event::{ClientEvent, Observer};
use crate::exchange::origin::{self, Origin, Peer};
use crate::exchange::{self, Exchange, Request, Response};
use crate::redact::Secrets;
use crate::reference::RegistryName;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to look up the credential of `{registry}`"))]
    FindCredential {
        registry: RegistryName,
        source: crate::Error,
    },
    #[snafu(display(
        "failed to authenticate to `{registry}`: the URL of its token server is not allowed"
    ))]
    Realm {
        registry: RegistryName,
        source: origin::Error,
    },
    #[snafu(display("failed to get a token for `{registry}`"))]
    FetchToken {
        registry: RegistryName,
        account: Account,
        #[snafu(source(from(token::Error, crate::Error::from)))]
        source: crate::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Realm { source, .. } => source.kind(),
            Self::FindCredential { source, .. } | Self::FetchToken { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::FetchToken {
                registry, account, ..
            } if matches!(self.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied) => {
                account.hints(registry)
            }
            _ => Vec::new(),
        }
    }
}

/// Account that a request was sent with.
#[derive(Debug, Clone, Default)]
pub(crate) enum Account {
    /// The registry has not demanded authentication.
    #[default]
    NotDemanded,
    /// Anonymous, because no credential was found in these sources.
    Anonymous {
        searched: Vec<String>,
        job: Option<JobAccess>,
    },
    /// The credential from this source.
    Credential {
        location: String,
        job: Option<JobAccess>,
    },
}

/// Access of a CI job to the registry of its forge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobAccess {
    forge: Forge,
    /// Whether the registry rejected the token of the job, and the request was sent without it.
    is_refused: bool,
    is_write: bool,
}

impl Account {
    /// Returns the hints for a request that the registry rejected.
    pub(crate) fn hints(&self, registry: &RegistryName) -> Vec<Hint> {
        let registry = registry.to_string();
        // A CI job cannot log in interactively, but its forge issues a token to it.
        let get_access = |job: &Option<JobAccess>, has_credential: bool| match *job {
            Some(job) => Hint::JobToken {
                forge: job.forge,
                registry: registry.clone(),
                has_credential: has_credential || job.is_refused,
                is_write: job.is_write,
            },
            None => Hint::LogIn {
                registry: registry.clone(),
            },
        };
        match self {
            Self::NotDemanded => Vec::new(),
            Self::Anonymous { searched, job } => {
                let (searched, access) = (searched.clone(), get_access(job, false));
                vec![Hint::NoCredential { registry, searched }, access]
            }
            Self::Credential { location, job } => {
                let (source, access) = (location.clone(), get_access(job, true));
                vec![Hint::RejectedCredential { registry, source }, access]
            }
        }
    }
}

/// Connection to one registry with its authentication state.
pub(crate) struct Transport {
    exchange: Arc<Exchange>,
    registry: RegistryName,
    base: Url,
    origin: Origin,
    provider: Arc<dyn CredentialProvider>,
    state: Arc<Mutex<AuthState>>,
    /// Challenge of `/v2/`, cached after the first request.
    base_challenge: Arc<OnceCell<Option<(Challenge, Peer)>>>,
}

#[derive(Default)]
struct AuthState {
    scheme: Option<AuthScheme>,
    /// Results of credential lookups, by scope.
    lookups: HashMap<Scope, Lookup>,
    tokens: HashMap<Scope, Token>,
    /// Forge that runs the CI job, if the registry belongs to the forge.
    job: Option<Forge>,
}

/// Authentication scheme that the registry demands.
enum AuthScheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// Response, and the account that the request was sent with.
#[derive(Debug)]
pub(crate) struct AuthorizedResponse {
    pub(crate) response: Response,
    pub(crate) account: Account,
    /// Whether the request was rejected and the authorisation has been renewed since. The body of an upload cannot be
    /// replayed, so the caller starts the upload again.
    pub(crate) renewed: bool,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Transport {
    pub(crate) fn new(
        exchange: Arc<Exchange>,
        registry: RegistryName,
        base: Url,
        provider: Arc<dyn CredentialProvider>,
        job: Option<Forge>,
    ) -> Self {
        let origin = Origin::from_url(&base);
        let state = AuthState {
            job,
            ..AuthState::default()
        };
        Self {
            exchange,
            registry,
            base,
            origin,
            provider,
            state: Arc::new(Mutex::new(state)),
            base_challenge: Arc::default(),
        }
    }

    /// Returns a transport with the same connections, credentials and tokens that reports to another observer.
    pub(crate) fn with_observer(&self, observer: Observer) -> Self {
        Self {
            exchange: Arc::new(self.exchange.with_observer(observer)),
            registry: self.registry.clone(),
            base: self.base.clone(),
            origin: self.origin.clone(),
            provider: Arc::clone(&self.provider),
            state: Arc::clone(&self.state),
            base_challenge: Arc::clone(&self.base_challenge),
        }
    }

    /// Returns the name of the registry.
    pub(crate) fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// Returns the observer of requests and credentials.
    pub(crate) fn observer(&self) -> &Observer {
        self.exchange.observer()
    }

    /// Returns the URL of a path of the registry. The path consists of parsed names only.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// Sends a request with the authorisation for a scope, and responds to a challenge at most once.
    pub(crate) async fn send(
        &self,
        mut request: Request,
        scope: &Scope,
    ) -> crate::Result<AuthorizedResponse> {
        let is_own_request = Origin::from_url(&request.url) == self.origin && !request.is_untrusted;
        let used = if is_own_request {
            self.current_header(scope).await?
        } else {
            None
        };
        let response = self.send_with_header(&mut request, used.clone()).await?;
        let is_unauthorized = response.status == http::StatusCode::UNAUTHORIZED
            && is_own_request
            && self.is_own_response(&response);
        let header = if is_unauthorized {
            match self.find_challenge(&response).await? {
                Some((challenge, peer)) => {
                    self.respond_to_challenge(&challenge, &peer, scope, used.as_ref())
                        .await?
                }
                None => None,
            }
        } else {
            None
        };
        let is_stream = request.body.is_stream();
        let renewed = header.is_some() && is_stream;
        let response = match header.filter(|_| !is_stream) {
            Some(header) => {
                drop(response);
                self.send_with_header(&mut request, Some(header)).await?
            }
            None => response,
        };
        let is_refused = is_own_request && is_refusal(&response) && self.is_own_response(&response);
        let without = if is_refused {
            self.send_without_ambient(&mut request, scope).await?
        } else {
            None
        };
        let response = without.unwrap_or(response);
        Ok(AuthorizedResponse {
            response,
            account: self.account(scope).await,
            renewed,
        })
    }

    /// Sends a request with this authorisation. The authorisation is sent only to the origin of the registry.
    async fn send_with_header(
        &self,
        request: &mut Request,
        header: Option<HeaderValue>,
    ) -> Result<Response, exchange::Error> {
        request.authorization = header.map(|header| (self.origin.clone(), header));
        self.exchange.send(request).await
    }

    /// Returns the challenge in a response, and the server that sent the challenge. If a 401 response has no challenge,
    /// the challenge of `/v2/` is requested once.
    async fn find_challenge(
        &self,
        response: &Response,
    ) -> crate::Result<Option<(Challenge, Peer)>> {
        if let Some(challenge) = Challenge::select(&response.headers) {
            return Ok(Some((challenge, response.peer.clone())));
        }
        let challenge = self.base_challenge.get_or_try_init(|| async {
            let request = Request::new(http::Method::GET, self.url("/v2/")).within_origin();
            let response = self.exchange.send(&request).await?;
            let challenge = Challenge::select(&response.headers);
            Ok::<_, crate::Error>(challenge.map(|challenge| (challenge, response.peer)))
        });
        Ok(challenge.await?.clone())
    }

    /// Returns the secrets to redact in text from servers.
    pub(crate) fn secrets(&self) -> &Secrets {
        self.exchange.secrets()
    }

    /// Whether a response came from the origin of the registry, and no other origin chose its URL.
    pub(crate) fn is_own_response(&self, response: &Response) -> bool {
        response.requested_origin == self.origin
            && Origin::from_url(&response.peer.url) == self.origin
            && !response.is_untrusted
    }

    /// Returns the account that requests of a scope currently use.
    pub(crate) async fn account(&self, scope: &Scope) -> Account {
        self.state.lock().await.account(scope)
    }

    /// Returns the authorisation for a scope; `None` before the first challenge.
    async fn current_header(&self, scope: &Scope) -> crate::Result<Option<HeaderValue>> {
        let mut state = self.state.lock().await;
        match &state.scheme {
            None => Ok(None),
            Some(AuthScheme::Basic) => {
                self.ensure_credential(&mut state, scope).await?;
                Ok(state.credential(scope).and_then(Credential::basic_header))
            }
            Some(AuthScheme::Bearer { .. }) => match state.token(scope) {
                Some(token) => Ok(Some(token.header().clone())),
                None => Ok(Some(self.fetch_token(&mut state, scope, None).await?)),
            },
        }
    }

    /// Returns the authorisation for a challenge. Returns `None` if there is no credential, or if the registry rejected
    /// the only credential.
    ///
    /// A new token is fetched after each challenge and used even if it equals the rejected token. A token server such
    /// as GHCR's returns the same token while the token is valid, so the rejection may have been transient.
    async fn respond_to_challenge(
        &self,
        challenge: &Challenge,
        peer: &Peer,
        scope: &Scope,
        refused: Option<&HeaderValue>,
    ) -> crate::Result<Option<HeaderValue>> {
        let mut state = self.state.lock().await;
        let is_other = |header: &HeaderValue| refused != Some(header);
        match challenge {
            Challenge::Basic => {
                state.scheme = Some(AuthScheme::Basic);
                let was_known = state.lookups.contains_key(&scope.credential_scope());
                self.ensure_credential(&mut state, scope).await?;
                let header = state.credential(scope).and_then(Credential::basic_header);
                if header.as_ref().is_some_and(is_other) || !was_known {
                    return Ok(header);
                }
                self.replace_credential(&mut state, scope).await?;
                let header = state.credential(scope).and_then(Credential::basic_header);
                Ok(header.filter(is_other))
            }
            Challenge::Bearer {
                realm,
                service,
                scope: demanded,
            } => {
                let realm = peer.resolve_realm(realm).with_context(|_| RealmSnafu {
                    registry: self.registry.clone(),
                })?;
                state.scheme = Some(AuthScheme::Bearer {
                    realm,
                    service: service.clone(),
                });
                // Another request may have been rejected at the same time and may already have fetched a token.
                let known = state.token(scope).map(Token::header);
                if let Some(header) = known.filter(|header| is_other(header)) {
                    return Ok(Some(header.clone()));
                }
                let demanded = demanded.as_deref();
                let mut header = self.fetch_token(&mut state, scope, demanded).await?;
                if !is_other(&header) && self.replace_credential(&mut state, scope).await? {
                    header = self.fetch_token(&mut state, scope, demanded).await?;
                }
                Ok(Some(header))
            }
        }
    }

    /// Repeats a read without the credential of the CI job, after the registry rejected this credential. The read is
    /// sent anonymously, or with an anonymous token. Returns `None` if the original request was sent without this
    /// credential, or if the client received no anonymous token.
    async fn send_without_ambient(
        &self,
        request: &mut Request,
        scope: &Scope,
    ) -> Result<Option<Response>, exchange::Error> {
        let mut state = self.state.lock().await;
        let header = if self.drop_ambient(&mut state, scope) {
            match state.scheme {
                Some(AuthScheme::Bearer { .. }) => {
                    match self.exchange_for_token(&state, scope, None).await {
                        Ok(token) => Some(state.store_token(scope, token)),
                        // The caller reports the response of the registry instead of this error.
                        Err(_) => return Ok(None),
                    }
                }
                _ => None,
            }
        } else {
            // Another request may have been rejected at the same time and may already have dropped the credential.
            let is_dropped = |lookup: &Lookup| lookup.is_ambient && lookup.found.is_none();
            let sent = request.authorization.as_ref().map(|(_, header)| header);
            let known = state.token(scope).map(Token::header).cloned();
            if known.as_ref() == sent || !state.lookups.get(scope).is_some_and(is_dropped) {
                return Ok(None);
            }
            known
        };
        drop(state);
        self.send_with_header(request, header).await.map(Some)
    }

    /// Drops the rejected credential of the CI job for reads of a repository. Returns whether a credential was dropped.
    fn drop_ambient(&self, state: &mut AuthState, scope: &Scope) -> bool {
        let lookup = match scope {
            Scope::Pull(_) => state.lookups.get_mut(scope),
            _ => None,
        };
        let Some(lookup) = lookup.filter(|lookup| lookup.is_ambient) else {
            return false;
        };
        let Some((_, location)) = lookup.found.take() else {
            return false;
        };
        state.tokens.remove(scope);
        let registry = &self.registry;
        self.observer().notify(|| ClientEvent::Credential {
            problem: format!(
                "`{registry}` rejected the credential from {location}; continuing without a credential"
            ),
        });
        for source in &mut lookup.searched {
            if *source == location {
                source.push_str(" (rejected)");
            }
        }
        true
    }

    /// Looks up the credential of a scope, unless it was looked up before.
    async fn ensure_credential(&self, state: &mut AuthState, scope: &Scope) -> Result<(), Error> {
        if !state.lookups.contains_key(&scope.credential_scope()) {
            self.look_up_credential(state, scope, &scope.credential_request(&self.registry))
                .await?;
        }
        Ok(())
    }

    /// Looks up a replacement for a rejected credential. Returns whether a different credential was found.
    async fn replace_credential(
        &self,
        state: &mut AuthState,
        scope: &Scope,
    ) -> Result<bool, Error> {
        let refused = state.credential(scope).cloned();
        let request = scope.credential_request(&self.registry).after_refusal();
        self.look_up_credential(state, scope, &request).await?;
        Ok(state.credential(scope) != refused.as_ref())
    }

    async fn look_up_credential(
        &self,
        state: &mut AuthState,
        scope: &Scope,
        request: &CredentialRequest<'_>,
    ) -> Result<(), Error> {
        let lookup = self.provider.credential(request).await;
        let lookup = lookup.with_context(|_| FindCredentialSnafu {
            registry: self.registry.clone(),
        })?;
        for problem in &lookup.warnings {
            let is_reported = |earlier: &Lookup| earlier.warnings.contains(problem);
            if !state.lookups.values().any(is_reported) {
                self.observer().notify(|| ClientEvent::Credential {
                    problem: problem.clone(),
                });
            }
        }
        state.lookups.insert(scope.credential_scope(), lookup);
        Ok(())
    }

    /// Fetches a token. The state stays locked, so that concurrent requests share one fetch.
    async fn fetch_token(
        &self,
        state: &mut AuthState,
        scope: &Scope,
        demanded: Option<&str>,
    ) -> Result<HeaderValue, Error> {
        self.ensure_credential(state, scope).await?;
        let token = match self.exchange_for_token(state, scope, demanded).await {
            Err(error)
                if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied)
                    && (self.replace_credential(state, scope).await?
                        || self.drop_ambient(state, scope)) =>
            {
                self.exchange_for_token(state, scope, demanded).await?
            }
            outcome => outcome?,
        };
        Ok(state.store_token(scope, token))
    }

    /// Exchanges the credential for a token.
    async fn exchange_for_token(
        &self,
        state: &AuthState,
        scope: &Scope,
        demanded: Option<&str>,
    ) -> Result<Token, Error> {
        match (state.credential(scope), &state.scheme) {
            (Some(Credential::Registry(secret)), _) => Ok(Token::without_expiry(secret)),
            (credential, Some(AuthScheme::Bearer { realm, service })) => {
                // Some token servers honour only the first scope, so the scope that the registry demands comes first.
                let mut scopes: Vec<String> = demanded
                    .into_iter()
                    .flat_map(str::split_whitespace)
                    .map(Into::into)
                    .collect();
                for ours in scope.token_scopes() {
                    if !scopes.contains(&ours) {
                        scopes.push(ours);
                    }
                }
                let fetched = token::fetch_token(
                    &self.exchange,
                    realm,
                    service.as_deref(),
                    &scopes,
                    credential,
                )
                .await;
                fetched.with_context(|_| FetchTokenSnafu {
                    registry: self.registry.clone(),
                    account: state.account(scope),
                })
            }
            (_, _) => unreachable!("a token is fetched only after a Bearer challenge"),
        }
    }
}

/// Whether a response rejects the credential of the request.
fn is_refusal(response: &Response) -> bool {
    use http::StatusCode;
    matches!(
        response.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    )
}

impl AuthState {
    fn credential(&self, scope: &Scope) -> Option<&Credential> {
        let (credential, _) = self
            .lookups
            .get(&scope.credential_scope())?
            .found
            .as_ref()?;
        Some(credential)
    }

    /// Returns a fresh token for the scope, or for another scope that covers it.
    fn token(&self, scope: &Scope) -> Option<&Token> {
        let covering = self.tokens.iter().filter(|(held, _)| held.covers(scope));
        let covering = covering.map(|(_, token)| token);
        let mut fitting = self.tokens.get(scope).into_iter().chain(covering);
        fitting.find(|token| token.is_fresh())
    }

    /// Stores a token for a scope and returns its header.
    fn store_token(&mut self, scope: &Scope, token: Token) -> HeaderValue {
        let header = token.header().clone();
        self.tokens.retain(|_, token| token.is_fresh());
        self.tokens.insert(scope.clone(), token);
        header
    }

    fn account(&self, scope: &Scope) -> Account {
        let lookup = self.lookups.get(&scope.credential_scope());
        let job = self.job.map(|forge| JobAccess {
            forge,
            is_refused: lookup.is_some_and(|lookup| lookup.is_ambient && lookup.found.is_none()),
            is_write: matches!(scope, Scope::Push(_) | Scope::Mount { .. }),
        });
        match lookup {
            None => Account::NotDemanded,
            Some(Lookup {
                found: Some((_, location)),
                ..
            }) => Account::Credential {
                location: location.clone(),
                job,
            },
            Some(lookup) => Account::Anonymous {
                searched: lookup.searched.clone(),
                job,
            },
        }
    }
}
