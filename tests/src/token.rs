//! The token server beside a registry, after the distribution project's token specification:
//! RS256 tokens whose header carries the certificate (`x5c`), self-signed and thrown away.
//!
//! It answers GET and POST, with a password or without one, and remembers what it was asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _};
use serde_json::{Value, json};

use crate::loopback::{Body, Server, body};
use crate::registry::{PASSWORD, USER};

/// The name of the service that tokens are for.
pub const SERVICE: &str = "registry.testbed";
/// The name of the one who signs them.
pub const ISSUER: &str = "tokens.testbed";

/// How the server behaves.
#[derive(Clone, Copy, Debug)]
pub struct TokenPolicy {
    /// How long the registry takes a token.
    pub lifetime: Duration,
    /// Whether a client without a password may pull.
    pub anonymous_pull: bool,
    /// The one user.
    pub user: &'static str,
    /// The user's password.
    pub password: &'static str,
}

impl Default for TokenPolicy {
    /// Five minutes, and nothing without a password.
    fn default() -> Self {
        Self {
            lifetime: Duration::from_mins(5),
            anonymous_pull: false,
            user: USER,
            password: PASSWORD,
        }
    }
}

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// `GET` or `POST`.
    pub method: String,
    /// `repository:NAME:ACTIONS`, as they were asked.
    pub scopes: Vec<String>,
    /// Who asked, if it said so.
    pub user: Option<String>,
    /// Whether a token was given.
    pub granted: bool,
}

/// A token server; it stops with this value.
#[derive(Debug)]
pub struct TokenServer {
    server: Server,
    signer: Arc<Signer>,
    requests: Arc<Mutex<Vec<TokenRequest>>>,
}

impl TokenServer {
    /// Starts one with a key of its own.
    #[must_use]
    pub fn start(policy: TokenPolicy) -> Self {
        let signer = Arc::new(Signer::new(policy.lifetime));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (sign, record) = (Arc::clone(&signer), Arc::clone(&requests));
        let server = Server::start(move |request| {
            let (sign, record) = (Arc::clone(&sign), Arc::clone(&record));
            async move { answer(request, policy, &sign, &record).await }
        });
        Self {
            server,
            signer,
            requests,
        }
    }

    /// The URL that a challenge names.
    #[must_use]
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.server.host())
    }

    /// The certificate that a registry must trust, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        self.signer.pem.as_str()
    }

    /// A token for these scopes, without asking for it.
    #[must_use]
    pub fn token(&self, scopes: &[&str]) -> String {
        let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
        self.signer.token(USER, &scopes)
    }

    /// The requests since the last time this was asked.
    #[must_use]
    pub fn take(&self) -> Vec<TokenRequest> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut requests)
    }
}

async fn answer(
    request: Request<Incoming>,
    policy: TokenPolicy,
    signer: &Signer,
    record: &Mutex<Vec<TokenRequest>>,
) -> Response<Body> {
    let method = request.method().clone();
    let asked = Asked::read(request).await;
    let allowed = match (&asked.user, &asked.password) {
        (Some(user), Some(password)) => user == policy.user && password == policy.password,
        (None, None) => policy.anonymous_pull,
        _ => false,
    };
    record
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(TokenRequest {
            method: method.to_string(),
            scopes: asked.scopes.clone(),
            user: asked.user.clone(),
            granted: allowed,
        });
    if !matches!(method, Method::GET | Method::POST) {
        return json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({}));
    }
    if !allowed {
        let refusal = json!({"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]});
        return json_answer(StatusCode::UNAUTHORIZED, &refusal);
    }
    let token = match &asked.user {
        Some(user) => signer.token(user, &asked.scopes),
        None => signer.token("", &pull_only(&asked.scopes)),
    };
    let given = json!({
        "token": token,
        "access_token": token,
        "expires_in": policy.lifetime.as_secs(),
    });
    json_answer(StatusCode::OK, &given)
}

fn json_answer(status: StatusCode, document: &Value) -> Response<Body> {
    let mut answer = Response::new(body(document.to_string()));
    *answer.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert("Content-Type", json);
    answer
}

fn pull_only(scopes: &[String]) -> Vec<String> {
    let pull = scopes.iter().filter_map(|scope| {
        let (name, actions) = scope.rsplit_once(':')?;
        let pulls = actions.split(',').any(|action| action == "pull");
        pulls.then(|| format!("{name}:pull"))
    });
    pull.collect()
}

/// What a request for a token says, whichever way it says it.
struct Asked {
    scopes: Vec<String>,
    user: Option<String>,
    password: Option<String>,
}

impl Asked {
    async fn read(request: Request<Incoming>) -> Self {
        let basic = request
            .headers()
            .get("Authorization")
            .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let form: Bytes = if request.method() == Method::POST {
            let collected = request.into_body().collect().await;
            collected
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default()
        } else {
            Bytes::from(query)
        };
        let mut scopes = Vec::new();
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(&form) {
            if name == "scope" {
                scopes.extend(value.split_whitespace().map(str::to_owned));
            } else {
                fields.insert(name.into_owned(), value.into_owned());
            }
        }
        let (user, password) = match basic.as_deref().and_then(|pair| pair.split_once(':')) {
            Some((user, password)) => (Some(user.to_owned()), Some(password.to_owned())),
            None => (fields.remove("username"), fields.remove("password")),
        };
        Self {
            scopes,
            user,
            password,
        }
    }
}

/// The key, its certificate, and how long a signature of it is good.
struct Signer {
    key: KeyPair,
    /// Its certificate.
    pem: String,
    /// The certificate as an `x5c` header has it.
    x5c: String,
    lifetime: Duration,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl Signer {
    fn new(lifetime: Duration) -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .expect("an RSA key can be generated");
        let certificate = CertificateParams::new([ISSUER.to_owned()])
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate can be signed");
        Self {
            pem: certificate.pem(),
            x5c: STANDARD.encode(certificate.der()),
            key,
            lifetime,
        }
    }

    fn token(&self, user: &str, scopes: &[String]) -> String {
        // The registry takes a token for one minute more than it says, to forgive slow clocks.
        const LEEWAY: u64 = 60;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the epoch is over")
            .as_secs();
        let access: Vec<_> = scopes.iter().filter_map(|scope| access(scope)).collect();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.x5c]});
        let claims = json!({
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "exp": now + self.lifetime.as_secs() - LEEWAY,
            "nbf": now - 2 * LEEWAY,
            "iat": now - 2 * LEEWAY,
            "jti": "one of many",
            "access": access,
        });
        let part = |document: Value| URL_SAFE_NO_PAD.encode(document.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(signed.as_bytes()).expect("the key signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// `repository:acme/widgets:pull,push` as a token says it.
fn access(scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<_> = actions.split(',').collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}
