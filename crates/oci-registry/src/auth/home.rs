//! Temporary home directory for tests of credential sources.

use std::path::{Path, PathBuf};

use super::{Credential, CredentialProvider, CredentialRequest, Lookup};
use crate::environment::Environment;

/// `me:canary` in base64.
pub(super) const AUTH: &str = "bWU6Y2FuYXJ5";

/// Home directory with files and environment variables. `~` in a variable is replaced by the path of the directory.
pub(super) struct Home {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    /// Creates an empty home directory. `XDG_RUNTIME_DIR` names a directory in it that does not exist.
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            directory,
            variables: Vec::new(),
        }
        .with("XDG_RUNTIME_DIR", "~/run")
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn with(mut self, variable: &str, value: &str) -> Self {
        let value = value.replace('~', self.path().to_str().unwrap());
        self.variables.push((variable.to_owned(), value));
        self
    }

    pub(super) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Adds a credential helper that runs `script` and appends a line to `ran` on each run.
    #[cfg(unix)]
    pub(super) fn helper(self, name: &str, script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;

        let (bin, ran) = (self.path().join("bin"), self.path().join("ran"));
        std::fs::create_dir_all(&bin).unwrap();
        let program = bin.join(format!("docker-credential-{name}"));
        let script = format!("#!/bin/sh\necho >> '{}'\n{script}", ran.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", bin.display());
        self.with("PATH", &path)
    }

    /// Returns the number of helper runs.
    #[cfg(unix)]
    pub(super) fn helper_runs(&self) -> usize {
        std::fs::read_to_string(self.path().join("ran")).map_or(0, |lines| lines.lines().count())
    }

    pub(super) fn environment(&self) -> Environment {
        let home: PathBuf = self.path().into();
        Environment::new(self.variables.iter().cloned(), Some(home.clone()), home)
    }
}

/// Looks up the credential of a registry, or of one of its repositories.
pub(super) async fn look_up(
    provider: &dyn CredentialProvider,
    name: &str,
) -> crate::Result<Lookup> {
    let (registry, repository) = match name.split_once('/') {
        Some((registry, repository)) => (registry, Some(repository.parse()?)),
        None => (name, None),
    };
    let registry = registry.parse()?;
    let mut request = CredentialRequest::new(&registry);
    if let Some(repository) = &repository {
        request = request.repository(repository);
    }
    provider.credential(&request).await
}

/// Returns the credential that was found, as `USER:PASSWORD`. Credentials of other kinds are returned without their
/// secret.
pub(super) fn pair(lookup: Lookup) -> Option<String> {
    Some(match lookup.found?.0 {
        Credential::Basic { username, password } => format!("{username}:{}", password.expose()),
        other => format!("{other:?}"),
    })
}
