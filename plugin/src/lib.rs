//! `nu_plugin_oci`: OCI registries as Nushell tables.
//!
//! The plugin is a front end to `oci-registry` and `oci-package`, and implements only the integration with Nushell. It
//! is a library, so that tests can run the plugin in their own process. The program `nu_plugin_oci` calls [`serve`].
//!
//! | module | contents |
//! | --- | --- |
//! | `command` | one file per command: its signature, its examples, its rows |
//! | `input` | operands of a command, from its arguments or the pipeline |
//! | `call_context` | state of one command call |
//! | `settings` | connection flags, and their defaults in `$env.config.plugins.oci` |
//! | `connection` | the HTTP client, reused while the shell's environment does not change |
//! | `open_location` | an opened repository, layout directory or archive |
//! | `resolver` | resolution of an operand to a manifest |
//! | `not_found` | errors for content that was not found |
//! | `runtime` | waiting for results and streaming of rows, until Ctrl-C |
//! | `completion` | completion of registries, repositories, tags, targets and platforms |
//! | `value`, `json` | conversion of library types and JSON documents to Nushell values |
//! | `report` | conversion of library errors to Nushell errors |
//! | `hints` | text of the hints of library errors |
//! | `serve` | communication with the shell |

mod call_context;
mod command;
mod completion;
mod connection;
mod hints;
mod input;
mod json;
mod not_found;
mod open_location;
mod report;
mod resolver;
mod runtime;
mod serve;
mod settings;
mod value;

use std::sync::Arc;

use nu_plugin::{Plugin, PluginCommand};

use completion::CompletionCache;
use connection::ClientCache;
use runtime::Runtime;
use serve::CallCounter;

pub use serve::serve;

/// The Nushell plugin.
///
/// The first command that needs threads or connections starts them.
#[derive(Debug, Default)]
pub struct OciPlugin {
    runtime: Runtime,
    clients: ClientCache,
    completions: CompletionCache,
    calls: Arc<CallCounter>,
}

impl Plugin for OciPlugin {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    fn commands(&self) -> Vec<Box<dyn PluginCommand<Plugin = Self>>> {
        command::all_commands()
    }
}
