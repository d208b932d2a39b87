//! Exchange of a credential for a short-lived token (distribution, "Token Authentication" and "OAuth 2.0").

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use snafu::{OptionExt, ResultExt, Snafu};
use tokio::time::Instant;
use url::Url;

use super::Credential;
use crate::error::{ErrorKind, Failure};
use crate::exchange::body::Body;
use crate::exchange::origin::Origin;
use crate::exchange::{self, Exchange, Request, Response};
use crate::redact::{RedactedUrl, Secret, sensitive_header};

/// Maximum size of a token server's response, in bytes.
const MAX_RESPONSE_SIZE: usize = 128 << 10;

/// Lifetime of a token if the server does not report one.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);

/// Maximum time before the expiry at which a token is renewed. For short-lived tokens, a tenth of the lifetime is used.
const RENEWAL_MARGIN: Duration = Duration::from_secs(5);

/// Client ID that is sent to token servers.
const CLIENT_ID: &str = "oci-registry";

#[derive(Debug, Snafu)]
pub(crate) enum Error {
    #[snafu(display("failed to request a token from the token server {realm}"))]
    RequestToken {
        realm: RedactedUrl,
        #[snafu(source(from(exchange::Error, crate::Error::from)))]
        source: crate::Error,
    },
    #[snafu(display("the token server {realm} answered {status}{}{message}", if message.is_empty() { "" } else { ": " }))]
    Refused {
        realm: RedactedUrl,
        status: StatusCode,
        message: String,
    },
    #[snafu(display("the token server {realm} returned an invalid token"))]
    InvalidToken { realm: RedactedUrl },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::RequestToken { source, .. } => source.kind(),
            Self::Refused { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
                ErrorKind::RateLimited
            }
            Self::Refused { status, .. } if status.is_server_error() => ErrorKind::Network,
            Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN => ErrorKind::Denied,
            Self::Refused { .. } => ErrorKind::Unauthenticated,
            Self::InvalidToken { .. } => ErrorKind::Protocol,
        }
    }
}

/// Short-lived token and the time at which it is renewed, measured with the monotonic clock.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    header: HeaderValue,
    renew_at: Option<Instant>,
}

impl Token {
    fn new(token: &str, lifetime: Duration) -> Self {
        let life = lifetime.saturating_sub(RENEWAL_MARGIN.min(lifetime / 10));
        Self {
            header: sensitive_header(&format!("Bearer {token}")),
            renew_at: Instant::now().checked_add(life),
        }
    }

    /// Creates a token without expiry. It is used until the registry rejects it.
    pub(crate) fn without_expiry(token: &Secret) -> Self {
        Self {
            header: sensitive_header(&format!("Bearer {}", token.expose())),
            renew_at: None,
        }
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.renew_at.is_none_or(|moment| Instant::now() < moment)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("renew_at", &self.renew_at)
            .finish_non_exhaustive()
    }
}

/// Error body of a token server, in the format of the distribution-spec or of OAuth 2.0.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenErrorResponse {
    errors: Option<Vec<ErrorEntry>>,
    error_description: Option<String>,
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

/// Requests a token for these scopes from the token server that the registry named.
///
/// The credential is sent to the realm, the URL of the token server: a user name and password with Basic
/// authentication, an identity token in a POST request, or with Basic authentication if the server rejects this
/// request. This is the only exception to the rule that a credential is sent only to the origin that it belongs to. The
/// registry named the realm, and the realm has passed the origin policy.
pub(crate) async fn fetch_token(
    exchange: &Exchange,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<&Credential>,
) -> Result<Token, Error> {
    let shown = exchange.redact_url(realm);
    if let Some(Credential::Identity(secret)) = credential {
        let response = fetch_by_post(exchange, realm, service, scopes, secret)
            .await
            .context(RequestTokenSnafu {
                realm: shown.clone(),
            })?;
        // Some token servers support only the older GET request (distribution, "Token Authentication").
        if !matches!(response.status.as_u16(), 400 | 401 | 404 | 405) {
            return read_token(response, shown).await;
        }
    }
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        query.append_pair("client_id", CLIENT_ID);
    }
    let mut request = Request::new(Method::GET, url).with_secret_response();
    // By convention, token servers accept an identity token as the password of the user `<token>`.
    let basic = match credential {
        Some(Credential::Identity(secret)) => Credential::Basic {
            username: "<token>".into(),
            password: secret.clone(),
        }
        .basic_header(),
        other => other.and_then(Credential::basic_header),
    };
    request.authorization = basic.map(|header| (Origin::from_url(realm), header));
    let response = exchange.send(&request).await.context(RequestTokenSnafu {
        realm: shown.clone(),
    })?;
    read_token(response, shown).await
}

async fn fetch_by_post(
    exchange: &Exchange,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    secret: &Secret,
) -> Result<Response, exchange::Error> {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", service.unwrap_or_default())
        .append_pair("client_id", CLIENT_ID)
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", secret.expose())
        .finish();
    let request = Request::new(Method::POST, realm.clone())
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )
        .body(Body::Bytes(Bytes::from(form)))
        .with_secret_response();
    exchange.secrets().record(secret.expose());
    exchange.send(&request).await
}

async fn read_token(response: Response, realm: RedactedUrl) -> Result<Token, Error> {
    let (status, secrets) = (response.status, response.secrets());
    if !status.is_success() {
        // Only the message fields are quoted, because the body may repeat the credential that was sent.
        let body = response
            .read_prefix(MAX_RESPONSE_SIZE)
            .await
            .unwrap_or_default();
        let refusal: TokenErrorResponse = serde_json::from_slice(&body).unwrap_or_default();
        let listed = refusal
            .errors
            .into_iter()
            .flatten()
            .map(|error| error.message);
        let message = listed
            .chain([refusal.error_description, refusal.details])
            .flatten();
        let message = message.map(|message| secrets.quote(&message, 300)).next();
        let message = message.unwrap_or_default();
        return RefusedSnafu {
            realm,
            status,
            message,
        }
        .fail();
    }
    let body = response
        .bytes(MAX_RESPONSE_SIZE)
        .await
        .context(RequestTokenSnafu {
            realm: realm.clone(),
        })?;
    let response: Option<TokenResponse> = serde_json::from_slice(&body).ok();
    let response = response.context(InvalidTokenSnafu {
        realm: realm.clone(),
    })?;
    let token = [response.token, response.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty());
    let token = token
        .filter(|token| HeaderValue::from_str(token).is_ok())
        .context(InvalidTokenSnafu { realm })?;
    secrets.record(&token);
    let lifetime = response
        .expires_in
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(Token::new(
        &token,
        lifetime
            .filter(|lifetime| !lifetime.is_zero())
            .unwrap_or(DEFAULT_LIFETIME),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens_are_renewed_before_expiry() {
        let (long, short) = (
            Token::new("a", Duration::from_mins(5)),
            Token::new("a", Duration::from_secs(1)),
        );
        let long_lived = Token::without_expiry(&Secret::new("a"));
        assert!(long.is_fresh() && short.is_fresh());
        tokio::time::advance(Duration::from_millis(950)).await;
        assert!(long.is_fresh() && !short.is_fresh());
        tokio::time::advance(Duration::from_secs(295)).await;
        assert!(!long.is_fresh() && long_lived.is_fresh());
        assert!(!format!("{long:?}").contains("Bearer"));
    }
}
