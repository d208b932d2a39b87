//! Redirects, realms and upload locations on other origins.

use oci_registry::{Access, ErrorKind, Source, Target};
use testkit::server::{Response, Server};

use crate::support::{
    CANARY, Password, blob, descriptor, error_text, read_error, reader, repository, writer,
};

#[tokio::test]
async fn redirect_to_other_origin_carries_no_credential() {
    let storage = Server::start(|_, _| Response::new(200).body("content"));
    let location = format!("http://{}/blob?X-Signature={CANARY}", storage.host());
    let server = Server::start(move |request, _| match request.header("authorization") {
        None => Response::challenge("Basic realm=\"x\""),
        Some(_) => Response::new(307).header("Location", &location),
    });
    let repository = repository(&server, Password, Access::Pull);
    let stream = repository.blob(&descriptor(b"content")).await.unwrap();
    assert_eq!(stream.read_to_end(100).await.unwrap(), "content");
    assert_eq!(server.requests().len(), 2);
    let request = &storage.requests()[0];
    for name in ["authorization", "cookie", "referer"] {
        assert_eq!(request.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn challenge_of_other_origin_receives_no_credential() {
    let attacker = Server::start(|_, _| Response::challenge("Basic realm=\"x\""));
    let location = format!("http://{}/blob", attacker.host());
    let server = Server::start(move |_, _| Response::new(307).header("Location", &location));
    let repository = repository(&server, Password, Access::Pull);
    let error = repository.blob(&descriptor(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    error_text(&error);
    let requests = attacker.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
}

#[tokio::test]
async fn redirect_to_other_scheme_or_in_a_loop_is_rejected() {
    for location in [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://user@127.0.0.1/",
        "/v2/",
        "",
    ] {
        let server = Server::start(move |_, _| Response::new(302).header("Location", location));
        let error = read_error(&reader(&server)).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{location}");
        assert!(server.requests().len() <= 6);
    }
}

#[tokio::test]
async fn realm_without_http_scheme_is_rejected() {
    for realm in [
        "ftp://127.0.0.1/",
        "file:///etc",
        "http://user@127.0.0.1/",
        "http://[::1",
    ] {
        assert_realm_is_rejected(realm).await;
    }
}

/// Checks that a registry with this realm receives one request and no credential.
async fn assert_realm_is_rejected(realm: &str) {
    let challenge = Response::challenge(format!("Bearer realm=\"{realm}\""));
    let server = Server::start(move |_, _| challenge.clone());
    let error = read_error(&repository(&server, Password, Access::Pull)).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{realm}");
    assert_eq!(server.requests().len(), 1);
    error_text(&error);
}

/// Hosts that a response may refer to only if it comes from the same host.
const SPECIAL_HOSTS: [&str; 8] = [
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[fe80::1]",
    "0.0.0.0",
    "[::]",
    "[::ffff:0.0.0.0]",
    "224.0.0.251",
    "[ff02::fb]",
];

fn port(server: &Server) -> u16 {
    let address: std::net::SocketAddr = server.host().parse().unwrap();
    address.port()
}

#[tokio::test]
async fn realm_on_special_or_private_address_receives_no_credential() {
    let elsewhere = Server::start(|_, _| Response::new(200).body(r#"{"token":"x"}"#));
    let port = port(&elsewhere);
    let private = ["10.0.0.1", "[::ffff:10.0.0.1]"];
    for host in SPECIAL_HOSTS.into_iter().chain(private) {
        assert_realm_is_rejected(&format!("http://{host}:{port}/token")).await;
    }
    assert_eq!(elsewhere.request_lines(), [""; 0]);
}

#[tokio::test]
async fn redirect_to_special_purpose_address_is_rejected() {
    let elsewhere = Server::start(|_, _| Response::new(200).body("{}"));
    let port = port(&elsewhere);
    for host in SPECIAL_HOSTS {
        let location = format!("http://{host}:{port}/x");
        let server = Server::start(move |_, _| Response::new(307).header("Location", &location));
        let error = read_error(&reader(&server)).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{host}");
    }
    assert_eq!(elsewhere.request_lines(), [""; 0]);
}

#[tokio::test]
async fn upload_location_on_special_purpose_address_is_rejected() {
    let elsewhere = Server::start(|_, _| Response::new(201));
    let port = port(&elsewhere);
    for host in SPECIAL_HOSTS {
        let location = format!("http://{host}:{port}/upload");
        let server = Server::start(move |request, _| match request.method.as_str() {
            "POST" => Response::new(202).header("Location", &location),
            _ => Response::new(404),
        });
        let pushed = writer(&server).push_blob(&blob("content")).await;
        assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Protocol, "{host}");
    }
    assert_eq!(elsewhere.request_lines(), [""; 0]);
}

#[tokio::test]
async fn redirect_of_a_token_server_receives_no_credential() {
    let attacker = Server::start(|_, _| Response::new(200).body(r#"{"token":"x"}"#));
    let location = format!("http://{}/token", attacker.host());
    let server = Server::start(move |request, _| match request.path() {
        "/token" => Response::new(307).header("Location", &location),
        _ => Response::challenge("Bearer realm=\"/token\""),
    });
    let error = read_error(&repository(&server, Password, Access::Pull)).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(attacker.request_lines(), [""; 0]);
}
