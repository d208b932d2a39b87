//! A home of its own for a program, and the program's run: arguments in, exit code and text out.
//!
//! Nothing of the environment of the test reaches a program but the way to the Rust toolchain.

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
use crate::testbed::{Part, plugin, program, toolchain};

/// No run of a test takes so long; a build of a crate without dependencies takes a few seconds.
const LIMIT: Duration = Duration::from_mins(2);

/// A user's home directory, empty at first.
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
    /// The home of someone who never logged in anywhere.
    #[must_use]
    pub fn new() -> Self {
        let directory = Directory::new();
        for inside in [".docker", ".cargo", "tmp"] {
            fs::create_dir(directory.path().join(inside)).expect("a directory in a home");
        }
        Self { directory }
    }

    /// The home of the one user that the registries know, logged in at `host` by docker's file.
    #[must_use]
    pub fn of_user(host: &str) -> Self {
        Self::logged_in(host, USER, PASSWORD)
    }

    /// The home of someone who is logged in at `host` by docker's file.
    #[must_use]
    pub fn logged_in(host: &str, user: &str, password: &str) -> Self {
        let home = Self::new();
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let config = json!({"auths": {host: {"auth": auth}}});
        fs::write(home.docker_config().join("config.json"), config.to_string())
            .expect("docker's file");
        home
    }

    /// The home directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of docker's files (`DOCKER_CONFIG`).
    #[must_use]
    pub fn docker_config(&self) -> PathBuf {
        self.path().join(".docker")
    }

    /// `cargo-oci` with these arguments.
    #[must_use]
    pub fn cargo_oci<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.run(&program("cargo-oci"), arguments)
    }

    /// A script for bash without anybody's settings.
    #[must_use]
    pub fn bash(&self, script: &str) -> Run {
        self.run(
            Path::new("/bin/bash"),
            ["--norc", "--noprofile", "-c", script],
        )
    }

    /// A script for bash in a session with a message bus and an unlocked keyring, which end with it. `cargo-oci` and
    /// `secret-tool` are on its path.
    #[must_use]
    pub fn bash_with_keyring(&self, script: &str) -> Run {
        use std::os::unix::fs::DirBuilderExt as _;
        // The daemon refuses a directory that others can read.
        let runtime = self.path().join("run");
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&runtime);
        made.expect("a directory for sockets");
        let bin = |program: PathBuf| program.parent().map(Path::to_owned).expect("a directory");
        let bins = [bin(program("cargo-oci")), bin(Part::SecretTool.path())];
        // The daemon registers itself on the bus after it has gone to the background.
        let script = format!(
            "PATH={}:{}:$PATH; printf pass | {} --unlock --components=secrets >&2\n\
             until secret-tool search a b >/dev/null 2>&1; do sleep 0.1; done\n{script}",
            bins[0].display(),
            bins[1].display(),
            Part::GnomeKeyring.path().display()
        );
        let arguments = ["--", "/bin/bash", "--norc", "--noprofile", "-euc", &script];
        self.run(&Part::DbusRunSession.path(), arguments)
            .with("XDG_RUNTIME_DIR", runtime)
    }

    /// The real `cargo` with these arguments.
    #[must_use]
    pub fn cargo<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.run(Path::new("cargo"), arguments)
    }

    /// `cargo-oci` with these arguments, at a terminal of its own, whose stdout is all that is shown there.
    #[must_use]
    pub fn cargo_oci_at_terminal(&self, arguments: &str) -> Run {
        // An interrupt ends the program, and not the shell that it runs in.
        let line = format!("trap : INT; {} {arguments}", program("cargo-oci").display());
        self.run(Path::new("/usr/bin/script"), ["-qec", &line, "/dev/null"])
    }

    /// `skopeo` with these arguments; it verifies no signatures.
    #[must_use]
    pub fn skopeo<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        let mut run = self.run(&Part::Skopeo.path(), ["--insecure-policy", "--tmpdir"]);
        run.arguments.push(self.path().join("tmp").into());
        run.arguments.extend(arguments.into_iter().map(Into::into));
        run
    }

    /// `oras` with these arguments.
    #[must_use]
    pub fn oras<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.run(&Part::Oras.path(), arguments)
    }

    /// A script for a real Nushell that has the plugin and nothing else.
    #[must_use]
    pub fn nu(&self, script: &str) -> Run {
        self.nu_with(&[plugin()], script)
    }

    /// A script for a real Nushell that has these plugins and nothing else.
    #[must_use]
    pub fn nu_with(&self, plugins: &[PathBuf], script: &str) -> Run {
        // Nu splits the list itself, and knows no quotes in it.
        let plugins: Vec<_> = plugins.iter().map(|path| path.to_string_lossy()).collect();
        let plugins = format!("[{}]", plugins.join(", "));
        let options = ["-n", "--no-std-lib", "--plugins", &plugins, "-c", script];
        self.run(&Part::Nu.path(), options)
    }

    /// A script for a real Nushell that has nothing but itself.
    #[must_use]
    pub fn bare_nu(&self, script: &str) -> Run {
        self.run(&Part::Nu.path(), ["-n", "--no-std-lib", "-c", script])
    }

    /// What a Nushell pipeline gives, as JSON.
    ///
    /// # Panics
    ///
    /// If the script fails.
    #[must_use]
    pub fn nu_value(&self, pipeline: &str) -> Value {
        let outcome = self.nu(&format!("{pipeline} | to json --raw")).succeeds();
        serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("`{pipeline}` gave no JSON ({error}): {outcome}"))
    }

    /// The code of the error that a Nushell pipeline ends with.
    ///
    /// # Panics
    ///
    /// If it ends without an error.
    #[must_use]
    pub fn nu_error_code(&self, pipeline: &str) -> String {
        // `collect` waits for a stream to its end: an error may come after the first rows.
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
        let mut environment: Vec<(OsString, OsString)> = toolchain()
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

/// A program about to run.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) directory: PathBuf,
    pub(crate) environment: Vec<(OsString, OsString)>,
    input: String,
}

/// A process group that is killed when the value is dropped. A cargo that a killed program had started would still write
/// into a directory that the test deletes.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0);
        // The group is gone if all its processes have ended.
        let _ = std::process::Command::new("/bin/kill")
            .args(["-s", "KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
    }
}

impl Run {
    /// Runs in this directory instead of the home.
    #[must_use]
    pub fn within(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sends this to the program's stdin, which is empty otherwise.
    #[must_use]
    pub fn reading(mut self, text: &str) -> Self {
        text.clone_into(&mut self.input);
        self
    }

    /// Runs the program at its terminal, and types each answer when its question is shown.
    ///
    /// # Panics
    ///
    /// If a question is never asked, or the program does not end in time.
    #[must_use]
    pub fn answering(self, talk: &[(&str, &str)]) -> Outcome {
        let (mut command, line) = (self.command(), self.line());
        let run = async {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
            let mut stdout = child.stdout.take().expect("stdout was asked to be a pipe");
            let mut shown = Vec::new();
            for (question, answer) in talk {
                while !String::from_utf8_lossy(&shown).contains(question) {
                    let count = stdout.read_buf(&mut shown).await?;
                    assert!(count > 0, "`{line}` never asked: {question}");
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
            .unwrap_or_else(|_| panic!("`{line}` did not end within {LIMIT:?}"))
            .unwrap_or_else(|error| panic!("`{line}` could not be talked to: {error}"));
        Outcome::new(line, &output)
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

    /// Runs the program to its end.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or does not end in time; then it is killed.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        let mut command = self.command();
        let line = self.line();
        let run = async {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
            // A program that does not read it may still succeed.
            let _ = stdin.write_all(self.input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = block_on(async { tokio::time::timeout(LIMIT, run).await })
            .unwrap_or_else(|_| panic!("`{line}` did not end within {LIMIT:?}"))
            .unwrap_or_else(|error| panic!("`{line}` did not start: {error}"));
        Outcome::new(line, &output)
    }

    /// Runs the program, and sends it a signal (`KILL`, `INT`) as soon as `is_time`.
    ///
    /// # Panics
    ///
    /// As [`Run::outcome`], and if it ends before it is time.
    pub fn stopped_by(self, signal: &str, mut is_time: impl FnMut() -> bool) -> Outcome {
        self.stopped_by_each([(signal, &mut is_time)])
    }

    /// Runs the program, and sends it these signals, each as soon as it is its time.
    ///
    /// # Panics
    ///
    /// As [`Run::stopped_by`].
    pub fn stopped_by_each<const N: usize>(
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
        let line = self.line();
        let output = block_on(async {
            let child = command.spawn().expect("the program starts");
            let id = child.id().expect("a child that was just started");
            let _group = Group(id);
            let ended = child.wait_with_output();
            tokio::pin!(ended);
            for (signal, is_time) in signals {
                loop {
                    let tick = tokio::time::sleep(std::time::Duration::from_millis(5));
                    tokio::select! {
                        output = &mut ended => panic!("`{line}` ended before it was time: {output:?}"),
                        () = tick => {}
                    }
                    if is_time() {
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
            .unwrap_or_else(|_| panic!("`{line}` did not end within {LIMIT:?}"))
            .unwrap_or_else(|error| panic!("`{line}` did not end well: {error}"));
        Outcome::new(line, &output)
    }

    /// Runs the program, which must succeed.
    #[track_caller]
    pub fn succeeds(self) -> Outcome {
        self.outcome().succeeds()
    }

    /// Runs the program, which must say no in the form that all its errors have.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Outcome {
        self.outcome().fails_with(code)
    }

    pub(crate) fn line(&self) -> String {
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

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Outcome {
    line: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What stands on stdout.
    pub stdout: String,
    /// What stands on stderr.
    pub stderr: String,
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "a test that asks no more than success is a statement"
)]
impl Outcome {
    fn new(line: String, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            line,
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// It must have failed with this code, said so, and given advice.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(
            self.says_line("error: "),
            "there is no `error:` line: {self}"
        );
        assert!(self.says_line("help: "), "there is no `help:` line: {self}");
        self
    }

    /// The error must be the first thing it said: nothing was begun.
    #[track_caller]
    pub fn at_once(self) -> Self {
        assert!(
            self.stderr.starts_with("error: "),
            "something was begun: {self}"
        );
        self
    }

    /// The last line of stdout.
    #[track_caller]
    #[must_use]
    pub fn last_line(&self) -> &str {
        let line = self.stdout.lines().last();
        line.unwrap_or_else(|| panic!("there is nothing on stdout: {self}"))
    }

    /// The `sha256:…` behind the `@` of the last line of stdout: what a push prints.
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

    fn says_line(&self, start: &str) -> bool {
        self.stderr.lines().any(|line| line.starts_with(start))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            line,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{line}` ended with {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}
