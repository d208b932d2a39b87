//! HTTP/2 connections of a scripted server.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Fault, Request, Response, Shared};

pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Arc<Shared>,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let going_away = Arc::new(Notify::new());
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            next = connection.accept() => {
                let Some(next) = next else {
                    return Ok(());
                };
                let (request, respond) = next?;
                let (shared, going_away) = (Arc::clone(shared), Arc::clone(&going_away));
                streams.spawn(async move {
                    let _ = serve_stream(request, respond, &shared, &going_away).await;
                });
            }
            () = going_away.notified() => connection.abrupt_shutdown(Reason::NO_ERROR),
        }
    }
}

async fn serve_stream(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: &Shared,
    going_away: &Notify,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let headers = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let target = head.uri.path_and_query();
    let (position, response) = shared.respond(&Request {
        method: head.method.to_string(),
        target: target.map_or_else(String::new, ToString::to_string),
        headers: headers.collect(),
        ..Request::default()
    });
    let limit = match response.fault {
        Some(Fault::Reset(_, received)) => received,
        _ => usize::MAX,
    };
    let mut received = 0;
    while received < limit
        && let Some(piece) = body.data().await
    {
        let piece = piece?;
        received += piece.len();
        body.flow_control().release_capacity(piece.len())?;
        shared.requests.lock().unwrap()[position]
            .body
            .extend(&piece);
    }
    match response.fault {
        Some(Fault::Reset(reason, _)) => respond.send_reset(reason),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Close) => going_away.notify_one(),
        Some(Fault::Cut(sent) | Fault::Stall(sent, _)) => {
            let mut sending = respond.send_response(response_head(&response), false)?;
            let body = Bytes::from(response.body).slice(..sent);
            send(&mut sending, body, false).await?;
            going_away.notify_one();
        }
        None => {
            let mut sending = respond.send_response(response_head(&response), false)?;
            send(&mut sending, response.body.into(), true).await?;
        }
    }
    Ok(())
}

fn response_head(response: &Response) -> http::Response<()> {
    let mut head = http::Response::builder().status(response.status);
    for (name, value) in &response.headers {
        head = head.header(name, value);
    }
    if !response.has_header("content-length") {
        head = head.header("content-length", response.body.len());
    }
    head.body(()).unwrap()
}

/// Sends data as far as the flow-control window of the client allows.
async fn send(
    sending: &mut SendStream<Bytes>,
    mut rest: Bytes,
    is_end: bool,
) -> Result<(), h2::Error> {
    while !rest.is_empty() {
        sending.reserve_capacity(rest.len());
        let capacity = std::future::poll_fn(|context| sending.poll_capacity(context)).await;
        let Some(capacity) = capacity.transpose()? else {
            return Ok(());
        };
        let piece = rest.split_to(capacity.min(rest.len()));
        sending.send_data(piece, false)?;
    }
    sending.send_data(Bytes::new(), is_end)
}
