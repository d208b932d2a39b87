//! The files that an earlier build with the same flags wrote, found without building.
//!
//! The answer is the same, file by file, as the one of [`build`](super::build()), with one difference that
//! cannot be seen on disk: symbols that were once split off lie there, even if the profile has changed since.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use cargo_metadata::CrateType;
use futures_util::future::try_join_all;
use snafu::{ResultExt, Snafu};

use super::{
    Built, Environment, ErrorClass, Fault, Output, Request,
    artifact::{Found, Layout, kind_of},
    configuration::CompileTarget,
    filename::{Affixes, Presence},
    unit::{Root, units},
};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("the {kind} `{name}` of package `{package}` is not built: no file `{}`", path.display()))]
    NotBuilt {
        kind: oci_package::Kind,
        name: String,
        package: String,
        path: PathBuf,
    },
    #[snafu(display("failed to look for `{}`", path.display()))]
    Look {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotBuilt { .. } => ErrorClass::Usage,
            Self::Look { .. } => ErrorClass::Io,
        }
    }

    fn help(&self) -> Option<String> {
        matches!(self, Self::NotBuilt { .. })
            .then(|| "build it first, with the same flags, or leave out `--no-build`".to_owned())
    }
}

/// Finds what [`build`](super::build()) would write, as it was written before.
pub(crate) async fn existing(
    environment: &Environment,
    request: &Request<'_>,
) -> Result<Vec<Output>, super::Error> {
    let mut found = Found::default();
    for target in CompileTarget::all(environment, request).await? {
        find(environment, request, &target, &mut found).await?;
    }
    found.into_outputs(request.workspace)
}

async fn find(
    environment: &Environment,
    request: &Request<'_>,
    target: &CompileTarget,
    found: &mut Found,
) -> Result<(), super::Error> {
    let roots = Root::all(environment, request, target).await?;
    let units = units(&roots, request.selection.filter())?;
    let crate_types: BTreeSet<&CrateType> = units
        .iter()
        .flat_map(|unit| &unit.target.crate_types)
        .collect();
    let names = try_join_all(crate_types.into_iter().map(async |crate_type| {
        let affixes = Affixes::ask(environment, target, crate_type).await;
        affixes.map(|affixes| (crate_type, affixes))
    }))
    .await?;
    let names: BTreeMap<&CrateType, Option<Affixes>> = names.into_iter().collect();
    let layout = Layout::of(request);
    for unit in units {
        let is_for_host = unit.target.crate_types.contains(&CrateType::ProcMacro);
        let (directory, triple) = match &target.flag {
            Some(_) if !is_for_host => (layout.directory(Some(&target.name)), target.name.as_str()),
            _ => (layout.directory(None), request.host),
        };
        if !request.wants_target(triple) {
            continue;
        }
        for crate_type in &unit.target.crate_types {
            let Some(Some(affixes)) = names.get(crate_type) else {
                continue;
            };
            for (name, presence) in affixes.files(unit.target, crate_type, triple) {
                let name = if unit.target.is_example() {
                    format!("examples/{name}")
                } else {
                    name
                };
                let package = unit.root.package;
                let kind = kind_of(&name, unit.target);
                let Some(kind) = kind.filter(|kind| request.wants(&package.id, *kind)) else {
                    continue;
                };
                let path = name
                    .split('/')
                    .fold(directory.clone(), |path, word| path.join(word));
                if path.try_exists().context(LookSnafu { path: &path })? {
                    let file = Built { name, kind, path };
                    let features = &unit.root.features;
                    found.add(triple, &package.id, unit.target, features, file);
                } else if presence == Presence::Always {
                    let missing = NotBuiltSnafu {
                        kind,
                        name,
                        package: package.name.as_str(),
                        path,
                    };
                    return Err(missing.build().into());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            BuildTool, Shell, Toolchain, Workspace, build,
            scratch::{Scratch, all_kinds, flags, story},
        },
        *,
    };

    /// A workspace that was asked about, to ask builds about.
    struct Bench {
        scratch: Scratch,
        environment: Environment,
        host: String,
    }

    impl Bench {
        async fn new(scratch: Scratch) -> Self {
            let environment = scratch.environment();
            let host = Toolchain::ask(&environment).await.unwrap().host;
            Self {
                scratch,
                environment,
                host,
            }
        }

        async fn build(&self, line: &str) -> Result<Vec<Output>, super::super::Error> {
            let selection = flags(line);
            let workspace = Workspace::load(&self.environment, &selection).await?;
            let request = Request {
                workspace: &workspace,
                selection: &selection,
                wanted: &all_kinds(&workspace),
                host: &self.host,
            };
            let shell = Shell {
                quiet: true,
                ..Shell::default()
            };
            build(&self.environment, &request, BuildTool::Cargo, shell, |_| ()).await
        }

        async fn existing(&self, line: &str) -> Result<Vec<Output>, super::super::Error> {
            let selection = flags(line);
            let workspace = Workspace::load(&self.environment, &selection).await?;
            let request = Request {
                workspace: &workspace,
                selection: &selection,
                wanted: &all_kinds(&workspace),
                host: &self.host,
            };
            existing(&self.environment, &request).await
        }
    }

    fn names(outputs: &[Output]) -> Vec<&str> {
        let packages = outputs.iter().flat_map(|output| &output.packages);
        packages
            .flat_map(|package| &package.files)
            .map(|file| file.name.as_str())
            .collect()
    }

    #[tokio::test]
    async fn the_same_flags_give_the_same_files_and_features() {
        let bench = Bench::new(Scratch::workspace()).await;
        let cases: [(&str, usize); 11] = [
            ("", 6),
            ("-p shapes", 4),
            ("-p my-app --bins --examples --lib --workspace", 12),
            ("-p my-app -F extra --profile dev --bin my-[ae]*", 2),
            ("-p my-app --examples --bin my-flat", 4),
            ("--workspace --exclude my-app", 6),
            ("-p mac -F noisy --target-dir app/../out", 2),
            ("-p mac --all-features --target host-tuple", 2),
            (
                "-p my-app --no-default-features --target host-tuple --bin my-app",
                2,
            ),
            ("--lib -p my-app -p shapes --profile dev", 3),
            (
                "--config profile.release.debug=0 -p shapes --target host-tuple",
                3,
            ),
        ];
        for (line, count) in cases {
            let built = bench.build(line).await.unwrap();
            assert_eq!(bench.existing(line).await.unwrap(), built, "{line}");
            if cfg!(all(target_os = "linux", target_env = "gnu")) {
                assert_eq!(names(&built).len(), count, "{line}: {:?}", names(&built));
            }
        }
    }

    #[tokio::test]
    async fn the_target_of_the_configuration_is_found() {
        let scratch = Scratch::workspace();
        let bench = Bench::new(scratch).await;
        let config = format!("build.target = '{}'", bench.host);
        bench.scratch.write(".cargo/config.toml", &config);
        let built = bench.build("-p my-app --profile dev").await.unwrap();
        assert_eq!(
            bench.existing("-p my-app --profile dev").await.unwrap(),
            built
        );
        assert_eq!(built[0].target, bench.host);
        let directory = bench.scratch.path().join("target").join(&bench.host);
        assert!(built[0].packages[0].files[0].path.starts_with(directory));
    }

    #[tokio::test]
    async fn what_is_not_there_is_named_with_its_path() {
        let bench = Bench::new(Scratch::workspace()).await;
        let error = bench.existing("-p my-app").await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        let path = bench
            .scratch
            .path()
            .join("target/release")
            .join(format!("my-app{}", std::env::consts::EXE_SUFFIX));
        let story = story(&error);
        let (message, help) = story.split_once('\n').unwrap();
        assert!(message.starts_with("the bin `my-app"), "{message}");
        assert!(message.ends_with(&format!("is not built: no file `{}`", path.display())));
        assert_eq!(
            help,
            "help: build it first, with the same flags, or leave out `--no-build`"
        );
    }

    #[tokio::test]
    async fn targets_are_refused_as_cargo_refuses_them() {
        let bench = Bench::new(Scratch::workspace()).await;
        for (line, expected) in [
            (
                "--bin my-ap",
                "no bin target named `my-ap` in the selected packages\n\
                 help: a target with a similar name exists: `my-app`",
            ),
            (
                "--example tiny",
                "no example target named `tiny` in the selected packages\n\
                 help: the example targets are `small-demo`",
            ),
            (
                "--bin my-extra",
                "target `my-extra` in package `my-app` requires the features `extra`\n\
                 help: enable them with `--features extra`",
            ),
            (
                "--bin my-flat",
                "target `my-flat` in package `my-app` requires the features `forms/flat`\n\
                 help: enable them with `--features forms/flat`",
            ),
            (
                "--lib -p my-app",
                "no library targets found in the selected packages",
            ),
        ] {
            let refused = bench.existing(line).await.unwrap_err();
            assert_eq!(story(&refused), expected);
            let build = bench.build(line).await.unwrap_err();
            assert_eq!(build.class(), ErrorClass::Build, "{line}");
        }
        let error = bench.existing("-p nobody").await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        assert!(story(&error).starts_with("failed to resolve the features of the packages\n"));
    }
}
