//! `cargo oci man`: show, print or write the manual pages of the program and of each command.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use oci_registry::ErrorKind;

use crate::cli::Cli;
use crate::output;
use crate::report::{self, Error};
use crate::session::Session;

/// Show the manual page of a command, or write all pages to a directory
///
/// Every command has a page, such as `cargo-oci-push`. The page of the program is `cargo-oci`. On a terminal, the page
/// is shown with `man`. Otherwise, or without `man`, its roff source is printed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci man push\n  cargo oci man push > cargo-oci-push.1\n  cargo oci man --output ~/.local/share/man/man1"
)]
pub(crate) struct Flags {
    /// Command whose manual page is shown (default: `cargo-oci`)
    #[arg(value_name = "COMMAND", conflicts_with = "output")]
    command: Option<String>,

    /// Write all pages to DIR, which is created if it does not exist
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Shows, prints or writes the manual pages of this program.
#[expect(clippy::unused_async, reason = "all commands have the same signature")]
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let pages = render_pages(Cli::command());
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
    let name = match &flags.command {
        Some(command) => format!("cargo-oci-{command}"),
        None => "cargo-oci".to_owned(),
    };
    let found = pages.iter().find(|(page_name, _)| *page_name == name);
    match found {
        Some((_, page)) => show_page(page),
        None => Err(Error::usage(format!(
            "failed to find a manual page: unknown command `{}`",
            flags.command.unwrap_or_default()
        ))
        .help("run `cargo oci help` to list the commands")),
    }
}

/// Shows a page with `man` if stdout is a terminal. Prints the page if stdout is no terminal, or if `man` cannot be run.
fn show_page(page: &[u8]) -> Result<(), Error> {
    if output::is_stdout_terminal() {
        run_man(page).ok();
    }
    report::write_bytes(page)
}

/// Replaces this process by `man`, so that Ctrl-C reaches only `man` and its pager.
#[cfg(unix)]
fn run_man(page: &[u8]) -> std::io::Result<()> {
    use std::io::{Seek as _, Write as _};
    use std::os::unix::process::CommandExt as _;
    // The system deletes this file when `man` closes it.
    let mut file = tempfile::tempfile()?;
    file.write_all(page)?;
    file.rewind()?;
    let mut man = std::process::Command::new("man");
    Err(man.args(["-l", "-"]).stdin(file).exec())
}

#[cfg(not(unix))]
fn run_man(_: &[u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn write_error(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    Error::new(ErrorKind::Io, format!("failed to write `{path}`: {error}"))
        .help("choose another directory with `--output`")
}

/// Returns the name and text of each page. The page of the program is first.
fn render_pages(program: clap::Command) -> Vec<(String, Vec<u8>)> {
    let mut command = program.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, "cargo-oci".to_owned(), &mut pages);
    pages
}

/// Adds the pages of a command and its subcommands to `pages`.
fn add_pages(command: &clap::Command, name: String, pages: &mut Vec<(String, Vec<u8>)>) {
    let page = render_page(command.clone(), &name);
    let subcommands = command.get_subcommands();
    let subcommands: Vec<_> = subcommands
        .map(|command| (command, format!("{name}-{}", command.get_name())))
        .collect();
    pages.push((name, page));
    for (command, name) in subcommands {
        add_pages(command, name, pages);
    }
}

fn render_page(mut command: clap::Command, name: &str) -> Vec<u8> {
    let mut page = Vec::new();
    let usage = command.render_usage().to_string();
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command)
        .title(name.to_uppercase())
        .source(concat!("cargo-oci ", env!("CARGO_PKG_VERSION")))
        .manual("Cargo OCI Manual");
    // The synopsis does not list the flags, because the section OPTIONS lists up to forty of them.
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]);
    synopsis.text([roman(usage.trim_start_matches("Usage: "))]);
    let mut render = || {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        synopsis.to_writer(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if has_subcommands {
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
    fn program_and_every_command_have_a_page() {
        let pages = render_pages(Cli::command());
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[0], "cargo-oci");
        for command in Cli::command().get_subcommands() {
            let name = format!("cargo-oci-{}", command.get_name());
            assert!(names.contains(&name.as_str()), "{name}");
        }
        assert!(names.contains(&"cargo-oci-index-add"), "{names:?}");
        let (_, push) = pages
            .iter()
            .find(|(name, _)| name == "cargo-oci-push")
            .expect("there is a command push");
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
