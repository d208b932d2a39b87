//! The rig of the end-to-end tests: real parts on loopback, real programs in a clean environment.
//!
//! It knows the two programs only from outside, as a user does: argument lists, files, exit codes
//! and what stands on stdout and stderr. It links none of their crates, so that a test cannot pass
//! because both sides share a mistake.
//!
//! | room | owns |
//! | --- | --- |
//! | [`testbed`] | where the real parts and the built programs lie, and what happens when one is missing |
//! | [`registry`] | a docker-registry process: open, with passwords, with tokens |
//! | [`token`] | the token server beside it |
//! | [`aws`] | stand-ins for AWS, which give passwords for registries |
//! | [`hanging`] | a registry that stops responding after the first page of a list |
//! | [`delay`] | a proxy in front of a registry that delays responses or lists of tags |
//! | [`throttle`] | a proxy that limits the rate of connections and counts their bytes |
//! | [`program`] | a home of its own for a program, and its run |
//! | [`terminal`] | a program in a terminal, and Ctrl-C |
//! | [`stock`] | fifty repositories of small artifacts, of which everything is known |
//! | [`sources`] | crates to push, in a directory of their own |
//! | [`release`] | what stands in a registry already: a package for two targets, an image |
//! | [`matrix`] | eight jobs that publish one version at once |
//! | [`layout`] | OCI layout directories, read without our own code |
//! | [`messages`] | the documented schema of JSON messages, to hold lines against |
//!
//! HTTP on 127.0.0.1, scripted servers and the recording proxy come from the test kit.
//!
//! Everything that a value started ends with the value, also when its test panics.

// A rig that cannot be set up is a failed test, and a panic is how a test fails.
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
pub mod sources;
pub mod stock;
pub mod terminal;
pub mod testbed;
pub mod throttle;
pub mod token;

pub use testkit::{loopback, recorder, server, sha256};
