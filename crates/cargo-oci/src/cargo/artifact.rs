//! Rules for the files that cargo writes: which of them are kept, and the kind of each.
//!
//! The files of a build ([`build`](super::build())) and of an earlier build ([`existing`](super::existing())) follow the
//! same rules, so that both pushes are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use cargo_metadata::{CrateType, Package, PackageId, Target};
use oci_package::{FileKind, platform::target_name};
use snafu::{Snafu, ensure};

use super::{ErrorClass, Fault, Selection, Workspace};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to choose a file: `{}` is written by more than one target: {}",
        path.display(),
        targets.join(", ")
    ))]
    Shared { path: PathBuf, targets: Vec<String> },
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }

    fn help(&self) -> Option<String> {
        Some(
            "rename one of the targets, or build and push their packages one by one with `--package`"
                .to_owned(),
        )
    }
}

/// The files wanted from a build that runs now or ran earlier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The workspace that is built.
    pub(crate) workspace: &'a Workspace,
    /// Cargo's flags.
    pub(crate) selection: &'a Selection,
    /// The kinds that are kept of each package; of a package that is not in here nothing is.
    pub(crate) wanted: &'a BTreeMap<PackageId, BTreeSet<FileKind>>,
    /// The triple of this machine, for builds that name no target.
    pub(crate) host: &'a str,
}

impl Request<'_> {
    /// Whether files of this kind are kept of a package.
    pub(super) fn wants(&self, package: &PackageId, kind: FileKind) -> bool {
        self.wanted
            .get(package)
            .is_some_and(|kinds| kinds.contains(&kind))
    }

    /// Whether files for this triple are wanted: all are where no flag names a target.
    ///
    /// Where flags do, files for the host come along unasked (procedural macros), and are left out unless
    /// the host is among the targets.
    pub(super) fn wants_target(&self, triple: &str) -> bool {
        let targets = self.selection.targets();
        targets.is_empty()
            || targets
                .iter()
                .any(|target| target_name(target, self.host) == triple)
    }
}

/// What a build wrote for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// The triple, or the name of a custom target.
    pub(crate) target: String,
    /// The packages with at least one file that is kept, sorted by name.
    pub(crate) packages: Vec<PackageOutput>,
}

/// What a build wrote of one package for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackageOutput {
    /// The package; a member of the workspace.
    pub(crate) id: PackageId,
    /// The enabled features, sorted.
    pub(crate) features: Vec<String>,
    /// The crate types of the cargo targets that the files come from, in cargo's words, sorted.
    pub(crate) crate_types: Vec<String>,
    /// The files, sorted by name.
    pub(crate) files: Vec<Built>,
}

/// A file that a build wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Built {
    /// Cargo's own name, relative to the profile's directory and with `/`: `widgets`, `examples/demo`.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: FileKind,
    /// Where it is. A `.dSYM` is a directory, everything else is a file.
    pub(crate) path: PathBuf,
}

/// Where cargo puts what was asked for: `<target-dir>[/<triple>]/<profile>[/examples]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout<'a> {
    pub(super) target_directory: &'a Path,
    pub(super) profile_directory: &'a str,
}

impl<'a> Layout<'a> {
    pub(super) fn of(request: &Request<'a>) -> Self {
        Self {
            target_directory: &request.workspace.target_directory,
            profile_directory: request.selection.profile_directory(),
        }
    }

    /// The triple in the path, if there is one, and the name, of a file that was asked for; `None` for
    /// everything cargo keeps elsewhere: dependencies, build scripts, intermediate results.
    pub(super) fn locate<'p>(&self, path: &'p Path) -> Option<(Option<&'p str>, String)> {
        let inside = path.strip_prefix(self.target_directory).ok()?;
        let words: Vec<&str> = inside
            .components()
            .map(|word| word.as_os_str().to_str())
            .collect::<Option<_>>()?;
        let profile = self.profile_directory;
        let (triple, name) = match words.as_slice() {
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
}

/// What a file of a cargo target is; `None` for what is never kept.
///
/// One cargo target may have many crate types, and each writes its own files: so the name decides, with the
/// target to say what the name alone cannot. A Rust `dylib` is of no use away from its rustc and its
/// dependencies, and has no kind; nor have export files (`.dll.exp`), which only libraries that need each other
/// in a circle are linked with. An import library is part of the shared library it belongs to.
pub(super) fn kind_of(name: &str, target: &Target) -> Option<FileKind> {
    let ends_with = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let makes = |crate_type| target.crate_types.contains(&crate_type);
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
    // On AIX a shared library is an `.a` too.
    let is_static = ends_with(&[".a", ".lib"]) && !is_import;
    if is_static && makes(CrateType::StaticLib) {
        return Some(FileKind::Staticlib);
    }
    makes(CrateType::CDyLib).then_some(FileKind::Cdylib)
}

/// The files found so far, and the cargo targets that write each of them.
#[derive(Debug, Default)]
pub(super) struct Found {
    targets: BTreeMap<String, BTreeMap<PackageId, Sorted>>,
    writers: BTreeMap<PathBuf, BTreeSet<Writer>>,
}

/// One package on the way to its [`PackageOutput`].
#[derive(Debug, Default)]
struct Sorted {
    features: BTreeSet<String>,
    crate_types: BTreeSet<String>,
    files: BTreeSet<Built>,
}

/// A cargo target that writes a file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Writer {
    package: PackageId,
    sort: &'static str,
    name: String,
}

impl Writer {
    fn new(package: &PackageId, target: &Target) -> Self {
        let sort = if target.is_bin() {
            "bin"
        } else if target.is_example() {
            "example"
        } else {
            "library"
        };
        Self {
            package: package.clone(),
            sort,
            name: target.name.clone(),
        }
    }

    /// The target in words: ``bin `tool` of `acme-server` ``.
    fn describe(&self, workspace: &Workspace) -> String {
        let package = workspace.member(&self.package);
        let package = package.map_or(self.package.repr.as_str(), |package| package.name.as_str());
        format!("{} `{}` of `{package}`", self.sort, self.name)
    }
}

impl Found {
    /// Notes that a cargo target writes a file, whether the file is kept or not.
    pub(super) fn note_writer(&mut self, path: &Path, package: &PackageId, target: &Target) {
        let writers = self.writers.entry(path.to_owned()).or_default();
        writers.insert(Writer::new(package, target));
    }

    /// Keeps a file of a cargo target.
    pub(super) fn add(
        &mut self,
        triple: &str,
        package: &PackageId,
        target: &Target,
        features: &[String],
        file: Built,
    ) {
        self.note_writer(&file.path, package, target);
        let packages = self.targets.entry(triple.to_owned()).or_default();
        let sorted = packages.entry(package.clone()).or_default();
        sorted.features.extend(features.iter().cloned());
        sorted
            .crate_types
            .extend(target.crate_types.iter().map(ToString::to_string));
        sorted.files.insert(file);
    }

    /// Returns the kept files in order: by triple, by package name, by file name. A kept file that more than one cargo
    /// target writes is an error: it holds whatever was linked last.
    pub(super) fn into_outputs(self, workspace: &Workspace) -> Result<Vec<Output>, super::Error> {
        let packages = self.targets.values().flat_map(BTreeMap::values);
        for file in packages.flat_map(|package| &package.files) {
            let writers = &self.writers[&file.path];
            ensure!(
                writers.len() == 1,
                SharedSnafu {
                    path: &file.path,
                    targets: writers
                        .iter()
                        .map(|writer| writer.describe(workspace))
                        .collect::<Vec<_>>(),
                }
            );
        }
        let targets = self.targets.into_iter();
        let outputs = targets.map(|(target, mut packages)| Output {
            target,
            packages: workspace
                .members
                .iter()
                .filter_map(|Package { id, .. }| packages.remove_entry(id))
                .map(|(id, sorted)| PackageOutput {
                    id,
                    features: sorted.features.into_iter().collect(),
                    crate_types: sorted.crate_types.into_iter().collect(),
                    files: sorted.files.into_iter().collect(),
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
    fn only_what_was_asked_for_is_located() {
        let layout = Layout {
            target_directory: Path::new("/t"),
            profile_directory: "release",
        };
        let locate = |path: &'static str| layout.locate(Path::new(path));
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
        for elsewhere in [
            "/t/release/deps/app-0123456789abcdef",
            "/t/release/build/app-0123456789abcdef/build-script-build",
            "/t/a-b-c/release/deps/libx.so",
            "/t/a-b-c/release/examples/deps/x",
            "/t/debug/app",
            "/t/a-b-c/debug/app",
            "/t/release",
            "/other/release/app",
        ] {
            assert_eq!(locate(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_profile_may_be_called_examples() {
        let layout = Layout {
            target_directory: Path::new("/t"),
            profile_directory: "examples",
        };
        let name = |path| {
            layout
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
    fn each_file_has_the_kind_of_its_own_crate_type() {
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
