//! Flags, and their defaults in `$env.config.plugins.oci`.
//!
//! Owns how a command reaches registries, as the user wants it: a flag first, then the record of the same names in the
//! shell's configuration. Does not own what the settings do.

use std::path::PathBuf;

use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Record, Signature, Span, Spanned, SyntaxShape, Type, Value};
use oci_registry::Resolve;

use crate::report::{self, Report};

/// A flag as it was given, with its value if it has one.
type Flag = (Spanned<String>, Option<Value>);

/// Only plain HTTP, or only TLS.
const PLAIN_HTTP: &str = "plain-http";
/// Certificates that are trusted beside the machine's own.
const CA_FILE: &str = "ca-file";
/// The certificate that is shown to registries, and its key.
const CERT_FILE: &str = "cert-file";
const KEY_FILE: &str = "key-file";
/// Hosts that are reached at another address than their name says.
const RESOLVE: &str = "resolve";
/// How many further times a request is sent.
const RETRIES: &str = "retries";
/// How many requests are under way at once.
const CONCURRENCY: &str = "concurrency";

/// Every name that the configuration may have, whether or not this command has a flag for it.
const NAMES: [&str; 7] = [
    PLAIN_HTTP,
    CA_FILE,
    CERT_FILE,
    KEY_FILE,
    RESOLVE,
    RETRIES,
    CONCURRENCY,
];

/// How a command reaches registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    /// As `ClientOptions::plain_http`.
    pub(crate) plain_http: Option<bool>,
    /// As `ClientOptions::ca_file`, as it was written.
    pub(crate) ca_file: Option<PathBuf>,
    /// As `ClientOptions::identity`, as it was written.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// As `ClientOptions::resolve`.
    pub(crate) resolve: Vec<Resolve>,
    /// How many further times a request is sent when it fails in a way that may pass.
    pub(crate) retries: u32,
    /// How many requests are under way at once.
    pub(crate) concurrency: usize,
}

impl Settings {
    /// What this call and the shell's configuration say.
    pub(crate) fn read(
        engine: &EngineInterface,
        call: &EvaluatedCall,
    ) -> Result<Self, LabeledError> {
        Self::merge(&call.named, &configured(engine)?)
    }

    /// What the shell's configuration says.
    pub(crate) fn of_configuration(engine: &EngineInterface) -> Result<Self, LabeledError> {
        Self::merge(&[], &configured(engine)?)
    }

    fn merge(flags: &[Flag], config: &Record) -> Result<Self, LabeledError> {
        if let Some((name, value)) = config
            .iter()
            .find(|(name, _)| !NAMES.contains(&name.as_str()))
        {
            let message = format!("failed to read `$env.config.plugins.oci`: unknown key `{name}`");
            let known = NAMES.map(|name| format!("`{name}`")).join(", ");
            let near = nearest(name).map(|near| format!("a similar one is `{near}`; "));
            let help = format!("{}the keys are {known}", near.unwrap_or_default());
            return Err(report::invalid(message, "not a setting", value.span()).with_help(help));
        }
        let find = |name: &str| {
            let flag = flags.iter().find(|(flag, _)| flag.item == name);
            let flag = flag.map(|(flag, value)| {
                // A switch without a value is turned on.
                value.clone().unwrap_or(Value::bool(true, flag.span))
            });
            flag.or_else(|| config.get(name).cloned())
        };
        let plain_http = match find(PLAIN_HTTP) {
            Some(Value::Bool { val, .. }) => Some(val),
            Some(other) => return Err(unfit(PLAIN_HTTP, "true or false", &other)),
            None => None,
        };
        let path = |name| path(name, find(name));
        let ca_file = path(CA_FILE)?;
        let identity = (path(CERT_FILE)?, path(KEY_FILE)?);
        let identity = match identity {
            (Some(chain), Some(key)) => Some((chain, key)),
            (None, None) => None,
            (Some(_), None) => return Err(lonely(CERT_FILE, KEY_FILE, find(CERT_FILE))),
            (None, Some(_)) => return Err(lonely(KEY_FILE, CERT_FILE, find(KEY_FILE))),
        };
        Ok(Self {
            plain_http,
            ca_file,
            identity,
            resolve: find(RESOLVE).map_or(Ok(Vec::new()), |value| resolve(&value))?,
            retries: number(RETRIES, find(RETRIES), 4, 0, 20)?,
            concurrency: number(CONCURRENCY, find(CONCURRENCY), 8, 1, 64)? as usize,
        })
    }

    /// Adds the flags that every command has.
    pub(crate) fn flags(signature: Signature) -> Signature {
        signature
            .switch(
                PLAIN_HTTP,
                "Use plain HTTP; =false to use TLS, on this very machine too",
                None,
            )
            .named(
                CA_FILE,
                SyntaxShape::Filepath,
                "A file of certificates in PEM that are trusted, too",
                None,
            )
            .named(
                CERT_FILE,
                SyntaxShape::Filepath,
                "The certificate in PEM that is shown to registries",
                None,
            )
            .named(
                KEY_FILE,
                SyntaxShape::Filepath,
                "The key in PEM of that certificate",
                None,
            )
            .named(
                RESOLVE,
                texts_shape(),
                "Reach a host at another address, as `HOST:PORT:ADDRESS`",
                None,
            )
            .named(
                RETRIES,
                SyntaxShape::Int,
                "How many times a failed request is sent again (default: 4)",
                None,
            )
            .named(
                CONCURRENCY,
                SyntaxShape::Int,
                "How many requests are under way at once (default: 8)",
                None,
            )
    }
}

/// The shape of a text or a list of them. A text may be anything, also what looks like a list: that is tried first.
pub(crate) fn texts_shape() -> SyntaxShape {
    SyntaxShape::OneOf(vec![
        SyntaxShape::List(Box::new(SyntaxShape::String)),
        SyntaxShape::String,
    ])
}

/// A text or a list of them.
pub(crate) fn texts(value: &Value) -> &[Value] {
    match value {
        Value::List { vals, .. } => vals,
        one => std::slice::from_ref(one),
    }
}

fn configured(engine: &EngineInterface) -> Result<Record, LabeledError> {
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

fn path(name: &str, value: Option<Value>) -> Result<Option<PathBuf>, LabeledError> {
    match value {
        Some(value) => match value.to_path() {
            Ok(path) => Ok(Some(path)),
            Err(_) => Err(unfit(name, "a path", &value)),
        },
        None => Ok(None),
    }
}

/// A value of another type than its name wants.
fn unfit(name: &str, expected: &str, value: &Value) -> LabeledError {
    let found = value.get_type().get_non_specified_string();
    let label = format!("expected {expected}, found {found}");
    report::invalid(format!("failed to read `{name}`"), &label, value.span())
}

/// The name that was meant, if one is near enough.
fn nearest(name: &str) -> Option<&'static str> {
    let near = NAMES.map(|known| (strsim::osa_distance(name, known), known));
    let (distance, known) = near.into_iter().min()?;
    (distance <= known.len() / 2).then_some(known)
}

/// Of a pair of settings one is there.
fn lonely(there: &str, missing: &str, value: Option<Value>) -> LabeledError {
    let span = value.map_or(Span::unknown(), |value| value.span());
    report::invalid(
        format!("failed to read `{there}`: `{missing}` is not given"),
        "this is one half",
        span,
    )
    .with_help("a certificate and its key are given together")
}

fn resolve(value: &Value) -> Result<Vec<Resolve>, LabeledError> {
    let read = |text: &Value| {
        let Ok(written) = text.as_str() else {
            return Err(unfit(RESOLVE, "a text or a list of texts", text));
        };
        let parsed = written.parse::<Resolve>();
        parsed.map_err(|error| error.at(text.span()))
    };
    texts(value).iter().map(read).collect()
}

fn number(
    name: &str,
    value: Option<Value>,
    default: u32,
    least: u32,
    most: u32,
) -> Result<u32, LabeledError> {
    let Some(value) = value else {
        return Ok(default);
    };
    let read = match value.get_type() {
        Type::Int => u32::try_from(value.as_int()?).ok(),
        _ => None,
    };
    let read = read.filter(|read| (least..=most).contains(read));
    read.ok_or_else(|| {
        report::invalid(
            format!("failed to read `{name}`"),
            &format!("expected a number from {least} to {most}"),
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
    fn a_flag_is_stronger_than_the_configuration() {
        let config = record! {
            "plain-http" => Value::bool(true, span()),
            "retries" => Value::int(0, span()),
        };
        let settings = Settings::merge(&call().named, &config).unwrap();
        assert_eq!((settings.plain_http, settings.retries), (Some(true), 0));
        let off = call().with_named(
            "plain-http".into_spanned(span()),
            Value::bool(false, span()),
        );
        assert_eq!(
            Settings::merge(&off.named, &config).unwrap().plain_http,
            Some(false)
        );
        let on = call().with_flag("plain-http".into_spanned(span()));
        let settings = Settings::merge(&on.named, &Record::new()).unwrap();
        assert_eq!((settings.plain_http, settings.retries), (Some(true), 4));
        let settings = Settings::merge(&call().named, &Record::new()).unwrap();
        assert_eq!(settings.plain_http, None);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_at_its_place() {
        let place = Span::new(7, 9);
        for config in [
            record! {"plain_http" => Value::bool(true, place)},
            record! {"retries" => Value::int(-1, place)},
            record! {"concurrency" => Value::int(0, place)},
            record! {"concurrency" => Value::string("8", place)},
            record! {"plain-http" => Value::string("yes", place)},
            record! {"ca-file" => Value::int(1, place)},
            record! {"resolve" => Value::list(vec![Value::int(1, place)], place)},
        ] {
            let error = Settings::merge(&call().named, &config).unwrap_err();
            assert_eq!(error.code.as_deref(), Some("oci::invalid_input"));
            assert_eq!(error.labels[0].span, place, "{error:?}");
        }
    }

    #[test]
    fn a_key_that_is_none_leads_to_the_one_that_was_meant() {
        for (name, meant) in [
            ("plain_http", Some("plain-http")),
            ("retry", Some("retries")),
            ("cafile", Some("ca-file")),
            ("concurency", Some("concurrency")),
            ("registry", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name), meant, "{name}");
        }
    }
}
