//! Builds with `cargo build`, or with a program that accepts the same flags and prints the same messages.
//!
//! Each target is built by a separate command. If one command built several targets, cargo would unify their features,
//! so the files for one target would depend on the other targets.

use std::{ffi::OsString, io, process::Stdio, time::Duration};

use clap::ValueEnum;
use oci_registry::{ErrorKind, Failure, Hint};
use snafu::{ResultExt, Snafu, ensure};
use tokio::{
    io::BufReader,
    process::{Child, Command},
};

use super::{
    BuildOutput, BuildRequest, CargoEnvironment, Selection, container::Container,
    messages::MessageReader, process,
};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to run `{command}`"))]
    Run { command: String, source: io::Error },
    #[snafu(display(
        "failed to build with cross: because `{KEEP_FILES_VARIABLE}` is set, the built files stay in the container"
    ))]
    FilesInContainer,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Run { .. } => ErrorKind::Io,
            Self::FilesInContainer => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Run { source, command }
                if source.kind() == io::ErrorKind::NotFound && command.starts_with(CROSS) =>
            {
                vec!["install it with `cargo install cross`".into()]
            }
            Self::FilesInContainer => vec![format!("unset `{KEEP_FILES_VARIABLE}`").into()],
            Self::Run { .. } => Vec::new(),
        }
    }
}

/// Name of cross, which builds in a container.
const CROSS: &str = "cross";

/// Environment variable of cross. If it is set, built files stay in the container of a remote engine.
const KEEP_FILES_VARIABLE: &str = "CROSS_REMOTE_SKIP_BUILD_ARTIFACTS";

/// Build program. Each one accepts the flags of `cargo build` and prints its JSON messages.
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
    /// Returns the executable and the subcommand that builds.
    fn command(self, environment: &CargoEnvironment) -> (OsString, &'static str) {
        match self {
            Self::Cargo => (environment.cargo(), "build"),
            Self::Cross => (CROSS.into(), "build"),
            Self::Zigbuild => (environment.cargo(), "zigbuild"),
        }
    }

    /// Whether the built files stay in the container. The files in the target directory are then from an earlier build.
    fn keeps_files_in_container(self, environment: &CargoEnvironment) -> bool {
        let value = environment.variable(KEEP_FILES_VARIABLE);
        self == Self::Cross && value.is_some_and(|value| !matches!(value, "0" | "false"))
    }
}

/// Output options that are passed to cargo. Cargo prints to the stderr of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutputOptions<'a> {
    /// Whether `--quiet` is passed.
    pub(crate) quiet: bool,
    /// Number of `-v` flags to pass.
    pub(crate) verbose: u8,
    /// Value of `--color`: `auto`, `always` or `never`. If `None`, the flag is omitted.
    pub(crate) color: Option<&'a str>,
    /// Whether stderr is a terminal.
    pub(crate) terminal: bool,
}

impl OutputOptions<'_> {
    fn arguments(self) -> Vec<String> {
        let mut arguments = vec![format!(
            "--message-format=json-render-diagnostics{}",
            if self.terminal {
                ",json-diagnostic-rendered-ansi"
            } else {
                ""
            }
        )];
        arguments.extend(self.common_arguments());
        arguments
    }

    /// Returns the arguments that every cargo command supports.
    pub(super) fn common_arguments(self) -> Vec<String> {
        let mut arguments = Vec::new();
        arguments.extend(self.quiet.then(|| "--quiet".to_owned()));
        if self.verbose > 0 {
            arguments.push(format!("-{}", "v".repeat(self.verbose.into())));
        }
        arguments.extend(self.color.map(|when| format!("--color={when}")));
        arguments
    }
}

/// Builds the selected packages. Returns the files of each target, sorted by triple.
///
/// `line` is called with each line that cargo prints to stdout. Cargo prints diagnostics to stderr.
pub(crate) async fn build(
    environment: &CargoEnvironment,
    request: &BuildRequest<'_>,
    tool: BuildTool,
    output: OutputOptions<'_>,
    mut line: impl FnMut(&str),
) -> Result<Vec<BuildOutput>, super::Error> {
    ensure!(
        !tool.keeps_files_in_container(environment),
        FilesInContainerSnafu
    );
    let mut reader = MessageReader::new(*request);
    if tool == BuildTool::Cross {
        let container = Container::new(request.workspace, &environment.directory);
        reader.container = Some(container);
    }
    for target in request.selection.build_targets() {
        let mut command = command(environment, request.selection, tool, target);
        command.args(output.arguments());
        run(command, &mut reader, &mut line).await?;
    }
    reader.into_outputs()
}

/// Returns the build command for one target.
fn command(
    environment: &CargoEnvironment,
    selection: &Selection,
    tool: BuildTool,
    target: Option<&str>,
) -> Command {
    let (program, subcommand) = tool.command(environment);
    let arguments = selection.build_arguments(target, &environment.directory);
    let mut command = process::command(environment, program);
    command.arg(subcommand).args(arguments.into_iter().skip(1));
    command
}

/// Runs a build and reads its messages.
async fn run(
    mut command: Command,
    reader: &mut MessageReader<'_>,
    line: &mut impl FnMut(&str),
) -> Result<(), super::Error> {
    command.stdout(Stdio::piped());
    let shown = process::display_command(&command);
    let mut child = command.spawn().context(RunSnafu { command: &shown })?;
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let read = reader.read(BufReader::new(stdout), line).await;
    let finished = match read {
        Ok(finished) => finished,
        Err(error) => {
            end_build(child, END_TIMEOUT).await;
            return Err(error.into());
        }
    };
    let status = child.wait().await.context(RunSnafu { command: shown })?;
    if is_interrupted(status) {
        // After Ctrl-C, this process receives the same signal. The delay gives the signal handler time to end this
        // process, so that the failed build is not reported as an error.
        tokio::time::sleep(SIGNAL_TIMEOUT).await;
    }
    if finished && status.success() {
        Ok(())
    } else {
        Err(super::Error::BuildFailed)
    }
}

/// Waits until a build with an invalid message exits, and kills it after the timeout.
///
/// The caller has closed the read end of the pipe, so each process of the build fails with `EPIPE` when it writes its
/// next message. This includes the cargo process that a build program such as cross starts. The timeout is for a child
/// that writes nothing.
async fn end_build(mut child: Child, timeout: Duration) {
    let ended = tokio::time::timeout(timeout, child.wait()).await;
    if ended.is_err() {
        // This error is ignored, because the caller reports the invalid message.
        let _ = child.kill().await;
    }
}

/// Time that a build with an invalid message has to exit.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Time in which a signal that ended a child also reaches this process.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the child was ended by a signal that a terminal sends to all foreground processes.
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
            scratch::{TestDirectory, all_kinds, error_chain, flags},
        },
        *,
    };

    const HOST: &str = "x86_64-unknown-linux-gnu";

    #[test]
    fn output_options_become_cargo_arguments() {
        let output = OutputOptions {
            quiet: true,
            verbose: 2,
            color: Some("never"),
            terminal: true,
        };
        assert_eq!(
            output.arguments(),
            [
                "--message-format=json-render-diagnostics,json-diagnostic-rendered-ansi",
                "--quiet",
                "-vv",
                "--color=never"
            ]
        );
        assert_eq!(
            OutputOptions::default().arguments(),
            ["--message-format=json-render-diagnostics"]
        );
    }

    #[test]
    fn cross_that_keeps_built_files_in_its_container_is_detected() {
        let keeps = |tool: BuildTool, value: &str| {
            let variables = [(KEEP_FILES_VARIABLE.into(), value.into())];
            tool.keeps_files_in_container(&CargoEnvironment::new(PathBuf::from("/"), variables))
        };
        assert!(keeps(BuildTool::Cross, "1"));
        assert!(!keeps(BuildTool::Cross, "0") && !keeps(BuildTool::Cross, ""));
        assert!(!keeps(BuildTool::Cargo, "1"));
    }

    #[tokio::test]
    async fn failed_build_returns_build_failed() {
        let scratch = TestDirectory::new_package();
        scratch.write("src/main.rs", "fn main() { nothing() }");
        let environment = scratch.environment();
        let selection = flags("--profile dev");
        let workspace = Workspace::load(&environment, &selection).await.unwrap();
        let request = BuildRequest {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let mut lines = Vec::new();
        let output = OutputOptions {
            quiet: true,
            ..OutputOptions::default()
        };
        let result = build(&environment, &request, BuildTool::Cargo, output, |line| {
            lines.push(line.to_owned());
        })
        .await;
        assert!(matches!(result, Err(super::super::Error::BuildFailed)));
        assert_eq!(
            lines.last().unwrap(),
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

    /// Replaces the cargo of an environment with a shell script.
    #[cfg(unix)]
    fn replace_cargo(environment: &mut CargoEnvironment, scratch: &TestDirectory, script: &str) {
        use std::os::unix::fs::PermissionsExt;

        scratch.write("other-cargo", script);
        let path = scratch.path().join("other-cargo");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        environment.variables.insert("CARGO".into(), path.into());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn build_with_invalid_message_is_stopped() {
        let scratch = TestDirectory::new_package();
        let selection = flags("");
        let mut environment = scratch.environment();
        let workspace = Workspace::load(&environment, &selection).await.unwrap();
        let request = BuildRequest {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        // A child process of the build program prints an invalid message and keeps running.
        let message = r#"{"reason":"build-finished""#;
        scratch.write(
            "child",
            &format!("echo $$\necho '{message}'\nwhile :; do echo x; done\n"),
        );
        let child = scratch.path().join("child");
        let script = format!("#!/bin/sh\nsh '{}'\ntrue\n", child.display());
        replace_cargo(&mut environment, &scratch, &script);
        let (tool, output) = (BuildTool::Cargo, OutputOptions::default());
        let mut lines = Vec::new();
        let result = build(&environment, &request, tool, output, |line| {
            lines.push(line.to_owned());
        })
        .await;
        let expected = "failed to parse line 2 of cargo's messages\n";
        assert!(error_chain(&result.unwrap_err()).starts_with(expected));
        assert!(!is_alive(&lines[0]), "the program is still running");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn build_is_killed_after_timeout() {
        let child = Command::new("sleep").arg("30").spawn().unwrap();
        let process = child.id().unwrap().to_string();
        end_build(child, Duration::ZERO).await;
        assert!(!is_alive(&process));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn dropped_build_is_killed() {
        use std::{cell::Cell, time::Instant};

        let scratch = TestDirectory::new_package();
        let selection = flags("");
        let mut environment = scratch.environment();
        let workspace = Workspace::load(&environment, &selection).await.unwrap();
        let request = BuildRequest {
            workspace: &workspace,
            selection: &selection,
            wanted: &all_kinds(&workspace),
            host: HOST,
        };
        let script = "#!/bin/sh\necho $$\nexec sleep 30\n";
        replace_cargo(&mut environment, &scratch, script);

        let deadline = Instant::now() + Duration::from_secs(20);
        let process = Cell::new(None);
        let (tool, output) = (BuildTool::Cargo, OutputOptions::default());
        let mut building = Box::pin(build(&environment, &request, tool, output, |line| {
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
            assert!(Instant::now() < deadline, "the program is still running");
            tokio::task::yield_now().await;
        }
    }
}
