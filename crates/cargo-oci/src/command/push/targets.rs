//! Targets that a push builds, and the declared targets of a release.

use oci_package::TargetCfg;
use oci_package::platform::{HOST_TUPLE, target_name};

use super::Flags;
use crate::cargo::{PackageSettings, Selection, declared_target};
use crate::report::Error;
use crate::session::Session;

/// Environment variable that declares the targets of a release, separated by commas or spaces.
const VARIABLE: &str = "CARGO_OCI_RELEASE_TARGETS";

/// Former name of the variable.
const OLD_VARIABLE: &str = "CARGO_OCI_TARGETS";

/// Maximum size of a target specification, in bytes.
const MAX_SPECIFICATION: u64 = 1 << 20;

/// Returns the names of the targets that `--target` selects, or the host if the flag is not given.
///
/// # Errors
///
/// Fails if two targets have the same name, because cargo would write both into the same directory.
pub(super) fn target_names(selection: &Selection, host: &str) -> Result<Vec<String>, Error> {
    let mut targets: Vec<(String, &str)> = Vec::new();
    for given in selection.targets() {
        let given = if given == HOST_TUPLE { host } else { given };
        let name = target_name(given, host);
        match targets.iter().find(|(known, _)| *known == name) {
            Some((_, earlier)) if *earlier != given => {
                return Err(Error::usage(format!(
                    "failed to select targets: `{earlier}` and `{given}` are both built as `{name}`"
                ))
                .help("push them separately with different tags"));
            }
            Some(_) => {}
            None => targets.push((name, given)),
        }
    }
    if targets.is_empty() {
        return Ok(vec![host.to_owned()]);
    }
    Ok(targets.into_iter().map(|(name, _)| name).collect())
}

/// Whether the selected targets depend on the host: `--target` is not given, or one value is `host-tuple`.
pub(super) fn needs_host(selection: &Selection) -> bool {
    let targets = selection.targets();
    targets.is_empty() || targets.contains(&HOST_TUPLE)
}

/// Reads the target specification file of a custom target. Returns `None` if no value of `--target` is the file of this
/// target.
pub(super) fn read_cfg(
    session: &Session,
    selection: &Selection,
    name: &str,
) -> Result<Option<TargetCfg>, Error> {
    let targets = selection.targets();
    let is_file = |given: &&&str| given.strip_suffix(".json").is_some();
    let mut files = targets.iter().filter(is_file);
    let Some(file) = files.find(|given| target_name(given, "") == name) else {
        return Ok(None);
    };
    let text = oci_registry::read_regular_text(&session.resolve(file.as_ref()), MAX_SPECIFICATION)
        .map_err(|error| Error::from_io(format!("failed to read `{file}`"), error))?;
    Ok(Some(TargetCfg::parse_specification(&text)?))
}

/// Declared targets of a release, and the flag, variable or setting that declares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredTargets {
    pub(super) targets: Vec<String>,
    pub(super) source: String,
}

impl DeclaredTargets {
    /// Returns the declared targets of a package's releases. They are read from the flag, else from the environment
    /// variable, else from the manifest.
    pub(super) fn from_settings(
        session: &Session,
        flags: &Flags,
        settings: &PackageSettings,
    ) -> Result<Option<Self>, Error> {
        if session.environment.var(OLD_VARIABLE).is_some() {
            return Err(Error::usage(format!(
                "failed to read the targets of the release: the variable `{OLD_VARIABLE}` was renamed to `{VARIABLE}`"
            ))
            .help(format!("unset `{OLD_VARIABLE}`, and set `{VARIABLE}` to the same value")));
        }
        if !flags.release_targets.is_empty() {
            return Self::new(&flags.release_targets, "`--release-targets`").map(Some);
        }
        if let Some(text) = session.environment.var(VARIABLE) {
            let targets = text.split([',', ' ', '\n']).map(str::trim);
            let targets: Vec<_> = targets.filter(|target| !target.is_empty()).collect();
            return Self::new(&targets, &format!("`{VARIABLE}`")).map(Some);
        }
        Ok(settings.release_targets.clone().map(|targets| Self {
            targets,
            source: settings.location("release-targets").unwrap_or_default(),
        }))
    }

    fn new(targets: &[impl AsRef<str>], source: &str) -> Result<Self, Error> {
        let mut declared: Vec<String> = Vec::new();
        for target in targets {
            let target = target.as_ref().trim();
            let Some(name) = declared_target(target) else {
                return Err(Error::usage(format!(
                    "failed to read the targets of the release: {source} contains `{target}`, which is not a target triple"
                ))
                .help("use the syntax of `--target`, such as `x86_64-unknown-linux-gnu`"));
            };
            if !declared.contains(&name) {
                declared.push(name);
            }
        }
        Ok(Self {
            targets: declared,
            source: source.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn parse_names(line: &str) -> Result<Vec<String>, Error> {
        let command = Selection::augment_args(clap::Command::new("push"));
        let matches = command.get_matches_from(line.split(' '));
        let selection = Selection::from_arg_matches(&matches).expect("flags of cargo");
        target_names(&selection, "h-o-st")
    }

    #[test]
    fn targets_are_named_without_duplicates() {
        for (line, expected) in [
            ("push", &["h-o-st"][..]),
            ("push --target host-tuple", &["h-o-st"]),
            ("push --target h-o-st --target host-tuple", &["h-o-st"]),
            (
                "push --target a-linux-gnu.2.17 --target x/board.json",
                &["a-linux-gnu", "board"],
            ),
        ] {
            assert_eq!(parse_names(line).expect(line), expected, "{line}");
        }
    }

    #[test]
    fn targets_with_the_same_name_are_rejected() {
        for line in [
            "push --target a-linux-gnu.2.17 --target a-linux-gnu.2.28",
            "push --target a-linux-gnu --target a-linux-gnu.2.28",
            "push --target x/board.json --target y/board.json",
            "push --target host-tuple --target x/h-o-st.json",
        ] {
            assert!(parse_names(line).is_err(), "{line}");
        }
    }

    #[test]
    fn declared_targets_are_deduplicated_and_validated() {
        let declared = DeclaredTargets::new(&["a-b-c", " d-e-f", "a-b-c"], "`--x`");
        let declared = declared.expect("these are triples");
        assert_eq!(declared.targets, ["a-b-c", "d-e-f"]);
        let forms = ["a-linux-gnu.2.17", "a-linux-gnu", "specs/board.json"];
        let declared = DeclaredTargets::new(&forms, "`--x`").expect("these are targets");
        assert_eq!(declared.targets, ["a-linux-gnu", "board"]);
        assert!(DeclaredTargets::new(&["linux"], "`--x`").is_err());
        assert!(DeclaredTargets::new(&["host-tuple"], "`--x`").is_err());
        assert!(DeclaredTargets::new(&["a-b/c"], "`--x`").is_err());
    }
}
