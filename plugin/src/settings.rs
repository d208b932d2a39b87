//! Flags, and their defaults in `$env.config.plugins.oci`.
//!
//! Owns how a command reaches registries, as the user wants it: a flag first, then the record of the same names in the
//! shell's configuration. Does not own what the settings do.

use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Record, Signature, SyntaxShape, Type, Value};

use crate::report;

/// Only plain HTTP, or only TLS.
const PLAIN_HTTP: &str = "plain-http";
/// How many further times a request is sent.
const RETRIES: &str = "retries";
/// How many requests are under way at once.
const CONCURRENCY: &str = "concurrency";

/// Every name that the configuration may have, whether or not this command has a flag for it.
const NAMES: [&str; 3] = [PLAIN_HTTP, RETRIES, CONCURRENCY];

/// How a command reaches registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// As `ClientOptions::plain_http`.
    pub(crate) plain_http: Option<bool>,
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
        let config = match engine.get_plugin_config()? {
            Some(Value::Record { val, .. }) => val.into_owned(),
            None | Some(Value::Nothing { .. }) => Record::new(),
            Some(Value::Error { error, .. }) => return Err((*error).into()),
            Some(other) => {
                return Err(report::invalid(
                    "failed to read `$env.config.plugins.oci`",
                    "expected a record",
                    other.span(),
                ));
            }
        };
        Self::merge(call, &config)
    }

    fn merge(call: &EvaluatedCall, config: &Record) -> Result<Self, LabeledError> {
        if let Some((name, value)) = config
            .iter()
            .find(|(name, _)| !NAMES.contains(&name.as_str()))
        {
            let message = format!("failed to read `$env.config.plugins.oci`: unknown key `{name}`");
            let known = NAMES.map(|name| format!("`{name}`")).join(", ");
            return Err(report::invalid(message, "not a setting", value.span())
                .with_help(format!("the keys are {known}")));
        }
        let find = |name: &str| {
            let flag = call.named.iter().find(|(flag, _)| flag.item == name);
            let flag = flag.map(|(flag, value)| {
                // A switch without a value is turned on.
                value.clone().unwrap_or(Value::bool(true, flag.span))
            });
            flag.or_else(|| config.get(name).cloned())
        };
        let plain_http = match find(PLAIN_HTTP) {
            Some(value) => Some(value.as_bool()?),
            None => None,
        };
        Ok(Self {
            plain_http,
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
                RETRIES,
                SyntaxShape::Int,
                "How many times a failed request is sent again (default: 4)",
                None,
            )
    }

    /// Adds the flag of commands that ask for many things at once.
    pub(crate) fn concurrency_flag(signature: Signature) -> Signature {
        signature.named(
            CONCURRENCY,
            SyntaxShape::Int,
            "How many requests are under way at once (default: 8)",
            None,
        )
    }
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
        let settings = Settings::merge(&call(), &config).unwrap();
        assert_eq!((settings.plain_http, settings.retries), (Some(true), 0));
        let off = call().with_named(
            "plain-http".into_spanned(span()),
            Value::bool(false, span()),
        );
        assert_eq!(
            Settings::merge(&off, &config).unwrap().plain_http,
            Some(false)
        );
        let on = call().with_flag("plain-http".into_spanned(span()));
        let settings = Settings::merge(&on, &Record::new()).unwrap();
        assert_eq!((settings.plain_http, settings.retries), (Some(true), 4));
        let settings = Settings::merge(&call(), &Record::new()).unwrap();
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
        ] {
            let error = Settings::merge(&call(), &config).unwrap_err();
            assert_eq!(error.code.as_deref(), Some("oci::invalid_input"));
            assert_eq!(error.labels[0].span, place, "{error:?}");
        }
    }
}
