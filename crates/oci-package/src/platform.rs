//! Platforms, and the conversion of target triples to platforms. Platforms use Go's names of operating systems and
//! architectures, as registries and container tools do.
//!
//! This module contains the mapping from rustc's names to Go's names, [`TargetCfg`], [`Libc`] and the parser for
//! platforms. The crate `cfg-expr` provides the properties of the triples that rustc includes. For other triples, such
//! as custom target specifications, the caller passes a [`TargetCfg`].

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use cfg_expr::targets::{ALL_BUILTINS, Endian, TargetInfo, get_builtin_target_by_triple};
use oci_registry::{Descriptor, ErrorKind, Failure, Hint, Platform};
use snafu::{OptionExt, ResultExt, Snafu};

use crate::annotation;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to determine the platform of the target `{}`", triple.escape_debug()))]
    UnknownTarget { triple: String },
    #[snafu(display(
        "failed to parse the configuration that rustc printed for a target: `{key}` is missing"
    ))]
    IncompleteCfg { key: &'static str },
    #[snafu(display("failed to parse a target specification"))]
    ParseSpecification { source: serde_json::Error },
    #[snafu(display("failed to parse a target specification: `{key}` is missing"))]
    IncompleteSpecification { key: &'static str },
    #[snafu(display("failed to parse the platform `{}`: expected `os/architecture` or `os/architecture/variant`", text.escape_debug()))]
    ParsePlatform { text: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::UnknownTarget { .. } => {
                "see the page \"Platform Support\" of the rustc book for the known targets"
            }
            Self::ParsePlatform { .. } => "use a platform such as `linux/amd64` or `linux/arm/v7`",
            Self::ParseSpecification { .. } | Self::IncompleteSpecification { .. } => {
                "see the rustc documentation on custom targets"
            }
            Self::IncompleteCfg { .. } => return Vec::new(),
        };
        vec![advice.into()]
    }
}

/// Configuration of a target, with rustc's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetCfg {
    /// `target_arch`: `x86_64`, `aarch64`, `arm`, …
    pub arch: String,
    /// `target_os`: `linux`, `macos`, `none`, …
    pub os: String,
    /// `target_env`: `gnu`, `musl`, `msvc`, …, or empty.
    pub env: String,
    /// Whether `target_endian` is `big`.
    pub is_big_endian: bool,
    /// `target_pointer_width`, in bits.
    pub pointer_width: u8,
}

impl TargetCfg {
    /// Returns the configuration of a target that rustc includes.
    pub fn builtin(triple: &str) -> Option<Self> {
        get_builtin_target_by_triple(triple).map(Self::from_info)
    }

    fn from_info(info: &TargetInfo) -> Self {
        Self {
            arch: info.arch.as_str().to_owned(),
            os: info.os.as_ref().map_or("none", |os| os.as_str()).to_owned(),
            env: info.env.as_ref().map_or("", |env| env.as_str()).to_owned(),
            is_big_endian: info.endian == Endian::big,
            pointer_width: info.pointer_width,
        }
    }

    /// Parses the output of `rustc --print cfg --target TARGET`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a required line is missing.
    pub fn parse(printed: &str) -> crate::Result<Self> {
        let find = |key: &'static str| {
            printed.lines().find_map(|line| {
                let value = line.trim().strip_prefix(key)?.strip_prefix('=')?;
                value.strip_prefix('"')?.strip_suffix('"')
            })
        };
        let require = |key| find(key).context(IncompleteCfgSnafu { key });
        Ok(Self {
            arch: require("target_arch")?.to_owned(),
            os: require("target_os")?.to_owned(),
            env: find("target_env").unwrap_or_default().to_owned(),
            is_big_endian: require("target_endian")? == "big",
            pointer_width: require("target_pointer_width")?.parse().ok().context(
                IncompleteCfgSnafu {
                    key: "target_pointer_width",
                },
            )?,
        })
    }

    /// Parses a target specification, the JSON file that rustc accepts instead of a triple.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is not a JSON object with an architecture and a pointer width.
    pub fn parse_specification(json: &str) -> crate::Result<Self> {
        let specification: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json).context(ParseSpecificationSnafu)?;
        let find = |key| specification.get(key).and_then(|value| value.as_str());
        let missing = |key| IncompleteSpecificationSnafu { key };
        // Older versions of rustc write the width as a string.
        let width = specification.get("target-pointer-width");
        let width = width.and_then(|width| match width.as_str() {
            Some(text) => text.parse().ok(),
            None => width.as_u64().and_then(|width| width.try_into().ok()),
        });
        Ok(Self {
            arch: find("arch").context(missing("arch"))?.to_owned(),
            os: find("os").unwrap_or("none").to_owned(),
            env: find("env").unwrap_or_default().to_owned(),
            is_big_endian: find("target-endian") == Some("big"),
            pointer_width: width.context(missing("target-pointer-width"))?,
        })
    }

    /// Returns the file name suffix of programs.
    pub(crate) fn exe_suffix(&self) -> &'static str {
        match (self.os.as_str(), self.arch.as_str()) {
            ("windows" | "cygwin", _) => ".exe",
            ("uefi", _) => ".efi",
            ("emscripten", _) => ".js",
            (_, "wasm32" | "wasm64") => ".wasm",
            _ => "",
        }
    }

    /// Returns the C library that the target name implies, if any.
    fn libc(&self) -> Option<Libc> {
        if self.os != "linux" {
            return None;
        }
        match self.env.as_str() {
            env if env.starts_with("gnu") => Some(Libc::Glibc),
            env if env.starts_with("musl") || env == "ohos" => Some(Libc::Musl),
            _ => None,
        }
    }
}

/// Platform and configuration of a target triple.
#[derive(Clone, Debug)]
pub(crate) struct TargetPlatform {
    pub(crate) cfg: TargetCfg,
    platform: Platform,
}

impl TargetPlatform {
    /// Creates the platform from `cfg` or, if it is `None`, from the built-in configuration of the triple.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the triple is unknown and `cfg` is `None`.
    pub(crate) fn new(triple: &str, cfg: Option<&TargetCfg>) -> crate::Result<Self> {
        let cfg = cfg.cloned().or_else(|| TargetCfg::builtin(triple));
        let cfg = cfg.context(UnknownTargetSnafu { triple })?;
        Ok(Self {
            platform: to_platform(triple, &cfg),
            cfg,
        })
    }

    /// Returns the platform, `os/architecture[/variant]`. It does not include the C library.
    pub(crate) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns the C library that the files require: `detected` if it is known, otherwise the C library that the triple
    /// implies. Returns `None` if the target is not Linux or the C library is unknown.
    pub(crate) fn libc(&self, detected: Option<Libc>) -> Option<Libc> {
        let implied = self.cfg.libc();
        if self.cfg.os == "linux" {
            detected.or(implied)
        } else {
            None
        }
    }
}

/// Returns the platform of a target triple, with Go's names. The platform of a Linux target requires the C library that
/// the triple implies.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if rustc does not include the triple and `cfg` is `None`.
pub fn from_triple(triple: &str, cfg: Option<&TargetCfg>) -> crate::Result<Platform> {
    let target = TargetPlatform::new(triple, cfg)?;
    let libc = target.libc(None);
    Ok(with_libc(target.platform, libc))
}

/// Whether a platform states an operating system and an architecture. BuildKit lists attestations with the platform
/// `unknown/unknown`.
pub fn is_known(platform: &Platform) -> bool {
    let parts = [platform.os.as_str(), &platform.architecture];
    !parts.iter().any(|part| matches!(*part, "" | "unknown"))
}

/// Whether an index entry is an attestation: a manifest that describes another entry of the index and is for no
/// platform.
pub(crate) fn is_attestation(entry: &Descriptor) -> bool {
    let has_no_platform = entry.annotation(annotation::TARGET).is_none()
        && entry
            .platform
            .as_ref()
            .is_some_and(|platform| !is_known(platform));
    has_no_platform || entry.annotation(annotation::REFERENCE_TYPE).is_some()
}

/// Sets the C library that a platform requires.
pub(crate) fn with_libc(platform: Platform, libc: Option<Libc>) -> Platform {
    let feature = libc.and_then(Libc::os_feature);
    Platform {
        os_features: feature.map(str::to_owned).into_iter().collect(),
        ..platform
    }
}

/// Returns the canonical form of a platform: a variant that the architecture implies is removed, and the features are
/// sorted.
pub(crate) fn normalize(mut platform: Platform) -> Platform {
    let is_implied = |variant: &mut String| {
        matches!(
            (platform.architecture.as_str(), variant.as_str()),
            ("arm64", "v8") | ("amd64", "v1")
        )
    };
    platform.variant.take_if(is_implied);
    platform.os_features.sort();
    platform
}

/// Converts a target to a platform, with Go's names.
fn to_platform(triple: &str, cfg: &TargetCfg) -> Platform {
    let os = match (cfg.os.as_str(), cfg.env.as_str(), cfg.arch.as_str()) {
        ("macos", ..) => "darwin",
        ("wasi", "p2", _) => "wasip2",
        ("wasi", "p3", _) => "wasip3",
        // Runtimes run modules for `wasm32-unknown-unknown` as WASI preview 1 modules.
        ("wasi", ..) | ("unknown", _, "wasm32" | "wasm64") => "wasip1",
        (os, ..) => os,
    };
    let architecture = match (cfg.arch.as_str(), cfg.is_big_endian, cfg.pointer_width) {
        ("x86_64", _, 32) => "amd64p32",
        ("x86_64", ..) => "amd64",
        ("x86", ..) => "386",
        ("aarch64", true, _) => "arm64be",
        ("aarch64", ..) => "arm64",
        ("arm", true, _) => "armbe",
        ("powerpc", ..) => "ppc",
        ("powerpc64", true, _) => "ppc64",
        ("powerpc64", false, _) => "ppc64le",
        ("loongarch64", ..) => "loong64",
        ("mips", false, _) => "mipsle",
        ("mips64", false, _) => "mips64le",
        ("wasm32" | "wasm64", ..) => "wasm",
        (arch, ..) => arch,
    };
    Platform {
        architecture: architecture.to_owned(),
        os: os.to_owned(),
        os_version: None,
        os_features: Vec::new(),
        variant: (cfg.arch == "arm").then(|| arm_variant(triple).to_owned()),
    }
}

/// Returns the version of the ARM architecture. Only the triple states the version; rustc's default is v6.
fn arm_variant(triple: &str) -> &'static str {
    let cpu = triple.split('-').next().unwrap_or(triple);
    let version = ["arm", "thumb"].iter().find_map(|name| {
        let rest = cpu.strip_prefix(name)?;
        rest.strip_prefix("eb").unwrap_or(rest).strip_prefix('v')
    });
    match version.and_then(|version| version.chars().next()) {
        Some('4') => "v4",
        Some('5') => "v5",
        Some('7') => "v7",
        Some('8') => "v8",
        Some('9') => "v9",
        _ => "v6",
    }
}

/// Value of cargo's `--target` that selects the host.
pub const HOST_TUPLE: &str = "host-tuple";

/// Returns the name of the target that a value of cargo's `--target` selects. The value is a triple, [`HOST_TUPLE`], a
/// triple with an appended glibc version (cargo-zigbuild), or the path of a target specification, whose file name
/// without `.json` is the name of the target.
pub fn target_name(target: &str, host: &str) -> String {
    if target == HOST_TUPLE {
        return host.to_owned();
    }
    if let Some(triple) = strip_glibc_version(target) {
        return triple.to_owned();
    }
    let specification = target.strip_suffix(".json").map(Path::new);
    specification.and_then(Path::file_name).map_or_else(
        || target.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Removes the glibc version that follows a triple.
fn strip_glibc_version(target: &str) -> Option<&str> {
    let (head, abi) = target.rsplit_once('-')?;
    let (libc, version) = abi.split_once('.')?;
    let is_version = version
        .split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let length = head.len() + 1 + libc.len();
    (libc.starts_with("gnu") && is_version).then(|| &target[..length])
}

/// Parses a platform, `os/architecture[/variant]`.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if there are fewer or more parts, or if a part is empty.
pub fn parse(text: &str) -> crate::Result<Platform> {
    let mut parts = text.split('/').map(str::to_owned);
    let platform = (|| {
        Some(Platform {
            os: parts.next()?,
            architecture: parts.next()?,
            os_version: None,
            os_features: Vec::new(),
            variant: parts.next(),
        })
    })();
    let is_plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    let platform = platform.filter(|_| text.split('/').all(is_plain) && parts.next().is_none());
    Ok(platform.context(ParsePlatformSnafu { text })?)
}

/// Returns the commonly published target triples for a platform, the most portable triple first.
pub(crate) fn triples_for(platform: &Platform) -> Vec<&'static str> {
    let mut found: Vec<_> = ALL_BUILTINS
        .iter()
        .filter(|info| {
            // The second component names the vendor. Targets of other vendors are built for one distribution only.
            let vendor = info.triple.as_str().split('-').nth(1);
            let candidate = to_platform(info.triple.as_str(), &TargetCfg::from_info(info));
            matches!(
                vendor,
                Some("unknown" | "pc" | "apple" | "linux" | "wasip1" | "wasip2")
            ) && candidate.os == platform.os
                && candidate.architecture == platform.architecture
                && (platform.variant.is_none() || candidate.variant == platform.variant)
        })
        .map(|info| (info.triple.as_str(), info.arch.as_str()))
        .collect();
    // `aarch64-…` precedes `arm64e-…`, because programs for the plain name of an architecture run on all its variants.
    found.sort_by_key(|(triple, arch)| {
        let is_plain = triple.split('-').next() == Some(arch);
        (!triple.contains("musl"), !is_plain, triple.len(), *triple)
    });
    found.into_iter().map(|(triple, _)| triple).collect()
}

/// C library that a Linux program requires. The variants are ordered by portability, the most portable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Libc {
    /// None: the program is statically linked.
    Static,
    /// GNU C library.
    Glibc,
    /// musl, as a shared library.
    Musl,
}

impl Libc {
    /// Returns the name that annotations use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Glibc => "glibc",
            Self::Musl => "musl",
        }
    }

    /// Returns the value of `os.features` that represents the requirement.
    pub const fn os_feature(self) -> Option<&'static str> {
        match self {
            Self::Static => None,
            Self::Glibc => Some("libc.glibc"),
            Self::Musl => Some("libc.musl"),
        }
    }

    /// Returns the C library that a platform requires; `Static` if it requires none.
    pub fn from_platform(platform: &Platform) -> Self {
        [Self::Musl, Self::Glibc]
            .into_iter()
            .find(|libc| {
                platform
                    .os_features
                    .iter()
                    .any(|feature| Some(feature.as_str()) == libc.os_feature())
            })
            .unwrap_or(Self::Static)
    }

    /// Parses the value of the annotation [`LIBC`](annotation::LIBC).
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Static, Self::Glibc, Self::Musl]
            .into_iter()
            .find(|libc| libc.as_str() == name)
    }
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Version of the GNU C library, such as `2.34` or `2.2.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GlibcVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl GlibcVersion {
    /// Creates the version `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            patch: 0,
        }
    }
}

impl FromStr for GlibcVersion {
    type Err = ParseGlibcVersionError;

    fn from_str(text: &str) -> Result<Self, ParseGlibcVersionError> {
        let number = |part: &str| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok()).flatten()
        };
        let parts: Option<Vec<u32>> = text.splitn(4, '.').map(number).collect();
        match parts.as_deref() {
            Some(&[major, minor]) => Ok(Self::new(major, minor)),
            Some(&[major, minor, patch]) => Ok(Self {
                major,
                minor,
                patch,
            }),
            _ => Err(ParseGlibcVersionError),
        }
    }
}

impl fmt::Display for GlibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.patch {
            0 => Ok(()),
            patch => write!(f, ".{patch}"),
        }
    }
}

/// Error of parsing a [`GlibcVersion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Snafu)]
#[snafu(display("expected a glibc version, such as `2.34`"))]
pub struct ParseGlibcVersionError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_name_accepts_triple_path_and_glibc_suffix() {
        for (target, expected) in [
            ("aarch64-apple-darwin", "aarch64-apple-darwin"),
            ("thumbv8m.main-none-eabi", "thumbv8m.main-none-eabi"),
            ("x86_64-unknown-linux-gnu.2.17", "x86_64-unknown-linux-gnu"),
            (
                "armv7-unknown-linux-gnueabihf.2.28",
                "armv7-unknown-linux-gnueabihf",
            ),
            ("specs/my-board.json", "my-board"),
            (HOST_TUPLE, "h"),
        ] {
            assert_eq!(target_name(target, "h"), expected, "{target}");
        }
    }

    #[test]
    fn target_specification_is_parsed() {
        let parse = TargetCfg::parse_specification;
        let number = parse(r#"{"arch": "arm", "target-pointer-width": 32}"#).unwrap();
        let expected = TargetCfg {
            arch: "arm".into(),
            os: "none".into(),
            env: String::new(),
            is_big_endian: false,
            pointer_width: 32,
        };
        assert_eq!(number, expected);
        let full = r#"{"arch": "mips64", "os": "linux", "env": "musl", "target-endian": "big",
            "target-pointer-width": "64", "llvm-target": "mips64-linux-musl"}"#;
        let expected = TargetCfg {
            arch: "mips64".into(),
            os: "linux".into(),
            env: "musl".into(),
            is_big_endian: true,
            pointer_width: 64,
        };
        assert_eq!(parse(full).unwrap(), expected);
        for wrong in ["", "[]", "{}", r#"{"arch": "arm"}"#] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
        }
    }

    #[test]
    fn triples_map_to_platforms() {
        for (triple, expected, feature) in [
            ("x86_64-unknown-linux-gnu", "linux/amd64", "libc.glibc"),
            ("x86_64-unknown-linux-musl", "linux/amd64", "libc.musl"),
            (
                "x86_64-unknown-linux-gnux32",
                "linux/amd64p32",
                "libc.glibc",
            ),
            ("x86_64-unknown-linux-ohos", "linux/amd64", "libc.musl"),
            ("i686-unknown-linux-gnu", "linux/386", "libc.glibc"),
            ("aarch64-unknown-linux-musl", "linux/arm64", "libc.musl"),
            (
                "aarch64_be-unknown-linux-gnu",
                "linux/arm64be",
                "libc.glibc",
            ),
            (
                "armv7-unknown-linux-gnueabihf",
                "linux/arm/v7",
                "libc.glibc",
            ),
            (
                "thumbv7neon-unknown-linux-musleabihf",
                "linux/arm/v7",
                "libc.musl",
            ),
            ("arm-unknown-linux-gnueabi", "linux/arm/v6", "libc.glibc"),
            (
                "armv5te-unknown-linux-musleabi",
                "linux/arm/v5",
                "libc.musl",
            ),
            ("armv4t-unknown-linux-gnueabi", "linux/arm/v4", "libc.glibc"),
            (
                "armeb-unknown-linux-gnueabi",
                "linux/armbe/v6",
                "libc.glibc",
            ),
            ("armebv7r-none-eabi", "none/armbe/v7", ""),
            ("powerpc-unknown-linux-gnu", "linux/ppc", "libc.glibc"),
            ("powerpc64-unknown-linux-gnu", "linux/ppc64", "libc.glibc"),
            (
                "powerpc64le-unknown-linux-gnu",
                "linux/ppc64le",
                "libc.glibc",
            ),
            ("riscv64gc-unknown-linux-gnu", "linux/riscv64", "libc.glibc"),
            ("s390x-unknown-linux-gnu", "linux/s390x", "libc.glibc"),
            (
                "loongarch64-unknown-linux-gnu",
                "linux/loong64",
                "libc.glibc",
            ),
            ("mips-unknown-linux-gnu", "linux/mips", "libc.glibc"),
            ("mipsel-unknown-linux-musl", "linux/mipsle", "libc.musl"),
            (
                "mips64-unknown-linux-gnuabi64",
                "linux/mips64",
                "libc.glibc",
            ),
            (
                "mips64el-unknown-linux-muslabi64",
                "linux/mips64le",
                "libc.musl",
            ),
            ("sparc64-unknown-linux-gnu", "linux/sparc64", "libc.glibc"),
            ("x86_64-linux-android", "android/amd64", ""),
            ("x86_64-apple-darwin", "darwin/amd64", ""),
            ("aarch64-apple-darwin", "darwin/arm64", ""),
            ("aarch64-apple-ios", "ios/arm64", ""),
            ("x86_64-pc-windows-msvc", "windows/amd64", ""),
            ("x86_64-pc-windows-gnu", "windows/amd64", ""),
            ("aarch64-pc-windows-gnullvm", "windows/arm64", ""),
            ("x86_64-unknown-freebsd", "freebsd/amd64", ""),
            ("x86_64-unknown-illumos", "illumos/amd64", ""),
            ("powerpc64-ibm-aix", "aix/ppc64", ""),
            ("wasm32-wasip1", "wasip1/wasm", ""),
            ("wasm32-wasip2", "wasip2/wasm", ""),
            ("wasm32-unknown-unknown", "wasip1/wasm", ""),
            ("thumbv6m-none-eabi", "none/arm/v6", ""),
        ] {
            let platform = from_triple(triple, None).unwrap();
            assert_eq!(platform.to_string(), expected, "{triple}");
            assert_eq!(platform.os_features.concat(), feature, "{triple}");
            assert_eq!(platform.os_features.len(), usize::from(!feature.is_empty()));
        }
    }

    #[test]
    fn platform_of_every_rustc_target_parses_back() {
        assert!(ALL_BUILTINS.len() > 300);
        for info in ALL_BUILTINS {
            let platform = from_triple(info.triple.as_str(), None).unwrap();
            let text = platform.to_string();
            let read = parse(&text).unwrap_or_else(|_| panic!("{}: {text}", info.triple));
            assert_eq!(
                (read.os, read.architecture, read.variant),
                (platform.os, platform.architecture, platform.variant)
            );
            assert!(platform.os_features.is_empty() || info.triple.as_str().contains("linux"));
        }
    }

    #[test]
    fn platform_of_unknown_triple_uses_rustc_cfg() {
        let error = from_triple("x86_64-acme-os", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let printed = "debug_assertions\ntarget_abi=\"\"\ntarget_arch=\"mips64\"\ntarget_endian=\"little\"\n\
                       target_env=\"musl\"\ntarget_family=\"unix\"\ntarget_os=\"linux\"\ntarget_pointer_width=\"64\"\n";
        let cfg = TargetCfg::parse(printed).unwrap();
        let platform = from_triple("mips64el-acme-linux", Some(&cfg)).unwrap();
        assert_eq!(platform.to_string(), "linux/mips64le");
        assert_eq!(platform.os_features, ["libc.musl"]);
        assert!(TargetCfg::parse("target_arch=\"x86\"").is_err());
        assert!(TargetCfg::parse("").is_err());
    }

    #[test]
    fn platform_parse_accepts_two_or_three_parts() {
        let platform = parse("linux/arm/v7").unwrap();
        assert_eq!(
            (platform.os.as_str(), platform.architecture.as_str()),
            ("linux", "arm")
        );
        assert_eq!(platform.variant.as_deref(), Some("v7"));
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "a/b/",
            "a b/c",
            "a/b/\u{7}",
        ] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn exe_suffix_depends_on_target() {
        let suffix = |triple| TargetCfg::builtin(triple).unwrap().exe_suffix();
        assert_eq!(suffix("x86_64-pc-windows-gnu"), ".exe");
        assert_eq!(suffix("wasm32-wasip1"), ".wasm");
        assert_eq!(suffix("x86_64-unknown-uefi"), ".efi");
        assert_eq!(suffix("aarch64-apple-darwin"), "");
    }

    #[test]
    fn glibc_versions_are_ordered_numerically() {
        let version = |text: &str| text.parse::<GlibcVersion>().unwrap();
        assert!(version("2.9") < version("2.34"));
        assert!(version("2.2.5") < version("2.3"));
        assert_eq!(version("2.2.5").to_string(), "2.2.5");
        assert_eq!(version("2.34"), GlibcVersion::new(2, 34));
        for text in [
            "",
            "2",
            "2.",
            "2.a",
            "2.3.4.5",
            "+2.3",
            "2.99999999999",
            "PRIVATE",
        ] {
            assert!(
                text.parse::<GlibcVersion>().is_err(),
                "{text:?} was accepted"
            );
        }
    }

    #[test]
    fn triples_for_platform_are_sorted_by_portability() {
        let triples = triples_for(&parse("linux/amd64").unwrap());
        assert_eq!(
            triples[..2],
            ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"]
        );
        assert_eq!(
            triples_for(&parse("darwin/arm64").unwrap())[0],
            "aarch64-apple-darwin"
        );
        assert!(triples_for(&parse("windows/amd64").unwrap()).contains(&"x86_64-pc-windows-msvc"));
        assert!(triples_for(&parse("plan9/amd64").unwrap()).is_empty());
    }
}
