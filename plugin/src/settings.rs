//! Connection settings: flags, and their defaults in `$env.config.plugins.oci`.
//!
//! A flag takes precedence over the key of the same name in the configuration.

use std::path::PathBuf;

use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Record, Signature, Span, Spanned, SyntaxShape, Type, Value};
use oci_registry::Resolve;

use crate::report::{self, ToLabeledError};

/// Flag of a call, with its value if the user passed one.
type GivenFlag = (Spanned<String>, Option<Value>);

/// Key for using plain HTTP (`true`) or TLS (`false`) for all registries.
const PLAIN_HTTP: &str = "plain-http";
/// Key for CA certificates that are trusted in addition to the system's certificates.
const CA_FILE: &str = "ca-file";
/// Key for the client certificate.
const CERT_FILE: &str = "cert-file";
/// Key for the private key of the client certificate.
const KEY_FILE: &str = "key-file";
/// Key for host addresses that override DNS.
const RESOLVE: &str = "resolve";
/// Key for the maximum number of retries of a request.
const RETRIES: &str = "retries";
/// Key for the maximum number of concurrent requests.
const CONCURRENCY: &str = "concurrency";

/// All keys of the configuration. Not every command has a flag for each key.
const KEYS: [&str; 7] = [
    PLAIN_HTTP,
    CA_FILE,
    CERT_FILE,
    KEY_FILE,
    RESOLVE,
    RETRIES,
    CONCURRENCY,
];

/// Connection settings of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConnectionSettings {
    /// Whether plain HTTP is used. `None` selects the default. See `ClientOptions::plain_http`.
    pub(crate) plain_http: Option<bool>,
    /// File of additional CA certificates. See `ClientOptions::ca_file`. The path may be relative.
    pub(crate) ca_file: Option<PathBuf>,
    /// Files of the client certificate and its private key. See `ClientOptions::identity`. The paths may be relative.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Addresses that override DNS. See `ClientOptions::resolve`.
    pub(crate) resolve: Vec<Resolve>,
    /// Maximum number of retries of a request that fails temporarily.
    pub(crate) retries: u32,
    /// Maximum number of concurrent requests.
    pub(crate) concurrency: usize,
}

impl ConnectionSettings {
    /// Reads the settings of a call from its flags and the configuration.
    pub(crate) fn read(
        engine: &EngineInterface,
        call: &EvaluatedCall,
    ) -> Result<Self, LabeledError> {
        Self::merge(&call.named, &read_config(engine)?)
    }

    /// Reads the settings from the configuration only.
    pub(crate) fn from_config(engine: &EngineInterface) -> Result<Self, LabeledError> {
        Self::merge(&[], &read_config(engine)?)
    }

    fn merge(flags: &[GivenFlag], config: &Record) -> Result<Self, LabeledError> {
        if let Some((name, value)) = config
            .iter()
            .find(|(name, _)| !KEYS.contains(&name.as_str()))
        {
            let message = format!("failed to read `$env.config.plugins.oci`: unknown key `{name}`");
            let known = KEYS.map(|name| format!("`{name}`")).join(", ");
            let similar = find_similar_key(name).map(|key| format!("use `{key}`; "));
            let help = format!("{}the known keys are {known}", similar.unwrap_or_default());
            return Err(report::invalid(message, "unknown key", value.span()).with_help(help));
        }
        let find = |name: &str| {
            let flag = flags.iter().find(|(flag, _)| flag.item == name);
            let flag = flag.map(|(flag, value)| {
                // A switch without a value is on.
                value.clone().unwrap_or(Value::bool(true, flag.span))
            });
            flag.or_else(|| config.get(name).cloned())
        };
        let plain_http = match find(PLAIN_HTTP) {
            Some(Value::Bool { val, .. }) => Some(val),
            Some(other) => return Err(wrong_type_error(PLAIN_HTTP, "true or false", &other)),
            None => None,
        };
        let path = |name| read_path(name, find(name));
        let ca_file = path(CA_FILE)?;
        let identity = (path(CERT_FILE)?, path(KEY_FILE)?);
        let identity = match identity {
            (Some(chain), Some(key)) => Some((chain, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(missing_setting_error(CERT_FILE, KEY_FILE, find(CERT_FILE)));
            }
            (None, Some(_)) => {
                return Err(missing_setting_error(KEY_FILE, CERT_FILE, find(KEY_FILE)));
            }
        };
        Ok(Self {
            plain_http,
            ca_file,
            identity,
            resolve: find(RESOLVE).map_or(Ok(Vec::new()), |value| read_resolve(&value))?,
            retries: read_number(RETRIES, find(RETRIES), 4, 0, 20)?,
            concurrency: read_number(CONCURRENCY, find(CONCURRENCY), 8, 1, 64)? as usize,
        })
    }

    /// Adds the flags that every command has to a signature.
    pub(crate) fn flags(signature: Signature) -> Signature {
        signature
            .switch(
                PLAIN_HTTP,
                "Use HTTP instead of HTTPS (default: only for localhost; =false: never)",
                None,
            )
            .named(
                CA_FILE,
                SyntaxShape::Filepath,
                "Also trust the CA certificates in this PEM file (forces HTTPS)",
                None,
            )
            .named(
                CERT_FILE,
                SyntaxShape::Filepath,
                "Client certificate (PEM file)",
                None,
            )
            .named(
                KEY_FILE,
                SyntaxShape::Filepath,
                "Private key of the client certificate (PEM file)",
                None,
            )
            .named(
                RESOLVE,
                strings_shape(),
                "Connect to a host at this address, as `HOST:PORT:ADDRESS`",
                None,
            )
            .named(
                RETRIES,
                SyntaxShape::Int,
                "Number of retries of a failed request (default: 4)",
                None,
            )
            .named(
                CONCURRENCY,
                SyntaxShape::Int,
                "Maximum number of concurrent requests (default: 8)",
                None,
            )
    }
}

/// Returns the syntax shape of an argument that is a string or a list of strings.
///
/// The list comes first, because the string shape accepts any input, including a list literal.
pub(crate) fn strings_shape() -> SyntaxShape {
    SyntaxShape::OneOf(vec![
        SyntaxShape::List(Box::new(SyntaxShape::String)),
        SyntaxShape::String,
    ])
}

/// Returns the elements of a list, or a slice with the value itself if the value is not a list.
pub(crate) fn as_list(value: &Value) -> &[Value] {
    match value {
        Value::List { vals, .. } => vals,
        single => std::slice::from_ref(single),
    }
}

fn read_config(engine: &EngineInterface) -> Result<Record, LabeledError> {
    match engine.get_plugin_config()? {
        Some(Value::Record { val, .. }) => Ok(val.into_owned()),
        None | Some(Value::Nothing { .. }) => Ok(Record::new()),
        Some(Value::Error { error, .. }) => Err((*error).into()),
        Some(other) => Err(report::invalid(
            "failed to read `$env.config.plugins.oci`",
            "expected a record",
            other.span(),
        )),
    }
}

fn read_path(name: &str, value: Option<Value>) -> Result<Option<PathBuf>, LabeledError> {
    match value {
        Some(value) => match value.to_path() {
            Ok(path) => Ok(Some(path)),
            Err(_) => Err(wrong_type_error(name, "a path", &value)),
        },
        None => Ok(None),
    }
}

/// Creates the error for a value of the wrong type.
fn wrong_type_error(name: &str, expected: &str, value: &Value) -> LabeledError {
    let found = value.get_type().get_non_specified_string();
    let label = format!("expected {expected}, found {found}");
    report::invalid(format!("failed to read `{name}`"), &label, value.span())
}

/// Returns the most similar key, or `None` if the edit distance to this key is more than half of the key's length.
fn find_similar_key(name: &str) -> Option<&'static str> {
    let distances = KEYS.map(|known| (strsim::osa_distance(name, known), known));
    let (distance, known) = distances.into_iter().min()?;
    (distance <= known.len() / 2).then_some(known)
}

/// Creates the error for a client certificate whose private key is missing, or for a key whose certificate is missing.
fn missing_setting_error(given: &str, missing: &str, value: Option<Value>) -> LabeledError {
    let span = value.map_or(Span::unknown(), |value| value.span());
    report::invalid(
        format!("failed to read `{given}`: `{missing}` is missing"),
        &format!("requires `{missing}`"),
        span,
    )
    .with_help("set both `cert-file` and `key-file`")
}

fn read_resolve(value: &Value) -> Result<Vec<Resolve>, LabeledError> {
    let read = |text: &Value| {
        let Ok(written) = text.as_str() else {
            return Err(wrong_type_error(
                RESOLVE,
                "a string or a list of strings",
                text,
            ));
        };
        let parsed = written.parse::<Resolve>();
        parsed.map_err(|error| error.at(text.span()))
    };
    as_list(value).iter().map(read).collect()
}

fn read_number(
    name: &str,
    value: Option<Value>,
    default: u32,
    min: u32,
    max: u32,
) -> Result<u32, LabeledError> {
    let Some(value) = value else {
        return Ok(default);
    };
    let read = match value.get_type() {
        Type::Int => u32::try_from(value.as_int()?).ok(),
        _ => None,
    };
    let read = read.filter(|read| (min..=max).contains(read));
    read.ok_or_else(|| {
        report::invalid(
            format!("failed to read `{name}`"),
            &format!("expected a number from {min} to {max}"),
            value.span(),
        )
    })
}

#[cfg(test)]
mod tests {
    use nu_protocol::{IntoSpanned, Span, record};

    use super::*;

    fn span() -> Span {
        Span::test_data()
    }

    fn call() -> EvaluatedCall {
        EvaluatedCall::new(span())
    }

    #[test]
    fn flag_takes_precedence_over_config() {
        let config = record! {
            "plain-http" => Value::bool(true, span()),
            "retries" => Value::int(0, span()),
        };
        let settings = ConnectionSettings::merge(&call().named, &config).unwrap();
        assert_eq!((settings.plain_http, settings.retries), (Some(true), 0));
        let off = call().with_named(
            "plain-http".into_spanned(span()),
            Value::bool(false, span()),
        );
        assert_eq!(
            ConnectionSettings::merge(&off.named, &config)
                .unwrap()
                .plain_http,
            Some(false)
        );
        let on = call().with_flag("plain-http".into_spanned(span()));
        let settings = ConnectionSettings::merge(&on.named, &Record::new()).unwrap();
        assert_eq!((settings.plain_http, settings.retries), (Some(true), 4));
        let settings = ConnectionSettings::merge(&call().named, &Record::new()).unwrap();
        assert_eq!(settings.plain_http, None);
    }

    #[test]
    fn invalid_config_value_is_rejected_with_its_span() {
        let span_of_value = Span::new(7, 9);
        for config in [
            record! {"plain_http" => Value::bool(true, span_of_value)},
            record! {"retries" => Value::int(-1, span_of_value)},
            record! {"concurrency" => Value::int(0, span_of_value)},
            record! {"concurrency" => Value::string("8", span_of_value)},
            record! {"plain-http" => Value::string("yes", span_of_value)},
            record! {"ca-file" => Value::int(1, span_of_value)},
            record! {"resolve" => Value::list(vec![Value::int(1, span_of_value)], span_of_value)},
        ] {
            let error = ConnectionSettings::merge(&call().named, &config).unwrap_err();
            assert_eq!(error.code.as_deref(), Some("oci::invalid_input"));
            assert_eq!(error.labels[0].span, span_of_value, "{error:?}");
        }
    }

    #[test]
    fn only_similar_key_is_suggested_for_unknown_key() {
        for (name, suggestion) in [
            ("plain_http", Some("plain-http")),
            ("retry", Some("retries")),
            ("cafile", Some("ca-file")),
            ("concurency", Some("concurrency")),
            ("registry", None),
            ("x", None),
        ] {
            assert_eq!(find_similar_key(name), suggestion, "{name}");
        }
    }
}
