//! Names of registries, repositories and tags, each with its grammar (distribution-spec, "Pulling Manifests").
//!
//! A parse error states the problem and the span of the invalid bytes.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use snafu::Snafu;

use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint};

/// Maximum length of the registry and repository names together, in bytes. Other clients have the same limit.
pub(super) const MAX_NAME: usize = 255;

/// Maximum length of a tag, in bytes.
const MAX_TAG: usize = 128;

/// Names of Docker Hub. The first is the current name.
pub(crate) const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", DOCKER_HUB_API];

/// Host of Docker Hub's API.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// Error for an invalid name, with the problem and the span of the invalid bytes.
#[derive(Debug, Snafu)]
#[snafu(display("failed to parse the {kind_of_name} `{}`: {problem}", text.escape_debug()))]
struct ParseName {
    kind_of_name: &'static str,
    text: String,
    problem: &'static str,
    span: Range<usize>,
    help: Option<String>,
}

impl Failure for ParseName {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        self.help.iter().cloned().map(Hint::from).collect()
    }

    fn span(&self) -> Option<Range<usize>> {
        Some(self.span.clone())
    }
}

/// Problem in a part of a name: description and span of the invalid bytes.
pub(super) type Problem = (&'static str, Range<usize>);

pub(super) fn parse_error(
    kind_of_name: &'static str,
    text: &str,
    (problem, span): Problem,
    help: Option<String>,
) -> crate::Error {
    // A server may send a very long name, so the text is truncated, at a character boundary.
    let text = text.chars().take(MAX_NAME + MAX_TAG).collect();
    ParseName {
        kind_of_name,
        text,
        problem,
        span,
        help,
    }
    .into()
}

/// Returns the range of the bytes after the first `limit` bytes. The range starts at a character boundary.
fn range_beyond(text: &str, limit: usize) -> Range<usize> {
    text.ceil_char_boundary(limit)..text.len()
}

/// Implements parsing and printing for a type that wraps a string.
macro_rules! text_newtype {
    ($name:ident, $kind_of_name:literal, $check:path, $help:path) => {
        impl $name {
            /// Checks a string, and returns the name or the problem.
            pub(super) fn check(text: &str) -> Result<Self, Problem> {
                $check(text).map(|name| Self(name.into()))
            }

            /// Returns the name as a string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = crate::Error;

            fn from_str(text: &str) -> crate::Result<Self> {
                Self::check(text)
                    .map_err(|problem| parse_error($kind_of_name, text, problem, $help(text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// Host of a registry with an optional port: `ghcr.io`, `127.0.0.1:5000`, `[::1]:5000`. Letters are converted to lower
/// case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName(Box<str>);

text_newtype!(RegistryName, "registry", check_registry, registry_help);

impl RegistryName {
    /// Returns the host without its port. An IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        self.split().0
    }

    /// Returns the port, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.split().1.and_then(|port| port.parse().ok())
    }

    /// Whether this is one of the names of Docker Hub.
    pub(crate) fn is_docker_hub(&self) -> bool {
        DOCKER_HUB.contains(&self.as_str())
    }

    /// Returns the host that serves the API. Docker Hub serves it under a different host name.
    pub(crate) fn api_host(&self) -> &str {
        if self.is_docker_hub() {
            DOCKER_HUB_API
        } else {
            self.as_str()
        }
    }

    fn split(&self) -> (&str, Option<&str>) {
        split_port(&self.0)
    }

    /// Whether the host is literally a loopback address or name: `localhost`, `*.localhost`, `127.0.0.0/8` or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        if let Some(address) = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            return address
                .parse::<std::net::Ipv6Addr>()
                .is_ok_and(|address| address.is_loopback());
        }
        host.parse::<std::net::Ipv4Addr>().map_or_else(
            |_| host == "localhost" || host.ends_with(".localhost"),
            |address| address.is_loopback(),
        )
    }
}

pub(super) fn no_help(_: &str) -> Option<String> {
    None
}

/// Suggests a registry for an invalid string, such as the host of a URL.
#[expect(
    clippy::unnecessary_wraps,
    reason = "all help functions have this signature"
)]
fn registry_help(text: &str) -> Option<String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or(bare);
    Some(match check_registry(host) {
        Ok(host) if host != text => format!("write `{host}`"),
        _ => "write HOST or HOST:PORT, such as `ghcr.io`".to_owned(),
    })
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    }
}

/// Whether the first component of a name is a registry: it contains a `.` or a `:`, or is `localhost`.
pub(super) fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost")
}

fn check_registry(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(("a host name is missing", 0..0));
    }
    if text.len() > MAX_NAME {
        return Err(("longer than 255 characters", range_beyond(text, MAX_NAME)));
    }
    if let Some(at) = text.find('/')
        && !text.contains("://")
    {
        return Err(("a registry has no path", at..text.len()));
    }
    let (host, port) = split_port(text);
    if let Some(port) = port {
        let span = host.len() + 1..text.len();
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(("a port must be a number", span));
        }
        if !matches!(port.parse::<u16>(), Ok(1..)) {
            return Err(("a port must be between 1 and 65535", span));
        }
    }
    if let Some(open) = host.strip_prefix('[') {
        let is_v6 = open
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        return if is_v6 {
            Ok(text.to_ascii_lowercase())
        } else {
            Err(("not an IPv6 address in brackets", 0..host.len()))
        };
    }
    let mut start = 0;
    for label in host.split('.') {
        let span = start..start + label.len();
        if label.is_empty() {
            return Err(("a host name must not have empty parts", span));
        }
        if let Some(at) = label.find(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            return Err((
                "a host name is made of letters, digits, `-` and `.`",
                start + at..span.end,
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(("a part of a host name must not start or end with `-`", span));
        }
        start = span.end + 1;
    }
    // URL parsers read such a host as an IPv4 address: `127.1` and `0x7f000001` would be the loopback address.
    if ends_in_number(host) && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err((
            "a host whose last part is a number must be an IPv4 address of four numbers",
            0..host.len(),
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether URL parsers read a host as an IPv4 address (URL Standard, "ends in a number checker").
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Name of a repository within its registry: `acme/widgets`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Box<str>);

text_newtype!(RepositoryName, "repository", check_repository, no_help);

fn check_repository(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(("a repository name is missing", 0..0));
    }
    if text.len() > MAX_NAME {
        return Err(("longer than 255 characters", range_beyond(text, MAX_NAME)));
    }
    let mut start = 0;
    for component in text.split('/') {
        check_component(component)
            .map_err(|(problem, span)| (problem, start + span.start..start + span.end))?;
        start += component.len() + 1;
    }
    Ok(text.to_owned())
}

/// Checks one path component: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn check_component(text: &str) -> Result<(), Problem> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(("a repository name must not have empty parts", 0..0));
    }
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_uppercase() {
            return Err(("a repository name must be lower case", at..at + 1));
        }
        if is_plain(bytes[at]) {
            at += 1;
            continue;
        }
        let end = at
            + bytes[at..]
                .iter()
                .position(|byte| is_plain(*byte))
                .unwrap_or(bytes.len() - at);
        // A span must not end within a character.
        let end = text.ceil_char_boundary(end);
        let separator = &text[at..end];
        let is_separator =
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
        if !is_separator {
            return Err((
                "a repository name is made of `a-z`, `0-9` and single `.`, `_`, `__` or `-` between them",
                at..end,
            ));
        }
        if at == 0 || end == bytes.len() {
            return Err((
                "a part of a repository name must start and end with a letter or digit",
                at..end,
            ));
        }
        at = end;
    }
    Ok(())
}

/// Tag: up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

text_newtype!(Tag, "tag", check_tag, tag_help);

impl Tag {
    /// Returns `latest`, docker's default tag.
    pub(super) fn latest() -> Self {
        Self("latest".into())
    }
}

/// Suggests a correction for a string that is not a tag.
#[expect(
    clippy::unnecessary_wraps,
    reason = "all help functions have this signature"
)]
fn tag_help(text: &str) -> Option<String> {
    Some(if text.parse::<Digest>().is_ok() {
        "write a tag such as `1.2.3` or `latest` instead of a digest".to_owned()
    } else {
        "write a tag such as `1.2.3` or `latest`, without a repository before it".to_owned()
    })
}

fn check_tag(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(("a tag is missing", 0..0));
    }
    if text.len() > MAX_TAG {
        return Err((
            "a tag has at most 128 characters",
            range_beyond(text, MAX_TAG),
        ));
    }
    if let Some((at, bad)) = text
        .char_indices()
        .find(|(_, c)| !c.is_ascii_alphanumeric() && !"_.-".contains(*c))
    {
        return Err((
            "a tag is made of letters, digits, `_`, `.` and `-`",
            at..at + bad.len_utf8(),
        ));
    }
    if text.starts_with(['.', '-']) {
        return Err(("a tag must start with a letter, a digit or `_`", 0..1));
    }
    Ok(text.to_owned())
}

pub(super) use text_newtype;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_loopback_compares_the_whole_host() {
        for (text, expected) in [
            ("localhost:5000", true),
            ("a.localhost", true),
            ("127.9.9.9:1", true),
            ("[::1]:80", true),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("10.0.0.1", false),
            ("[::2]", false),
        ] {
            assert_eq!(
                text.parse::<RegistryName>().unwrap().is_loopback(),
                expected,
                "{text}"
            );
        }
    }
}
