//! Columns of every command: comparison of its signature with the README.

use nu_plugin::{Plugin, PluginCommand};
use nu_plugin_oci::OciPlugin;
use nu_protocol::Type;

use crate::reading::LONG;

/// First line of the column table in the README, and the text that follows the table.
const TABLE: (&str, &str) = ("| command | columns |", "\n\n");

/// Returns the columns of a type. If the type has several alternatives, returns the columns of the table or record
/// among them.
fn columns(of: &Type) -> Vec<(&str, &Type)> {
    match of {
        Type::Table(columns) | Type::Record(columns) => columns
            .iter()
            .map(|(name, of)| (name.as_str(), of))
            .collect(),
        Type::OneOf(types) => types.iter().flat_map(columns).collect(),
        _ => Vec::new(),
    }
}

/// Returns the name of a type, with a question mark if it may be `null`.
fn type_name(of: &Type) -> String {
    match of {
        Type::OneOf(types) => {
            let words = types
                .iter()
                .filter(|of| **of != Type::Nothing)
                .map(type_name);
            let words: Vec<_> = words.collect();
            let is_nullable = types.iter().any(|of| *of == Type::Nothing);
            words.join(" or ") + if is_nullable { "?" } else { "" }
        }
        Type::Table(_) => "table".into(),
        Type::Record(_) => "record".into(),
        other => other.to_string(),
    }
}

/// Appends the README row of one output type, and the rows of the tables in its columns.
fn rows(name: &str, of: &Type, rows_so_far: &mut Vec<String>) {
    let columns = columns(of);
    let cells: Vec<_> = columns
        .iter()
        .map(|(name, of)| format!("`{name}` {}", type_name(of)))
        .collect();
    // Some flags change the output to a string or a binary value.
    let others: Vec<_> = match of {
        Type::OneOf(types) => types
            .iter()
            .filter(|of| **of != Type::Nothing && self::columns(of).is_empty())
            .map(type_name)
            .collect(),
        _ => Vec::new(),
    };
    let cells = match (cells.is_empty(), others.is_empty()) {
        (true, _) => type_name(of),
        (false, true) => cells.join(", "),
        (false, false) => format!("{}; or {}", cells.join(", "), others.join(" or ")),
    };
    rows_so_far.push(format!("| {name} | {cells} |"));
    for (nested, of) in columns {
        let inner = self::columns(of);
        if !inner.is_empty() {
            rows(&format!("– its `{nested}`"), of, rows_so_far);
        }
    }
}

/// README row of `oci tags`. The signature of the command has no columns, because most of them depend on a flag.
const TAGS: &str = "| `oci tags` | `name` string, `reference` string; of a list also `repository` string; with --long also \
    `size` filesize?, `created` datetime?, `platforms` list<string>?, `targets` list<string>?, `artifact_type` string?, \
    `media_type` string?, `annotations` record?, `digest` string? |";

/// Column that `oci referrers` adds with `--all`.
const SUBJECT: &str = "; with --all also `subject` string |";

#[test]
fn readme_table_lists_columns_of_all_signatures() {
    let commands = OciPlugin::default().commands();
    let mut table = vec![TABLE.0.to_owned(), "| --- | --- |".to_owned()];
    let mut sorted: Vec<_> = commands.iter().collect();
    sorted.sort_by_key(|command| command.name());
    for command in sorted.into_iter().filter(|command| command.name() != "oci") {
        let types = command.signature().input_output_types;
        assert!(
            columns(&types[0].0).is_empty(),
            "the first input type is not one reference"
        );
        if command.name() == "oci tags" {
            assert_eq!(types[0].1, Type::table());
            table.push(TAGS.to_owned());
        } else {
            rows(&format!("`{}`", command.name()), &types[0].1, &mut table);
        }
        if command.name() == "oci referrers" {
            let row = table.pop().unwrap();
            table.push(row.trim_end_matches(" |").to_owned() + SUBJECT);
        }
        check_list_columns(&**command);
    }
    let expected = table.join("\n");
    let readme = include_str!("../../README.md");
    let start = readme
        .find(TABLE.0)
        .expect("the README has a table of columns");
    let end = readme[start..]
        .find(TABLE.1)
        .map_or(readme.len(), |end| start + end);
    let written = readme[start..end].trim_end();
    assert_eq!(
        written, expected,
        "the table in the README must be:\n\n{expected}\n"
    );
}

/// Checks that the output for a list has the same columns as the output for one reference.
fn check_list_columns(command: &dyn PluginCommand<Plugin = OciPlugin>) {
    let types = command.signature().input_output_types;
    let names = |of| {
        columns(of)
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&types[1].1), names(&types[0].1), "{}", command.name());
}

#[test]
fn digest_column_is_last() {
    for command in OciPlugin::default().commands() {
        for (_, of) in command.signature().input_output_types {
            let columns = columns(&of);
            let before = columns.iter().rev().skip(1);
            let names: Vec<_> = before.map(|(name, _)| *name).collect();
            assert!(!names.contains(&"digest"), "{}: {names:?}", command.name());
        }
    }
}

#[test]
fn tags_help_lists_all_columns() {
    let commands = OciPlugin::default().commands();
    let tags = commands.iter().find(|command| command.name() == "oci tags");
    let help = tags.unwrap().extra_description();
    let named: Vec<_> = help.split('`').skip(1).step_by(2).collect();
    let expected = [&["name", "reference", "repository"][..], &LONG].concat();
    assert_eq!(named[..expected.len()], expected);
    let in_readme: Vec<_> = TAGS.split('`').skip(1).step_by(2).skip(1).collect();
    assert_eq!(in_readme, expected);
}
