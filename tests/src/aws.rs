//! A stand-in for AWS on a free loopback port: moto, which gives tokens for Amazon's registries to
//! everybody who signs a request.
//!
//! It has no registry of its own; [`Registry::of_amazon`](crate::registry::Registry::of_amazon)
//! takes the password that it gives out.

use std::process::Command;

use crate::process::Process;
use crate::program::Run;
use crate::testbed::Part;

/// The key that requests are signed with, which is a secret.
pub const SECRET_KEY: &str = "canary-d41d8cd98f";

/// A running stand-in.
#[derive(Debug)]
pub struct Aws {
    process: Process,
    host: String,
}

impl Aws {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        let mut server = Command::new(Part::Moto.path());
        server.args(["-H", "127.0.0.1", "-p", "0"]);
        let mut process = Process::start(&server);
        let host = process.listening("Running on http://");
        Self { process, host }
    }

    /// The program finds AWS here, and has keys for it.
    #[must_use]
    pub fn known_to(&self, run: Run) -> Run {
        run.with("AWS_ENDPOINT_URL_ECR", format!("http://{}", self.host))
            .with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .with("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .with("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// How many requests came so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        let log = self.process.log();
        log.lines().filter(|line| line.contains("POST /")).count()
    }
}
