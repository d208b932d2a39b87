//! Values of the core as values of Nushell, and the columns of the tables that they make.
//!
//! Owns the columns of every row and record, with their types: each row has all of them, `null` where something is not
//! known. Characters of a text that a terminal acts on are escaped.

use std::collections::BTreeSet;

use chrono::DateTime;
use nu_protocol::{Record, Span, Type, Value, record};
use oci_package::{Details, InspectedTarget, Inspection, Summary, annotation, platform};
use oci_registry::{Annotations, Descriptor, Digest, Identifier, Manifest, Platform, Reference};

use crate::place::Place;

/// The columns of a table or record, with their types.
pub(crate) type Columns = Vec<(String, Type)>;

fn columns<const N: usize>(columns: [(&str, Type); N]) -> Columns {
    columns
        .into_iter()
        .map(|(name, of)| (name.to_owned(), of))
        .collect()
}

/// A table of these columns.
pub(crate) fn table(columns: Columns) -> Type {
    Type::Table(columns.into())
}

/// A record of these columns.
pub(crate) fn record(columns: Columns) -> Type {
    Type::Record(columns.into())
}

/// A text, if there is one.
pub(crate) fn text(text: Option<impl ToString>, span: Span) -> Value {
    text.map_or(Value::nothing(span), |text| {
        Value::string(shown(&text.to_string()), span)
    })
}

/// A text in which control and direction-changing characters are escaped, except line ends and tabs.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if oci_registry::is_active(character) && !matches!(character, '\n' | '\t') {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The exact bytes of a document: as text, which is what most are.
pub(crate) fn document(bytes: &[u8], span: Span) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::string(text, span),
        Err(_) => Value::binary(bytes, span),
    }
}

/// A number of bytes, if it is known.
pub(crate) fn size(bytes: Option<u64>, span: Span) -> Value {
    let bytes = bytes.and_then(|bytes| i64::try_from(bytes).ok());
    bytes.map_or(Value::nothing(span), |bytes| Value::filesize(bytes, span))
}

/// A moment, if it is known and written as it should be.
fn date(text: Option<&str>, span: Span) -> Value {
    let date = text.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    date.map_or(Value::nothing(span), |date| Value::date(date, span))
}

/// Platforms in the form `os/architecture[/variant]`, each once.
fn platforms(platforms: &[Platform], span: Span) -> Value {
    let mut shown: Vec<String> = Vec::new();
    for platform in platforms {
        let platform = platform.to_string();
        if !shown.contains(&platform) {
            shown.push(platform);
        }
    }
    texts(&shown, span)
}

fn texts(texts: &[String], span: Span) -> Value {
    let texts = texts.iter().map(|text| Value::string(shown(text), span));
    Value::list(texts.collect(), span)
}

/// Annotations, a column each.
fn annotations(annotations: &Annotations, span: Span) -> Value {
    let annotations = annotations
        .iter()
        .map(|(key, value)| (shown(key), Value::string(shown(value), span)));
    Value::record(annotations.collect(), span)
}

/// The columns of a repository in a catalog.
pub(crate) fn repository_columns() -> Columns {
    columns([("name", Type::String), ("reference", Type::String)])
}

/// The columns that a tag has at length, beside its name and reference.
///
/// They are no type: a type says what every table of a command has, and these are there when they are asked for.
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

/// A type whose values may be unknown: the shell lets no `null` into a variable of a type that does not say so.
fn nullable(of: Type) -> Type {
    Type::one_of([of, Type::Nothing])
}

/// What a tag names, at length; all unknown where there is nothing.
pub(crate) fn tag_details(named: Option<&Details>, span: Span) -> Record {
    let Some(named) = named else {
        let unknown = TAG_DETAILS.map(|name| (name.to_owned(), Value::nothing(span)));
        return unknown.into_iter().collect();
    };
    let summary = &named.summary;
    record! {
        "size" => size(summary.size, span),
        "created" => date(summary.created.as_deref(), span),
        "platforms" => platforms(&summary.platforms, span),
        "targets" => texts(&summary.targets, span),
        "artifact_type" => text(summary.artifact_type.as_ref(), span),
        "media_type" => text(Some(&named.media_type), span),
        "annotations" => annotations(&named.annotations, span),
        "digest" => text(Some(&named.digest), span),
    }
}

/// The columns of what a registry answered.
pub(crate) fn ping_columns() -> Columns {
    columns([
        ("reference", Type::String),
        ("authenticated", Type::Bool),
        ("credential_source", nullable(Type::String)),
        ("latency", Type::Duration),
    ])
}

/// The columns of something that was done, or would be.
pub(crate) fn action_columns() -> Columns {
    columns([
        ("reference", Type::String),
        ("action", Type::String),
        ("digest", nullable(Type::String)),
    ])
}

/// What was done to what has this name.
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

/// The columns of a blob that was written to a file.
pub(crate) fn blob_file_columns() -> Columns {
    columns([
        ("path", Type::String),
        ("size", Type::Filesize),
        ("digest", Type::String),
    ])
}

/// The columns of a file that was fetched.
pub(crate) fn file_columns() -> Columns {
    columns([
        ("path", Type::String),
        ("kind", Type::String),
        ("size", Type::Filesize),
        ("digest", Type::String),
    ])
}

/// The columns of what a release page shows.
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

fn target_columns() -> Columns {
    columns([
        ("target", nullable(Type::String)),
        ("platform", nullable(Type::String)),
        ("glibc", nullable(Type::String)),
        ("size", nullable(Type::Filesize)),
        ("reference", Type::String),
        ("digest", Type::String),
    ])
}

/// What a release page shows.
pub(crate) fn release(place: &Place, said: &Inspection, span: Span) -> Value {
    let targets = said.targets.iter();
    let targets = targets.map(|offered| target(place, offered, span));
    let mut record = record! {
        "name" => text(said.name.as_ref(), span),
        "version" => text(said.version.as_ref(), span),
        "description" => text(said.description.as_ref(), span),
        "licenses" => text(said.licenses.as_ref(), span),
        "source" => text(said.source.as_ref(), span),
        "revision" => text(said.revision.as_ref(), span),
        "created" => date(said.created.as_deref(), span),
        "targets" => Value::list(targets.collect(), span),
    };
    let conflicts = said.targets.iter().flat_map(|target| &target.conflicts);
    let conflicts: BTreeSet<_> = conflicts.map(ToString::to_string).collect();
    // Rare, so no column of every release.
    if !conflicts.is_empty() {
        let conflicts: Vec<_> = conflicts.into_iter().collect();
        record.push("conflicts", texts(&conflicts, span));
    }
    record.push(
        "reference",
        text(Some(place.reference(said.digest.clone())), span),
    );
    Value::record(record, span)
}

fn target(place: &Place, target: &InspectedTarget, span: Span) -> Value {
    let row = record! {
        "target" => text(target.target.as_ref(), span),
        "platform" => text(target.platform.as_ref(), span),
        "glibc" => text(target.glibc, span),
        "size" => size(target.size, span),
        "reference" => text(Some(place.reference(target.digest.clone())), span),
        "digest" => text(Some(&target.digest), span),
    };
    Value::record(row, span)
}

/// The columns of a referrer.
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

/// A referrer as a list has it, what it is about if that is to be said, and what its manifest says if it is there.
pub(crate) fn referrer(
    place: &Place,
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
            Value::string(place.reference(subject.clone()), span),
        );
    }
    row.push("reference", reference_of(place, referrer, span));
    row.push("digest", text(Some(&referrer.digest), span));
    Value::record(row, span)
}

/// The columns of a name that was taken apart.
pub(crate) fn reference_columns() -> Columns {
    columns([
        ("registry", Type::String),
        ("repository", Type::String),
        ("tag", nullable(Type::String)),
        ("digest", nullable(Type::String)),
    ])
}

/// A name, taken apart.
pub(crate) fn reference(reference: &Reference, span: Span) -> Value {
    let record = record! {
        "registry" => text(Some(reference.registry()), span),
        "repository" => text(Some(reference.repository()), span),
        "tag" => text(reference.tag(), span),
        "digest" => text(reference.digest(), span),
    };
    Value::record(record, span)
}

/// The columns of a manifest.
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

/// A manifest as a record.
pub(crate) fn manifest(place: &Place, manifest: &Manifest, span: Span) -> Value {
    let (image, index) = (manifest.as_image(), manifest.as_index());
    let rows = |descriptors: &[Descriptor], row: fn(&Place, &Descriptor, Span) -> Record| {
        let rows = descriptors
            .iter()
            .map(|descriptor| Value::record(row(place, descriptor, span), span));
        Value::list(rows.collect(), span)
    };
    let nothing = Value::nothing(span);
    let record = record! {
        "reference" => text(Some(place.reference(manifest.digest().clone())), span),
        "media_type" => text(Some(manifest.media_type()), span),
        "artifact_type" => text(manifest.artifact_type(), span),
        "size" => size(Summary::of(manifest).size, span),
        "annotations" => annotations(manifest.annotations(), span),
        "config" => image.map_or(nothing.clone(), |image| Value::record(blob(place, &image.config, span), span)),
        "subject" => manifest
            .subject()
            .map_or(nothing.clone(), |descriptor| Value::record(subject(place, descriptor, span), span)),
        "layers" => image.map_or(nothing.clone(), |image| rows(&image.layers, layer)),
        "manifests" => index.map_or(nothing, |index| rows(&index.manifests, entry)),
        "digest" => text(Some(manifest.digest()), span),
    };
    Value::record(record, span)
}

fn reference_of(place: &Place, descriptor: &Descriptor, span: Span) -> Value {
    let identifier = Identifier::Digest(descriptor.digest.clone());
    Value::string(place.reference(identifier), span)
}

fn blob(place: &Place, descriptor: &Descriptor, span: Span) -> Record {
    record! {
        "media_type" => text(Some(&descriptor.media_type), span),
        "size" => size(Some(descriptor.size), span),
        "annotations" => annotations(&descriptor.annotations, span),
        "reference" => reference_of(place, descriptor, span),
        "digest" => text(Some(&descriptor.digest), span),
    }
}

fn subject(place: &Place, descriptor: &Descriptor, span: Span) -> Record {
    record! {
        "artifact_type" => text(descriptor.artifact_type.as_ref(), span),
        "media_type" => text(Some(&descriptor.media_type), span),
        "annotations" => annotations(&descriptor.annotations, span),
        "reference" => reference_of(place, descriptor, span),
        "digest" => text(Some(&descriptor.digest), span),
    }
}

fn layer(place: &Place, descriptor: &Descriptor, span: Span) -> Record {
    let mut layer = record! {
        "title" => text(descriptor.annotation(annotation::TITLE), span),
        "kind" => text(descriptor.annotation(annotation::KIND), span),
    };
    layer.extend(blob(place, descriptor, span));
    layer
}

fn entry(place: &Place, descriptor: &Descriptor, span: Span) -> Record {
    let platform = descriptor.platform.as_ref();
    let platform = platform.filter(|platform| platform::is_known(platform));
    record! {
        "platform" => text(platform, span),
        "target" => text(descriptor.annotation(annotation::TARGET), span),
        "artifact_type" => text(descriptor.artifact_type.as_ref(), span),
        "media_type" => text(Some(&descriptor.media_type), span),
        "size" => size(stated_size(descriptor), span),
        "annotations" => annotations(&descriptor.annotations, span),
        "reference" => reference_of(place, descriptor, span),
        "digest" => text(Some(&descriptor.digest), span),
    }
}

/// The size of a manifest's content, as the index that lists it says.
fn stated_size(descriptor: &Descriptor) -> Option<u64> {
    descriptor.annotation(annotation::SIZE)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_characters_are_escaped_in_cells() {
        let (raw, safe) = ("a\u{202e}b\u{1b}[m\nc", "a\\u{202e}b\\u{1b}[m\nc");
        let span = Span::test_data();
        assert_eq!(text(Some(raw), span), Value::test_string(safe));
        let list = Value::test_list(vec![Value::test_string(safe)]);
        assert_eq!(texts(&[raw.to_owned()], span), list);
        let cells = annotations(&Annotations::from([(raw.into(), raw.into())]), span);
        let expected = [(safe.to_owned(), Value::test_string(safe))];
        assert_eq!(
            cells,
            Value::test_record(expected.into_iter().collect::<Record>())
        );
    }
}
