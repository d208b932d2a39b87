//! Lists of tags and of repositories.

use futures_util::TryStreamExt;
use oci_registry::{Access, ErrorKind, RepositoryName, Source, Tag};
use testkit::server::{Request, Response, Server};

use crate::support::{NoCredential, Password, client, reader, repository};

/// Path of the list of tags.
const LIST: &str = "/v2/acme/widgets/tags/list";

async fn catalog(server: &Server) -> oci_registry::Result<Vec<RepositoryName>> {
    let name = server.host().parse().unwrap();
    let registry = client(NoCredential).registry(&name).unwrap();
    registry.catalog().try_collect().await
}

async fn tags(server: &Server) -> oci_registry::Result<Vec<Tag>> {
    reader(server).tags().try_collect().await
}

#[tokio::test]
async fn next_page_is_requested_when_needed() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/v2/acme/widgets/tags/list?n=1000" => Response::new(200)
            .header(
                "Link",
                "</v2/acme/widgets/tags/list?n=1000&last=b>; rel=\"next\"",
            )
            .body(r#"{"tags":["a","b"]}"#),
        "/v2/acme/widgets/tags/list?n=1000&last=b" => Response::new(200).body(r#"{"tags":["c"]}"#),
        other => panic!("{other}"),
    });
    let mut tags = reader(&server).tags();
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "a");
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "b");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "c");
    assert!(tags.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn next_link_to_other_origin_or_same_page_is_rejected() {
    let attacker = Server::start(|_, _| Response::new(200).body(r#"{"tags":["evil"]}"#));
    let other_origin = format!("<http://{}/v2/>; rel=next", attacker.host());
    let repeated = "</v2/acme/widgets/tags/list?n=1000>; rel=next";
    for link in [other_origin.as_str(), repeated] {
        let page = Response::new(200).header("Link", link);
        let page = page.body(r#"{"tags":["a"]}"#);
        let server = Server::start(move |_, _| page.clone());
        let error = tags(&server).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(server.requests().len(), 1);
    }
    assert_eq!(attacker.request_lines(), [""; 0]);
}

#[tokio::test]
async fn link_to_next_page_is_requested_unchanged() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/v2/_catalog?n=1000" => Response::new(200)
            .header(
                "Link",
                "</v2/_catalog?next_page=gAAAAA%3D%3D&x=1>; rel=\"next\"",
            )
            .body(r#"{"repositories":["a"]}"#),
        "/v2/_catalog?next_page=gAAAAA%3D%3D&x=1" => {
            Response::new(200).body(r#"{"repositories":null}"#)
        }
        other => panic!("{other}"),
    });
    assert_eq!(catalog(&server).await.unwrap().len(), 1);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn names_of_interrupted_page_are_returned_once() {
    let server = Server::start(|_, earlier| {
        let page = r#"{"name":"acme/widgets","tags":["a","b","c","d"]}"#;
        let response = Response::new(200).body(page);
        match earlier {
            0 => response.cut_after(40),
            1 => response.cut_after(20),
            _ => response,
        }
    });
    let mut tags = reader(&server).tags();
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "a");
    assert_eq!(tags.try_next().await.unwrap().unwrap().as_str(), "b");
    assert_eq!(server.requests().len(), 1);
    let rest = tags.map_ok(|tag| tag.to_string());
    let rest: Vec<_> = rest.try_collect().await.unwrap();
    assert_eq!(rest, ["c", "d"]);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn truncated_page_fails_after_five_requests() {
    let page = Response::new(200).body(r#"{"tags":["a","b"]}"#);
    let page = page.cut_after(12);
    let server = Server::start(move |_, _| page.clone());
    let error = tags(&server).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(server.requests().len(), 5);
}

/// Starts a server whose pages always link to another page. `names` returns the names of the page with the given
/// number.
fn endless_list(names: impl Fn(usize) -> &'static str + Send + Sync + 'static) -> Server {
    Server::start(move |request, earlier| {
        let link = format!("<{}?page={}>; rel=next", request.path(), earlier + 1);
        let page = Response::new(200).header("Link", link);
        let list = if request.path() == LIST {
            "tags"
        } else {
            "repositories"
        };
        page.body(format!(r#"{{"{list}":[{}]}}"#, names(earlier)))
    })
}

#[tokio::test]
async fn list_after_100_pages_without_new_name_is_rejected() {
    type Names = fn(usize) -> &'static str;
    let empty: Names = |_| "";
    let repeated: Names = |_| r#""a","b""#;
    let alternating: Names = |page| [r#""a""#, r#""b""#][page % 2];
    for (names, new) in [(empty, 0), (repeated, 1), (alternating, 2)] {
        let server = endless_list(names);
        let errors = [
            tags(&server).await.unwrap_err(),
            catalog(&server).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Protocol);
            let text = error.in_one_line();
            assert!(
                text.contains("more than 100 consecutive pages have no new name"),
                "{text}"
            );
        }
        assert_eq!(server.requests().len(), 2 * (new + 100));
    }
}

#[tokio::test]
async fn list_with_99_empty_pages_between_names_is_complete() {
    let server = Server::start(|_, earlier| {
        let names = match earlier {
            0 => r#""a""#,
            100 => r#""b""#,
            200 => r#""c""#,
            _ => "",
        };
        let page = Response::new(200).body(format!(r#"{{"tags":[{names}]}}"#));
        if earlier == 300 {
            return page;
        }
        page.header("Link", format!("<{LIST}?page={}>; rel=next", earlier + 1))
    });
    assert_eq!(tags(&server).await.unwrap().len(), 3);
    assert_eq!(server.requests().len(), 301);
}

#[tokio::test]
async fn list_with_rejected_page_size_is_requested_without_it() {
    for status in [400, 413] {
        let server = Server::start(move |request, _| match request.target.as_str() {
            "/v2/_catalog" => Response::new(200).body(r#"{"repositories":["a/b"]}"#),
            _ => Response::error(status, "PAGINATION_NUMBER_INVALID"),
        });
        assert_eq!(catalog(&server).await.unwrap().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn missing_catalog_is_unsupported() {
    let server = Server::start(|_, _| Response::new(404));
    let error = catalog(&server).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn catalog_with_insufficient_scope_is_unsupported() {
    let insufficient = r#"Bearer realm="/token",service="s",error="insufficient_scope""#;
    for (status, challenge, expected) in [
        (401, insufficient, ErrorKind::Unsupported),
        (403, "", ErrorKind::Unsupported),
        (401, "Basic realm=\"x\"", ErrorKind::Unauthenticated),
    ] {
        let server = Server::start(move |request, _| match request.path() {
            "/token" => Response::new(200).body(r#"{"token":"t"}"#),
            _ => Response::new(status).header("WWW-Authenticate", challenge),
        });
        let error = catalog(&server).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{status} {challenge}");
        let lines = server.request_lines();
        assert!(lines.len() <= 3, "{lines:#?}");
    }
}

// ---- lists on other origins

/// Starts a registry whose lists require a password, except URLs that contain `open`.
fn registry_with_password(script: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Server {
    Server::start(move |request, _| match request.header("authorization") {
        None if request.path() == LIST && !request.target.contains("open") => {
            Response::challenge("Basic realm=\"x\"")
        }
        _ => script(request),
    })
}

async fn tags_with_password(server: &Server) -> oci_registry::Result<Vec<Tag>> {
    let repository = repository(server, Password, Access::Pull);
    repository.tags().try_collect().await
}

/// Whether no request carries a credential.
fn all_anonymous(requests: &[Request]) -> bool {
    let mut requests = requests.iter();
    requests.all(|request| request.header("authorization").is_none())
}

#[tokio::test]
async fn redirected_list_continues_on_other_origin_anonymously() {
    let other_origin = Server::start(|request, _| match request.target.as_str() {
        "/page/1" => Response::new(200)
            .header("Link", "<2?x=1>; rel=next")
            .body(r#"{"tags":["a"]}"#),
        "/page/2?x=1" => Response::new(200).body(r#"{"tags":["b"]}"#),
        other => panic!("{other}"),
    });
    let first = format!("http://{}/page/1", other_origin.host());
    let server = registry_with_password(move |_| Response::new(307).header("Location", &first));
    let found = tags_with_password(&server).await.unwrap();
    let names: Vec<_> = found.iter().map(Tag::as_str).collect();
    assert_eq!(names, ["a", "b"]);
    let requests = other_origin.requests();
    assert_eq!(requests.len(), 2);
    assert!(all_anonymous(&requests));
}

#[tokio::test]
async fn redirected_list_with_next_page_on_registry_fails() {
    let other_origin = Server::start(|request, _| {
        let home = request.target.split_once("home=").unwrap().1;
        let link = format!("<http://{home}/v2/secret/tags/list>; rel=next");
        let page = Response::new(200).header("Link", link);
        page.body(r#"{"tags":["a"]}"#)
    });
    let host = other_origin.host();
    let server = registry_with_password(move |request| {
        let home = request.header("host").unwrap();
        Response::new(307).header("Location", format!("http://{host}/page?home={home}"))
    });
    let error = tags_with_password(&server).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    let lines = server.request_lines();
    assert!(lines.iter().all(|line| line.contains(LIST)));
}

#[tokio::test]
async fn list_redirected_back_to_registry_sends_no_credential() {
    let other_origin = Server::start(|request, _| {
        let home = request.target.split_once("home=").unwrap().1;
        Response::new(307).header("Location", format!("http://{home}{LIST}?open=1"))
    });
    let host = other_origin.host();
    let server = registry_with_password(move |request| match request.target.split_once('?') {
        Some((LIST, "open=1")) => Response::new(200)
            .header("Link", format!("<{LIST}?open=2>; rel=next"))
            .body(r#"{"tags":["a"]}"#),
        Some((LIST, "open=2")) => Response::new(200).body(r#"{"tags":["b"]}"#),
        _ => {
            let home = request.header("host").unwrap();
            Response::new(307).header("Location", format!("http://{host}/?home={home}"))
        }
    });
    assert_eq!(tags_with_password(&server).await.unwrap().len(), 2);
    let open = server.requests_starting_with(&format!("GET {LIST}?open"));
    assert_eq!(open.len(), 2);
    assert!(all_anonymous(&open));
}
