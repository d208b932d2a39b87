//! `nu_plugin_oci`: OCI registries as Nushell tables.
//!
//! A front end over `oci-registry` and `oci-package`, and nothing more: what it knows itself is Nushell. A library, so
//! that tests can serve the plugin within their own process; the program is one.
//!
//! | room | owns |
//! | --- | --- |
//! | `command` | one file per command: its signature, its examples, its rows |
//! | `input` | what a command is asked about, from arguments or the pipeline |
//! | `session` | a call of a command: what it begins with and ends in |
//! | `settings` | flags, and their defaults in `$env.config.plugins.oci` |
//! | `connection` | the client, kept warm while the shell's surroundings stay as they are |
//! | `place` | a repository, a layout directory or an archive, opened |
//! | `lookup` | which manifest a command means |
//! | `missing` | what was not found: the part to blame, and what to do next |
//! | `runtime` | waiting and streaming, both ended by Ctrl-C |
//! | `completion` | names for the Tab key: registries, repositories, tags |
//! | `value`, `json` | values of the core, and documents of anybody, as values of Nushell |
//! | `report` | errors of the core as errors of Nushell |
//! | `serve` | the line to the shell |

mod command;
mod completion;
mod connection;
mod hints;
mod input;
mod json;
mod lookup;
mod missing;
mod place;
mod report;
mod runtime;
mod serve;
mod session;
mod settings;
mod value;

use std::sync::Arc;

use nu_plugin::{Plugin, PluginCommand};

use completion::Completions;
use connection::Connections;
use runtime::Runtime;
use serve::Calls;

pub use serve::serve;

/// The plugin. Making one costs nothing: threads and connections come with the first command that needs them.
#[derive(Debug, Default)]
pub struct OciPlugin {
    runtime: Runtime,
    connections: Connections,
    completions: Completions,
    calls: Arc<Calls>,
}

impl Plugin for OciPlugin {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    fn commands(&self) -> Vec<Box<dyn PluginCommand<Plugin = Self>>> {
        command::all()
    }
}
