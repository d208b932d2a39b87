//! The verbs, a file each: its flags, and what it does with the core.

pub(crate) mod attach;
pub(crate) mod blob;
pub(crate) mod catalog;
pub(crate) mod completions;
pub(crate) mod config;
mod contents;
pub(crate) mod copy;
pub(crate) mod delete;
pub(crate) mod export;
mod filter;
mod find;
pub(crate) mod index;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod install;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod man;
pub(crate) mod manifest;
mod missing;
mod naming;
mod output;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod referrers;
pub(crate) mod tag;
pub(crate) mod tags;
mod typed_path;
pub(crate) mod uninstall;
pub(crate) mod verify;
pub(crate) mod whoami;

use crate::argument::{Complaint, location, registry};
pub(crate) use typed_path::TypedPath;

/// Whether a text has the form `type/subtype` (RFC 6838, 4.2).
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}
