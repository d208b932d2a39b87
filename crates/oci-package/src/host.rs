//! Detection of the machine that the client runs on.
//!
//! No program is started, not even `rustc`: it may be the proxy of rustup, which runs a program that
//! `rust-toolchain.toml` in the working directory selects.

use std::path::Path;

use crate::choose::Machine;
use crate::platform::GlibcVersion;

/// Path of the Rosetta runtime, relative to the root directory. Rosetta runs x86-64 programs and is installed only on
/// Apple silicon.
const ROSETTA: &str = "Library/Apple/usr/libexec/oah/libRosettaRuntime";

impl Machine {
    /// Returns the machines whose programs run on this host, the preferred machine first. The list is never empty.
    /// `root` is the root directory of the host. `built_for` is the target triple that the client was compiled for.
    ///
    /// Blocks.
    pub fn detect(root: &Path, built_for: &str) -> Vec<Self> {
        let targets: &[&str] = match built_for {
            _ if built_for.contains("-linux-") => return vec![detect_linux(root, built_for)],
            "aarch64-apple-darwin" | "x86_64-apple-darwin" if root.join(ROSETTA).exists() => {
                &["aarch64-apple-darwin", "x86_64-apple-darwin"]
            }
            _ if built_for.starts_with("aarch64-pc-windows-") => {
                &[built_for, "x86_64-pc-windows-msvc", "i686-pc-windows-msvc"]
            }
            _ if built_for.starts_with("x86_64-pc-windows-") => {
                &[built_for, "i686-pc-windows-msvc"]
            }
            _ => &[built_for],
        };
        let machine = |target: &&str| Self {
            target: (*target).to_owned(),
            glibc: None,
        };
        targets.iter().map(machine).collect()
    }
}

/// Returns the machine of a Linux host. A client built for musl may run on a host with glibc, so the target depends on
/// the installed glibc.
fn detect_linux(root: &Path, built_for: &str) -> Machine {
    let gnu = built_for.replace("-linux-musl", "-linux-gnu");
    let glibc = GlibcVersion::installed(root, &gnu);
    Machine {
        target: if glibc.is_some() {
            gnu
        } else {
            built_for.to_owned()
        },
        glibc,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn targets(root: &Path, built_for: &str) -> Vec<String> {
        let machines = Machine::detect(root, built_for).into_iter();
        machines.map(|machine| machine.target).collect()
    }

    fn write(root: &Path, file: &str, content: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn linux_host_with_glibc_is_detected_as_gnu() {
        let root = tempfile::tempdir().unwrap();
        let (musl, gnu) = ("x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu");
        assert_eq!(targets(root.path(), musl), [musl]);
        assert_eq!(targets(root.path(), gnu), [gnu]);
        let loader = "lib64/ld-linux-x86-64.so.2";
        write(root.path(), loader, "stable release version 2.39.\n");
        let machine = Machine {
            target: gnu.into(),
            glibc: Some(GlibcVersion::new(2, 39)),
        };
        for built_for in [musl, gnu] {
            let detected = Machine::detect(root.path(), built_for);
            assert_eq!(detected, std::slice::from_ref(&machine));
        }
        let arm = "armv7-unknown-linux-musleabihf";
        assert_eq!(targets(root.path(), arm), [arm]);
    }

    #[test]
    fn macos_host_with_rosetta_supports_both_architectures() {
        let root = tempfile::tempdir().unwrap();
        let (arm, intel) = ("aarch64-apple-darwin", "x86_64-apple-darwin");
        assert_eq!(targets(root.path(), arm), [arm]);
        assert_eq!(targets(root.path(), intel), [intel]);
        write(root.path(), ROSETTA, "");
        assert_eq!(targets(root.path(), arm), [arm, intel]);
        assert_eq!(targets(root.path(), intel), [arm, intel]);
    }

    #[test]
    fn windows_x64_host_also_supports_x86() {
        let root = tempfile::tempdir().unwrap();
        let gnu = "x86_64-pc-windows-gnu";
        assert_eq!(targets(root.path(), gnu), [gnu, "i686-pc-windows-msvc"]);
        let other = "x86_64-unknown-freebsd";
        assert_eq!(targets(root.path(), other), [other]);
    }
}
