//! Credentials for Amazon's registries, private and public. AWS issues a token, which the client uses as a password.
//!
//! This is the only module that uses the AWS SDK. Amazon's registries are recognized by their complete host name, as in
//! amazon-ecr-credential-helper. The host name contains the region. The access keys come from the [`Environment`]:
//! `AWS_ACCESS_KEY_ID` and related variables, then the profile and the files that it names, then the web identity.
//! After these, the providers of the SDK determine the role of the container or machine. They read the process
//! environment, as the SDK also does for proxies and for the programs and logins that a profile names.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_ecr::config::http::HttpResponse;
use aws_sdk_ecr::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_ecr::config::{
    ConfigBag, Credentials, Intercept, ProvideCredentials, RuntimeComponents,
};
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::primitives::DateTime;
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http_body_util::{LengthLimitError, Limited};
use snafu::{IntoError, OptionExt, Snafu};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Credential, CredentialProvider, CredentialRequest, Lookup};
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure, Hint};
use crate::escape::escape;
use crate::reference::RegistryName;

/// Total timeout of a search. Outside AWS, the SDK would wait for a metadata service that does not respond.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of the metadata service. A short timeout suffices, because the service is on the local network.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum time before the expiry at which a token is renewed. For short-lived tokens, a tenth of the remaining
/// lifetime is used.
const RENEWAL_MARGIN: Duration = Duration::from_mins(5);

/// Maximum size of a response of the token service, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

/// Error codes that AWS returns for too many requests.
const THROTTLING_CODES: [&str; 6] = [
    "RequestLimitExceeded",
    "RequestThrottled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Hosts of the public registry.
const PUBLIC_HOSTS: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

/// The only region that issues tokens for the public registry.
const PUBLIC_REGION: &str = "us-east-1";

/// Domains that follow the region in the host name of a private registry.
const PRIVATE_DOMAINS: [&str; 9] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "on.amazonwebservices.com.cn",
    "sc2s.sgov.gov",
    "c2s.ic.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];

/// Name of this source in messages.
const SOURCE_NAME: &str = "AWS credentials";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to load the AWS credentials for `{registry}`"))]
    LoadKeys {
        registry: RegistryName,
        source: CredentialsError,
    },
    #[snafu(display("failed to request a token for `{registry}` from AWS"))]
    RequestToken {
        registry: RegistryName,
        source: Cause,
    },
    #[snafu(display("AWS refused to issue a token for `{registry}`: {code}{}{message}", if message.is_empty() { "" } else { ": " }))]
    Refused {
        registry: RegistryName,
        code: String,
        message: String,
    },
    #[snafu(display("AWS failed to issue a token for `{registry}`: {code}{}{message}", if message.is_empty() { "" } else { ": " }))]
    Unavailable {
        registry: RegistryName,
        code: String,
        message: String,
        kind: ErrorKind,
    },
    #[snafu(display("AWS returned no token for `{registry}` within {} seconds", TIMEOUT.as_secs()))]
    TimedOut { registry: RegistryName },
    #[snafu(display("AWS returned no valid token for `{registry}`"))]
    InvalidToken { registry: RegistryName },
    #[snafu(display("AWS returned an invalid response with status {status} for `{registry}`"))]
    InvalidResponse {
        registry: RegistryName,
        status: StatusCode,
    },
    #[snafu(display(
        "AWS returned a response with more than {MAX_RESPONSE} bytes for `{registry}`"
    ))]
    ResponseTooLarge { registry: RegistryName },
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::LoadKeys { .. } | Self::Refused { .. } => ErrorKind::Unauthenticated,
            Self::RequestToken { .. } | Self::TimedOut { .. } => ErrorKind::Network,
            Self::Unavailable { kind, .. } => *kind,
            Self::InvalidToken { .. }
            | Self::InvalidResponse { .. }
            | Self::ResponseTooLarge { .. } => ErrorKind::Protocol,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::LoadKeys { .. } | Self::Refused { .. } => {
                vec!["set `AWS_PROFILE`, or `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`".into()]
            }
            Self::RequestToken { .. }
            | Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::InvalidToken { .. }
            | Self::InvalidResponse { .. }
            | Self::ResponseTooLarge { .. } => Vec::new(),
        }
    }
}

/// Limits the size of the responses, which the AWS SDK reads into memory.
#[derive(Debug)]
struct ResponseLimit;

impl Intercept for ResponseLimit {
    fn name(&self) -> &'static str {
        "ResponseLimit"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), Cause> {
        let response = context.response_mut();
        let body = Limited::new(response.take_body(), MAX_RESPONSE);
        *response.body_mut() = SdkBody::from_body_1_x(body);
        Ok(())
    }
}

/// AWS service that issues tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Service {
    Private { region: String, is_fips: bool },
    Public,
}

impl Service {
    /// Returns the service that issues tokens for a registry, or `None` if the registry is not Amazon's. The complete
    /// host name must match.
    fn for_registry(registry: &RegistryName) -> Option<Self> {
        let host = registry.host();
        if PUBLIC_HOSTS.contains(&host) {
            return Some(Self::Public);
        }
        let (account, rest) = host.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let rest = rest
            .strip_prefix("dkr.ecr")
            .or_else(|| rest.strip_prefix("dkr-ecr"))?;
        let fips = rest.strip_prefix("-fips");
        let (region, domain) = fips.unwrap_or(rest).strip_prefix('.')?.split_once('.')?;
        let is_region = region.starts_with(|first: char| first.is_ascii_alphanumeric())
            && region
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        (is_account && is_region && PRIVATE_DOMAINS.contains(&domain)).then(|| Self::Private {
            region: region.to_owned(),
            is_fips: fips.is_some(),
        })
    }

    fn region(&self) -> Region {
        Region::new(match self {
            Self::Private { region, .. } => region.clone(),
            Self::Public => PUBLIC_REGION.to_owned(),
        })
    }

    /// Returns the environment variable that sets the endpoint of this service.
    fn endpoint_variable(&self) -> &'static str {
        match self {
            Self::Private { .. } => "AWS_ENDPOINT_URL_ECR",
            Self::Public => "AWS_ENDPOINT_URL_ECR_PUBLIC",
        }
    }
}

/// Token in a response of AWS.
struct AuthorizationToken {
    /// Base64 of `AWS:password`.
    text: Option<String>,
    expires_at: Option<DateTime>,
}

/// Cached credential, and the time at which it is renewed. If the time is unknown (`None`), the credential is used
/// until the registry rejects it.
#[derive(Clone)]
struct CachedCredential {
    credential: Credential,
    renew_at: Option<Instant>,
}

/// Credential provider for Amazon's registries.
pub(super) struct Ecr {
    environment: Environment,
    /// Cached credentials by service. One token is valid for all registries of a region.
    cached: Mutex<HashMap<Service, CachedCredential>>,
}

impl fmt::Debug for Ecr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ecr").finish_non_exhaustive()
    }
}

impl Ecr {
    pub(super) fn new(environment: Environment) -> Self {
        Self {
            environment,
            cached: Mutex::default(),
        }
    }

    async fn fetch(
        &self,
        service: &Service,
        registry: &RegistryName,
    ) -> Result<Option<CachedCredential>, Error> {
        let keys = match self.access_keys(service.region()).await {
            Ok(keys) => keys,
            // If AWS is not configured, this source has no credential. A missing profile is an error only if
            // `AWS_PROFILE` is set.
            Err(CredentialsError::CredentialsNotLoaded(_))
                if self.environment.var("AWS_PROFILE").is_none() =>
            {
                return Ok(None);
            }
            Err(error) => {
                let registry = registry.clone();
                return Err(LoadKeysSnafu { registry }.into_error(error));
            }
        };
        let token = self.request_token(service, keys, registry).await?;
        let invalid_token = || InvalidTokenSnafu {
            registry: registry.clone(),
        };
        let text = token.text.with_context(invalid_token)?;
        let credential = decode_token(&text).with_context(invalid_token)?;
        let expires_at = token.expires_at.and_then(|date| date.try_into().ok());
        let lifetime = expires_at.and_then(|date| lifetime(date, SystemTime::now()));
        let renew_at = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        Ok(Some(CachedCredential {
            credential,
            renew_at,
        }))
    }

    async fn request_token(
        &self,
        service: &Service,
        keys: Credentials,
        registry: &RegistryName,
    ) -> Result<AuthorizationToken, Error> {
        let endpoint = self.endpoint(service);
        match service {
            Service::Private { is_fips, .. } => {
                let mut config = aws_sdk_ecr::config::Builder::new()
                    .behavior_version(BehaviorVersion::latest())
                    .region(service.region())
                    .use_fips(*is_fips)
                    .retry_config(RetryConfig::standard())
                    .interceptor(ResponseLimit)
                    .credentials_provider(keys);
                config.set_endpoint_url(endpoint);
                let client = aws_sdk_ecr::Client::from_conf(config.build());
                let response = client.get_authorization_token().send().await;
                let response = response.map_err(|error| sdk_error(error, registry))?;
                let mut tokens = response.authorization_data.unwrap_or_default().into_iter();
                let token = tokens.next();
                Ok(AuthorizationToken {
                    expires_at: token.as_ref().and_then(|token| token.expires_at),
                    text: token.and_then(|token| token.authorization_token),
                })
            }
            Service::Public => {
                let mut config = aws_sdk_ecrpublic::config::Builder::new()
                    .behavior_version(BehaviorVersion::latest())
                    .region(service.region())
                    .retry_config(RetryConfig::standard())
                    .interceptor(ResponseLimit)
                    .credentials_provider(keys);
                config.set_endpoint_url(endpoint);
                let client = aws_sdk_ecrpublic::Client::from_conf(config.build());
                let response = client.get_authorization_token().send().await;
                let response = response.map_err(|error| sdk_error(error, registry))?;
                let token = response.authorization_data;
                Ok(AuthorizationToken {
                    expires_at: token.as_ref().and_then(|token| token.expires_at),
                    text: token.and_then(|token| token.authorization_token),
                })
            }
        }
    }

    /// Returns the configured endpoint of the service; `None` for the default endpoint.
    fn endpoint(&self, service: &Service) -> Option<String> {
        if self.is_enabled("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
            return None;
        }
        let own = self.environment.var(service.endpoint_variable());
        let endpoint = own.or_else(|| self.environment.var("AWS_ENDPOINT_URL"));
        endpoint.map(str::to_owned)
    }

    /// Returns the access keys from the first source that has them. The sources have the same order as in the SDK.
    async fn access_keys(&self, region: Region) -> Result<Credentials, CredentialsError> {
        let var = |name| self.environment.var(name);
        if let Some((id, secret)) = var("AWS_ACCESS_KEY_ID").zip(var("AWS_SECRET_ACCESS_KEY")) {
            let session = var("AWS_SESSION_TOKEN").map(str::to_owned);
            return Ok(Credentials::new(id, secret, session, None, "environment"));
        }
        let config = ProviderConfig::without_region()
            .with_region(Some(region))
            .with_behavior_version(Some(BehaviorVersion::latest()));
        let mut profile = ProfileFileCredentialsProvider::builder()
            .configure(&config)
            .profile_files(self.profile_files().await);
        if let Some(name) = var("AWS_PROFILE") {
            profile = profile.profile_name(name);
        }
        let mut chain = CredentialsProviderChain::first_try("profile", profile.build());
        if let Some((token, role)) = var("AWS_WEB_IDENTITY_TOKEN_FILE").zip(var("AWS_ROLE_ARN")) {
            let identity = StaticConfiguration {
                web_identity_token_file: self.environment.resolve(token),
                role_arn: role.to_owned(),
                session_name: var("AWS_ROLE_SESSION_NAME")
                    .unwrap_or(self.environment.application())
                    .to_owned(),
            };
            let identity = WebIdentityTokenCredentialsProvider::builder()
                .configure(&config)
                .static_configuration(identity);
            chain = chain.or_else("web identity", identity.build());
        }
        let container = EcsCredentialsProvider::builder().configure(&config);
        chain = chain.or_else("container", container.build());
        if !self.is_enabled("AWS_EC2_METADATA_DISABLED") {
            let client = imds::Client::builder()
                .configure(&config)
                .max_attempts(1)
                .connect_timeout(METADATA_TIMEOUT)
                .read_timeout(METADATA_TIMEOUT);
            let machine = ImdsCredentialsProvider::builder()
                .configure(&config)
                .imds_client(client.build());
            chain = chain.or_else("machine", machine.build());
        }
        chain.provide_credentials().await
    }

    /// Returns the profile files that exist. The SDK requires every listed file to exist, and at least one file.
    async fn profile_files(&self) -> EnvConfigFiles {
        let path_of = |variable: &str, name: &str| -> Option<PathBuf> {
            let named = self.environment.var(variable);
            let named = named.map(|path| self.environment.resolve(path));
            named.or_else(|| Some(self.environment.home()?.join(".aws").join(name)))
        };
        let mut files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, "");
        for (kind, path) in [
            (
                EnvConfigFileKind::Config,
                path_of("AWS_CONFIG_FILE", "config"),
            ),
            (
                EnvConfigFileKind::Credentials,
                path_of("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            ),
        ] {
            if let Some(path) = path
                && tokio::fs::try_exists(&path).await.unwrap_or(true)
            {
                files = files.with_file(kind, path);
            }
        }
        files.build()
    }

    fn is_enabled(&self, variable: &str) -> bool {
        let value = self.environment.var(variable);
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

#[async_trait]
impl CredentialProvider for Ecr {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        let Some(service) = Service::for_registry(request.registry) else {
            return Ok(Lookup::not_applicable());
        };
        // Everyone can read public repositories, so a read is anonymous unless the registry rejected an anonymous read.
        if service == Service::Public && !request.is_write && !request.is_refused {
            return Ok(Lookup::not_applicable());
        }
        let mut cached = self.cached.lock().await;
        if let Some(known) = cached.get(&service).filter(|_| !request.is_refused)
            && known
                .renew_at
                .is_none_or(|renew_at| Instant::now() < renew_at)
        {
            return Ok(Lookup::for_source(
                SOURCE_NAME,
                Some(known.credential.clone()),
            ));
        }
        cached.remove(&service);
        let fetched = tokio::time::timeout(TIMEOUT, self.fetch(&service, request.registry));
        let fetched = fetched.await.ok().with_context(|| TimedOutSnafu {
            registry: request.registry.clone(),
        })??;
        let credential = fetched.as_ref().map(|cached| cached.credential.clone());
        cached.extend(fetched.map(|fetched| (service, fetched)));
        Ok(Lookup::for_source(SOURCE_NAME, credential))
    }
}

/// Decodes the user name and password of a token.
fn decode_token(token: &str) -> Option<Credential> {
    let bytes = STANDARD.decode(token.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credential::from_pair(username, password))
}

/// Returns the time until a token is renewed. Returns `None` if the expiry is in the past, for example because the
/// clock of this machine is wrong. Such a token is used until the registry rejects it.
fn lifetime(expires_at: SystemTime, now: SystemTime) -> Option<Duration> {
    let left = expires_at.duration_since(now).ok()?;
    Some(left.saturating_sub(RENEWAL_MARGIN.min(left / 10)))
}

/// Converts an SDK error: AWS sent an error response or an invalid response, or there was no response.
fn sdk_error<E>(error: SdkError<E, HttpResponse>, registry: &RegistryName) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let registry = registry.clone();
    if let SdkError::ServiceError(answer) = &error {
        let status = StatusCode::from_u16(answer.raw().status().as_u16()).unwrap_or_default();
        let code = answer.err().code();
        let is_throttled = status == StatusCode::TOO_MANY_REQUESTS
            || code.is_some_and(|code| THROTTLING_CODES.contains(&code));
        let message = escape(answer.err().message().unwrap_or_default(), 300);
        let shown = code.map_or_else(|| status.to_string(), |code| escape(code, 100));
        if is_throttled || status.is_server_error() {
            let kind = if is_throttled {
                ErrorKind::RateLimited
            } else {
                ErrorKind::Network
            };
            return UnavailableSnafu {
                registry,
                code: shown,
                message,
                kind,
            }
            .build();
        }
        if code.is_none() {
            return InvalidResponseSnafu { registry, status }.build();
        }
        return RefusedSnafu {
            registry,
            code: shown,
            message,
        }
        .build();
    }
    if is_too_large(&error) {
        return ResponseTooLargeSnafu { registry }.build();
    }
    match error.into_source() {
        Ok(source) => Error::RequestToken { registry, source },
        Err(source) => Error::RequestToken {
            registry,
            source: source.into(),
        },
    }
}

/// Whether a response above [`MAX_RESPONSE`] caused the error.
fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(<dyn std::error::Error>::is::<LengthLimitError>)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(registry: &str) -> Option<Service> {
        Service::for_registry(&registry.parse().unwrap())
    }

    #[test]
    fn only_complete_host_matches_amazon_registry() {
        let private = |region: &str, is_fips| {
            Some(Service::Private {
                region: region.to_owned(),
                is_fips,
            })
        };
        for (registry, expected) in [
            (
                "123456789012.dkr.ecr.us-east-1.amazonaws.com",
                private("us-east-1", false),
            ),
            (
                "123456789012.dkr.ecr.us-east-1.amazonaws.com:5000",
                private("us-east-1", false),
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                private("us-gov-west-1", true),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                private("cn-north-1", false),
            ),
            (
                "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
                private("eusc-de-east-1", false),
            ),
            (
                "123456789012.dkr-ecr.eu-west-1.on.aws",
                private("eu-west-1", false),
            ),
            (
                "123456789012.dkr-ecr-fips.us-east-2.on.aws",
                private("us-east-2", true),
            ),
            (
                "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov",
                private("us-iso-east-1", false),
            ),
            ("public.ecr.aws", Some(Service::Public)),
            ("ecr-public.aws.com", Some(Service::Public)),
            ("secret-registry.example", None),
            (
                "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
                None,
            ),
            (
                "evil.example.123456789012.dkr.ecr.us-east-1.amazonaws.com",
                None,
            ),
            ("evil-123456789012.dkr.ecr.us-east-1.amazonaws.com", None),
            ("12345678901.dkr.ecr.us-east-1.amazonaws.com", None),
            ("1234567890123.dkr.ecr.us-east-1.amazonaws.com", None),
            ("12345678901a.dkr.ecr.us-east-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.us-east-1.evil.amazonaws.com", None),
            ("123456789012.dkr.ecr.-us.amazonaws.com", None),
            ("123456789012.dkr.ecr.us-east-1.amazonaws.org", None),
            ("123456789012.dkr.ecr.us-east-1.aws", None),
            ("123456789012.dkr.ecrx.us-east-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.amazonaws.com", None),
            ("dkr.ecr.us-east-1.amazonaws.com", None),
            ("us-east-1.amazonaws.com", None),
            ("amazonaws.com", None),
            ("public.ecr.aws.evil.example", None),
            ("xpublic.ecr.aws", None),
            ("x.public.ecr.aws", None),
        ] {
            // Some of these strings are not valid registry names, so they do not parse.
            let Ok(name) = registry.parse::<RegistryName>() else {
                assert_eq!(expected, None);
                continue;
            };
            assert_eq!(Service::for_registry(&name), expected, "{registry}");
        }
        assert_eq!(service("PUBLIC.ecr.aws"), Some(Service::Public));
    }

    #[test]
    fn token_decodes_to_user_name_and_password() {
        let decode = |text: &str| decode_token(&STANDARD.encode(text));
        assert_eq!(decode("AWS:a:b"), Some(Credential::from_pair("AWS", "a:b")));
        assert_eq!(decode("AWS"), None);
        assert_eq!(super::decode_token("canary"), None);
    }

    #[test]
    fn token_expired_on_arrival_has_no_lifetime() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1000);
        let hours = |hours| Duration::from_hours(hours);
        assert_eq!(
            lifetime(now + hours(12) + RENEWAL_MARGIN, now),
            Some(hours(12))
        );
        let brief = Duration::from_mins(10);
        assert_eq!(lifetime(now + brief, now), Some(Duration::from_mins(9)));
        assert_eq!(lifetime(now - hours(1), now), None);
    }
}
