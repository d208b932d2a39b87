//! How rustc and cargo name the files of a crate type.
//!
//! Prefix and suffix are rustc's, which knows every target and every specification of one. What lies beside
//! the file, and where cargo writes hyphens, are cargo's rules, repeated here.

use cargo_metadata::{CrateType, Target};
use oci_package::platform::HOST_TUPLE;
use snafu::{ResultExt, Snafu};

use super::{Environment, ErrorClass, Fault, configuration::CompileTarget, process};

#[derive(Debug, Snafu)]
#[snafu(
    display("failed to ask rustc how it names files"),
    context(name(AskSnafu))
)]
pub(super) struct Error {
    source: process::Error,
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        // A rustc that ran and refused does not know the target.
        if self.source.is_refusal() {
            ErrorClass::Usage
        } else {
            ErrorClass::Io
        }
    }
}

/// Whether a build that went well has surely written a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Always,
    /// Depends on the linker or on the profile; cargo reports it if it is there.
    Perhaps,
}

/// What rustc puts around the name of a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Affixes {
    prefix: String,
    suffix: String,
}

impl Affixes {
    /// Asks rustc; `None` if the target cannot have this crate type, for which cargo then writes nothing.
    pub(super) async fn ask(
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
                let flag = if flag == HOST_TUPLE {
                    &target.name
                } else {
                    flag
                };
                command.args(["--target", flag]);
            }
        }
        let text = process::capture(command).await.context(AskSnafu)?;
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
    pub(super) fn files(
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
    use super::{super::scratch::Scratch, *};

    #[tokio::test]
    async fn a_crate_type_that_the_target_cannot_have_is_none() {
        let scratch = Scratch::new();
        let environment = scratch.environment();
        let ask = async |name: &str, rustflags: &[&str]| {
            let target = CompileTarget {
                flag: Some(name.to_owned()),
                name: name.to_owned(),
                rustflags: rustflags.iter().map(ToString::to_string).collect(),
            };
            Affixes::ask(&environment, &target, &CrateType::CDyLib)
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
    async fn a_target_that_rustc_does_not_know_is_the_callers_mistake() {
        let scratch = Scratch::new();
        let target = CompileTarget {
            flag: Some("no-such-target".to_owned()),
            name: "no-such-target".to_owned(),
            rustflags: Vec::new(),
        };
        let error = Affixes::ask(&scratch.environment(), &target, &CrateType::Bin)
            .await
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        assert!(super::super::scratch::story(&error.into()).contains("no-such-target"));
    }

    #[test]
    fn files_lie_beside_each_other_as_cargo_names_them() {
        use CrateType::{Bin, CDyLib, Lib, ProcMacro, StaticLib};

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
