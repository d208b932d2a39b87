//! Registries that use a digest algorithm other than SHA-256.

use oci_registry::{Algorithm, Digest, ErrorKind, Identifier, Manifest, Source, Target};
use testkit::server::{Response, Server};

use crate::support::{by_tag, manifest, writer};

fn sha512(manifest: &Manifest) -> Digest {
    Algorithm::Sha512.digest(manifest.bytes())
}

/// Starts a registry with one manifest. The registry states `digest` as the digest of this manifest and of every pushed
/// manifest.
fn registry_with(manifest: &Manifest, digest: &str) -> Server {
    let (manifest, digest) = (manifest.clone(), digest.to_string());
    Server::start(move |request, _| {
        let status = if request.method == "PUT" { 201 } else { 200 };
        Response::new(status)
            .header("Content-Type", manifest.media_type())
            .header("Docker-Content-Digest", &digest)
            .body(manifest.bytes())
    })
}

#[tokio::test]
async fn tag_with_non_sha256_header_resolves_to_sha256() {
    let manifest = manifest("x");
    for digest in [sha512(&manifest).to_string(), "blake3:abc".to_owned()] {
        let server = registry_with(&manifest, &digest);
        let found = writer(&server).resolve(&by_tag("latest")).await.unwrap();
        assert_eq!(found.digest, *manifest.digest());
        let path = "/v2/acme/widgets/manifests/latest";
        assert_eq!(
            server.request_lines(),
            [format!("HEAD {path}"), format!("GET {path}")]
        );
    }
}

#[tokio::test]
async fn manifest_requested_by_sha512_keeps_that_digest() {
    let manifest = manifest("x");
    let digest = sha512(&manifest);
    let server = registry_with(&manifest, digest.as_str());
    let repository = writer(&server);
    let request = Identifier::Digest(digest.clone());
    assert_eq!(repository.resolve(&request).await.unwrap().digest, digest);
    let found = repository.manifest(&request).await.unwrap();
    assert_eq!((found.digest(), &found), (&digest, &manifest));
}

#[tokio::test]
async fn push_response_with_a_sha512_digest_is_verified() {
    let manifest = manifest("x");
    let server = registry_with(&manifest, sha512(&manifest).as_str());
    let tag = "latest".parse().unwrap();
    writer(&server).tag(&manifest, &tag).await.unwrap();
    writer(&server).push_manifest(&manifest).await.unwrap();
    assert_eq!(
        server.request_lines(),
        [
            "PUT /v2/acme/widgets/manifests/latest".to_owned(),
            format!("PUT /v2/acme/widgets/manifests/{}", manifest.digest())
        ]
    );
    // The client uses the sha512 digest of this manifest, and the registry its sha256 digest.
    let server = registry_with(&manifest, manifest.digest().as_str());
    let known = Identifier::Digest(sha512(&manifest));
    let known = writer(&server).manifest(&known).await.unwrap();
    writer(&server).tag(&known, &tag).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn push_response_digest_of_unknown_algorithm_is_ignored() {
    let (ours, other) = (manifest("x"), manifest("y"));
    let tag = "latest".parse().unwrap();
    let server = registry_with(&ours, "blake3:abc");
    writer(&server).tag(&ours, &tag).await.unwrap();
    let methods: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(methods, ["PUT", "HEAD", "GET"]);

    let server = registry_with(&other, sha512(&other).as_str());
    let error = writer(&server).tag(&ours, &tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}
