//! Outcome of a push for one package: its printed names, warnings and status lines.

use oci_package::{PublishedTag, ReleaseTag, Summary, TagAction};
use oci_registry::{Digest, Location, Manifest};

use crate::message::FinishedTarget;
use crate::report::{Error, Reporter};
use crate::session::Session;

/// Package that a push published, for one or more targets.
#[derive(Debug)]
pub(super) struct PublishedPackage {
    pub(super) package: String,
    pub(super) version: String,
    pub(super) location: Location,
    /// Whether the targets of the release are declared.
    pub(super) has_declared_targets: bool,
    /// Outcome for each tag, in the order in which the tags were given.
    pub(super) tags: Vec<PackageTag>,
    pub(super) targets: Vec<PublishedTarget>,
    /// Whether the push sent nothing.
    pub(super) is_unchanged: bool,
}

/// Tag of a published package.
#[derive(Debug)]
pub(super) struct PackageTag {
    pub(super) tag: ReleaseTag,
    /// Index that the push wrote or confirmed.
    pub(super) index: Option<Manifest>,
    /// Declared targets that are not pushed yet.
    pub(super) missing: Vec<String>,
}

/// Target of a published package.
#[derive(Debug)]
pub(super) struct PublishedTarget {
    pub(super) target: String,
    pub(super) digest: Digest,
    /// Combined size of the config and the files, in bytes.
    pub(super) size: u64,
    /// Whether the target has programs that can be installed.
    pub(super) has_programs: bool,
}

/// Name of published content: the location with its tag, and the location with its digest.
#[derive(Debug)]
pub(super) struct PrintedName {
    tagged: Location,
    pub(super) reference: Location,
    pub(super) digest: Digest,
}

impl PublishedPackage {
    /// Adds the outcome for one target. An index that a later target changed replaces that of an earlier target.
    pub(super) fn add(&mut self, target: PublishedTarget, tags: Vec<PublishedTag>) {
        self.targets.push(target);
        for published in tags {
            self.is_unchanged &= published.action == TagAction::Keep && !published.index_changes;
            let known = self.tags.iter_mut().find(|tag| tag.tag == published.tag);
            if let Some(tag) = known {
                // A target that was already published keeps the index that was read before the push.
                if published.index_changes || tag.index.is_none() {
                    tag.index = published.index;
                }
                tag.missing = published.missing;
            }
        }
    }

    /// Returns the names to print: one per tag if the index was written or confirmed, else one per target.
    pub(super) fn names(&self) -> Result<Vec<PrintedName>, Error> {
        let mut names = Vec::new();
        for PackageTag { tag, index, .. } in &self.tags {
            if let Some(index) = index {
                names.push(self.name(tag.index(), index.digest()));
                continue;
            }
            for target in &self.targets {
                names.push(self.name(&tag.target(&target.target)?, &target.digest));
            }
        }
        Ok(names)
    }

    /// Returns the targets, each with the name of its first tag.
    pub(super) fn finished_targets(&self) -> Result<Vec<FinishedTarget>, Error> {
        let Some(first) = self.tags.first() else {
            return Ok(Vec::new());
        };
        let targets = self.targets.iter().map(|target| {
            let tag = first.tag.target(&target.target)?;
            Ok(FinishedTarget {
                package: self.package.clone(),
                target: target.target.clone(),
                reference: self.name(&tag, &target.digest).reference.to_string(),
                digest: target.digest.clone(),
            })
        });
        targets.collect()
    }

    fn name(&self, tag: &oci_registry::Tag, digest: &Digest) -> PrintedName {
        PrintedName {
            tagged: self.location.with(tag.clone()),
            reference: self.location.with_tagged_digest(tag, digest.clone()),
            digest: digest.clone(),
        }
    }

    /// Digest of the index under the first tag, if an index was written or confirmed.
    pub(super) fn index_digest(&self) -> Option<&Digest> {
        let index = self.tags.first()?.index.as_ref();
        index.map(Manifest::digest)
    }

    /// Prints the warnings, the status lines and the names.
    pub(super) fn report(&self, session: &Session) -> Result<(), Error> {
        for tag in &self.tags {
            tag.warn_about_missing_targets(session.reporter);
            self.warn_about_other_targets(tag, session.reporter);
        }
        let names = self.names()?;
        let verb = if self.is_unchanged {
            "Unchanged"
        } else {
            "Published"
        };
        for name in &names {
            session.reporter.status(verb, &name.tagged);
        }
        let Some(first) = names.first() else {
            return Ok(());
        };
        let lines: Vec<_> = names
            .iter()
            .map(|name| name.reference.to_string())
            .collect();
        let targets = self.finished_targets()?;
        session.report_published(&lines, &first.digest, self.index_digest(), &targets)
    }

    /// Warns if the index has targets of other pushes although the targets of the release are not declared.
    fn warn_about_other_targets(&self, tag: &PackageTag, reporter: Reporter) {
        let Some(index) = tag.index.as_ref().filter(|_| !self.has_declared_targets) else {
            return;
        };
        let is_own = |listed: &String| self.targets.iter().any(|own| own.target == *listed);
        let mut others = Summary::from_manifest(index).targets;
        others.retain(|listed| !is_own(listed));
        if !others.is_empty() {
            reporter.warn(format_args!(
                "{} also lists targets of other pushes: {}; its digest changes with each added target; declare all targets as `release-targets` in `[package.metadata.oci]`",
                tag.tag,
                others.join(", ")
            ));
        }
    }
}

/// Returns the index of the version tag if the release is complete. Floating tags follow this index only: they cannot be
/// derived from a tag such as `nightly`.
pub(super) fn complete_release(tags: &[PackageTag]) -> Option<&Manifest> {
    let released = tags.iter().find(|tag| tag.tag.is_released());
    let released = released.filter(|tag| tag.missing.is_empty());
    released.and_then(|tag| tag.index.as_ref())
}

impl PackageTag {
    pub(super) fn warn_about_missing_targets(&self, reporter: Reporter) {
        if self.missing.is_empty() {
            return;
        }
        let verb = if self.missing.len() == 1 { "is" } else { "are" };
        let (tag, missing) = (&self.tag, self.missing.join(", "));
        // `pull` and `install` without a version select only version tags. They are not affected if the tag is not a
        // version tag or already exists.
        let effect = if self.index.is_none() && tag.is_released() {
            "; until then `pull` and `install` without a version select the release before it"
        } else {
            ""
        };
        reporter.warn(format_args!(
            "{tag} is incomplete: {missing} {verb} missing{effect}"
        ));
    }
}
