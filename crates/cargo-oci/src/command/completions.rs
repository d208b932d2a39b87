//! `cargo oci completions`: print a shell completion script.
//!
//! The scripts complete only `cargo-oci`. Cargo's own completion script completes `cargo oci`.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::generate;
use clap_complete::shells::{Bash, Elvish, Fish, PowerShell, Zsh};
use clap_complete_nushell::Nushell;

use crate::cli::Cli;
use crate::report::{self, Error};
use crate::session::Session;

/// Name of the program that the scripts complete.
const PROGRAM: &str = "cargo-oci";

/// Print a shell completion script for `cargo-oci`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci completions bash > ~/.local/share/bash-completion/completions/cargo-oci\n  cargo oci completions zsh > ~/.zfunc/_cargo-oci\n  cargo oci completions fish > ~/.config/fish/completions/cargo-oci.fish\n  cargo oci completions nushell | save --force ($nu.user-autoload-dirs.0 | path join cargo-oci.nu)"
)]
pub(crate) struct Flags {
    /// Shell to generate the script for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Shell that the program can generate a completion script for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Nushell,
    Powershell,
    Elvish,
}

/// Prints the completion script.
#[expect(clippy::unused_async, reason = "all commands have the same signature")]
pub(crate) async fn run(_: &Session, flags: Flags) -> Result<(), Error> {
    report::write_bytes(&generate_script(flags.shell, Cli::command()))
}

fn generate_script(shell: Shell, mut program: clap::Command) -> Vec<u8> {
    let mut script = Vec::new();
    let (command, out) = (&mut program, &mut script);
    match shell {
        Shell::Bash => generate(Bash, command, PROGRAM, out),
        Shell::Zsh => generate(Zsh, command, PROGRAM, out),
        Shell::Fish => generate(Fish, command, PROGRAM, out),
        Shell::Nushell => generate(Nushell, command, PROGRAM, out),
        Shell::Powershell => generate(PowerShell, command, PROGRAM, out),
        Shell::Elvish => generate(Elvish, command, PROGRAM, out),
    }
    match shell {
        Shell::Bash => correct_name(script),
        _ => script,
    }
}

/// Corrects the name `cargo-oci` in function names of the script. `clap_complete` replaces the hyphen in two different
/// ways, so without the correction the script would complete no command.
fn correct_name(script: Vec<u8>) -> Vec<u8> {
    let script = String::from_utf8(script).expect("a script is text");
    script
        .replace("cargo__subcmd__oci", "cargo__oci")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn script_of_every_shell_contains_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(generate_script(*shell, Cli::command()))
                .expect("a script is text");
            for command in Cli::command().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell:?}: {}",
                    command.get_name()
                );
            }
            assert!(script.contains("plain-http"), "{shell:?}");
        }
    }
}
