//! How connections are made: to which address, trusting whom, as whom.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use snafu::{ResultExt, Snafu, ensure};

use super::Settings;
use super::certificates::{self, Held};
use super::error::{EmptyPemSnafu, Error, FolderSnafu, ParsePemSnafu, ReadPemSnafu, RootCause};
use crate::error::{ErrorKind, Failure, Hint};
use crate::file::open_input;

/// What a malformed redirection of a host is wrong about.
#[derive(Debug, Snafu)]
#[snafu(display("failed to parse `{}`: expected HOST:PORT:ADDRESS", text.escape_debug()))]
struct ParseResolve {
    text: String,
}

impl Failure for ParseResolve {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        vec!["write for example `registry.example:443:127.0.0.1`".into()]
    }
}

/// A host that is reached at another address: `HOST:PORT:ADDRESS`, as curl has it. The name stays what it is in URLs, in
/// certificates and for credentials. The port is that of the URLs that are meant, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    host: String,
    address: SocketAddr,
}

impl FromStr for Resolve {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        let parsed = (|| {
            let (host, rest) = text.split_once(':')?;
            let (port, address) = rest.split_once(':')?;
            let port = if port == "*" { 0 } else { port.parse().ok()? };
            let bare = address
                .strip_prefix('[')
                .and_then(|address| address.strip_suffix(']'));
            let address: IpAddr = bare.unwrap_or(address).parse().ok()?;
            let host = Some(host.to_ascii_lowercase()).filter(|host| !host.is_empty())?;
            Some(Self {
                host,
                address: SocketAddr::new(address, port),
            })
        })();
        parsed.ok_or_else(|| {
            ParseResolve {
                text: text.chars().take(300).collect(),
            }
            .into()
        })
    }
}

/// Applies addresses, trust and identity. Reads the files that hold them. An identity that is one registry's own is not
/// for others.
pub(super) fn configure(
    mut builder: reqwest::ClientBuilder,
    settings: &Settings,
    is_home: bool,
) -> Result<reqwest::ClientBuilder, Error> {
    for resolve in &settings.resolve {
        builder = builder.resolve(&resolve.host, resolve.address);
    }
    let held = match &settings.folder {
        Some(folder) => certificates::list(folder).context(FolderSnafu { folder })?,
        None => Held::default(),
    };
    for path in settings.ca_files.iter().chain(&held.authorities) {
        let purpose = "the certificates to trust";
        let certificates = reqwest::Certificate::from_pem_bundle(&read(path, purpose)?);
        let certificates = certificates.map_err(RootCause::from);
        let certificates = certificates.context(ParsePemSnafu { path, purpose })?;
        ensure!(!certificates.is_empty(), EmptyPemSnafu { path, purpose });
        builder = builder.tls_certs_merge(certificates);
    }
    // What was named on purpose goes before what lies there.
    let identity = settings.identity.as_ref().or(held.identity.as_ref());
    if let Some((chain, key)) = identity.filter(|_| is_home) {
        let purpose = "the certificate of this client";
        let mut bytes = read(key, "the key of this client")?;
        bytes.push(b'\n');
        bytes.extend(read(chain, purpose)?);
        let identity = reqwest::Identity::from_pem(&bytes).map_err(RootCause::from);
        builder = builder.identity(identity.context(ParsePemSnafu {
            path: chain,
            purpose,
        })?);
    }
    Ok(builder)
}

fn read(path: &Path, purpose: &'static str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = open_input(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.context(ReadPemSnafu { path, purpose })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn redirections_are_read_as_curl_reads_them() {
        let parse = |text: &str| {
            text.parse::<Resolve>()
                .map(|resolve| (resolve.host, resolve.address.to_string()))
        };
        assert_eq!(
            parse("A.b:443:127.0.0.1").unwrap(),
            ("a.b".into(), "127.0.0.1:443".into())
        );
        assert_eq!(
            parse("a.b:*:[::1]").unwrap(),
            ("a.b".into(), "[::1]:0".into())
        );
        assert_eq!(
            parse("a.b:5000:::1").unwrap(),
            ("a.b".into(), "[::1]:5000".into())
        );
        for bad in [
            "",
            "a.b",
            "a.b:443",
            "a.b:443:",
            ":443:127.0.0.1",
            "a.b:x:127.0.0.1",
            "a.b:443:localhost",
        ] {
            assert_eq!(
                parse(bad).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_redirection_that_is_read_says_what_was_written(host in "[A-Za-z.]{0,6}", port in "(\\*|[0-9]{0,6}|x)", address in "(\\[?[0-9a-f:]{0,9}\\]?|[0-9.]{0,9})", text in "\\PC*") {
            let _ = text.parse::<Resolve>();
            if let Ok(resolve) = format!("{host}:{port}:{address}").parse::<Resolve>() {
                prop_assert_eq!(&resolve.host, &host.to_ascii_lowercase());
                prop_assert_eq!(resolve.address.port(), port.parse().unwrap_or(0));
                let bare = address.trim_start_matches('[').trim_end_matches(']');
                prop_assert_eq!(resolve.address.ip(), bare.parse::<IpAddr>().unwrap());
            }
        }
    }
}
