//! The keys of annotations: the specification's that are used here, and ours (image-spec, `annotations.md`).
//!
//! Owns the words only. Which of them stands where is decided by [`pack`](crate::pack) and by
//! [`PackageIndex`](crate::PackageIndex).

/// The name of a package; of a layer, the name other clients write it under.
pub const TITLE: &str = "org.opencontainers.image.title";
/// The version of a package, as `Cargo.toml` has it.
pub const VERSION: &str = "org.opencontainers.image.version";
/// What a package is, in a sentence.
pub const DESCRIPTION: &str = "org.opencontainers.image.description";
/// An SPDX license expression.
pub const LICENSES: &str = "org.opencontainers.image.licenses";
/// Where a person reads more.
pub const URL: &str = "org.opencontainers.image.url";
/// Where the documentation is.
pub const DOCUMENTATION: &str = "org.opencontainers.image.documentation";
/// Where the source code is; some registries connect the package with that repository's permissions.
pub const SOURCE: &str = "org.opencontainers.image.source";
/// Who wrote it.
pub const AUTHORS: &str = "org.opencontainers.image.authors";
/// Which organisation distributes it.
pub const VENDOR: &str = "org.opencontainers.image.vendor";
/// The commit it was built from.
pub const REVISION: &str = "org.opencontainers.image.revision";
/// When it was made, in the notation of RFC 3339.
pub const CREATED: &str = "org.opencontainers.image.created";

/// ORAS's mark of a layer that is a directory as a tar stream, usually compressed: `true`.
pub const UNPACK: &str = "io.deis.oras.content.unpack";
/// BuildKit's mark of an index entry that describes another entry of the index, such as `attestation-manifest`.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// What all keys of this layout begin with.
pub const PREFIX: &str = "dev.cargo-oci.";
/// The target triple something was built for.
pub const TARGET: &str = "dev.cargo-oci.target";
/// The cargo profile it was built with.
pub const PROFILE: &str = "dev.cargo-oci.profile";
/// The platform, `os/architecture[/variant]` in Go's names.
pub const PLATFORM: &str = "dev.cargo-oci.platform";
/// What it needs of the C library: `static` (none), `glibc` or `musl`. Only of Linux targets.
pub const LIBC: &str = "dev.cargo-oci.libc";
/// The lowest version of glibc that it runs with.
pub const GLIBC: &str = "dev.cargo-oci.glibc";
/// The size of config and layers together, in bytes; on the entries of an index.
pub const SIZE: &str = "dev.cargo-oci.size";
/// The file name that cargo gave a layer, with its directory: `widgets`, `examples/demo`.
pub const FILE: &str = "dev.cargo-oci.file";
/// The [`FileKind`](crate::FileKind) of a layer.
pub const KIND: &str = "dev.cargo-oci.kind";
/// The file mode of a layer in octal digits, `0755` or `0644`.
pub const MODE: &str = "dev.cargo-oci.mode";
/// Whether the working tree had changes that no commit holds: `true` or `false`.
pub const DIRTY: &str = "dev.cargo-oci.vcs.dirty";

/// What is true of one target only, and so has no place among the annotations of an index.
pub(crate) const TARGET_KEYS: [&str; 5] = [TARGET, PLATFORM, LIBC, GLIBC, CREATED];
