//! `cargo build`, and the files that its messages name.
//!
//! Targets are built one after the other: when cargo builds several at once it unifies their features, so the
//! files of one target would depend on the others.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use cargo_metadata::{Artifact, Message, Package};
use clap::ValueEnum;
use snafu::{ResultExt, Snafu, ensure};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    process::Command,
};

use super::{
    Built, Environment, ErrorClass, Fault, Output, Request, Selection, Workspace,
    artifact::{Found, Layout, kind_of},
    process,
};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to run `{command}`"))]
    Run { command: String, source: io::Error },
    #[snafu(display("failed to read the messages of cargo"))]
    Read { source: io::Error },
    #[snafu(display("failed to parse line {line} of the messages of cargo"))]
    Parse {
        line: usize,
        source: serde_json::Error,
    },
    #[snafu(display("failed to read the messages of cargo: they are UTF-16"))]
    Encoding,
    #[snafu(display("cargo failed to build"))]
    Build,
    #[snafu(display("the messages of cargo end before the build does"))]
    Unfinished,
    #[snafu(display(
        "nothing to push: the reported files are not on this machine; the first is `{}`",
        path.display()
    ))]
    Elsewhere { path: PathBuf },
    #[snafu(display(
        "failed to build with cross: `{KEEPS_FILES}` keeps the files in the container"
    ))]
    FilesStay,
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Build => ErrorClass::Build,
            Self::Run { .. } | Self::Read { .. } => ErrorClass::Io,
            Self::Parse { .. }
            | Self::Encoding
            | Self::Unfinished
            | Self::Elsewhere { .. }
            | Self::FilesStay => ErrorClass::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Self::Run { source, command }
                if source.kind() == io::ErrorKind::NotFound && command.starts_with(CROSS) =>
            {
                "install it with `cargo install cross`".to_owned()
            }
            Self::Parse { .. } => {
                "keep each line as cargo prints it on stdout, without a prefix or other output"
                    .to_owned()
            }
            Self::Encoding => {
                "save them as UTF-8, in PowerShell with `| Out-File -Encoding utf8 FILE`".to_owned()
            }
            Self::Unfinished => {
                "save all that `cargo build --message-format json-render-diagnostics` prints on stdout"
                    .to_owned()
            }
            Self::Elsewhere { .. } => {
                "copy the files to this machine and name them with `--file NAME=PATH`".to_owned()
            }
            Self::FilesStay => format!("unset `{KEEPS_FILES}`"),
            Self::Run { .. } | Self::Read { .. } | Self::Build => return None,
        };
        Some(help)
    }
}

/// The program that builds in a container.
const CROSS: &str = "cross";

/// The variable of cross that leaves built files in the container of a remote engine.
const KEEPS_FILES: &str = "CROSS_REMOTE_SKIP_BUILD_ARTIFACTS";

/// The program that builds. All of them take the flags of cargo and print its messages.
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

    /// Whether the built files stay in the container, so that a file in the target directory is from an earlier build.
    fn keeps_files_in_container(self, environment: &Environment) -> bool {
        let value = environment.variable(KEEPS_FILES);
        self == Self::Cross && value.is_some_and(|value| !matches!(value, "0" | "false"))
    }
}

/// The directories of this machine that cross gives to its container.
///
/// A local engine mounts them, at [`Container::PROJECT`] or at their own path. For a remote engine (`CROSS_REMOTE`)
/// they are copied below [`Container::VOLUME`], and the built files are copied back.
#[derive(Clone, Copy, Debug)]
struct Container<'a> {
    project: &'a Path,
    target_directory: &'a Path,
}

impl<'a> Container<'a> {
    const VOLUME: &'static str = "/cross";
    const PROJECT: &'static str = "/project";
    const TARGET_DIRECTORY: &'static str = "/target";

    /// The directories of a build in a working directory. The project is the workspace, or the working directory if
    /// that contains the workspace.
    fn new(workspace: &'a Workspace, working_directory: &'a Path) -> Self {
        let is_inside = workspace.root.starts_with(working_directory);
        Self {
            project: if is_inside {
                working_directory
            } else {
                &workspace.root
            },
            target_directory: &workspace.target_directory,
        }
    }

    /// The path on this machine of a path in the container.
    fn locate(&self, path: &Path) -> PathBuf {
        if path.starts_with(self.target_directory) || path.starts_with(self.project) {
            return path.to_owned();
        }
        let path = match path.strip_prefix(Self::VOLUME) {
            Ok(inside) => Path::new("/").join(inside),
            Err(_) => path.to_owned(),
        };
        let mounts = [
            (Self::TARGET_DIRECTORY, self.target_directory),
            (Self::PROJECT, self.project),
        ];
        let mounted = mounts.into_iter().find_map(|(mount, directory)| {
            let inside = path.strip_prefix(mount).ok()?;
            Some(directory.join(inside))
        });
        mounted.unwrap_or(path)
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

/// Builds, and returns the written files for each target, in order of the triple.
///
/// Every line that cargo prints on stdout is passed to `line` as it arrives; diagnostics go to stderr.
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
    ensure!(!tool.keeps_files_in_container(environment), FilesStaySnafu);
    let mut reader = Reader::new(*request);
    if tool == BuildTool::Cross {
        let container = Container::new(request.workspace, &environment.directory);
        reader.container = Some(container);
    }
    for target in targets {
        let mut command = command(environment, request.selection, tool, target);
        command.args(shell.arguments());
        run(command, &mut reader, &mut line).await?;
    }
    reader.into_outputs()
}

/// The command that builds for one target.
fn command(
    environment: &Environment,
    selection: &Selection,
    tool: BuildTool,
    target: Option<&str>,
) -> Command {
    let (program, verb) = tool.command(environment);
    let arguments = selection.build_arguments(target, &environment.directory);
    let mut command = process::command(environment, program);
    command.arg(verb).args(arguments.into_iter().skip(1));
    command
}

/// Runs a build and reads its messages.
async fn run(
    mut command: Command,
    reader: &mut Reader<'_>,
    line: &mut impl FnMut(&str),
) -> Result<(), Error> {
    command.stdout(Stdio::piped());
    let shown = process::shown(&command);
    let mut child = command.spawn().context(RunSnafu { command: &shown })?;
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    let finished = reader.read(BufReader::new(stdout), line).await?;
    let status = child.wait().await.context(RunSnafu { command: shown })?;
    if is_interrupted(status) {
        // Ctrl-C sends the signal to this process as well, which then ends by it.
        tokio::time::sleep(INTERRUPTION).await;
    }
    ensure!(finished && status.success(), BuildSnafu);
    Ok(())
}

/// Time to wait for the signal that ended a child to reach this process.
const INTERRUPTION: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether the child was ended by a signal that a terminal sends to all its foreground processes.
#[cfg(unix)]
fn is_interrupted(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    matches!(status.signal(), Some(1 | 2 | 15))
}

#[cfg(not(unix))]
fn is_interrupted(_: std::process::ExitStatus) -> bool {
    false
}

/// Returns the files that a saved stream of cargo's messages names, by the same rules as [`build`].
///
/// The stream may hold several builds, one after the other; each must have succeeded.
pub(crate) async fn replay(
    messages: impl AsyncBufRead + Unpin,
    request: &Request<'_>,
) -> Result<Vec<Output>, super::Error> {
    let mut reader = Reader::new(*request);
    let finished = reader.read(messages, &mut |_| ()).await?;
    ensure!(finished, UnfinishedSnafu);
    reader.into_outputs()
}

/// Reads messages and keeps the wanted files.
struct Reader<'a> {
    request: Request<'a>,
    layout: Layout<'a>,
    container: Option<Container<'a>>,
    found: Found,
    /// The first file of a wanted kind that is not below the target directory.
    elsewhere: Option<PathBuf>,
}

impl<'a> Reader<'a> {
    fn new(request: Request<'a>) -> Self {
        Self {
            request,
            layout: Layout::of(&request),
            container: None,
            found: Found::default(),
            elsewhere: None,
        }
    }

    /// Reads to the end. Returns whether every build in it ended well, and at least one did.
    async fn read(
        &mut self,
        mut messages: impl AsyncBufRead + Unpin,
        line: &mut impl FnMut(&str),
    ) -> Result<bool, Error> {
        let (mut succeeded, mut is_open) = (None, false);
        let (mut bytes, mut number) = (Vec::new(), 0);
        while messages
            .read_until(b'\n', &mut bytes)
            .await
            .context(ReadSnafu)?
            > 0
        {
            number += 1;
            let text = String::from_utf8_lossy(&bytes);
            line(text.trim_end_matches(['\n', '\r']));
            match parse(&bytes, number)? {
                Some(Message::CompilerArtifact(artifact)) => {
                    is_open = true;
                    self.keep(&artifact);
                }
                Some(Message::BuildFinished(end)) => {
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
        let package = self.member(artifact).map(|package| &package.id);
        for reported in &artifact.filenames {
            let path = self.locate(reported.as_std_path());
            let Some((triple, name)) = self.layout.locate(&path) else {
                self.note_elsewhere(&path, reported.as_std_path(), artifact);
                continue;
            };
            let writer = package.unwrap_or(&artifact.package_id);
            self.found.note_writer(&path, writer, &artifact.target);
            let triple = triple.unwrap_or(self.request.host);
            let (Some(package), Some(kind)) = (package, kind_of(&name, &artifact.target)) else {
                continue;
            };
            if !self.request.wants(package, kind) || !self.request.wants_target(triple) {
                continue;
            }
            let triple = triple.to_owned();
            let file = Built { name, kind, path };
            self.found
                .add(&triple, package, &artifact.target, &artifact.features, file);
        }
    }

    /// The path on this machine of a reported path.
    fn locate(&self, reported: &Path) -> PathBuf {
        match &self.container {
            Some(container) => container.locate(reported),
            None => reported.to_owned(),
        }
    }

    /// The member of the workspace that an artifact belongs to. In a container its identifier holds another path.
    fn member(&self, artifact: &Artifact) -> Option<&'a Package> {
        let workspace = self.request.workspace;
        workspace.member(&artifact.package_id).or_else(|| {
            let manifest = self.locate(artifact.manifest_path.as_std_path());
            let mut members = workspace.members.iter();
            members.find(|package| package.manifest_path == manifest)
        })
    }

    fn note_elsewhere(&mut self, path: &Path, reported: &Path, artifact: &Artifact) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = kind_of(&name, &artifact.target);
        let is_wanted = |kind| {
            let mut wanted = self.request.wanted.values();
            wanted.any(|kinds| kinds.contains(&kind))
        };
        if !path.starts_with(self.layout.target_directory) && kind.is_some_and(is_wanted) {
            self.elsewhere.get_or_insert_with(|| reported.to_owned());
        }
    }

    fn into_outputs(self) -> Result<Vec<Output>, super::Error> {
        let outputs = self.found.into_outputs(self.request.workspace)?;
        let elsewhere = self.elsewhere.filter(|path| !path.exists());
        if let (true, Some(path)) = (outputs.is_empty(), elsewhere) {
            return Err(ElsewhereSnafu { path }.build().into());
        }
        Ok(outputs)
    }
}

/// The `reason` of each message that cargo prints.
const REASONS: [&str; 4] = [
    "compiler-artifact",
    "compiler-message",
    "build-script-executed",
    "build-finished",
];

/// Parses one line of messages; `None` for a line without one. Build scripts and wrappers of cargo print other text.
fn parse(line: &[u8], number: usize) -> Result<Option<Message>, Error> {
    let is_utf16 = line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]);
    ensure!(number > 1 || !is_utf16, EncodingSnafu);
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    match serde_json::from_slice(line) {
        Ok(message) => Ok(Some(message)),
        Err(_) if !contains_message(&String::from_utf8_lossy(line)) => Ok(None),
        Err(source) => Err(source).context(ParseSnafu { line: number }),
    }
}

/// Whether a text contains the `reason` of one of cargo's messages.
fn contains_message(text: &str) -> bool {
    let reason = |rest: &str| {
        let value = rest.trim_start().strip_prefix(':')?.trim_start();
        let (reason, _) = value.strip_prefix('"')?.split_once('"')?;
        Some(REASONS.contains(&reason))
    };
    text.split("\"reason\"")
        .skip(1)
        .any(|rest| reason(rest) == Some(true))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{
        super::scratch::{Scratch, all_kinds, flags, recorded, story},
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

    /// A message about a library or program `x` of one of the recorded packages, built on another machine.
    fn artifact(package: usize, kinds: &[&str], crate_types: &[&str], files: &[&str]) -> String {
        let files: Vec<_> = files
            .iter()
            .map(|file| format!("/home/me/ws/target/{file}"))
            .collect();
        let id = recorded().members[package].id.to_string();
        message(&id, "/home/me/ws/x", ("x", kinds, crate_types), &files)
    }

    /// A message about the program `tool` of one of the recorded packages.
    fn tool(package: usize, kind: &str, file: &str) -> String {
        let id = recorded().members[package].id.to_string();
        let file = format!("/home/me/ws/target/release/{file}");
        message(&id, "/home/me/ws/x", ("tool", &[kind], &["bin"]), &[file])
    }

    fn message(
        package: &str,
        directory: &str,
        (name, kinds, crate_types): (&str, &[&str], &[&str]),
        files: &[String],
    ) -> String {
        let message = json!({
            "reason": "compiler-artifact",
            "package_id": package,
            "manifest_path": format!("{directory}/Cargo.toml"),
            "target": {
                "kind": kinds, "crate_types": crate_types, "name": name, "src_path": "/x.rs",
                "edition": "2021", "doc": true, "doctest": false, "test": true,
            },
            "profile": {
                "opt_level": "3", "debuginfo": 0, "debug_assertions": false,
                "overflow_checks": false, "test": false,
            },
            "features": ["default"],
            "filenames": files,
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

    #[tokio::test]
    async fn byte_order_mark_before_a_message_is_ignored() {
        let (one, other) = (
            artifact(1, &["bin"], &["bin"], &["release/my-app"]),
            artifact(2, &["cdylib"], &["cdylib"], &["release/libshapes.so"]),
        );
        // Two saved streams, one behind the other.
        let stream = format!("\u{feff}{one}{END}\u{feff}{other}{END}");
        assert_eq!(read(&stream, "").await.unwrap().len(), 4);
    }

    #[tokio::test]
    async fn message_that_does_not_parse_is_error_with_line() {
        let message = artifact(1, &["bin"], &["bin"], &["release/my-app"]);
        let message = message.trim_end();
        for line in [
            format!("2026-11-28T10:40:00Z {message}"),
            format!("{message}{message}"),
            message[..message.len() - 1].to_owned(),
            r#"{"reason":"compiler-artifact","package_id":"pa"#.to_owned(),
            message.replace("\"package_id\"", "\"id\""),
            "  \"reason\" : \"compiler-artifact\",".to_owned(),
            format!("progress {}", END.trim_end()),
        ] {
            let stream = format!("hello\n{line}\n{END}");
            let error = read(&stream, "").await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Usage, "{line}");
            let story = story(&error);
            let expected = "failed to parse line 2 of the messages of cargo\n";
            assert!(story.starts_with(expected), "{line}: {story}");
        }
    }

    #[test]
    fn message_with_invalid_utf8_is_error() {
        let line = b"{\"reason\":\"build-finished\",\"success\":true,\"x\":\"\xff\"}";
        assert!(parse(line, 1).is_err());
    }

    #[tokio::test]
    async fn messages_in_utf16_are_refused() {
        let (workspace, selection) = (recorded(), flags(""));
        let request = Request {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let units = format!("\u{feff}{END}");
        let stream: Vec<u8> = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let error = replay(&stream[..], &request).await.unwrap_err();
        assert_eq!(
            story(&error),
            "failed to read the messages of cargo: they are UTF-16\n\
             help: save them as UTF-8, in PowerShell with `| Out-File -Encoding utf8 FILE`"
        );
    }

    #[tokio::test]
    async fn file_of_two_targets_is_refused() {
        let path = "/home/me/ws/target/release/tool";
        for (other, owner) in [
            (tool(2, "bin", "tool"), "bin `tool` of `shapes`"),
            (tool(1, "example", "tool"), "example `tool` of `my-app`"),
            (
                artifact(1, &["cdylib"], &["cdylib"], &["release/tool"]),
                "library `x` of `my-app`",
            ),
        ] {
            let stream = format!("{}{other}{END}", tool(1, "bin", "tool"));
            let error = read(&stream, "").await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Usage);
            let expected = format!(
                "failed to choose a file: `{path}` is written by more than one target: \
                 bin `tool` of `my-app`, {owner}\nhelp: "
            );
            let story = story(&error);
            assert!(story.starts_with(&expected), "{story}");
        }
    }

    #[tokio::test]
    async fn file_that_an_unpublished_package_overwrites_is_refused() {
        let workspace = recorded();
        let (selection, mut wanted) = (flags(""), all_kinds(&workspace));
        wanted.remove(&workspace.members[2].id);
        let request = Request {
            workspace: &workspace,
            selection: &selection,
            wanted: &wanted,
            host: HOST,
        };
        let stream = [tool(1, "bin", "tool"), tool(2, "bin", "tool"), END.into()].concat();
        assert!(replay(stream.as_bytes(), &request).await.is_err());

        // Of files that are not published, anything may be written.
        let nothing = BTreeMap::new();
        let request = Request {
            wanted: &nothing,
            ..request
        };
        assert!(
            replay(stream.as_bytes(), &request)
                .await
                .unwrap()
                .is_empty()
        );
    }

    #[tokio::test]
    async fn repeated_message_of_one_target_counts_once() {
        let message = tool(1, "bin", "tool");
        let stream = [&message, END, &message, &message, END].concat();
        assert_eq!(read(&stream, "").await.unwrap().len(), 2);
    }

    #[test]
    fn paths_in_a_container_are_located() {
        let target_directory = Path::new("/home/me/ws/target");
        let container = Container {
            project: Path::new("/home/me/ws"),
            target_directory,
        };
        for (path, expected) in [
            (
                "/target/a-b-c/release/x",
                "/home/me/ws/target/a-b-c/release/x",
            ),
            (
                "/home/me/ws/target/release/x",
                "/home/me/ws/target/release/x",
            ),
            ("/project/app/Cargo.toml", "/home/me/ws/app/Cargo.toml"),
            (
                "/cross/project/target/release/x",
                "/home/me/ws/target/release/x",
            ),
            (
                "/cross/home/me/ws/target/release/x",
                "/home/me/ws/target/release/x",
            ),
            ("/cross/target/release/x", "/home/me/ws/target/release/x"),
            ("/elsewhere/release/x", "/elsewhere/release/x"),
        ] {
            assert_eq!(container.locate(Path::new(path)), Path::new(expected));
        }
        let at_mount = Container {
            project: Path::new("/project"),
            target_directory: Path::new("/target"),
        };
        for path in ["/target/release/x", "/project/Cargo.toml"] {
            assert_eq!(at_mount.locate(Path::new(path)), Path::new(path));
        }
    }

    #[test]
    fn project_of_a_container_contains_the_workspace() {
        let workspace = recorded();
        let project = |directory| Container::new(&workspace, Path::new(directory)).project;
        assert_eq!(project("/home/me/ws/app"), Path::new("/home/me/ws"));
        assert_eq!(project("/home/me"), Path::new("/home/me"));
        assert_eq!(project("/srv"), Path::new("/home/me/ws"));
    }

    /// The files of a message of cross about `my-app`, as packages and files.
    fn in_container(directory: &str, file: &str) -> Result<Vec<String>, super::super::Error> {
        let (workspace, selection) = (recorded(), flags(""));
        let request = Request {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let mut reader = Reader::new(request);
        reader.container = Some(Container::new(&workspace, Path::new("/home/me/ws")));
        let id = format!("path+file://{directory}#my-app@1.2.3-rc.1+build.5");
        let files = [file.to_owned()];
        let line = message(&id, directory, ("my-app", &["bin"], &["bin"]), &files);
        let Ok(Some(Message::CompilerArtifact(artifact))) = parse(line.as_bytes(), 1) else {
            panic!("{line}");
        };
        reader.keep(&artifact);
        Ok(lines(&reader.into_outputs()?, &workspace))
    }

    #[test]
    fn package_in_a_container_is_found_by_its_manifest() {
        for (project, target_directory) in [
            ("/project", "/target"),
            ("/cross/project", "/cross/project/target"),
            ("/cross/home/me/ws", "/cross/home/me/ws/target"),
            ("/cross/home/me/ws", "/cross/target"),
        ] {
            let file = format!("{target_directory}/a-b-c/release/my-app");
            let found = in_container(&format!("{project}/app"), &file).unwrap();
            assert_eq!(
                found,
                [
                    "a-b-c my-app [default] bin",
                    "  bin my-app /home/me/ws/target/a-b-c/release/my-app",
                ]
            );
        }
    }

    #[test]
    fn files_that_stay_in_a_container_are_named() {
        let file = "/builds/acme/target/a-b-c/release/my-app";
        let error = in_container("/builds/acme/app", file).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        let expected = "nothing to push: the reported files are not on this machine; \
                        the first is `/builds/acme/target/a-b-c/release/my-app`\nhelp: ";
        assert!(story(&error).starts_with(expected), "{}", story(&error));
    }

    #[test]
    fn cross_that_keeps_files_in_the_container_is_detected() {
        let leaves = |tool: BuildTool, value: &str| {
            let variables = [(KEEPS_FILES.into(), value.into())];
            tool.keeps_files_in_container(&Environment::new(PathBuf::from("/"), variables))
        };
        assert!(leaves(BuildTool::Cross, "1"));
        assert!(!leaves(BuildTool::Cross, "0") && !leaves(BuildTool::Cross, ""));
        assert!(!leaves(BuildTool::Cargo, "1"));
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
