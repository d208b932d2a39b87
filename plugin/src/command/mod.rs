//! The commands: one file each.
//!
//! Owns the list of them, and what all have in common.

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

/// Every command of the plugin.
pub(crate) fn all() -> Vec<Box<dyn PluginCommand<Plugin = OciPlugin>>> {
    vec![
        Box::new(oci::Oci),
        Box::new(blob::Blob),
        Box::new(catalog::Catalog),
        Box::new(config::Config),
        Box::new(copy::Copy),
        Box::new(delete::Delete),
        Box::new(index::Index),
        Box::new(inspect::Inspect),
        Box::new(manifest::Manifest),
        Box::new(ping::Ping),
        Box::new(pull::Pull),
        Box::new(reference::Reference),
        Box::new(referrers::Referrers),
        Box::new(tag::Tag),
        Box::new(tags::Tags),
    ]
}

/// How an argument names a manifest.
const REFERENCE: &str =
    "The manifest, as `REGISTRY/REPOSITORY:TAG`, `…@DIGEST` or `oci:DIRECTORY:TAG`";

/// What people search for when they mean any of this.
const SEARCH_TERMS: [&str; 6] = [
    "docker",
    "container",
    "image",
    "registry",
    "artifact",
    "oras",
];

/// The ways to ask about something, with what comes of one thing and of a list.
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
        // The first command of a closure gets the closure's input, and has its arguments all the same.
        (Type::Any, Type::Any),
    ]
}

/// Search terms, and those of one command.
fn search_terms(own: &[&'static str]) -> Vec<&'static str> {
    [own, &SEARCH_TERMS].concat()
}
