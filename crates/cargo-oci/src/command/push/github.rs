//! Report of a push for GitHub Actions: step outputs, a table in the step summary, and a list of artifacts.
//!
//! Each part is appended to the file that an environment variable names, if the variable is set. Later steps read the
//! outputs `reference`, `digest` and `index-digest`, which have one line per package, and `targets`, a JSON array.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use oci_registry::{Environment, Location, open_output};

use super::outcome::PublishedPackage;
use crate::figures::Size;
use crate::report::Error;

/// Hint for an error that occurs while the report of a successful push is written.
const HELP: &str = "run the step again to complete its outputs; the push succeeded";

/// Writes the outputs, the summary and the list of artifacts.
pub(super) fn write_report(
    environment: &Environment,
    published: &[PublishedPackage],
) -> Result<(), Error> {
    if published.is_empty() {
        return Ok(());
    }
    append_to_file(
        environment,
        "GITHUB_OUTPUT",
        &format_outputs(published, &random_delimiter()?)?,
    )?;
    append_to_file(
        environment,
        "GITHUB_STEP_SUMMARY",
        &format_summary(published),
    )?;
    append_to_file(
        environment,
        "GITHUB_ARTIFACTS",
        &format_artifacts(published)?,
    )
}

/// Appends text to the file that a variable names, if the variable is set.
fn append_to_file(environment: &Environment, variable: &str, text: &str) -> Result<(), Error> {
    let Some(path) = environment.var(variable).filter(|_| !text.is_empty()) else {
        return Ok(());
    };
    let path: PathBuf = environment.resolve(path);
    open_output(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            let path = path.display();
            Error::new(
                oci_registry::ErrorKind::Io,
                format!("failed to write `{path}` (the value of `{variable}`): {error}"),
            )
            .help(HELP)
        })
}

/// Returns a line that marks the end of a multi-line output. The line is random, so that no value contains it.
fn random_delimiter() -> Result<String, Error> {
    let random = || getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()));
    match random().and_then(|high| Ok((high, random()?))) {
        Ok((high, low)) => Ok(format!("end-{high:016x}{low:016x}")),
        Err(error) => Err(Error::from_io("failed to read random bytes", error).help(HELP)),
    }
}

/// Formats the step outputs. The delimiter ends each output that has several lines.
fn format_outputs(published: &[PublishedPackage], delimiter: &str) -> Result<String, Error> {
    let [mut references, mut digests, mut indexes] = [const { Vec::new() }; 3];
    let mut targets = Vec::new();
    for package in published {
        if let Some(first) = package.names()?.first() {
            references.push(first.reference.to_string());
            digests.push(first.digest.to_string());
            let index = package.index_digest().map(ToString::to_string);
            indexes.push(index.unwrap_or_default());
        }
        targets.extend(package.finished_targets()?);
    }
    let targets = serde_json::to_string(&targets).expect("strings always serialize");
    let mut text = String::new();
    for (name, value) in [
        ("reference", references.join("\n")),
        ("digest", digests.join("\n")),
        ("index-digest", indexes.join("\n")),
        ("targets", targets),
    ] {
        let _ = if value.contains('\n') {
            writeln!(text, "{name}<<{delimiter}\n{value}\n{delimiter}")
        } else {
            writeln!(text, "{name}={value}")
        };
    }
    Ok(text)
}

/// Formats the summary: a Markdown table, and the commands that install the packages.
fn format_summary(published: &[PublishedPackage]) -> String {
    let mut text =
        "| package | target | reference | size | digest |\n| --- | --- | --- | ---: | --- |\n"
            .to_owned();
    let mut commands = Vec::new();
    for package in published {
        let names = package.tags.iter();
        let names = names.map(|tag| package.location.with(tag.tag.index().clone()).to_string());
        let names: Vec<_> = names.collect();
        for target in &package.targets {
            let cells = [
                format!("{} {}", package.package, package.version),
                target.target.clone(),
                names
                    .iter()
                    .map(|name| format_code(name))
                    .collect::<Vec<_>>()
                    .join(", "),
                Size(target.size).to_string(),
                format_code(target.digest.as_str()),
            ];
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        let has_programs = package.targets.iter().any(|target| target.has_programs);
        if has_programs && matches!(package.location, Location::Registry(_)) {
            commands.extend(
                names
                    .first()
                    .map(|name| format!("cargo oci install {name}\n")),
            );
        }
    }
    if !commands.is_empty() {
        let _ = write!(text, "\n```sh\n{}```\n", commands.concat());
    }
    text.push('\n');
    text
}

/// Formats text as Markdown code in a table cell. Characters that would end the code or the cell are replaced.
fn format_code(text: &str) -> String {
    format!(
        "`{}`",
        text.replace('`', "'")
            .replace('|', "\\|")
            .replace(['\r', '\n'], " ")
    )
}

/// Formats the list of artifacts, one line for each artifact in a registry.
///
/// Artifacts in a directory are omitted, because later jobs cannot access them. References that contain `=` are
/// omitted, because the runner rejects them.
fn format_artifacts(published: &[PublishedPackage]) -> Result<String, Error> {
    let mut text = String::new();
    let in_registries = published
        .iter()
        .filter(|package| matches!(package.location, Location::Registry(_)));
    for package in in_registries {
        let targets = package.finished_targets()?.into_iter();
        for target in targets.filter(|target| !target.reference.contains('=')) {
            let _ = writeln!(text, "oci://{}", target.reference);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use oci_package::ReleaseTag;
    use oci_registry::{Digest, Index, Manifest};

    use super::super::outcome::{PackageTag, PublishedTarget};
    use super::*;

    fn index() -> Manifest {
        Manifest::from_index(Index::new(None, vec![])).expect("an index")
    }

    fn published_package(location: Location, target: &str, has_index: bool) -> PublishedPackage {
        PublishedPackage {
            package: "widgets".into(),
            version: "1.2.3".into(),
            location,
            has_declared_targets: false,
            tags: vec![PackageTag {
                tag: ReleaseTag::parse("1.2.3").expect("a tag"),
                index: has_index.then(index),
                missing: Vec::new(),
            }],
            targets: vec![PublishedTarget {
                target: target.into(),
                digest: Digest::sha256(target.as_bytes()),
                size: 1536,
                has_programs: true,
            }],
            is_unchanged: false,
        }
    }

    fn widgets() -> Location {
        Location::Registry("a.b/widgets".parse().expect("a reference"))
    }

    #[test]
    fn outputs_have_one_line_per_package() {
        let one = published_package(widgets(), "x-y-z", true);
        let (digest, index) = (Digest::sha256(b"x-y-z"), index().digest().clone());
        let target = |target: &str, digest: &Digest| {
            format!(
                r#"{{"package":"widgets","target":"{target}","reference":"a.b/widgets:1.2.3__{target}@{digest}","digest":"{digest}"}}"#
            )
        };
        let own = target("x-y-z", &digest);
        let outputs = |packages: &[_]| format_outputs(packages, "end").expect("valid tags");
        assert_eq!(
            outputs(std::slice::from_ref(&one)),
            format!(
                "reference=a.b/widgets:1.2.3@{index}\ndigest={index}\nindex-digest={index}\ntargets=[{own}]\n"
            )
        );
        let two = [one, published_package(widgets(), "o-p-q", false)];
        let other = Digest::sha256(b"o-p-q");
        let second = target("o-p-q", &other);
        assert_eq!(
            outputs(&two),
            format!(
                "reference<<end\na.b/widgets:1.2.3@{index}\na.b/widgets:1.2.3__o-p-q@{other}\nend\n\
                 digest<<end\n{index}\n{other}\nend\n\
                 index-digest<<end\n{index}\n\nend\n\
                 targets=[{own},{second}]\n"
            )
        );
    }

    #[test]
    fn github_output_delimiter_is_random() {
        let (first, second) = (
            random_delimiter().expect("random"),
            random_delimiter().expect("random"),
        );
        assert_eq!(first.len(), second.len());
        assert_ne!(first, second);
    }

    #[test]
    fn layout_is_in_summary_but_not_in_artifact_list() {
        let both = [
            published_package(widgets(), "x-y-z", true),
            published_package(Location::layout("out|x"), "x-y-z", true),
        ];
        let digest = Digest::sha256(b"x-y-z");
        assert_eq!(
            format_summary(&both),
            format!(
                "| package | target | reference | size | digest |\n| --- | --- | --- | ---: | --- |\n\
                 | widgets 1.2.3 | x-y-z | `a.b/widgets:1.2.3` | 1.5 KiB | `{digest}` |\n\
                 | widgets 1.2.3 | x-y-z | `oci:out\\|x:1.2.3` | 1.5 KiB | `{digest}` |\n\n\
                 ```sh\ncargo oci install a.b/widgets:1.2.3\n```\n\n"
            )
        );
        assert_eq!(
            format_artifacts(&both).expect("valid tags"),
            format!("oci://a.b/widgets:1.2.3__x-y-z@{digest}\n")
        );
    }
}
