//! Annotation keys: predefined keys of the image specification (image-spec, `annotations.md`), and the keys
//! `dev.cargo-oci.*` of this format.
//!
//! [`pack`](crate::pack) and [`PackageIndex`](crate::PackageIndex) define which document has which annotation.

/// Name of a package. On a layer: the file name that other clients write.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Version of a package, as in `Cargo.toml`.
pub const VERSION: &str = "org.opencontainers.image.version";
/// Description of a package, one sentence.
pub const DESCRIPTION: &str = "org.opencontainers.image.description";
/// License, an SPDX expression.
pub const LICENSES: &str = "org.opencontainers.image.licenses";
/// URL of the home page.
pub const URL: &str = "org.opencontainers.image.url";
/// URL of the documentation.
pub const DOCUMENTATION: &str = "org.opencontainers.image.documentation";
/// URL of the source code. Some registries link the package to this repository and apply its permissions.
pub const SOURCE: &str = "org.opencontainers.image.source";
/// Authors, separated by commas.
pub const AUTHORS: &str = "org.opencontainers.image.authors";
/// Organization that distributes the package.
pub const VENDOR: &str = "org.opencontainers.image.vendor";
/// Commit that the files were built from.
pub const REVISION: &str = "org.opencontainers.image.revision";
/// Creation time, in RFC 3339 format.
pub const CREATED: &str = "org.opencontainers.image.created";

/// Annotation that ORAS sets to `true` on a layer that is a directory, packed as a tar stream and usually compressed.
pub const UNPACK: &str = "io.deis.oras.content.unpack";
/// Annotation that BuildKit sets on an index entry that describes another entry of the same index. The value is the
/// type of the entry, such as `attestation-manifest`.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Common prefix of the keys that this format defines.
pub const PREFIX: &str = "dev.cargo-oci.";
/// Target triple that the files were built for.
pub const TARGET: &str = "dev.cargo-oci.target";
/// Cargo profile that the files were built with.
pub const PROFILE: &str = "dev.cargo-oci.profile";
/// Platform, `os/architecture[/variant]` with Go's names.
pub const PLATFORM: &str = "dev.cargo-oci.platform";
/// C library that the files require: `static` (none), `glibc` or `musl`. Set for Linux targets only.
pub const LIBC: &str = "dev.cargo-oci.libc";
/// Lowest version of glibc that the files run with.
pub const GLIBC: &str = "dev.cargo-oci.glibc";
/// Total size of config and layers, in bytes. Set on the entries of an index.
pub const SIZE: &str = "dev.cargo-oci.size";
/// File name that cargo gave the file, with its directory: `widgets`, `examples/demo`.
pub const FILE: &str = "dev.cargo-oci.file";
/// [`FileKind`](crate::FileKind) of a layer.
pub const KIND: &str = "dev.cargo-oci.kind";
/// File mode of a layer in octal digits: `0755` or `0644`.
pub const MODE: &str = "dev.cargo-oci.mode";
/// Whether the working tree had uncommitted changes: `true` or `false`.
pub const DIRTY: &str = "dev.cargo-oci.vcs.dirty";

/// Keys whose values apply to one target only. The annotations of an index omit them.
pub(crate) const TARGET_KEYS: [&str; 5] = [TARGET, PLATFORM, LIBC, GLIBC, CREATED];
