//! Policy for URLs that a server provides: upload locations, redirects, token realms, next pages.
//!
//! A credential belongs to an [`Origin`]. A URL is rejected if its address literal is closer to this machine than the
//! address of the server, or if it downgrades from https to http. Link-local, unspecified, multicast and broadcast
//! literals are always rejected. Private literals are rejected in the realm of a registry on loopback. Services that
//! issue credentials to machines and networks listen on link-local and private addresses. These rules do not apply to a
//! URL on the same origin as the server.

use http::uri::Scheme;
use snafu::{IntoError, Snafu, ensure};
use url::Url;

use super::address_class::AddressClass;
use crate::error::{ErrorKind, Failure};
use crate::escape::escape;
use crate::redact::{RedactedUrl, Secrets};

/// Maximum length of a displayed host, in characters. This is the maximum length of a host name.
const MAX_HOST_LENGTH: usize = 253;

/// Reason to reject a URL that a server provided.
#[derive(Debug, Snafu)]
pub(crate) enum Error {
    #[snafu(display("refusing to use `{text}`, which the server sent: not a URL"))]
    NotAUrl {
        text: String,
        source: url::ParseError,
    },
    #[snafu(display(
        "refusing to use {url}, which the server sent: only http and https are supported"
    ))]
    Scheme { url: RedactedUrl },
    #[snafu(display(
        "refusing to use {url}, which the server sent: it contains a user name or password"
    ))]
    UserInfo { url: RedactedUrl },
    #[snafu(display(
        "refusing to use {url}, which the server sent: it downgrades from https to http"
    ))]
    Downgrade { url: RedactedUrl },
    #[snafu(display(
        "refusing to use {url}, which the server sent: a server at {reached} address may not refer to {target} address"
    ))]
    CloserAddress {
        url: RedactedUrl,
        target: AddressClass,
        reached: AddressClass,
    },
    #[snafu(display("refusing to use {url}, which the server sent: it has a different origin"))]
    OffOrigin { url: RedactedUrl },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Protocol
    }
}

/// Scheme, host and port. A credential is bound to one origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin(String);

impl Origin {
    pub(crate) fn from_url(url: &Url) -> Self {
        Self(url.origin().ascii_serialization())
    }
}

/// Server that sent a response: its URL, and the class of its address.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) url: Url,
    pub(crate) class: AddressClass,
    /// Values to redact in text from the server.
    pub(crate) secrets: Secrets,
}

impl Peer {
    /// Resolves a URL reference from this server against the URL of the response, and checks the result against the
    /// policy.
    pub(crate) fn resolve(&self, text: &str) -> Result<Url, Error> {
        self.check(self.join(text)?)
    }

    /// Resolves the realm of a challenge like [`Peer::resolve`]. The policy is stricter, because the realm may receive
    /// a credential.
    pub(crate) fn resolve_realm(&self, text: &str) -> Result<Url, Error> {
        let url = self.resolve(text)?;
        if self.class >= AddressClass::Loopback {
            self.reject_classes(&url, |target| target == AddressClass::Private)?;
        }
        Ok(url)
    }

    /// Resolves a URL reference like [`Peer::resolve`]. The URL must be on the same origin.
    pub(crate) fn resolve_same_origin(&self, text: &str) -> Result<Url, Error> {
        let url = self.join(text)?;
        ensure!(
            Origin::from_url(&url) == Origin::from_url(&self.url),
            OffOriginSnafu {
                url: RedactedUrl::new(&url, &self.secrets)
            }
        );
        self.check(url)
    }

    /// Returns the host for display, with secrets redacted. After a redirect, another server may have chosen the host.
    pub(crate) fn redacted_host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.secrets.escape(host, MAX_HOST_LENGTH)
    }

    fn join(&self, text: &str) -> Result<Url, Error> {
        let text = text.trim();
        // Some registries omit the scheme of a URL on their own host.
        let authority = self.url.authority();
        let joined = match text.strip_prefix(authority) {
            Some(rest) if rest.starts_with('/') => self.url.join(&format!("//{text}")),
            _ => self.url.join(text),
        };
        joined.map_err(|source| {
            // The text does not parse as a URL. Everything after `?` or `#` is omitted, because it may contain a
            // signature. The text is redacted first, because redaction does not match a truncated secret.
            let redacted = self.secrets.redact(text);
            let text = redacted.split(['?', '#']).next().unwrap_or_default();
            NotAUrlSnafu {
                text: escape(text, 200),
            }
            .into_error(source)
        })
    }

    fn check(&self, url: Url) -> Result<Url, Error> {
        let shown = || RedactedUrl::new(&url, &self.secrets);
        let is_http = url.scheme() == Scheme::HTTP.as_str();
        ensure!(
            is_http || url.scheme() == Scheme::HTTPS.as_str(),
            SchemeSnafu { url: shown() }
        );
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            UserInfoSnafu { url: shown() }
        );
        ensure!(
            !(is_http && self.url.scheme() == Scheme::HTTPS.as_str()),
            DowngradeSnafu { url: shown() }
        );
        self.reject_classes(&url, |target| {
            let is_special = matches!(
                target,
                AddressClass::LinkLocal
                    | AddressClass::Unspecified
                    | AddressClass::Multicast
                    | AddressClass::Broadcast
            );
            is_special || target > self.class
        })?;
        Ok(url)
    }

    /// Rejects a URL on another origin if `is_rejected` returns true for the class of its address literal.
    fn reject_classes(
        &self,
        url: &Url,
        is_rejected: impl Fn(AddressClass) -> bool,
    ) -> Result<(), Error> {
        let is_same_origin = Origin::from_url(url) == Origin::from_url(&self.url);
        match AddressClass::from_url(url).filter(|target| !is_same_origin && is_rejected(*target)) {
            None => Ok(()),
            Some(target) => CloserAddressSnafu {
                url: RedactedUrl::new(url, &self.secrets),
                target,
                reached: self.class,
            }
            .fail(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(url: &str, class: AddressClass) -> Peer {
        Peer {
            url: url.parse().unwrap(),
            class,
            secrets: Secrets::default(),
        }
    }

    #[test]
    fn url_in_more_private_network_than_server_is_rejected() {
        let public = peer("https://registry.example/v2/", AddressClass::Public);
        for inner in [
            "https://127.0.0.1/",
            "https://169.254.169.254/",
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://0.0.0.0/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:a00:1]/",
            "https://localhost/",
            "https://a.localhost./",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[::]/",
            "https://[64:ff9b::7f00:1]/",
            "https://100.64.0.1/",
            "https://[::127.0.0.1]/",
            "https://[64:ff9b:1::808:808]/",
            "https://[2002:a9fe:a9fe::]/",
            "https://[2001:0:808:808::f5ff:fffe]/",
            "https://198.18.0.1/",
            "https://240.0.0.1/",
            "https://192.0.0.8/",
        ] {
            assert!(
                matches!(public.resolve(inner), Err(Error::CloserAddress { .. })),
                "{inner}"
            );
        }
        assert!(public.resolve("https://auth.example/token").is_ok());
        let private = peer("http://10.0.0.5:5000/", AddressClass::Private);
        assert!(private.resolve("http://10.9.9.9/x").is_ok());
        assert!(private.resolve("http://127.0.0.1/x").is_err());
        assert!(
            peer("http://127.0.0.1:5000/", AddressClass::Loopback)
                .resolve("http://127.0.0.1:5001/token")
                .is_ok()
        );
    }

    const ALWAYS_REJECTED: [&str; 10] = [
        "http://169.254.169.254/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://224.0.0.251/",
        "http://255.255.255.255/",
        "http://[ff02::fb]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:0.0.0.0]/",
        "http://[64:ff9b::169.254.169.254]/",
    ];

    #[test]
    fn link_local_and_unspecified_literals_are_rejected() {
        for (own, class) in [
            ("http://127.0.0.1:5000/", AddressClass::Loopback),
            ("http://0.0.0.0:5000/", AddressClass::Unspecified),
            ("http://169.254.1.1:5000/", AddressClass::LinkLocal),
            ("http://10.0.0.5:5000/", AddressClass::Private),
        ] {
            let server = peer(own, class);
            for url in ALWAYS_REJECTED {
                let rejected = server.resolve(url);
                assert!(
                    matches!(rejected, Err(Error::CloserAddress { .. })),
                    "{own} {url}"
                );
            }
            assert!(server.resolve(own).is_ok());
            assert!(server.resolve_realm(own).is_ok());
        }
    }

    #[test]
    fn rejected_address_error_names_both_classes() {
        let server = peer("http://10.0.0.5:5000/", AddressClass::Private);
        for (url, expected) in [
            ("http://0.0.0.0/", "an unspecified"),
            ("http://255.255.255.255/", "a broadcast"),
        ] {
            let message = server.resolve(url).unwrap_err().to_string();
            let expected =
                format!("a server at a private address may not refer to {expected} address");
            assert!(message.ends_with(&expected), "{message}");
        }
    }

    #[test]
    fn realm_of_loopback_registry_may_not_be_private_literal() {
        let server = peer("http://127.0.0.1:5000/", AddressClass::Loopback);
        for private in [
            "http://10.0.0.1/",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(server.resolve(private).is_ok(), "{private}");
            let rejected = server.resolve_realm(private);
            assert!(
                matches!(rejected, Err(Error::CloserAddress { .. })),
                "{private}"
            );
        }
        for allowed in ["http://localhost:5001/token", "http://8.8.8.8/token"] {
            assert!(server.resolve_realm(allowed).is_ok(), "{allowed}");
        }
        let private = peer("http://10.0.0.5:5000/", AddressClass::Private);
        assert!(private.resolve_realm("http://10.9.9.9/token").is_ok());
    }

    #[test]
    fn url_with_downgrade_other_scheme_or_user_is_rejected() {
        let server = peer("https://registry.example/v2/", AddressClass::Public);
        assert!(matches!(
            server.resolve("http://registry.example/x"),
            Err(Error::Downgrade { .. })
        ));
        assert!(matches!(
            server.resolve("ftp://registry.example/x"),
            Err(Error::Scheme { .. })
        ));
        assert!(matches!(
            server.resolve("file:///etc/passwd"),
            Err(Error::Scheme { .. })
        ));
        assert!(matches!(
            server.resolve("https://user@registry.example/"),
            Err(Error::UserInfo { .. })
        ));
        assert!(matches!(
            server.resolve("https://[::1/"),
            Err(Error::NotAUrl { .. })
        ));
        assert!(matches!(
            server.resolve_same_origin("https://registry.example:444/"),
            Err(Error::OffOrigin { .. })
        ));
    }

    #[test]
    fn relative_url_keeps_query_unchanged() {
        let server = peer(
            "http://registry.example:5000/v2/a/blobs/uploads/",
            AddressClass::Public,
        );
        let url = server
            .resolve("/v2/a/blobs/uploads/1?_state=a%2Bb%3D&x=+y")
            .unwrap();
        assert_eq!(
            url.as_str(),
            "http://registry.example:5000/v2/a/blobs/uploads/1?_state=a%2Bb%3D&x=+y"
        );
        assert_eq!(
            server
                .resolve("//registry.example:5000/x")
                .unwrap()
                .as_str(),
            "http://registry.example:5000/x"
        );
    }

    #[test]
    fn url_without_scheme_is_on_same_server() {
        let server = peer(
            "https://registry.example:5000/v2/a/blobs/",
            AddressClass::Public,
        );
        let resolve = |text: &str| server.resolve(text).unwrap().to_string();
        assert_eq!(
            resolve("registry.example:5000/upload/1?a=b"),
            "https://registry.example:5000/upload/1?a=b"
        );
        // Any other name is a relative path.
        assert_eq!(
            resolve("registry.example.org/upload"),
            "https://registry.example:5000/v2/a/blobs/registry.example.org/upload"
        );
    }

    #[test]
    fn error_of_rejected_url_contains_no_secrets() {
        let server = peer("https://registry.example/", AddressClass::Public);
        let error = server
            .resolve("http://user:hunter2@10.0.0.1/x?sig=canary")
            .unwrap_err()
            .to_string();
        assert!(
            !error.contains("canary") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn truncated_invalid_url_contains_no_part_of_secret() {
        let server = peer("https://registry.example/", AddressClass::Public);
        server.secrets.record("canary?tail");
        server.secrets.record("canary#tail");
        for before in [0, 190] {
            for secret in ["canary?tail", "canary#tail", "canary%3ftail"] {
                let text = format!("https://[{}{secret}", "-".repeat(before));
                let error = server.resolve(&text).unwrap_err();
                assert!(matches!(error, Error::NotAUrl { .. }));
                let error = error.to_string();
                assert!(!error.contains("can"), "{error}");
            }
        }
    }

    #[test]
    fn host_that_contains_secret_is_redacted() {
        let server = peer("https://Canary-1.example/", AddressClass::Public);
        assert_eq!(server.redacted_host(), "canary-1.example");
        server.secrets.record("Canary-1");
        assert_eq!(server.redacted_host(), "….example");
    }
}
