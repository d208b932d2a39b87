//! `WWW-Authenticate` challenges of a registry (RFC 9110, 11.6.1; distribution, "Token Authentication").

use http::{HeaderMap, header};

/// Challenge of an authentication scheme that the client supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        /// URL of the token server, unchanged from the header.
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// Selects the challenge that the client responds to: Bearer if the response contains a Bearer challenge, otherwise
    /// Basic. Other schemes are ignored.
    pub(crate) fn select(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE);
        let all = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse);
        let mut basic = None;
        for (scheme, parameters) in all {
            let parameter = |name: &str| {
                let found = parameters
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name));
                found
                    .map(|(_, value)| value.clone())
                    .filter(|value| !value.is_empty())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = parameter("realm") {
                    let (service, scope) = (parameter("service"), parameter("scope"));
                    return Some(Self::Bearer {
                        realm,
                        service,
                        scope,
                    });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

/// Whether the registry reports that the token has insufficient scope (RFC 6750, 3.1).
pub(crate) fn has_insufficient_scope(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::WWW_AUTHENTICATE);
    let mut challenges = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse);
    challenges.any(|(_, parameters)| {
        parameters.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("error") && value == "insufficient_scope"
        })
    })
}

type Parameters = Vec<(String, String)>;

/// Splits a header into schemes and their parameters.
///
/// A word followed by `=` is a parameter of the scheme before it. Any other word starts a new scheme. By this rule,
/// commas inside quotes, several challenges in one header and opaque tokens (`Negotiate abc==`) are parsed correctly.
fn parse(text: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let trimmed = after.trim_start_matches([' ', '\t']);
        if let Some(value) = trimmed.strip_prefix('=') {
            let (value, after) = parse_value(value.trim_start_matches([' ', '\t']));
            if let Some((_, parameters)) = challenges.last_mut() {
                parameters.push((word.to_owned(), value));
            }
            rest = after;
        } else if word.is_empty() {
            // After a stray quote, the rest of the header is ambiguous.
            break;
        } else {
            challenges.push((word.to_owned(), Parameters::new()));
            rest = after;
        }
        rest = rest.trim_start_matches([' ', '\t', ',', '=']);
    }
    challenges
}

/// Parses the quoted string or plain word at the start of `text`. Returns the value and the remaining text.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::select(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let (service, scope) = (service.map(Into::into), scope.map(Into::into));
        Challenge::Bearer {
            realm: realm.into(),
            service,
            scope,
        }
    }

    #[test]
    fn headers_of_real_registries_are_parsed() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );
        assert_eq!(select(&[hub]), Some(expected));
        assert_eq!(select(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(
            select(&[
                "Negotiate",
                "Basic realm=x",
                "BEARER Realm=https://a/b , Service=c"
            ]),
            Some(bearer("https://a/b", Some("c"), None))
        );
        assert_eq!(
            select(&["Negotiate abc==, Basic realm=\"a, Bearer b\""]),
            Some(Challenge::Basic)
        );
        assert_eq!(
            select(&[r#"Bearer realm="a\"b\\c""#]),
            Some(bearer(r#"a"b\c"#, None, None))
        );
        assert_eq!(select(&["Negotiate"]), None);
        assert_eq!(select(&["Bearer error=\"x\""]), None);
        assert_eq!(select(&["Bearer realm=\"\""]), None);
    }

    proptest! {
        #[test]
        fn parse_of_random_text_does_not_panic(text in "\\PC*", near in "[Ba= ,\"\\\\e]{0,30}") {
            let _ = (parse(&text), parse(&near));
        }
    }
}
