//! Eight jobs of a CI matrix that publish one version at the same moment, and what the registry holds afterwards.
//!
//! Each job is a process of its own with a home, a cache, a temporary directory and sources of its own. The jobs hand in
//! their files: no target needs a toolchain.

use std::collections::BTreeMap;
use std::thread;

use serde_json::Value;

use crate::delay::{DelayingProxy, Delays};
use crate::program::{Home, Outcome, Run};
use crate::recorder::Recorder;
use crate::registry::Registry;
use crate::sources::Sources;

/// The targets of the jobs.
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

/// The version that all publish.
const VERSION: &str = "1.2.3";
/// A tag that is no version, for indexes that are edited.
const COLLECTION: &str = "collection";

/// How the jobs work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// `push --target T`, none knows of the others.
    Push,
    /// The same, and the targets of the release are declared.
    PushDeclared,
    /// `index add` of manifests that are there already, to a tag that is no version.
    IndexAdd,
}

/// What one round left behind.
#[derive(Clone, Debug)]
pub struct Round {
    /// The jobs that did not end with 0, as they ended.
    pub failures: Vec<Outcome>,
    /// The targets whose job succeeded and whose manifest the final index does not hold under that target.
    pub lost: Vec<String>,
    /// Every digest that the index had in this round, each as often as it was put under the tag.
    pub index_puts: BTreeMap<String, usize>,
}

impl Round {
    /// Whether every job succeeded and the index holds all of them.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.failures.is_empty() && self.lost.is_empty()
    }

    /// How often the index was put under the tag.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.index_puts.values().sum()
    }
}

/// Eight jobs with their homes and sources, before one registry.
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
    /// Creates eight jobs and an empty registry behind a proxy with these delays.
    #[must_use]
    pub fn new(delays: Delays) -> Self {
        let registry = Registry::open();
        let proxy = DelayingProxy::before(registry.host(), delays);
        let recorder = Recorder::before(&proxy.host());
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

    /// One round in a repository of its own.
    #[must_use]
    pub fn round(&self, work: Work, number: usize) -> Round {
        let namespace = format!("round-{number}-{work:?}").to_lowercase();
        let repository = format!("{namespace}/widgets");
        let place = format!("{}/{namespace}", self.recorder.host());
        let runs: Vec<_> = match work {
            Work::Push => self.jobs.iter().map(|job| job.push(&place, &[])).collect(),
            Work::PushDeclared => {
                let targets = TARGETS.join(",");
                let declared = ["--targets-of-release", &targets];
                self.jobs
                    .iter()
                    .map(|job| job.push(&place, &declared))
                    .collect()
            }
            Work::IndexAdd => {
                // The manifests are pushed one after the other, without delays.
                let aside = format!("{}/{namespace}", self.registry.host());
                for job in &self.jobs {
                    job.push(&aside, &["--no-index"]).succeeds();
                }
                let add = |job: &Job| job.add(&format!("{place}/widgets"));
                self.jobs.iter().map(add).collect()
            }
        };
        let tag = if work == Work::IndexAdd {
            COLLECTION
        } else {
            VERSION
        };
        let _ = self.recorder.take();
        let outcomes = at_once(runs);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let mut index_puts = BTreeMap::new();
        for request in self.recorder.take() {
            if request.method == "PUT" && request.path == path {
                *index_puts
                    .entry(request.digest.unwrap_or_default())
                    .or_default() += 1;
            }
        }
        let held = self.held(&repository, tag);
        let is_lost = |target: &str| {
            let expected = self
                .registry
                .digest(&repository, &format!("{VERSION}__{target}"));
            expected.is_none() || held.get(target) != expected.as_ref()
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

    /// The digest that the index under a tag holds for each target.
    fn held(&self, repository: &str, tag: &str) -> BTreeMap<String, String> {
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
    fn push(&self, place: &str, more: &[&str]) -> Run {
        let arguments = [
            "push",
            "--file",
            "round=made/round",
            "--target",
            self.target,
            "--registry",
            place,
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

/// Runs all of them at the same time, each to its end.
fn at_once(runs: Vec<Run>) -> Vec<Outcome> {
    thread::scope(|scope| {
        let running: Vec<_> = runs
            .into_iter()
            .map(|run| scope.spawn(move || run.outcome()))
            .collect();
        let ended = running
            .into_iter()
            .map(|job| job.join().expect("a run that ends"));
        ended.collect()
    })
}
