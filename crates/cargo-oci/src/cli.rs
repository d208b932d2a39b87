//! The command line: flags, their help, and the three ways this program is called.
//!
//! `cargo oci push`, `cargo-oci oci push` and `cargo-oci push` are the same. Owns what is common to all verbs; the flags
//! of a verb stand with the verb.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, ColorChoice, Parser, Subcommand};
use oci_registry::Resolve;

use crate::command::{
    Complaint, attach, blob, catalog, completions, config, copy, delete, export, index, init,
    inspect, install, login, logout, man, manifest, pull, push, referrers, tag, tags, uninstall,
    verify, whoami,
};
use crate::message::MessageFormat;
use crate::report::Error;

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

/// What every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common Options")]
pub(crate) struct Global {
    /// Print nothing but data and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Show each request that is made (-vv: more of what cargo does)
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Coloring
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) color: Option<ColorChoice>,

    /// Speak plain HTTP to registries, or with `=false` never; by default to this machine's loopback only
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub(crate) plain_http: Option<bool>,

    /// Reach a host at another address, as with curl
    #[arg(long, global = true, value_name = "HOST:PORT:ADDRESS", value_parser = resolve)]
    pub(crate) resolve: Vec<Resolve>,

    /// Trust the certificates in this file too, and speak TLS everywhere
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Show registries this certificate, and speak TLS everywhere
    #[arg(long, global = true, value_name = "FILE", requires = "key_file")]
    pub(crate) cert_file: Option<PathBuf>,

    /// The key of the certificate of `--cert-file`
    #[arg(long, global = true, value_name = "FILE", requires = "cert_file")]
    pub(crate) key_file: Option<PathBuf>,

    /// How often a failed request is tried again
    #[arg(long, global = true, value_name = "N", default_value_t = 4)]
    pub(crate) retries: u32,

    /// How many files and manifests move at the same time
    #[arg(long, global = true, value_name = "N", default_value_t = 4, value_parser = at_least_one)]
    pub(crate) concurrency: usize,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a number from 1 on".to_owned())
}

fn resolve(text: &str) -> Result<Resolve, Complaint> {
    text.parse().map_err(Complaint::from)
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

/// Parses this process's arguments. Prints help, or what is wrong with the flags, and exits.
///
/// # Errors
///
/// What is wrong with a name, which is more than clap can say of a value.
pub(crate) fn parse() -> Result<Cli, Error> {
    let parsed = Cli::try_parse_from(without_subcommand(std::env::args_os()));
    parsed.map_err(|error| match Complaint::within(&error) {
        Some(complaint) => complaint.to_error(),
        None => error.exit(),
    })
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
    use clap::CommandFactory;

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
