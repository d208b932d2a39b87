//! What cargo's configuration says about compiling: the targets, and the flags of rustc for each.
//!
//! Cargo applies it by itself whenever it builds; it has to be read only where nothing is built. Files and
//! variables count, in cargo's own order; `--config` does not, and is refused where it could matter.

use std::path::PathBuf;

use cargo_config2::{Config, PathAndArgs, ResolveOptions, TargetTripleRef};
use oci_package::platform::target_name;
use snafu::{ResultExt, Snafu, ensure};

use super::{Environment, ErrorClass, Fault, Request};

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("failed to read the configuration of cargo"))]
    Read { source: cargo_config2::Error },
    #[snafu(display("cannot tell the target from `--config` without building"))]
    Overridden,
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }

    fn help(&self) -> Option<String> {
        matches!(self, Self::Overridden).then(|| "name it with `--target`".to_owned())
    }
}

/// What is compiled for: a target that a flag or the configuration names, or this machine.
#[derive(Debug)]
pub(super) struct CompileTarget {
    /// As `--target` takes it; `None` where neither names one, and no directory is named after it.
    pub(super) flag: Option<String>,
    pub(super) name: String,
    /// Flags of rustc, because they decide which crate types there are (`crt-static`).
    pub(super) rustflags: Vec<String>,
}

impl CompileTarget {
    pub(super) async fn all(
        environment: &Environment,
        request: &Request<'_>,
    ) -> Result<Vec<Self>, Error> {
        let selection = request.selection;
        let flags = selection.targets();
        ensure!(
            !flags.is_empty() || !selection.overrides_config(),
            OverriddenSnafu
        );
        let flags: Vec<String> = flags.into_iter().map(ToOwned::to_owned).collect();
        let (environment, host) = (environment.clone(), request.host.to_owned());
        // Reads files, and may run rustc to evaluate `cfg(…)` tables.
        tokio::task::spawn_blocking(move || Self::configured(&environment, &flags, &host))
            .await
            .expect("the reader of the configuration does not panic and is not aborted")
            .context(ReadSnafu)
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
            .rustc(PathAndArgs::new(environment.rustc()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::scratch::{Scratch, flags, recorded, story},
        *,
    };

    async fn ask(
        environment: &Environment,
        line: &str,
    ) -> Result<Vec<CompileTarget>, super::super::Error> {
        let (workspace, selection) = (recorded(), flags(line));
        let request = Request {
            workspace: &workspace,
            selection: &selection,
            wanted: &BTreeMap::new(),
            host: "h-h-h",
        };
        Ok(CompileTarget::all(environment, &request).await?)
    }

    fn shown(targets: &[CompileTarget]) -> Vec<String> {
        let show = |target: &CompileTarget| {
            let flag = target.flag.as_deref().unwrap_or("-");
            format!("{flag} {} {}", target.name, target.rustflags.join(" "))
        };
        targets.iter().map(show).collect()
    }

    #[tokio::test]
    async fn flags_outrank_variables_and_variables_outrank_files() {
        let scratch = Scratch::new();
        let mut environment = scratch.environment();
        assert_eq!(shown(&ask(&environment, "").await.unwrap()), ["- h-h-h "]);
        let config = "build = { target = ['a-b-c', 'd-e-f'], rustflags = ['--cfg', 'x'] }";
        scratch.write(".cargo/config.toml", config);
        assert_eq!(
            shown(&ask(&environment, "").await.unwrap()),
            ["a-b-c a-b-c --cfg x", "d-e-f d-e-f --cfg x"]
        );
        let variables = [
            ("CARGO_BUILD_TARGET", "g-h-i"),
            ("RUSTFLAGS", "-Copt-level=1 -v"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        environment.variables.extend(variables);
        assert_eq!(
            shown(&ask(&environment, "").await.unwrap()),
            ["g-h-i g-h-i -Copt-level=1 -v"]
        );
        assert_eq!(
            shown(
                &ask(&environment, "--target host-tuple --target x/y.json")
                    .await
                    .unwrap()
            ),
            [
                "host-tuple h-h-h -Copt-level=1 -v",
                "x/y.json y -Copt-level=1 -v"
            ]
        );
    }

    #[tokio::test]
    async fn what_only_cargo_can_weigh_is_refused() {
        let scratch = Scratch::new();
        let environment = scratch.environment();
        let error = ask(&environment, "--config build.jobs=1")
            .await
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        assert_eq!(
            story(&error),
            "cannot tell the target from `--config` without building\nhelp: name it with `--target`"
        );
        assert!(
            ask(&environment, "--config build.jobs=1 --target a-b-c")
                .await
                .is_ok()
        );
        scratch.write(".cargo/config.toml", "build = 1");
        let error = ask(&environment, "").await.unwrap_err();
        assert!(story(&error).starts_with("failed to read the configuration of cargo\n"));
    }
}
