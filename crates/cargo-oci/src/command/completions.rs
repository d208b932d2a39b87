//! `cargo oci completions`: print a shell completion script.
//!
//! `clap_complete` generates the completion of `cargo-oci`. For bash, zsh, fish and Nushell, a script from the
//! directory `completions` adds `cargo oci`. Cargo's own completion handles all other commands.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::generate;
use clap_complete::shells::{Bash, Elvish, Fish, PowerShell, Zsh};
use clap_complete_nushell::Nushell;

use crate::cli::Cli;
use crate::report::{self, Error};
use crate::session::Session;

/// Name of the program that the scripts complete.
const PROGRAM: &str = "cargo-oci";

/// Print a shell completion script for `cargo oci`
///
/// The scripts for bash, zsh, fish and Nushell complete `cargo oci` and `cargo-oci`, those for PowerShell and elvish
/// only `cargo-oci`. All other commands of cargo are completed as before.
///
/// For bash, add the line of the example to ~/.bashrc, after the lines that load other completions. For zsh, add
/// `fpath+=~/.zfunc` to ~/.zshrc before `compinit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  source <(cargo oci completions bash)\n  cargo oci completions zsh > ~/.zfunc/_cargo-oci\n  cargo oci completions fish > ~/.config/fish/conf.d/cargo-oci.fish\n  cargo oci completions nushell | save --force ($nu.user-autoload-dirs.0 | path join cargo-oci.nu)"
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
    let script = String::from_utf8(script).expect("a script is text");
    let script = match shell {
        Shell::Bash => correct_name(&script) + include_str!("completions/cargo.bash"),
        Shell::Zsh => add_to_zsh(&script),
        Shell::Fish => script + include_str!("completions/cargo.fish"),
        Shell::Nushell => script + include_str!("completions/cargo.nu"),
        Shell::Powershell | Shell::Elvish => script,
    };
    script.into_bytes()
}

/// Corrects the name `cargo-oci` in function names of the script. `clap_complete` replaces the hyphen in two different
/// ways, so without the correction the script would complete no command.
fn correct_name(script: &str) -> String {
    script.replace("cargo__subcmd__oci", "cargo__oci")
}

/// Renames the generated function and adds a function that calls it. Both `compinit` and cargo's own completion call
/// this function by its name, `_cargo-oci`.
fn add_to_zsh(script: &str) -> String {
    let script = script
        .replacen("#compdef cargo-oci", "#compdef cargo-oci cargo", 1)
        .replacen("\n_cargo-oci() {", "\n_cargo-oci_main() {", 1);
    let end = script.rfind("\nif [ ").unwrap_or(script.len());
    script[..end].to_owned() + include_str!("completions/cargo.zsh")
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
