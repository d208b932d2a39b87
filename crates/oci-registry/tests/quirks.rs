//! What single registries do in their own way: each case is one that a real registry has been seen to be. The table of all
//! of them, with the tests that cover them here and elsewhere, is `QUIRKS.md`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scripted;

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Annotations, Blob, Client, ClientOptions, Credential, CredentialProvider,
    CredentialRequest, Delete, Delivery, Digest, Environment, ErrorKind, Hint, Identifier, Lookup,
    MediaType, Observer, Secret, Source, Step, Tag, Target,
};
use scripted::client::{CANARY, Me, Nobody, client, repository};
use scripted::{Reply, Server};

fn tag(name: &str) -> Identifier {
    Identifier::Tag(name.parse::<Tag>().unwrap())
}

/// Someone with an identity token.
#[derive(Debug)]
struct Identity;

#[async_trait::async_trait]
impl CredentialProvider for Identity {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        let credential = Credential::Identity(Secret::new(CANARY));
        Ok(Lookup {
            found: Some((credential, "a test".into())),
            looked_in: vec!["a test".into()],
            ..Lookup::default()
        })
    }
}

#[test]
fn every_test_that_the_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("QUIRKS.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![
        root.join("src"),
        root.join("tests"),
        root.join("../../tests/tests"),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let mut count = 0;
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test covers: {row}");
        for test in named {
            assert!(
                sources.contains(&format!("fn {test}()")),
                "there is no test `{test}`"
            );
        }
        count += 1;
    }
    println!("{count} quirks, each with a test");
    assert!(count > 40, "{count}");
}

#[tokio::test]
async fn an_answer_with_bare_line_ends_is_an_answer() {
    let server = Server::start(|_, _| {
        Reply::new(429)
            .header("Retry-After", 90)
            .header("Content-Type", "text/plain")
            .body("Too Many Requests")
            .bare_lines()
    })
    .await;
    let repository = repository(&server, Nobody, Access::Pull);
    let error = repository.manifest(&tag("1")).await.unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (ErrorKind::RateLimited, 1)
    );
    assert_eq!(error.hints(), ["try again in 90 seconds".into()]);
}

#[tokio::test]
async fn docker_hub_answers_under_another_name_and_keeps_its_own_in_a_library() {
    let server = Server::start(|_, _| Reply::new(404)).await;
    let host = server.host();
    let (_, port) = host.rsplit_once(':').unwrap();
    let ask = async |name: &str| {
        let mut options = ClientOptions::new(Environment::default());
        options.credentials = Arc::new(Nobody);
        options.plain_http = Some(true);
        options.resolve = vec![
            format!("registry-1.docker.io:{port}:127.0.0.1")
                .parse()
                .unwrap(),
        ];
        let reference = name.parse().unwrap();
        let repository = Client::new(options)
            .repository(&reference, Access::Pull)
            .unwrap();
        repository.manifest(&tag("1")).await.unwrap_err()
    };
    for name in [
        "docker.io/alpine",
        "index.docker.io/alpine",
        "docker.io/acme/widgets",
    ] {
        assert_eq!(ask(name).await.kind(), ErrorKind::NotFound, "{name}");
    }
    let asked: Vec<_> = server
        .asked()
        .iter()
        .map(|asked| {
            (
                asked.header("host").unwrap().to_owned(),
                asked.target.clone(),
            )
        })
        .collect();
    for (host, _) in &asked {
        assert!(host.starts_with("registry-1.docker.io"), "{host}");
    }
    let targets: Vec<_> = asked.iter().map(|(_, target)| target.as_str()).collect();
    assert_eq!(
        targets,
        [
            "/v2/library/alpine/manifests/1",
            "/v2/library/alpine/manifests/1",
            "/v2/acme/widgets/manifests/1"
        ]
    );
}

#[tokio::test]
async fn an_identity_is_posted_and_where_that_is_unknown_shown_as_a_password() {
    for status in [200, 400, 401, 404, 405] {
        let server = Server::start(move |asked, _| {
            let is_token = asked.target.starts_with("/token");
            match (asked.method.as_str(), asked.header("authorization")) {
                ("POST", None) if is_token && status == 200 => {
                    Reply::new(200).body(r#"{"access_token":"opaque, and not looked into"}"#)
                }
                ("POST", _) if is_token => Reply::new(status),
                ("GET", Some(_)) if is_token => {
                    Reply::new(200).body(r#"{"token":"opaque, and not looked into"}"#)
                }
                (_, Some("Bearer opaque, and not looked into")) => Reply::new(404),
                _ => Reply::new(401)
                    .header("WWW-Authenticate", r#"Bearer realm="/token",service="s""#),
            }
        })
        .await;
        let repository = repository(&server, Identity, Access::Pull);
        let error = repository.manifest(&tag("1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{status}");
        let asked = server.asked();
        let form = String::from_utf8(asked[1].body.clone()).unwrap();
        for part in [
            "grant_type=refresh_token",
            "service=s",
            "client_id=oci-registry",
            "scope=repository%3Aacme%2Fwidgets%3Apull",
            &format!("refresh_token={CANARY}"),
        ] {
            assert!(form.contains(part), "{form}");
        }
        let gets = asked
            .iter()
            .filter(|asked| asked.line().starts_with("GET /token"));
        assert_eq!(gets.count(), usize::from(status != 200), "{status}");
    }
}

#[tokio::test]
async fn a_mount_asks_for_one_token_of_both_repositories() {
    let server = Server::start(|asked, _| match asked.header("authorization") {
        _ if asked.target.starts_with("/token") => Reply::new(200).body(r#"{"token":"t"}"#),
        None => Reply::new(401).header("WWW-Authenticate", "Bearer realm=\"/token\""),
        _ if asked.method == "HEAD" => Reply::new(404),
        _ => Reply::new(201)
            .header("Location", "/blob")
            .header("Docker-Content-Digest", Digest::sha256(b"x")),
    })
    .await;
    let origin = format!("{}/acme/gadgets", server.host()).parse().unwrap();
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "x").with_origin(Some(origin));
    let repository = repository(&server, Nobody, Access::Push);
    assert_eq!(
        repository.push_blob(&blob).await.unwrap(),
        Delivery::Mounted
    );
    let lines = server.lines();
    let token = lines.iter().rfind(|line| line.contains("/token")).unwrap();
    for scope in ["acme%2Fwidgets%3Apull%2Cpush", "acme%2Fgadgets%3Apull"] {
        assert!(
            token.contains(&format!("scope=repository%3A{scope}")),
            "{token}"
        );
    }
}

#[tokio::test]
async fn a_repository_that_has_to_be_created_first_is_said_to() {
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "POST" => Reply::new(404).body(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        _ => Reply::new(404),
    })
    .await;
    let blob = Blob::from_bytes(MediaType::OCTET_STREAM, "x");
    let error = repository(&server, Nobody, Access::Push)
        .push_blob(&blob)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.registry_errors()[0].code, "NAME_UNKNOWN");
    let hints = format!("{:?}", error.hints());
    assert!(hints.contains("created"), "{hints}");
}

#[tokio::test]
async fn every_success_is_a_success() {
    for (blob, manifest, deletion) in [
        (201, 201, 202),
        (200, 200, 200),
        (202, 202, 204),
        (204, 204, 202),
    ] {
        let server = Server::start(move |asked, before| {
            let digest = asked
                .target
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            match asked.method.as_str() {
                "PUT" if asked.target.starts_with("/upload") => Reply::new(blob),
                "PUT" => Reply::new(manifest).header("Docker-Content-Digest", digest),
                "POST" => Reply::new(202).header("Location", "/upload"),
                "DELETE" => Reply::new(deletion),
                "HEAD" if before > 0 => Reply::new(200),
                _ => Reply::new(404),
            }
        })
        .await;
        let repository = repository(&server, Nobody, Access::Push);
        let empty = Blob::empty();
        repository.push_blob(&empty).await.unwrap();
        let packed =
            oci_registry::Packed::new("a/b".into(), empty.clone(), vec![], Annotations::new());
        repository
            .push_manifest(packed.unwrap().manifest())
            .await
            .unwrap();
        repository.delete_blob(empty.digest()).await.unwrap();
        let sent = server.asked();
        let upload = sent
            .iter()
            .find(|asked| asked.target.starts_with("/upload"))
            .unwrap();
        assert_eq!(upload.header("content-length"), Some("2"));
        assert_eq!(
            upload.header("content-type"),
            Some("application/octet-stream")
        );
    }
}

#[tokio::test]
async fn nobody_is_asked_to_compress_anything() {
    let server = Server::start(|_, _| Reply::new(404)).await;
    let repository = repository(&server, Nobody, Access::Pull);
    repository.manifest(&tag("1")).await.unwrap_err();
    repository
        .blob(Blob::empty().descriptor())
        .await
        .unwrap_err();
    for asked in server.asked() {
        assert!(matches!(
            asked.header("accept-encoding"),
            None | Some("identity")
        ));
    }
    assert_eq!(
        server.asked()[1].header("accept-encoding"),
        Some("identity")
    );
}

#[tokio::test]
async fn what_a_server_warns_of_is_passed_on_once() {
    let server =
        Server::start(|_, _| Reply::new(404).header("Warning", "299 - \"this registry moves\""))
            .await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = Arc::new(Nobody);
    let telling = Arc::clone(&heard);
    options.observer = Observer::new(move |step| {
        if let Step::Warning { from, text } = step {
            telling.lock().unwrap().push(format!("{from}: {text}"));
        }
    });
    let reference = format!("{}/a", server.host()).parse().unwrap();
    let repository = Client::new(options)
        .repository(&reference, Access::Pull)
        .unwrap();
    for _ in 0..2 {
        repository.manifest(&tag("1")).await.unwrap_err();
    }
    assert_eq!(*heard.lock().unwrap(), ["127.0.0.1: this registry moves"]);
}

#[tokio::test]
async fn response_with_many_and_invalid_header_lines_is_read() {
    let server = Server::start(|_, _| {
        let mut reply = Reply::new(200).header("Bad Name", "x").header("", "y");
        for number in 0..300 {
            reply = reply.header(&format!("X-Field-{number}"), number);
        }
        for text in ["one", "two", "one"] {
            reply = reply.header("Warning", format!("299 - \"{text}\""));
        }
        reply.body(r#"{"tags":["1"]}"#)
    })
    .await;
    let warned = Arc::new(Mutex::new(Vec::new()));
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = Arc::new(Nobody);
    options.observer = Observer::new({
        let warned = Arc::clone(&warned);
        move |step| {
            if let Step::Warning { text, .. } = step {
                warned.lock().unwrap().push(text.clone());
            }
        }
    });
    let reference = format!("{}/a", server.host()).parse().unwrap();
    let repository = Client::new(options).repository(&reference, Access::Pull);
    let repository = repository.unwrap();
    for _ in 0..2 {
        let tags: Vec<Tag> = repository.tags().try_collect().await.unwrap();
        assert_eq!(tags, ["1".parse::<Tag>().unwrap()]);
    }
    assert_eq!(*warned.lock().unwrap(), ["one", "two"]);
}

#[tokio::test]
async fn response_with_too_many_header_lines_is_refused() {
    let server = Server::start(|_, _| {
        let fields = 0..500;
        fields.fold(Reply::new(200), |reply, number| {
            reply.header(&format!("X-Field-{number}"), number)
        })
    })
    .await;
    let repository = repository(&server, Nobody, Access::Pull);
    let error = repository.manifest(&tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
}

#[tokio::test]
async fn plain_http_to_a_tls_port_names_the_flag() {
    for (body, is_named) in [
        ("Client sent an HTTP request to an HTTPS server.\n", true),
        (
            "<title>400 The plain HTTP request was sent to HTTPS port</title>",
            true,
        ),
        (
            "Reason: You're speaking plain HTTP to an SSL-enabled server port.",
            true,
        ),
        ("This combination of host and port requires TLS.", true),
        ("bad request", false),
    ] {
        let server = Server::start(move |_, _| Reply::new(400).body(body)).await;
        let repository = repository(&server, Nobody, Access::Pull);
        let error = repository.manifest(&tag("1")).await.unwrap_err();
        let hints = error.hints();
        assert_eq!(hints == [Hint::UseTls], is_named, "{body}: {hints:?}");
    }
}

#[tokio::test]
async fn a_page_on_the_way_is_taken_as_the_server_wrote_it() {
    let server = Server::start(|asked, _| match asked.target.as_str() {
        "/v2/_catalog?n=1000" => Reply::new(200)
            .header(
                "Link",
                "</v2/_catalog?next_page=gAAAAA%3D%3D&x=1>; rel=\"next\"",
            )
            .body(r#"{"repositories":["a"]}"#),
        "/v2/_catalog?next_page=gAAAAA%3D%3D&x=1" => {
            Reply::new(200).body(r#"{"repositories":null}"#)
        }
        other => panic!("{other}"),
    })
    .await;
    let registry = client(Me)
        .registry(&server.host().parse().unwrap())
        .unwrap();
    let names: Vec<_> = futures_util::TryStreamExt::try_collect(registry.catalog())
        .await
        .unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!(server.asked().len(), 2);
}
