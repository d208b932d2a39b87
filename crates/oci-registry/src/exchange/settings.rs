//! Settings of an exchange.

use std::path::PathBuf;

use super::origin::Origin;
use super::resolve::Resolve;
use crate::event::Observer;

/// Settings of an [`Exchange`](super::Exchange).
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Maximum number of attempts for one request.
    pub(crate) attempts: u32,
    pub(crate) resolve: Vec<Resolve>,
    /// PEM files of certificates that are trusted in addition to the system's certificates.
    pub(crate) ca_files: Vec<PathBuf>,
    /// PEM files of the client's certificate chain and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Directory with further certificates and keys.
    pub(crate) certificate_directory: Option<PathBuf>,
    /// Origin to which the identity is sent. If `None`, every server that requests a certificate receives it.
    pub(crate) identity_origin: Option<Origin>,
    /// Observer that receives the events of the exchange.
    pub(crate) observer: Observer,
}
