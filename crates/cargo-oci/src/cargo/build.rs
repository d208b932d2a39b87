//! `cargo build`, and what its messages say it wrote.
//!
//! One build for each target, one after the other: where several targets are built at once cargo unifies
//! their features, and what is published for one target would depend on what else was built.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use cargo_metadata::{Artifact, Message};
use clap::ValueEnum;
use snafu::{ResultExt, Snafu, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::{
    Built, Environment, ErrorClass, Fault, Output, Request,
    artifact::{Found, Layout, kind_of},
    process,
};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to run `{command}`"))]
    Run { command: String, source: io::Error },
    #[snafu(display("failed to read the messages of cargo"))]
    Read { source: io::Error },
    #[snafu(display("cargo failed to build"))]
    Build,
    #[snafu(display("the messages of cargo end before the build does"))]
    Unfinished,
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Build => ErrorClass::Build,
            Self::Run { .. } | Self::Read { .. } => ErrorClass::Io,
            Self::Unfinished => ErrorClass::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Run { source, command }
                if source.kind() == io::ErrorKind::NotFound && command.starts_with(CROSS) =>
            {
                Some("install it with `cargo install cross`".to_owned())
            }
            Self::Unfinished => Some(
                "save all that `cargo build --message-format json-render-diagnostics` prints on stdout"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// The program that builds in a container.
const CROSS: &str = "cross";

/// Where that container has the directory that is built into.
const CROSS_TARGET_DIRECTORY: &str = "/target";

/// Which program builds. All of them take the flags of cargo and print its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuildTool {
    /// cargo itself
    #[default]
    Cargo,
    /// cross, which builds in a container
    Cross,
    /// cargo-zigbuild, which links with zig; targets may name a version of glibc, as in x86_64-unknown-linux-gnu.2.17
    Zigbuild,
}

impl BuildTool {
    /// The program and its verb.
    fn command(self, environment: &Environment) -> (OsString, &'static str) {
        match self {
            Self::Cargo => (environment.cargo(), "build"),
            Self::Cross => (CROSS.into(), "build"),
            Self::Zigbuild => (environment.cargo(), "zigbuild"),
        }
    }

    /// Where a file is that a message names.
    fn locate(self, path: &Path, target_directory: &Path) -> PathBuf {
        let inside = path.strip_prefix(CROSS_TARGET_DIRECTORY).ok();
        match inside.filter(|_| self == Self::Cross && !path.starts_with(target_directory)) {
            Some(inside) => target_directory.join(inside),
            None => path.to_owned(),
        }
    }
}

/// How cargo is to talk on stderr, which it shares with us.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shell<'a> {
    /// `--quiet`.
    pub(crate) quiet: bool,
    /// How many times `-v`.
    pub(crate) verbose: u8,
    /// `--color`: `auto`, `always` or `never`.
    pub(crate) color: Option<&'a str>,
    /// Whether stderr is a terminal.
    pub(crate) terminal: bool,
}

impl Shell<'_> {
    fn arguments(self) -> Vec<String> {
        let mut arguments = vec![format!(
            "--message-format=json-render-diagnostics{}",
            if self.terminal {
                ",json-diagnostic-rendered-ansi"
            } else {
                ""
            }
        )];
        arguments.extend(self.words());
        arguments
    }

    /// The arguments that every command of cargo takes.
    pub(super) fn words(self) -> Vec<String> {
        let mut arguments = Vec::new();
        arguments.extend(self.quiet.then(|| "--quiet".to_owned()));
        if self.verbose > 0 {
            arguments.push(format!("-{}", "v".repeat(self.verbose.into())));
        }
        arguments.extend(self.color.map(|when| format!("--color={when}")));
        arguments
    }
}

/// Builds, and tells what was written, for each target in order of its triple.
///
/// Every line that cargo prints on stdout is handed to `line` as it comes; diagnostics go to stderr.
pub(crate) async fn build(
    environment: &Environment,
    request: &Request<'_>,
    tool: BuildTool,
    shell: Shell<'_>,
    mut line: impl FnMut(&str),
) -> Result<Vec<Output>, super::Error> {
    let mut targets: Vec<Option<&str>> =
        request.selection.targets().into_iter().map(Some).collect();
    if targets.is_empty() {
        targets.push(None);
    }
    let mut reader = Reader::new(*request, tool);
    for target in targets {
        build_one(environment, request, shell, target, &mut reader, &mut line).await?;
    }
    Ok(reader.found.into_outputs(request.workspace))
}

async fn build_one(
    environment: &Environment,
    request: &Request<'_>,
    shell: Shell<'_>,
    target: Option<&str>,
    reader: &mut Reader<'_>,
    line: &mut impl FnMut(&str),
) -> Result<(), Error> {
    let (program, verb) = reader.tool.command(environment);
    let mut command = process::command(environment, program);
    command
        .arg(verb)
        .args(
            request
                .selection
                .build_arguments(target, &environment.directory)
                .into_iter()
                .skip(1),
        )
        .args(shell.arguments())
        .stdout(Stdio::piped());
    let shown = process::shown(&command);
    let mut child = command.spawn().context(RunSnafu { command: &shown })?;
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    let finished = reader.read(BufReader::new(stdout), line).await?;
    let status = child.wait().await.context(RunSnafu { command: shown })?;
    if is_interrupted(status) {
        // Whoever pressed Ctrl-C meant us as well, and says so in a moment.
        tokio::time::sleep(INTERRUPTION).await;
    }
    ensure!(finished && status.success(), BuildSnafu);
    Ok(())
}

/// How long after a child's the signal may come that ends this process as well.
const INTERRUPTION: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether a signal ended the child that a terminal sends to all programs in front of it.
#[cfg(unix)]
fn is_interrupted(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    matches!(status.signal(), Some(1 | 2 | 15))
}

#[cfg(not(unix))]
fn is_interrupted(_: std::process::ExitStatus) -> bool {
    false
}

/// What a saved stream of cargo's messages says was written, by the same rules as [`build`].
///
/// The stream may hold several builds, one behind the other; each must have ended well.
pub(crate) async fn replay(
    messages: impl AsyncBufRead + Unpin,
    request: &Request<'_>,
) -> Result<Vec<Output>, super::Error> {
    let mut reader = Reader::new(*request, BuildTool::Cargo);
    let finished = reader.read(messages, &mut |_| ()).await?;
    ensure!(finished, UnfinishedSnafu);
    Ok(reader.found.into_outputs(request.workspace))
}

/// Reads messages and keeps what was asked for.
struct Reader<'a> {
    request: Request<'a>,
    tool: BuildTool,
    layout: Layout<'a>,
    found: Found,
}

impl<'a> Reader<'a> {
    fn new(request: Request<'a>, tool: BuildTool) -> Self {
        Self {
            request,
            tool,
            layout: Layout::of(&request),
            found: Found::default(),
        }
    }

    /// Reads to the end and tells whether every build in it ended well, and at least one did.
    async fn read(
        &mut self,
        mut messages: impl AsyncBufRead + Unpin,
        line: &mut impl FnMut(&str),
    ) -> Result<bool, Error> {
        let (mut succeeded, mut is_open) = (None, false);
        let mut bytes = Vec::new();
        while messages
            .read_until(b'\n', &mut bytes)
            .await
            .context(ReadSnafu)?
            > 0
        {
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end_matches(['\n', '\r']);
            line(text);
            // Build scripts of old and wrappers of cargo print what they like in between.
            match serde_json::from_str(text) {
                Ok(Message::CompilerArtifact(artifact)) => {
                    is_open = true;
                    self.keep(&artifact);
                }
                Ok(Message::BuildFinished(end)) => {
                    is_open = false;
                    succeeded = Some(succeeded.unwrap_or(true) && end.success);
                }
                _ => {}
            }
            bytes.clear();
        }
        Ok(succeeded == Some(true) && !is_open)
    }

    fn keep(&mut self, artifact: &Artifact) {
        if self
            .request
            .workspace
            .member(&artifact.package_id)
            .is_none()
        {
            return;
        }
        for path in &artifact.filenames {
            let directory = self.layout.target_directory;
            let path = self.tool.locate(path.as_std_path(), directory);
            let Some((triple, name)) = self.layout.locate(&path) else {
                continue;
            };
            let triple = triple.unwrap_or(self.request.host);
            let Some(kind) = kind_of(&name, &artifact.target) else {
                continue;
            };
            if !self.request.wants(&artifact.package_id, kind) || !self.request.wants_target(triple)
            {
                continue;
            }
            let triple = triple.to_owned();
            let file = Built { name, kind, path };
            let (id, features) = (&artifact.package_id, &artifact.features);
            self.found
                .add(&triple, id, &artifact.target, features, file);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            Workspace,
            scratch::{Scratch, all_kinds, flags, recorded, story},
        },
        *,
    };

    const HOST: &str = "x86_64-unknown-linux-gnu";

    /// A line for each package and each file of a stream, in order.
    async fn read(stream: &str, line: &str) -> Result<Vec<String>, super::super::Error> {
        let (workspace, selection) = (recorded(), flags(line));
        let request = Request {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let outputs = replay(stream.as_bytes(), &request).await?;
        Ok(lines(&outputs, &workspace))
    }

    fn lines(outputs: &[Output], workspace: &Workspace) -> Vec<String> {
        let mut lines = Vec::new();
        for output in outputs {
            for package in &output.packages {
                let name = &workspace.member(&package.id).unwrap().name;
                let (features, types) = (package.features.join(","), package.crate_types.join(","));
                lines.push(format!("{} {name} [{features}] {types}", output.target));
                let files = package.files.iter();
                lines
                    .extend(files.map(|f| format!("  {} {} {}", f.kind, f.name, f.path.display())));
            }
        }
        lines
    }

    /// A message about one of the recorded packages, built by somebody else's machine.
    fn artifact(package: usize, kinds: &[&str], crate_types: &[&str], files: &[&str]) -> String {
        let id = &recorded().members[package].id;
        let files = files
            .iter()
            .map(|file| format!("/home/me/ws/target/{file}"));
        let message = json!({
            "reason": "compiler-artifact",
            "package_id": id,
            "manifest_path": "/home/me/ws/x/Cargo.toml",
            "target": {
                "kind": kinds, "crate_types": crate_types, "name": "x", "src_path": "/x.rs",
                "edition": "2021", "doc": true, "doctest": false, "test": true,
            },
            "profile": {
                "opt_level": "3", "debuginfo": 0, "debug_assertions": false,
                "overflow_checks": false, "test": false,
            },
            "features": ["default"],
            "filenames": files.collect::<Vec<_>>(),
            "executable": null,
            "fresh": false,
        });
        format!("{message}\n")
    }

    const END: &str = "{\"reason\":\"build-finished\",\"success\":true}\n";
    const LIBRARY: &[&str] = &["rlib", "cdylib", "staticlib"];

    #[tokio::test]
    async fn a_build_of_the_whole_workspace() {
        let lines = read(include_str!("recorded/workspace.jsonl"), "--workspace")
            .await
            .unwrap();
        assert_eq!(
            lines,
            [
                "x86_64-unknown-linux-gnu mac [] proc-macro",
                "  proc-macro libmac.so /home/me/ws/target/release/libmac.so",
                "  debuginfo libmac.so.dwp /home/me/ws/target/release/libmac.so.dwp",
                "x86_64-unknown-linux-gnu my-app [colour,default] bin",
                "  bin my-app /home/me/ws/target/release/my-app",
                "  debuginfo my-app.dwp /home/me/ws/target/release/my-app.dwp",
                "x86_64-unknown-linux-gnu shapes [default,round,square] cdylib,rlib,staticlib",
                "  staticlib libshapes.a /home/me/ws/target/release/libshapes.a",
                "  rlib libshapes.rlib /home/me/ws/target/release/libshapes.rlib",
                "  cdylib libshapes.so /home/me/ws/target/release/libshapes.so",
                "  debuginfo libshapes.so.dwp /home/me/ws/target/release/libshapes.so.dwp",
            ]
        );
    }

    #[tokio::test]
    async fn dependencies_of_the_selection_are_not_of_it() {
        let stream = include_str!("recorded/examples.jsonl");
        let expected = [
            "x86_64-unknown-linux-gnu my-app [colour,default] bin",
            "  example examples/demo /home/me/ws/target/x86_64-unknown-linux-gnu/release/examples/demo",
            "  debuginfo examples/demo.dwp /home/me/ws/target/x86_64-unknown-linux-gnu/release/examples/demo.dwp",
            "  bin my-app /home/me/ws/target/x86_64-unknown-linux-gnu/release/my-app",
            "  debuginfo my-app.dwp /home/me/ws/target/x86_64-unknown-linux-gnu/release/my-app.dwp",
        ];
        assert_eq!(read(stream, "").await.unwrap(), expected);
        assert_eq!(read(stream, "--target host-tuple").await.unwrap(), expected);
        assert!(
            read(stream, "--target aarch64-apple-darwin")
                .await
                .unwrap()
                .is_empty()
        );
        assert!(read(stream, "--profile dev").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn files_of_other_systems() {
        let stream = [
            &artifact(
                2,
                LIBRARY,
                LIBRARY,
                &[
                    "x86_64-pc-windows-msvc/release/libshapes.rlib",
                    "x86_64-pc-windows-msvc/release/shapes.dll",
                    "x86_64-pc-windows-msvc/release/shapes.dll.lib",
                    "x86_64-pc-windows-msvc/release/shapes.dll.exp",
                    "x86_64-pc-windows-msvc/release/shapes.pdb",
                    "x86_64-pc-windows-msvc/release/shapes.lib",
                ],
            ),
            &artifact(
                1,
                &["bin"],
                &["bin"],
                &[
                    "x86_64-pc-windows-msvc/release/my-app.exe",
                    "x86_64-pc-windows-msvc/release/my_app.pdb",
                ],
            ),
            END,
            &artifact(
                1,
                &["bin"],
                &["bin"],
                &[
                    "aarch64-apple-darwin/release/my-app",
                    "aarch64-apple-darwin/release/my-app.dSYM",
                ],
            ),
            &artifact(
                2,
                LIBRARY,
                LIBRARY,
                &["aarch64-apple-darwin/release/libshapes.dylib"],
            ),
            // Compiled for the machine that compiles, so not for any of these.
            &artifact(0, &["proc-macro"], &["proc-macro"], &["release/libmac.so"]),
            END,
            &artifact(
                2,
                &["cdylib"],
                &["cdylib"],
                &["wasm32-wasip1/release/shapes.wasm"],
            ),
            &artifact(
                1,
                &["bin"],
                &["bin"],
                &["wasm32-wasip1/release/my-app.wasm"],
            ),
            END,
        ]
        .concat();
        let line =
            "--target x86_64-pc-windows-msvc --target aarch64-apple-darwin --target wasm32-wasip1";
        let lines = read(&stream, line).await.unwrap();
        let short: Vec<_> = lines
            .iter()
            .map(|line| line.split(" /home").next().unwrap())
            .collect();
        assert_eq!(
            short,
            [
                "aarch64-apple-darwin my-app [default] bin",
                "  bin my-app",
                "  debuginfo my-app.dSYM",
                "aarch64-apple-darwin shapes [default] cdylib,rlib,staticlib",
                "  cdylib libshapes.dylib",
                "wasm32-wasip1 my-app [default] bin",
                "  wasm my-app.wasm",
                "wasm32-wasip1 shapes [default] cdylib",
                "  wasm shapes.wasm",
                "x86_64-pc-windows-msvc my-app [default] bin",
                "  bin my-app.exe",
                "  debuginfo my_app.pdb",
                "x86_64-pc-windows-msvc shapes [default] cdylib,rlib,staticlib",
                "  rlib libshapes.rlib",
                "  cdylib shapes.dll",
                "  cdylib shapes.dll.lib",
                "  staticlib shapes.lib",
                "  debuginfo shapes.pdb",
            ]
        );
    }

    #[tokio::test]
    async fn text_between_the_messages_does_no_harm() {
        let message = artifact(1, &["bin"], &["bin"], &["release/my-app"]);
        let stream = format!("hello\r\n{{\"reason\":\"new\"}}\n{message}\u{fffd}[\n{END}");
        assert_eq!(read(&stream, "").await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_stream_must_say_that_each_build_ended_well() {
        let message = artifact(1, &["bin"], &["bin"], &["release/my-app"]);
        let failed = END.replace("true", "false");
        for stream in [
            String::new(),
            message.clone(),
            format!("{message}{failed}"),
            format!("{message}{failed}{message}{END}"),
            format!("{message}{END}{message}"),
        ] {
            let error = read(&stream, "").await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Usage);
            assert!(story(&error).starts_with("the messages of cargo end before the build does"));
        }
    }

    #[test]
    fn cargo_talks_as_we_do() {
        let shell = Shell {
            quiet: true,
            verbose: 2,
            color: Some("never"),
            terminal: true,
        };
        assert_eq!(
            shell.arguments(),
            [
                "--message-format=json-render-diagnostics,json-diagnostic-rendered-ansi",
                "--quiet",
                "-vv",
                "--color=never"
            ]
        );
        assert_eq!(
            Shell::default().arguments(),
            ["--message-format=json-render-diagnostics"]
        );
    }

    #[test]
    fn a_container_s_directory_is_the_one_it_was_made_of() {
        let here = Path::new("/home/me/ws/target");
        let locate = |tool: BuildTool, path: &str| tool.locate(Path::new(path), here);
        let (cross, cargo) = (BuildTool::Cross, BuildTool::Cargo);
        for (tool, path, expected) in [
            (
                cross,
                "/target/a-b-c/release/x",
                "/home/me/ws/target/a-b-c/release/x",
            ),
            (
                cross,
                "/home/me/ws/target/release/x",
                "/home/me/ws/target/release/x",
            ),
            (cargo, "/target/a-b-c/release/x", "/target/a-b-c/release/x"),
        ] {
            assert_eq!(locate(tool, path), Path::new(expected));
        }
        assert_eq!(
            BuildTool::Cross.locate(Path::new("/target/release/x"), Path::new("/target")),
            Path::new("/target/release/x")
        );
    }

    #[tokio::test]
    async fn a_build_that_fails_is_cargos_to_explain() {
        let scratch = Scratch::new_package();
        scratch.write("src/main.rs", "fn main() { nothing() }");
        let environment = scratch.environment();
        let selection = flags("--profile dev");
        let workspace = Workspace::load(&environment, &selection).await.unwrap();
        let request = Request {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let mut seen = Vec::new();
        let shell = Shell {
            quiet: true,
            ..Shell::default()
        };
        let result = build(&environment, &request, BuildTool::Cargo, shell, |line| {
            seen.push(line.to_owned());
        })
        .await;
        let error = result.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Build);
        assert_eq!(story(&error), "cargo failed to build");
        assert_eq!(
            seen.last().unwrap(),
            r#"{"reason":"build-finished","success":false}"#
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_build_that_nobody_waits_for_is_stopped() {
        use std::{cell::Cell, os::unix::fs::PermissionsExt, time::Instant};

        let scratch = Scratch::new_package();
        let selection = flags("");
        let mut environment = scratch.environment();
        let workspace = Workspace::load(&environment, &selection).await.unwrap();
        let request = Request {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        scratch.write("slow-cargo", "#!/bin/sh\necho $$\nexec sleep 30\n");
        let slow = scratch.path().join("slow-cargo");
        std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
        environment.variables.insert("CARGO".into(), slow.into());

        let deadline = Instant::now() + std::time::Duration::from_secs(20);
        let process = Cell::new(None);
        let (tool, shell) = (BuildTool::Cargo, Shell::default());
        let mut building = Box::pin(build(&environment, &request, tool, shell, |line| {
            process.set(Some(line.to_owned()));
        }));
        let process = loop {
            assert!(futures_util::poll!(&mut building).is_pending());
            if let Some(process) = process.take() {
                break process;
            }
            assert!(Instant::now() < deadline, "the program did not start");
            tokio::task::yield_now().await;
        };
        let is_alive = || {
            let kill = std::process::Command::new("kill")
                .args(["-0", &process])
                .output();
            kill.unwrap().status.success()
        };
        assert!(is_alive());
        drop(building);
        while is_alive() {
            assert!(Instant::now() < deadline, "the program outlived its future");
            tokio::task::yield_now().await;
        }
    }
}
