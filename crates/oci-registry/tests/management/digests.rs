//! What the client makes of registries that name content by another algorithm than everybody's.

use oci_registry::{Algorithm, Digest, ErrorKind, Identifier, Manifest, Source, Target};

use crate::scripted::{Reply, Server};
use crate::{packed, repository};

fn manifest(content: &'static str) -> Manifest {
    packed(content).manifest().clone()
}

fn sha512(manifest: &Manifest) -> Digest {
    Algorithm::Sha512.digest(manifest.bytes())
}

fn latest() -> Identifier {
    Identifier::Tag("latest".parse().unwrap())
}

/// A registry that holds one manifest and calls it `digest`, for all that is put there.
async fn holding(manifest: &Manifest, digest: impl ToString) -> Server {
    let (manifest, digest) = (manifest.clone(), digest.to_string());
    Server::start(move |asked, _| {
        let status = if asked.method == "PUT" { 201 } else { 200 };
        Reply::new(status)
            .header("Content-Type", manifest.media_type())
            .header("Docker-Content-Digest", &digest)
            .body(manifest.bytes())
    })
    .await
}

#[tokio::test]
async fn a_tag_s_digest_is_everybody_s_whatever_the_registry_calls_it() {
    let manifest = manifest("x");
    for digest in [sha512(&manifest).to_string(), "blake3:abc".to_owned()] {
        let server = holding(&manifest, &digest).await;
        let found = repository(&server).resolve(&latest()).await.unwrap();
        assert_eq!(found.digest, *manifest.digest());
        let path = "/v2/acme/widgets/manifests/latest";
        assert_eq!(
            server.lines(),
            [format!("HEAD {path}"), format!("GET {path}")]
        );
    }
}

#[tokio::test]
async fn what_was_asked_for_by_sha512_is_named_so() {
    let manifest = manifest("x");
    let digest = sha512(&manifest);
    let server = holding(&manifest, &digest).await;
    let repository = repository(&server);
    let asked = Identifier::Digest(digest.clone());
    assert_eq!(repository.resolve(&asked).await.unwrap().digest, digest);
    let found = repository.manifest(&asked).await.unwrap();
    assert_eq!((found.digest(), &found), (&digest, &manifest));
}

#[tokio::test]
async fn an_answer_to_a_push_by_another_algorithm_is_checked_and_believed() {
    let manifest = manifest("x");
    let server = holding(&manifest, sha512(&manifest)).await;
    let tag = "latest".parse().unwrap();
    repository(&server).tag(&manifest, &tag).await.unwrap();
    repository(&server).push_manifest(&manifest).await.unwrap();
    assert_eq!(
        server.lines(),
        [
            "PUT /v2/acme/widgets/manifests/latest".to_owned(),
            format!("PUT /v2/acme/widgets/manifests/{}", manifest.digest())
        ]
    );
    // The other way: what is known by sha512 here is called by sha256 there.
    let server = holding(&manifest, manifest.digest()).await;
    let known = Identifier::Digest(sha512(&manifest));
    let known = repository(&server).manifest(&known).await.unwrap();
    repository(&server).tag(&known, &tag).await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn an_unknown_algorithm_is_no_answer_and_other_content_is_not_kept() {
    let (ours, other) = (manifest("x"), manifest("y"));
    let tag = "latest".parse().unwrap();
    let server = holding(&ours, "blake3:abc").await;
    repository(&server).tag(&ours, &tag).await.unwrap();
    let methods: Vec<_> = server
        .asked()
        .into_iter()
        .map(|asked| asked.method)
        .collect();
    assert_eq!(methods, ["PUT", "HEAD", "GET"]);

    let server = holding(&other, sha512(&other)).await;
    let error = repository(&server).tag(&ours, &tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}
