//! Report of a push for GitHub Actions: step outputs, a table in the step summary, and a list of artifacts.
//!
//! Each part is appended to the file that an environment variable names, if the variable is set. Later steps read the
//! outputs `reference`, `digest` and `index-digest`. One push may publish several packages for several targets. Each
//! output then has one line per package and target, in the same order as the references on stdout.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use oci_registry::{Digest, Environment, Location, Tag, open_output};

use crate::figures::Size;
use crate::report::Error;

/// Hint for an error that occurs while the report of a successful push is written.
const HELP: &str = "run the step again to complete its outputs; the push succeeded";

/// Published artifact of one package for one target.
#[derive(Debug)]
pub(super) struct PublishedTarget {
    pub(super) package: String,
    pub(super) version: String,
    pub(super) target: String,
    pub(super) location: Location,
    pub(super) tags: Vec<Tag>,
    pub(super) digest: Digest,
    pub(super) index: Option<Digest>,
    /// Combined size of the config and the files, in bytes.
    pub(super) size: u64,
}

impl PublishedTarget {
    fn reference(&self) -> String {
        self.location.with(self.digest.clone()).to_string()
    }
}

/// Writes the outputs, the summary and the list of artifacts.
pub(super) fn write_report(
    environment: &Environment,
    published: &[PublishedTarget],
) -> Result<(), Error> {
    if published.is_empty() {
        return Ok(());
    }
    append_to_file(
        environment,
        "GITHUB_OUTPUT",
        &format_outputs(published, &random_delimiter()?),
    )?;
    append_to_file(
        environment,
        "GITHUB_STEP_SUMMARY",
        &format_summary(published),
    )?;
    append_to_file(
        environment,
        "GITHUB_ARTIFACTS",
        &format_artifacts(published),
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
fn format_outputs(published: &[PublishedTarget], delimiter: &str) -> String {
    let lines = |value: &dyn Fn(&PublishedTarget) -> String| {
        let values: Vec<_> = published.iter().map(value).collect();
        values.join("\n")
    };
    let index = |published: &PublishedTarget| {
        let digest = published.index.as_ref().map(ToString::to_string);
        digest.unwrap_or_default()
    };
    let mut text = String::new();
    for (name, value) in [
        ("reference", lines(&PublishedTarget::reference)),
        ("digest", lines(&|published| published.digest.to_string())),
        ("index-digest", lines(&index)),
    ] {
        let _ = if value.contains('\n') {
            writeln!(text, "{name}<<{delimiter}\n{value}\n{delimiter}")
        } else {
            writeln!(text, "{name}={value}")
        };
    }
    text
}

/// Formats the summary as a Markdown table.
fn format_summary(published: &[PublishedTarget]) -> String {
    let mut text =
        "| package | target | reference | size | digest |\n| --- | --- | --- | ---: | --- |\n"
            .to_owned();
    for target in published {
        let cells = [
            format!("{} {}", target.package, target.version),
            target.target.clone(),
            target
                .tags
                .iter()
                .map(|tag| format_code(&target.location.with(tag.clone()).to_string()))
                .collect::<Vec<_>>()
                .join(", "),
            Size(target.size).to_string(),
            format_code(target.digest.as_str()),
        ];
        let _ = writeln!(text, "| {} |", cells.join(" | "));
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
fn format_artifacts(published: &[PublishedTarget]) -> String {
    let in_registries = published
        .iter()
        .filter(|target| matches!(target.location, Location::Registry(_)))
        .map(PublishedTarget::reference)
        .filter(|reference| !reference.contains('='));
    in_registries.fold(String::new(), |mut text, reference| {
        let _ = writeln!(text, "oci://{reference}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published_target(location: Location, target: &str, index: bool) -> PublishedTarget {
        PublishedTarget {
            package: "widgets".into(),
            version: "1.2.3".into(),
            target: target.into(),
            location,
            tags: vec!["1.2.3".parse().expect("a tag")],
            digest: Digest::sha256(target.as_bytes()),
            index: index.then(|| Digest::sha256(b"index")),
            size: 1536,
        }
    }

    fn widgets() -> Location {
        Location::Registry("a.b/widgets".parse().expect("a reference"))
    }

    #[test]
    fn outputs_have_one_line_per_artifact() {
        let one = published_target(widgets(), "x-y-z", true);
        let (digest, index) = (Digest::sha256(b"x-y-z"), Digest::sha256(b"index"));
        assert_eq!(
            format_outputs(std::slice::from_ref(&one), "end"),
            format!("reference=a.b/widgets@{digest}\ndigest={digest}\nindex-digest={index}\n")
        );
        let two = [one, published_target(widgets(), "o-p-q", false)];
        let other = Digest::sha256(b"o-p-q");
        assert_eq!(
            format_outputs(&two, "end"),
            format!(
                "reference<<end\na.b/widgets@{digest}\na.b/widgets@{other}\nend\n\
                 digest<<end\n{digest}\n{other}\nend\n\
                 index-digest<<end\n{index}\n\nend\n"
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
            published_target(widgets(), "x-y-z", true),
            published_target(Location::layout("out|x"), "x-y-z", true),
        ];
        let digest = Digest::sha256(b"x-y-z");
        assert_eq!(
            format_summary(&both),
            format!(
                "| package | target | reference | size | digest |\n| --- | --- | --- | ---: | --- |\n\
                 | widgets 1.2.3 | x-y-z | `a.b/widgets:1.2.3` | 1.5 KiB | `{digest}` |\n\
                 | widgets 1.2.3 | x-y-z | `oci:out\\|x:1.2.3` | 1.5 KiB | `{digest}` |\n\n"
            )
        );
        assert_eq!(
            format_artifacts(&both),
            format!("oci://a.b/widgets@{digest}\n")
        );
    }
}
