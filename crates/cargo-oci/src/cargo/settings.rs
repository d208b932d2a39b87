//! `[package.metadata.oci]`, key by key over `[workspace.metadata.oci]`.
//!
//! Owns the keys: their names, their types, what is inherited, and the refusal of everything else. What a
//! value means to a registry is for others; texts stay texts here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use cargo_metadata::Package;
use oci_package::FileKind;
use oci_package::platform::{HOST_TUPLE, target_name};
use serde_json::{Map, Value};
use snafu::{OptionExt, ResultExt, Snafu, ensure};

use super::{ErrorClass, Fault, Workspace, nearest};

/// Every key, as it is written; the order in which they are listed to people.
const KEYS: [&str; 11] = [
    "registry",
    "repository",
    "targets",
    "publish",
    "name-template",
    "include",
    "annotations",
    "kinds",
    "tags",
    "floating",
    "archive",
];

#[derive(Debug, Snafu)]
#[snafu(display("failed to read `{table}` of `{}`", file.display()), context(name(ReadSnafu)))]
struct Error {
    table: &'static str,
    file: PathBuf,
    source: Cause,
}

#[derive(Debug, Snafu)]
enum Cause {
    #[snafu(display("unknown key `{key}`"))]
    UnknownKey { key: String },
    #[snafu(display("`{key}` must be {expected}, and is {found}"))]
    WrongType {
        key: String,
        expected: &'static str,
        found: &'static str,
    },
    #[snafu(display("`{key}` must not be empty"))]
    Empty { key: String },
    #[snafu(display("`{key}` holds a control character"))]
    Control { key: String },
    #[snafu(display("`{key}` holds `{entry}` twice"))]
    Repeated { key: String, entry: String },
    #[snafu(display("`{key}` holds `{entry}`, which is not a target triple"))]
    NotATriple { key: String, entry: String },
    #[snafu(display("`{key}` holds what is not a kind"))]
    NotAKind {
        key: String,
        source: oci_package::UnknownFileKind,
    },
    #[snafu(display("`{key}` holds `{kind}`, which no build writes"))]
    NotBuilt { key: String, kind: FileKind },
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }

    fn help(&self) -> Option<String> {
        match &self.source {
            Cause::UnknownKey { key } => Some(match nearest(key, KEYS) {
                Some(near) => format!("a key with a similar name exists: `{near}`"),
                None => format!("the keys are `{}`", KEYS.join("`, `")),
            }),
            Cause::NotBuilt {
                kind: FileKind::File,
                ..
            } => Some("other files are added with `--file NAME=PATH`".to_owned()),
            Cause::NotBuilt { .. } => Some("the `.crate` file is added with `--crate`".to_owned()),
            _ => None,
        }
    }
}

/// What the manifests say about publishing one package. `None` is what neither of them says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `registry`: where repositories of packages are, `HOST[:PORT][/PREFIX]` or `oci:DIR`.
    pub(crate) registry: Option<String>,
    /// `repository`: the name under the registry that stands for the package's own name.
    pub(crate) repository: Option<String>,
    /// `targets`: the triples that a release consists of, in the order written.
    pub(crate) targets: Option<Vec<String>>,
    /// `publish`: whether the package is published at all.
    pub(crate) publish: Option<bool>,
    /// `name-template`: how files are titled.
    pub(crate) name_template: Option<String>,
    /// `include`: patterns of further files, relative to the package.
    pub(crate) include: Option<Vec<String>>,
    /// `annotations`: those of the workspace and of the package together; the package's win.
    pub(crate) annotations: BTreeMap<String, String>,
    /// `kinds`: which of the built files are published; never one that no build writes.
    pub(crate) kinds: Option<Vec<FileKind>>,
    /// `tags`: tags in place of the version; none for the version itself.
    pub(crate) tags: Option<Vec<String>>,
    /// `floating`: whether tags like `1.2` and `latest` move along.
    pub(crate) floating: Option<bool>,
    /// `archive`: whether the files are packed into one tar.
    pub(crate) archive: Option<bool>,
    /// Which manifest said what, for messages.
    places: BTreeMap<&'static str, Place>,
}

/// The table of one manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    table: &'static str,
    file: PathBuf,
}

impl Settings {
    /// The settings of a member of the workspace.
    pub(crate) fn of(workspace: &Workspace, package: &Package) -> Result<Self, super::Error> {
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

    /// Whether the package may be published; it may unless a manifest says no.
    pub(crate) fn publishes(&self) -> bool {
        self.publish != Some(false)
    }

    /// Where a key was set, as in: `registry` of `package.metadata.oci` in `/home/me/widgets/Cargo.toml`.
    pub(crate) fn place(&self, key: &str) -> Option<String> {
        let (key, place) = self.places.get_key_value(key)?;
        Some(format!(
            "`{key}` of `{}` in `{}`",
            place.table,
            place.file.display()
        ))
    }

    /// One of the tables that say anything, where there is one.
    pub(crate) fn any_place(&self) -> Option<String> {
        let place = self.places.values().next()?;
        Some(format!("`{}` in `{}`", place.table, place.file.display()))
    }

    /// Lays the table of one manifest over what is already known.
    fn read(&mut self, metadata: &Value, table: &'static str, file: &Path) -> Result<(), Error> {
        self.try_read(metadata, table, file)
            .context(ReadSnafu { table, file })
    }

    fn try_read(
        &mut self,
        metadata: &Value,
        table: &'static str,
        file: &Path,
    ) -> Result<(), Cause> {
        let Some(value) = metadata.get("oci") else {
            return Ok(());
        };
        for (name, value) in entries("oci", value)? {
            let key = KEYS
                .into_iter()
                .find(|key| key == name)
                .context(UnknownKeySnafu { key: name })?;
            self.set(key, value)?;
            let file = file.to_owned();
            self.places.insert(key, Place { table, file });
        }
        Ok(())
    }

    fn set(&mut self, key: &'static str, value: &Value) -> Result<(), Cause> {
        match key {
            "registry" => self.registry = Some(text(key, value)?),
            "repository" => self.repository = Some(text(key, value)?),
            "targets" => self.targets = Some(triples(key, value)?),
            "publish" => self.publish = Some(switch(key, value)?),
            "name-template" => self.name_template = Some(text(key, value)?),
            "include" => self.include = Some(texts(key, value)?),
            "annotations" => {
                for (name, value) in entries(key, value)? {
                    check(key, name)?;
                    let value = text(&format!("{key}.{name}"), value)?;
                    self.annotations.insert(name.clone(), value);
                }
            }
            "kinds" => self.kinds = Some(kinds(key, value)?),
            "tags" => self.tags = Some(texts(key, value)?),
            "floating" => self.floating = Some(switch(key, value)?),
            "archive" => self.archive = Some(switch(key, value)?),
            _ => unreachable!("every key of the list is read"),
        }
        Ok(())
    }
}

fn entries<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Cause> {
    value.as_object().context(wrong_type(key, "a table", value))
}

fn switch(key: &str, value: &Value) -> Result<bool, Cause> {
    value
        .as_bool()
        .context(wrong_type(key, "`true` or `false`", value))
}

fn text(key: &str, value: &Value) -> Result<String, Cause> {
    let text = value.as_str().context(wrong_type(key, "a string", value))?;
    check(key, text)?;
    Ok(text.to_owned())
}

/// Refuses an empty string, and control characters: a line end would add lines to files that line readers read.
fn check(key: &str, text: &str) -> Result<(), Cause> {
    ensure!(!text.is_empty(), EmptySnafu { key });
    ensure!(!text.contains(char::is_control), ControlSnafu { key });
    Ok(())
}

/// A list of strings, none of them empty and none twice.
fn texts(key: &str, value: &Value) -> Result<Vec<String>, Cause> {
    let list = value
        .as_array()
        .context(wrong_type(key, "a list of strings", value))?;
    let mut texts: Vec<String> = Vec::with_capacity(list.len());
    for entry in list {
        let entry = entry
            .as_str()
            .context(wrong_type(key, "a list of strings", value))?;
        check(key, entry)?;
        ensure!(
            !texts.iter().any(|known| known == entry),
            RepeatedSnafu { key, entry }
        );
        texts.push(entry.to_owned());
    }
    Ok(texts)
}

/// A release consists of something: an empty list would declare that nothing may ever be pushed.
fn triples(key: &str, value: &Value) -> Result<Vec<String>, Cause> {
    let mut triples = Vec::new();
    for entry in &texts(key, value)? {
        let triple = declared_target(entry).context(NotATripleSnafu { key, entry })?;
        ensure!(!triples.contains(&triple), RepeatedSnafu { key, entry });
        triples.push(triple);
    }
    ensure!(!triples.is_empty(), EmptySnafu { key });
    Ok(triples)
}

/// Returns the name of a target that a release is declared to have, in the forms that `--target` takes; `None` for what
/// is no target, and for the host, which differs from machine to machine.
pub(crate) fn declared_target(text: &str) -> Option<String> {
    let name = target_name(text, HOST_TUPLE);
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let is_triple = name.contains('-') && name != HOST_TUPLE;
    let is_specification = text.strip_suffix(".json").is_some() && !name.is_empty();
    (is_plain && (is_triple || is_specification)).then_some(name)
}

fn kinds(key: &str, value: &Value) -> Result<Vec<FileKind>, Cause> {
    let mut kinds = Vec::new();
    for word in texts(key, value)? {
        let kind: FileKind = word.parse().context(NotAKindSnafu { key })?;
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
        Value::Array(_) => "a list of other things",
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

    const FILE: &str = "/home/me/widgets/Cargo.toml";

    fn read(workspace: &Value, package: &Value) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        let root = Path::new("/home/me/Cargo.toml");
        settings.read(&json!({ "oci": workspace }), "workspace.metadata.oci", root)?;
        settings.read(
            &json!({ "oci": package }),
            "package.metadata.oci",
            Path::new(FILE),
        )?;
        Ok(settings)
    }

    /// The message, its cause and its help.
    fn refusal(package: &Value) -> [String; 3] {
        let error = read(&json!({}), package).unwrap_err();
        let help = error.help().unwrap_or_default();
        [error.to_string(), error.source.to_string(), help]
    }

    #[test]
    fn every_key_has_its_type() {
        let settings = read(
            &json!({}),
            &json!({
                "registry": "ghcr.io/acme",
                "repository": "tools/widgets",
                "targets": ["x86_64-unknown-linux-gnu", "thumbv8m.main-none-eabi"],
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
        let places = settings.places.clone();
        assert_eq!(places.keys().count(), KEYS.len());
        let expected = Settings {
            registry: Some("ghcr.io/acme".into()),
            repository: Some("tools/widgets".into()),
            targets: Some(vec![
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
            places,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_package_inherits_key_by_key() {
        let settings = read(
            &json!({
                "registry": "ghcr.io/acme",
                "publish": false,
                "targets": ["a-b", "c-d"],
                "annotations": { "team": "core", "tier": "1" },
            }),
            &json!({ "publish": true, "targets": ["a-b"], "annotations": { "tier": "2" } }),
        )
        .unwrap();
        assert_eq!(settings.registry.as_deref(), Some("ghcr.io/acme"));
        assert_eq!(settings.targets, Some(vec!["a-b".to_owned()]));
        assert!(settings.publishes());
        let annotations = settings
            .annotations
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()));
        assert_eq!(
            annotations.collect::<Vec<_>>(),
            [("team", "core"), ("tier", "2")]
        );
        assert_eq!(
            settings.place("registry").as_deref(),
            Some("`registry` of `workspace.metadata.oci` in `/home/me/Cargo.toml`")
        );
        assert_eq!(
            settings.place("publish").as_deref(),
            Some("`publish` of `package.metadata.oci` in `/home/me/widgets/Cargo.toml`")
        );
        assert_eq!(settings.place("kinds"), None);
    }

    #[test]
    fn silence_publishes() {
        let mut settings = Settings::default();
        settings
            .read(&Value::Null, "package.metadata.oci", Path::new(FILE))
            .unwrap();
        assert_eq!(settings, Settings::default());
        assert!(settings.publishes());
        assert!(
            !read(&json!({}), &json!({ "publish": false }))
                .unwrap()
                .publishes()
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_manifest_and_its_neighbour() {
        assert_eq!(
            refusal(&json!({ "registery": "ghcr.io/acme" })),
            [
                "failed to read `package.metadata.oci` of `/home/me/widgets/Cargo.toml`",
                "unknown key `registery`",
                "a key with a similar name exists: `registry`",
            ]
        );
        assert_eq!(
            refusal(&json!({ "name_template": "x" }))[2],
            "a key with a similar name exists: `name-template`"
        );
        assert!(
            refusal(&json!({ "colour": 1 }))[2]
                .starts_with("the keys are `registry`, `repository`")
        );
    }

    #[test]
    fn the_workspace_is_to_blame_for_its_own_keys() {
        let error = read(&json!({ "kind": [] }), &json!({})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read `workspace.metadata.oci` of `/home/me/Cargo.toml`"
        );
    }

    #[test]
    fn values_of_the_wrong_sort_are_refused() {
        let cases = [
            (json!("x"), "`oci` must be a table, and is a string"),
            (
                json!({ "publish": "no" }),
                "`publish` must be `true` or `false`, and is a string",
            ),
            (
                json!({ "publish": ["ghcr"] }),
                "`publish` must be `true` or `false`, and is a list of strings",
            ),
            (
                json!({ "registry": 5 }),
                "`registry` must be a string, and is a number",
            ),
            (json!({ "registry": "" }), "`registry` must not be empty"),
            (
                json!({ "targets": "a-b" }),
                "`targets` must be a list of strings, and is a string",
            ),
            (
                json!({ "targets": ["a-b", 1] }),
                "`targets` must be a list of strings, and is a list of other things",
            ),
            (json!({ "targets": [] }), "`targets` must not be empty"),
            (
                json!({ "targets": ["a-b", "a-b"] }),
                "`targets` holds `a-b` twice",
            ),
            (
                json!({ "targets": ["linux/amd64"] }),
                "`targets` holds `linux/amd64`, which is not a target triple",
            ),
            (
                json!({ "annotations": { "a": 1 } }),
                "`annotations.a` must be a string, and is a number",
            ),
            (
                json!({ "kinds": ["dylib"] }),
                "`kinds` holds what is not a kind",
            ),
            (
                json!({ "kinds": ["crate"] }),
                "`kinds` holds `crate`, which no build writes",
            ),
            (json!({ "kinds": [] }), "`kinds` must not be empty"),
            (
                json!({ "registry": "oci:x\ndigest=y" }),
                "`registry` holds a control character",
            ),
            (
                json!({ "tags": ["nightly\r"] }),
                "`tags` holds a control character",
            ),
            (
                json!({ "annotations": { "team": "a\u{1b}[m" } }),
                "`annotations.team` holds a control character",
            ),
        ];
        for (table, cause) in cases {
            assert_eq!(refusal(&table)[1], cause);
        }
    }
}
