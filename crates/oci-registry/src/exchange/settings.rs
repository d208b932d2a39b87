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
    /// Certificates trusted in addition to those of the system.
    pub(crate) ca_files: Vec<PathBuf>,
    /// Certificate chain and key of this client.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Directory of further certificates and keys.
    pub(crate) certificate_directory: Option<PathBuf>,
    /// Origin to which the identity is sent. If `None`, every server that requests a certificate receives it.
    pub(crate) identity_origin: Option<Origin>,
    /// Observer of each request.
    pub(crate) observer: Observer,
}
