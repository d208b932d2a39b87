//! Flags of `cargo build` that select what is built, and their conversion to arguments for cargo.
//!
//! Names, short forms, headings and help texts are those of the `cargo-options` crate. The following flags are not
//! supported:
//!
//! * `--message-format`, `--quiet`, `--verbose`, `--color`: options that this program defines itself, and passes to
//!   cargo with [`OutputOptions`](super::OutputOptions);
//! * `--test`, `--tests`, `--bench`, `--benches`, `--all-targets`: test programs are not published;
//! * `--artifact-dir`, `--unit-graph`, `--compile-time-deps`: unstable, and they change cargo's messages;
//! * `--timings`, `--future-incompat-report`: they only add reports.
//!
//! `--package`, `--bin`, `--example` and `--target` require a value. Cargo accepts these flags without a value, and
//! then lists the possible values. This program would ignore such a flag, and publish too many files.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

use cargo_options::Build;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use oci_package::FileKind;

/// Supported flags, by the names of their fields in [`Build`].
const SUPPORTED: [&str; 25] = [
    "packages",
    "workspace",
    "exclude",
    "all",
    "lib",
    "bins",
    "bin",
    "examples",
    "example",
    "features",
    "all_features",
    "no_default_features",
    "jobs",
    "keep_going",
    "release",
    "profile",
    "target",
    "target_dir",
    "manifest_path",
    "ignore_rust_version",
    "locked",
    "offline",
    "frozen",
    "config",
    "unstable_flags",
];

/// Cargo flags that select the packages, targets and profile of a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection(Build);

impl Selection {
    /// Creates a selection with only `--manifest-path`.
    pub(crate) fn from_manifest(path: Option<PathBuf>) -> Self {
        Self(Build {
            manifest_path: path,
            ..Build::default()
        })
    }

    /// Returns the profile. The default is `release`.
    pub(crate) fn profile(&self) -> &str {
        self.0.common.profile.as_deref().unwrap_or("release")
    }

    /// Returns the name of the directory in which cargo writes the files of the profile.
    pub(super) fn profile_directory(&self) -> &str {
        match self.profile() {
            "dev" | "test" => "debug",
            "bench" => "release",
            other => other,
        }
    }

    /// Returns the values of `--target` without duplicates: triples, `host-tuple`, or paths of target specifications.
    pub(crate) fn targets(&self) -> Vec<&str> {
        let mut targets: Vec<&str> = Vec::new();
        for target in &self.0.common.target {
            if !targets.contains(&target.as_str()) {
                targets.push(target);
            }
        }
        targets
    }

    /// Whether `--example` or `--examples` was given.
    fn wants_examples(&self) -> bool {
        self.0.examples || !self.0.example.is_empty()
    }

    /// Returns the kinds of files that are published by default.
    pub(crate) fn default_kinds(&self) -> BTreeSet<FileKind> {
        let is_default = |kind: &FileKind| {
            kind.is_pushed_by_default() || (*kind == FileKind::Example && self.wants_examples())
        };
        FileKind::ALL.into_iter().filter(is_default).collect()
    }

    /// Returns the absolute path of `--target-dir`, if it was given.
    pub(super) fn target_directory(&self, working_directory: &Path) -> Option<PathBuf> {
        let directory = self.0.common.target_dir.as_ref()?;
        Some(working_directory.join(directory))
    }

    /// Returns the values of `--package`.
    pub(super) fn packages(&self) -> &[String] {
        &self.0.packages
    }

    /// Returns the values of `--exclude`.
    pub(super) fn excluded(&self) -> &[String] {
        &self.0.exclude
    }

    /// Whether `--workspace` was given.
    pub(super) fn is_whole_workspace(&self) -> bool {
        self.0.workspace || self.0.all
    }

    /// Whether no flag selects cargo targets, so that cargo builds the libraries and programs of each package.
    pub(crate) fn has_no_filter(&self) -> bool {
        let build = &self.0;
        let is_any = build.lib || build.bins || build.examples;
        !is_any && build.bin.is_empty() && build.example.is_empty()
    }

    /// Returns the targets to build, one per `cargo build` command. `None` is the default target in cargo's
    /// configuration.
    pub(super) fn build_targets(&self) -> Vec<Option<&str>> {
        let targets = self.targets();
        if targets.is_empty() {
            return vec![None];
        }
        targets.into_iter().map(Some).collect()
    }

    /// Returns the arguments of `cargo build` for one target, or for the default target if `None`.
    pub(super) fn build_arguments(
        &self,
        target: Option<&str>,
        working_directory: &Path,
    ) -> Vec<OsString> {
        let mut build = self.0.clone();
        build.release = false;
        build.common.profile = Some(self.profile().to_owned());
        build.common.target_dir = self.target_directory(working_directory);
        // The target is added below, because `cargo-options` truncates it at the first dot. For cargo-zigbuild, the
        // text after the dot is a glibc version.
        build.common.target.clear();
        let mut arguments: Vec<OsString> =
            build.command().get_args().map(ToOwned::to_owned).collect();
        arguments.extend(
            target
                .into_iter()
                .flat_map(|t| ["--target".into(), t.into()]),
        );
        arguments
    }

    /// Returns the arguments for other cargo commands that read the same manifests.
    pub(super) fn manifest_arguments(&self) -> Vec<OsString> {
        let build = Build {
            manifest_path: self.0.manifest_path.clone(),
            common: cargo_options::CommonOptions {
                frozen: self.0.common.frozen,
                locked: self.0.common.locked,
                offline: self.0.common.offline,
                config: self.0.common.config.clone(),
                unstable_flags: self.0.common.unstable_flags.clone(),
                ..Default::default()
            },
            ..Default::default()
        };
        subcommand_arguments(&build)
    }
}

/// Returns the arguments that follow `cargo build`.
fn subcommand_arguments(build: &Build) -> Vec<OsString> {
    build
        .command()
        .get_args()
        .skip(1)
        .map(ToOwned::to_owned)
        .collect()
}

impl Args for Selection {
    fn augment_args(command: Command) -> Command {
        let declared = Build::augment_args(Command::new("build"));
        let supported = declared
            .get_arguments()
            .filter(|argument| SUPPORTED.contains(&argument.get_id().as_str()))
            .cloned()
            .map(|argument| {
                let takes_value = argument
                    .get_num_args()
                    .is_some_and(|range| range.max_values() == 1);
                if takes_value {
                    argument.num_args(1)
                } else {
                    argument
                }
            });
        command.args(supported)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Selection {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut selection = Self::default();
        selection.update_from_arg_matches(matches)?;
        Ok(selection)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let one = |id| matches.get_one::<String>(id).cloned();
        let path = |id| matches.get_one::<PathBuf>(id).cloned();
        let many = |id| {
            matches
                .get_many::<String>(id)
                .into_iter()
                .flatten()
                .cloned()
                .collect()
        };
        let flag = |id| matches.get_flag(id);
        self.0 = Build {
            packages: many("packages"),
            workspace: flag("workspace"),
            exclude: many("exclude"),
            all: flag("all"),
            lib: flag("lib"),
            bins: flag("bins"),
            bin: many("bin"),
            examples: flag("examples"),
            example: many("example"),
            release: flag("release"),
            manifest_path: path("manifest_path"),
            ignore_rust_version: flag("ignore_rust_version"),
            common: cargo_options::CommonOptions {
                features: many("features"),
                all_features: flag("all_features"),
                no_default_features: flag("no_default_features"),
                jobs: matches.get_one::<usize>("jobs").copied(),
                keep_going: flag("keep_going"),
                profile: one("profile"),
                target: many("target"),
                target_dir: path("target_dir"),
                locked: flag("locked"),
                offline: flag("offline"),
                frozen: flag("frozen"),
                config: many("config"),
                unstable_flags: many("unstable_flags"),
                ..Default::default()
            },
            ..Default::default()
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Command with the global flags and the cargo flags.
    #[derive(Debug, Parser)]
    struct TestCommand {
        #[command(flatten)]
        selection: Selection,
        reference: Option<String>,
        #[arg(short, long, global = true)]
        quiet: bool,
        #[arg(long, global = true)]
        color: Option<clap::ColorChoice>,
        #[arg(long)]
        message_format: Option<String>,
    }

    fn parse(line: &str) -> Result<Selection, clap::Error> {
        let words = std::iter::once("push").chain(line.split_whitespace());
        TestCommand::try_parse_from(words).map(|command| command.selection)
    }

    fn arguments(line: &str, target: Option<&str>) -> String {
        let arguments = parse(line)
            .unwrap()
            .build_arguments(target, Path::new("/home/me"));
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn flags_do_not_conflict_with_global_flags() {
        <TestCommand as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_supported_flag_is_passed_to_cargo() {
        let declared = Build::augment_args(Command::new("build"));
        for id in SUPPORTED {
            assert!(
                declared
                    .get_arguments()
                    .any(|argument| argument.get_id() == id),
                "{id}"
            );
        }
        let line = "-p a --package b --workspace --exclude c --all --lib --bins --bin d --examples \
                    --example e -F f --all-features --no-default-features -j 3 --keep-going \
                    --profile dist --target-dir out --manifest-path x/Cargo.toml \
                    --ignore-rust-version --locked --offline --frozen --config g=1 -Z h";
        let passed = arguments(line, Some("t.json"));
        for word in line
            .replace("-p a", "--package a")
            .replace("-F", "--features")
            .split_whitespace()
        {
            let word = match word {
                "-j" => "--jobs",
                "out" => "/home/me/out",
                other => other,
            };
            assert!(
                passed.split(' ').any(|passed| passed == word),
                "{word} in {passed}"
            );
        }
        assert!(passed.ends_with("--target t.json"), "{passed}");
    }

    #[test]
    fn release_profile_is_the_default() {
        assert_eq!(arguments("", None), "build --profile release");
        assert_eq!(arguments("--release", None), "build --profile release");
        assert_eq!(
            arguments("-r -q --color never", None),
            "build --profile release"
        );
        assert!(parse("--release --profile dev").is_err());
    }

    #[test]
    fn profile_directory_is_derived_from_profile() {
        let directory = |profile: &str| parse(profile).unwrap().profile_directory().to_owned();
        assert_eq!(directory(""), "release");
        assert_eq!(directory("--profile dev"), "debug");
        assert_eq!(directory("--profile test"), "debug");
        assert_eq!(directory("--profile bench"), "release");
        assert_eq!(directory("--profile dist"), "dist");
    }

    #[test]
    fn flag_without_required_value_is_rejected() {
        for line in ["--bin", "--example", "--target", "-p", "--bin --lib"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn targets_are_deduplicated_and_passed_unchanged() {
        let selection = parse("--target thumbv8m.main-none-eabi --target b --target b").unwrap();
        assert_eq!(selection.targets(), ["thumbv8m.main-none-eabi", "b"]);
        assert_eq!(
            arguments("", Some("thumbv8m.main-none-eabi")),
            "build --profile release --target thumbv8m.main-none-eabi"
        );
    }

    #[test]
    fn example_flags_add_example_to_default_kinds() {
        let kinds = |line: &str| {
            let kinds = parse(line).unwrap().default_kinds();
            kinds
                .into_iter()
                .map(FileKind::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(kinds("--bins"), "bin cdylib staticlib wasm");
        assert_eq!(kinds("--examples"), "bin cdylib staticlib example wasm");
        assert_eq!(kinds("--example demo"), "bin cdylib staticlib example wasm");
    }

    #[test]
    fn manifest_arguments_exclude_build_flags() {
        let selection =
            parse("-p a -F x --bin b --target t --locked --config k=1 --release").unwrap();
        assert_eq!(
            selection.manifest_arguments(),
            ["--locked", "--config", "k=1"]
        );
    }
}
