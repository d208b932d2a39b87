//! Conversion of library types to Nushell values, and the columns of all tables.
//!
//! Every row has all columns of its table; unknown values are `null`. Control characters and characters that change the
//! text direction are escaped.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::DateTime;
use nu_protocol::{Record, Span, Type, Value, record};
use oci_package::{Details, InspectedTarget, Inspection, Summary, annotation, platform};
use oci_registry::{
    Annotations, Descriptor, Digest, Identifier, Manifest, PingResponse, Platform, Reference,
    RegistryAccess, RegistryName,
};

use crate::open_location::OpenLocation;

/// Names and types of the columns of a table or record.
pub(crate) type Columns = Vec<(String, Type)>;

fn columns<const N: usize>(columns: [(&str, Type); N]) -> Columns {
    columns
        .into_iter()
        .map(|(name, of)| (name.to_owned(), of))
        .collect()
}

/// Returns the type of a table with these columns.
pub(crate) fn table(columns: Columns) -> Type {
    Type::Table(columns.into())
}

/// Returns the type of a record with these columns.
pub(crate) fn record(columns: Columns) -> Type {
    Type::Record(columns.into())
}

/// Converts text to a string value, or `None` to `null`. Control characters are escaped.
pub(crate) fn text(text: Option<impl ToString>, span: Span) -> Value {
    text.map_or(Value::nothing(span), |text| {
        Value::string(escape(&text.to_string()), span)
    })
}

/// Escapes control characters and characters that change the text direction, except line feeds and tabs.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if oci_registry::needs_escape(character) && !matches!(character, '\n' | '\t') {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Converts the bytes of a document to a string, or to a binary value if the bytes are not UTF-8.
pub(crate) fn document(bytes: &[u8], span: Span) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::string(text, span),
        Err(_) => Value::binary(bytes, span),
    }
}

/// Converts a number of bytes to a file size, or `None` to `null`.
pub(crate) fn size(bytes: Option<u64>, span: Span) -> Value {
    let bytes = bytes.and_then(|bytes| i64::try_from(bytes).ok());
    bytes.map_or(Value::nothing(span), |bytes| Value::filesize(bytes, span))
}

/// Converts an RFC 3339 timestamp to a date. A missing or invalid timestamp becomes `null`.
fn date(text: Option<&str>, span: Span) -> Value {
    let date = text.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    date.map_or(Value::nothing(span), |date| Value::date(date, span))
}

/// Converts platforms to a list of distinct strings of the form `os/architecture[/variant]`.
fn platforms(platforms: &[Platform], span: Span) -> Value {
    let mut distinct: Vec<String> = Vec::new();
    for platform in platforms {
        let platform = platform.to_string();
        if !distinct.contains(&platform) {
            distinct.push(platform);
        }
    }
    text_list(&distinct, span)
}

fn text_list(texts: &[String], span: Span) -> Value {
    let texts = texts.iter().map(|text| Value::string(escape(text), span));
    Value::list(texts.collect(), span)
}

/// Converts annotations to a record with one column per key.
fn annotations(annotations: &Annotations, span: Span) -> Value {
    let annotations = annotations
        .iter()
        .map(|(key, value)| (escape(key), Value::string(escape(value), span)));
    Value::record(annotations.collect(), span)
}

/// Columns of `oci catalog`.
pub(crate) fn repository_columns() -> Columns {
    columns([("name", Type::String), ("reference", Type::String)])
}

/// Columns that `oci tags --long` adds.
///
/// The output type of the command omits these columns, because an output type cannot depend on a flag.
pub(crate) const TAG_DETAILS: [&str; 8] = [
    "size",
    "created",
    "platforms",
    "targets",
    "artifact_type",
    "media_type",
    "annotations",
    "digest",
];

/// Adds `null` to a type.
///
/// Nushell rejects the assignment of `null` to a variable whose type does not include `null`.
fn nullable(of: Type) -> Type {
    Type::one_of([of, Type::Nothing])
}

/// Returns the values of the columns that `oci tags --long` adds. All values are `null` if the details are unknown,
/// except the targets of an incomplete version.
pub(crate) fn tag_details(
    details: Option<&Details>,
    incomplete_targets: Option<&[String]>,
    span: Span,
) -> Record {
    let Some(details) = details else {
        let unknown = TAG_DETAILS.map(|name| {
            let targets = incomplete_targets.filter(|_| name == "targets");
            let value = targets.map_or(Value::nothing(span), |targets| text_list(targets, span));
            (name.to_owned(), value)
        });
        return unknown.into_iter().collect();
    };
    let summary = &details.summary;
    record! {
        "size" => size(summary.size, span),
        "created" => date(summary.created.as_deref(), span),
        "platforms" => platforms(&summary.platforms, span),
        "targets" => text_list(&summary.targets, span),
        "artifact_type" => text(summary.artifact_type.as_ref(), span),
        "media_type" => text(Some(&details.media_type), span),
        "annotations" => annotations(&details.annotations, span),
        "digest" => text(Some(&details.digest), span),
    }
}

/// Columns of `oci ping`.
pub(crate) fn ping_columns() -> Columns {
    columns([
        ("reference", Type::String),
        ("access", Type::String),
        ("authenticated", Type::Bool),
        ("credential_source", nullable(Type::String)),
        ("rate_limit", nullable(record(rate_limit_columns()))),
        ("latency", Type::Duration),
    ])
}

fn rate_limit_columns() -> Columns {
    columns([
        ("limit", nullable(Type::Int)),
        ("remaining", nullable(Type::Int)),
        ("window", nullable(Type::Duration)),
    ])
}

/// Converts the result of a ping to a record.
pub(crate) fn ping(registry: &RegistryName, response: PingResponse, span: Span) -> Value {
    let number = |number: Option<u64>| {
        let number = number.and_then(|number| i64::try_from(number).ok());
        number.map_or(Value::nothing(span), |number| Value::int(number, span))
    };
    let duration = |duration: Duration| {
        let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Value::duration(nanoseconds, span)
    };
    let rate_limit = response.rate_limit.and_then(|rate_limit| {
        let (limit, remaining) = (number(rate_limit.limit), number(rate_limit.remaining));
        // Nushell cannot represent a number above `i64::MAX`.
        let is_known = !(limit.is_nothing() && remaining.is_nothing());
        let window = rate_limit.window.map_or(Value::nothing(span), duration);
        is_known.then(|| record! { "limit" => limit, "remaining" => remaining, "window" => window })
    });
    let row = record! {
        "reference" => Value::string(registry.as_str(), span),
        "access" => text(Some(response.access), span),
        "authenticated" => Value::bool(response.access == RegistryAccess::Authenticated, span),
        "credential_source" => text(response.credential_source, span),
        "rate_limit" => rate_limit.map_or(Value::nothing(span), |record| Value::record(record, span)),
        "latency" => duration(response.latency),
    };
    Value::record(row, span)
}

/// Columns of `oci copy`, `oci delete` and `oci tag`.
pub(crate) fn action_columns() -> Columns {
    columns([
        ("reference", Type::String),
        ("action", Type::String),
        ("digest", nullable(Type::String)),
    ])
}

/// Returns a row that reports an action on a reference.
pub(crate) fn action(
    reference: String,
    action: &str,
    digest: Option<&Digest>,
    span: Span,
) -> Value {
    let row = record! {
        "reference" => Value::string(reference, span),
        "action" => Value::string(action, span),
        "digest" => text(digest, span),
    };
    Value::record(row, span)
}

/// Columns of `oci blob --output`.
pub(crate) fn blob_file_columns() -> Columns {
    columns([
        ("path", Type::String),
        ("size", Type::Filesize),
        ("digest", Type::String),
    ])
}

/// Columns of `oci pull`.
pub(crate) fn file_columns() -> Columns {
    columns([
        ("path", Type::String),
        ("kind", Type::String),
        ("size", Type::Filesize),
        ("digest", Type::String),
    ])
}

/// Columns of `oci inspect`.
pub(crate) fn release_columns() -> Columns {
    columns([
        ("name", nullable(Type::String)),
        ("version", nullable(Type::String)),
        ("description", nullable(Type::String)),
        ("licenses", nullable(Type::String)),
        ("source", nullable(Type::String)),
        ("revision", nullable(Type::String)),
        ("created", nullable(Type::Date)),
        ("targets", table(target_columns())),
        ("reference", Type::String),
    ])
}

/// Columns of the `targets` of `oci inspect`.
///
/// If a column does not fit, Nushell replaces two or more columns after it by `...`, but draws a single one with a width
/// of one character. So `digest` is not the last column.
fn target_columns() -> Columns {
    columns([
        ("target", nullable(Type::String)),
        ("platform", nullable(Type::String)),
        ("size", nullable(Type::Filesize)),
        ("reference", Type::String),
        ("digest", Type::String),
        ("glibc", nullable(Type::String)),
    ])
}

/// Converts the metadata and targets of a release to a record.
pub(crate) fn release(location: &OpenLocation, inspection: &Inspection, span: Span) -> Value {
    let targets = inspection.targets.iter();
    let targets = targets.map(|target| target_row(location, target, span));
    let mut record = record! {
        "name" => text(inspection.name.as_ref(), span),
        "version" => text(inspection.version.as_ref(), span),
        "description" => text(inspection.description.as_ref(), span),
        "licenses" => text(inspection.licenses.as_ref(), span),
        "source" => text(inspection.source.as_ref(), span),
        "revision" => text(inspection.revision.as_ref(), span),
    };
    // Releases with uncommitted changes are rare, so the column is added only for them.
    if inspection.dirty == Some(true) {
        record.push("dirty", Value::bool(true, span));
    }
    for (column, value) in [
        ("created", date(inspection.created.as_deref(), span)),
        ("targets", Value::list(targets.collect(), span)),
    ] {
        record.push(column, value);
    }
    let conflicts = inspection
        .targets
        .iter()
        .flat_map(|target| &target.conflicts);
    let conflicts: BTreeSet<_> = conflicts.map(ToString::to_string).collect();
    // Conflicts are rare, so the column is added only if conflicts exist.
    if !conflicts.is_empty() {
        let conflicts: Vec<_> = conflicts.into_iter().collect();
        record.push("conflicts", text_list(&conflicts, span));
    }
    record.push(
        "reference",
        text(Some(location.reference(inspection.digest.clone())), span),
    );
    Value::record(record, span)
}

fn target_row(location: &OpenLocation, target: &InspectedTarget, span: Span) -> Value {
    let row = record! {
        "target" => text(target.target.as_ref(), span),
        "platform" => text(target.platform.as_ref(), span),
        "size" => size(target.size, span),
        "reference" => text(Some(location.reference(target.digest.clone())), span),
        "digest" => text(Some(&target.digest), span),
        "glibc" => text(target.glibc, span),
    };
    Value::record(row, span)
}

/// Columns of `oci referrers`.
pub(crate) fn referrer_columns() -> Columns {
    columns([
        ("artifact_type", nullable(Type::String)),
        ("size", nullable(Type::Filesize)),
        ("created", nullable(Type::Date)),
        ("annotations", Type::record()),
        ("reference", Type::String),
        ("digest", Type::String),
    ])
}

/// Converts a referrer to a row.
///
/// The `subject` column is added if `subject` is given. `summary` is the summary of the referrer's manifest, or `None`
/// if the manifest is missing or invalid.
pub(crate) fn referrer(
    location: &OpenLocation,
    referrer: &Descriptor,
    subject: Option<&Digest>,
    summary: Option<&Summary>,
    span: Span,
) -> Value {
    let created = summary.and_then(|summary| summary.created.as_deref());
    let created = created.or_else(|| referrer.annotation(annotation::CREATED));
    let mut row = record! {
        "artifact_type" => text(referrer.artifact_type.as_ref(), span),
        "size" => size(summary.and_then(|summary| summary.size), span),
        "created" => date(created, span),
        "annotations" => annotations(&referrer.annotations, span),
    };
    if let Some(subject) = subject {
        row.push(
            "subject",
            Value::string(location.reference(subject.clone()), span),
        );
    }
    row.push("reference", descriptor_reference(location, referrer, span));
    row.push("digest", text(Some(&referrer.digest), span));
    Value::record(row, span)
}

/// Columns of `oci reference`.
pub(crate) fn reference_columns() -> Columns {
    columns([
        ("registry", Type::String),
        ("repository", Type::String),
        ("tag", nullable(Type::String)),
        ("digest", nullable(Type::String)),
    ])
}

/// Converts a reference to a record of its parts.
pub(crate) fn reference(reference: &Reference, span: Span) -> Value {
    let record = record! {
        "registry" => text(Some(reference.registry()), span),
        "repository" => text(Some(reference.repository()), span),
        "tag" => text(reference.tag(), span),
        "digest" => text(reference.digest(), span),
    };
    Value::record(record, span)
}

/// Columns of `oci manifest`.
pub(crate) fn manifest_columns() -> Columns {
    columns([
        ("reference", Type::String),
        ("media_type", Type::String),
        ("artifact_type", nullable(Type::String)),
        ("size", nullable(Type::Filesize)),
        ("annotations", Type::record()),
        ("config", nullable(record(blob_columns()))),
        ("subject", nullable(record(subject_columns()))),
        ("layers", nullable(table(layer_columns()))),
        ("manifests", nullable(table(entry_columns()))),
        ("digest", Type::String),
    ])
}

fn blob_columns() -> Columns {
    columns([
        ("media_type", Type::String),
        ("size", nullable(Type::Filesize)),
        ("annotations", Type::record()),
        ("reference", Type::String),
        ("digest", Type::String),
    ])
}

fn subject_columns() -> Columns {
    columns([
        ("artifact_type", nullable(Type::String)),
        ("media_type", Type::String),
        ("annotations", Type::record()),
        ("reference", Type::String),
        ("digest", Type::String),
    ])
}

fn layer_columns() -> Columns {
    let mut layer = columns([
        ("title", nullable(Type::String)),
        ("kind", nullable(Type::String)),
    ]);
    layer.extend(blob_columns());
    layer
}

fn entry_columns() -> Columns {
    columns([
        ("platform", nullable(Type::String)),
        ("target", nullable(Type::String)),
        ("artifact_type", nullable(Type::String)),
        ("media_type", Type::String),
        ("size", nullable(Type::Filesize)),
        ("annotations", Type::record()),
        ("reference", Type::String),
        ("digest", Type::String),
    ])
}

/// Converts a manifest or index to a record.
pub(crate) fn manifest(location: &OpenLocation, manifest: &Manifest, span: Span) -> Value {
    let (image, index) = (manifest.as_image(), manifest.as_index());
    let rows = |descriptors: &[Descriptor], row: fn(&OpenLocation, &Descriptor, Span) -> Record| {
        let rows = descriptors
            .iter()
            .map(|descriptor| Value::record(row(location, descriptor, span), span));
        Value::list(rows.collect(), span)
    };
    let nothing = Value::nothing(span);
    let record = record! {
        "reference" => text(Some(location.reference(manifest.digest().clone())), span),
        "media_type" => text(Some(manifest.media_type()), span),
        "artifact_type" => text(manifest.artifact_type(), span),
        "size" => size(Summary::from_manifest(manifest).size, span),
        "annotations" => annotations(manifest.annotations(), span),
        "config" => image.map_or(nothing.clone(), |image| Value::record(blob(location, &image.config, span), span)),
        "subject" => manifest
            .subject()
            .map_or(nothing.clone(), |descriptor| Value::record(subject(location, descriptor, span), span)),
        "layers" => image.map_or(nothing.clone(), |image| rows(&image.layers, layer)),
        "manifests" => index.map_or(nothing, |index| rows(&index.manifests, entry)),
        "digest" => text(Some(manifest.digest()), span),
    };
    Value::record(record, span)
}

fn descriptor_reference(location: &OpenLocation, descriptor: &Descriptor, span: Span) -> Value {
    let identifier = Identifier::Digest(descriptor.digest.clone());
    Value::string(location.reference(identifier), span)
}

fn blob(location: &OpenLocation, descriptor: &Descriptor, span: Span) -> Record {
    record! {
        "media_type" => text(Some(&descriptor.media_type), span),
        "size" => size(Some(descriptor.size), span),
        "annotations" => annotations(&descriptor.annotations, span),
        "reference" => descriptor_reference(location, descriptor, span),
        "digest" => text(Some(&descriptor.digest), span),
    }
}

fn subject(location: &OpenLocation, descriptor: &Descriptor, span: Span) -> Record {
    record! {
        "artifact_type" => text(descriptor.artifact_type.as_ref(), span),
        "media_type" => text(Some(&descriptor.media_type), span),
        "annotations" => annotations(&descriptor.annotations, span),
        "reference" => descriptor_reference(location, descriptor, span),
        "digest" => text(Some(&descriptor.digest), span),
    }
}

fn layer(location: &OpenLocation, descriptor: &Descriptor, span: Span) -> Record {
    let mut layer = record! {
        "title" => text(descriptor.annotation(annotation::TITLE), span),
        "kind" => text(descriptor.annotation(annotation::KIND), span),
    };
    layer.extend(blob(location, descriptor, span));
    layer
}

fn entry(location: &OpenLocation, descriptor: &Descriptor, span: Span) -> Record {
    let platform = descriptor.platform.as_ref();
    let platform = platform.filter(|platform| platform::is_known(platform));
    record! {
        "platform" => text(platform, span),
        "target" => text(descriptor.annotation(annotation::TARGET), span),
        "artifact_type" => text(descriptor.artifact_type.as_ref(), span),
        "media_type" => text(Some(&descriptor.media_type), span),
        "size" => size(stated_size(descriptor), span),
        "annotations" => annotations(&descriptor.annotations, span),
        "reference" => descriptor_reference(location, descriptor, span),
        "digest" => text(Some(&descriptor.digest), span),
    }
}

/// Returns the size that the annotation of an index entry states.
fn stated_size(descriptor: &Descriptor) -> Option<u64> {
    descriptor.annotation(annotation::SIZE)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidi_characters_are_escaped_in_cells() {
        let (raw, safe) = ("a\u{202e}b\u{1b}[m\nc", "a\\u{202e}b\\u{1b}[m\nc");
        let span = Span::test_data();
        assert_eq!(text(Some(raw), span), Value::test_string(safe));
        let list = Value::test_list(vec![Value::test_string(safe)]);
        assert_eq!(text_list(&[raw.to_owned()], span), list);
        let cells = annotations(&Annotations::from([(raw.into(), raw.into())]), span);
        let expected = [(safe.to_owned(), Value::test_string(safe))];
        assert_eq!(
            cells,
            Value::test_record(expected.into_iter().collect::<Record>())
        );
    }
}
