//! The messages that cargo prints on stdout during a build, and the files that they name.

use std::{
    io,
    path::{Path, PathBuf},
};

use cargo_metadata::{Artifact, Message, Package};
use snafu::{ResultExt, Snafu, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::{
    Built, ErrorClass, Fault, Output, Request,
    artifact::{Found, Layout, kind_of},
    container::Container,
};

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("failed to read the messages of cargo"))]
    Read { source: io::Error },
    #[snafu(display("failed to parse line {line} of the messages of cargo"))]
    Parse {
        line: usize,
        source: serde_json::Error,
    },
    #[snafu(display("failed to read the messages of cargo: they are UTF-16"))]
    Encoding,
    #[snafu(display("the messages of cargo end before the build does"))]
    Unfinished,
    #[snafu(display(
        "nothing to push: the reported files are not on this machine; the first is `{}`",
        path.display()
    ))]
    Elsewhere { path: PathBuf },
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Read { .. } => ErrorClass::Io,
            Self::Parse { .. } | Self::Encoding | Self::Unfinished | Self::Elsewhere { .. } => {
                ErrorClass::Usage
            }
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
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
            Self::Read { .. } => return None,
        };
        Some(help)
    }
}

/// Returns the files that a saved stream of cargo's messages names, by the same rules as [`build`](super::build()).
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
pub(super) struct Reader<'a> {
    request: Request<'a>,
    layout: Layout<'a>,
    pub(super) container: Option<Container<'a>>,
    found: Found,
    /// The first file of a wanted kind that is not below the target directory.
    elsewhere: Option<PathBuf>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(request: Request<'a>) -> Self {
        Self {
            request,
            layout: Layout::of(&request),
            container: None,
            found: Found::default(),
            elsewhere: None,
        }
    }

    /// Reads to the end. Returns whether every build in it ended well, and at least one did.
    pub(super) async fn read(
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

    pub(super) fn into_outputs(self) -> Result<Vec<Output>, super::Error> {
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
        super::{
            Workspace,
            scratch::{all_kinds, flags, recorded, story},
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
}
