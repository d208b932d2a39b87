//! Harness of the end-to-end tests, which run real programs in a clean environment against real servers on loopback.
//!
//! The harness uses the two programs as a user does: through arguments, files, exit codes, stdout and stderr. The
//! harness links none of their crates: if it did, a test could pass although program and test have the same mistake.
//!
//! | module | contents |
//! | --- | --- |
//! | [`testbed`] | paths of external tools and built programs, and the policy for missing ones |
//! | [`registry`] | a CNCF Distribution process without authentication, or with Basic or Bearer authentication |
//! | [`token`] | the token server of a registry |
//! | [`aws`] | fake AWS services, which return passwords for Amazon's registries |
//! | [`hanging`] | a registry that responds only to requests for the first page of a list |
//! | [`delay`] | a proxy in front of a registry that delays responses or omits new tags from lists |
//! | [`throttle`] | a proxy that limits the rate of connections and counts their bytes |
//! | [`program`] | temporary home directories, and runs of programs |
//! | [`terminal`] | programs in a pseudoterminal, and Ctrl-C |
//! | [`sample_registry`] | generated content of a registry: fifty repositories of small artifacts |
//! | [`sources`] | crates to push, in temporary directories |
//! | [`release`] | fixtures: a package for two targets, an image |
//! | [`matrix`] | eight jobs that publish one version at the same time |
//! | [`layout`] | OCI image layouts, read without code of this project |
//! | [`messages`] | validation of JSON messages against their documentation |
//!
//! The test kit provides HTTP on 127.0.0.1, scripted servers and the recording proxy.
//!
//! Processes and servers stop when the value that started them is dropped, even if the test panics.

// If the harness cannot be set up, it panics, and the panic fails the test as intended.
#![allow(clippy::missing_panics_doc)]

pub mod aws;
pub mod delay;
mod directory;
pub mod hanging;
pub mod layout;
pub mod matrix;
pub mod messages;
mod process;
pub mod program;
pub mod registry;
pub mod release;
pub mod sample_registry;
pub mod sources;
pub mod terminal;
pub mod testbed;
pub mod throttle;
pub mod token;

pub use testkit::{loopback, recorder, server, sha256};
