//! The command line: flags, their help, and the three ways this program is called.
//!
//! `cargo oci push`, `cargo-oci oci push` and `cargo-oci push` are the same. Owns which verbs there are; the flags
//! of a verb stand with the verb, those of all in [`options`](crate::options).

use std::borrow::Cow;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum as _};
use oci_registry::{Environment, ErrorKind};

use crate::argument::Complaint;
use crate::command::{
    attach, blob, catalog, completions, config, copy, delete, export, index, init, inspect,
    install, login, logout, man, manifest, pull, push, referrers, tag, tags, uninstall, verify,
    whoami,
};
use crate::message::MessageFormat;
use crate::options::Global;
use crate::report::{self, Error, Reporter};
use crate::session::Session;
use crate::stdio;

const EXIT_CODES: &str = "\
Exit codes:
  1    a file or directory could not be read or written
  2    the command, a reference or a manifest is wrong
  3    the registry wants other credentials
  4    not found
  5    other content is there already
  6    the registry could not be reached, or failed
  7    what arrived is not what was promised
  8    the registry does not support this
  101  cargo failed to build
  130  interrupted";

/// Publish what cargo builds to OCI registries, and get it back
#[derive(Debug, Parser)]
#[command(
    name = "cargo-oci",
    bin_name = "cargo oci",
    version,
    after_help = EXIT_CODES,
    styles = clap_cargo::style::CLAP_STYLING,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Push(Box<push::Flags>),
    Pull(pull::Flags),
    Tags(tags::Flags),
    Catalog(catalog::Flags),
    Inspect(inspect::Flags),
    Manifest(manifest::Flags),
    Config(config::Flags),
    Blob(blob::Flags),
    Copy(copy::Flags),
    Tag(tag::Flags),
    Delete(delete::Flags),
    Index(index::Flags),
    Attach(attach::Flags),
    Referrers(referrers::Flags),
    Verify(verify::Flags),
    Export(export::Flags),
    Init(init::Flags),
    Install(install::Flags),
    Uninstall(uninstall::Flags),
    Login(login::Flags),
    Logout(logout::Flags),
    Whoami(whoami::Flags),
    Completions(completions::Flags),
    Man(man::Flags),
}

impl Command {
    /// Does what was asked for.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::Push(flags) => push::run(session, *flags).await,
            Self::Pull(flags) => pull::run(session, flags).await,
            Self::Tags(flags) => tags::run(session, flags).await,
            Self::Catalog(flags) => catalog::run(session, flags).await,
            Self::Inspect(flags) => inspect::run(session, flags).await,
            Self::Manifest(flags) => manifest::run(session, flags).await,
            Self::Config(flags) => config::run(session, flags).await,
            Self::Blob(flags) => blob::run(session, flags).await,
            Self::Copy(flags) => copy::run(session, flags).await,
            Self::Tag(flags) => tag::run(session, flags).await,
            Self::Delete(flags) => delete::run(session, flags).await,
            Self::Index(flags) => index::run(session, flags).await,
            Self::Attach(flags) => attach::run(session, flags).await,
            Self::Referrers(flags) => referrers::run(session, flags).await,
            Self::Verify(flags) => verify::run(session, flags).await,
            Self::Export(flags) => export::run(session, flags).await,
            Self::Init(flags) => init::run(session, flags).await,
            Self::Install(flags) => install::run(session, flags).await,
            Self::Uninstall(flags) => uninstall::run(session, flags).await,
            Self::Login(flags) => login::run(session, flags).await,
            Self::Logout(flags) => logout::run(session, flags).await,
            Self::Whoami(flags) => whoami::run(session, flags).await,
            Self::Completions(flags) => completions::run(&flags, Cli::command()),
            Self::Man(flags) => man::run(session, flags, Cli::command()),
        }
    }

    /// Whether it matters to the command what the user says for all projects.
    pub(crate) fn reads_defaults(&self) -> bool {
        !matches!(self, Self::Completions(_) | Self::Man(_))
    }

    /// For whom the command tells what it does.
    pub(crate) fn message_format(&self) -> MessageFormat {
        match self {
            Self::Push(flags) => flags.format.message_format,
            Self::Pull(flags) => flags.format.message_format,
            Self::Copy(flags) => flags.format.message_format,
            Self::Tag(flags) => flags.format.message_format,
            Self::Delete(flags) => flags.format.message_format,
            Self::Index(flags) => flags.message_format(),
            Self::Attach(flags) => flags.format.message_format,
            Self::Install(flags) => flags.format.message_format,
            Self::Uninstall(flags) => flags.format.message_format,
            Self::Whoami(flags) => flags.format.message_format,
            Self::Tags(flags) => flags.format.message_format,
            Self::Catalog(flags) => flags.format.message_format,
            Self::Inspect(flags) => flags.format.message_format,
            Self::Referrers(flags) => flags.format.message_format,
            Self::Verify(flags) => flags.format.message_format,
            _ => MessageFormat::Human,
        }
    }
}

/// A command line that cannot be followed, or that asks for help.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: clap::Error,
    format: MessageFormat,
}

impl Refusal {
    /// Tells people, and programs and CI that would have been told of the command, and says how this process ends.
    pub(crate) fn tell(self, environment: &Environment) -> ExitCode {
        let rendered = self.error.render();
        if !self.error.use_stderr() {
            let printed = stdio::styled(&rendered.ansi().to_string());
            return printed
                .map_or_else(|error| report::fail(&error.into()), |()| ExitCode::SUCCESS);
        }
        let reporter = Reporter::new(&Global::default(), self.format, environment);
        // Of a name more can be said than clap can of a value.
        if let Some(complaint) = Complaint::within(&self.error) {
            let error = complaint.error();
            let help = error.help().into_iter();
            return reporter.fail(&help.fold(Error::usage(error.to_string()), Error::help));
        }
        let text = rendered.to_string();
        let first = text.lines().next().unwrap_or_default();
        reporter.mark(&Error::usage(first.trim_start_matches("error: ")));
        // A closed stderr changes nothing about the exit code.
        let _ = stdio::error(&rendered.ansi().to_string());
        ExitCode::from(ErrorKind::InvalidInput.exit_code())
    }
}

/// Parses this process's arguments.
///
/// # Errors
///
/// What is wrong with them, or the help that they ask for.
pub(crate) fn parse() -> Result<Cli, Refusal> {
    let arguments: Vec<_> = without_subcommand(std::env::args_os()).collect();
    Cli::try_parse_from(&arguments).map_err(|error| Refusal {
        error,
        format: format_of(&arguments),
    })
}

/// For whom arguments that cannot be parsed want to be answered.
fn format_of(arguments: &[OsString]) -> MessageFormat {
    const FLAG: &str = "--message-format";
    let arguments = arguments.iter().take_while(|argument| *argument != "--");
    let mut texts = arguments.map(|argument| argument.to_string_lossy());
    let mut format = None;
    while let Some(text) = texts.next() {
        if text == FLAG {
            format = texts.next().map(Cow::into_owned);
        } else if let Some(value) = text
            .strip_prefix(FLAG)
            .and_then(|rest| rest.strip_prefix('='))
        {
            format = Some(value.to_owned());
        }
    }
    let format = format.and_then(|format| MessageFormat::from_str(&format, false).ok());
    format.unwrap_or_default()
}

/// Cargo calls `cargo-oci oci push …`; people may call `cargo-oci push …`.
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
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The help of every verb, as a terminal of 100 columns shows it; what is common to all stands with the program.
    #[test]
    fn help_is_what_it_was() {
        fn walk(command: &mut clap::Command, name: &str) {
            let mut help = command.render_long_help().to_string();
            if let Some(common) = help.find("Common Options:").filter(|_| name != "oci") {
                let examples = help
                    .find("Examples:")
                    .expect("every verb shows how it is called");
                help.replace_range(common..examples, "");
            }
            insta::assert_snapshot!(name.to_owned(), help.trim_end());
            let verbs: Vec<_> = command.get_subcommands().cloned().collect();
            for mut verb in verbs.into_iter().filter(|verb| verb.get_name() != "help") {
                let name = format!("{name}-{}", verb.get_name());
                walk(&mut verb, &name);
            }
        }
        let mut command = Cli::command().term_width(100);
        command.build();
        walk(&mut command, "oci");
    }

    /// Flags that say two things, or one that would do nothing beside the other, are refused before anything is asked.
    #[test]
    fn what_cannot_be_meant_together_is_refused() {
        let refusal = |line: &str| {
            let words = std::iter::once("cargo-oci").chain(line.split(' '));
            let error = Cli::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            error.kind()
        };
        for line in [
            "push a.b/c --registry a.b",
            "push --floating --tag x",
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
            "tags a.b/c -q -v",
        ] {
            assert_eq!(
                refusal(line),
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
            "attach a.b/c:1",
            "index add a.b/c:1",
        ] {
            let kind = clap::error::ErrorKind::MissingRequiredArgument;
            assert_eq!(refusal(line), kind, "{line}");
        }
        for line in [
            "push --kind crate",
            "push --annotation a",
            "push --file a",
            "push --build-tool make",
            "pull a.b/c --platform linux",
            "pull a.b/c --include [",
            "install a.b/c --version one",
            "tags a.b/c --concurrency 0",
            "tags a.b/c --resolve a",
            "completions tcsh",
            "attach a.b/c:1 x --artifact-type y",
        ] {
            let kind = refusal(line);
            let is_value = matches!(
                kind,
                clap::error::ErrorKind::ValueValidation | clap::error::ErrorKind::InvalidValue
            );
            assert!(is_value, "{line}: {kind:?}");
        }
    }

    #[test]
    fn all_ways_of_calling_are_one() {
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
