//! Version of the installed glibc, read from its files.
//!
//! No program is started, because small container images have no `getconf`, and the search path for programs may
//! contain the working directory.

use std::io::Read;
use std::path::Path;

use oci_registry::open_regular;

use crate::platform::{GlibcVersion, TargetCfg};

/// Text that precedes the version number in `libc.so.6` and, since glibc 2.33, in the dynamic loader.
const BANNER: &[u8] = b"release version ";

/// Maximum number of bytes of a file that are searched.
const MAX_FILE: u64 = 16 << 20;

impl GlibcVersion {
    /// Returns the version of the installed glibc that programs for a target use. `root` is the root directory of the
    /// host. Returns `None` if the target does not use glibc, or if its dynamic loader does not exist or belongs to
    /// another library.
    ///
    /// Blocks.
    pub fn installed(root: &Path, target: &str) -> Option<Self> {
        let loader = root.join(loader_path(target)?).canonicalize().ok()?;
        let libc = loader.with_file_name("libc.so.6");
        [loader, libc].iter().find_map(|path| read_version(path))
    }
}

/// Returns the path of the dynamic loader that programs for a target require, relative to the root directory.
fn loader_path(target: &str) -> Option<&'static str> {
    let cfg = TargetCfg::builtin(target).filter(|cfg| cfg.env == "gnu")?;
    Some(match (cfg.arch.as_str(), cfg.is_big_endian) {
        ("x86_64", _) if cfg.pointer_width == 32 => "libx32/ld-linux-x32.so.2",
        ("x86_64", _) => "lib64/ld-linux-x86-64.so.2",
        ("x86", _) => "lib/ld-linux.so.2",
        ("aarch64", false) => "lib/ld-linux-aarch64.so.1",
        ("arm", _) if target.ends_with("hf") => "lib/ld-linux-armhf.so.3",
        ("arm", _) => "lib/ld-linux.so.3",
        ("loongarch64", _) => "lib64/ld-linux-loongarch-lp64d.so.1",
        ("powerpc64", false) => "lib64/ld64.so.2",
        ("powerpc64", true) => "lib64/ld64.so.1",
        ("riscv64", _) => "lib/ld-linux-riscv64-lp64d.so.1",
        ("s390x", _) => "lib/ld64.so.1",
        _ => return None,
    })
}

fn read_version(path: &Path) -> Option<GlibcVersion> {
    let mut bytes = Vec::new();
    let file = open_regular(path).ok()?;
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    let mut windows = bytes.windows(BANNER.len());
    let rest = &bytes[windows.position(|window| window == BANNER)? + BANNER.len()..];
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let end = rest.iter().position(|byte| !is_part(byte))?;
    let version = std::str::from_utf8(&rest[..end]).ok()?;
    version.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TARGET: &str = "x86_64-unknown-linux-gnu";

    /// Creates a root directory that contains the given files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn glibc_version_is_read_from_loader() {
        let banner = "\0ld.so (Ubuntu GLIBC 2.39-0ubuntu8) stable release version 2.39.\n";
        let root = root(&[("lib64/ld-linux-x86-64.so.2", banner)]);
        let found = GlibcVersion::installed(root.path(), TARGET);
        assert_eq!(found, Some(GlibcVersion::new(2, 39)));
        let other = GlibcVersion::installed(root.path(), "aarch64-unknown-linux-gnu");
        assert_eq!(other, None);
        let musl = GlibcVersion::installed(root.path(), "x86_64-unknown-linux-musl");
        assert_eq!(musl, None);
    }

    #[cfg(unix)]
    #[test]
    fn glibc_version_is_read_from_libc_next_to_loader() {
        let banner = "\0GNU C Library (Debian GLIBC 2.28-10) stable release version 2.28.\n\0";
        let root = root(&[
            ("lib/x86_64-linux-gnu/ld-2.28.so", "\x7fELF"),
            ("lib/x86_64-linux-gnu/libc.so.6", banner),
            (
                "lib64/libc.so.6",
                "GNU C Library, stable release version 9.99.",
            ),
        ]);
        let link = root.path().join("lib64/ld-linux-x86-64.so.2");
        std::os::unix::fs::symlink("../lib/x86_64-linux-gnu/ld-2.28.so", link).unwrap();
        let found = GlibcVersion::installed(root.path(), TARGET);
        assert_eq!(found, Some(GlibcVersion::new(2, 28)));
    }

    #[test]
    fn loader_of_another_libc_has_no_glibc_version() {
        let root = root(&[
            ("lib64/ld-linux-x86-64.so.2", "cannot run this program"),
            (
                "nix/store/glibc-2.40/lib/libc.so.6",
                "release version 2.40.\n",
            ),
        ]);
        assert_eq!(GlibcVersion::installed(root.path(), TARGET), None);
    }

    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    #[test]
    fn glibc_version_of_this_host_is_found() {
        let found = GlibcVersion::installed(Path::new("/"), TARGET).unwrap();
        assert!(found >= GlibcVersion::new(2, 17), "{found}");
    }
}
