//! Conversion of error responses to errors. No other module maps HTTP statuses to error kinds.
//!
//! This module parses the error body that the distribution-spec defines ("Error Codes"). Registries may also send HTML,
//! plain text or an empty body. The errors quote the registry's text.

use http::StatusCode;
use serde::Deserialize;
use snafu::Snafu;

use crate::error::{ErrorKind, Failure, Hint, RegistryError};
use crate::redact::{RedactedUrl, Secrets};
use crate::reference::RegistryName;
use crate::transport::{Account, AuthorizedResponse};

/// Maximum number of bytes that are read from an error body.
const MAX_BODY: usize = 64 << 10;

/// Maximum number of characters that are shown from each string that a registry sent.
pub(crate) const MAX_SHOWN: usize = 1000;

#[derive(Debug, Snafu)]
#[snafu(display("the registry answered {status}{}", format_errors(errors, text)))]
struct ErrorResponse {
    registry: RegistryName,
    url: RedactedUrl,
    status: StatusCode,
    kind: ErrorKind,
    errors: Vec<RegistryError>,
    /// Text of the body, if its media type is `text/plain`.
    text: String,
    account: Account,
    /// Whether the response states that the server expects TLS.
    expects_tls: bool,
}

impl Failure for ErrorResponse {
    fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn hints(&self) -> Vec<Hint> {
        match self.kind {
            _ if self.expects_tls => vec![Hint::UseTls],
            ErrorKind::Unauthenticated | ErrorKind::Denied => self.account.hints(&self.registry),
            ErrorKind::RateLimited => {
                vec![
                    format!(
                        "try again later: `{}` limits the rate of requests",
                        self.registry
                    )
                    .into(),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn registry_errors(&self) -> &[RegistryError] {
        &self.errors
    }
}

fn format_errors(errors: &[RegistryError], text: &str) -> String {
    let mut message = String::new();
    for (at, error) in errors.iter().enumerate() {
        message.push_str(if at == 0 { " " } else { "; " });
        message.push_str(&error.code);
        if !error.message.is_empty() {
            message.push_str(": ");
            message.push_str(&error.message);
        }
    }
    if errors.is_empty() && !text.is_empty() {
        message.push_str(": ");
        message.push_str(text);
    }
    message
}

/// Converts an unexpected response to an error.
pub(super) async fn into_error(
    registry: &RegistryName,
    authorized: AuthorizedResponse,
) -> crate::Error {
    let AuthorizedResponse {
        response, account, ..
    } = authorized;
    let (status, url) = (response.status, response.redacted_url());
    let is_plain = response
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("text/plain"));
    // If the body cannot be read, the status alone determines the error.
    let secrets = response.secrets();
    let body = response.read_prefix(MAX_BODY).await.unwrap_or_default();
    let errors = parse_errors(&body, &secrets);
    let expects_tls = status == StatusCode::BAD_REQUEST && url.is_plain() && mentions_tls(&body);
    let text = if is_plain {
        secrets.quote(&String::from_utf8_lossy(&body), 300)
    } else {
        String::new()
    };
    let kind = error_kind(status, &errors, &account);
    ErrorResponse {
        registry: registry.clone(),
        url,
        status,
        kind,
        errors,
        text,
        account,
        expects_tls,
    }
    .into()
}

/// Whether the body of a 400 response states that the port expects TLS, in the wording of Go's server, nginx, Apache or
/// Tomcat.
fn mentions_tls(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_uppercase();
    ["HTTPS", "SSL", "TLS"]
        .iter()
        .any(|word| text.contains(word))
}

fn error_kind(status: StatusCode, errors: &[RegistryError], account: &Account) -> ErrorKind {
    let has_code = |code: &str| {
        errors
            .iter()
            .any(|error| error.code.eq_ignore_ascii_case(code))
    };
    match status.as_u16() {
        // If the request had a credential, a 401 response with the code DENIED means that its permissions are
        // insufficient.
        401 if has_code("DENIED") && matches!(account, Account::Credential { .. }) => {
            ErrorKind::Denied
        }
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::Conflict,
        400 if has_code("TAG_INVALID") => ErrorKind::Conflict,
        405 | 501 => ErrorKind::Unsupported,
        400..=499 if has_code("UNSUPPORTED") => ErrorKind::Unsupported,
        429 => ErrorKind::RateLimited,
        408 | 499 | 500..=599 => ErrorKind::Network,
        _ => ErrorKind::Protocol,
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: serde_json::Value,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: serde_json::Value,
}

/// Parses the errors in a body and redacts secrets.
pub(crate) fn parse_errors(body: &[u8], secrets: &Secrets) -> Vec<RegistryError> {
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else {
        return Vec::new();
    };
    let shown = |value: serde_json::Value| match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => secrets.quote(&text, MAX_SHOWN),
        other => secrets.quote(&other.to_string(), MAX_SHOWN),
    };
    let entries = body.errors.into_iter().take(20);
    let read = entries.map(|entry| RegistryError {
        code: shown(entry.code),
        message: secrets.quote(&entry.message.unwrap_or_default(), MAX_SHOWN),
        detail: shown(entry.detail),
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_of_all_formats_are_parsed() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m","detail":[{"a":1}]},{"code":"X"},{"code":7}]}"#;
        let errors = parse_errors(body, &Secrets::default());
        assert_eq!(errors[0].detail, r#"[{"a":1}]"#);
        assert_eq!(
            format_errors(&errors, "unused"),
            " DENIED: no\\u{1b}[31m; X; 7"
        );
        for body in [
            &b""[..],
            b"<html>",
            b"{}",
            br#"{"errors":null}"#,
            b"\xff\xfe",
            br#"{"errors":{}}"#,
        ] {
            assert!(parse_errors(body, &Secrets::default()).is_empty());
        }
        assert_eq!(format_errors(&[], "plain"), ": plain");
    }

    #[test]
    fn credential_in_unknown_encoding_is_redacted() {
        let body = br#"{"errors":[{"code":"c2VjcmV0LWNhbmFyeS0x","message":"not with c2VjcmV0LWNhbmFyeS0x","detail":"c2VjcmV0LWNhbmFyeS0x"}]}"#;
        let errors = parse_errors(body, &Secrets::default());
        assert_eq!(format_errors(&errors, ""), " …: not with …");
        assert_eq!(errors[0].detail, "…");
    }

    #[test]
    fn status_determines_error_kind() {
        let code = |code: &str| {
            vec![RegistryError {
                code: code.into(),
                message: String::new(),
                detail: String::new(),
            }]
        };
        let kind = |status, errors: &[RegistryError]| {
            super::error_kind(
                StatusCode::from_u16(status).unwrap(),
                errors,
                &Account::NotDemanded,
            )
        };
        assert_eq!(kind(401, &[]), ErrorKind::Unauthenticated);
        assert_eq!(kind(403, &[]), ErrorKind::Denied);
        assert_eq!(kind(404, &code("NAME_UNKNOWN")), ErrorKind::NotFound);
        assert_eq!(kind(400, &code("TAG_INVALID")), ErrorKind::Conflict);
        assert_eq!(kind(400, &code("UNSUPPORTED")), ErrorKind::Unsupported);
        assert_eq!(kind(400, &code("MANIFEST_INVALID")), ErrorKind::Protocol);
        assert_eq!(kind(429, &[]), ErrorKind::RateLimited);
        assert_eq!(kind(503, &[]), ErrorKind::Network);
        assert_eq!(kind(418, &[]), ErrorKind::Protocol);
    }
}
