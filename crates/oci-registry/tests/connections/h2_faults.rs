//! Faults that only HTTP/2 has: streams refused and reset, and connections that go away under them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};
use oci_registry::{
    Access, Anonymous, Blob, Client, ClientOptions, Delivery, Descriptor, Digest, Environment,
    MediaType, Repository, Source, Target,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::certificates::{Authority, Pair};

/// More than the windows of a connection hold.
const SIZE: usize = 1 << 20;

/// What becomes of a request.
#[derive(Debug, Clone)]
enum Then {
    /// This answer, whole.
    Answer(u16, Vec<(&'static str, String)>, Bytes),
    /// The beginning of this answer; then the connection goes away.
    GoAway(Bytes, usize),
    /// The stream is reset without an answer, after so many bytes of its body.
    Reset(Reason, usize),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    range: Option<String>,
    body: Vec<u8>,
}

type Script = dyn Fn(&str, usize, Option<&str>) -> Then + Send + Sync;

/// A registry that speaks HTTP/2 only, and answers as a script says: which request this is, how many such there were
/// before, and from where it wants a blob.
struct Server {
    address: SocketAddr,
    authority: Authority,
    log: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(
        script: impl Fn(&str, usize, Option<&str>) -> Then + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new();
        let Pair { certificate, key } = authority.sign("127.0.0.1");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![certificate.der().clone()];
        let config = config.with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (log, script) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(script));
        let task = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let script: Arc<Script> = script.clone();
                    let served = serve(acceptor.clone(), stream, script, Arc::clone(&log));
                    tokio::spawn(served);
                }
            }
        });
        Self {
            address,
            authority,
            log,
            task,
        }
    }

    fn repository(&self, directory: &std::path::Path) -> Repository {
        let authority = directory.join("ca.crt");
        std::fs::write(&authority, self.authority.certificate.pem()).unwrap();
        let mut options = ClientOptions::new(Environment::default());
        options.credentials = Arc::new(Anonymous);
        options.ca_file = Some(authority);
        let reference = format!("{}/acme/widgets", self.address).parse().unwrap();
        let client = Client::new(options);
        client.repository(&reference, Access::Push).unwrap()
    }

    fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Asked>>>,
) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let leaving = Arc::new(Notify::new());
    loop {
        tokio::select! {
            next = connection.accept() => {
                let Some(Ok((request, respond))) = next else {
                    return;
                };
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                let leaving = Arc::clone(&leaving);
                tokio::spawn(async move {
                    let _ = answer(request, respond, &*script, &log, &leaving).await;
                });
            }
            () = leaving.notified() => connection.abrupt_shutdown(Reason::NO_ERROR),
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    script: &Script,
    log: &Mutex<Vec<Asked>>,
    leaving: &Notify,
) -> Result<(), h2::Error> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let range = request.headers().get("range");
    let range = range.map(|range| range.to_str().unwrap().to_owned());
    let (number, before) = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|asked| asked.line == line).count();
        log.push(Asked {
            line: line.clone(),
            range: range.clone(),
            body: Vec::new(),
        });
        (log.len() - 1, before)
    };
    let then = script(&line, before, range.as_deref());
    let limit = match &then {
        Then::Reset(_, after) => *after,
        _ => usize::MAX,
    };
    let mut body = request.into_body();
    let mut read = 0;
    while read < limit
        && let Some(piece) = body.data().await
    {
        let piece = piece?;
        read += piece.len();
        body.flow_control().release_capacity(piece.len())?;
        log.lock().unwrap()[number].body.extend(&piece);
    }
    match then {
        Then::Reset(reason, _) => respond.send_reset(reason),
        Then::Answer(status, headers, content) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            let response = response.header("content-length", content.len()).body(());
            let mut sending = respond.send_response(response.unwrap(), false)?;
            send(&mut sending, &content, true).await?;
        }
        Then::GoAway(content, after) => {
            let response = Response::builder().status(StatusCode::OK);
            let response = response.header("content-length", content.len()).body(());
            let mut sending = respond.send_response(response.unwrap(), false)?;
            send(&mut sending, &content.slice(..after), false).await?;
            leaving.notify_one();
        }
    }
    Ok(())
}

/// Sends no more than the other side has room for at a time.
async fn send(
    sending: &mut h2::SendStream<Bytes>,
    content: &Bytes,
    is_end: bool,
) -> Result<(), h2::Error> {
    let mut rest = content.clone();
    while !rest.is_empty() {
        sending.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|context| sending.poll_capacity(context)).await;
        let Some(room) = room.transpose()? else {
            return Ok(());
        };
        let piece = rest.split_to(room.min(rest.len()));
        sending.send_data(piece, false)?;
    }
    sending.send_data(Bytes::new(), is_end)
}

fn content() -> Bytes {
    (0..SIZE)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

fn blob() -> Blob {
    Blob::from_bytes(MediaType::OCTET_STREAM, content())
}

/// What a registry answers who asks for the content, or for the rest of it.
fn served(range: Option<&str>) -> Then {
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match from {
        None => Then::Answer(200, Vec::new(), content()),
        Some(from) => {
            let range = format!("bytes {from}-{}/{SIZE}", SIZE - 1);
            let from: usize = from.parse().unwrap();
            let rest = content().slice(from..);
            Then::Answer(206, vec![("content-range", range)], rest)
        }
    }
}

async fn fetched(server: &Server) -> Bytes {
    let home = tempfile::tempdir().unwrap();
    let content = content();
    let descriptor = Descriptor::new(
        MediaType::OCTET_STREAM,
        Digest::sha256(&content),
        SIZE as u64,
    );
    let repository = server.repository(home.path());
    let stream = repository.blob(&descriptor).await.unwrap();
    stream.read_to_end(SIZE).await.unwrap()
}

#[tokio::test]
async fn a_refused_or_broken_stream_is_asked_for_again() {
    for reason in [Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR] {
        let server = Server::start(move |_, before, range| match before {
            0 | 1 => Then::Reset(reason, 0),
            _ => served(range),
        })
        .await;
        assert_eq!(fetched(&server).await, content());
        assert_eq!(server.asked().len(), 3, "{reason}");
    }
}

#[tokio::test]
async fn response_with_200_kib_of_header_fields_is_read() {
    let server = Server::start(|_, _, _| {
        let field = || ("x-field", "x".repeat(2000));
        let fields = std::iter::repeat_with(field).take(100).collect();
        Then::Answer(200, fields, content())
    })
    .await;
    assert_eq!(fetched(&server).await, content());
}

#[tokio::test]
async fn a_download_whose_connection_goes_away_goes_on_where_it_was() {
    let server = Server::start(|_, before, range| match before {
        0 => Then::GoAway(content(), SIZE / 2),
        _ => served(range),
    })
    .await;
    assert_eq!(fetched(&server).await, content());
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    let range = asked[1].range.as_deref().unwrap();
    let from: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
    assert!(0 < from && from <= SIZE / 2, "{range}");
}

#[tokio::test]
async fn an_upload_whose_stream_is_reset_begins_anew_in_another_session() {
    for (reason, after) in [
        (Reason::INTERNAL_ERROR, SIZE / 4),
        (Reason::REFUSED_STREAM, 0),
        (Reason::NO_ERROR, 1),
    ] {
        let server = Server::start(move |line, before, _| match line {
            "PUT /upload/0" => Then::Reset(reason, after),
            _ if line.starts_with("PUT") => Then::Answer(201, Vec::new(), Bytes::new()),
            _ if line.starts_with("POST") => {
                let location = vec![("location", format!("/upload/{before}"))];
                Then::Answer(202, location, Bytes::new())
            }
            _ if line.starts_with("HEAD") => Then::Answer(404, Vec::new(), Bytes::new()),
            _ => Then::Answer(204, Vec::new(), Bytes::new()),
        })
        .await;
        let home = tempfile::tempdir().unwrap();
        let pushed = server.repository(home.path()).push_blob(&blob()).await;
        assert_eq!(pushed.unwrap(), Delivery::Uploaded, "{reason}");
        let lines = server.lines();
        let count = |line: &str| lines.iter().filter(|asked| *asked == line).count();
        assert_eq!(count("PUT /upload/0"), 1, "{lines:?}");
        assert_eq!(count("DELETE /upload/0"), 1, "{lines:?}");
        let again = server.asked().into_iter();
        let again: Vec<_> = again
            .filter(|asked| asked.line.starts_with("PUT"))
            .collect();
        assert_eq!(again.len(), 2, "{lines:?}");
        assert_eq!(again[1].line, "PUT /upload/1");
        assert!(again[1].body == content(), "all of it, from its beginning");
    }
}
