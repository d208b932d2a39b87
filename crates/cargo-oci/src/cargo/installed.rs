//! Installed programs in cargo's records: `.crates.toml` and `.crates2.json` of an installation root.
//!
//! Cargo's file lock protects the records and the programs in `bin`, so this program holds the lock during every
//! change. `cargo install --list` lists the recorded programs, and `cargo uninstall` removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::path::{Component, Path, PathBuf};

use oci_registry::{
    ArchiveFormat, ErrorKind, Failure, Hint, Location, open_regular_with, read_regular_text,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use snafu::{OptionExt, ResultExt, Snafu};
use url::Url;

use super::CargoEnvironment;

/// Name of the file that records the programs of each package.
const RECORDS: &str = ".crates.toml";

/// Name of the file that records how each package was built.
const DETAILS: &str = ".crates2.json";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to find cargo's home directory: `CARGO_HOME` and `HOME` are not set"))]
    NoHomeDirectory,
    #[snafu(display("failed to read `install.root` of `{}`", path.display()))]
    ReadConfig {
        path: PathBuf,
        source: toml::de::Error,
    },
    #[snafu(display("failed to open the records of installed packages, `{}`", path.display()))]
    Open { path: PathBuf, source: io::Error },
    #[snafu(display("failed to read the records of installed packages, `{}`", path.display()))]
    ParseRecords {
        path: PathBuf,
        source: toml::de::Error,
    },
    #[snafu(display("failed to read the records of installed packages, `{}`", path.display()))]
    ParseDetails {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[snafu(display("failed to read the records of installed packages, `{}`: `{}` is not a program name", path.display(), program.escape_debug()))]
    InvalidProgramName { path: PathBuf, program: String },
    #[snafu(display("failed to write the records of installed packages, `{}`", path.display()))]
    Write { path: PathBuf, source: io::Error },
    #[snafu(display("failed to remove `{}`", path.display()))]
    Remove { path: PathBuf, source: io::Error },
    #[snafu(display("failed to install `{program}`: it already exists and {owner}"))]
    ProgramExists { program: String, owner: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadConfig { .. } | Self::NoHomeDirectory => ErrorKind::InvalidInput,
            Self::ProgramExists { .. } => ErrorKind::Conflict,
            Self::Open { .. }
            | Self::ParseRecords { .. }
            | Self::ParseDetails { .. }
            | Self::InvalidProgramName { .. }
            | Self::Write { .. }
            | Self::Remove { .. } => ErrorKind::Io,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let hint = match self {
            Self::NoHomeDirectory => "pass a directory with `--root`",
            Self::ProgramExists { .. } => {
                "pass `--force` to replace it, or choose another `--root`"
            }
            Self::InvalidProgramName { .. } => {
                "remove the line from the file, or pass another directory with `--root`"
            }
            Self::Open { .. } => "pass another directory with `--root`",
            Self::ReadConfig { .. }
            | Self::ParseRecords { .. }
            | Self::ParseDetails { .. }
            | Self::Write { .. }
            | Self::Remove { .. } => return Vec::new(),
        };
        vec![hint.into()]
    }
}

/// Returns the installation root: the value of the flag, else `CARGO_INSTALL_ROOT`, else `install.root` in cargo's
/// configuration, else cargo's home directory.
pub(crate) fn install_root(
    environment: &CargoEnvironment,
    flag: Option<&Path>,
) -> Result<PathBuf, super::Error> {
    let explicit = flag.or_else(|| environment.variable("CARGO_INSTALL_ROOT").map(Path::new));
    if let Some(root) = explicit {
        return Ok(environment.directory.join(root));
    }
    let home = cargo_home(environment);
    for file in cargo_config2::Walk::with_cargo_home(&environment.directory, home.clone()) {
        if let Some(root) = configured_root(&file)? {
            return Ok(root);
        }
    }
    Ok(home.context(NoHomeDirectorySnafu)?)
}

/// Returns cargo's home directory: `CARGO_HOME`, or `~/.cargo`.
pub(crate) fn cargo_home(environment: &CargoEnvironment) -> Option<PathBuf> {
    if let Some(home) = environment.variable("CARGO_HOME") {
        return Some(environment.directory.join(home));
    }
    let home = environment.variable("HOME");
    let home = home.or_else(|| environment.variable("USERPROFILE"))?;
    Some(Path::new(home).join(".cargo"))
}

#[derive(Deserialize)]
struct CargoConfig {
    install: Option<InstallTable>,
}

#[derive(Deserialize)]
struct InstallTable {
    root: Option<PathBuf>,
}

/// Maximum size of a configuration file, in bytes. A larger file is ignored.
const MAX_CONFIG: u64 = 1 << 20;

/// Reads `install.root` in a configuration file. The value is relative to the directory that contains `.cargo`.
fn configured_root(path: &Path) -> Result<Option<PathBuf>, Error> {
    let Ok(text) = read_regular_text(path, MAX_CONFIG) else {
        return Ok(None);
    };
    let config: CargoConfig = toml::from_str(&text).context(ReadConfigSnafu { path })?;
    let root = config.install.and_then(|install| install.root);
    let base = path.parent().and_then(Path::parent);
    Ok(root.map(|root| base.unwrap_or(Path::new("")).join(root)))
}

/// Returns the source of a package, in the format that cargo records.
pub(crate) fn source_of(location: &Location, directory: &Path) -> Option<String> {
    let url = match location {
        Location::Registry(reference) => Url::parse(&format!(
            "oci://{}/{}",
            reference.registry(),
            reference.repository()
        )),
        Location::Layout {
            directory: path, ..
        }
        | Location::Archive { file: path, .. } => {
            let path = directory.join(path);
            let path = path.canonicalize().unwrap_or(path);
            return Some(format!("registry+{}", Url::from_file_path(path).ok()?));
        }
    };
    // Cargo rejects records with an unknown source kind, so `oci://` is recorded as a `registry` source.
    Some(format!("registry+{}", url.ok()?))
}

/// Returns the location of a source that [`source_of`] returned.
fn location_of(source: &str) -> Option<Location> {
    let url = source.strip_prefix("registry+")?;
    if let Some(repository) = url.strip_prefix("oci://") {
        return Some(Location::Registry(repository.parse().ok()?));
    }
    let path = Url::parse(url).ok()?.to_file_path().ok()?;
    Some(if path.is_file() {
        Location::archive(path, ArchiveFormat::Oci)
    } else {
        Location::layout(path)
    })
}

/// Key of the tag that `upgrade` follows, in the details of a package. Cargo preserves unknown keys.
const FOLLOWED_TAG: &str = "oci-tag";

/// Key of the target that the user selected, in the details of a package.
const SELECTED_TARGET: &str = "oci-target";

/// Record of an installed package.
#[derive(Clone, Debug)]
pub(crate) struct InstallRecord {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Source of the package, as [`source_of`] returns it.
    pub(crate) source: String,
    pub(crate) programs: BTreeSet<String>,
    pub(crate) version_req: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) profile: Option<String>,
    /// Tag that is not a version, from which the package was installed.
    pub(crate) followed_tag: Option<String>,
    /// Target that the user selected.
    pub(crate) selected_target: Option<String>,
}

impl InstallRecord {
    pub(crate) fn key(&self) -> String {
        format!("{} {} ({})", self.name, self.version, self.source)
    }

    /// Whether the key of a record is the key of any version of this package.
    fn has_package_of(&self, key: &str) -> bool {
        split_key(key).is_some_and(|(name, _, source)| name == self.name && source == self.source)
    }
}

/// Returns the package of a record as cargo shows it: name, version and source.
pub(crate) fn describe_package(key: &str) -> String {
    let Some((name, version, source)) = split_key(key) else {
        return key.to_owned();
    };
    let location = location_of(source).map(|location| location.to_string());
    let source = location.as_deref().unwrap_or(source);
    format!("{name} v{version} ({source})")
}

/// Splits the key of a record into the package name, the version and the source.
fn split_key(key: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = key.split_once(' ')?;
    let (version, source) = rest.split_once(' ')?;
    Some((name, version, source.strip_prefix('(')?.strip_suffix(')')?))
}

/// Whether a source can be one that [`source_of`] returned.
fn is_oci_source(source: &str) -> bool {
    source.starts_with("registry+oci://") || source.starts_with("registry+file://")
}

/// Whether a program name is a single normal path component without control characters, so that it names a file in
/// `bin` and can be printed.
fn is_plain_file_name(program: &str) -> bool {
    let mut components = Path::new(program).components();
    let first = components.next();
    let is_component = matches!(first, Some(Component::Normal(name)) if name == program);
    is_component && components.next().is_none() && !program.contains(char::is_control)
}

/// Package that this program installed.
#[derive(Clone, Debug)]
pub(crate) struct InstalledPackage {
    /// Key of the record.
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// Source of the package, as [`source_of`] returns it.
    pub(crate) source: String,
    /// Repository, layout or archive that the package was installed from.
    pub(crate) location: Location,
    pub(crate) programs: BTreeSet<String>,
    pub(crate) version_req: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) followed_tag: Option<String>,
    pub(crate) selected_target: Option<String>,
}

/// Record file with an exclusive lock.
///
/// The lock is released when the value is dropped.
#[derive(Debug)]
struct RecordFile {
    path: PathBuf,
    file: File,
    text: String,
}

impl RecordFile {
    /// Locks and reads a file. Creates it if it does not exist. Calls `waiting` before waiting for another process that
    /// holds the lock.
    fn open(path: PathBuf, waiting: impl FnOnce(&Path)) -> Result<Self, Error> {
        let context = || OpenSnafu { path: path.clone() };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = open_regular_with(&mut options, &path).with_context(|_| context())?;
        match file.try_lock() {
            // Like cargo, continues without a lock if the file system does not support locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                waiting(&path);
                file.lock().with_context(|_| context())?;
            }
        }
        let text = io::read_to_string(&file).with_context(|_| context())?;
        Ok(Self { path, file, text })
    }

    /// Changes the content of the file, if it differs.
    ///
    /// The file must not be replaced with a new one: cargo waits for the lock of the file that it opened, and then
    /// reads and writes this file.
    fn write(&mut self, text: String) -> Result<(), Error> {
        if self.text == text {
            return Ok(());
        }
        let mut write = || {
            self.file.rewind()?;
            self.file.write_all(text.as_bytes())?;
            let length = self.file.stream_position()?;
            self.file.set_len(length)?;
            self.file.sync_all()
        };
        write().context(WriteSnafu { path: &self.path })?;
        self.text = text;
        Ok(())
    }
}

/// Locked records of an installation root.
#[derive(Debug)]
pub(crate) struct InstalledPackages {
    root: PathBuf,
    records_file: RecordFile,
    details_file: RecordFile,
    records: Records,
    details: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Records {
    #[serde(default)]
    v1: BTreeMap<String, BTreeSet<String>>,
    /// Unknown keys, which later cargo versions may write. They are preserved.
    #[serde(flatten)]
    other: BTreeMap<String, toml::Value>,
}

impl InstalledPackages {
    /// Locks and reads the records of an installation root. Creates the root if it does not exist. Calls `waiting`
    /// before waiting for another process that holds the lock.
    pub(crate) async fn open(
        root: PathBuf,
        waiting: impl FnOnce(&Path) + Send + 'static,
    ) -> Result<Self, super::Error> {
        let opened = tokio::task::spawn_blocking(move || Self::lock(root, waiting)).await;
        Ok(opened.expect("reading records does not panic and is not aborted")?)
    }

    fn lock(root: PathBuf, waiting: impl FnOnce(&Path)) -> Result<Self, Error> {
        let path = root.join(RECORDS);
        fs::create_dir_all(&root).context(OpenSnafu { path: &path })?;
        let mut waiting = Some(waiting);
        let mut waiting = |path: &Path| {
            if let Some(waiting) = waiting.take() {
                waiting(path);
            }
        };
        // Cargo locks both files in this order.
        let records_file = RecordFile::open(path, &mut waiting)?;
        let details_file = RecordFile::open(root.join(DETAILS), &mut waiting)?;
        let (path, text) = (&records_file.path, &records_file.text);
        let records: Records = toml::from_str(text).context(ParseRecordsSnafu { path })?;
        // `remove` deletes the files with these names, so a name must not contain a directory.
        let mut programs = records.v1.values().flatten();
        if let Some(program) = programs.find(|program| !is_plain_file_name(program)) {
            return Err(InvalidProgramNameSnafu { path, program }.build());
        }
        let (path, text) = (&details_file.path, &details_file.text);
        let details = if text.is_empty() {
            Map::new()
        } else {
            serde_json::from_str(text).context(ParseDetailsSnafu { path })?
        };
        Ok(Self {
            root,
            records_file,
            details_file,
            records,
            details,
        })
    }

    /// Returns the installation root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory that contains the programs.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Checks that no program of the record exists, except programs of an earlier version of the package.
    pub(crate) fn check(&self, record: &InstallRecord) -> Result<(), super::Error> {
        for program in &record.programs {
            if self.is_own(program, record) || !self.bin().join(program).exists() {
                continue;
            }
            let owner = match self.owner(program) {
                Some(owner) => format!("belongs to `{owner}`"),
                None => "was not installed by cargo".to_owned(),
            };
            return Err(ProgramExistsSnafu { program, owner }.build().into());
        }
        Ok(())
    }

    /// Whether a program belongs to an earlier version of this package.
    pub(crate) fn is_own(&self, program: &str, record: &InstallRecord) -> bool {
        let owner = self.owner(program);
        owner.is_some_and(|key| record.has_package_of(key))
    }

    fn owner(&self, program: &str) -> Option<&str> {
        let mut records = self.records.v1.iter();
        let (key, _) = records.find(|(_, programs)| programs.contains(program))?;
        Some(key)
    }

    /// Returns the records that share programs with `record`, each with the shared programs.
    pub(crate) fn owners(&self, record: &InstallRecord) -> BTreeMap<String, BTreeSet<String>> {
        let shared = self.records.v1.iter().map(|(key, programs)| {
            let shared = programs.intersection(&record.programs).cloned();
            (key.clone(), shared.collect::<BTreeSet<_>>())
        });
        shared
            .filter(|(_, programs)| !programs.is_empty())
            .collect()
    }

    /// Whether a package of this name is recorded, from any source.
    pub(crate) fn is_recorded(&self, name: &str) -> bool {
        let mut names = self.records.v1.keys().filter_map(|key| split_key(key));
        names.any(|(recorded, ..)| recorded == name)
    }

    /// Returns the packages that this program installed. Packages that cargo installed are omitted.
    pub(crate) fn packages(&self) -> Vec<InstalledPackage> {
        let records = self.records.v1.iter();
        let packages = records.filter_map(|(key, programs)| self.package(key, programs));
        packages.collect()
    }

    fn package(&self, key: &str, programs: &BTreeSet<String>) -> Option<InstalledPackage> {
        let (name, version, source) = split_key(key)?;
        let details = self.details.get("installs")?.get(key)?;
        // Cargo records its registries in directories in the same form, but without the key of the followed tag. It
        // preserves this key if it then builds the package itself, and adds the version of the compiler.
        let is_built = details.get("rustc").is_some_and(|rustc| !rustc.is_null());
        if is_built || details.get(FOLLOWED_TAG).is_none() || !is_oci_source(source) {
            return None;
        }
        let text = |name: &str| match details.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            // A value of another type is invalid, but must not count as missing.
            other => Some(other.to_string()),
        };
        Some(InstalledPackage {
            key: key.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            source: source.to_owned(),
            location: location_of(source)?,
            programs: programs.clone(),
            version_req: text("version_req"),
            target: text("target"),
            followed_tag: text(FOLLOWED_TAG),
            selected_target: text(SELECTED_TARGET),
        })
    }

    /// Records a package after its programs were written. Removes programs of the earlier version that the package no
    /// longer has, and returns them.
    pub(crate) fn record(
        &mut self,
        record: &InstallRecord,
    ) -> Result<BTreeSet<String>, super::Error> {
        let earlier: Vec<_> = self
            .records
            .v1
            .keys()
            .filter(|key| record.has_package_of(key))
            .cloned()
            .collect();
        let mut obsolete = BTreeSet::new();
        for key in earlier {
            obsolete.extend(self.remove_record(&key));
        }
        // If `--force` replaced programs of other packages, the records of these packages must no longer list them.
        let mut empty = Vec::new();
        for (key, programs) in &mut self.records.v1 {
            programs.retain(|program| !record.programs.contains(program));
            if programs.is_empty() {
                empty.push(key.clone());
            }
        }
        for key in &empty {
            self.remove_record(key);
        }
        let key = record.key();
        self.records.v1.insert(key.clone(), record.programs.clone());
        self.installs().insert(
            key,
            json!({
                "version_req": record.version_req,
                "bins": record.programs,
                "features": [],
                "all_features": false,
                "no_default_features": false,
                "profile": record.profile.as_deref().unwrap_or("release"),
                "target": record.target,
                "rustc": null,
                FOLLOWED_TAG: record.followed_tag,
                SELECTED_TARGET: record.selected_target,
            }),
        );
        self.save()?;
        obsolete.retain(|program| !record.programs.contains(program));
        for program in &obsolete {
            self.remove_program(program)?;
        }
        Ok(obsolete)
    }

    /// Removes a package. The programs are removed before the record, so that after an error the record still lists the
    /// remaining programs.
    pub(crate) fn remove(&mut self, key: &str) -> Result<(), super::Error> {
        let programs = self.records.v1.get(key).cloned().unwrap_or_default();
        for program in &programs {
            self.remove_program(program)?;
        }
        self.remove_record(key);
        Ok(self.save()?)
    }

    fn remove_program(&self, program: &str) -> Result<(), Error> {
        let path = self.bin().join(program);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Remove {
                path,
                source: error,
            }),
            _ => Ok(()),
        }
    }

    /// Removes the record of a package, and returns its programs.
    fn remove_record(&mut self, key: &str) -> BTreeSet<String> {
        self.installs().remove(key);
        self.records.v1.remove(key).unwrap_or_default()
    }

    fn installs(&mut self) -> &mut Map<String, Value> {
        let installs = self.details.entry("installs");
        let installs = installs.or_insert_with(|| Value::Object(Map::new()));
        if !installs.is_object() {
            *installs = Value::Object(Map::new());
        }
        installs.as_object_mut().expect("the value is an object")
    }

    fn save(&mut self) -> Result<(), Error> {
        let records = toml::to_string(&self.records).expect("records can be serialized");
        let details = serde_json::to_string(&self.details).expect("JSON can be serialized");
        self.records_file.write(records)?;
        self.details_file.write(details)
    }
}

#[cfg(test)]
mod tests;
