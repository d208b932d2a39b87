//! The cargo targets that flags mean, with the features they are compiled with.
//!
//! Cargo selects the packages and resolves the features: `cargo tree` does both just as `cargo build` does.
//! Which targets of a package a flag means is decided here, after cargo's rules.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Package, Target};
use snafu::{OptionExt, ResultExt, Snafu, ensure};

use super::{
    Environment, ErrorClass, Fault, Request,
    configuration::CompileTarget,
    nearest, process,
    selection::{Filter, Rule},
};

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("failed to resolve the features of the packages"))]
    Resolve { source: process::Error },
    #[snafu(display("failed to understand `{line}`, printed by `cargo tree`"))]
    Understand { line: String },
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
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            // Cargo that ran and refused found something wrong with the manifests or the flags.
            Self::Resolve { source } if source.is_refusal() => ErrorClass::Usage,
            Self::Resolve { .. } | Self::Understand { .. } => ErrorClass::Io,
            Self::UnknownTarget { .. }
            | Self::NoLibrary
            | Self::MissingFeatures { .. }
            | Self::Pattern { .. } => ErrorClass::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
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
            _ => None,
        }
    }
}

/// A selected package with its features, resolved for one target.
#[derive(Debug)]
pub(super) struct Root<'a> {
    pub(super) package: &'a Package,
    pub(super) features: Vec<String>,
    /// The features of the packages it depends on, by their names.
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Root<'a> {
    /// Asks cargo for the selected packages, in cargo's order.
    pub(super) async fn all(
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
pub(super) struct Unit<'r, 'a> {
    pub(super) root: &'r Root<'a>,
    pub(super) target: &'a Target,
}

/// What the flags mean, after cargo's rules: a named target must exist and have its features; of all others
/// those are taken that have them.
pub(super) fn units<'r, 'a>(
    roots: &'r [Root<'a>],
    filter: Filter<'_>,
) -> Result<Vec<Unit<'r, 'a>>, Error> {
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

#[cfg(test)]
mod tests {
    use super::{
        super::scratch::{flags, recorded},
        *,
    };

    const TREE: &str = "0 |mac v0.1.0 (proc-macro) (/home/me/ws/mac)\n\n\
                        0 colour,default|my-app v1.2.3-rc.1+build.5 (/home/me/ws/app)\n\
                        1 |mac v0.1.0 (proc-macro) (/home/me/ws/mac) (*)\n\
                        1 default,round,square|shapes v0.4.0 (/home/me/ws/shapes)\n";

    fn meant(line: &str) -> Vec<String> {
        let workspace = recorded();
        let roots = Root::parse(TREE, &workspace.members).unwrap();
        let units = units(&roots, flags(line).filter()).unwrap();
        units.iter().map(|unit| unit.target.name.clone()).collect()
    }

    #[test]
    fn the_answer_of_cargo_is_read() {
        let workspace = recorded();
        let roots = Root::parse(TREE, &workspace.members).unwrap();
        let names: Vec<_> = roots
            .iter()
            .map(|root| root.package.name.as_str())
            .collect();
        assert_eq!(names, ["mac", "my-app"]);
        assert!(roots[0].features.is_empty());
        assert_eq!(roots[1].features, ["colour", "default"]);
        assert!(roots[1].enables("colour") && !roots[1].enables("extra"));
        assert!(roots[1].enables("shapes/round") && !roots[1].enables("shapes/flat"));
        assert!(!roots[0].enables("shapes/round"));
    }

    #[test]
    fn an_answer_that_is_not_one_is_quoted() {
        let workspace = recorded();
        for text in [
            "shapes v0.4.0",
            "0 default",
            "0 |nobody v1.0.0",
            "1 |shapes v0.4.0",
        ] {
            let error = Root::parse(text, &workspace.members).unwrap_err();
            let expected = format!("failed to understand `{text}`, printed by `cargo tree`");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn flags_mean_targets() {
        assert_eq!(meant(""), ["mac", "my-app"]);
        assert_eq!(meant("--lib"), ["mac"]);
        assert_eq!(meant("--bins"), ["my-app"]);
        assert_eq!(meant("--examples --bin my-[ab]*"), ["my-app", "demo"]);
    }
}
