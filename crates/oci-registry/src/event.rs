//! Events of a client, for front ends that show its progress and for tests that count its requests.
//!
//! A client reports [`ClientEvent`]s to an [`Observer`]. Events contain no secrets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};

use crate::digest::Digest;
use crate::error::Result;
use crate::escape::escape;
use crate::rate_limit::RateLimit;
use crate::reference::Reference;

/// Maximum number of names that [`OmittedNames`] stores.
const MAX_OMITTED: usize = 10;

/// Maximum length of a name in [`OmittedNames`], in characters.
const MAX_OMITTED_LENGTH: usize = 300;

/// Minimum delay before a retry that its display text states.
const MIN_REPORTED_DELAY: Duration = Duration::from_secs(2);

/// Event of a [`Client`](crate::Client).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A request was sent, and a response was received or the request failed. Each retry and each redirect is reported.
    Request {
        /// HTTP method: `GET`, `PUT`, …
        method: String,
        /// URL without user information, and with the values of unknown parameters hidden.
        url: String,
        /// Status of the response; `None` if there was no response.
        status: Option<u16>,
        /// Rate limit that the response states.
        rate_limit: Option<RateLimit>,
    },
    /// A server sent a warning for the first time (distribution-spec, "Warnings").
    Warning {
        /// Host that sent the warning.
        from: String,
        /// Text of the warning, without characters that a terminal would interpret.
        text: String,
    },
    /// The client ignored an unreasonable value that a server requested. Reported once.
    Ignored {
        /// Host that requested the value.
        from: String,
        /// Description of the value, without characters that a terminal would interpret.
        what: String,
    },
    /// A list of tags or repositories was read to its end, and some names cannot be used. Reported once per list.
    OmittedNames(OmittedNames),
    /// A registry accepted a manifest with a subject (`OCI-Subject`), and does not list it as a referrer of the
    /// subject. Reported once per [`Repository`](crate::Repository).
    UnlistedReferrer {
        /// Full name of the pushed manifest.
        referrer: Reference,
        /// Digest of its subject.
        subject: Digest,
    },
    /// A credential was found but cannot be used or was rejected, and the client continues without it. Reported once.
    Credential {
        /// Description of the problem, with the source of the credential. It contains no secrets.
        problem: String,
    },
    /// An operation has failed, and another attempt follows. Reported once per retry, before its delay.
    Retry(Retry),
}

impl fmt::Display for ClientEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request {
                method,
                url,
                status,
                rate_limit,
            } => {
                write!(f, "{method} {url} ")?;
                match status {
                    Some(status) => write!(f, "{status}")?,
                    None => f.write_str("-")?,
                }
                match rate_limit {
                    Some(rate_limit) => write!(f, ", rate limit: {rate_limit}"),
                    None => Ok(()),
                }
            }
            Self::Warning { from, text } => write!(f, "warning from `{from}`: {text}"),
            Self::Ignored { from, what } => write!(f, "ignored a header of `{from}`: {what}"),
            Self::OmittedNames(omitted) => omitted.fmt(f),
            Self::UnlistedReferrer { referrer, subject } => write!(
                f,
                "the registry accepted `{referrer}`, but does not list it as a referrer of {subject}"
            ),
            Self::Credential { problem } => f.write_str(problem),
            Self::Retry(retry) => retry.fmt(f),
        }
    }
}

/// Failure of an operation that is attempted again. It contains no secrets and no characters that a terminal would
/// interpret. The display text is the cause and the number of remaining attempts, as in cargo's warnings about spurious
/// network errors.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// Operation: method and URL of a request, or the transfer of a blob.
    pub operation: String,
    /// Number of the next attempt. The first attempt has the number 1. The count restarts after a transfer has made
    /// progress.
    pub attempt: u32,
    /// Maximum number of attempts.
    pub attempts: u32,
    /// Time until the next attempt.
    pub delay: Duration,
    /// Cause of the failure, with the host if it is known.
    pub cause: String,
}

impl Retry {
    /// Reports the retry and waits for its delay.
    pub(crate) async fn wait(self, observer: &Observer) {
        let delay = self.delay;
        observer.notify(|| ClientEvent::Retry(self));
        tokio::time::sleep(delay).await;
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remaining = (self.attempts + 1).saturating_sub(self.attempt);
        let tries = if remaining == 1 { "try" } else { "tries" };
        write!(f, "{} ({remaining} {tries} remaining", self.cause)?;
        if self.delay >= MIN_REPORTED_DELAY {
            write!(f, ", next in {} s", self.delay.as_secs())?;
        }
        f.write_str(")")
    }
}

/// Names of one list that cannot be used: invalid names, and names in a layout or archive that are not available as a
/// tag ([`OtherName`](crate::OtherName)).
///
/// The display text contains the first names, without characters that a terminal would interpret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OmittedNames {
    location: String,
    count: usize,
    first: Vec<(String, Option<Digest>)>,
}

impl OmittedNames {
    /// Creates an empty list for this registry, repository, layout or archive.
    pub(crate) fn new(location: String) -> Self {
        Self {
            location,
            count: 0,
            first: Vec::new(),
        }
    }

    /// Returns the registry, repository, layout or archive that contains the names.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Returns the number of names.
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

    /// Reports the names if there are any.
    pub(crate) fn report(self, observer: &Observer) {
        if self.count > 0 {
            observer.notify(|| ClientEvent::OmittedNames(self));
        }
    }
}

impl fmt::Display for OmittedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            location,
            count,
            first,
        } = self;
        let (names, are) = if *count == 1 {
            ("name", "is")
        } else {
            ("names", "are")
        };
        // Names of layouts and archives are reported with their digest, because the user can refer to the entry by its
        // full name or digest.
        let what = match first.first() {
            Some((_, Some(_))) => "not available as a tag",
            _ => "invalid and omitted",
        };
        write!(f, "{count} {names} listed by `{location}` {are} {what}: ")?;
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

/// Parses the names of a list. Invalid names are skipped, and reported after the end of the list.
pub(crate) fn parse_names<T: Send + 'static>(
    names: impl Stream<Item = Result<String>> + Send + 'static,
    location: String,
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
        omitted: OmittedNames::new(location),
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

type Callback = dyn Fn(&ClientEvent) + Send + Sync;

/// Receiver of [`ClientEvent`]s. It is called on the thread on which the event occurs. Cheap to clone.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Callback>>);

impl Observer {
    /// Creates an observer that calls this function, which should be fast.
    pub fn new(callback: impl Fn(&ClientEvent) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }

    /// Reports an event. The event is computed only if there is a receiver.
    pub(crate) fn notify(&self, event: impl FnOnce() -> ClientEvent) {
        if let Some(callback) = &self.0 {
            callback(&event());
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

    #[tokio::test(start_paused = true)]
    async fn retry_is_reported_before_its_delay() {
        let start = tokio::time::Instant::now();
        let (sender, reports) = std::sync::mpsc::channel();
        let observer = Observer::new(move |event| {
            if let ClientEvent::Retry(retry) = event {
                sender.send((retry.to_string(), start.elapsed())).unwrap();
            }
        });
        let retry = |attempt, millis| Retry {
            operation: "GET `https://a.b/v2/`".into(),
            attempt,
            attempts: 5,
            delay: Duration::from_millis(millis),
            cause: "`a.b` answered 503 Service Unavailable".into(),
        };
        for (attempt, millis) in [(2, 1999), (4, 2500), (5, 0)] {
            retry(attempt, millis).wait(&observer).await;
        }
        assert_eq!(start.elapsed(), Duration::from_millis(4499));
        let failure = "`a.b` answered 503 Service Unavailable";
        let expected = [
            (format!("{failure} (4 tries remaining)"), 0),
            (format!("{failure} (2 tries remaining, next in 2 s)"), 1999),
            (format!("{failure} (1 try remaining)"), 4499),
        ];
        let expected = expected.map(|(text, millis)| (text, Duration::from_millis(millis)));
        assert_eq!(reports.try_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn omitted_names_display_count_and_first_ten() {
        let mut omitted = OmittedNames::new("a.b/c".into());
        for name in std::iter::once("<none>\u{1b}[2J").chain(std::iter::repeat_n("x y", 11)) {
            omitted.add(name, None);
        }
        let nine = ", `x y`".repeat(9);
        assert_eq!(
            omitted.to_string(),
            format!(
                "12 names listed by `a.b/c` are invalid and omitted: `<none>\\u{{1b}}[2J`{nine} and 2 more"
            )
        );
        let mut omitted = OmittedNames::new("oci:d".into());
        let digest = Digest::sha256(b"");
        omitted.add("acme/widgets", Some(&digest));
        assert_eq!(
            omitted.to_string(),
            format!(
                "1 name listed by `oci:d` is not available as a tag: `acme/widgets` ({digest})"
            )
        );
    }
}
