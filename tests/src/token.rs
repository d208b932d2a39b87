//! Token server of a registry. It implements the token specification of the Distribution project, and issues RS256
//! tokens whose header contains the self-signed certificate (`x5c`).
//!
//! The server accepts GET and POST requests, even if they contain no password, and records them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _};
use serde_json::{Value, json};
use testkit::server::{Request, Response, Server};

use crate::registry::{PASSWORD, USER};

/// Service for which the tokens are issued.
pub const SERVICE: &str = "registry.testbed";
/// Issuer of the tokens.
pub const ISSUER: &str = "tokens.testbed";

/// Policy of a token server.
#[derive(Clone, Copy, Debug)]
pub struct TokenPolicy {
    /// Time during which the registry accepts a token.
    pub lifetime: Duration,
    /// Whether a client that sends no password may pull.
    pub allows_anonymous_pull: bool,
    /// Name of the only user.
    pub user: &'static str,
    /// Password of the user.
    pub password: &'static str,
}

impl Default for TokenPolicy {
    /// Returns a policy with a token lifetime of five minutes that does not allow anonymous pulls.
    fn default() -> Self {
        Self {
            lifetime: Duration::from_mins(5),
            allows_anonymous_pull: false,
            user: USER,
            password: PASSWORD,
        }
    }
}

/// Request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// `GET` or `POST`.
    pub method: String,
    /// Requested scopes, each in the form `repository:NAME:ACTIONS`.
    pub scopes: Vec<String>,
    /// Name of the user, or `None` if the request contains no user.
    pub user: Option<String>,
    /// Whether the response contains a token.
    pub is_granted: bool,
}

/// Token server. The server stops when the value is dropped.
#[derive(Debug)]
pub struct TokenServer {
    server: Server,
    signer: Arc<Signer>,
    requests: Arc<Mutex<Vec<TokenRequest>>>,
}

impl TokenServer {
    /// Starts a server that has a new key.
    #[must_use]
    pub fn start(policy: TokenPolicy) -> Self {
        let signer = Arc::new(Signer::new(policy.lifetime));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (sign, record) = (Arc::clone(&signer), Arc::clone(&requests));
        let server = Server::start(move |request, _| {
            let (response, request) = respond(request, policy, &sign);
            lock(&record).push(request);
            response
        });
        Self {
            server,
            signer,
            requests,
        }
    }

    /// Returns the realm for the registry's challenge.
    #[must_use]
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.server.host())
    }

    /// Returns the PEM certificate that a registry must trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        self.signer.pem.as_str()
    }

    /// Creates a token for these scopes. Sends no request.
    #[must_use]
    pub fn token(&self, scopes: &[&str]) -> String {
        let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
        self.signer.token(USER, &scopes)
    }

    /// Returns the requests since the previous call of this method.
    #[must_use]
    pub fn take(&self) -> Vec<TokenRequest> {
        std::mem::take(&mut lock(&self.requests))
    }
}

fn lock(requests: &Mutex<Vec<TokenRequest>>) -> MutexGuard<'_, Vec<TokenRequest>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

fn respond(request: &Request, policy: TokenPolicy, signer: &Signer) -> (Response, TokenRequest) {
    let fields = TokenParameters::read(request);
    let is_granted = match (&fields.user, &fields.password) {
        (Some(user), Some(password)) => user == policy.user && password == policy.password,
        (None, None) => policy.allows_anonymous_pull,
        _ => false,
    };
    let response = if !matches!(request.method.as_str(), "GET" | "POST") {
        json_response(405, &json!({}))
    } else if !is_granted {
        let error = json!({"code": "UNAUTHORIZED", "message": "authentication required"});
        json_response(401, &json!({"errors": [error]}))
    } else {
        let token = match &fields.user {
            Some(user) => signer.token(user, &fields.scopes),
            None => signer.token("", &restrict_to_pull(&fields.scopes)),
        };
        let document = json!({
            "token": token,
            "access_token": token,
            "expires_in": policy.lifetime.as_secs(),
        });
        json_response(200, &document)
    };
    let request = TokenRequest {
        method: request.method.clone(),
        scopes: fields.scopes,
        user: fields.user,
        is_granted,
    };
    (response, request)
}

fn json_response(status: u16, document: &Value) -> Response {
    Response::new(status)
        .header("Content-Type", "application/json")
        .body(document.to_string())
}

fn restrict_to_pull(scopes: &[String]) -> Vec<String> {
    let pull = scopes.iter().filter_map(|scope| {
        let (name, actions) = scope.rsplit_once(':')?;
        let pulls = actions.split(',').any(|action| action == "pull");
        pulls.then(|| format!("{name}:pull"))
    });
    pull.collect()
}

/// Parameters of a request for a token. They are in the query of a GET request, in the form of a POST request, or in
/// the `Authorization` header.
struct TokenParameters {
    scopes: Vec<String>,
    user: Option<String>,
    password: Option<String>,
}

impl TokenParameters {
    fn read(request: &Request) -> Self {
        let basic = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Basic "))
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let query = request.target.split_once('?');
        let form = if request.method == "POST" {
            &request.body
        } else {
            query.map_or("", |(_, query)| query).as_bytes()
        };
        let mut scopes = Vec::new();
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(form) {
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

/// Key that signs tokens, its certificate, and the lifetime of the tokens.
struct Signer {
    key: KeyPair,
    /// Certificate of the key, in PEM.
    pem: String,
    /// Certificate in the format of the `x5c` header.
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
        // The registry accepts a token until one minute after its expiry, because clocks differ.
        const LEEWAY: u64 = 60;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the system clock is after 1970")
            .as_secs();
        let access: Vec<_> = scopes
            .iter()
            .filter_map(|scope| access_entry(scope))
            .collect();
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
        let signature = self.key.sign(signed.as_bytes()).expect("the key can sign");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Returns the entry of the `access` claim for a scope such as `repository:acme/widgets:pull,push`.
fn access_entry(scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<_> = actions.split(',').collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}
