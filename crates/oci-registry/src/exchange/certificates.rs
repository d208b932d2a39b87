//! Certificate directories of container tools, one per registry (docker, "Use certificates"; containers-certs.d(5)).
//!
//! In `certs.d/HOST[:PORT]`, each `*.crt` file is a CA certificate that is trusted for this registry. A `*.cert` file
//! is a client certificate, and the `*.key` file with the same stem is its key. As in podman, only the first directory
//! that exists for a registry is used. Within it, the first client certificate in the order of file names is used.

use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use snafu::{ResultExt, Snafu, ensure};

use crate::environment::Environment;
use crate::error::{ErrorKind, Failure, Hint};

/// System-wide directories of podman and docker.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

#[derive(Debug, Snafu)]
pub(crate) enum Error {
    #[snafu(display("failed to search `{}` for certificates", directory.display()))]
    Find {
        directory: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to list the certificates in `{}`", directory.display()))]
    List {
        directory: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("failed to use the certificate `{}`: its key `{key}` is missing", certificate.display()))]
    NoKey { certificate: PathBuf, key: String },
    #[snafu(display("failed to use the key `{}`: its certificate `{certificate}` is missing", key.display()))]
    NoCertificate { key: PathBuf, certificate: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Find { .. } | Self::List { .. } => ErrorKind::Io,
            Self::NoKey { .. } | Self::NoCertificate { .. } => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NoKey { certificate, .. } => vec![
                format!(
                    "if `{}` is a CA certificate, change its extension to `.crt`",
                    certificate.display()
                )
                .into(),
            ],
            _ => Vec::new(),
        }
    }
}

/// Returns the certificate directories of podman and docker. The directories of the user precede the system-wide
/// directories.
pub(crate) fn directories(environment: &Environment) -> Vec<PathBuf> {
    let in_home = |directory: &str| Some(environment.home()?.join(directory));
    let named = |variable: &str| Some(environment.resolve(environment.var(variable)?));
    let podman = named("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let podman = podman.map(|directory| directory.join("containers"));
    let docker = named("DOCKER_CONFIG").or_else(|| in_home(".docker"));
    let user = [podman, docker].into_iter().flatten();
    user.map(|directory| directory.join("certs.d"))
        .chain(SYSTEM_DIRECTORIES.map(PathBuf::from))
        .collect()
}

/// Returns the first certificate directory that exists for a host and port, or `None` if none exists.
///
/// A directory that cannot be accessed is an error, because it may contain required certificates. As in podman, a
/// system-wide directory is skipped if access to it is denied, because some systems restrict it to administrators.
pub(crate) fn find(directories: &[PathBuf], host: &str) -> Result<Option<PathBuf>, Error> {
    // Windows does not allow a colon in file names, so docker omits it there.
    let name = if cfg!(windows) {
        host.replace(':', "")
    } else {
        host.to_owned()
    };
    for directory in directories {
        let path = directory.join(&name);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => return Ok(Some(path)),
            Ok(_) => {}
            Err(error) if is_absent(error.kind()) || is_skipped(directory, error.kind()) => {}
            Err(source) => {
                let directory = directory.clone();
                return Err(Error::Find { directory, source });
            }
        }
    }
    Ok(None)
}

fn is_absent(kind: IoErrorKind) -> bool {
    matches!(kind, IoErrorKind::NotFound | IoErrorKind::NotADirectory)
}

fn is_skipped(directory: &Path, kind: IoErrorKind) -> bool {
    let is_system_directory = SYSTEM_DIRECTORIES
        .iter()
        .any(|own| directory == Path::new(own));
    is_system_directory && kind == IoErrorKind::PermissionDenied
}

/// Files in the certificate directory of a registry.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RegistryCertificates {
    /// Paths of the CA certificates.
    pub(crate) authorities: Vec<PathBuf>,
    /// Paths of the client's certificate chain and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Lists the files in the certificate directory of a registry. The result is empty if the directory does not exist.
pub(crate) fn list(directory: &Path) -> Result<RegistryCertificates, Error> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absent(error.kind()) => return Ok(RegistryCertificates::default()),
        Err(source) => {
            let directory = directory.to_owned();
            return Err(Error::List { directory, source });
        }
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    let names = names.collect::<Result<Vec<_>, _>>();
    let mut names: Vec<String> = names
        .context(ListSnafu { directory })?
        .into_iter()
        .flatten()
        .collect();
    names.sort();
    let mut found = RegistryCertificates::default();
    for name in &names {
        let path = directory.join(name);
        if name.strip_suffix(".crt").is_some() {
            found.authorities.push(path);
        } else if let Some(stem) = name.strip_suffix(".cert") {
            let key = format!("{stem}.key");
            let certificate = path.clone();
            ensure!(names.contains(&key), NoKeySnafu { certificate, key });
            let pair = (path, directory.join(key));
            found.identity.get_or_insert(pair);
        } else if let Some(stem) = name.strip_suffix(".key") {
            let certificate = format!("{stem}.cert");
            let has_certificate = names.contains(&certificate);
            ensure!(
                has_certificate,
                NoCertificateSnafu {
                    key: path,
                    certificate
                }
            );
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    #[test]
    fn user_directories_precede_system_directories() {
        let directories_for = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let environment = Environment::new(variables, Some("/home/me".into()), "/there".into());
            let directories = directories(&environment).into_iter();
            directories
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        let machine = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
        assert_eq!(
            directories_for(&[]),
            [
                &[
                    "/home/me/.config/containers/certs.d",
                    "/home/me/.docker/certs.d"
                ][..],
                &machine
            ]
            .concat()
        );
        assert_eq!(
            directories_for(&[("XDG_CONFIG_HOME", "/x"), ("DOCKER_CONFIG", "d")]),
            [&["/x/containers/certs.d", "/there/d/certs.d"][..], &machine].concat()
        );
        assert_eq!(
            super::directories(&Environment::default()),
            machine.map(PathBuf::from)
        );
    }

    #[test]
    fn only_first_directory_of_registry_is_used() {
        let home = tempfile::tempdir().unwrap();
        let directories = ["absent", "a", "b"].map(|name| home.path().join(name));
        write(&directories[1].join("a.b/ca.crt"));
        write(&directories[2].join("a.b/ca.crt"));
        write(&directories[2].join("a.b:5000/ca.crt"));
        write(&directories[1].join("c.d"));
        let found = |name: &str| find(&directories, name).unwrap();
        assert_eq!(found("a.b"), Some(directories[1].join("a.b")));
        if cfg!(unix) {
            assert_eq!(found("a.b:5000"), Some(directories[2].join("a.b:5000")));
        }
        assert_eq!(found("a.b:443"), None);
        // A regular file of this name is not a certificate directory.
        assert_eq!(found("c.d"), None);
    }

    #[test]
    fn certificate_directory_lists_authorities_and_client_pair() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        for name in [
            "z.crt", "a.crt", "README", "two.cert", "two.key", "one.cert", "one.key",
        ] {
            write(&path(name));
        }
        let expected = RegistryCertificates {
            authorities: vec![path("a.crt"), path("z.crt")],
            identity: Some((path("one.cert"), path("one.key"))),
        };
        assert_eq!(list(home.path()).unwrap(), expected);
        assert_eq!(
            list(&path("absent")).unwrap(),
            RegistryCertificates::default()
        );
    }

    #[test]
    fn unreadable_directory_is_skipped_only_if_system_wide() {
        let (denied, home) = (IoErrorKind::PermissionDenied, tempfile::tempdir().unwrap());
        assert!(!is_absent(denied));
        assert!(is_skipped(Path::new("/etc/docker/certs.d"), denied));
        assert!(!is_skipped(home.path(), denied));
        let other = IoErrorKind::Other;
        assert!(!is_skipped(Path::new("/etc/docker/certs.d"), other));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let closed = home.path().join("certs.d");
            write(&closed.join("a.b/ca.crt"));
            let set = |path: &Path, mode| {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            };
            set(&closed.join("a.b"), 0o000);
            let listed = list(&closed.join("a.b"));
            set(&closed, 0o000);
            let found = find(std::slice::from_ref(&closed), "a.b");
            set(&closed, 0o700);
            set(&closed.join("a.b"), 0o700);
            // File permissions do not restrict root.
            if rustix::process::geteuid().is_root() {
                return;
            }
            let shown = closed.display().to_string();
            for error in [listed.unwrap_err(), found.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Io);
                assert!(error.to_string().contains(&shown), "{error}");
            }
        }
    }

    #[test]
    fn client_certificate_without_key_names_both_files() {
        for (there, missing) in [("client.cert", "client.key"), ("client.key", "client.cert")] {
            let home = tempfile::tempdir().unwrap();
            write(&home.path().join(there));
            let error = list(home.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            let path = home.path().join(there).display().to_string();
            assert!(text.contains(&path) && text.contains(missing), "{text}");
            assert_eq!(error.hints().len(), usize::from(there == "client.cert"));
        }
    }
}
