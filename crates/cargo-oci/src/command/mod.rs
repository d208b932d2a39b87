//! Commands of `cargo oci`. Each command is a file with its flags and its `run` function. This file lists all commands.

mod attach;
mod batch;
mod blob;
mod catalog;
mod completions;
mod config;
mod copy;
mod delete;
mod digest;
mod export;
mod find;
mod index;
mod init;
mod inspect;
mod install;
mod login;
mod logout;
mod man;
mod manifest;
mod package_argument;
mod pull;
mod push;
mod referrers;
mod tag;
mod tags;
mod uninstall;
mod upgrade;
mod verify;
mod whoami;

use clap::Subcommand;

use crate::message::MessageFormat;
use crate::report::Error;
use crate::session::Session;

/// Declares the commands. Each line is the variant, the module, and the kind of output:
///
/// * `messages`: the flags contain `FormatFlag` as `format`.
/// * `nested`: the flags of each subcommand contain `FormatFlag`, which `Flags::message_format` reads.
/// * `data`: the command has no `--message-format`.
/// * `program`: like `data`, but `oci.toml` is not read, because the output describes only the program itself.
macro_rules! commands {
    ($($variant:ident $module:ident $output:ident;)*) => {
        /// Command with its flags.
        #[derive(Debug, Subcommand)]
        pub(crate) enum Command {
            $($variant(Box<$module::Flags>),)*
        }

        impl Command {
            /// Runs the command.
            pub(crate) async fn run(self, session: &Session) -> Result<(), Error> {
                match self {
                    $(Self::$variant(flags) => $module::run(session, *flags).await,)*
                }
            }

            /// Whether the command reads `oci.toml`.
            pub(crate) fn reads_defaults(&self) -> bool {
                match self {
                    $(Self::$variant(_) => commands!(@reads_defaults $output),)*
                }
            }

            /// Returns the output format.
            pub(crate) fn message_format(&self) -> MessageFormat {
                match self {
                    $(Self::$variant(_flags) => commands!(@message_format $output _flags),)*
                }
            }
        }
    };
    (@reads_defaults program) => { false };
    (@reads_defaults $output:ident) => { true };
    (@message_format messages $flags:ident) => { $flags.format.message_format };
    (@message_format nested $flags:ident) => { $flags.message_format() };
    (@message_format data $flags:ident) => { MessageFormat::Human };
    (@message_format program $flags:ident) => { MessageFormat::Human };
}

commands! {
    Push push messages;
    Pull pull messages;
    Tags tags messages;
    Catalog catalog messages;
    Inspect inspect messages;
    Digest digest data;
    Manifest manifest data;
    Config config data;
    Blob blob data;
    Copy copy messages;
    Tag tag messages;
    Delete delete messages;
    Index index nested;
    Attach attach messages;
    Referrers referrers messages;
    Verify verify messages;
    Export export data;
    Init init data;
    Install install messages;
    Upgrade upgrade messages;
    Uninstall uninstall messages;
    Login login data;
    Logout logout data;
    Whoami whoami messages;
    Completions completions program;
    Man man program;
}
