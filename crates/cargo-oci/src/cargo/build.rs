//! `cargo build`, or a program that takes its flags and prints its messages.
//!
//! Targets are built one after the other: when cargo builds several at once it unifies their features, so the
//! files of one target would depend on the others.

use std::{ffi::OsString, io, process::Stdio, time::Duration};

use clap::ValueEnum;
use snafu::{ResultExt, Snafu, ensure};
use tokio::{
    io::BufReader,
    process::{Child, Command},
};

use super::{
    Environment, ErrorClass, Fault, Output, Request, Selection, container::Container,
    messages::Reader, process,
};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to run `{command}`"))]
    Run { command: String, source: io::Error },
    #[snafu(display("cargo failed to build"))]
    Build,
    #[snafu(display(
        "failed to build with cross: `{KEEPS_FILES}` keeps the files in the container"
    ))]
    FilesStay,
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Build => ErrorClass::Build,
            Self::Run { .. } => ErrorClass::Io,
            Self::FilesStay => ErrorClass::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Self::Run { source, command }
                if source.kind() == io::ErrorKind::NotFound && command.starts_with(CROSS) =>
            {
                "install it with `cargo install cross`".to_owned()
            }
            Self::FilesStay => format!("unset `{KEEPS_FILES}`"),
            Self::Run { .. } | Self::Build => return None,
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
    /// cargo-zigbuild, which links with zig; supports glibc versions: x86_64-unknown-linux-gnu.2.17
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
    ensure!(!tool.keeps_files_in_container(environment), FilesStaySnafu);
    let mut reader = Reader::new(*request);
    if tool == BuildTool::Cross {
        let container = Container::new(request.workspace, &environment.directory);
        reader.container = Some(container);
    }
    for target in request.selection.build_targets() {
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
) -> Result<(), super::Error> {
    command.stdout(Stdio::piped());
    let shown = process::shown(&command);
    let mut child = command.spawn().context(RunSnafu { command: &shown })?;
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    let read = reader.read(BufReader::new(stdout), line).await;
    let finished = match read {
        Ok(finished) => finished,
        Err(error) => {
            end(child, REFUSAL).await;
            return Err(error.into());
        }
    };
    let status = child.wait().await.context(RunSnafu { command: shown })?;
    if is_interrupted(status) {
        // Ctrl-C sends the signal to this process as well, which then ends by it.
        tokio::time::sleep(INTERRUPTION).await;
    }
    ensure!(finished && status.success(), BuildSnafu);
    Ok(())
}

/// Ends a build whose messages are no longer read.
///
/// The read end of the pipe is closed, so every program that writes a message to it ends with `EPIPE`. That includes a
/// cargo below the child, as with cross. A child that writes nothing is killed after `patience`.
async fn end(mut child: Child, patience: Duration) {
    let ended = tokio::time::timeout(patience, child.wait()).await;
    if ended.is_err() {
        // The error that ended the build is reported, and this one adds nothing.
        let _ = child.kill().await;
    }
}

/// Time to wait for the end of a build whose messages were refused.
const REFUSAL: Duration = Duration::from_secs(10);

/// Time to wait for the signal that ended a child to reach this process.
const INTERRUPTION: Duration = Duration::from_secs(1);

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
#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{
        super::{
            Workspace,
            scratch::{Scratch, all_kinds, flags, story},
        },
        *,
    };

    const HOST: &str = "x86_64-unknown-linux-gnu";

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
    fn is_alive(process: &str) -> bool {
        let kill = std::process::Command::new("kill")
            .args(["-0", process])
            .output();
        kill.unwrap().status.success()
    }

    /// Makes a shell script the cargo of an environment.
    #[cfg(unix)]
    fn replace_cargo(environment: &mut Environment, scratch: &Scratch, script: &str) {
        use std::os::unix::fs::PermissionsExt;

        scratch.write("other-cargo", script);
        let path = scratch.path().join("other-cargo");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        environment.variables.insert("CARGO".into(), path.into());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn build_with_refused_message_ends_before_the_error() {
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
        // A program below the tool prints a message that does not parse, and goes on.
        let message = r#"{"reason":"build-finished""#;
        scratch.write(
            "below",
            &format!("echo $$\necho '{message}'\nwhile :; do echo x; done\n"),
        );
        let below = scratch.path().join("below");
        let script = format!("#!/bin/sh\nsh '{}'\ntrue\n", below.display());
        replace_cargo(&mut environment, &scratch, &script);
        let (tool, shell) = (BuildTool::Cargo, Shell::default());
        let mut lines = Vec::new();
        let result = build(&environment, &request, tool, shell, |line| {
            lines.push(line.to_owned());
        })
        .await;
        let expected = "failed to parse line 2 of the messages of cargo\n";
        assert!(story(&result.unwrap_err()).starts_with(expected));
        assert!(!is_alive(&lines[0]), "the program goes on");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn build_that_does_not_end_is_killed() {
        let child = Command::new("sleep").arg("30").spawn().unwrap();
        let process = child.id().unwrap().to_string();
        end(child, Duration::ZERO).await;
        assert!(!is_alive(&process));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_build_that_nobody_waits_for_is_stopped() {
        use std::{cell::Cell, time::Instant};

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
        let script = "#!/bin/sh\necho $$\nexec sleep 30\n";
        replace_cargo(&mut environment, &scratch, script);

        let deadline = Instant::now() + Duration::from_secs(20);
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
        assert!(is_alive(&process));
        drop(building);
        while is_alive(&process) {
            assert!(Instant::now() < deadline, "the program outlived its future");
            tokio::task::yield_now().await;
        }
    }
}
