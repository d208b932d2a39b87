//! Registry entry in a credential file. docker stores the credential in one of several forms.
//!
//! docker is written in Go, whose `encoding/json` matches the names of members case-insensitively, so the names are
//! matched in the same way here.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use snafu::{OptionExt, Snafu};

use super::Credential;
use crate::redact::Secret;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Error in an entry of a credential file. The message omits the value, because the value is secret.
#[derive(Debug, Snafu)]
pub(crate) enum EntryDefect {
    #[snafu(display("the entry is not an object"))]
    NotAnObject,
    #[snafu(display("`{member}` is not a string"))]
    Text { member: &'static str },
    #[snafu(display("`auth` is not base64 of `user:password`"))]
    Pair,
}

/// Parses the credential in an entry. Returns `None` if the entry contains no credential, which means that a credential
/// helper stores it.
pub(super) fn parse_entry(entry: &Value) -> Result<Option<Credential>, EntryDefect> {
    let fields = match entry {
        Value::Null => return Ok(None),
        Value::Object(fields) => fields,
        _ => return NotAnObjectSnafu.fail(),
    };
    let text = |name: &'static str| match member(fields, name).filter(|value| **value != "") {
        Some(value) => value.as_str().map(Some).context(TextSnafu { member: name }),
        None => Ok(None),
    };
    if let Some(token) = text("registrytoken")? {
        return Ok(Some(Credential::Registry(Secret::new(token))));
    }
    if let Some(token) = text("identitytoken")? {
        return Ok(Some(Credential::Identity(Secret::new(token))));
    }
    if let Some(auth) = text("auth")? {
        return decode_pair(auth).context(PairSnafu).map(Some);
    }
    let pair = text("username")?.zip(text("password")?);
    Ok(pair.map(|(username, password)| Credential::from_pair(username, password)))
}

/// Decodes `auth`, which is the base64 form of `USER:PASSWORD`.
fn decode_pair(auth: &str) -> Option<Credential> {
    let text = String::from_utf8(BASE64.decode(auth.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    let password = password.trim_end_matches('\0');
    (!username.is_empty()).then(|| Credential::from_pair(username, password))
}

/// Returns the value of a member, or `None` if it is missing or null.
pub(super) fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let is_named = |member: &str| member.eq_ignore_ascii_case(name);
    let mut members = object.iter();
    members.find_map(|(member, value)| (is_named(member) && !value.is_null()).then_some(value))
}
