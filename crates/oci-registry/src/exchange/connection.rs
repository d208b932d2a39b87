//! Addresses, trusted certificates and client certificate of the connections.

use std::path::Path;

use snafu::{ResultExt, ensure};

use super::certificates::{self, RegistryCertificates};
use super::error::{
    CertificateDirectorySnafu, EmptyPemSnafu, Error, ParsePemSnafu, ReadPemSnafu, RootCause,
};
use super::settings::Settings;
use crate::file::read_input;

/// Largest certificate or key file that is read, in bytes. The bundle of a system has about 250 KiB.
const MAX_PEM: u64 = 1 << 20;

/// Applies addresses, trusted certificates and client certificate, and reads their files. The client certificate of a
/// registry is not sent to other hosts.
pub(super) fn configure(
    mut builder: reqwest::ClientBuilder,
    settings: &Settings,
    may_send_identity: bool,
) -> Result<reqwest::ClientBuilder, Error> {
    for resolve in &settings.resolve {
        builder = builder.resolve(&resolve.host, resolve.address);
    }
    let found = match &settings.certificate_directory {
        Some(directory) => {
            certificates::list(directory).context(CertificateDirectorySnafu { directory })?
        }
        None => RegistryCertificates::default(),
    };
    for path in settings.ca_files.iter().chain(&found.authorities) {
        let purpose = "the certificates to trust";
        let certificates = reqwest::Certificate::from_pem_bundle(&read(path, purpose)?);
        let certificates = certificates.map_err(RootCause::from);
        let certificates = certificates.context(ParsePemSnafu { path, purpose })?;
        ensure!(!certificates.is_empty(), EmptyPemSnafu { path, purpose });
        builder = builder.tls_certs_merge(certificates);
    }
    // An explicitly configured certificate takes precedence over one in the certificate directory.
    let identity = settings.identity.as_ref().or(found.identity.as_ref());
    if let Some((chain, key)) = identity.filter(|_| may_send_identity) {
        let purpose = "the certificate of this client";
        let mut bytes = read(key, "the key of this client")?;
        bytes.push(b'\n');
        bytes.extend(read(chain, purpose)?);
        let identity = reqwest::Identity::from_pem(&bytes).map_err(RootCause::from);
        builder = builder.identity(identity.context(ParsePemSnafu {
            path: chain,
            purpose,
        })?);
    }
    Ok(builder)
}

fn read(path: &Path, purpose: &'static str) -> Result<Vec<u8>, Error> {
    read_input(path, MAX_PEM).context(ReadPemSnafu { path, purpose })
}
