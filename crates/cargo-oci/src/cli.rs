//! Command-line parser.
//!
//! `cargo oci push`, `cargo-oci oci push` and `cargo-oci push` are equivalent. The commands and their flags are defined
//! in [`command`](crate::command), the common options in [`options`](crate::options).

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Args as _, CommandFactory as _, FromArgMatches as _, Parser};
use clap_cargo::style;
use oci_registry::Environment;

use crate::command::Command;
use crate::message::{FormatFlag, MessageFormat};
use crate::options::{ArgumentError, CommonOptions};
use crate::report::{self, Error, Reporter};
use crate::{exit_code, hints, stdio};

/// Publish cargo build artifacts to OCI registries, and install them from there
#[derive(Debug, Parser)]
#[command(
    name = "cargo-oci",
    bin_name = "cargo oci",
    version,
    after_help = exit_code::HELP,
    styles = clap_cargo::style::CLAP_STYLING,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: CommonOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Examples at the top of the help of the program.
const EXAMPLES: [&str; 3] = [
    "cargo oci push --registry ghcr.io/acme",
    "cargo oci install ghcr.io/acme/widgets",
    "cargo oci tags ghcr.io/acme/widgets --long",
];

/// Groups of commands in the help of the program.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Publish", &["push", "init", "tag", "attach", "index"]),
    ("Get", &["install", "upgrade", "uninstall", "pull"]),
    (
        "Look",
        &[
            "tags",
            "inspect",
            "digest",
            "catalog",
            "referrers",
            "verify",
            "manifest",
            "config",
            "blob",
        ],
    ),
    ("Move", &["copy", "export", "delete"]),
    ("Account", &["login", "logout", "whoami"]),
    ("Shell", &["completions", "man"]),
];

/// Names of commands in other tools, and the command with the same purpose. clap suggests only similar names.
const OTHER_NAMES: [(&str, &str); 3] =
    [("list", "tags"), ("remove", "delete"), ("download", "pull")];

/// Returns the parser. Its help lists the commands in groups, which clap itself does not support.
fn command() -> clap::Command {
    let command = Cli::command();
    let label = |command: &clap::Command| {
        let aliases = command.get_visible_aliases();
        let names = std::iter::once(command.get_name()).chain(aliases);
        names.collect::<Vec<_>>().join(", ")
    };
    let labels = command
        .get_subcommands()
        .map(|command| label(command).len());
    let width = labels.max().unwrap_or_default();
    let (header, literal) = (style::HEADER, style::LITERAL);
    let mut template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{header}Examples:{header:#}\n"
    );
    for example in EXAMPLES {
        let _ = writeln!(template, "  {example}");
    }
    for (group, names) in GROUPS {
        let _ = writeln!(template, "\n{header}{group}:{header:#}");
        for verb in names
            .iter()
            .filter_map(|name| command.find_subcommand(name))
        {
            let (label, about) = (label(verb), verb.get_about());
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(template, "  {literal}{label:<width$}{literal:#}  {about}");
        }
    }
    let _ = write!(
        template,
        "\n{header}Common Options:{header:#}\n{{options}}{{after-help}}"
    );
    command.help_template(template)
}

/// Suggests `--release-targets` for `push --targets`. clap would suggest the more similar `--target`.
fn suggest_release_targets(error: &mut clap::Error) {
    let is_push = matches!(
        error.get(ContextKind::Usage),
        Some(ContextValue::StyledStr(usage)) if usage.to_string().contains("oci push ")
    );
    let is_targets = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(flag)) if flag == "--targets"
    );
    if error.kind() == ErrorKind::UnknownArgument && is_push && is_targets {
        let known = ContextValue::String("--release-targets".to_owned());
        error.insert(ContextKind::SuggestedArg, known);
    }
}

/// Suggests the equivalent command if the name is a command of another tool.
fn suggest_command(mut error: clap::Error) -> clap::Error {
    suggest_release_targets(&mut error);
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
        && let Some((_, known)) = OTHER_NAMES.iter().find(|(other, _)| other == name)
    {
        let known = ContextValue::Strings(vec![(*known).to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, known);
    }
    error
}

/// Parser result if no command is run: a usage error, or the text of `--help` or `--version`.
#[derive(Debug)]
pub(crate) struct ParseExit {
    error: clap::Error,
    format: MessageFormat,
}

impl ParseExit {
    /// Prints the error or the requested text, and returns the exit code. An error is also printed as JSON if the
    /// command line contains `--message-format json`, and as an annotation in GitHub Actions.
    pub(crate) fn print(self, environment: &Environment) -> ExitCode {
        let rendered = self.error.render();
        if !self.error.use_stderr() {
            let printed = stdio::write_styled(&rendered.ansi().to_string());
            return printed
                .map_or_else(|error| report::fail(&error.into()), |()| ExitCode::SUCCESS);
        }
        let reporter = Reporter::new(&CommonOptions::default(), self.format, environment);
        // clap would print only the message of an error about an invalid name, without its causes and hints.
        if let Some(argument) = ArgumentError::find_in(&self.error) {
            let error = argument.error();
            let help = hints::describe_or_advise(error).into_iter();
            return reporter.fail(&help.fold(Error::usage(error.to_string()), Error::help));
        }
        let text = rendered.to_string();
        let first = text.lines().next().unwrap_or_default();
        reporter.emit_error(&Error::usage(first.trim_start_matches("error: ")));
        // This error is ignored, so the exit code is the same if stderr is closed.
        let _ = stdio::write_stderr(&rendered.ansi().to_string());
        ExitCode::from(exit_code::INVALID_INPUT)
    }
}

/// Parses the arguments of this process.
///
/// # Errors
///
/// Fails if the arguments are invalid, or if they contain `--help` or `--version`.
pub(crate) fn parse() -> Result<Cli, ParseExit> {
    let arguments: Vec<_> = without_subcommand(std::env::args_os()).collect();
    try_parse(&arguments).map_err(|error| ParseExit {
        error,
        format: parse_format(&arguments),
    })
}

fn try_parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments);
    let matches = matches.map_err(suggest_command)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Finds `--message-format` in a command line that clap rejects.
///
/// clap stops at the first invalid argument. The flag is therefore parsed separately: from the last argument on, then
/// from the one before, and so on.
fn parse_format(arguments: &[OsString]) -> MessageFormat {
    let options = arguments.iter().take_while(|argument| *argument != "--");
    let options: Vec<_> = options.collect();
    let format = (0..options.len()).rev().find_map(|at| {
        let flag = clap::Command::new("format").no_binary_name(true);
        let flag = FormatFlag::augment_args(flag).ignore_errors(true);
        let matches = flag.try_get_matches_from(&options[at..]).ok()?;
        let source = matches.value_source("message_format")?;
        let format = FormatFlag::from_arg_matches(&matches).ok()?.message_format;
        (source == ValueSource::CommandLine).then_some(format)
    });
    format.unwrap_or_default()
}

/// Removes the subcommand name that cargo adds: cargo runs `cargo oci push …` as `cargo-oci oci push …`.
fn without_subcommand(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    arguments
        .enumerate()
        .filter(|(at, argument)| !(*at == 1 && argument == "oci"))
        .map(|(_, argument)| argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_command_once() {
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).collect();
        let command = Cli::command();
        let mut names: Vec<_> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        grouped.sort();
        names.sort_unstable();
        assert!(grouped.into_iter().eq(&names), "{names:?}");
    }

    #[test]
    fn command_of_other_tool_suggests_equivalent() {
        for (other, known) in OTHER_NAMES {
            let words = ["cargo-oci", other, "a.b/c"].map(OsString::from);
            let error = try_parse(&words).expect_err(other).to_string();
            assert!(error.contains(&format!("'{known}'")), "{error}");
        }
        for (alias, verb) in [("ls", "tags"), ("repos", "catalog"), ("rm", "delete")] {
            let command = Cli::command();
            let found = command.find_subcommand(alias).map(clap::Command::get_name);
            assert_eq!(found, Some(verb));
        }
    }

    #[test]
    fn targets_of_push_suggest_release_targets() {
        let suggestion = |verb: &str| {
            let words = ["cargo-oci", verb, "--targets", "x"].map(OsString::from);
            let error = try_parse(&words).expect_err(verb);
            error
                .get(ContextKind::SuggestedArg)
                .map(ToString::to_string)
        };
        assert_eq!(suggestion("push").as_deref(), Some("--release-targets"));
        assert_eq!(suggestion("pull").as_deref(), Some("--target"));
    }

    #[test]
    fn upgrade_without_arguments_mentions_all() {
        let words = ["cargo-oci", "upgrade"].map(OsString::from);
        let error = try_parse(&words).expect_err("no package").to_string();
        assert!(error.contains("upgrade [OPTIONS] --all\n"), "{error}");
    }

    #[test]
    fn command_line_passes_debug_assertions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn short_help_has_at_most_80_characters() {
        fn walk(command: &clap::Command) {
            let about = command.get_about().map(ToString::to_string);
            let arguments = command.get_arguments();
            let helps = arguments.filter_map(|argument| argument.get_help());
            for help in helps.map(ToString::to_string).chain(about) {
                assert!(help.chars().count() <= 80, "{}: {help}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    /// The help is rendered at a width of 100 columns. The common options are compared only in the help of the program,
    /// because they are the same for all commands.
    #[test]
    fn help_matches_snapshots() {
        fn walk(command: &mut clap::Command, name: &str) {
            let mut help = command.render_long_help().to_string();
            if let Some(common) = help.find("Common Options:").filter(|_| name != "oci") {
                let examples = help.find("Examples:").expect("every verb has examples");
                help.replace_range(common..examples, "");
            }
            insta::assert_snapshot!(name.to_owned(), help.trim_end());
            let verbs: Vec<_> = command.get_subcommands().cloned().collect();
            for mut verb in verbs.into_iter().filter(|verb| verb.get_name() != "help") {
                let name = format!("{name}-{}", verb.get_name());
                walk(&mut verb, &name);
            }
        }
        let mut command = command().term_width(100);
        command.build();
        walk(&mut command, "oci");
    }

    /// A flag is rejected before any request if it contradicts another flag, or has no effect together with that flag.
    #[test]
    fn invalid_flag_combinations_and_values_are_rejected() {
        let error_kind = |line: &str| {
            let words = std::iter::once("cargo-oci").chain(line.split(' '));
            let error = Cli::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            error.kind()
        };
        for line in [
            "push a.b/c --registry a.b",
            "push --floating --no-index",
            "push --no-build --file a=b",
            "push --no-build --messages -",
            "push --messages - --file a=b",
            "push --build-tool cross --no-build",
            "push --build-tool cross --messages -",
            "push --build-tool cross --file a=b",
            "push --file a=b --kind bin",
            "push --file a=b --bin a",
            "push --file a=b --examples",
            "push --file a=b --features a",
            "push --file a=b --no-default-features",
            "pull a.b/c --target a-b-c --platform linux/amd64",
            "manifest a.b/c --target a-b-c --platform linux/amd64",
            "copy a.b/c a.b/d --all-tags --platform linux/amd64",
            "copy a.b/c a.b/d --all-tags --target a-b-c",
            "man push --output x",
            "install a.b/c --list",
            "upgrade widgets --all",
            "tags a.b/c -q -v",
        ] {
            assert_eq!(
                error_kind(line),
                clap::error::ErrorKind::ArgumentConflict,
                "{line}"
            );
        }
        for line in [
            "login a.b --password-stdin",
            "tags a.b/c --cert-file x",
            "tags a.b/c --key-file x",
            "copy a.b/c",
            "delete",
            "install",
            "upgrade",
            "uninstall",
            "attach a.b/c:1",
            "index add a.b/c:1",
        ] {
            let kind = clap::error::ErrorKind::MissingRequiredArgument;
            assert_eq!(error_kind(line), kind, "{line}");
        }
        for line in [
            "push --kind crate",
            "push --annotation a",
            "push --build-tool make",
            "pull a.b/c --platform linux",
            "pull a.b/c --include [",
            "install a.b/c --version one",
            "tags a.b/c --concurrency 0",
            "tags a.b/c --resolve a",
            "completions tcsh",
            "attach a.b/c:1 x --artifact-type y",
        ] {
            let kind = error_kind(line);
            let is_value = matches!(
                kind,
                clap::error::ErrorKind::ValueValidation | clap::error::ErrorKind::InvalidValue
            );
            assert!(is_value, "{line}: {kind:?}");
        }
    }

    #[test]
    fn cargo_subcommand_name_is_optional() {
        let parse = |words: &[&str]| {
            let words = words.iter().map(OsString::from);
            format!(
                "{:?}",
                Cli::try_parse_from(without_subcommand(words)).expect("a valid command line")
            )
        };
        let expected = parse(&["cargo-oci", "tags", "a.b/c"]);
        assert_eq!(parse(&["cargo-oci", "oci", "tags", "a.b/c"]), expected);
    }
}
