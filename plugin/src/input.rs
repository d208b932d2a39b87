//! Operands of a command, read from its arguments or from the pipeline.
//!
//! An operand is a string, or a row from another command with a `reference` column. A list is read as a stream. A parse
//! error labels the invalid part of the source code.

use std::ops::Range;
use std::str::FromStr;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use nu_plugin::EngineInterface;
use nu_protocol::{LabeledError, PipelineData, Span, Value};
use tokio::sync::mpsc;

use crate::report::{self, ToLabeledError};

/// Name of the column that contains the reference in the rows of other commands.
pub(crate) const REFERENCE: &str = "reference";

/// Maximum number of operands that are read from the pipeline in advance.
const MAX_QUEUED_OPERANDS: usize = 16;

/// One operand of a command.
#[derive(Debug, Clone)]
pub(crate) struct Operand<T> {
    /// The parsed name.
    pub(crate) name: T,
    /// Position of the operand in the source code, for labels.
    pub(crate) span: Span,
}

/// All operands of a call.
pub(crate) enum Operands<T> {
    /// A single operand. The command returns a single value.
    One(Operand<T>),
    /// A list of any length. The command returns a list.
    List(BoxStream<'static, Result<Operand<T>, LabeledError>>),
}

impl<T: FromStr<Err = oci_registry::Error> + Send + 'static> Operands<T> {
    /// Reads the operands from `arguments`, or from the pipeline if `arguments` is empty.
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
                "failed to read the input: both arguments and a pipeline list were given",
                "first argument",
                first.span(),
            )
            .with_label("pipeline list", input.span().unwrap_or(head))
            .with_help("pass either the arguments or the list"));
        }
        // Other input is ignored: the first command of a closure always receives the closure's input.
        let first = parse_operand(engine, first)?;
        if arguments.len() == 0 {
            return Ok(Self::One(first));
        }
        let rest = arguments.map(|argument| parse_operand(engine, argument));
        let operands: Result<Vec<_>, _> = std::iter::once(Ok(first)).chain(rest).collect();
        Ok(Self::from_list(operands?))
    }

    fn from_pipeline(
        engine: &EngineInterface,
        head: Span,
        input: PipelineData,
    ) -> Result<Self, LabeledError> {
        if let PipelineData::ListStream(list, _) = input {
            let (sender, receiver) = mpsc::channel(MAX_QUEUED_OPERANDS);
            let engine = engine.clone();
            // A separate thread reads the list, because the iterator blocks until the previous command produces a
            // value.
            let reader = std::thread::Builder::new().name("oci input".into());
            let reading = reader.spawn(move || {
                for value in list {
                    if sender
                        .blocking_send(parse_operand(&engine, &value))
                        .is_err()
                    {
                        break;
                    }
                }
            });
            reading.map_err(|error| {
                LabeledError::new("failed to start the thread that reads the pipeline")
                    .with_code("oci::io")
                    .with_inner(LabeledError::new(error.to_string()))
            })?;
            let operands = stream::unfold(receiver, |mut receiver| async {
                let operand = receiver.recv().await?;
                Some((operand, receiver))
            });
            return Ok(Self::List(operands.boxed()));
        }
        // The output of an external program ends with a line feed, which is not part of the name.
        let is_program_output = matches!(input, PipelineData::ByteStream(..));
        match input.into_value(head)? {
            value @ Value::String { .. } if is_program_output => {
                let text = value.as_str()?.trim_end_matches(['\r', '\n']);
                Ok(Self::One(parse_operand(
                    engine,
                    &Value::string(text, value.span()),
                )?))
            }
            Value::Nothing { .. } => Err(report::invalid(
                "failed to read the input: missing argument",
                "expected an argument",
                head,
            )
            .with_help("pass an argument, or pipe in a string, a list or a table")),
            // The list is complete, so an invalid value fails the command before the first operand is processed.
            Value::List { vals, .. } => {
                let operands: Result<Vec<_>, _> = vals
                    .iter()
                    .map(|value| parse_operand(engine, value))
                    .collect();
                Ok(Self::from_list(operands?))
            }
            value => Ok(Self::One(parse_operand(engine, &value)?)),
        }
    }

    fn from_list(operands: Vec<Operand<T>>) -> Self {
        Self::List(stream::iter(operands).map(Ok).boxed())
    }
}

impl<T: Send + 'static> Operands<T> {
    /// Whether the input is a list. A list of one operand is a list too.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Self::List(_))
    }

    /// Returns the operands in order.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<Operand<T>, LabeledError>> {
        match self {
            Self::One(operand) => stream::iter([Ok(operand)]).boxed(),
            Self::List(operands) => operands,
        }
    }
}

/// Parses one argument, or one value of the pipeline.
pub(crate) fn parse_operand<T: FromStr<Err = oci_registry::Error>>(
    engine: &EngineInterface,
    value: &Value,
) -> Result<Operand<T>, LabeledError> {
    let value = match value {
        Value::Record { val, .. } => val.get(REFERENCE).unwrap_or(value),
        other => other,
    };
    let span = value.span();
    let text = match value {
        Value::String { val, .. } => val.as_str(),
        Value::Error { error, .. } => return Err((**error).clone().into()),
        other => {
            let found = format!("found {}", other.get_type().get_non_specified_string());
            return Err(report::invalid(
                "failed to read the input: unsupported type",
                &found,
                span,
            )
            .with_help("pass a string, a list of strings, or rows with a `reference` column"));
        }
    };
    let parsed = text.parse().map_err(|error: oci_registry::Error| {
        let part = error.span().filter(|part| !part.is_empty());
        match part.and_then(|part| span_of(engine, span, text, part)) {
            Some(part) => error.labelled("this part", part),
            None => error.at(span),
        }
    });
    parsed.map(|name| Operand { name, span })
}

/// Returns the span of a part of a name, if the source code at `written_at` contains the name literally.
///
/// `find` locates the part in the source text, and returns `None` if the source text is a different name.
pub(crate) fn span_of_part(
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

/// Returns the span of a part of a string, if the source code at `span` contains the string literally.
fn span_of(engine: &EngineInterface, span: Span, text: &str, part: Range<usize>) -> Option<Span> {
    let written = engine.get_span_contents(span).ok()?;
    let start = span.start + offset_in(&written, text)?;
    Some(Span::new(start + part.start, start + part.end))
}

/// Returns the offset of a string in the source code: 0 for a bare word, 1 inside quotes, `None` if the source code
/// does not contain the string literally.
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
    fn offset_of_literal_text_excludes_quotes() {
        assert_eq!(offset_in(b"a.b/c", "a.b/c"), Some(0));
        assert_eq!(offset_in(b"'a.b/c'", "a.b/c"), Some(1));
        assert_eq!(offset_in(b"\"a.b/c\"", "a.b/c"), Some(1));
        assert_eq!(offset_in(b"$name", "a.b/c"), None);
        assert_eq!(offset_in(b"\"a\\tb\"", "a\tb"), None);
        assert_eq!(offset_in(b"", "a"), None);
        assert_eq!(offset_in(b"'", ""), None);
    }
}
