//! Programs under test: temporary home directories, runs, and their exit code and output.
//!
//! A program inherits nothing from the environment of the test except the path to the Rust toolchain.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::directory::Directory;
use crate::loopback::block_on;
use crate::registry::{PASSWORD, USER};
use crate::testbed::{Tool, plugin_path, program_path, toolchain_variables};

/// Maximum duration of a run. Building a crate that has no dependencies takes a few seconds.
const LIMIT: Duration = Duration::from_mins(2);

/// Temporary home directory for programs.
#[derive(Debug)]
pub struct Home {
    directory: Directory,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// Creates a home directory that has no credentials.
    #[must_use]
    pub fn new() -> Self {
        let directory = Directory::new();
        for inside in [".docker", ".cargo", "tmp"] {
            fs::create_dir(directory.path().join(inside)).expect("the directory can be created");
        }
        Self { directory }
    }

    /// Creates a home directory whose Docker config file contains the login of [`USER`] for `host`.
    #[must_use]
    pub fn for_user(host: &str) -> Self {
        Self::with_login(host, USER, PASSWORD)
    }

    /// Creates a home directory whose Docker config file contains a login for `host`.
    #[must_use]
    pub fn with_login(host: &str, user: &str, password: &str) -> Self {
        let home = Self::new();
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let config = json!({"auths": {host: {"auth": auth}}});
        fs::write(home.docker_config().join("config.json"), config.to_string())
            .expect("the Docker config file can be written");
        home
    }

    /// Returns the path of the home directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the directory of the Docker config file (`DOCKER_CONFIG`).
    #[must_use]
    pub fn docker_config(&self) -> PathBuf {
        self.path().join(".docker")
    }

    /// Prepares a run of `cargo-oci` with these arguments.
    #[must_use]
    pub fn cargo_oci<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.run(&program_path("cargo-oci"), arguments)
    }

    /// Prepares a run of a bash script. Bash reads no startup files.
    #[must_use]
    pub fn bash(&self, script: &str) -> Run {
        self.run(
            Path::new("/bin/bash"),
            ["--norc", "--noprofile", "-c", script],
        )
    }

    /// Prepares a run of a script in zsh or fish. The shell reads the startup files of the home directory.
    #[must_use]
    pub fn shell(&self, shell: Tool, script: &str) -> Run {
        self.run(&shell.path(), ["-c", script])
    }

    /// Prepares a run of a bash script in a session with a message bus and an unlocked keyring. Both stop when the
    /// script exits. `PATH` contains `cargo-oci` and `secret-tool`.
    #[must_use]
    pub fn bash_with_keyring(&self, script: &str) -> Run {
        use std::os::unix::fs::DirBuilderExt as _;
        // The keyring daemon rejects a directory that other users can read.
        let runtime = self.path().join("run");
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&runtime);
        made.expect("the directory for sockets can be created");
        let bin = |program: PathBuf| {
            program
                .parent()
                .map(Path::to_owned)
                .expect("a program is in a directory")
        };
        let bins = [bin(program_path("cargo-oci")), bin(Tool::SecretTool.path())];
        // The keyring daemon moves to the background before it registers on the bus, so the script waits for it.
        let script = format!(
            "PATH={}:{}:$PATH; printf pass | {} --unlock --components=secrets >&2\n\
             until secret-tool search a b >/dev/null 2>&1; do sleep 0.1; done\n{script}",
            bins[0].display(),
            bins[1].display(),
            Tool::GnomeKeyring.path().display()
        );
        let arguments = ["--", "/bin/bash", "--norc", "--noprofile", "-euc", &script];
        self.run(&Tool::DbusRunSession.path(), arguments)
            .with("XDG_RUNTIME_DIR", runtime)
    }

    /// Prepares a run of the real `cargo` with these arguments.
    #[must_use]
    pub fn cargo<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.run(Path::new("cargo"), arguments)
    }

    /// Prepares a run of `cargo-oci` with these arguments in a new terminal. All terminal output is captured as stdout.
    #[must_use]
    pub fn cargo_oci_at_terminal(&self, arguments: &str) -> Run {
        // The shell catches SIGINT and does nothing, so an interrupt stops the program only.
        let command_line = format!(
            "trap : INT; {} {arguments}",
            program_path("cargo-oci").display()
        );
        self.run(
            Path::new("/usr/bin/script"),
            ["-qec", &command_line, "/dev/null"],
        )
    }

    /// Prepares a run of `skopeo` with these arguments. Skopeo verifies no signatures.
    #[must_use]
    pub fn skopeo<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        let mut run = self.run(&Tool::Skopeo.path(), ["--insecure-policy", "--tmpdir"]);
        run.arguments.push(self.path().join("tmp").into());
        run.arguments.extend(arguments.into_iter().map(Into::into));
        run
    }

    /// Prepares a run of `oras` with these arguments.
    #[must_use]
    pub fn oras<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.run(&Tool::Oras.path(), arguments)
    }

    /// Prepares a run of a script in a real Nushell with this plugin as the only plugin.
    #[must_use]
    pub fn nu(&self, script: &str) -> Run {
        self.nu_with_plugins(&[plugin_path()], script)
    }

    /// Prepares a run of a script in a real Nushell with only these plugins.
    #[must_use]
    pub fn nu_with_plugins(&self, plugins: &[PathBuf], script: &str) -> Run {
        // Nushell splits the list itself and does not support quotes in the list.
        let plugins: Vec<_> = plugins.iter().map(|path| path.to_string_lossy()).collect();
        let plugins = format!("[{}]", plugins.join(", "));
        let options = ["-n", "--no-std-lib", "--plugins", &plugins, "-c", script];
        self.run(&Tool::Nu.path(), options)
    }

    /// Prepares a run of a script in a real Nushell without plugins.
    #[must_use]
    pub fn nu_without_plugins(&self, script: &str) -> Run {
        self.run(&Tool::Nu.path(), ["-n", "--no-std-lib", "-c", script])
    }

    /// Runs a Nushell pipeline and returns its value as JSON.
    ///
    /// # Panics
    ///
    /// If the script fails.
    #[must_use]
    pub fn nu_value(&self, pipeline: &str) -> Value {
        let outcome = self.nu(&format!("{pipeline} | to json --raw")).succeeds();
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| {
            panic!("`{pipeline}` printed invalid JSON ({error}): {outcome}")
        })
    }

    /// Runs a Nushell pipeline that must fail, and returns its error code.
    ///
    /// # Panics
    ///
    /// If the pipeline succeeds.
    #[must_use]
    pub fn nu_error_code(&self, pipeline: &str) -> String {
        // `collect` reads the whole stream, because an error may follow the first rows.
        let script = format!(
            "try {{ {pipeline} | collect | ignore; 'no error' }} catch {{|e| $e.details.code }}"
        );
        let outcome = self.nu(&script).succeeds();
        let code = outcome.stdout.trim().to_owned();
        assert_ne!(code, "no error", "`{pipeline}` succeeded: {outcome}");
        code
    }

    fn run<A: Into<OsString>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Run {
        let mut environment: Vec<(OsString, OsString)> = toolchain_variables()
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect();
        let mut set = |name: &str, value: OsString| environment.push((name.into(), value));
        set("HOME", self.path().into());
        set("DOCKER_CONFIG", self.docker_config().into());
        set("CARGO_HOME", self.path().join(".cargo").into());
        set("TMPDIR", self.path().join("tmp").into());
        set("CARGO_NET_OFFLINE", "true".into());
        set("NO_COLOR", "1".into());
        Run {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            directory: self.path().into(),
            environment,
            input: String::new(),
        }
    }
}

/// Run of a program, which has not started yet.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) directory: PathBuf,
    pub(crate) environment: Vec<(OsString, OsString)>,
    input: String,
}

/// Process group that is killed when the value is dropped. Otherwise, if a program is killed, its cargo process would
/// still write into the directory that the test deletes.
struct ProcessGroup(u32);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let group = format!("-{}", self.0);
        // If all processes of the group have exited, the group no longer exists, and `kill` fails.
        let _ = std::process::Command::new("/bin/kill")
            .args(["-s", "KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
    }
}

impl Run {
    /// Sets the working directory. The default is the home directory.
    #[must_use]
    pub fn within(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the content of stdin. The default is empty.
    #[must_use]
    pub fn stdin(mut self, text: &str) -> Self {
        text.clone_into(&mut self.input);
        self
    }

    /// Runs the program in its terminal. Sends each answer when the corresponding prompt appears.
    ///
    /// # Panics
    ///
    /// If a prompt does not appear, or the program does not exit in time.
    #[must_use]
    pub fn answer_prompts(self, prompts: &[(&str, &str)]) -> Outcome {
        let (mut command, command_line) = (self.command(), self.command_line());
        let run = async {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().expect("stdin is a pipe");
            let mut stdout = child.stdout.take().expect("stdout is a pipe");
            let mut shown = Vec::new();
            for (question, answer) in prompts {
                while !String::from_utf8_lossy(&shown).contains(question) {
                    let count = stdout.read_buf(&mut shown).await?;
                    assert!(
                        count > 0,
                        "`{command_line}` did not print the prompt: {question}"
                    );
                }
                stdin.write_all(answer.as_bytes()).await?;
            }
            stdout.read_to_end(&mut shown).await?;
            drop(stdin);
            let mut output = child.wait_with_output().await?;
            output.stdout = shown;
            Ok::<_, std::io::Error>(output)
        };
        let output = block_on(async { tokio::time::timeout(LIMIT, run).await })
            .unwrap_or_else(|_| panic!("`{command_line}` did not end within {LIMIT:?}"))
            .unwrap_or_else(|error| {
                panic!("the input or output of `{command_line}` failed: {error}")
            });
        Outcome::new(command_line, &output)
    }

    fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the program to completion.
    ///
    /// # Panics
    ///
    /// If the program cannot be started or does not exit in time. A program that does not exit in time is killed.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        let mut command = self.command();
        let command_line = self.command_line();
        let run = async {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().expect("stdin is a pipe");
            // Writing fails if the program does not read stdin, but the program may still succeed.
            let _ = stdin.write_all(self.input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = block_on(async { tokio::time::timeout(LIMIT, run).await })
            .unwrap_or_else(|_| panic!("`{command_line}` did not end within {LIMIT:?}"))
            .unwrap_or_else(|error| panic!("`{command_line}` did not start: {error}"));
        Outcome::new(command_line, &output)
    }

    /// Runs the program. Sends a signal (`KILL`, `INT`) as soon as `is_due` returns `true`.
    ///
    /// # Panics
    ///
    /// If the program exits before the signal is sent, and in the cases of [`Run::outcome`].
    pub fn send_signal_when(self, signal: &str, mut is_due: impl FnMut() -> bool) -> Outcome {
        self.send_signals_when([(signal, &mut is_due)])
    }

    /// Runs the program. Sends these signals in order, each as soon as its function returns `true`.
    ///
    /// # Panics
    ///
    /// In the cases of [`Run::send_signal_when`].
    pub fn send_signals_when<const N: usize>(
        self,
        signals: [(&str, &mut dyn FnMut() -> bool); N],
    ) -> Outcome {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let command_line = self.command_line();
        let output = block_on(async {
            let child = command.spawn().expect("the program can be started");
            let id = child.id().expect("a started child has an ID");
            let _group = ProcessGroup(id);
            let ended = child.wait_with_output();
            tokio::pin!(ended);
            for (signal, is_due) in signals {
                loop {
                    let tick = tokio::time::sleep(std::time::Duration::from_millis(5));
                    tokio::select! {
                        output = &mut ended => panic!("`{command_line}` ended before the signal: {output:?}"),
                        () = tick => {}
                    }
                    if is_due() {
                        break;
                    }
                }
                let sent = std::process::Command::new("/bin/kill")
                    .args(["-s", signal, &id.to_string()])
                    .status();
                assert!(sent.expect("a signal can be sent").success());
            }
            tokio::time::timeout(LIMIT, ended).await
        });
        let output = output
            .unwrap_or_else(|_| panic!("`{command_line}` did not end within {LIMIT:?}"))
            .unwrap_or_else(|error| panic!("`{command_line}` failed: {error}"));
        Outcome::new(command_line, &output)
    }

    /// Runs the program, and asserts that it succeeds.
    #[track_caller]
    pub fn succeeds(self) -> Outcome {
        self.outcome().succeeds()
    }

    /// Runs the program, and asserts that it fails as described for [`Outcome::fails_with`].
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Outcome {
        self.outcome().fails_with(code)
    }

    pub(crate) fn command_line(&self) -> String {
        let name = self
            .program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let arguments = self
            .arguments
            .iter()
            .map(|argument| argument.to_string_lossy());
        std::iter::once(name)
            .chain(arguments)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Exit code and output of a program.
#[derive(Clone, Debug)]
pub struct Outcome {
    command_line: String,
    /// Exit code, or `None` if a signal terminated the program.
    pub code: Option<i32>,
    /// Output on stdout.
    pub stdout: String,
    /// Output on stderr.
    pub stderr: String,
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "a test that checks for success only does not use the value"
)]
impl Outcome {
    fn new(command_line: String, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            command_line,
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Asserts that the program succeeded.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Asserts that the program failed with this exit code, and that it printed an `error:` line and a `help:` line.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(
            self.has_stderr_line("error: "),
            "missing `error:` line: {self}"
        );
        assert!(
            self.has_stderr_line("help: "),
            "missing `help:` line: {self}"
        );
        self
    }

    /// Asserts that the error is the first output on stderr: the program started no work before the error.
    #[track_caller]
    pub fn assert_no_work_started(self) -> Self {
        assert!(
            self.stderr.starts_with("error: "),
            "stderr does not begin with an error: {self}"
        );
        self
    }

    /// Returns the last line that the program printed on stdout.
    #[track_caller]
    #[must_use]
    pub fn last_line(&self) -> &str {
        let line = self.stdout.lines().last();
        line.unwrap_or_else(|| panic!("stdout is empty: {self}"))
    }

    /// Returns the digest (`sha256:…`) after the `@` in the last line of stdout, in which a push prints its reference.
    #[track_caller]
    #[must_use]
    pub fn printed_digest(&self) -> String {
        let digest = self.last_line().split_once('@').map(|(_, digest)| digest);
        let digest = digest.unwrap_or_else(|| panic!("no reference by digest: {self}"));
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        assert!(
            hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{self}"
        );
        digest.to_owned()
    }

    fn has_stderr_line(&self, start: &str) -> bool {
        self.stderr.lines().any(|line| line.starts_with(start))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            command_line,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{command_line}` ended with {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}
