//! Settings in `[package.metadata.oci]`, with defaults from `[workspace.metadata.oci]`.
//!
//! This module defines the names and types of the keys, and how packages inherit them. Unknown keys are errors. Other
//! modules parse the strings.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use cargo_metadata::Package;
use oci_package::platform::{HOST_TUPLE, target_name};
use oci_package::{FileKind, find_similar_name};
use oci_registry::{ErrorKind, Failure, Hint};
use serde_json::{Map, Value};
use snafu::{OptionExt, ResultExt, Snafu, ensure};

use super::Workspace;

/// All keys, in the order in which messages list them.
const KEYS: [&str; 11] = [
    "registry",
    "repository",
    "release-targets",
    "publish",
    "name-template",
    "include",
    "annotations",
    "kinds",
    "tags",
    "floating",
    "archive",
];

/// Former name of the key `release-targets`. Renamed because the name suggested a list of targets to build.
const OLD_RELEASE_TARGETS: &str = "targets";

#[derive(Debug, Snafu)]
#[snafu(display("failed to read `{table}` of `{}`", file.display()), context(name(ReadSnafu)))]
struct Error {
    table: &'static str,
    file: PathBuf,
    source: InvalidValue,
}

#[derive(Debug, Snafu)]
enum InvalidValue {
    #[snafu(display("unknown key `{key}`"))]
    UnknownKey { key: String },
    #[snafu(display("the key `{key}` was renamed to `{new}`"))]
    RenamedKey { key: String, new: &'static str },
    #[snafu(display("`{key}` must be {expected}, not {found}"))]
    WrongType {
        key: String,
        expected: &'static str,
        found: &'static str,
    },
    #[snafu(display("`{key}` must not be empty"))]
    Empty { key: String },
    #[snafu(display("`{key}` contains a control character"))]
    Control { key: String },
    #[snafu(display("`{key}` contains `{entry}` twice"))]
    Repeated { key: String, entry: String },
    #[snafu(display("`{key}` contains `{entry}`, which is not a target triple"))]
    NotATriple { key: String, entry: String },
    #[snafu(display("`{key}` contains an unknown kind"))]
    NotAKind {
        key: String,
        source: oci_package::UnknownFileKind,
    },
    #[snafu(display("`{key}` contains `{kind}`, which cargo does not build"))]
    NotBuilt { key: String, kind: FileKind },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        let hint: Hint = match &self.source {
            InvalidValue::UnknownKey { key } => match find_similar_name(key, KEYS) {
                Some(near) => format!("a key with a similar name exists: `{near}`").into(),
                None => format!("choose from the keys `{}`", KEYS.join("`, `")).into(),
            },
            InvalidValue::RenamedKey { key, new } => {
                format!("rename `{key}` to `{new}`; its value stays the same").into()
            }
            InvalidValue::NotBuilt {
                kind: FileKind::File,
                ..
            } => "add other files with `--file NAME=PATH`".into(),
            InvalidValue::NotBuilt { .. } => "add the `.crate` file with `--crate`".into(),
            InvalidValue::WrongType { .. }
            | InvalidValue::Empty { .. }
            | InvalidValue::Control { .. }
            | InvalidValue::Repeated { .. }
            | InvalidValue::NotATriple { .. }
            | InvalidValue::NotAKind { .. } => return Vec::new(),
        };
        vec![hint]
    }
}

/// Settings of one package. `None` means that neither manifest sets the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackageSettings {
    /// `registry`: registry and prefix of repositories, `HOST[:PORT][/PREFIX]` or `oci:DIR`.
    pub(crate) registry: Option<String>,
    /// `repository`: name under the registry. The default is the package name.
    pub(crate) repository: Option<String>,
    /// `release-targets`: declared target triples of a release, in the order of the manifest.
    pub(crate) release_targets: Option<Vec<String>>,
    /// `publish`: whether the package is published.
    pub(crate) publish: Option<bool>,
    /// `name-template`: template for the names of published files.
    pub(crate) name_template: Option<String>,
    /// `include`: patterns of additional files, relative to the package.
    pub(crate) include: Option<Vec<String>>,
    /// `annotations`: annotations of the workspace and of the package. Annotations of the package have precedence.
    pub(crate) annotations: BTreeMap<String, String>,
    /// `kinds`: kinds of built files to publish.
    pub(crate) kinds: Option<Vec<FileKind>>,
    /// `tags`: tags to use instead of the version. If the list is empty, the version is the only tag.
    pub(crate) tags: Option<Vec<String>>,
    /// `floating`: whether tags like `1.2` and `latest` are moved to a release.
    pub(crate) floating: Option<bool>,
    /// `archive`: whether the files are packed into one tar archive.
    pub(crate) archive: Option<bool>,
    /// Table that sets each key. Messages name the table.
    origins: BTreeMap<&'static str, SettingsTable>,
}

/// Table in a manifest that contains settings.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SettingsTable {
    table: &'static str,
    file: PathBuf,
}

impl PackageSettings {
    /// Reads the settings of a workspace member.
    pub(crate) fn load(workspace: &Workspace, package: &Package) -> Result<Self, super::Error> {
        let mut settings = Self::default();
        settings.read(
            &workspace.metadata,
            "workspace.metadata.oci",
            &workspace.root.join("Cargo.toml"),
        )?;
        settings.read(
            &package.metadata,
            "package.metadata.oci",
            package.manifest_path.as_std_path(),
        )?;
        Ok(settings)
    }

    /// Whether the package is published. The default is `true`.
    pub(crate) fn is_published(&self) -> bool {
        self.publish != Some(false)
    }

    /// Returns the location at which a key is set, such as `registry` of `package.metadata.oci` in
    /// `/home/me/widgets/Cargo.toml`, or `None` if the key is not set.
    pub(crate) fn location(&self, key: &str) -> Option<String> {
        let (key, origin) = self.origins.get_key_value(key)?;
        Some(format!(
            "`{key}` of `{}` in `{}`",
            origin.table,
            origin.file.display()
        ))
    }

    /// Returns the location of a table that sets at least one key, if any.
    pub(crate) fn first_table(&self) -> Option<String> {
        let origin = self.origins.values().next()?;
        Some(format!("`{}` in `{}`", origin.table, origin.file.display()))
    }

    /// Reads the table of one manifest. Its values override those that were read earlier.
    fn read(&mut self, metadata: &Value, table: &'static str, file: &Path) -> Result<(), Error> {
        self.try_read(metadata, table, file)
            .context(ReadSnafu { table, file })
    }

    fn try_read(
        &mut self,
        metadata: &Value,
        table: &'static str,
        file: &Path,
    ) -> Result<(), InvalidValue> {
        let Some(value) = metadata.get("oci") else {
            return Ok(());
        };
        for (name, value) in parse_table("oci", value)? {
            if name == OLD_RELEASE_TARGETS {
                let new = "release-targets";
                return RenamedKeySnafu { key: name, new }.fail();
            }
            let key = KEYS
                .into_iter()
                .find(|key| key == name)
                .context(UnknownKeySnafu { key: name })?;
            self.set(key, value)?;
            let file = file.to_owned();
            self.origins.insert(key, SettingsTable { table, file });
        }
        Ok(())
    }

    fn set(&mut self, key: &'static str, value: &Value) -> Result<(), InvalidValue> {
        match key {
            "registry" => self.registry = Some(parse_text(key, value)?),
            "repository" => self.repository = Some(parse_text(key, value)?),
            "release-targets" => self.release_targets = Some(parse_triples(key, value)?),
            "publish" => self.publish = Some(parse_boolean(key, value)?),
            "name-template" => self.name_template = Some(parse_text(key, value)?),
            "include" => self.include = Some(parse_texts(key, value)?),
            "annotations" => {
                for (name, value) in parse_table(key, value)? {
                    check_text(key, name)?;
                    let value = parse_text(&format!("{key}.{name}"), value)?;
                    self.annotations.insert(name.clone(), value);
                }
            }
            "kinds" => self.kinds = Some(parse_kinds(key, value)?),
            "tags" => self.tags = Some(parse_texts(key, value)?),
            "floating" => self.floating = Some(parse_boolean(key, value)?),
            "archive" => self.archive = Some(parse_boolean(key, value)?),
            _ => unreachable!("every key of `KEYS` is matched"),
        }
        Ok(())
    }
}

fn parse_table<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, InvalidValue> {
    value.as_object().context(wrong_type(key, "a table", value))
}

fn parse_boolean(key: &str, value: &Value) -> Result<bool, InvalidValue> {
    value
        .as_bool()
        .context(wrong_type(key, "`true` or `false`", value))
}

fn parse_text(key: &str, value: &Value) -> Result<String, InvalidValue> {
    let text = value.as_str().context(wrong_type(key, "a string", value))?;
    check_text(key, text)?;
    Ok(text.to_owned())
}

/// Rejects empty strings and control characters. A line break in a value would add a line to output that programs read
/// line by line.
fn check_text(key: &str, text: &str) -> Result<(), InvalidValue> {
    ensure!(!text.is_empty(), EmptySnafu { key });
    ensure!(!text.contains(char::is_control), ControlSnafu { key });
    Ok(())
}

/// Parses a list of distinct, non-empty strings.
fn parse_texts(key: &str, value: &Value) -> Result<Vec<String>, InvalidValue> {
    let list = value
        .as_array()
        .context(wrong_type(key, "a list of strings", value))?;
    let mut texts: Vec<String> = Vec::with_capacity(list.len());
    for entry in list {
        let entry = entry
            .as_str()
            .context(wrong_type(key, "a list of strings", value))?;
        check_text(key, entry)?;
        ensure!(
            !texts.iter().any(|known| known == entry),
            RepeatedSnafu { key, entry }
        );
        texts.push(entry.to_owned());
    }
    Ok(texts)
}

/// Parses a list of target triples. An empty list is an error, because no target could be pushed.
fn parse_triples(key: &str, value: &Value) -> Result<Vec<String>, InvalidValue> {
    let mut triples = Vec::new();
    for entry in &parse_texts(key, value)? {
        let triple = declared_target(entry).context(NotATripleSnafu { key, entry })?;
        ensure!(!triples.contains(&triple), RepeatedSnafu { key, entry });
        triples.push(triple);
    }
    ensure!(!triples.is_empty(), EmptySnafu { key });
    Ok(triples)
}

/// Returns the name of a declared target in the syntax of `--target`.
///
/// Returns `None` for an invalid target, and for `host-tuple`, because the host depends on the machine.
pub(crate) fn declared_target(text: &str) -> Option<String> {
    let name = target_name(text, HOST_TUPLE);
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let is_triple = name.contains('-') && name != HOST_TUPLE;
    let is_specification = text.strip_suffix(".json").is_some() && !name.is_empty();
    (is_plain && (is_triple || is_specification)).then_some(name)
}

fn parse_kinds(key: &str, value: &Value) -> Result<Vec<FileKind>, InvalidValue> {
    let mut kinds = Vec::new();
    for text in parse_texts(key, value)? {
        let kind: FileKind = text.parse().context(NotAKindSnafu { key })?;
        ensure!(kind.is_built(), NotBuiltSnafu { key, kind });
        kinds.push(kind);
    }
    ensure!(!kinds.is_empty(), EmptySnafu { key });
    Ok(kinds)
}

fn wrong_type<'a>(
    key: &'a str,
    expected: &'static str,
    value: &Value,
) -> WrongTypeSnafu<&'a str, &'static str, &'static str> {
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(entries) if entries.iter().all(Value::is_string) => "a list of strings",
        Value::Array(_) => "a list of other values",
        Value::Object(_) => "a table",
    };
    WrongTypeSnafu {
        key,
        expected,
        found,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hints;

    const FILE: &str = "/home/me/widgets/Cargo.toml";

    fn read(workspace: &Value, package: &Value) -> Result<PackageSettings, Error> {
        let mut settings = PackageSettings::default();
        let root = Path::new("/home/me/Cargo.toml");
        settings.read(&json!({ "oci": workspace }), "workspace.metadata.oci", root)?;
        settings.read(
            &json!({ "oci": package }),
            "package.metadata.oci",
            Path::new(FILE),
        )?;
        Ok(settings)
    }

    /// Returns the message, the cause and the hint of an error.
    fn messages_of(package: &Value) -> [String; 3] {
        let error = read(&json!({}), package).unwrap_err();
        let (message, cause) = (error.to_string(), error.source.to_string());
        let hints = hints::describe(&error.into());
        [message, cause, hints.concat()]
    }

    #[test]
    fn every_settings_key_is_read() {
        let settings = read(
            &json!({}),
            &json!({
                "registry": "ghcr.io/acme",
                "repository": "tools/widgets",
                "release-targets": ["x86_64-unknown-linux-gnu", "thumbv8m.main-none-eabi"],
                "publish": true,
                "name-template": "{bin}{ext}",
                "include": ["LICENSE*"],
                "annotations": { "org.example.team": "core" },
                "kinds": ["bin", "debuginfo"],
                "tags": ["nightly"],
                "floating": true,
                "archive": false,
            }),
        )
        .unwrap();
        let origins = settings.origins.clone();
        assert_eq!(origins.keys().count(), KEYS.len());
        let expected = PackageSettings {
            registry: Some("ghcr.io/acme".into()),
            repository: Some("tools/widgets".into()),
            release_targets: Some(vec![
                "x86_64-unknown-linux-gnu".into(),
                "thumbv8m.main-none-eabi".into(),
            ]),
            publish: Some(true),
            name_template: Some("{bin}{ext}".into()),
            include: Some(vec!["LICENSE*".into()]),
            annotations: BTreeMap::from([("org.example.team".into(), "core".into())]),
            kinds: Some(vec![FileKind::Bin, FileKind::Debuginfo]),
            tags: Some(vec!["nightly".into()]),
            floating: Some(true),
            archive: Some(false),
            origins,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn package_inherits_unset_keys_of_workspace() {
        let settings = read(
            &json!({
                "registry": "ghcr.io/acme",
                "publish": false,
                "release-targets": ["a-b", "c-d"],
                "annotations": { "team": "core", "tier": "1" },
            }),
            &json!({
                "publish": true,
                "release-targets": ["a-b"],
                "annotations": { "tier": "2" },
            }),
        )
        .unwrap();
        assert_eq!(settings.registry.as_deref(), Some("ghcr.io/acme"));
        assert_eq!(settings.release_targets, Some(vec!["a-b".to_owned()]));
        assert!(settings.is_published());
        let annotations = settings
            .annotations
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()));
        assert_eq!(
            annotations.collect::<Vec<_>>(),
            [("team", "core"), ("tier", "2")]
        );
        assert_eq!(
            settings.location("registry").as_deref(),
            Some("`registry` of `workspace.metadata.oci` in `/home/me/Cargo.toml`")
        );
        assert_eq!(
            settings.location("publish").as_deref(),
            Some("`publish` of `package.metadata.oci` in `/home/me/widgets/Cargo.toml`")
        );
        assert_eq!(settings.location("kinds"), None);
    }

    #[test]
    fn package_without_settings_is_published() {
        let mut settings = PackageSettings::default();
        settings
            .read(&Value::Null, "package.metadata.oci", Path::new(FILE))
            .unwrap();
        assert_eq!(settings, PackageSettings::default());
        assert!(settings.is_published());
        assert!(
            !read(&json!({}), &json!({ "publish": false }))
                .unwrap()
                .is_published()
        );
    }

    #[test]
    fn unknown_key_reports_manifest_and_similar_key() {
        assert_eq!(
            messages_of(&json!({ "registery": "ghcr.io/acme" })),
            [
                "failed to read `package.metadata.oci` of `/home/me/widgets/Cargo.toml`",
                "unknown key `registery`",
                "a key with a similar name exists: `registry`",
            ]
        );
        assert_eq!(
            messages_of(&json!({ "targets": ["a-b"] }))[1..],
            [
                "the key `targets` was renamed to `release-targets`",
                "rename `targets` to `release-targets`; its value stays the same",
            ]
        );
        assert_eq!(
            messages_of(&json!({ "name_template": "x" }))[2],
            "a key with a similar name exists: `name-template`"
        );
        assert!(
            messages_of(&json!({ "colour": 1 }))[2]
                .starts_with("choose from the keys `registry`, `repository`")
        );
    }

    #[test]
    fn error_in_workspace_table_names_workspace_manifest() {
        let error = read(&json!({ "kind": [] }), &json!({})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read `workspace.metadata.oci` of `/home/me/Cargo.toml`"
        );
    }

    #[test]
    fn invalid_values_are_rejected() {
        let cases = [
            (json!("x"), "`oci` must be a table, not a string"),
            (
                json!({ "publish": "no" }),
                "`publish` must be `true` or `false`, not a string",
            ),
            (
                json!({ "publish": ["ghcr"] }),
                "`publish` must be `true` or `false`, not a list of strings",
            ),
            (
                json!({ "registry": 5 }),
                "`registry` must be a string, not a number",
            ),
            (json!({ "registry": "" }), "`registry` must not be empty"),
            (
                json!({ "release-targets": "a-b" }),
                "`release-targets` must be a list of strings, not a string",
            ),
            (
                json!({ "release-targets": ["a-b", 1] }),
                "`release-targets` must be a list of strings, not a list of other values",
            ),
            (
                json!({ "release-targets": [] }),
                "`release-targets` must not be empty",
            ),
            (
                json!({ "release-targets": ["a-b", "a-b"] }),
                "`release-targets` contains `a-b` twice",
            ),
            (
                json!({ "release-targets": ["linux/amd64"] }),
                "`release-targets` contains `linux/amd64`, which is not a target triple",
            ),
            (
                json!({ "annotations": { "a": 1 } }),
                "`annotations.a` must be a string, not a number",
            ),
            (
                json!({ "kinds": ["dylib"] }),
                "`kinds` contains an unknown kind",
            ),
            (
                json!({ "kinds": ["crate"] }),
                "`kinds` contains `crate`, which cargo does not build",
            ),
            (json!({ "kinds": [] }), "`kinds` must not be empty"),
            (
                json!({ "registry": "oci:x\ndigest=y" }),
                "`registry` contains a control character",
            ),
            (
                json!({ "tags": ["nightly\r"] }),
                "`tags` contains a control character",
            ),
            (
                json!({ "annotations": { "team": "a\u{1b}[m" } }),
                "`annotations.team` contains a control character",
            ),
        ];
        for (table, cause) in cases {
            assert_eq!(messages_of(&table)[1], cause);
        }
    }
}
