//! What a client does, told as it happens: for a front end that shows it, and for tests that count it.
//!
//! Owns the [`Step`]s and the [`Observer`] that hears of them. Nothing in a step is secret. Taking the steps is not done
//! here: the two machines that have states, uploads and authorisation, stand in `registry/upload.rs` and in `transport`.

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

/// Something that a [`Client`](crate::Client) does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// One request has left this process, and this is what came of it: each try and each hop of a redirect counts.
    Request {
        /// `GET`, `PUT`, …
        method: String,
        /// The URL as it may be shown: without user info, and with unknown parameters hidden.
        url: String,
        /// The status of the answer; none when there was no answer.
        status: Option<u16>,
    },
    /// A server has said what it wants people to know, for the first time (distribution-spec, "Warnings").
    Warning {
        /// The host that said it.
        from: String,
        /// What it said, without anything that a terminal would act on.
        text: String,
    },
    /// A server asks for something that cannot be meant, and it is not done; told once.
    Ignored {
        /// The host that asks for it.
        from: String,
        /// What it asks for, without anything that a terminal would act on.
        what: String,
    },
    /// A list of tags or repositories has ended, and some of its names cannot be used. Sent once per list.
    OmittedNames(OmittedNames),
    /// A credential that was found cannot be used, or was refused, and the client continues without it; sent once.
    Credential {
        /// The source of the credential and its defect. It contains no secrets.
        problem: String,
    },
    /// An upload is in this state.
    Upload(UploadState),
    /// The authorisation of a request is in this state.
    Auth(AuthState),
}

/// The names of one list that cannot be used: they are not valid, or no tag identifies their entry of a layout or archive.
///
/// Its text names the first of them, without anything that a terminal would act on.
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

/// What the upload of one blob is doing (distribution-spec, "Pushing blobs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UploadState {
    /// Asks for the blob from another repository of the registry, or from wherever the registry knows it.
    Mounting,
    /// Opens a session.
    Opening,
    /// Sends everything with the request that closes the session.
    SendingWhole,
    /// Sends everything, or what is left of it, while its digest is computed.
    Streaming,
    /// Sends one chunk.
    SendingChunk,
    /// Asks a session that broke off how much it has.
    Recovering,
    /// Asks whether content is there, since its digest is known now or an answer was lost.
    Confirming,
    /// Closes a session whose content has been sent.
    Closing,
    /// Tells the registry that a session is over.
    Cancelling,
}

impl UploadState {
    /// All of them, in the order in which an upload may come by.
    pub const ALL: [Self; 9] = [
        Self::Mounting,
        Self::Opening,
        Self::SendingWhole,
        Self::Streaming,
        Self::SendingChunk,
        Self::Recovering,
        Self::Confirming,
        Self::Closing,
        Self::Cancelling,
    ];
}

/// What the authorisation of one request is doing (distribution, "Token Authentication").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AuthState {
    /// Sends as nobody, since nobody has asked.
    Unasked,
    /// Asks the registry's front page how it wants to be answered, since it turned a request away without saying.
    AskingHow,
    /// Looks for the credential that a challenge demands.
    Looking,
    /// Looks once more, since what was found before was refused.
    LookingAgain,
    /// Exchanges the credential, or none, for a token.
    FetchingToken,
    /// Sends with a user name and password.
    SendingBasic,
    /// Sends with a token.
    SendingToken,
    /// Gives up: there is no other answer to the challenge.
    TurnedAway,
}

impl AuthState {
    /// All of them, in the order in which a request may come by.
    pub const ALL: [Self; 8] = [
        Self::Unasked,
        Self::AskingHow,
        Self::Looking,
        Self::LookingAgain,
        Self::FetchingToken,
        Self::SendingBasic,
        Self::SendingToken,
        Self::TurnedAway,
    ];
}

type Tell = dyn Fn(&Step) + Send + Sync;

/// Hears of every [`Step`], on whatever thread it is taken. Cheap to clone.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Tell>>);

impl Observer {
    /// Tells this function, which should be quick.
    pub fn new(tell: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Tells of a step; what it is, is found out only when somebody listens.
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
            "Observer(nobody)"
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
