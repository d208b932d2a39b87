//! Configuration of connections: addresses, trusted certificates and client certificate.

use std::path::Path;

use snafu::{ResultExt, ensure};

use super::certificates::{self, RegistryCertificates};
use super::error::{
    CertificateDirectorySnafu, EmptyPemSnafu, Error, ParsePemSnafu, ReadPemSnafu, RootCause,
};
use super::settings::Settings;
use crate::file::read_input;

/// Maximum size of a certificate or key file, in bytes. The CA bundle of an operating system has about 250 KiB.
const MAX_PEM: u64 = 1 << 20;

/// Configures the addresses, trusted certificates and client certificate of an HTTP client. Reads the certificate
/// files. If `may_send_identity` is false, the client certificate is omitted, because a registry's client certificate
/// must not be sent to other hosts.
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
        let certificates = reqwest::Certificate::from_pem_bundle(&read_file(path, purpose)?);
        let certificates = certificates.map_err(RootCause::from);
        let certificates = certificates.context(ParsePemSnafu { path, purpose })?;
        ensure!(!certificates.is_empty(), EmptyPemSnafu { path, purpose });
        builder = builder.tls_certs_merge(certificates);
    }
    // An explicitly configured certificate takes precedence over a certificate in the certificate directory.
    let identity = settings.identity.as_ref().or(found.identity.as_ref());
    if let Some((chain, key)) = identity.filter(|_| may_send_identity) {
        let purpose = "the certificate of this client";
        let mut bytes = read_file(key, "the key of this client")?;
        bytes.push(b'\n');
        bytes.extend(read_file(chain, purpose)?);
        let identity = reqwest::Identity::from_pem(&bytes).map_err(RootCause::from);
        builder = builder.identity(identity.context(ParsePemSnafu {
            path: chain,
            purpose,
        })?);
    }
    Ok(builder)
}

fn read_file(path: &Path, purpose: &'static str) -> Result<Vec<u8>, Error> {
    read_input(path, MAX_PEM).context(ReadPemSnafu { path, purpose })
}
