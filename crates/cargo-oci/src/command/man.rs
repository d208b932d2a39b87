//! `cargo oci man`: manual pages of the program and of each verb.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use oci_registry::ErrorKind;

use crate::cli::Cli;
use crate::report::{self, Error};
use crate::session::Session;

/// Print the manual page of a verb, or write all pages to a directory
///
/// Every verb has a page, such as `cargo-oci-push`. The page of the program is `cargo-oci`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci man push | man -l -\n  cargo oci man --output ~/.local/share/man/man1"
)]
pub(crate) struct Flags {
    /// Verb to print the page of (default: the page of the program)
    #[arg(value_name = "VERB", conflicts_with = "output")]
    verb: Option<String>,

    /// Write all pages to DIR, which is created if it does not exist
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Prints or writes the manual pages of this program.
#[expect(clippy::unused_async, reason = "all verbs have the same signature")]
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let pages = pages(Cli::command());
    if let Some(directory) = flags.output {
        let directory = session.resolve(&directory);
        std::fs::create_dir_all(&directory).map_err(|error| write_error(&directory, &error))?;
        for (name, page) in pages {
            let path = directory.join(format!("{name}.1"));
            std::fs::write(&path, page).map_err(|error| write_error(&path, &error))?;
            session.reporter.status("Wrote", path.display());
        }
        return Ok(());
    }
    let wanted = match &flags.verb {
        Some(verb) => format!("cargo-oci-{verb}"),
        None => "cargo-oci".to_owned(),
    };
    let found = pages.iter().find(|(name, _)| *name == wanted);
    match found {
        Some((_, page)) => report::bytes(page),
        None => Err(Error::usage(format!(
            "failed to find a manual page: unknown verb `{}`",
            flags.verb.unwrap_or_default()
        ))
        .help("`cargo oci help` lists the verbs")),
    }
}

fn write_error(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    Error::new(ErrorKind::Io, format!("failed to write `{path}`: {error}"))
        .help("choose another directory with `--output`")
}

/// Returns all pages with their names. The page of the program is first.
fn pages(program: clap::Command) -> Vec<(String, Vec<u8>)> {
    let mut command = program.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, "cargo-oci".to_owned(), &mut pages);
    pages
}

/// Adds the pages of a command and of its subcommands.
fn add(command: &clap::Command, name: String, pages: &mut Vec<(String, Vec<u8>)>) {
    let page = page(command.clone(), &name);
    let subcommands = command.get_subcommands();
    let subcommands: Vec<_> = subcommands
        .map(|verb| (verb, format!("{name}-{}", verb.get_name())))
        .collect();
    pages.push((name, page));
    for (verb, name) in subcommands {
        add(verb, name, pages);
    }
}

fn page(mut command: clap::Command, name: &str) -> Vec<u8> {
    let mut page = Vec::new();
    let usage = command.render_usage().to_string();
    let has_verbs = command.has_subcommands();
    let man = Man::new(command)
        .title(name.to_uppercase())
        .source(concat!("cargo-oci ", env!("CARGO_PKG_VERSION")))
        .manual("Cargo OCI Manual");
    // Without the flags, because the section OPTIONS lists up to forty of them.
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]);
    synopsis.text([roman(usage.trim_start_matches("Usage: "))]);
    let mut render = || {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        synopsis.to_writer(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if has_verbs {
            man.render_subcommands_section(&mut page)?;
        }
        man.render_extra_section(&mut page)?;
        man.render_version_section(&mut page)
    };
    render().expect("writing to memory succeeds");
    page
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn program_and_every_verb_have_a_page() {
        let pages = pages(Cli::command());
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[0], "cargo-oci");
        for verb in Cli::command().get_subcommands() {
            let name = format!("cargo-oci-{}", verb.get_name());
            assert!(names.contains(&name.as_str()), "{name}");
        }
        assert!(names.contains(&"cargo-oci-index-add"), "{names:?}");
        let (_, push) = pages
            .iter()
            .find(|(name, _)| name == "cargo-oci-push")
            .expect("there is a verb push");
        let push = String::from_utf8(push.clone()).expect("a page is text");
        assert!(push.starts_with(".ie"), "{push}");
        for part in ["CARGO-OCI-PUSH", "\\-\\-registry", "Examples:"] {
            assert!(push.contains(part), "{part}: {push}");
        }
        let synopsis = push.split(".SH SYNOPSIS\n").nth(1).expect("a synopsis");
        let synopsis = synopsis.lines().next().expect("a line");
        assert_eq!(synopsis, "cargo oci push [OPTIONS] [REFERENCE]");
    }
}
