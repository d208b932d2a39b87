//! Harness of the end-to-end tests: real servers on loopback, real programs in a clean environment.
//!
//! The harness uses the two programs as a user does: through arguments, files, exit codes, stdout and stderr. It links
//! none of their crates, so a test cannot pass because program and test share a mistake.
//!
//! | module | contents |
//! | --- | --- |
//! | [`testbed`] | paths of external tools and built programs, and the policy for missing ones |
//! | [`registry`] | a CNCF Distribution process: without authentication, with Basic, with Bearer |
//! | [`token`] | the token server of a registry |
//! | [`aws`] | fake AWS services, which return passwords for registries |
//! | [`hanging`] | a registry that stops responding after the first page of a list |
//! | [`delay`] | a proxy in front of a registry that delays responses or lists of tags |
//! | [`throttle`] | a proxy that limits the rate of connections and counts their bytes |
//! | [`program`] | temporary home directories, and runs of programs |
//! | [`terminal`] | programs in a pseudoterminal, and Ctrl-C |
//! | [`sample_registry`] | generated content of a registry: fifty repositories of small artifacts |
//! | [`sources`] | crates to push, in temporary directories |
//! | [`release`] | fixtures: a package for two targets, an image |
//! | [`matrix`] | eight jobs that publish one version at once |
//! | [`layout`] | OCI image layouts, read without code of this project |
//! | [`messages`] | validation of JSON messages against their documentation |
//!
//! HTTP on 127.0.0.1, scripted servers and the recording proxy come from the test kit.
//!
//! Processes and servers end when the value that started them is dropped, also when the test panics.

// A panic fails the test, which is intended when the harness cannot be set up.
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
