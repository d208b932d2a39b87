//! The commands: one file each.
//!
//! Owns the list of them, and what all have in common.

mod catalog;
mod manifest;
mod oci;
mod tags;

use nu_plugin::PluginCommand;
use nu_protocol::Type;

use crate::OciPlugin;

/// Every command of the plugin.
pub(crate) fn all() -> Vec<Box<dyn PluginCommand<Plugin = OciPlugin>>> {
    vec![
        Box::new(oci::Oci),
        Box::new(catalog::Catalog),
        Box::new(manifest::Manifest),
        Box::new(tags::Tags),
    ]
}

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
