//! Eight jobs of a CI matrix that publish one version at the same time, and the content of the registry afterwards.
//!
//! Each job is a separate process with its own home directory, cache, temporary directory and sources. The jobs push
//! prepared files (`--file`), so they need no toolchain for any target.

use std::collections::BTreeMap;
use std::thread;

use serde_json::Value;

use crate::delay::{DelayingProxy, Delays};
use crate::program::{Home, Outcome, Run};
use crate::recorder::Recorder;
use crate::registry::Registry;
use crate::sources::Sources;

/// Targets of the jobs.
pub const TARGETS: [&str; 8] = [
    "aarch64-apple-darwin",
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-gnueabihf",
    "s390x-unknown-linux-gnu",
    "x86_64-pc-windows-msvc",
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
];

/// Version that all jobs publish.
const VERSION: &str = "1.2.3";
/// Tag of the index that [`JobCommand::IndexAdd`] edits. It is not a version.
const COLLECTION: &str = "collection";

/// Command that each job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobCommand {
    /// `push --target T`; the release targets are not declared.
    Push,
    /// `push --target T`; the release targets are declared.
    PushDeclared,
    /// `index add` of existing manifests, for a tag that is not a version.
    IndexAdd,
}

/// Result of one round. In a round, each of the eight jobs runs once, all at the same time.
#[derive(Clone, Debug)]
pub struct Round {
    /// Outcomes of the jobs that failed.
    pub failures: Vec<Outcome>,
    /// Targets whose manifest does not exist, or is not in the final index.
    pub lost: Vec<String>,
    /// Number of PUT requests for the index tag, for each digest of a pushed index.
    pub index_puts: BTreeMap<String, usize>,
}

impl Round {
    /// Whether every job succeeded and the index contains all targets.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty() && self.lost.is_empty()
    }

    /// Returns the number of PUT requests for the index.
    #[must_use]
    pub fn index_writes(&self) -> usize {
        self.index_puts.values().sum()
    }
}

/// Eight jobs, each with a home directory and sources, and the registry that they share.
#[derive(Debug)]
pub struct Matrix {
    registry: Registry,
    recorder: Recorder,
    _proxy: DelayingProxy,
    jobs: Vec<Job>,
}

#[derive(Debug)]
struct Job {
    target: &'static str,
    home: Home,
    sources: Sources,
}

impl Matrix {
    /// Creates eight jobs, and an empty registry behind a proxy that adds these delays.
    #[must_use]
    pub fn new(delays: Delays) -> Self {
        let registry = Registry::open();
        let proxy = DelayingProxy::start(registry.host(), delays);
        let recorder = Recorder::start(&proxy.host());
        let job = |target| {
            let sources = Sources::widgets();
            sources.write("made/round", target);
            Job {
                target,
                home: Home::new(),
                sources,
            }
        };
        Self {
            registry,
            recorder,
            _proxy: proxy,
            jobs: TARGETS.map(job).into(),
        }
    }

    /// Runs one round in a new repository.
    #[must_use]
    pub fn round(&self, work: JobCommand, number: usize) -> Round {
        let namespace = format!("round-{number}-{work:?}").to_lowercase();
        let repository = format!("{namespace}/widgets");
        let location = format!("{}/{namespace}", self.recorder.host());
        let runs: Vec<_> = match work {
            JobCommand::Push => self
                .jobs
                .iter()
                .map(|job| job.push(&location, &[]))
                .collect(),
            JobCommand::PushDeclared => {
                let targets = TARGETS.join(",");
                let declared = ["--release-targets", &targets];
                self.jobs
                    .iter()
                    .map(|job| job.push(&location, &declared))
                    .collect()
            }
            JobCommand::IndexAdd => {
                // The manifests are pushed one after another, without delays.
                let aside = format!("{}/{namespace}", self.registry.host());
                for job in &self.jobs {
                    job.push(&aside, &["--no-index"]).succeeds();
                }
                let add = |job: &Job| job.add(&format!("{location}/widgets"));
                self.jobs.iter().map(add).collect()
            }
        };
        let tag = if work == JobCommand::IndexAdd {
            COLLECTION
        } else {
            VERSION
        };
        let _ = self.recorder.take();
        let outcomes = run_concurrently(runs);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let mut index_puts = BTreeMap::new();
        for request in self.recorder.take() {
            if request.method == "PUT" && request.path == path {
                *index_puts
                    .entry(request.digest.unwrap_or_default())
                    .or_default() += 1;
            }
        }
        let index_digests = self.index_digests(&repository, tag);
        let is_lost = |target: &str| {
            let expected = self
                .registry
                .digest(&repository, &format!("{VERSION}__{target}"));
            expected.is_none() || index_digests.get(target) != expected.as_ref()
        };
        Round {
            lost: TARGETS
                .into_iter()
                .filter(|target| is_lost(target))
                .map(str::to_owned)
                .collect(),
            failures: outcomes
                .into_iter()
                .filter(|outcome| outcome.code != Some(0))
                .collect(),
            index_puts,
        }
    }

    /// Returns the digest of each target in the index that a tag names.
    fn index_digests(&self, repository: &str, tag: &str) -> BTreeMap<String, String> {
        let index = self.registry.manifest(repository, tag);
        let entries = index
            .as_ref()
            .and_then(|(_, index)| index["manifests"].as_array());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pair = |entry: &Value| {
            let target = text(&entry["annotations"]["dev.cargo-oci.target"]);
            (target, text(&entry["digest"]))
        };
        entries.into_iter().flatten().map(pair).collect()
    }
}

impl Job {
    fn push(&self, location: &str, more: &[&str]) -> Run {
        let arguments = [
            "push",
            "--file",
            "round=made/round",
            "--target",
            self.target,
            "--registry",
            location,
        ];
        let arguments = arguments.iter().chain(more).copied();
        self.home.cargo_oci(arguments).within(self.sources.path())
    }

    fn add(&self, repository: &str) -> Run {
        let index = format!("{repository}:{COLLECTION}");
        let manifest = format!("{repository}:{VERSION}__{}", self.target);
        self.home.cargo_oci(["index", "add", &index, &manifest])
    }
}

/// Runs all jobs at the same time, and waits until all of them exit.
fn run_concurrently(runs: Vec<Run>) -> Vec<Outcome> {
    thread::scope(|scope| {
        let running: Vec<_> = runs
            .into_iter()
            .map(|run| scope.spawn(move || run.outcome()))
            .collect();
        let ended = running
            .into_iter()
            .map(|job| job.join().expect("a job does not panic"));
        ended.collect()
    })
}
