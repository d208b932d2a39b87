//! Messages that cargo prints to stdout during a build, and the files that they list.

use std::{
    io,
    path::{Path, PathBuf},
};

use cargo_metadata::{Artifact, Message, Package, PackageId};
use oci_package::FileKind;
use oci_registry::{ErrorKind, Failure, Hint};
use snafu::{ResultExt, Snafu, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use super::{
    BuildOutput, BuildRequest, BuiltFile,
    artifact::{CollectedFiles, TargetDirectory, kind_of},
    container::Container,
};

/// Maximum length of a message, in bytes.
const MAX_LINE: u64 = 16 << 20;

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("failed to read cargo's messages"))]
    Read { source: io::Error },
    #[snafu(display("failed to parse line {line} of cargo's messages"))]
    Parse {
        line: usize,
        source: serde_json::Error,
    },
    #[snafu(display(
        "failed to read line {line} of cargo's messages: it has more than {MAX_LINE} bytes"
    ))]
    LineTooLong { line: usize },
    #[snafu(display("failed to read cargo's messages: they are encoded as UTF-16"))]
    Encoding,
    #[snafu(display("cargo reported no file for the {kind} target `{target}` of `{package}`"))]
    WithoutFile {
        kind: String,
        target: String,
        package: String,
    },
    #[snafu(display(
        "failed to read cargo's messages: the build failed, or its messages are incomplete"
    ))]
    Incomplete,
    #[snafu(display(
        "failed to find a built file: the build reported `{}`, which is not on this machine",
        path.display()
    ))]
    NotOnThisMachine { path: PathBuf },
    #[snafu(display(
        "failed to select a file: the build reported `{}`, which is not in the target directory `{}`",
        path.display(),
        target_directory.display()
    ))]
    OtherTargetDirectory {
        path: PathBuf,
        target_directory: PathBuf,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Io,
            Self::Parse { .. }
            | Self::LineTooLong { .. }
            | Self::Encoding
            | Self::WithoutFile { .. }
            | Self::Incomplete
            | Self::NotOnThisMachine { .. }
            | Self::OtherTargetDirectory { .. } => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let hint = match self {
            Self::Parse { .. } | Self::LineTooLong { .. } => {
                "keep each line as cargo prints it on stdout, without a prefix or other output"
            }
            Self::Encoding => {
                "save them as UTF-8, in PowerShell with `| Out-File -Encoding utf8 FILE`"
            }
            Self::WithoutFile { .. } => {
                "give the targets different names, and build again: two targets may write the same file"
            }
            Self::Incomplete => {
                "run the build again, and save the complete stdout of `cargo build --message-format json-render-diagnostics`"
            }
            Self::NotOnThisMachine { .. } => {
                "copy the files to this machine, and pass them with `--file NAME=PATH`"
            }
            Self::OtherTargetDirectory { .. } => {
                "pass the target directory of the build with `--target-dir`"
            }
            Self::Read { .. } => return Vec::new(),
        };
        vec![hint.into()]
    }
}

/// Returns the files that cargo's saved messages list, by the same rules as [`build`](super::build()).
///
/// The messages may be those of several builds in sequence. Every build must have succeeded.
pub(crate) async fn replay(
    messages: impl AsyncBufRead + Unpin,
    request: &BuildRequest<'_>,
) -> Result<Vec<BuildOutput>, super::Error> {
    let mut reader = MessageReader::new(*request);
    let finished = reader.read(messages, &mut |_| ()).await?;
    ensure!(finished, IncompleteSnafu);
    reader.into_outputs()
}

/// Reader that parses messages and collects the requested files.
pub(super) struct MessageReader<'a> {
    request: BuildRequest<'a>,
    layout: TargetDirectory<'a>,
    pub(super) container: Option<Container<'a>>,
    found: CollectedFiles,
    /// Path of the first requested file that is not in the target directory, as reported.
    outside: Option<PathBuf>,
    /// Path of the first file that is of a requested kind, from any package, and not below the target directory.
    foreign: Option<PathBuf>,
    /// Error for the first target of a selected package for which cargo reported no file.
    without_file: Option<Error>,
}

impl<'a> MessageReader<'a> {
    pub(super) fn new(request: BuildRequest<'a>) -> Self {
        Self {
            request,
            layout: TargetDirectory::from_request(&request),
            container: None,
            found: CollectedFiles::default(),
            outside: None,
            foreign: None,
            without_file: None,
        }
    }

    /// Reads all messages. Returns whether they contain at least one build, and all builds succeeded.
    pub(super) async fn read(
        &mut self,
        mut messages: impl AsyncBufRead + Unpin,
        line: &mut impl FnMut(&str),
    ) -> Result<bool, Error> {
        let (mut succeeded, mut is_open) = (None, false);
        let (mut bytes, mut number) = (Vec::new(), 0);
        while (&mut messages)
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut bytes)
            .await
            .context(ReadSnafu)?
            > 0
        {
            number += 1;
            let is_too_long = bytes.len() as u64 > MAX_LINE;
            ensure!(!is_too_long, LineTooLongSnafu { line: number });
            let text = String::from_utf8_lossy(&bytes);
            line(text.trim_end_matches(['\n', '\r']));
            match parse(&bytes, number)? {
                Some(Message::CompilerArtifact(artifact)) => {
                    is_open = true;
                    self.collect(&artifact);
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

    fn collect(&mut self, artifact: &Artifact) {
        let member = self.member(artifact);
        if let Some(package) = member.filter(|_| artifact.filenames.is_empty()) {
            self.record_without_file(package, artifact);
        }
        let package = member.map(|package| &package.id);
        for reported in &artifact.filenames {
            let reported = reported.as_std_path();
            let path = self.locate(reported);
            let Some((triple, name)) = self.layout.locate(&path) else {
                self.record_outside(&path, reported, package, artifact);
                continue;
            };
            self.record_unknown_package(&name, package, artifact);
            let writer = package.unwrap_or(&artifact.package_id);
            self.found.record_writer(&path, writer, &artifact.target);
            let triple = triple.unwrap_or(self.request.host);
            let (Some(package), Some(kind)) = (package, kind_of(&name, &artifact.target)) else {
                continue;
            };
            if !self.request.wants(package, kind) || !self.request.wants_target(triple) {
                continue;
            }
            let triple = triple.to_owned();
            let file = BuiltFile { name, kind, path };
            self.found
                .add(&triple, package, &artifact.target, &artifact.features, file);
        }
    }

    /// Converts a reported path to a path on this machine.
    fn locate(&self, reported: &Path) -> PathBuf {
        match &self.container {
            Some(container) => container.locate(reported),
            None => reported.to_owned(),
        }
    }

    /// Returns the workspace member that an artifact belongs to. If the build ran in a container, the package ID
    /// contains a path in the container, so the converted manifest path is compared as well.
    fn member(&self, artifact: &Artifact) -> Option<&'a Package> {
        let workspace = self.request.workspace;
        workspace.member(&artifact.package_id).or_else(|| {
            let manifest = self.locate(artifact.manifest_path.as_std_path());
            let mut members = workspace.members.iter();
            members.find(|package| package.manifest_path == manifest)
        })
    }

    /// Records that cargo reported no file for a target of a selected package. Cargo omits a file from its message if
    /// the file does not exist at that moment, for example because the linker of another target is replacing the file.
    fn record_without_file(&mut self, package: &Package, artifact: &Artifact) {
        if !self.request.wanted.contains_key(&package.id) {
            return;
        }
        self.without_file.get_or_insert_with(|| {
            let kinds: Vec<_> = artifact
                .target
                .kind
                .iter()
                .map(ToString::to_string)
                .collect();
            WithoutFileSnafu {
                kind: kinds.join("+"),
                target: &artifact.target.name,
                package: package.name.as_str(),
            }
            .build()
        });
    }

    /// Records a file that is not in the target directory, if it is requested.
    fn record_outside(
        &mut self,
        path: &Path,
        reported: &Path,
        package: Option<&PackageId>,
        artifact: &Artifact,
    ) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(kind) = kind_of(&name, &artifact.target) else {
            return;
        };
        let is_requested = match package {
            Some(package) => self.request.wants(package, kind),
            None => self.is_unknown_package(artifact) && self.is_wanted(kind),
        };
        let wants_target = |target: &str| self.request.wants_target(target);
        if is_requested && self.layout.is_outside(path, wants_target) {
            self.outside.get_or_insert_with(|| reported.to_owned());
        }
        if !path.starts_with(self.layout.target_directory) && self.is_wanted(kind) {
            self.foreign.get_or_insert_with(|| reported.to_owned());
        }
    }

    /// Records the manifest of an unknown package, if a final file of the package is of a requested kind.
    fn record_unknown_package(
        &mut self,
        name: &str,
        package: Option<&PackageId>,
        artifact: &Artifact,
    ) {
        let kind = kind_of(name, &artifact.target);
        if package.is_none()
            && self.is_unknown_package(artifact)
            && kind.is_some_and(|kind| self.is_wanted(kind))
        {
            let manifest = artifact.manifest_path.as_std_path();
            self.outside.get_or_insert_with(|| manifest.to_owned());
        }
    }

    /// Whether an artifact that matches no workspace member may still belong to one. This is possible only if the build
    /// ran in a container, where the directory of a local package may have an unknown path.
    fn is_unknown_package(&self, artifact: &Artifact) -> bool {
        self.container.is_some() && artifact.package_id.repr.contains("path+file:")
    }

    fn is_wanted(&self, kind: FileKind) -> bool {
        let mut wanted = self.request.wanted.values();
        wanted.any(|kinds| kinds.contains(&kind))
    }

    pub(super) fn into_outputs(self) -> Result<Vec<BuildOutput>, super::Error> {
        if let Some(error) = self.without_file {
            return Err(error.into());
        }
        if let Some(path) = self.outside {
            // The same path on this machine is a different file than in the container.
            let is_here = self.container.is_none() && path.is_absolute() && path.exists();
            ensure!(is_here, NotOnThisMachineSnafu { path });
            let target_directory = self.layout.target_directory;
            return Err(OtherTargetDirectorySnafu {
                path,
                target_directory,
            }
            .build()
            .into());
        }
        let outputs = self.found.into_outputs(self.request.workspace)?;
        let foreign = self.foreign.filter(|path| !path.exists());
        if let (true, Some(path)) = (outputs.is_empty(), foreign) {
            return Err(NotOnThisMachineSnafu { path }.build().into());
        }
        Ok(outputs)
    }
}

/// `reason` values of cargo's messages.
const REASONS: [&str; 4] = [
    "compiler-artifact",
    "compiler-message",
    "build-script-executed",
    "build-finished",
];

/// Parses one line. Returns `None` for a line that is not a message, because build scripts and cargo wrappers may print
/// other text.
fn parse(line: &[u8], number: usize) -> Result<Option<Message>, Error> {
    let is_utf16 = line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]);
    ensure!(number > 1 || !is_utf16, EncodingSnafu);
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    match serde_json::from_slice(line) {
        Ok(message) => Ok(Some(message)),
        Err(error) if is_damaged_message(line, &error) => {
            Err(error).context(ParseSnafu { line: number })
        }
        Err(_) => Ok(None),
    }
}

/// Whether a line that does not parse is a damaged cargo message, and not other text.
fn is_damaged_message(line: &[u8], error: &serde_json::Error) -> bool {
    // The value of `reason` may be damaged too, so only the key is compared. Cargo writes this key first.
    let is_broken_json = !error.is_data() && line.starts_with(b"{\"reason\"");
    is_broken_json || contains_message(&String::from_utf8_lossy(line))
}

/// Whether text contains the `reason` key with the value of a cargo message.
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
        super::{
            Workspace,
            scratch::{all_kinds, error_chain, error_kind, flags, recorded},
        },
        *,
    };

    const HOST: &str = "x86_64-unknown-linux-gnu";

    /// Reads messages, and returns one line for each package and each file.
    async fn read(stream: &str, line: &str) -> Result<Vec<String>, super::super::Error> {
        let (workspace, selection) = (recorded(), flags(line));
        let request = BuildRequest {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let outputs = replay(stream.as_bytes(), &request).await?;
        Ok(lines(&outputs, &workspace))
    }

    fn lines(outputs: &[BuildOutput], workspace: &Workspace) -> Vec<String> {
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

    /// Returns a message about files that another machine built for the library or program `x` of a recorded package.
    fn artifact(package: usize, kinds: &[&str], crate_types: &[&str], files: &[&str]) -> String {
        let files: Vec<_> = files
            .iter()
            .map(|file| format!("/home/me/ws/target/{file}"))
            .collect();
        let id = recorded().members[package].id.to_string();
        message(&id, "/home/me/ws/x", ("x", kinds, crate_types), &files)
    }

    /// Returns a message about the program `tool` of a recorded package.
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
    async fn workspace_build_lists_files_of_all_packages() {
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
    async fn target_without_file_is_rejected() {
        let stream = [&artifact(2, &["cdylib"], &["cdylib"], &[]), END].concat();
        let error = read(&stream, "--workspace").await.unwrap_err();
        let error_chain = error_chain(&error);
        let expected = "cargo reported no file for the cdylib target `x` of `shapes`\n";
        assert!(error_chain.starts_with(expected), "{error_chain}");
    }

    #[tokio::test]
    async fn files_of_dependencies_are_not_listed() {
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
    async fn file_kinds_of_windows_macos_and_wasm_are_detected() {
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
            // A procedural macro is built for the host, which is not one of the requested targets.
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
    async fn other_text_between_messages_is_ignored() {
        let message = artifact(1, &["bin"], &["bin"], &["release/my-app"]);
        let stream = format!("hello\r\n{{\"reason\":\"new\"}}\n{message}\u{fffd}[\n{END}");
        assert_eq!(read(&stream, "").await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn stream_with_unfinished_or_failed_build_is_rejected() {
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
            assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
            assert!(
                error_chain(&error)
                    .starts_with("failed to read cargo's messages: the build failed,")
            );
        }
    }

    #[tokio::test]
    async fn byte_order_mark_before_a_message_is_ignored() {
        let (one, other) = (
            artifact(1, &["bin"], &["bin"], &["release/my-app"]),
            artifact(2, &["cdylib"], &["cdylib"], &["release/libshapes.so"]),
        );
        // Two saved outputs are concatenated, each with a byte order mark.
        let stream = format!("\u{feff}{one}{END}\u{feff}{other}{END}");
        assert_eq!(read(&stream, "").await.unwrap().len(), 4);
    }

    #[tokio::test]
    async fn invalid_message_is_rejected_with_line_number() {
        let message = artifact(1, &["bin"], &["bin"], &["release/my-app"]);
        let message = message.trim_end();
        for line in [
            format!("2026-11-28T10:40:00Z {message}"),
            format!("{message}{message}"),
            message[..message.len() - 1].to_owned(),
            r#"{"reason":"compiler-artifact","package_id":"pa"#.to_owned(),
            r#"{"reason":"compiler-\u0061rtifact","package_id":"pa"#.to_owned(),
            message.replace("\"package_id\"", "\"id\""),
            "  \"reason\" : \"compiler-artifact\",".to_owned(),
            format!("progress {}", END.trim_end()),
        ] {
            let stream = format!("hello\n{line}\n{END}");
            let error = read(&stream, "").await.unwrap_err();
            assert_eq!(error_kind(&error), ErrorKind::InvalidInput, "{line}");
            let error_chain = error_chain(&error);
            let expected = "failed to parse line 2 of cargo's messages\n";
            assert!(error_chain.starts_with(expected), "{line}: {error_chain}");
        }
    }

    #[test]
    fn message_with_invalid_utf8_is_rejected() {
        let line = b"{\"reason\":\"build-finished\",\"success\":true,\"x\":\"\xff\"}";
        assert!(parse(line, 1).is_err());
    }

    #[tokio::test]
    async fn messages_in_utf16_are_rejected() {
        let (workspace, selection) = (recorded(), flags(""));
        let request = BuildRequest {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let units = format!("\u{feff}{END}");
        let stream: Vec<u8> = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let error = replay(&stream[..], &request).await.unwrap_err();
        assert_eq!(
            error_chain(&error),
            "failed to read cargo's messages: they are encoded as UTF-16\n\
             help: save them as UTF-8, in PowerShell with `| Out-File -Encoding utf8 FILE`"
        );
    }

    #[tokio::test]
    async fn line_longer_than_the_limit_is_rejected() {
        let (workspace, selection) = (recorded(), flags(""));
        let request = BuildRequest {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let endless = tokio::io::BufReader::new(tokio::io::repeat(b' '));
        let error = replay(endless, &request).await.unwrap_err();
        let message = "failed to read line 1 of cargo's messages: it has more than 16777216 bytes";
        assert!(error_chain(&error).starts_with(message), "{error:?}");
    }

    #[tokio::test]
    async fn file_of_two_targets_is_rejected() {
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
            assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
            let expected = format!(
                "failed to select a file: `{path}` is written by more than one target: \
                 bin `tool` of `my-app`, {owner}\nhelp: "
            );
            let error_chain = error_chain(&error);
            assert!(error_chain.starts_with(&expected), "{error_chain}");
        }
    }

    #[tokio::test]
    async fn file_overwritten_by_unpublished_package_is_rejected() {
        let workspace = recorded();
        let (selection, mut wanted) = (flags(""), all_kinds(&workspace));
        wanted.remove(&workspace.members[2].id);
        let request = BuildRequest {
            workspace: &workspace,
            selection: &selection,
            wanted: &wanted,
            host: HOST,
        };
        let stream = [tool(1, "bin", "tool"), tool(2, "bin", "tool"), END.into()].concat();
        assert!(replay(stream.as_bytes(), &request).await.is_err());

        // It is not an error if two targets write the same file and the file is not published.
        let nothing = BTreeMap::new();
        let request = BuildRequest {
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
    async fn repeated_message_of_one_target_is_deduplicated() {
        let message = tool(1, "bin", "tool");
        let stream = [&message, END, &message, &message, END].concat();
        assert_eq!(read(&stream, "").await.unwrap().len(), 2);
    }

    /// Reads a message that cross prints about `my-app`, and returns one line for each package and each file.
    fn in_container(directory: &str, file: &str) -> Result<Vec<String>, super::super::Error> {
        let (workspace, selection) = (recorded(), flags(""));
        let request = BuildRequest {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let mut reader = MessageReader::new(request);
        reader.container = Some(Container::new(&workspace, Path::new("/home/me/ws")));
        let id = format!("path+file://{directory}#my-app@1.2.3-rc.1+build.5");
        let files = [file.to_owned()];
        let line = message(&id, directory, ("my-app", &["bin"], &["bin"]), &files);
        let Ok(Some(Message::CompilerArtifact(artifact))) = parse(line.as_bytes(), 1) else {
            panic!("{line}");
        };
        reader.collect(&artifact);
        Ok(lines(&reader.into_outputs()?, &workspace))
    }

    #[test]
    fn cross_container_path_is_mapped_by_cargo_manifest_path() {
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
    fn unmapped_path_in_cross_container_is_rejected() {
        let file = "/target/a-b-c/release/my-app";
        for (project, file, missing) in [
            ("/project", "/mnt/a/a-b-c/release/my-app", None),
            ("/project", "target/a-b-c/release/my-app", None),
            ("/project", "/target/a-b-c/release/../../my-app", None),
            ("/project", "C:\\target\\a-b-c\\release\\my-app", None),
            ("/mnt/a", file, Some("/mnt/a/app/Cargo.toml")),
        ] {
            let error = in_container(&format!("{project}/app"), file).unwrap_err();
            assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
            let missing = missing.unwrap_or(file);
            let expected = format!("the build reported `{missing}`, which is not on this machine");
            let error_chain = error_chain(&error);
            assert!(error_chain.contains(&expected), "{error_chain}");
        }
    }

    /// Returns messages about two programs of `my-app`. The second program has this path.
    fn with_second_file(path: &str) -> String {
        let id = recorded().members[1].id.to_string();
        let second = ("second", &["bin"][..], &["bin"][..]);
        let second = message(&id, "/home/me/ws/x", second, &[path.to_owned()]);
        [
            &artifact(1, &["bin"], &["bin"], &["a-b-c/release/my-app"]),
            &second,
            END,
        ]
        .concat()
    }

    #[tokio::test]
    async fn built_file_outside_of_target_directory_is_rejected() {
        let here = tempfile::tempdir().unwrap();
        let existing = here.path().join("release/second");
        std::fs::create_dir(here.path().join("release")).unwrap();
        std::fs::write(&existing, "").unwrap();
        let existing = existing.to_str().unwrap();
        for (path, expected) in [
            ("/no/target/a-b-c/release/second", "is not on this machine"),
            ("target/a-b-c/release/second", "is not on this machine"),
            (existing, "is not in the target directory"),
        ] {
            let error = read(&with_second_file(path), "").await.unwrap_err();
            let error_chain = error_chain(&error);
            let expected = format!("the build reported `{path}`, which {expected}");
            assert!(error_chain.contains(&expected), "{error_chain}");
        }
    }

    #[tokio::test]
    async fn unrequested_file_outside_of_target_directory_is_ignored() {
        for path in [
            "/build/release/deps/second-0123456789abcdef",
            "/no/target/d-e-f/release/second",
            "/no/target/release/second",
        ] {
            let lines = read(&with_second_file(path), "--target a-b-c").await;
            assert_eq!(lines.unwrap().len(), 2, "{path}");
        }
        // This program belongs to another workspace.
        let other = "path+file:///other#other@1.0.0";
        let target = ("other", &["bin"][..], &["bin"][..]);
        let other = message(
            other,
            "/other",
            target,
            &["/other/target/release/other".into()],
        );
        let stream = [
            &artifact(1, &["bin"], &["bin"], &["release/my-app"]),
            &other,
            END,
        ]
        .concat();
        assert_eq!(read(&stream, "").await.unwrap().len(), 2);
    }

    #[test]
    fn built_file_outside_of_container_mounts_is_rejected() {
        let file = "/builds/acme/target/a-b-c/release/my-app";
        let error = in_container("/builds/acme/app", file).unwrap_err();
        assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
        let expected = "failed to find a built file: the build reported \
                        `/builds/acme/target/a-b-c/release/my-app`, which is not on this machine\nhelp: ";
        assert!(
            error_chain(&error).starts_with(expected),
            "{}",
            error_chain(&error)
        );
    }
}
