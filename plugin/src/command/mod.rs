//! Commands of the plugin, one file per command.
//!
//! Contains the list of all commands, and the parts that several signatures share.

mod blob;
mod catalog;
mod config;
mod copy;
mod delete;
mod index;
mod inspect;
mod manifest;
mod oci;
mod ping;
mod pull;
mod reference;
mod referrers;
mod tag;
mod tags;

use nu_plugin::PluginCommand;
use nu_protocol::Type;

use crate::OciPlugin;

/// Returns all commands of the plugin.
pub(crate) fn all_commands() -> Vec<Box<dyn PluginCommand<Plugin = OciPlugin>>> {
    vec![
        Box::new(oci::OciCommand),
        Box::new(blob::BlobCommand),
        Box::new(catalog::CatalogCommand),
        Box::new(config::ConfigCommand),
        Box::new(copy::CopyCommand),
        Box::new(delete::DeleteCommand),
        Box::new(index::IndexCommand),
        Box::new(inspect::InspectCommand),
        Box::new(manifest::ManifestCommand),
        Box::new(ping::PingCommand),
        Box::new(pull::PullCommand),
        Box::new(reference::ReferenceCommand),
        Box::new(referrers::ReferrersCommand),
        Box::new(tag::TagCommand),
        Box::new(tags::TagsCommand),
    ]
}

/// Description of an argument that refers to a manifest.
const REFERENCE: &str =
    "The manifest, as `REGISTRY/REPOSITORY:TAG`, `…@DIGEST` or `oci:DIRECTORY:TAG`";

/// Search terms of every command.
const SEARCH_TERMS: [&str; 6] = [
    "docker",
    "container",
    "image",
    "registry",
    "artifact",
    "oras",
];

/// Returns the input and output types of a command that returns `one` for a single operand and `list` for a list of
/// operands.
fn input_output_types(one: &Type, list: &Type) -> Vec<(Type, Type)> {
    vec![
        (
            Type::one_of([Type::Nothing, Type::String, Type::record()]),
            one.clone(),
        ),
        (
            Type::one_of([Type::list(Type::String), Type::table()]),
            list.clone(),
        ),
        // The first command of a closure receives the closure's input even if it has arguments.
        (Type::Any, Type::Any),
    ]
}

/// Returns the search terms of one command, followed by the search terms of every command.
fn search_terms(specific: &[&'static str]) -> Vec<&'static str> {
    [specific, &SEARCH_TERMS].concat()
}
