//! Validation of JSON messages against the schema in `MESSAGES.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Schema of the JSON messages: for each reason, the fields and their types.
#[derive(Debug)]
pub struct Schema(BTreeMap<String, BTreeMap<String, String>>);

impl Schema {
    /// Reads the schema from `MESSAGES.md`, which has a section for each reason and a table row for each field.
    #[must_use]
    pub fn from_documentation() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cargo-oci/MESSAGES.md");
        let text = fs::read_to_string(path).expect("MESSAGES.md exists");
        let mut reasons: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut reason = None;
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                let name = heading.trim_matches('`').to_owned();
                reasons.insert(name.clone(), BTreeMap::new());
                reason = Some(name);
            } else if let Some(row) = line.strip_prefix("| `") {
                let (field, rest) = row
                    .split_once("` | ")
                    .expect("a row has a field and a type");
                let (kind, _) = rest
                    .split_once(" | ")
                    .expect("a row has a type and a meaning");
                let fields = reasons.get_mut(reason.as_ref().expect("a row is in a section"));
                let fields = fields.expect("a row is in a section");
                fields.insert(field.to_owned(), kind.to_owned());
            }
        }
        assert!(reasons.len() >= 9, "{reasons:#?}");
        assert!(reasons.values().all(|fields| !fields.is_empty()));
        Self(reasons)
    }

    /// Validates every line of a program's stdout against the schema. Returns the `oci-` messages. Skips cargo's
    /// messages.
    #[track_caller]
    #[must_use]
    pub fn validate(&self, stdout: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        for line in stdout.lines() {
            let object: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("invalid JSON ({error}): {line}"));
            let reason = object["reason"].as_str();
            let reason = reason.unwrap_or_else(|| panic!("no `reason`: {line}"));
            if !reason.starts_with("oci-") {
                continue;
            }
            let fields = self.0.get(reason);
            let fields = fields.unwrap_or_else(|| panic!("`{reason}` is not documented: {line}"));
            let found: Vec<_> = object.as_object().into_iter().flatten().collect();
            for (name, value) in found.iter().filter(|(name, _)| *name != "reason") {
                let kind = fields.get(*name);
                let kind = kind.unwrap_or_else(|| panic!("`{name}` is not documented: {line}"));
                assert!(has_type(value, kind), "`{name}` is not a {kind}: {line}");
            }
            for name in fields.keys() {
                assert!(object.get(name).is_some(), "`{name}` is missing: {line}");
            }
            messages.push(object);
        }
        messages
    }
}

/// Whether the type of a value is `kind`, a type name of `MESSAGES.md`.
fn has_type(value: &Value, kind: &str) -> bool {
    if let Some(kind) = kind.strip_suffix(" or null") {
        return value.is_null() || has_type(value, kind);
    }
    let all = |is_one: fn(&Value) -> bool| {
        value
            .as_array()
            .is_some_and(|values| values.iter().all(is_one))
    };
    match kind {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "digest" => value.as_str().is_some_and(|text| {
            let hex = text.strip_prefix("sha256:").unwrap_or_default();
            hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        }),
        "list of strings" => all(Value::is_string),
        "list of objects" => all(Value::is_object),
        choices if choices.starts_with('`') => choices
            .split(", ")
            .any(|choice| value.as_str() == Some(choice.trim_matches('`'))),
        other => panic!("unknown type `{other}`"),
    }
}
