//! Which targets a release consists of, where that is declared: by the flag, by a variable, or in a manifest.

use super::Flags;
use crate::cargo::{Settings, declared_target};
use crate::report::Error;
use crate::session::Session;

/// The variable that declares targets, separated by commas or spaces.
const VARIABLE: &str = "CARGO_OCI_TARGETS";

/// The targets of a release, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) targets: Vec<String>,
    pub(super) place: String,
}

impl Declared {
    /// What is declared for a package.
    pub(super) fn of(
        session: &Session,
        flags: &Flags,
        settings: &Settings,
    ) -> Result<Option<Self>, Error> {
        if !flags.targets_of_release.is_empty() {
            return Self::new(&flags.targets_of_release, "`--targets-of-release`").map(Some);
        }
        if let Some(text) = session.environment.var(VARIABLE) {
            let targets = text.split([',', ' ', '\n']).map(str::trim);
            let targets: Vec<_> = targets.filter(|target| !target.is_empty()).collect();
            return Self::new(&targets, &format!("`{VARIABLE}`")).map(Some);
        }
        Ok(settings.targets.clone().map(|targets| Self {
            targets,
            place: settings.place("targets").unwrap_or_default(),
        }))
    }

    fn new(targets: &[impl AsRef<str>], place: &str) -> Result<Self, Error> {
        let mut declared: Vec<String> = Vec::new();
        for target in targets {
            let target = target.as_ref().trim();
            let Some(name) = declared_target(target) else {
                return Err(Error::usage(format!(
                    "failed to read the targets of the release: {place} holds `{target}`, which is not a target triple"
                ))
                .help("write it as `--target` takes it, such as `x86_64-unknown-linux-gnu`"));
            };
            if !declared.contains(&name) {
                declared.push(name);
            }
        }
        Ok(Self {
            targets: declared,
            place: place.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_counts_once_and_must_be_one() {
        let declared = Declared::new(&["a-b-c", " d-e-f", "a-b-c"], "`--x`");
        let declared = declared.expect("these are triples");
        assert_eq!(declared.targets, ["a-b-c", "d-e-f"]);
        let forms = ["a-linux-gnu.2.17", "a-linux-gnu", "specs/board.json"];
        let declared = Declared::new(&forms, "`--x`").expect("these are targets");
        assert_eq!(declared.targets, ["a-linux-gnu", "board"]);
        assert!(Declared::new(&["linux"], "`--x`").is_err());
        assert!(Declared::new(&["host-tuple"], "`--x`").is_err());
        assert!(Declared::new(&["a-b/c"], "`--x`").is_err());
    }
}
