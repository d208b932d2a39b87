//! What a client does, told as it happens: for a front end that shows it, and for tests that count it.
//!
//! Owns the [`Step`]s and the [`Observer`] that hears of them. Nothing in a step is secret. Taking the steps is not done
//! here: the two machines that have states, uploads and authorisation, stand in `registry/upload.rs` and in `transport`.

use std::fmt;
use std::sync::Arc;

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
    /// An upload is in this state.
    Upload(UploadState),
    /// The authorisation of a request is in this state.
    Auth(AuthState),
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
