//! How content gets into a registry, and what is done when it does not get there at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_registry::{
    Access, Blob, Client, ClientOptions, Delivery, Digest, Environment, ErrorKind, MediaType,
    Meter, Observer, Repository, Step, Target,
};
use scripted::client::{Me, Nobody, client, repository};
use scripted::{Asked, Reply, Server};

/// What a registry keeps that takes content as the specification says.
#[derive(Default)]
struct Shelf {
    sessions: Mutex<HashMap<String, Vec<u8>>>,
    blobs: Mutex<HashMap<String, Vec<u8>>>,
}

impl Shelf {
    fn put(&self, session: &str, bytes: &[u8]) {
        let mut sessions = self.sessions.lock().unwrap();
        sessions
            .entry(session.to_owned())
            .or_default()
            .extend(bytes);
    }

    fn held(&self, session: &str) -> usize {
        self.sessions
            .lock()
            .unwrap()
            .get(session)
            .map_or(0, Vec::len)
    }

    /// Where a session stands, as registries say it.
    fn range(&self, session: &str) -> String {
        format!("0-{}", self.held(session).saturating_sub(1))
    }

    fn answer(&self, asked: &Asked, before: usize) -> Reply {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let session = Reply::new(202).header("Location", path);
        match asked.method.as_str() {
            "HEAD" => {
                let digest = path.rsplit('/').next().unwrap();
                let is_here = self.blobs.lock().unwrap().contains_key(digest);
                Reply::new(if is_here { 200 } else { 404 })
            }
            "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
            "PATCH" => {
                let range = asked.header("content-range").unwrap_or("0-");
                if !range.starts_with(&format!("{}-", self.held(path))) {
                    return Reply::new(416).header("Range", self.range(path));
                }
                self.put(path, &asked.body);
                session.header("Range", self.range(path))
            }
            "GET" => Reply::new(204)
                .header("Location", path)
                .header("Range", self.range(path)),
            "PUT" => {
                self.put(path, &asked.body);
                let content = self.sessions.lock().unwrap().remove(path).unwrap();
                let digest = Digest::sha256(&content).to_string();
                if query.contains(&digest) {
                    self.blobs.lock().unwrap().insert(digest, content);
                    Reply::new(201)
                } else {
                    Reply::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#)
                }
            }
            _ => Reply::new(204),
        }
    }
}

/// A registry that takes content as the specification says, but for what the script says.
async fn registry(
    script: impl Fn(&Shelf, &Asked, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, Arc<Shelf>) {
    let shelf = Arc::new(Shelf::default());
    let kept = Arc::clone(&shelf);
    let server = Server::start(move |asked, before| {
        script(&kept, asked, before).unwrap_or_else(|| kept.answer(asked, before))
    })
    .await;
    (server, shelf)
}

fn count(server: &Server, method: &str) -> usize {
    let asked = server.asked();
    asked.iter().filter(|asked| asked.method == method).count()
}

fn content(size: u32) -> Vec<u8> {
    (0..size)
        .map(|at| u8::try_from(at % 253).unwrap())
        .collect()
}

/// A file of nine mebibytes, which is worth hashing on the way.
fn large_file() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    let content = content(9 << 20);
    std::fs::write(&path, &content).unwrap();
    (directory, path, content)
}

/// Pushes the large file, and looks whether it came to be what it is.
async fn push_large(server: &Server, shelf: &Shelf) -> oci_registry::Result<Delivery> {
    let (_home, path, content) = large_file();
    let repository = repository(server, Nobody, Access::Push);
    let (blob, delivery) = repository
        .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
        .await?;
    let kept = shelf.blobs.lock().unwrap();
    assert!(
        kept.get(blob.digest().as_str())
            .is_some_and(|kept| *kept == content)
    );
    Ok(delivery)
}

/// Pushes content whose digest is known, and looks whether it came to be what it is.
async fn push_known(
    repository: &Repository,
    shelf: &Shelf,
    content: Vec<u8>,
) -> oci_registry::Result<Delivery> {
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, content.clone());
    let delivery = repository.push_blob(&blob).await?;
    let kept = shelf.blobs.lock().unwrap();
    assert!(
        kept.get(blob.digest().as_str())
            .is_some_and(|kept| *kept == content)
    );
    Ok(delivery)
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_not_sent_twice() {
    let server = Server::start(|asked, before| match (asked.method.as_str(), before) {
        ("HEAD", 0) => Reply::new(404),
        ("HEAD", _) => Reply::new(200),
        ("POST", _) => Reply::new(202).header("Location", "/upload"),
        ("PUT", _) => Reply::new(201).header("Content-Length", 10).cut(0),
        _ => Reply::new(202),
    })
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    let pushed = repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
    assert_eq!(
        server
            .lines()
            .iter()
            .filter(|line| line.starts_with("PUT"))
            .count(),
        1
    );
}

#[tokio::test]
async fn a_broken_upload_begins_anew_elsewhere() {
    let server = Server::start(|asked, before| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
        "PUT" if asked.target.starts_with("/upload/0") => Reply::new(500),
        "PUT" => Reply::new(201),
        _ => Reply::new(405),
    })
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await
        .unwrap();
    let lines = server.lines();
    assert!(lines.contains(&"DELETE /upload/0".to_owned()), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.starts_with("PUT /upload/1")),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn a_location_elsewhere_gets_the_content_and_no_credential() {
    let storage = Server::start(|_, _| Reply::new(201)).await;
    let place = format!("http://{}/upload", storage.host());
    let server = Server::start(move |asked, _| {
        match (asked.header("authorization"), asked.method.as_str()) {
            (None, _) => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            (_, "HEAD") => Reply::new(404),
            _ => Reply::new(202).header("Location", &place),
        }
    })
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    repository(&server, Me, Access::Push)
        .push_blob(&blob)
        .await
        .unwrap();
    let asked = storage.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].header("authorization"), asked[0].body.as_slice()),
        (None, &b"content"[..])
    );
}

#[tokio::test]
async fn content_that_changed_after_it_was_hashed_is_not_sent_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for (before, after) in [("one", "two"), ("one", "o"), ("one", "longer")] {
        std::fs::write(&path, before).unwrap();
        let blob = Blob::from_file(MediaType::OCTET_STREAM, &path)
            .await
            .unwrap();
        std::fs::write(&path, after).unwrap();
        let server = Server::start(|asked, _| match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", "/upload"),
            _ => Reply::new(201),
        })
        .await;
        let error = repository(&server, Nobody, Access::Push)
            .push_blob(&blob)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{before} became {after}");
    }
}

#[tokio::test]
async fn a_small_file_is_sent_as_the_bytes_that_were_hashed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("small");
    let content = content(1 << 20);
    std::fs::write(&path, &content).unwrap();
    let changing = path.clone();
    // Who changes it while it is on its way changes nothing about that.
    let (server, shelf) = registry(move |_, asked, _| {
        if asked.method == "POST" {
            std::fs::write(&changing, "something else").unwrap();
        }
        None
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let pushed = repository
        .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
        .await;
    let (blob, delivery) = pushed.unwrap();
    assert_eq!(delivery, Delivery::Uploaded);
    assert_eq!(*blob.digest(), Digest::sha256(&content));
    assert!(shelf.blobs.lock().unwrap()[blob.digest().as_str()] == content);
    // What is kept of it is the file, which is another one by now.
    let error = blob.open().await.unwrap().read_to_end(2 << 20).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn a_large_file_is_hashed_while_it_is_sent() {
    let (_home, path, content) = large_file();
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", "/upload?state=1"),
        "PATCH" => Reply::new(202).header("Location", "/upload?state=2"),
        _ => Reply::new(201),
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let (blob, delivery) = repository
        .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
        .await
        .unwrap();
    assert_eq!(
        (blob.digest(), delivery),
        (&Digest::sha256(&content), Delivery::Uploaded)
    );
    let asked = server.asked();
    let methods: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "HEAD", "PUT"]);
    assert_eq!(asked[1].target, "/upload?state=1");
    assert_eq!(asked[1].body, content);
    assert_eq!(asked[1].header("content-range"), None);
    assert_eq!(
        asked[3].target,
        format!("/upload?state=2&digest={}", blob.digest())
    );
    assert_eq!(asked[3].header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_large_file_that_is_there_costs_one_aborted_session() {
    let (_home, path, _) = large_file();
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "HEAD" => Reply::new(200),
        "POST" | "PATCH" => Reply::new(202).header("Location", "/upload"),
        _ => Reply::new(204),
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let (_, delivery) = repository
        .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
        .await
        .unwrap();
    assert_eq!(delivery, Delivery::Existed);
    assert_eq!(
        server.lines().last().map(String::as_str),
        Some("DELETE /upload")
    );
}

#[tokio::test]
async fn a_registry_that_wants_digests_first_is_remembered() {
    let (_home, path, content) = large_file();
    for status in [405, 416, 501] {
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", "/upload"),
            "PATCH" => Reply::new(status),
            "PUT" => Reply::new(201),
            _ => Reply::new(405),
        })
        .await;
        let repository = repository(&server, Nobody, Access::Push);
        for _ in 0..2 {
            let (blob, _) = repository
                .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
                .await
                .unwrap();
            assert_eq!(*blob.digest(), Digest::sha256(&content));
        }
        let count = |method: &str| {
            server
                .asked()
                .iter()
                .filter(|asked| asked.method == method)
                .count()
        };
        assert_eq!((count("PATCH"), count("PUT")), (1, 2), "{status}");
    }
}

#[tokio::test]
async fn a_streamed_upload_that_breaks_begins_anew() {
    let (_home, path, content) = large_file();
    let server = Server::start(|asked, before| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("Location", format!("/upload/{before}")),
        "PATCH" if asked.target == "/upload/0" => Reply::new(500),
        "PATCH" => Reply::new(201).header("Location", "/upload/next"),
        "PUT" => Reply::new(201),
        _ => Reply::new(202),
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let (blob, _) = repository
        .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
        .await
        .unwrap();
    assert_eq!(*blob.digest(), Digest::sha256(&content));
    let lines = server.lines();
    assert!(lines.contains(&"PATCH /upload/1".to_owned()), "{lines:#?}");
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("PUT /upload/next?digest="),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn every_way_of_not_mounting_is_survived() {
    for (status, mounted) in [
        (201, true),
        (202, false),
        (401, false),
        (404, false),
        (405, false),
        (500, false),
    ] {
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" if asked.target.contains("mount=") => {
                let (_, digest) = asked.target.split_once("mount=").unwrap();
                let digest = digest.split('&').next().unwrap().replace("%3A", ":");
                Reply::new(status)
                    .header("Location", "/upload/mount")
                    .header("Docker-Content-Digest", digest)
            }
            "POST" => Reply::new(202).header("Location", "/upload/own"),
            _ => Reply::new(201),
        })
        .await;
        let origin = format!("{}/acme/gadgets", server.host()).parse().unwrap();
        let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content").with_origin(Some(origin));
        let delivery = repository(&server, Nobody, Access::Push)
            .push_blob(&blob)
            .await
            .unwrap();
        assert_eq!(delivery == Delivery::Mounted, mounted, "{status}");
        let lines = server.lines();
        assert!(
            lines[1].contains(&format!("mount={}", blob.digest()).replace(':', "%3A")),
            "{lines:#?}"
        );
        assert!(lines[1].contains("from=acme%2Fgadgets"), "{lines:#?}");
        let put = lines.iter().find(|line| line.starts_with("PUT"));
        match status {
            201 => assert_eq!(put, None),
            202 => assert!(put.unwrap().starts_with("PUT /upload/mount"), "{put:?}"),
            _ => assert!(put.unwrap().starts_with("PUT /upload/own"), "{put:?}"),
        }
    }
}

// ---- what broke off

#[tokio::test]
async fn a_stream_that_broke_off_goes_on_where_the_registry_says() {
    let (server, shelf) = registry(|shelf, asked, before| {
        // The connection dies twice, each time after some mebibytes.
        (asked.method == "PATCH" && before < 2).then(|| {
            shelf.put("/upload/0", &asked.body[..3 << 20]);
            Reply::lost()
        })
    })
    .await;
    assert_eq!(
        push_large(&server, &shelf).await.unwrap(),
        Delivery::Uploaded
    );
    assert_eq!(count(&server, "POST"), 1);
    let asked = server.asked();
    let ranges: Vec<_> = asked
        .iter()
        .filter(|asked| asked.method == "PATCH")
        .map(|asked| (asked.header("content-range"), asked.body.len() >> 20))
        .collect();
    assert_eq!(
        ranges,
        [
            (None, 9),
            (Some("3145728-9437183"), 6),
            (Some("6291456-9437183"), 3)
        ]
    );
}

#[tokio::test]
async fn a_stream_whose_session_is_gone_begins_anew() {
    for range in [
        None,
        Some("0-0"),
        Some("0-99999999"),
        Some("5-10"),
        Some("soon"),
    ] {
        let (server, shelf) = registry(move |_, asked, before| match asked.method.as_str() {
            "PATCH" if before == 0 && asked.target == "/upload/0" => Some(Reply::lost()),
            "GET" => Some(range.map_or(Reply::new(404), |range| {
                Reply::new(204).header("Range", range)
            })),
            _ => None,
        })
        .await;
        push_large(&server, &shelf).await.unwrap();
        assert_eq!(count(&server, "POST"), 2, "{range:?}");
        assert!(server.lines().contains(&"DELETE /upload/0".to_owned()));
    }
}

#[tokio::test]
async fn what_was_put_together_wrongly_is_sent_anew_in_one_piece() {
    // The registry says that it has more than it has.
    let (server, shelf) = registry(|shelf, asked, before| match asked.method.as_str() {
        "PATCH" if before == 0 && asked.target == "/upload/0" => {
            shelf.put("/upload/0", &vec![0; 1 << 20]);
            Some(Reply::lost())
        }
        _ => None,
    })
    .await;
    push_large(&server, &shelf).await.unwrap();
    assert_eq!((count(&server, "POST"), count(&server, "PUT")), (2, 2));
}

#[tokio::test]
async fn an_upload_that_gets_no_further_is_given_up() {
    let (server, shelf) = registry(|_, asked, _| match asked.method.as_str() {
        "PATCH" => Some(Reply::lost()),
        _ => None,
    })
    .await;
    let error = push_large(&server, &shelf).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!((count(&server, "POST"), count(&server, "PATCH")), (5, 5));
}

#[tokio::test]
async fn a_whole_blob_that_broke_off_never_goes_into_its_session_again() {
    let (server, shelf) = registry(|shelf, asked, _| match asked.method.as_str() {
        "PUT" if asked.target.starts_with("/upload/0") => {
            shelf.put("/upload/0", &asked.body[..2 << 20]);
            Some(Reply::lost())
        }
        // The second time it goes so that it can be continued, and has to be.
        "PATCH" if asked.header("content-range").is_none() => {
            shelf.put("/upload/1", &asked.body[..4 << 20]);
            Some(Reply::lost())
        }
        _ => None,
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    push_known(&repository, &shelf, content(9 << 20))
        .await
        .unwrap();
    let lines = server.lines();
    let after: Vec<_> = lines
        .iter()
        .skip_while(|line| !line.starts_with("PUT /upload/0"))
        .skip(1)
        .collect();
    assert!(
        after
            .iter()
            .all(|line| !line.contains("/upload/0") || line.starts_with("DELETE")),
        "{lines:#?}"
    );
    assert_eq!((count(&server, "POST"), count(&server, "PATCH")), (2, 2));
}

#[tokio::test]
async fn a_session_that_could_not_be_closed_is_closed_again_without_its_content() {
    let (server, shelf) = registry(|_, asked, before| {
        (asked.method == "PUT" && before == 0).then(|| Reply::new(503))
    })
    .await;
    push_large(&server, &shelf).await.unwrap();
    assert_eq!(
        (
            count(&server, "POST"),
            count(&server, "PATCH"),
            count(&server, "PUT")
        ),
        (1, 1, 2)
    );
}

// ---- chunks

#[tokio::test]
async fn a_registry_that_takes_no_large_requests_gets_chunks_and_is_remembered() {
    let (server, shelf) =
        registry(|_, asked, _| (asked.body.len() > 8 << 20).then(|| Reply::new(413))).await;
    let repository = repository(&server, Nobody, Access::Push);
    push_known(&repository, &shelf, content(10 << 20))
        .await
        .unwrap();
    push_known(&repository, &shelf, content(11 << 20))
        .await
        .unwrap();
    push_known(&repository, &shelf, content(100)).await.unwrap();
    let sent: Vec<_> = server
        .asked()
        .iter()
        .filter(|asked| !asked.body.is_empty())
        .map(|asked| {
            let range = asked.header("content-range").unwrap_or_default().to_owned();
            (asked.method.clone(), range)
        })
        .collect();
    let sent: Vec<_> = sent
        .iter()
        .map(|(method, range)| (&**method, &**range))
        .collect();
    assert_eq!(
        sent,
        [
            ("PUT", ""),
            ("PATCH", "0-8388607"),
            ("PATCH", "8388608-10485759"),
            ("PATCH", "0-8388607"),
            ("PATCH", "8388608-11534335"),
            ("PUT", ""),
        ]
    );
}

#[tokio::test]
async fn chunks_shrink_until_they_are_taken() {
    // As GitHub's registry says it, in the middle of a session.
    let (server, shelf) = registry(|_, asked, _| match (asked.method.as_str(), asked.body.len()) {
        ("PUT", 1..) => Some(Reply::new(413)),
        ("PATCH", size) if size > 4 << 20 => Some(Reply::new(416).body(
            r#"{"errors":[{"code":"REQUESTED_RANGE_NOT_SATISFIABLE","message":"limit of 4.00MiB"}]}"#,
        )),
        _ => None,
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    push_known(&repository, &shelf, content(9 << 20))
        .await
        .unwrap();
    let sizes: Vec<_> = server
        .asked()
        .iter()
        .filter(|asked| asked.method == "PATCH")
        .map(|asked| asked.body.len() >> 20)
        .collect();
    assert_eq!(sizes, [8, 4, 4, 1]);
    // A registry that takes nothing at all is not asked for ever.
    let (server, shelf) =
        registry(|_, asked, _| (!asked.body.is_empty()).then(|| Reply::new(413))).await;
    let repository = scripted::client::repository(&server, Nobody, Access::Push);
    let error = push_known(&repository, &shelf, content(9 << 20))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(count(&server, "PATCH"), 3);
}

#[tokio::test]
async fn the_least_size_of_chunks_is_honoured_as_far_as_it_makes_sense() {
    for (least, first) in [
        ("10485760", 10 << 20),
        ("4611686018427387904", 8 << 20),
        ("much", 8 << 20),
        ("1", 8 << 20),
    ] {
        let (server, shelf) = registry(move |_, asked, before| match asked.method.as_str() {
            "PUT" if !asked.body.is_empty() => Some(Reply::new(413)),
            "POST" => Some(
                Reply::new(202)
                    .header("Location", format!("/upload/{before}"))
                    .header("OCI-Chunk-Min-Length", least),
            ),
            _ => None,
        })
        .await;
        let ignored = Arc::new(Mutex::new(Vec::new()));
        let mut options = ClientOptions::new(Environment::default());
        options.credentials = Arc::new(Nobody);
        options.observer = Observer::new({
            let ignored = Arc::clone(&ignored);
            move |step| {
                if let Step::Ignored { from, what } = step {
                    ignored.lock().unwrap().push(format!("{from} {what}"));
                }
            }
        });
        let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
        let client = Client::new(options);
        let repository = client.repository(&reference, Access::Push).unwrap();
        push_known(&repository, &shelf, content(11 << 20))
            .await
            .unwrap();
        let asked = server.asked();
        let chunk = asked.iter().find(|asked| asked.method == "PATCH").unwrap();
        assert_eq!(chunk.body.len(), first, "{least}");
        let ignored = ignored.lock().unwrap();
        let is_ignored = matches!(least, "4611686018427387904" | "much");
        assert_eq!(ignored.len(), usize::from(is_ignored), "{ignored:?}");
        let says = format!("127.0.0.1 `OCI-Chunk-Min-Length: {least}`");
        assert!(
            ignored.iter().all(|told| told.starts_with(&says)),
            "{ignored:?}"
        );
    }
}

#[tokio::test]
async fn a_stale_range_is_not_believed_after_a_success() {
    // As Amazon's registry answers: 201, and the end of an earlier chunk.
    let (server, shelf) = registry(|shelf, asked, _| match asked.method.as_str() {
        "PUT" if !asked.body.is_empty() => Some(Reply::new(413)),
        "PATCH" => {
            let path = asked.target.as_str();
            shelf.put(path, &asked.body);
            Some(
                Reply::new(201)
                    .header("Location", path)
                    .header("Range", "0-8388607"),
            )
        }
        _ => None,
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    push_known(&repository, &shelf, content(20 << 20))
        .await
        .unwrap();
    assert_eq!((count(&server, "POST"), count(&server, "PATCH")), (2, 3));
}

#[tokio::test]
async fn a_chunk_that_stands_in_the_wrong_place_follows_the_registry() {
    // The first chunk arrived, and its answer said that it had not.
    let (server, shelf) = registry(|shelf, asked, before| match asked.method.as_str() {
        "PUT" if !asked.body.is_empty() => Some(Reply::new(413)),
        "PATCH" if before == 0 => {
            shelf.put(&asked.target, &asked.body[..1 << 20]);
            Some(Reply::new(416))
        }
        _ => None,
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    push_known(&repository, &shelf, content(9 << 20))
        .await
        .unwrap();
    let second = server.asked();
    let second = second
        .iter()
        .filter(|asked| asked.method == "PATCH")
        .nth(1)
        .unwrap();
    assert_eq!(second.header("content-range"), Some("1048576-9437183"));
}

#[tokio::test]
async fn chunks_that_a_registry_does_not_know_are_its_own_refusal() {
    let (server, shelf) = registry(|_, asked, _| match asked.method.as_str() {
        "PUT" => Some(Reply::new(413)),
        "PATCH" => Some(Reply::new(405)),
        _ => None,
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let error = push_known(&repository, &shelf, content(9 << 20))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

// ---- mounts without a name, and ends

#[tokio::test]
async fn a_mount_without_a_name_is_tried_until_it_is_refused() {
    let (server, shelf) = registry(|_, asked, _| {
        asked.target.contains("mount=").then(|| {
            assert!(!asked.target.contains("from="));
            Reply::new(400)
        })
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    push_known(&repository, &shelf, content(10)).await.unwrap();
    push_known(&repository, &shelf, content(20)).await.unwrap();
    assert_eq!(count(&server, "POST"), 3);
    let (server, _) = registry(|_, asked, before| match asked.method.as_str() {
        "POST" => Some(Reply::new(201).header("Location", "/blob")),
        "HEAD" if before > 0 => Some(Reply::new(200)),
        _ => None,
    })
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "somewhere else already");
    let repository = scripted::client::repository(&server, Nobody, Access::Push);
    assert_eq!(
        repository.push_blob(&blob).await.unwrap(),
        Delivery::Mounted
    );
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_mount_is_believed_when_it_is_seen() {
    let (server, shelf) = registry(|_, asked, _| {
        let is_mount = asked.target.contains("mount=");
        is_mount.then(|| Reply::new(201).header("Location", "/upload/mount"))
    })
    .await;
    let repository = repository(&server, Nobody, Access::Push);
    let pushed = push_known(&repository, &shelf, content(10)).await;
    assert_eq!(pushed.unwrap(), Delivery::Uploaded);
}

// ---- what strangers say

#[tokio::test]
async fn who_was_sent_elsewhere_comes_back_as_nobody() {
    let target = Arc::new(Mutex::new(String::new()));
    let place = Arc::clone(&target);
    // The storage points back at something of the registry that we may delete.
    let storage = Server::start(move |_, _| {
        let place = place.lock().unwrap().clone();
        Reply::new(202).header("Location", place)
    })
    .await;
    let upload = format!("http://{}/upload", storage.host());
    let server = Server::start(move |asked, _| {
        match (asked.header("authorization"), asked.method.as_str()) {
            (None, _) => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            (_, "HEAD") => Reply::new(404),
            (_, "POST") => Reply::new(202).header("Location", &upload),
            _ => Reply::new(202),
        }
    })
    .await;
    let prize = format!("http://{}/v2/acme/prod/manifests/latest", server.host());
    target.lock().unwrap().clone_from(&prize);
    let (_home, path, _) = large_file();
    let client = client(Me);
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    let repository = client.repository(&reference, Access::Push).unwrap();
    let pushed = repository
        .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
        .await;
    pushed.unwrap_err();
    client.cancel_uploads().await;
    let there: Vec<_> = server
        .asked()
        .into_iter()
        .filter(|asked| asked.target.contains("/prod/"))
        .collect();
    assert!(!there.is_empty());
    assert!(
        there
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    assert!(
        storage
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[tokio::test]
async fn an_answer_before_the_end_is_no_success() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    // It says yes to a PATCH at once, and reads no more of it.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if stream.read_until(b'\n', &mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let is = |method: &[u8]| head.starts_with(method);
                    let status = if is(b"HEAD") || is(b"GET") { 404 } else { 202 };
                    let reply = format!(
                        "HTTP/1.1 {status} Early\r\nLocation: /upload\r\nContent-Length: 0\r\n\r\n"
                    );
                    if stream.write_all(reply.as_bytes()).await.is_err() {
                        return;
                    }
                    if is(b"PATCH") {
                        return std::future::pending().await;
                    }
                }
            });
        }
    });
    let (_home, path, _) = large_file();
    let reference = format!("{host}/acme/widgets").parse().unwrap();
    let repository = client(Nobody).repository(&reference, Access::Push).unwrap();
    let pushed = repository
        .push_file(MediaType::OCTET_STREAM, &path, &Meter::default())
        .await;
    assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Network);
    server.abort();
}

#[tokio::test]
async fn sessions_that_are_open_at_the_end_are_cancelled() {
    let (server, _) = registry(|_, asked, _| (asked.method == "PUT").then(Reply::silent)).await;
    let client = client(Nobody);
    let reference = format!("{}/acme/widgets", server.host()).parse().unwrap();
    let repository = client.repository(&reference, Access::Push).unwrap();
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "content");
    let pushing = tokio::spawn(async move { repository.push_blob(&blob).await });
    while count(&server, "PUT") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pushing.abort();
    client.cancel_uploads().await;
    client.cancel_uploads().await;
    let cancelled: Vec<_> = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("DELETE"))
        .collect();
    assert_eq!(cancelled, ["DELETE /upload/0"]);
}
