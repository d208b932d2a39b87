//! What a registry's answer means: the one place where a status becomes a kind of error.
//!
//! Reads the error body of the distribution-spec ("Error Codes"), which registries also replace with HTML, plain text or
//! nothing, and quotes the registry's own words as its own.

use http::StatusCode;
use serde::Deserialize;
use snafu::Snafu;

use crate::error::{ErrorKind, Failure, Hint, RegistryError};
use crate::exchange::display::ShownUrl;
use crate::exchange::secrets::Secrets;
use crate::reference::RegistryName;
use crate::transport::{Account, Answer};

/// How much of an error body is read, in bytes.
const MAX_BODY: usize = 64 << 10;

/// How many characters of each of the registry's texts are shown.
pub(crate) const MAX_SHOWN: usize = 1000;

#[derive(Debug, Snafu)]
#[snafu(display("the registry answered {status}{}", words(errors, text)))]
struct Refusal {
    registry: RegistryName,
    url: ShownUrl,
    status: StatusCode,
    kind: ErrorKind,
    errors: Vec<RegistryError>,
    /// The body as it came, when it held no errors in the expected form.
    text: String,
    account: Account,
    /// Whether the server answered that it expects TLS.
    expects_tls: bool,
}

impl Failure for Refusal {
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
                        "`{}` limits the rate of requests: try again later",
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

fn words(errors: &[RegistryError], text: &str) -> String {
    let mut words = String::new();
    for (at, error) in errors.iter().enumerate() {
        words.push_str(if at == 0 { " " } else { "; " });
        words.push_str(&error.code);
        if !error.message.is_empty() {
            words.push_str(": ");
            words.push_str(&error.message);
        }
    }
    if errors.is_empty() && !text.is_empty() {
        words.push_str(": ");
        words.push_str(text);
    }
    words
}

/// Turns an answer that is not what was hoped for into an error.
pub(super) async fn refusal(registry: &RegistryName, answer: Answer) -> crate::Error {
    let Answer {
        response, account, ..
    } = answer;
    let (status, url) = (response.status, response.shown());
    let is_plain = response
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("text/plain"));
    // A body that cannot be read changes nothing about what the status said.
    let secrets = response.secrets();
    let body = response.read_prefix(MAX_BODY).await.unwrap_or_default();
    let errors = parse(&body, &secrets);
    let expects_tls = status == StatusCode::BAD_REQUEST && url.is_plain() && names_tls(&body);
    let text = if is_plain {
        secrets.quote(&String::from_utf8_lossy(&body), 300)
    } else {
        String::new()
    };
    let kind = kind(status, &errors, &account);
    Refusal {
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

/// Whether the text of an answer 400 says that the port expects TLS, as Go's server, nginx, Apache and Tomcat word it.
fn names_tls(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_uppercase();
    ["HTTPS", "SSL", "TLS"]
        .iter()
        .any(|word| text.contains(word))
}

fn kind(status: StatusCode, errors: &[RegistryError], account: &Account) -> ErrorKind {
    let says = |code: &str| {
        errors
            .iter()
            .any(|error| error.code.eq_ignore_ascii_case(code))
    };
    match status.as_u16() {
        // A registry that was shown a token and still says "unauthorized" means that it does not suffice.
        401 if says("DENIED") && matches!(account, Account::Credential { .. }) => ErrorKind::Denied,
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::Conflict,
        400 if says("TAG_INVALID") => ErrorKind::Conflict,
        405 | 501 => ErrorKind::Unsupported,
        400..=499 if says("UNSUPPORTED") => ErrorKind::Unsupported,
        429 => ErrorKind::RateLimited,
        408 | 499 | 500..=599 => ErrorKind::Network,
        _ => ErrorKind::Protocol,
    }
}

#[derive(Deserialize)]
struct Body {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: serde_json::Value,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: serde_json::Value,
}

/// Reads the errors in a body, without what must not be shown of them.
pub(crate) fn parse(body: &[u8], secrets: &Secrets) -> Vec<RegistryError> {
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
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
    fn error_bodies_are_read_in_all_their_forms() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m","detail":[{"a":1}]},{"code":"X"},{"code":7}]}"#;
        let errors = parse(body, &Secrets::default());
        assert_eq!(errors[0].detail, r#"[{"a":1}]"#);
        assert_eq!(words(&errors, "unused"), " DENIED: no\\u{1b}[31m; X; 7");
        for body in [
            &b""[..],
            b"<html>",
            b"{}",
            br#"{"errors":null}"#,
            b"\xff\xfe",
            br#"{"errors":{}}"#,
        ] {
            assert!(parse(body, &Secrets::default()).is_empty());
        }
        assert_eq!(words(&[], "plain"), ": plain");
    }

    #[test]
    fn a_credential_in_a_form_of_the_registry_s_own_is_not_shown() {
        let body = br#"{"errors":[{"code":"c2VjcmV0LWNhbmFyeS0x","message":"not with c2VjcmV0LWNhbmFyeS0x","detail":"c2VjcmV0LWNhbmFyeS0x"}]}"#;
        let errors = parse(body, &Secrets::default());
        assert_eq!(words(&errors, ""), " …: not with …");
        assert_eq!(errors[0].detail, "…");
    }

    #[test]
    fn statuses_have_one_meaning() {
        let code = |code: &str| {
            vec![RegistryError {
                code: code.into(),
                message: String::new(),
                detail: String::new(),
            }]
        };
        let kind = |status, errors: &[RegistryError]| {
            super::kind(
                StatusCode::from_u16(status).unwrap(),
                errors,
                &Account::Unasked,
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
