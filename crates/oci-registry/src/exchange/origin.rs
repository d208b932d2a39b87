//! Policy for URLs that a server provides: upload locations, redirects, token realms, next pages.
//!
//! A credential belongs to an [`Origin`]. A server may not name an address literal that is closer to this machine than the
//! address at which the server was reached, nor switch from https to http. Link-local, unspecified, multicast and
//! broadcast literals are refused from every server, and private ones as the realm of a registry on loopback, because services that hold
//! credentials of machines and networks listen there. Nothing of this restricts a URL on the server's own origin.

use http::uri::Scheme;
use snafu::{IntoError, Snafu, ensure};
use url::Url;

use super::address_class::AddressClass;
use crate::error::{ErrorKind, Failure};
use crate::escape::escape;
use crate::redact::{RedactedUrl, Secrets};

/// Limit of the characters of a host that are shown: the maximum length of a host name.
const MAX_HOST: usize = 253;

/// Reason to refuse a URL that a server provided.
#[derive(Debug, Snafu)]
pub(crate) enum Error {
    #[snafu(display("refused `{text}` from the server: not a URL"))]
    NotAUrl {
        text: String,
        source: url::ParseError,
    },
    #[snafu(display("refused {url} from the server: only http and https are supported"))]
    Scheme { url: RedactedUrl },
    #[snafu(display("refused {url} from the server: it contains a user name or password"))]
    UserInfo { url: RedactedUrl },
    #[snafu(display("refused {url} from the server: it downgrades from https to http"))]
    Downgrade { url: RedactedUrl },
    #[snafu(display(
        "refused {url} from the server: a server at {reached} address may not name {target} address"
    ))]
    CloserAddress {
        url: RedactedUrl,
        target: AddressClass,
        reached: AddressClass,
    },
    #[snafu(display("refused {url} from the server: it is on another server"))]
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
    pub(crate) fn of(url: &Url) -> Self {
        Self(url.origin().ascii_serialization())
    }
}

/// Server that answered a request: the URL, and the class of its address.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) url: Url,
    pub(crate) class: AddressClass,
    /// Values to redact in text from the server.
    pub(crate) secrets: Secrets,
}

impl Peer {
    /// Resolves a URL reference from this server against the URL of the response, and checks it against the policy.
    pub(crate) fn resolve(&self, text: &str) -> Result<Url, Error> {
        self.check(self.join(text)?)
    }

    /// As [`Peer::resolve`], for the realm of a challenge, which may receive a credential.
    pub(crate) fn resolve_realm(&self, text: &str) -> Result<Url, Error> {
        let url = self.resolve(text)?;
        if self.class >= AddressClass::Loopback {
            self.refuse(&url, |target| target == AddressClass::Private)?;
        }
        Ok(url)
    }

    /// As [`Peer::resolve`], for a URL that must be on the same origin.
    pub(crate) fn resolve_same_origin(&self, text: &str) -> Result<Url, Error> {
        let url = self.join(text)?;
        ensure!(
            Origin::of(&url) == Origin::of(&self.url),
            OffOriginSnafu {
                url: RedactedUrl::new(&url, &self.secrets)
            }
        );
        self.check(url)
    }

    /// Returns the host for display, with secrets redacted. A server that redirected may have chosen it.
    pub(crate) fn shown_host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.secrets.escape(host, MAX_HOST)
    }

    fn join(&self, text: &str) -> Result<Url, Error> {
        let text = text.trim();
        // Some registries leave out the scheme of their own address.
        let authority = self.url.authority();
        let joined = match text.strip_prefix(authority) {
            Some(rest) if rest.starts_with('/') => self.url.join(&format!("//{text}")),
            _ => self.url.join(text),
        };
        joined.map_err(|source| {
            // The parts of text that does not parse are unknown, and its end may be a signature. Redaction does not
            // match a part of a secret, so the text is truncated after redaction.
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
        self.refuse(&url, |target| {
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

    /// Refuses a URL on another origin whose literal address is of a class that `is_refused` matches.
    fn refuse(&self, url: &Url, is_refused: impl Fn(AddressClass) -> bool) -> Result<(), Error> {
        let is_own = Origin::of(url) == Origin::of(&self.url);
        match AddressClass::shown_by(url).filter(|target| !is_own && is_refused(*target)) {
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
    fn url_closer_than_the_server_is_refused() {
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

    const NEVER_NAMED: [&str; 10] = [
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
    fn link_local_and_unspecified_literals_are_refused() {
        for (own, class) in [
            ("http://127.0.0.1:5000/", AddressClass::Loopback),
            ("http://0.0.0.0:5000/", AddressClass::Unspecified),
            ("http://169.254.1.1:5000/", AddressClass::LinkLocal),
            ("http://10.0.0.5:5000/", AddressClass::Private),
        ] {
            let server = peer(own, class);
            for url in NEVER_NAMED {
                let refused = server.resolve(url);
                assert!(
                    matches!(refused, Err(Error::CloserAddress { .. })),
                    "{own} {url}"
                );
            }
            assert!(server.resolve(own).is_ok());
            assert!(server.resolve_realm(own).is_ok());
        }
    }

    #[test]
    fn refusal_names_both_address_classes() {
        let server = peer("http://10.0.0.5:5000/", AddressClass::Private);
        for (url, expected) in [
            ("http://0.0.0.0/", "an unspecified"),
            ("http://255.255.255.255/", "a broadcast"),
        ] {
            let message = server.resolve(url).unwrap_err().to_string();
            let expected = format!("a server at a private address may not name {expected} address");
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
            let refused = server.resolve_realm(private);
            assert!(
                matches!(refused, Err(Error::CloserAddress { .. })),
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
    fn url_other_than_plain_http_is_refused() {
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
    fn refusal_contains_no_secrets() {
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
        assert_eq!(server.shown_host(), "canary-1.example");
        server.secrets.record("Canary-1");
        assert_eq!(server.shown_host(), "….example");
    }
}
