//! What GitHub Actions is told of a push: outputs of the step, a table for its summary, and the artifacts it made.
//!
//! Each of the three is a file that a variable names; where the variable is not set, nothing is done. Later steps read
//! the outputs `reference`, `digest` and `index-digest`. One push may publish several packages for several targets: each
//! output then has a line for each of them, in the order of the names on stdout. An output of one line is what a push of
//! one package for one target gives.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use oci_registry::{Digest, Environment, Location, Tag};

use crate::figures::Size;
use crate::report::Error;

/// Help for a failure after the push.
const HELP: &str = "everything is published: only the following steps are not told";

/// One package for one target that is there now.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) package: String,
    pub(super) version: String,
    pub(super) target: String,
    pub(super) location: Location,
    pub(super) tags: Vec<Tag>,
    pub(super) digest: Digest,
    pub(super) index: Option<Digest>,
    /// The bytes of its config and files.
    pub(super) size: u64,
}

impl Published {
    fn reference(&self) -> String {
        self.location.with(self.digest.clone()).to_string()
    }
}

/// Tells what is published.
pub(super) fn tell(environment: &Environment, published: &[Published]) -> Result<(), Error> {
    if published.is_empty() {
        return Ok(());
    }
    append(
        environment,
        "GITHUB_OUTPUT",
        &outputs(published, &delimiter()?),
    )?;
    append(environment, "GITHUB_STEP_SUMMARY", &summary(published))?;
    append(environment, "GITHUB_ARTIFACTS", &artifacts(published))
}

/// Adds to the file that a variable names, where it names one.
fn append(environment: &Environment, variable: &str, text: &str) -> Result<(), Error> {
    let Some(path) = environment.var(variable).filter(|_| !text.is_empty()) else {
        return Ok(());
    };
    let path: PathBuf = environment.resolve(path);
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            let path = path.display();
            Error::new(
                oci_registry::ErrorKind::Io,
                format!("failed to write `{path}`, which `{variable}` names: {error}"),
            )
            .help(HELP)
        })
}

/// A line that ends an output of several lines. It is random, so no value can contain it.
fn delimiter() -> Result<String, Error> {
    let random = || getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()));
    match random().and_then(|high| Ok((high, random()?))) {
        Ok((high, low)) => Ok(format!("end-{high:016x}{low:016x}")),
        Err(error) => Err(Error::of_file("failed to read random bytes", error).help(HELP)),
    }
}

/// The outputs of the step.
fn outputs(published: &[Published], delimiter: &str) -> String {
    let lines = |value: &dyn Fn(&Published) -> String| {
        let values: Vec<_> = published.iter().map(value).collect();
        values.join("\n")
    };
    let index = |published: &Published| {
        let digest = published.index.as_ref().map(ToString::to_string);
        digest.unwrap_or_default()
    };
    let mut text = String::new();
    for (name, value) in [
        ("reference", lines(&Published::reference)),
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

/// A table in Markdown.
fn summary(published: &[Published]) -> String {
    let mut text =
        "| package | target | reference | size | digest |\n| --- | --- | --- | ---: | --- |\n"
            .to_owned();
    for one in published {
        let cells = [
            format!("{} {}", one.package, one.version),
            one.target.clone(),
            one.tags
                .iter()
                .map(|tag| code(&one.location.with(tag.clone()).to_string()))
                .collect::<Vec<_>>()
                .join(", "),
            Size(one.size).to_string(),
            code(one.digest.as_str()),
        ];
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push('\n');
    text
}

/// A text in a cell of a table that means nothing but itself.
fn code(text: &str) -> String {
    format!(
        "`{}`",
        text.replace('`', "'")
            .replace('|', "\\|")
            .replace(['\r', '\n'], " ")
    )
}

/// A line for each artifact in a registry. What is in a directory can be named nowhere else, and `=` is refused there.
fn artifacts(published: &[Published]) -> String {
    let in_registries = published
        .iter()
        .filter(|one| matches!(one.location, Location::Registry(_)))
        .map(Published::reference)
        .filter(|reference| !reference.contains('='));
    in_registries.fold(String::new(), |mut text, reference| {
        let _ = writeln!(text, "oci://{reference}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(location: Location, target: &str, index: bool) -> Published {
        Published {
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
    fn one_is_a_line_and_several_are_lines() {
        let one = published(widgets(), "x-y-z", true);
        let (digest, index) = (Digest::sha256(b"x-y-z"), Digest::sha256(b"index"));
        assert_eq!(
            outputs(std::slice::from_ref(&one), "end"),
            format!("reference=a.b/widgets@{digest}\ndigest={digest}\nindex-digest={index}\n")
        );
        let two = [one, published(widgets(), "o-p-q", false)];
        let other = Digest::sha256(b"o-p-q");
        assert_eq!(
            outputs(&two, "end"),
            format!(
                "reference<<end\na.b/widgets@{digest}\na.b/widgets@{other}\nend\n\
                 digest<<end\n{digest}\n{other}\nend\n\
                 index-digest<<end\n{index}\n\nend\n"
            )
        );
    }

    #[test]
    fn delimiter_is_random() {
        let (first, second) = (delimiter().expect("random"), delimiter().expect("random"));
        assert_eq!(first.len(), second.len());
        assert_ne!(first, second);
    }

    #[test]
    fn the_summary_is_a_table_and_directories_are_no_artifacts() {
        let both = [
            published(widgets(), "x-y-z", true),
            published(Location::layout("out|x"), "x-y-z", true),
        ];
        let digest = Digest::sha256(b"x-y-z");
        assert_eq!(
            summary(&both),
            format!(
                "| package | target | reference | size | digest |\n| --- | --- | --- | ---: | --- |\n\
                 | widgets 1.2.3 | x-y-z | `a.b/widgets:1.2.3` | 1.5 KiB | `{digest}` |\n\
                 | widgets 1.2.3 | x-y-z | `oci:out\\|x:1.2.3` | 1.5 KiB | `{digest}` |\n\n"
            )
        );
        assert_eq!(artifacts(&both), format!("oci://a.b/widgets@{digest}\n"));
    }
}
