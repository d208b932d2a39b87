//! User-supplied addresses that override DNS resolution.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use snafu::Snafu;

use crate::error::{ErrorKind, Failure, Hint};

/// Parse error of a [`Resolve`].
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
        vec!["use the form `registry.example:443:127.0.0.1`".into()]
    }
}

/// Address that overrides the DNS resolution of a host, in the form `HOST:PORT:ADDRESS` as for `curl --resolve`. URLs,
/// certificates and credentials keep the host name. `PORT` is the port of the URL, or `*` for any port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    pub(super) host: String,
    pub(super) address: SocketAddr,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resolve_accepts_only_the_format_of_curl() {
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
        fn parsed_resolve_keeps_host_port_and_address(host in "[A-Za-z.]{0,6}", port in "(\\*|[0-9]{0,6}|x)", address in "(\\[?[0-9a-f:]{0,9}\\]?|[0-9.]{0,9})", text in "\\PC*") {
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
