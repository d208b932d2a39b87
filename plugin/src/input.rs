//! What a command is asked about: names from its arguments, or from the pipeline.
//!
//! Owns reading them: a text, a list of texts, or the rows of another command by their `reference` column; and finding
//! the very part of the source code that does not parse. A list is read as it comes.

use std::ops::Range;
use std::str::FromStr;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use nu_plugin::EngineInterface;
use nu_protocol::{LabeledError, PipelineData, Span, Value};
use tokio::sync::mpsc;

use crate::report::{self, Report};

/// The column that names what a row is about.
pub(crate) const REFERENCE: &str = "reference";

/// How many names are read from the pipeline before one is wanted.
const AHEAD: usize = 16;

/// One thing that was asked about.
#[derive(Debug, Clone)]
pub(crate) struct Subject<T> {
    /// Its name.
    pub(crate) name: T,
    /// Where it was written.
    pub(crate) span: Span,
}

/// What a call asks about.
pub(crate) enum Asked<T> {
    /// One thing.
    One(Subject<T>),
    /// A list, of whatever length.
    Several(BoxStream<'static, Result<Subject<T>, LabeledError>>),
}

impl<T: FromStr<Err = oci_registry::Error> + Send + 'static> Asked<T> {
    /// Reads these arguments of a call, else its input.
    pub(crate) fn read(
        engine: &EngineInterface,
        head: Span,
        arguments: &[Value],
        input: PipelineData,
    ) -> Result<Self, LabeledError> {
        let mut arguments = arguments.iter();
        let Some(first) = arguments.next() else {
            return Self::from_pipeline(engine, head, input);
        };
        if let PipelineData::ListStream(..) | PipelineData::Value(Value::List { .. }, _) = input {
            return Err(report::invalid(
                "failed to tell what is asked about: there are arguments, and a list in the pipeline",
                "this is asked about",
                first.span(),
            )
            .with_label("and so is this", input.span().unwrap_or(head))
            .with_help("leave one of the two out"));
        }
        // What is no list is left aside: a closure's first command gets the closure's input, wanted or not.
        let first = subject(engine, first)?;
        if arguments.len() == 0 {
            return Ok(Self::One(first));
        }
        let rest = arguments.map(|argument| subject(engine, argument));
        let several: Result<Vec<_>, _> = std::iter::once(Ok(first)).chain(rest).collect();
        Ok(Self::several(several?))
    }

    fn from_pipeline(
        engine: &EngineInterface,
        head: Span,
        input: PipelineData,
    ) -> Result<Self, LabeledError> {
        if let PipelineData::ListStream(list, _) = input {
            let (sender, receiver) = mpsc::channel(AHEAD);
            let engine = engine.clone();
            // Of its own, because it stands still for as long as the command before us does.
            let reader = std::thread::Builder::new().name("oci input".into());
            let reading = reader.spawn(move || {
                for value in list {
                    if sender.blocking_send(subject(&engine, &value)).is_err() {
                        break;
                    }
                }
            });
            reading.map_err(|error| {
                LabeledError::new("failed to start reading the pipeline")
                    .with_code("oci::io")
                    .with_inner(LabeledError::new(error.to_string()))
            })?;
            let subjects = stream::unfold(receiver, |mut receiver| async {
                let subject = receiver.recv().await?;
                Some((subject, receiver))
            });
            return Ok(Self::Several(subjects.boxed()));
        }
        // A program ends what it prints with an end of line.
        let is_printed = matches!(input, PipelineData::ByteStream(..));
        match input.into_value(head)? {
            value @ Value::String { .. } if is_printed => {
                let text = value.as_str()?.trim_end_matches(['\r', '\n']);
                Ok(Self::One(subject(
                    engine,
                    &Value::string(text, value.span()),
                )?))
            }
            Value::Nothing { .. } => Err(report::invalid(
                "failed to tell what is asked about",
                "an argument is missing",
                head,
            )
            .with_help("give it as an argument, or through the pipeline")),
            // All of a list is at hand: it is right as a whole, or nothing is done.
            Value::List { vals, .. } => {
                let several: Result<Vec<_>, _> =
                    vals.iter().map(|value| subject(engine, value)).collect();
                Ok(Self::several(several?))
            }
            value => Ok(Self::One(subject(engine, &value)?)),
        }
    }

    fn several(subjects: Vec<Subject<T>>) -> Self {
        Self::Several(stream::iter(subjects).map(Ok).boxed())
    }
}

impl<T: Send + 'static> Asked<T> {
    /// Whether a list was given, even a list of one.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Self::Several(_))
    }

    /// All of it, in order.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<Subject<T>, LabeledError>> {
        match self {
            Self::One(subject) => stream::iter([Ok(subject)]).boxed(),
            Self::Several(subjects) => subjects,
        }
    }
}

/// Reads one argument, or one row of the pipeline.
pub(crate) fn subject<T: FromStr<Err = oci_registry::Error>>(
    engine: &EngineInterface,
    value: &Value,
) -> Result<Subject<T>, LabeledError> {
    let value = match value {
        Value::Record { val, .. } => val.get(REFERENCE).unwrap_or(value),
        other => other,
    };
    let span = value.span();
    let text = match value {
        Value::String { val, .. } => val.as_str(),
        Value::Error { error, .. } => return Err((**error).clone().into()),
        other => {
            let found = format!("this is {}", other.get_type().get_non_specified_string());
            return Err(
                report::invalid("failed to read what is asked about", &found, span)
                    .with_help("give a text, a list of texts, or rows with a `reference` column"),
            );
        }
    };
    let parsed = text.parse().map_err(|error: oci_registry::Error| {
        let part = error.span().filter(|part| !part.is_empty());
        match part.and_then(|part| span_of(engine, span, text, part)) {
            Some(part) => error.labelled("this part", part),
            None => error.at(span),
        }
    });
    parsed.map(|name| Subject { name, span })
}

/// The span of a part of a name in the source code, when the name stands there as it is. `find` finds the part in the name
/// as it is written, or refuses a text that is another name.
pub(crate) fn part_of(
    engine: &EngineInterface,
    written_at: Span,
    find: impl FnOnce(&str) -> Option<Range<usize>>,
) -> Option<Span> {
    let written = engine.get_span_contents(written_at).ok()?;
    let written = std::str::from_utf8(&written).ok()?;
    let text = written.trim_matches(['"', '\'', '`']);
    let start = written_at.start + offset_in(written.as_bytes(), text)?;
    let part = find(text)?;
    Some(Span::new(start + part.start, start + part.end))
}

/// Where a part of a text stands in the source code, when the text stands there as it is.
fn span_of(engine: &EngineInterface, span: Span, text: &str, part: Range<usize>) -> Option<Span> {
    let written = engine.get_span_contents(span).ok()?;
    let start = span.start + offset_in(&written, text)?;
    Some(Span::new(start + part.start, start + part.end))
}

/// Where the text begins in what was written: bare, or in quotes that change nothing.
fn offset_in(written: &[u8], text: &str) -> Option<usize> {
    if written == text.as_bytes() {
        return Some(0);
    }
    let (quote, rest) = written.split_first()?;
    let is_quoted = b"\"'`".contains(quote) && rest.strip_suffix(&[*quote])? == text.as_bytes();
    is_quoted.then_some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_where_it_is_written_as_it_is() {
        assert_eq!(offset_in(b"a.b/c", "a.b/c"), Some(0));
        assert_eq!(offset_in(b"'a.b/c'", "a.b/c"), Some(1));
        assert_eq!(offset_in(b"\"a.b/c\"", "a.b/c"), Some(1));
        assert_eq!(offset_in(b"$name", "a.b/c"), None);
        assert_eq!(offset_in(b"\"a\\tb\"", "a\tb"), None);
        assert_eq!(offset_in(b"", "a"), None);
        assert_eq!(offset_in(b"'", ""), None);
    }
}
