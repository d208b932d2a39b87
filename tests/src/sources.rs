//! Crates to push, each in a temporary directory outside any workspace and checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::directory::Directory;
use crate::testbed::{Tool, toolchain_variables};

/// Sources of a package, which has not been built. A test may change the files.
#[derive(Debug)]
pub struct Sources {
    directory: Directory,
    root: PathBuf,
}

impl Sources {
    /// Creates a copy of the published third-party crate `shellharden`, which has one binary and no dependencies.
    #[must_use]
    pub fn shellharden() -> Self {
        Self::shellharden_in("shellharden")
    }

    /// Creates a copy of the crate `shellharden` in a subdirectory with this name, so that a test can push it from
    /// another path.
    #[must_use]
    pub fn shellharden_in(name: &str) -> Self {
        let sources = Self::empty(name);
        copy_directory(&Tool::Shellharden.path(), &sources.root);
        sources
    }

    /// Creates the package `widgets`, which has two binaries and a C library.
    #[must_use]
    pub fn widgets() -> Self {
        let sources = Self::empty("widgets");
        sources.write(
            "Cargo.toml",
            "[package]\nname = \"widgets\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\
             license = \"MIT\"\ndescription = \"Round ones and square ones\"\n\n\
             [lib]\nname = \"shapes\"\ncrate-type = [\"cdylib\"]\n\n\
             [workspace]\n",
        );
        sources.write(
            "src/lib.rs",
            "#[unsafe(no_mangle)]\npub extern \"C\" fn corners() -> u8 { 4 }\n",
        );
        sources.write("src/bin/round.rs", "fn main() { println!(\"round\") }\n");
        sources.write("src/bin/square.rs", "fn main() { println!(\"square\") }\n");
        sources
    }

    /// Creates a workspace of two packages, `client` and `server`, with version 1.2.3. Each has a program of the same
    /// name.
    #[must_use]
    pub fn workspace([client, server]: [&str; 2]) -> Self {
        let sources = Self::empty("suite");
        sources.write(
            "Cargo.toml",
            "[workspace]\nmembers = [\"client\", \"server\"]\nresolver = \"3\"\n",
        );
        for (package, program) in [("client", client), ("server", server)] {
            let manifest = format!(
                "[package]\nname = \"{package}\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\n\
                 [[bin]]\nname = \"{program}\"\npath = \"src/main.rs\"\n"
            );
            sources.write(&format!("{package}/Cargo.toml"), &manifest);
            let main = format!("fn main() {{ println!(\"{package}\") }}\n");
            sources.write(&format!("{package}/src/main.rs"), &main);
        }
        sources
    }

    /// Creates a package that contains only a Rust library, so it has no files to push.
    #[must_use]
    pub fn library_only() -> Self {
        let sources = Self::empty("plain");
        sources.write(
            "Cargo.toml",
            "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n",
        );
        sources.write("src/lib.rs", "\n");
        sources
    }

    fn empty(name: &str) -> Self {
        let directory = Directory::new();
        let root = directory.path().join(name);
        fs::create_dir_all(&root).expect("the source directory can be created");
        Self { directory, root }
    }

    /// Returns the directory that contains `Cargo.toml`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Returns a path next to the directory that contains `Cargo.toml`.
    #[must_use]
    pub fn sibling(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file below the directory that contains `Cargo.toml`.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.root.join(file);
        let parent = path.parent().expect("a file is in a directory");
        fs::create_dir_all(parent).expect("the directory of the source file can be created");
        fs::write(path, text).expect("the source file can be read or written");
    }

    /// Appends a line to a file.
    pub fn append(&self, file: &str, text: &str) {
        let old = fs::read_to_string(self.root.join(file))
            .expect("the source file can be read or written");
        self.write(file, &format!("{old}\n{text}\n"));
    }

    /// Returns the content of a file that a build wrote to `target/release/`.
    #[must_use]
    pub fn built_file(&self, name: &str) -> Vec<u8> {
        let path = self.root.join("target/release").join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
    }

    /// Runs a built program and returns its output.
    #[must_use]
    pub fn run_built(&self, program: &str) -> String {
        let path = self.root.join("target/release").join(program);
        let output = Command::new(&path)
            .output()
            .expect("the program can be started");
        String::from_utf8(output.stdout).expect("the output is UTF-8")
    }

    /// Whether a build was started.
    #[must_use]
    pub fn has_build_output(&self) -> bool {
        self.root.join("target/release").exists() || self.root.join("target/debug").exists()
    }

    /// Returns the version in `Cargo.toml`.
    #[must_use]
    pub fn version(&self) -> String {
        let manifest =
            fs::read_to_string(self.root.join("Cargo.toml")).expect("the manifest can be read");
        let version = manifest
            .lines()
            .find_map(|line| line.strip_prefix("version = "));
        version
            .expect("the manifest contains a version")
            .trim_matches('"')
            .to_owned()
    }

    /// Returns the target tag for the host: `VERSION__TRIPLE`.
    #[must_use]
    pub fn target_tag(&self) -> String {
        format!("{}__{}", self.version(), host_triple())
    }
}

/// Returns the host's target triple.
///
/// # Panics
///
/// If `rustc` is not installed.
#[must_use]
pub fn host_triple() -> &'static str {
    static HOST: LazyLock<String> = LazyLock::new(|| {
        let rustc = Command::new("rustc")
            .arg("-vV")
            .envs(toolchain_variables())
            .output();
        let output = rustc.expect("rustc is installed");
        let text = String::from_utf8(output.stdout).expect("the output of rustc is UTF-8");
        let host = text.lines().find_map(|line| line.strip_prefix("host: "));
        host.expect("rustc prints its host triple").to_owned()
    });
    &HOST
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be created");
    for entry in fs::read_dir(from).expect("a directory can be read") {
        let entry = entry.expect("a directory can be read");
        let name = entry.file_name();
        if entry
            .file_type()
            .expect("the type of a file can be read")
            .is_dir()
        {
            // Build output is not part of the sources.
            if name != "target" {
                copy_directory(&entry.path(), &to.join(name));
            }
        } else {
            fs::copy(entry.path(), to.join(name)).expect("a file can be copied");
        }
    }
}
