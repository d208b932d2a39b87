//! Floating tags: `1.2`, `1` and `latest`, which follow the releases.
//!
//! Owns which tags follow a version, and that they never go back. Is asked only for an index that is complete.

use oci_registry::{Manifest, Optional as _, Tag, Target};
use semver::Version;
use snafu::{ResultExt, Snafu};

use super::{Event, Observer};
use crate::annotation;
use crate::error::Failure;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to look up `{name}`"))]
    LookUp {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to move the tag `{name}`"))]
    Move {
        name: String,
        source: oci_registry::Error,
    },
}

impl Error {
    fn source(&self) -> &oci_registry::Error {
        match self {
            Self::LookUp { source, .. } | Self::Move { source, .. } => source,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> oci_registry::ErrorKind {
        self.source().kind()
    }

    fn registry_error(&self) -> Option<&oci_registry::Error> {
        Some(self.source())
    }
}

/// What became of a floating tag.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Floated {
    /// It names the index now.
    Moved(Tag),
    /// It named the index already.
    Current(Tag),
    /// It names a higher version, and stays.
    Ahead(Tag, Version),
}

/// Lets the floating tags of a version, `MAJOR.MINOR`, `MAJOR` and `latest`, name its index.
///
/// A pre-release moves nothing. A tag that names a higher version stays. Nothing is moved either when the index does not
/// say which version it is of.
///
/// # Errors
///
/// What the target fails with.
pub async fn float(
    to: &dyn Target,
    index: &Manifest,
    observer: &Observer<'_>,
) -> crate::Result<Vec<Floated>> {
    let Some(version) = version(index).filter(|version| version.pre.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut floated = Vec::new();
    for text in [
        format!("{}.{}", version.major, version.minor),
        version.major.to_string(),
        "latest".to_owned(),
    ] {
        let tag: Tag = text.parse().expect("numbers, dots and `latest` are tags");
        let name = || to.describe(&tag.clone().into());
        let held = to.manifest(&tag.clone().into()).await.optional();
        let held = held.with_context(|_| LookUpSnafu { name: name() })?;
        let ahead = held
            .as_ref()
            .and_then(self::version)
            .filter(|held| *held > version);
        floated.push(if held.as_ref() == Some(index) {
            Floated::Current(tag)
        } else if let Some(ahead) = ahead {
            Floated::Ahead(tag, ahead)
        } else {
            to.tag(index, &tag)
                .await
                .with_context(|_| MoveSnafu { name: name() })?;
            observer(Event::Index(&tag, index));
            Floated::Moved(tag)
        });
    }
    Ok(floated)
}

fn version(index: &Manifest) -> Option<Version> {
    Version::parse(index.annotations().get(annotation::VERSION)?).ok()
}
