//! Events of a client and their observer.
//!
//! Front ends show the events, and tests count them. An event contains no secrets.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};

use crate::digest::Digest;
use crate::error::Result;
use crate::escape::escape;

/// Number of names that [`OmittedNames`] holds at most.
const MAX_OMITTED: usize = 10;

/// Longest name in [`OmittedNames`], in characters.
const MAX_OMITTED_LENGTH: usize = 300;

/// Event of a [`Client`](crate::Client).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A request was sent, and was answered or failed. Each attempt and each redirect is one event.
    Request {
        /// `GET`, `PUT`, …
        method: String,
        /// The URL without user info, and with the values of unknown parameters removed.
        url: String,
        /// The status of the response, if there was one.
        status: Option<u16>,
    },
    /// A server has sent a warning for the first time (distribution-spec, "Warnings").
    Warning {
        /// The host of the server.
        from: String,
        /// The warning, with control characters escaped.
        text: String,
    },
    /// A server requires something invalid, which the client ignores. Sent once.
    Ignored {
        /// The host of the server.
        from: String,
        /// The requirement, with control characters escaped.
        what: String,
    },
    /// A list of tags or repositories has ended, and some of its names cannot be used. Sent once per list.
    OmittedNames(OmittedNames),
    /// A credential that was found cannot be used, or was refused, and the client continues without it; sent once.
    Credential {
        /// The source of the credential and its defect. It contains no secrets.
        problem: String,
    },
}

/// The names of one list that cannot be used: they are not valid, or no tag identifies their entry of a layout or archive.
///
/// Its text names the first of them, with control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OmittedNames {
    place: String,
    count: usize,
    first: Vec<(String, Option<Digest>)>,
}

impl OmittedNames {
    /// No names yet, of this registry, repository, layout or archive.
    pub(crate) fn of(place: String) -> Self {
        Self {
            place,
            count: 0,
            first: Vec::new(),
        }
    }

    /// The registry, repository, layout or archive that lists them.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Number of such names.
    pub fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn add(&mut self, name: &str, digest: Option<&Digest>) {
        self.count += 1;
        if self.first.len() < MAX_OMITTED {
            self.first
                .push((escape(name, MAX_OMITTED_LENGTH), digest.cloned()));
        }
    }

    /// Reports the names, if there are any.
    pub(crate) fn report(self, observer: &Observer) {
        if self.count > 0 {
            observer.tell(|| Step::OmittedNames(self));
        }
    }
}

impl fmt::Display for OmittedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            count,
            first,
        } = self;
        let (names, are) = if *count == 1 {
            ("name", "is")
        } else {
            ("names", "are")
        };
        // Those of layouts and archives have digests, and can be used in full.
        let what = match first.first() {
            Some((_, Some(_))) => "no tag of a single manifest",
            _ => "not valid and left out",
        };
        write!(f, "{count} {names} listed by `{place}` {are} {what}: ")?;
        for (at, (name, digest)) in first.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}`{name}`")?;
            if let Some(digest) = digest {
                write!(f, " ({digest})")?;
            }
        }
        match count - first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Parses the names of a list. Names that are not valid are left out, and reported when the list ends.
pub(crate) fn valid_names<T: Send + 'static>(
    names: impl Stream<Item = Result<String>> + Send + 'static,
    place: String,
    observer: Observer,
    parse: impl Fn(&str) -> Option<T> + Send + Sync + 'static,
) -> BoxStream<'static, Result<T>> {
    struct List<S, P> {
        names: S,
        omitted: OmittedNames,
        observer: Observer,
        parse: P,
    }
    let list = List {
        names: names.boxed(),
        omitted: OmittedNames::of(place),
        observer,
        parse,
    };
    let valid = stream::try_unfold(list, |mut list| async move {
        while let Some(name) = list.names.try_next().await? {
            if let Some(valid) = (list.parse)(&name) {
                return Ok(Some((valid, list)));
            }
            list.omitted.add(&name, None);
        }
        list.omitted.report(&list.observer);
        Ok(None)
    });
    valid.boxed()
}

type Tell = dyn Fn(&Step) + Send + Sync;

/// Observer of every [`Step`], on any thread. Cheap to clone.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Tell>>);

impl Observer {
    /// Creates an observer that calls this function, which should return quickly.
    pub fn new(tell: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Reports an event, which is created only if there is an observer.
    pub(crate) fn tell(&self, step: impl FnOnce() -> Step) {
        if let Some(tell) = &self.0 {
            tell(&step());
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Observer"
        } else {
            "Observer(none)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omitted_names_are_counted_and_the_first_ten_shown() {
        let mut omitted = OmittedNames::of("a.b/c".into());
        for name in std::iter::once("<none>\u{1b}[2J").chain(std::iter::repeat_n("x y", 11)) {
            omitted.add(name, None);
        }
        let nine = ", `x y`".repeat(9);
        assert_eq!(
            omitted.to_string(),
            format!(
                "12 names listed by `a.b/c` are not valid and left out: `<none>\\u{{1b}}[2J`{nine} and 2 more"
            )
        );
        let mut omitted = OmittedNames::of("oci:d".into());
        let digest = Digest::sha256(b"");
        omitted.add("acme/widgets", Some(&digest));
        assert_eq!(
            omitted.to_string(),
            format!(
                "1 name listed by `oci:d` is no tag of a single manifest: `acme/widgets` ({digest})"
            )
        );
    }
}
