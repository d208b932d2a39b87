//! Selection and classification of the files that cargo writes.
//!
//! A new build ([`build`](super::build())) and an earlier build ([`find_existing`](super::find_existing())) are subject
//! to the same rules, so `push` publishes the same files in both cases.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use cargo_metadata::{CrateType, Package, PackageId, Target};
use oci_package::{FileKind, platform::target_name};
use oci_registry::{ErrorKind, Failure, Hint};
use snafu::{Snafu, ensure};

use super::{Selection, Workspace};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to select a file: `{}` is written by more than one target: {}",
        path.display(),
        targets.join(", ")
    ))]
    SharedFile { path: PathBuf, targets: Vec<String> },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        vec!["rename one of the targets, or push their packages separately with `--package`".into()]
    }
}

/// Request for built files, either from a new build or from an earlier one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildRequest<'a> {
    /// Workspace to build.
    pub(crate) workspace: &'a Workspace,
    /// Cargo flags that select what is built.
    pub(crate) selection: &'a Selection,
    /// Requested kinds of files for each package. Packages without an entry are ignored.
    pub(crate) wanted: &'a BTreeMap<PackageId, BTreeSet<FileKind>>,
    /// Target triple of this machine, which cargo builds for if `--target` is not given.
    pub(crate) host: &'a str,
}

impl BuildRequest<'_> {
    /// Whether files of this kind are requested for the package.
    pub(super) fn wants(&self, package: &PackageId, kind: FileKind) -> bool {
        self.wanted
            .get(package)
            .is_some_and(|kinds| kinds.contains(&kind))
    }

    /// Whether files for this triple are requested. If `--target` is not given, files for every triple are requested.
    ///
    /// If `--target` is given, cargo also reports files for the host, such as procedural macros. They are requested
    /// only if the host is one of the given targets.
    pub(super) fn wants_target(&self, triple: &str) -> bool {
        let targets = self.selection.targets();
        targets.is_empty()
            || targets
                .iter()
                .any(|target| target_name(target, self.host) == triple)
    }
}

/// Files that were built for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildOutput {
    /// Target triple, or the name of a custom target.
    pub(crate) target: String,
    /// Packages with at least one requested file, sorted by name.
    pub(crate) packages: Vec<PackageOutput>,
}

/// Files of one package that were built for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackageOutput {
    /// Package ID of the workspace member.
    pub(crate) id: PackageId,
    /// Enabled features, sorted.
    pub(crate) features: Vec<String>,
    /// Crate types of the cargo targets that wrote the files, as cargo spells them, sorted.
    pub(crate) crate_types: Vec<String>,
    /// Files, sorted by name.
    pub(crate) files: Vec<BuiltFile>,
}

/// File that cargo built.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BuiltFile {
    /// Path relative to the profile directory, with `/` as separator, such as `widgets` or `examples/demo`.
    pub(crate) name: String,
    /// Kind of the file, such as program or shared library.
    pub(crate) kind: FileKind,
    /// Path of the file, or of the directory if the name ends with `.dSYM`.
    pub(crate) path: PathBuf,
}

/// Directories in which cargo writes final files: `<target-dir>[/<triple>]/<profile>[/examples]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TargetDirectory<'a> {
    pub(super) target_directory: &'a Path,
    pub(super) profile_directory: &'a str,
}

impl<'a> TargetDirectory<'a> {
    pub(super) fn from_request(request: &BuildRequest<'a>) -> Self {
        Self {
            target_directory: &request.workspace.target_directory,
            profile_directory: request.selection.profile_directory(),
        }
    }

    /// Returns the name of a final file, and the triple if the path contains one. Returns `None` for other files, such
    /// as dependencies, build scripts and intermediate files.
    pub(super) fn locate<'p>(&self, path: &'p Path) -> Option<(Option<&'p str>, String)> {
        let inside = path.strip_prefix(self.target_directory).ok()?;
        let components: Vec<&str> = inside
            .components()
            .map(|component| match component {
                Component::Normal(component) => component.to_str(),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let profile = self.profile_directory;
        let (triple, name) = match components.as_slice() {
            [first, name] if *first == profile => (None, vec![*name]),
            [first, "examples", name] if *first == profile => (None, vec!["examples", *name]),
            [triple, second, name] if *second == profile => (Some(*triple), vec![*name]),
            [triple, second, "examples", name] if *second == profile => {
                (Some(*triple), vec!["examples", *name])
            }
            _ => return None,
        };
        Some((triple, name.join("/")))
    }

    /// Whether a file outside of the target directory may be a final file for a requested target.
    ///
    /// Intermediate files may also be outside, in the directory that `build.build-dir` sets, but not directly in a
    /// profile directory. `wants_target` is called with the name of the directory that contains the profile directory.
    /// This name is the triple if `--target` was given. Cargo prints absolute paths without `..`, so any other path is
    /// treated as outside.
    pub(super) fn is_outside(&self, path: &Path, wants_target: impl Fn(&str) -> bool) -> bool {
        let has_parent = path.components().any(|word| word == Component::ParentDir);
        if has_parent || !path.is_absolute() {
            return true;
        }
        let mut above = path.ancestors().skip(1).filter_map(Path::file_name);
        let mut parent = above.next();
        if parent.is_some_and(|name| name == "examples") && self.profile_directory != "examples" {
            parent = above.next();
        }
        !path.starts_with(self.target_directory)
            && parent.is_some_and(|name| name == self.profile_directory)
            && above
                .next()
                .is_none_or(|name| wants_target(&name.to_string_lossy()))
    }
}

/// Returns the kind of a file that a cargo target wrote, or `None` if such files are never published.
///
/// A cargo target may have several crate types, and cargo writes a file for each. The kind is therefore derived from
/// the file name, and from the cargo target if the name is ambiguous. A Rust `dylib` has no kind, because it can only
/// be used with the same rustc version and its own dependencies. Export files (`.dll.exp`) have no kind, because they
/// are only needed to link libraries with circular dependencies. An import library has the kind of its shared library.
pub(super) fn kind_of(name: &str, target: &Target) -> Option<FileKind> {
    let ends_with = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let has_crate_type = |crate_type| target.crate_types.contains(&crate_type);
    if ends_with(&[".rmeta", ".d", ".dll.exp"]) {
        return None;
    }
    if ends_with(&[".dwp", ".pdb", ".dSYM", ".wasm.map"]) {
        return Some(FileKind::Debuginfo);
    }
    if ends_with(&[".wasm"]) {
        return Some(FileKind::Wasm);
    }
    if target.is_example() {
        return Some(FileKind::Example);
    }
    if target.is_bin() {
        return Some(FileKind::Bin);
    }
    if target.is_proc_macro() {
        return Some(FileKind::ProcMacro);
    }
    if ends_with(&[".rlib"]) {
        return Some(FileKind::Rlib);
    }
    let is_import = ends_with(&[".dll.a", ".dll.lib"]);
    // On AIX, shared libraries have the extension `.a` too.
    let is_static = ends_with(&[".a", ".lib"]) && !is_import;
    if is_static && has_crate_type(CrateType::StaticLib) {
        return Some(FileKind::Staticlib);
    }
    has_crate_type(CrateType::CDyLib).then_some(FileKind::Cdylib)
}

/// Files that cargo reported, and the cargo targets that write each file.
#[derive(Debug, Default)]
pub(super) struct CollectedFiles {
    targets: BTreeMap<String, BTreeMap<PackageId, CollectedPackage>>,
    writers: BTreeMap<PathBuf, BTreeSet<CargoTarget>>,
}

/// Collected files of one package, from which its [`PackageOutput`] is created.
#[derive(Debug, Default)]
struct CollectedPackage {
    features: BTreeSet<String>,
    crate_types: BTreeSet<String>,
    files: BTreeSet<BuiltFile>,
}

/// Cargo target that writes a file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CargoTarget {
    package: PackageId,
    kind: &'static str,
    name: String,
}

impl CargoTarget {
    fn new(package: &PackageId, target: &Target) -> Self {
        let kind = if target.is_bin() {
            "bin"
        } else if target.is_example() {
            "example"
        } else {
            "library"
        };
        Self {
            package: package.clone(),
            kind,
            name: target.name.clone(),
        }
    }

    /// Returns a description of the target, such as ``bin `tool` of `acme-server` ``.
    fn describe(&self, workspace: &Workspace) -> String {
        let package = workspace.member(&self.package);
        let package = package.map_or(self.package.repr.as_str(), |package| package.name.as_str());
        format!("{} `{}` of `{package}`", self.kind, self.name)
    }
}

impl CollectedFiles {
    /// Records that a cargo target writes a file, even if the file is not requested.
    pub(super) fn record_writer(&mut self, path: &Path, package: &PackageId, target: &Target) {
        let writers = self.writers.entry(path.to_owned()).or_default();
        writers.insert(CargoTarget::new(package, target));
    }

    /// Adds a requested file of a cargo target.
    pub(super) fn add(
        &mut self,
        triple: &str,
        package: &PackageId,
        target: &Target,
        features: &[String],
        file: BuiltFile,
    ) {
        self.record_writer(&file.path, package, target);
        let packages = self.targets.entry(triple.to_owned()).or_default();
        let collected = packages.entry(package.clone()).or_default();
        collected.features.extend(features.iter().cloned());
        collected
            .crate_types
            .extend(target.crate_types.iter().map(ToString::to_string));
        collected.files.insert(file);
    }

    /// Returns the files, sorted by triple, package name and file name.
    ///
    /// # Errors
    ///
    /// Fails if more than one cargo target writes the same file, because the file then contains the output of the
    /// target that was built last.
    pub(super) fn into_outputs(
        self,
        workspace: &Workspace,
    ) -> Result<Vec<BuildOutput>, super::Error> {
        let packages = self.targets.values().flat_map(BTreeMap::values);
        for file in packages.flat_map(|package| &package.files) {
            let writers = &self.writers[&file.path];
            ensure!(
                writers.len() == 1,
                SharedFileSnafu {
                    path: &file.path,
                    targets: writers
                        .iter()
                        .map(|writer| writer.describe(workspace))
                        .collect::<Vec<_>>(),
                }
            );
        }
        let targets = self.targets.into_iter();
        let outputs = targets.map(|(target, mut packages)| BuildOutput {
            target,
            packages: workspace
                .members
                .iter()
                .filter_map(|Package { id, .. }| packages.remove_entry(id))
                .map(|(id, collected)| PackageOutput {
                    id,
                    features: collected.features.into_iter().collect(),
                    crate_types: collected.crate_types.into_iter().collect(),
                    files: collected.files.into_iter().collect(),
                })
                .collect(),
        });
        Ok(outputs.collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn locate_finds_final_artifacts_only() {
        let directory = TargetDirectory {
            target_directory: Path::new("/t"),
            profile_directory: "release",
        };
        let locate = |path: &'static str| directory.locate(Path::new(path));
        let found = |triple, name: &str| Some((triple, name.to_owned()));
        assert_eq!(locate("/t/release/app"), found(None, "app"));
        assert_eq!(
            locate("/t/release/examples/demo"),
            found(None, "examples/demo")
        );
        assert_eq!(locate("/t/a-b-c/release/app"), found(Some("a-b-c"), "app"));
        assert_eq!(
            locate("/t/a-b-c/release/examples/demo"),
            found(Some("a-b-c"), "examples/demo")
        );
        for other in [
            "/t/release/deps/app-0123456789abcdef",
            "/t/release/build/app-0123456789abcdef/build-script-build",
            "/t/a-b-c/release/deps/libx.so",
            "/t/a-b-c/release/examples/deps/x",
            "/t/debug/app",
            "/t/a-b-c/debug/app",
            "/t/release",
            "/other/release/app",
            "/t/a-b-c/release/../app",
            "/t/../release/app",
        ] {
            assert_eq!(locate(other), None, "{other}");
        }
    }

    #[test]
    fn final_artifact_outside_of_target_directory_is_detected() {
        let layout = TargetDirectory {
            target_directory: Path::new("/t"),
            profile_directory: "release",
        };
        for (path, expected) in [
            ("/other/release/app", false),
            ("/other/a-b-c/release/app", true),
            ("/other/a-b-c/release/examples/demo", true),
            ("/other/d-e-f/release/app", false),
            ("/t/a-b-c/release/../../../app", true),
            ("t/release/app", true),
            ("/t/debug/app", false),
            ("/t/a-b-c/release/app", false),
            ("/other/a-b-c/release/deps/app", false),
            ("/other/a-b-c/examples/app", false),
        ] {
            let found = layout.is_outside(Path::new(path), |target| target == "a-b-c");
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn built_file_in_profile_named_examples_is_located() {
        let directory = TargetDirectory {
            target_directory: Path::new("/t"),
            profile_directory: "examples",
        };
        let name = |path| {
            directory
                .locate(Path::new(path))
                .map(|(triple, name)| (triple.is_some(), name))
        };
        assert_eq!(name("/t/examples/app"), Some((false, "app".into())));
        assert_eq!(name("/t/a-b/examples/app"), Some((true, "app".into())));
        assert_eq!(
            name("/t/a-b/examples/examples/app"),
            Some((true, "examples/app".into()))
        );
    }

    #[test]
    fn kind_is_derived_from_file_name_and_crate_type() {
        let cases: [(&[&str], &str, Option<FileKind>); 31] = [
            (&["bin"], "my-app", Some(FileKind::Bin)),
            (&["bin"], "my-app.exe", Some(FileKind::Bin)),
            (&["bin"], "my-app.efi", Some(FileKind::Bin)),
            (&["bin"], "my-app.js", Some(FileKind::Bin)),
            (&["bin"], "my_app.wasm", Some(FileKind::Wasm)),
            (&["bin"], "my_app.wasm.map", Some(FileKind::Debuginfo)),
            (&["bin"], "my-app.dwp", Some(FileKind::Debuginfo)),
            (&["bin"], "my_app.pdb", Some(FileKind::Debuginfo)),
            (&["bin"], "my-app.dSYM", Some(FileKind::Debuginfo)),
            (&["example"], "examples/demo", Some(FileKind::Example)),
            (&["example"], "examples/demo.exe", Some(FileKind::Example)),
            (&["example"], "examples/demo.wasm", Some(FileKind::Wasm)),
            (&["example"], "examples/demo.dwp", Some(FileKind::Debuginfo)),
            (
                &["rlib", "cdylib", "staticlib"],
                "libshapes.rlib",
                Some(FileKind::Rlib),
            ),
            (
                &["rlib", "cdylib", "staticlib"],
                "libshapes.so",
                Some(FileKind::Cdylib),
            ),
            (
                &["rlib", "cdylib", "staticlib"],
                "libshapes.so.dwp",
                Some(FileKind::Debuginfo),
            ),
            (
                &["rlib", "cdylib", "staticlib"],
                "libshapes.a",
                Some(FileKind::Staticlib),
            ),
            (
                &["cdylib", "staticlib"],
                "libshapes.dylib",
                Some(FileKind::Cdylib),
            ),
            (
                &["cdylib", "staticlib"],
                "libshapes.dylib.dSYM",
                Some(FileKind::Debuginfo),
            ),
            (
                &["cdylib", "staticlib"],
                "shapes.dll",
                Some(FileKind::Cdylib),
            ),
            (
                &["cdylib", "staticlib"],
                "shapes.dll.lib",
                Some(FileKind::Cdylib),
            ),
            (&["cdylib", "staticlib"], "shapes.dll.exp", None),
            (
                &["cdylib", "staticlib"],
                "shapes.lib",
                Some(FileKind::Staticlib),
            ),
            (
                &["cdylib", "staticlib"],
                "libshapes.dll.a",
                Some(FileKind::Cdylib),
            ),
            (&["cdylib"], "shapes.wasm", Some(FileKind::Wasm)),
            (&["cdylib"], "libshapes.a", Some(FileKind::Cdylib)),
            (&["lib"], "libshapes.rlib", Some(FileKind::Rlib)),
            (&["lib"], "libshapes.rmeta", None),
            (&["dylib"], "libshapes.so", None),
            (&["proc-macro"], "libmac.so", Some(FileKind::ProcMacro)),
            (&["proc-macro"], "mac.dll", Some(FileKind::ProcMacro)),
        ];
        for (kinds, name, expected) in cases {
            let crate_types = if kinds == ["example"] {
                &["bin"]
            } else {
                kinds
            };
            let target = json!({
                "name": "x", "kind": kinds, "crate_types": crate_types, "src_path": "/x.rs",
            });
            let target: Target = serde_json::from_value(target).unwrap();
            assert_eq!(kind_of(name, &target), expected, "{kinds:?} {name}");
        }
    }
}
