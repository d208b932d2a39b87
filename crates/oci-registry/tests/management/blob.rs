//! Blobs of which nothing is known but their digest.

use oci_registry::{Digest, ErrorKind, Source};

use crate::scripted::{Reply, Server};
use crate::{packed, places, push, repository};

#[tokio::test]
async fn a_blob_is_found_by_its_digest_alone() {
    for (place, _keep) in places().await {
        push(&*place, &packed("content"), &["1"]).await;
        let digest = Digest::sha256(b"content");
        assert_eq!(place.find_blob(&digest).await.unwrap().size, 7);
        let absent = place.find_blob(&Digest::sha256(b"other")).await;
        assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_registry_is_asked_for_the_size_of_a_blob() {
    let digest = Digest::sha256(b"content");
    for (reply, expected) in [
        (Reply::new(200).body("content"), Ok(7)),
        (Reply::new(404), Err(ErrorKind::NotFound)),
        (Reply::new(403), Err(ErrorKind::Denied)),
    ] {
        let server = Server::start(move |_, _| reply.clone()).await;
        let found = repository(&server).find_blob(&digest).await;
        let found = found.map(|found| found.size).map_err(|error| error.kind());
        assert_eq!(found, expected);
        let asked = server.asked();
        assert_eq!(
            asked[0].line(),
            format!("HEAD /v2/acme/widgets/blobs/{digest}")
        );
    }
}
