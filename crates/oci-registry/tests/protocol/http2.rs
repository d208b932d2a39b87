//! HTTP/2 faults: refused and reset streams, and connections that end with GOAWAY.

use bytes::Bytes;
use oci_registry::{Access, Client, Delivery, Repository, Source, Target};
use testkit::certificates::Authority;
use testkit::server::{Reason, Request, Response, Server, Tls};

use crate::support::{NoCredential, blob, bytes, descriptor, open, options};

/// Size of content that exceeds the flow-control windows of a connection, in bytes.
const SIZE: usize = 1 << 20;

/// Registry that speaks HTTP/2 only, and the directory of its CA certificate.
struct Registry {
    server: Server,
    certificates: tempfile::TempDir,
}

impl Registry {
    fn start(script: impl Fn(&Request, usize) -> Response + Send + Sync + 'static) -> Self {
        let (authority, certificates) = (Authority::new(), tempfile::tempdir().unwrap());
        std::fs::write(certificates.path().join("ca.crt"), authority.pem()).unwrap();
        let tls = Tls {
            http2: true,
            ..Tls::new(&authority)
        };
        Self {
            server: Server::start_tls(tls, script),
            certificates,
        }
    }

    fn repository(&self) -> Repository {
        let mut options = options(NoCredential);
        options.ca_file = Some(self.certificates.path().join("ca.crt"));
        open(&Client::new(options), &self.server, Access::Push)
    }

    async fn read_blob(&self) -> Bytes {
        let descriptor = descriptor(&bytes(SIZE));
        let stream = self.repository().blob(&descriptor).await.unwrap();
        stream.read_to_end(SIZE).await.unwrap()
    }
}

#[tokio::test]
async fn reset_http2_stream_is_requested_again() {
    for reason in [Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR] {
        let registry = Registry::start(move |request, earlier| match earlier {
            0 | 1 => Response::stream_reset(reason, 0),
            _ => Response::range_of(bytes(SIZE), request),
        });
        assert_eq!(registry.read_blob().await, bytes(SIZE));
        assert_eq!(registry.server.requests().len(), 3, "{reason}");
    }
}

#[tokio::test]
async fn http2_response_with_200_kib_of_header_fields_is_read() {
    let registry = Registry::start(|_, _| {
        (0..100).fold(Response::new(200).body(bytes(SIZE)), |response, _| {
            response.header("x-field", "x".repeat(2000))
        })
    });
    assert_eq!(registry.read_blob().await, bytes(SIZE));
}

#[tokio::test]
async fn http2_download_resumes_after_goaway() {
    let registry = Registry::start(|request, earlier| match earlier {
        0 => Response::new(200).body(bytes(SIZE)).cut_after(SIZE / 2),
        _ => Response::range_of(bytes(SIZE), request),
    });
    assert_eq!(registry.read_blob().await, bytes(SIZE));
    let requests = registry.server.requests();
    assert_eq!(requests.len(), 2);
    let (first, last) = requests[1].range().unwrap();
    assert!(0 < first && first <= SIZE / 2, "{first}");
    assert_eq!(last, None);
}

#[tokio::test]
async fn http2_upload_after_a_stream_reset_uses_a_new_session() {
    for (reason, received) in [
        (Reason::INTERNAL_ERROR, SIZE / 4),
        (Reason::REFUSED_STREAM, 0),
        (Reason::NO_ERROR, 1),
    ] {
        let registry = Registry::start(move |request, earlier| {
            if request.line().starts_with("PUT /upload/0") {
                Response::stream_reset(reason, received)
            } else {
                Response::accepted_upload(request, earlier)
            }
        });
        let pushed = registry.repository().push_blob(&blob(bytes(SIZE))).await;
        assert_eq!(pushed.unwrap(), Delivery::Uploaded, "{reason}");
        let server = &registry.server;
        assert_eq!(server.count("PUT /upload/0"), 1);
        assert_eq!(server.count("DELETE /upload/0"), 1);
        let uploads = server.requests_starting_with("PUT");
        assert_eq!(uploads.len(), 2, "{:?}", server.request_lines());
        assert_eq!(uploads[1].path(), "/upload/1");
        assert!(uploads[1].body == bytes(SIZE), "the body is incomplete");
    }
}
