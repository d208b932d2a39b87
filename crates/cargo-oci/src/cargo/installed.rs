//! Which programs are installed, in cargo's own records: `.crates.toml` and `.crates2.json` of an installation root.
//!
//! Owns the root, the records, and the lock on them, which is cargo's: whoever holds it may change what is in `bin`. What
//! stands here shows in `cargo install --list` and goes with `cargo uninstall`. A record is written beside the file and
//! then renamed, so that it is whole at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use oci_registry::{Location, open_regular, open_regular_with};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use snafu::{OptionExt, ResultExt, Snafu};
use url::Url;

use super::{Environment, ErrorClass, Fault};

/// The records of which program is whose.
const RECORDS: &str = ".crates.toml";

/// The records of how each was made.
const DETAILS: &str = ".crates2.json";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to find the directory of cargo: there is no home directory"))]
    Homeless,
    #[snafu(display("failed to read `install.root` of `{}`", path.display()))]
    ReadConfig {
        path: PathBuf,
        source: toml::de::Error,
    },
    #[snafu(display("failed to open the records of what is installed, `{}`", path.display()))]
    Open { path: PathBuf, source: io::Error },
    #[snafu(display("failed to read the records of what is installed, `{}`", path.display()))]
    ParseRecords {
        path: PathBuf,
        source: toml::de::Error,
    },
    #[snafu(display("failed to read the records of what is installed, `{}`", path.display()))]
    ParseDetails {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[snafu(display("refused the records of what is installed, `{}`: `{}` is not the name of a program", path.display(), program.escape_debug()))]
    Foreign { path: PathBuf, program: String },
    #[snafu(display("failed to write the records of what is installed, `{}`", path.display()))]
    Write { path: PathBuf, source: io::Error },
    #[snafu(display("failed to remove `{}`", path.display()))]
    Remove { path: PathBuf, source: io::Error },
    #[snafu(display("failed to install `{program}`: it is there, and {owner}"))]
    Occupied { program: String, owner: String },
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::ReadConfig { .. } | Self::Homeless => ErrorClass::Usage,
            Self::Occupied { .. } => ErrorClass::Conflict,
            _ => ErrorClass::Io,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Homeless => Some("name a directory with `--root`".to_owned()),
            Self::Occupied { .. } => {
                Some("pass `--force` to replace it, or choose another `--root`".to_owned())
            }
            Self::Foreign { .. } => Some(
                "remove the line from the file, or name another directory with `--root`".to_owned(),
            ),
            Self::Open { .. } => Some("name another directory with `--root`".to_owned()),
            _ => None,
        }
    }
}

/// Where programs are installed: the flag, `CARGO_INSTALL_ROOT`, `install.root` of cargo's configuration, cargo's home.
pub(crate) fn install_root(
    environment: &Environment,
    flag: Option<&Path>,
) -> Result<PathBuf, super::Error> {
    let named = flag.or_else(|| environment.variable("CARGO_INSTALL_ROOT").map(Path::new));
    if let Some(root) = named {
        return Ok(environment.directory.join(root));
    }
    let home = cargo_home(environment);
    for file in cargo_config2::Walk::with_cargo_home(&environment.directory, home.clone()) {
        if let Some(root) = configured_root(&file)? {
            return Ok(root);
        }
    }
    Ok(home.context(HomelessSnafu)?)
}

/// Cargo's home: `CARGO_HOME`, else `~/.cargo`.
pub(crate) fn cargo_home(environment: &Environment) -> Option<PathBuf> {
    if let Some(home) = environment.variable("CARGO_HOME") {
        return Some(environment.directory.join(home));
    }
    let home = environment.variable("HOME");
    let home = home.or_else(|| environment.variable("USERPROFILE"))?;
    Some(Path::new(home).join(".cargo"))
}

#[derive(Deserialize)]
struct Config {
    install: Option<InstallTable>,
}

#[derive(Deserialize)]
struct InstallTable {
    root: Option<PathBuf>,
}

/// `install.root` of a configuration file, from the directory in which `.cargo` is.
fn configured_root(path: &Path) -> Result<Option<PathBuf>, Error> {
    let Ok(text) = open_regular(path).and_then(io::read_to_string) else {
        return Ok(None);
    };
    let config: Config = toml::from_str(&text).context(ReadConfigSnafu { path })?;
    let root = config.install.and_then(|install| install.root);
    let base = path.parent().and_then(Path::parent);
    Ok(root.map(|root| base.unwrap_or(Path::new("")).join(root)))
}

/// How cargo names the place that a package came from.
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
    // Cargo reads no sources of another kind.
    Some(format!("registry+{}", url.ok()?))
}

/// What is to be recorded of a package.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) version: String,
    /// As [`source_of`] says it.
    pub(crate) source: String,
    pub(crate) programs: BTreeSet<String>,
    pub(crate) version_req: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) profile: Option<String>,
}

impl Record {
    fn key(&self) -> String {
        format!("{} {} ({})", self.name, self.version, self.source)
    }
}

/// The name and the source of a record, from its key.
fn parts(key: &str) -> Option<(&str, &str)> {
    let (name, rest) = key.split_once(' ')?;
    let (_, source) = rest.split_once(' ')?;
    Some((name, source.strip_prefix('(')?.strip_suffix(')')?))
}

/// Whether a name of a program is a single name in a directory.
fn is_plain(program: &str) -> bool {
    let mut words = Path::new(program).components();
    let first = words.next();
    matches!(first, Some(Component::Normal(word)) if word == program) && words.next().is_none()
}

/// A package that is installed.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// How its record is called.
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) programs: BTreeSet<String>,
}

/// What is installed in a root. Nobody else changes it while this is there.
#[derive(Debug)]
pub(crate) struct Installed {
    root: PathBuf,
    _lock: File,
    records: Records,
    details: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Records {
    #[serde(default)]
    v1: BTreeMap<String, BTreeSet<String>>,
    /// What a later cargo may write.
    #[serde(flatten)]
    other: BTreeMap<String, toml::Value>,
}

impl Installed {
    /// Reads what is installed in a root, which is made when it is not there; waits for others who change it, and says so.
    pub(crate) async fn open(
        root: PathBuf,
        waiting: impl FnOnce(&Path) + Send + 'static,
    ) -> Result<Self, super::Error> {
        let opened = tokio::task::spawn_blocking(move || Self::lock(root, waiting)).await;
        Ok(opened.expect("reading records does not panic and is not aborted")?)
    }

    fn lock(root: PathBuf, waiting: impl FnOnce(&Path)) -> Result<Self, Error> {
        let path = root.join(RECORDS);
        let context = || OpenSnafu { path: path.clone() };
        fs::create_dir_all(&root).with_context(|_| context())?;
        let mut waiting = Some(waiting);
        let (lock, text) = loop {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true);
            let file = open_regular_with(&mut options, &path).with_context(|_| context())?;
            match file.try_lock() {
                // As cargo does where a file system knows no locks.
                Ok(()) | Err(TryLockError::Error(_)) => {}
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting(&path);
                    }
                    file.lock().with_context(|_| context())?;
                }
            }
            let text = io::read_to_string(&file).with_context(|_| context())?;
            // Whoever held the lock before may have put another file in this one's place.
            let now = open_regular(&path).and_then(io::read_to_string);
            if now.is_ok_and(|now| now == text) {
                break (file, text);
            }
        };
        let records: Records = toml::from_str(&text).context(ParseRecordsSnafu { path: &path })?;
        // Programs are removed by these names, and only in `bin`.
        let mut programs = records.v1.values().flatten();
        if let Some(program) = programs.find(|program| !is_plain(program)) {
            return Err(ForeignSnafu { path, program }.build());
        }
        let details_path = root.join(DETAILS);
        let details = match open_regular(&details_path).and_then(io::read_to_string) {
            Ok(text) if !text.is_empty() => {
                serde_json::from_str(&text).context(ParseDetailsSnafu { path: details_path })?
            }
            Ok(_) => Map::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(source) => {
                return Err(Error::Open {
                    path: details_path,
                    source,
                });
            }
        };
        Ok(Self {
            root,
            _lock: lock,
            records,
            details,
        })
    }

    /// Where the programs are.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Refuses programs that are there and belong to nobody, or to another package than this one.
    pub(crate) fn check(&self, record: &Record) -> Result<(), super::Error> {
        for program in &record.programs {
            if self.is_own(program, record) || !self.bin().join(program).exists() {
                continue;
            }
            let owner = match self.owner(program) {
                Some(owner) => format!("belongs to `{owner}`"),
                None => "belongs to no package that cargo knows of".to_owned(),
            };
            return Err(OccupiedSnafu { program, owner }.build().into());
        }
        Ok(())
    }

    /// Whether a program belongs to an earlier version of this package.
    pub(crate) fn is_own(&self, program: &str, record: &Record) -> bool {
        let owner = self.owner(program).and_then(parts);
        owner == Some((&record.name, &record.source))
    }

    fn owner(&self, program: &str) -> Option<&str> {
        let mut records = self.records.v1.iter();
        let (key, _) = records.find(|(_, programs)| programs.contains(program))?;
        Some(key)
    }

    /// What came from this source.
    pub(crate) fn of_source(&self, source: &str) -> Vec<Package> {
        let packages = self.records.v1.iter().filter_map(|(key, programs)| {
            let (name, its) = parts(key)?;
            let version = key.split(' ').nth(1)?;
            (its == source).then(|| Package {
                key: key.clone(),
                name: name.to_owned(),
                version: version.to_owned(),
                programs: programs.clone(),
            })
        });
        packages.collect()
    }

    /// The packages that came from registries and directories of ours: the name of each, and where it came from as a
    /// person would write it.
    pub(crate) fn of_repositories(&self) -> Vec<(String, String)> {
        let packages = self.records.v1.keys().filter_map(|key| {
            let (name, source) = parts(key)?;
            let place = source.strip_prefix("registry+")?;
            if let Some(repository) = place.strip_prefix("oci://") {
                return Some((name.to_owned(), repository.to_owned()));
            }
            let path = Url::parse(place).ok()?.to_file_path().ok()?;
            let kind = if path.is_file() { "oci-archive" } else { "oci" };
            Some((name.to_owned(), format!("{kind}:{}", path.display())))
        });
        packages.collect()
    }

    /// Records a package whose programs are in their places, and removes those of its earlier version that it has no more.
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), super::Error> {
        let earlier: Vec<_> = self
            .records
            .v1
            .keys()
            .filter(|key| parts(key) == Some((&record.name, &record.source)))
            .cloned()
            .collect();
        let mut left = BTreeSet::new();
        for key in earlier {
            left.extend(self.take(&key));
        }
        // What was taken from others with `--force` is theirs no more.
        let mut empty = Vec::new();
        for (key, programs) in &mut self.records.v1 {
            programs.retain(|program| !record.programs.contains(program));
            if programs.is_empty() {
                empty.push(key.clone());
            }
        }
        for key in &empty {
            self.take(key);
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
            }),
        );
        self.save()?;
        for program in left.difference(&record.programs) {
            self.remove_program(program)?;
        }
        Ok(())
    }

    /// Removes a package: its programs first, so that what is left after a failure is still recorded.
    pub(crate) fn remove(&mut self, key: &str) -> Result<(), super::Error> {
        let programs = self.records.v1.get(key).cloned().unwrap_or_default();
        for program in &programs {
            self.remove_program(program)?;
        }
        self.take(key);
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

    /// Takes a package out of the records, and says which programs it had.
    fn take(&mut self, key: &str) -> BTreeSet<String> {
        self.installs().remove(key);
        self.records.v1.remove(key).unwrap_or_default()
    }

    fn installs(&mut self) -> &mut Map<String, Value> {
        let installs = self.details.entry("installs");
        let installs = installs.or_insert_with(|| Value::Object(Map::new()));
        if !installs.is_object() {
            *installs = Value::Object(Map::new());
        }
        installs.as_object_mut().expect("it was just made one")
    }

    fn save(&self) -> Result<(), Error> {
        let records = toml::to_string(&self.records).expect("records are a table of lists");
        let details = serde_json::to_string(&self.details).expect("JSON can be written");
        for (name, text) in [(RECORDS, records), (DETAILS, details)] {
            let path = self.root.join(name);
            let replace = || {
                let mut builder = tempfile::Builder::new();
                // For whoever may read what cargo writes; the user's umask takes its part.
                #[cfg(unix)]
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
                let mut staged = builder.tempfile_in(&self.root)?;
                staged.write_all(text.as_bytes())?;
                staged.as_file().sync_all()?;
                let mode = fs::metadata(&path).map(|metadata| metadata.permissions());
                if let Ok(mode) = mode {
                    staged.as_file().set_permissions(mode)?;
                }
                staged.persist(&path).map_err(|error| error.error)
            };
            replace().map(drop).context(WriteSnafu { path: &path })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::scratch::{Scratch, story},
        *,
    };

    fn record(version: &str, programs: &[&str]) -> Record {
        Record {
            name: "widgets".into(),
            version: version.into(),
            source: "registry+oci://a.b/widgets".into(),
            programs: programs.iter().map(|&program| program.to_owned()).collect(),
            version_req: None,
            target: Some("x-y-z".into()),
            profile: None,
        }
    }

    async fn open(scratch: &Scratch) -> Installed {
        let installed = Installed::open(scratch.path().join("root"), |_| ());
        installed.await.unwrap()
    }

    #[tokio::test]
    async fn record_of_a_program_outside_of_bin_is_refused() {
        for program in ["../mine", "/mine", "a/b", "..", ".", "", "a/"] {
            let scratch = Scratch::new();
            let text = format!("[v1]\n\"a 1.0.0 (registry+oci://a.b/c)\" = [\"{program}\"]\n");
            scratch.write("root/.crates.toml", &text);
            let refused = Installed::open(scratch.path().join("root"), |_| ()).await;
            let refused = story(&refused.unwrap_err());
            assert!(
                refused.contains("is not the name of a program"),
                "{program}: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_version_takes_the_place_of_the_one_before() {
        let scratch = Scratch::new();
        let foreign = "[v1]\n\"else 1.0.0 (path+file:///x)\" = [\"else\", \"mine\"]\n";
        scratch.write("root/.crates.toml", foreign);
        for program in ["old", "both", "mine", "else", "nobody"] {
            scratch.write(&format!("root/bin/{program}"), "");
        }
        open(&scratch)
            .await
            .record(&record("1.0.0", &["old", "both"]))
            .unwrap();
        let mut installed = open(&scratch).await;
        let next = record("1.1.0", &["both", "new"]);
        installed.check(&next).unwrap();
        installed.record(&next).unwrap();
        drop(installed);
        let text = fs::read_to_string(scratch.path().join("root/.crates.toml")).unwrap();
        assert_eq!(
            text,
            format!(
                "{foreign}\"widgets 1.1.0 (registry+oci://a.b/widgets)\" = [\"both\", \"new\"]\n"
            )
        );
        assert!(!scratch.path().join("root/bin/old").exists());

        let mut installed = open(&scratch).await;
        for (program, owner) in [
            ("mine", "belongs to `else 1.0.0 (path+file:///x)`"),
            ("nobody", "belongs to no package that cargo knows of"),
        ] {
            let error = installed.check(&record("1.2.0", &[program])).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Conflict);
            assert!(story(&error).contains(owner), "{}", story(&error));
        }
        installed.record(&record("1.2.0", &["mine"])).unwrap();
        assert_eq!(
            installed.owner("mine"),
            Some("widgets 1.2.0 (registry+oci://a.b/widgets)")
        );
        assert_eq!(installed.owner("else"), Some("else 1.0.0 (path+file:///x)"));
        let found = installed.of_source("registry+oci://a.b/widgets");
        assert_eq!(found.len(), 1);
        installed.remove(&found[0].key).unwrap();
        assert!(!scratch.path().join("root/bin/mine").exists());
        let details = fs::read_to_string(scratch.path().join("root/.crates2.json")).unwrap();
        assert_eq!(details, r#"{"installs":{}}"#);
        // Whoever may read a file of this user may read it.
        let root = scratch.path().join("root");
        fs::write(root.join("plain"), "").unwrap();
        let permissions = |name: &str| fs::metadata(root.join(name)).unwrap().permissions();
        assert_eq!(permissions(DETAILS), permissions("plain"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn records_that_are_a_fifo_are_refused() {
        for name in [RECORDS, DETAILS] {
            let scratch = Scratch::new();
            let path = scratch.path().join("root").join(name);
            fs::create_dir(scratch.path().join("root")).unwrap();
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
            let opened = Installed::open(scratch.path().join("root"), |_| ()).await;
            let error = opened.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Io);
            assert!(story(&error).contains(name), "{}", story(&error));
        }
    }

    #[tokio::test]
    async fn one_at_a_time_and_the_next_sees_what_the_one_before_did() {
        let scratch = Scratch::new();
        let mut first = open(&scratch).await;
        let root = scratch.path().join("root");
        let (told, waits) = tokio::sync::oneshot::channel();
        let second = tokio::spawn(Installed::open(root, |_| told.send(()).unwrap()));
        waits.await.unwrap();
        first.record(&record("1.0.0", &["one"])).unwrap();
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert!(second.owner("one").is_some());
    }

    #[test]
    fn the_root_is_where_cargo_would_have_it() {
        let scratch = Scratch::new();
        let mut environment = scratch.environment();
        environment
            .variables
            .remove(std::ffi::OsStr::new("CARGO_HOME"));
        environment
            .variables
            .insert("HOME".into(), "/home/me".into());
        let root = |environment: &Environment, flag: Option<&str>| {
            install_root(environment, flag.map(Path::new)).unwrap()
        };
        let here = scratch.path();
        assert_eq!(root(&environment, None), Path::new("/home/me/.cargo"));
        environment
            .variables
            .insert("CARGO_HOME".into(), "own".into());
        assert_eq!(root(&environment, None), here.join("own"));
        scratch.write(".cargo/config.toml", "[install]\nroot = \"tools\"\n");
        assert_eq!(root(&environment, None), here.join("tools"));
        environment
            .variables
            .insert("CARGO_INSTALL_ROOT".into(), "/opt".into());
        assert_eq!(root(&environment, None), Path::new("/opt"));
        assert_eq!(root(&environment, Some("flag")), here.join("flag"));
        scratch.write(".cargo/config.toml", "install = 1");
        environment
            .variables
            .remove(std::ffi::OsStr::new("CARGO_INSTALL_ROOT"));
        let error = install_root(&environment, None).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
    }

    #[test]
    fn a_source_is_a_url_that_cargo_reads() {
        let here = Path::new("/here");
        let reference = "127.0.0.1:5000/acme/widgets:1.2.3".parse().unwrap();
        assert_eq!(
            source_of(&Location::Registry(reference), here).as_deref(),
            Some("registry+oci://127.0.0.1:5000/acme/widgets")
        );
        assert_eq!(
            source_of(&Location::layout("out/my widgets"), here).as_deref(),
            Some("registry+file:///here/out/my%20widgets")
        );
    }
}
