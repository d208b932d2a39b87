//! The files that an earlier build with the same flags wrote, found without building.
//!
//! Cargo itself is asked what it would have built: `cargo tree` selects packages and resolves features just
//! as `cargo build` does, one target at a time, and rustc says how it names files. What cargo only decides
//! while it builds (which targets a flag means, where their files go) is done here after its rules. The
//! answer is the same, file by file, as the one of [`build`](super::build()), with one difference that cannot be
//! seen on disk: symbols that another profile setting once split off are still there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use cargo_config2::{Config, ResolveOptions, TargetTripleRef};
use cargo_metadata::{CrateType, Package, Target};
use futures_util::future::try_join_all;
use snafu::{OptionExt, ResultExt, Snafu, ensure};

use super::{
    Built, Environment, ErrorClass, Fault, Output, Request,
    artifact::{Found, Layout, kind_of, target_name},
    nearest, process,
    selection::{Filter, Rule},
};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to resolve the features of the packages"))]
    Resolve { source: process::Error },
    #[snafu(display("failed to understand `{line}`, printed by `cargo tree`"))]
    Understand { line: String },
    #[snafu(display("failed to ask rustc how it names files"))]
    AskNames { source: process::Error },
    #[snafu(display("failed to read the configuration of cargo"))]
    Configuration { source: cargo_config2::Error },
    #[snafu(display("cannot tell the target from `--config` without building"))]
    OverriddenConfiguration,
    #[snafu(display("no {sort} target named `{name}` in the selected packages"))]
    UnknownTarget {
        sort: &'static str,
        name: String,
        known: Vec<String>,
    },
    #[snafu(display("no library targets found in the selected packages"))]
    NoLibrary,
    #[snafu(display(
        "target `{target}` in package `{package}` requires the features `{features}`"
    ))]
    MissingFeatures {
        target: String,
        package: String,
        features: String,
    },
    #[snafu(display("failed to read the target pattern `{name}`"))]
    Pattern {
        name: String,
        source: glob::PatternError,
    },
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
            Self::Resolve { source } if source.is_refusal() => ErrorClass::Usage,
            Self::Resolve { .. }
            | Self::Understand { .. }
            | Self::AskNames { .. }
            | Self::Look { .. } => ErrorClass::Io,
            Self::Configuration { .. }
            | Self::OverriddenConfiguration
            | Self::UnknownTarget { .. }
            | Self::NoLibrary
            | Self::MissingFeatures { .. }
            | Self::Pattern { .. }
            | Self::NotBuilt { .. } => ErrorClass::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::OverriddenConfiguration => Some("name it with `--target`".to_owned()),
            Self::UnknownTarget { name, known, sort } => {
                match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => Some(format!("a target with a similar name exists: `{near}`")),
                    None if known.is_empty() => None,
                    None => Some(format!("the {sort} targets are `{}`", known.join("`, `"))),
                }
            }
            Self::MissingFeatures { features, .. } => {
                Some(format!("enable them with `--features {features}`"))
            }
            Self::NotBuilt { .. } => {
                Some("build it first, with the same flags, or leave out `--no-build`".to_owned())
            }
            _ => None,
        }
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
    Ok(found.into_outputs(request.workspace))
}

/// What is compiled for: a target that a flag or the configuration names, or this machine.
#[derive(Debug)]
struct CompileTarget {
    /// As `--target` takes it; `None` where neither names one, and no directory is named after it.
    flag: Option<String>,
    name: String,
    /// Flags of rustc, because they decide which crate types there are (`crt-static`).
    rustflags: Vec<String>,
}

impl CompileTarget {
    async fn all(environment: &Environment, request: &Request<'_>) -> Result<Vec<Self>, Error> {
        let selection = request.selection;
        let flags = selection.targets();
        ensure!(
            !flags.is_empty() || !selection.overrides_config(),
            OverriddenConfigurationSnafu
        );
        let flags: Vec<String> = flags.into_iter().map(ToOwned::to_owned).collect();
        let (environment, host) = (environment.clone(), request.host.to_owned());
        // Reads files, and may run rustc to evaluate `cfg(…)` tables.
        tokio::task::spawn_blocking(move || Self::configured(&environment, &flags, &host))
            .await
            .expect("the reader of the configuration does not panic and is not aborted")
            .context(ConfigurationSnafu)
    }

    fn configured(
        environment: &Environment,
        flags: &[String],
        host: &str,
    ) -> Result<Vec<Self>, cargo_config2::Error> {
        let home = environment.variable("CARGO_HOME").map_or_else(
            || {
                let home = environment
                    .variable("HOME")
                    .or(environment.variable("USERPROFILE"));
                home.map(|home| PathBuf::from(home).join(".cargo"))
            },
            |home| Some(environment.directory.join(home)),
        );
        let options = ResolveOptions::default()
            .env(environment.variables.clone())
            .cargo(environment.cargo())
            .rustc(cargo_config2::PathAndArgs::new(environment.rustc()))
            .cargo_home(home)
            .host_triple(host);
        let config = Config::load_with_options(&environment.directory, options)?;
        let target = |flag: Option<String>| {
            let name = flag
                .as_deref()
                .map_or_else(|| host.to_owned(), |flag| target_name(flag, host));
            let rustflags = config.rustflags(TargetTripleRef::from(name.as_str()))?;
            Ok(Self {
                flag,
                name,
                rustflags: rustflags.map(|flags| flags.flags).unwrap_or_default(),
            })
        };
        let targets = config.build_target_for_cli(flags)?;
        if targets.is_empty() {
            return Ok(vec![target(None)?]);
        }
        targets.into_iter().map(|flag| target(Some(flag))).collect()
    }
}

async fn find(
    environment: &Environment,
    request: &Request<'_>,
    target: &CompileTarget,
    found: &mut Found,
) -> Result<(), Error> {
    let roots = Root::all(environment, request, target).await?;
    let units = units(&roots, request.selection.filter())?;
    let crate_types: BTreeSet<&CrateType> = units
        .iter()
        .flat_map(|unit| &unit.target.crate_types)
        .collect();
    let names = try_join_all(crate_types.into_iter().map(async |crate_type| {
        let affixes = Affixes::ask(environment, target, crate_type).await?;
        Ok((crate_type, affixes))
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
                let Some(kind) = kind_of(&name, unit.target).filter(|k| request.kinds.contains(k))
                else {
                    continue;
                };
                let path = name
                    .split('/')
                    .fold(directory.clone(), |path, word| path.join(word));
                if path.try_exists().context(LookSnafu { path: &path })? {
                    let file = Built { name, kind, path };
                    let root = unit.root;
                    found.add(triple, &root.package.id, unit.target, &root.features, file);
                } else if presence == Presence::Always {
                    let package = unit.root.package.name.to_string();
                    return NotBuiltSnafu {
                        kind,
                        name,
                        package,
                        path,
                    }
                    .fail();
                }
            }
        }
    }
    Ok(())
}

/// A selected package with its features, resolved for one target.
#[derive(Debug)]
struct Root<'a> {
    package: &'a Package,
    features: Vec<String>,
    /// The features of the packages it depends on, by their names.
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Root<'a> {
    async fn all(
        environment: &Environment,
        request: &Request<'a>,
        target: &CompileTarget,
    ) -> Result<Vec<Self>, Error> {
        let selection = request.selection;
        // Development dependencies take part in feature resolution only where examples are built.
        let edges = if selection.wants_examples() {
            "normal,build,dev"
        } else {
            "normal,build"
        };
        let mut command = process::command(environment, environment.cargo());
        command
            .args([
                "tree", "--edges", edges, "--depth", "1", "--prefix", "depth",
            ])
            .args(["--format", " {f}|{p}"])
            .args(selection.manifest_arguments())
            .args(selection.package_arguments());
        // Where the configuration names several, cargo unifies their features, and so must we.
        if !selection.targets().is_empty() {
            command.args(target.flag.iter().flat_map(|flag| ["--target", flag]));
        }
        let text = process::capture(command).await.context(ResolveSnafu)?;
        Self::parse(&text, &request.workspace.members)
    }

    /// Reads lines like `0 default,round|shapes v0.4.0 (/home/me/shapes)`.
    fn parse(text: &str, members: &'a [Package]) -> Result<Vec<Self>, Error> {
        let mut roots: Vec<Self> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let understand = || UnderstandSnafu { line };
            let (depth, rest) = line.split_once(' ').with_context(understand)?;
            let (features, package) = rest.split_once('|').with_context(understand)?;
            let name = package.split(' ').next().unwrap_or_default();
            let features = features
                .split(',')
                .filter(|name| !name.is_empty())
                .map(ToOwned::to_owned);
            if depth == "0" {
                let package = members.iter().find(|member| member.name == name);
                roots.push(Self {
                    package: package.with_context(understand)?,
                    features: features.collect(),
                    dependencies: BTreeMap::new(),
                });
            } else {
                let root = roots.last_mut().with_context(understand)?;
                root.dependencies
                    .entry(name.to_owned())
                    .or_default()
                    .extend(features);
            }
        }
        Ok(roots)
    }

    /// The required features that are not enabled. Libraries require none, as cargo has it.
    fn missing(&self, target: &'a Target) -> Vec<&'a str> {
        let required = target.required_features.iter().map(String::as_str);
        required.filter(|feature| !self.enables(feature)).collect()
    }

    /// Whether a feature of the package, or `dependency/feature`, is enabled.
    fn enables(&self, feature: &str) -> bool {
        let Some((dependency, feature)) = feature.split_once('/') else {
            return self.features.iter().any(|enabled| enabled == feature);
        };
        let declared =
            self.package.dependencies.iter().find(|declared| {
                declared.rename.as_deref().unwrap_or(&declared.name) == dependency
            });
        let features = declared.and_then(|declared| self.dependencies.get(&declared.name));
        features.is_some_and(|features| features.contains(feature))
    }
}

/// A cargo target of a selected package that a build would compile for its own sake.
#[derive(Clone, Copy, Debug)]
struct Unit<'r, 'a> {
    root: &'r Root<'a>,
    target: &'a Target,
}

/// What the flags mean, after cargo's rules: a named target must exist and have its features; of all others
/// those are taken that have them.
fn units<'r, 'a>(roots: &'r [Root<'a>], filter: Filter<'_>) -> Result<Vec<Unit<'r, 'a>>, Error> {
    let mut units = Vec::new();
    if filter.lib {
        units.extend(candidates(roots, is_library));
        ensure!(filter.is_default || !units.is_empty(), NoLibrarySnafu);
    }
    units.extend(chosen(roots, "bin", filter.bins, Target::is_bin)?);
    units.extend(chosen(
        roots,
        "example",
        filter.examples,
        Target::is_example,
    )?);
    Ok(units)
}

fn chosen<'r, 'a>(
    roots: &'r [Root<'a>],
    sort: &'static str,
    rule: Rule<'_>,
    is_of_sort: fn(&Target) -> bool,
) -> Result<Vec<Unit<'r, 'a>>, Error> {
    let candidates = candidates(roots, is_of_sort);
    let names = match rule {
        Rule::All => {
            let able = candidates.into_iter();
            return Ok(able
                .filter(|unit| unit.root.missing(unit.target).is_empty())
                .collect());
        }
        Rule::Named(names) => names,
    };
    let mut chosen = Vec::new();
    for name in names {
        let pattern = glob::Pattern::new(name).context(PatternSnafu { name })?;
        let before = chosen.len();
        for unit in candidates
            .iter()
            .filter(|unit| pattern.matches(&unit.target.name))
        {
            let missing = unit.root.missing(unit.target);
            ensure!(
                missing.is_empty(),
                MissingFeaturesSnafu {
                    target: &unit.target.name,
                    package: unit.root.package.name.as_str(),
                    features: missing.join(","),
                }
            );
            chosen.push(*unit);
        }
        ensure!(
            chosen.len() > before,
            UnknownTargetSnafu {
                sort,
                name,
                known: candidates
                    .iter()
                    .map(|unit| unit.target.name.clone())
                    .collect::<Vec<_>>(),
            }
        );
    }
    Ok(chosen)
}

fn candidates<'r, 'a>(roots: &'r [Root<'a>], is_of_sort: fn(&Target) -> bool) -> Vec<Unit<'r, 'a>> {
    let units = roots.iter().flat_map(|root| {
        root.package
            .targets
            .iter()
            .map(move |target| Unit { root, target })
    });
    units.filter(|unit| is_of_sort(unit.target)).collect()
}

fn is_library(target: &Target) -> bool {
    target.is_lib()
        || target.is_rlib()
        || target.is_dylib()
        || target.is_cdylib()
        || target.is_staticlib()
        || target.is_proc_macro()
}

/// Whether a build that went well has surely written a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Always,
    /// Depends on the linker or on the profile; cargo reports it if it is there.
    Perhaps,
}

/// What rustc puts around the name of a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Affixes {
    prefix: String,
    suffix: String,
}

impl Affixes {
    /// Asks rustc; `None` if the target cannot have this crate type, for which cargo then writes nothing.
    async fn ask(
        environment: &Environment,
        target: &CompileTarget,
        crate_type: &CrateType,
    ) -> Result<Option<Self>, Error> {
        let word = match crate_type {
            CrateType::Lib => "rlib".to_owned(),
            other => other.to_string(),
        };
        let mut command = process::command(environment, environment.rustc());
        command.args([
            "-",
            "--crate-name",
            "___",
            "--print=file-names",
            "--crate-type",
            &word,
        ]);
        if *crate_type != CrateType::ProcMacro {
            command.args(&target.rustflags);
            if let Some(flag) = &target.flag {
                // Not `host-tuple`, which is cargo's word; a specification stays a path.
                let flag = if flag == "host-tuple" {
                    &target.name
                } else {
                    flag
                };
                command.args(["--target", flag]);
            }
        }
        let text = process::capture(command).await.context(AskNamesSnafu)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        let (prefix, suffix) = text.lines().next()?.split_once("___")?;
        Some(Self {
            prefix: prefix.to_owned(),
            suffix: suffix.trim_end().to_owned(),
        })
    }

    /// The files that cargo looks for beside each other, by the names it gives them in the end.
    fn files(
        &self,
        target: &Target,
        crate_type: &CrateType,
        triple: &str,
    ) -> Vec<(String, Presence)> {
        use Presence::{Always, Perhaps};
        let Self { prefix, suffix } = self;
        let crate_name = target.name.replace('-', "_");
        let is_program = *crate_type == CrateType::Bin;
        let name = if is_program {
            &target.name
        } else {
            &crate_name
        };
        let mut files = vec![(format!("{prefix}{name}{suffix}"), Always)];
        let is_dynamic = matches!(
            crate_type,
            CrateType::CDyLib | CrateType::DyLib | CrateType::ProcMacro
        );
        if is_dynamic && suffix == ".dll" {
            if triple.ends_with("-windows-msvc") {
                files.push((format!("{prefix}{crate_name}.dll.lib"), Perhaps));
                files.push((format!("{prefix}{crate_name}.dll.exp"), Perhaps));
            } else if triple.ends_with("-windows-gnu") {
                files.push((format!("lib{crate_name}.dll.a"), Perhaps));
            }
        }
        // The script of an emscripten program loads a module whose name it carries, with underscores.
        if is_program && suffix == ".js" {
            files.push((format!("{prefix}{crate_name}.wasm"), Always));
            files.push((format!("{prefix}{crate_name}.wasm.map"), Perhaps));
        }
        if is_program || is_dynamic {
            files.push((
                if triple.contains("-apple-") {
                    // Named after the cargo target itself, hyphens and all.
                    let infix = if is_program { "" } else { ".dylib" };
                    format!("{prefix}{}{infix}.dSYM", target.name)
                } else if triple.ends_with("-msvc") {
                    format!("{prefix}{crate_name}.pdb")
                } else {
                    format!("{prefix}{name}{suffix}.dwp")
                },
                Perhaps,
            ));
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Shell, Toolchain, Workspace, build,
            scratch::{Scratch, all_kinds, flags, story},
        },
        *,
    };

    /// A workspace that was asked about, to ask builds about.
    struct Bench {
        scratch: Scratch,
        environment: Environment,
        workspace: Workspace,
        host: String,
    }

    impl Bench {
        async fn new(scratch: Scratch) -> Self {
            let environment = scratch.environment();
            let workspace = Workspace::load(&environment, &flags("")).await.unwrap();
            let host = Toolchain::ask(&environment).await.unwrap().host;
            Self {
                scratch,
                environment,
                workspace,
                host,
            }
        }

        async fn build(&self, line: &str) -> Result<Vec<Output>, super::super::Error> {
            let (selection, kinds) = (flags(line), all_kinds());
            let request = Request {
                workspace: &self.workspace,
                selection: &selection,
                kinds: &kinds,
                host: &self.host,
            };
            let shell = Shell {
                quiet: true,
                ..Shell::default()
            };
            build(&self.environment, &request, shell, |_| ()).await
        }

        async fn existing(&self, line: &str) -> Result<Vec<Output>, super::super::Error> {
            let (selection, kinds) = (flags(line), all_kinds());
            let request = Request {
                workspace: &self.workspace,
                selection: &selection,
                kinds: &kinds,
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
            ("-p mac -F noisy", 2),
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
        let error = bench
            .existing("-p my-app --config build.jobs=1")
            .await
            .unwrap_err();
        assert_eq!(
            story(&error),
            "cannot tell the target from `--config` without building\nhelp: name it with `--target`"
        );
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

    #[tokio::test]
    async fn a_crate_type_that_the_target_cannot_have_is_none() {
        let bench = Bench::new(Scratch::new_package()).await;
        let ask = async |name: &str, rustflags: &[&str]| {
            let target = CompileTarget {
                flag: Some(name.to_owned()),
                name: name.to_owned(),
                rustflags: rustflags.iter().map(ToString::to_string).collect(),
            };
            Affixes::ask(&bench.environment, &target, &CrateType::CDyLib)
                .await
                .unwrap()
        };
        let affixes = |prefix: &str, suffix: &str| {
            Some(Affixes {
                prefix: prefix.to_owned(),
                suffix: suffix.to_owned(),
            })
        };
        assert_eq!(ask("x86_64-unknown-linux-musl", &[]).await, None);
        let dynamic = ask(
            "x86_64-unknown-linux-musl",
            &["-Ctarget-feature=-crt-static"],
        )
        .await;
        assert_eq!(dynamic, affixes("lib", ".so"));
        assert_eq!(
            ask("aarch64-apple-darwin", &[]).await,
            affixes("lib", ".dylib")
        );
        assert_eq!(
            ask("x86_64-pc-windows-msvc", &[]).await,
            affixes("", ".dll")
        );
        assert_eq!(ask("wasm32-wasip1", &[]).await, affixes("", ".wasm"));
    }

    #[tokio::test]
    async fn flags_of_the_environment_decide_which_crate_types_there_are() {
        let mut bench = Bench::new(Scratch::new_package()).await;
        let flags_of = async |environment: &Environment, line: &str| {
            let (selection, kinds) = (flags(line), all_kinds());
            let request = Request {
                workspace: &bench.workspace,
                selection: &selection,
                kinds: &kinds,
                host: &bench.host,
            };
            CompileTarget::all(environment, &request)
                .await
                .unwrap()
                .remove(0)
                .rustflags
        };
        assert!(
            flags_of(&bench.environment, "--target a-b-c")
                .await
                .is_empty()
        );
        bench
            .environment
            .variables
            .insert("RUSTFLAGS".into(), "-Copt-level=1 --cfg x".into());
        let flags = flags_of(&bench.environment, "--target a-b-c").await;
        assert_eq!(flags, ["-Copt-level=1", "--cfg", "x"]);
    }

    #[test]
    fn files_lie_beside_each_other_as_cargo_names_them() {
        let files = |triple: &str, crate_type: CrateType, prefix: &str, suffix: &str| {
            let target = serde_json::json!({
                "name": "my-x", "kind": ["bin"], "crate_types": ["bin"], "src_path": "/x.rs",
            });
            let target: Target = serde_json::from_value(target).unwrap();
            let affixes = Affixes {
                prefix: prefix.to_owned(),
                suffix: suffix.to_owned(),
            };
            let files = affixes.files(&target, &crate_type, triple).into_iter();
            let mark = |presence| {
                if presence == Presence::Perhaps {
                    "?"
                } else {
                    ""
                }
            };
            files
                .map(|(name, presence)| name + mark(presence))
                .collect::<Vec<_>>()
                .join(" ")
        };
        use CrateType::{Bin, CDyLib, Lib, ProcMacro, StaticLib};
        let (linux, mac) = ("x86_64-unknown-linux-gnu", "aarch64-apple-darwin");
        let (msvc, gnu) = ("x86_64-pc-windows-msvc", "x86_64-pc-windows-gnu");
        assert_eq!(files(linux, Bin, "", ""), "my-x my-x.dwp?");
        assert_eq!(
            files(linux, CDyLib, "lib", ".so"),
            "libmy_x.so libmy_x.so.dwp?"
        );
        assert_eq!(files(linux, StaticLib, "lib", ".a"), "libmy_x.a");
        assert_eq!(files(linux, Lib, "lib", ".rlib"), "libmy_x.rlib");
        assert_eq!(files(mac, Bin, "", ""), "my-x my-x.dSYM?");
        assert_eq!(
            files(mac, CDyLib, "lib", ".dylib"),
            "libmy_x.dylib libmy-x.dylib.dSYM?"
        );
        assert_eq!(files(msvc, Bin, "", ".exe"), "my-x.exe my_x.pdb?");
        assert_eq!(
            files(msvc, CDyLib, "", ".dll"),
            "my_x.dll my_x.dll.lib? my_x.dll.exp? my_x.pdb?"
        );
        assert_eq!(files(msvc, StaticLib, "", ".lib"), "my_x.lib");
        assert_eq!(
            files(gnu, ProcMacro, "", ".dll"),
            "my_x.dll libmy_x.dll.a? my_x.dll.dwp?"
        );
        assert_eq!(
            files("wasm32-wasip1", Bin, "", ".wasm"),
            "my-x.wasm my-x.wasm.dwp?"
        );
        assert_eq!(
            files("wasm32-unknown-emscripten", Bin, "", ".js"),
            "my-x.js my_x.wasm my_x.wasm.map? my-x.js.dwp?"
        );
    }
}
