//! HTTP/1.1 connections of a scripted server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::{Fault, Request, Response, Shared, advance_clock};

pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    client_certificate: Option<Vec<u8>>,
    shared: &Shared,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read_request(&mut stream, shared.read_pace).await? {
        request.client_certificate.clone_from(&client_certificate);
        let (_, response) = shared.respond(&request);
        advance_clock(response.delay).await;
        match response.fault {
            Some(Fault::Close | Fault::Reset(..)) => return Ok(()),
            Some(Fault::Silence) => return std::future::pending().await,
            _ => {}
        }
        stream
            .write_all(response_head(&response).as_bytes())
            .await?;
        if request.method != "HEAD" {
            write_body(&mut stream, &response).await?;
        }
        stream.flush().await?;
        match response.fault {
            Some(Fault::Stall(_, time)) => {
                advance_clock(time).await;
                return std::future::pending().await;
            }
            Some(_) => return Ok(()),
            None => {}
        }
    }
    Ok(())
}

fn response_head(response: &Response) -> String {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", response.status);
    for (name, value) in &response.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !response.has_header("content-length") {
        let _ = write!(head, "Content-Length: {}\r\n", response.body.len());
    }
    format!("{head}\r\n").replace("\r\n", response.line_end)
}

async fn write_body(stream: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let end = match response.fault {
        Some(Fault::Cut(sent) | Fault::Stall(sent, _)) => sent,
        _ => response.body.len(),
    };
    let (size, interval) = response.pace.unwrap_or((usize::MAX, Duration::ZERO));
    for piece in response.body[..end].chunks(size) {
        stream.write_all(piece).await?;
        stream.flush().await?;
        advance_clock(interval).await;
    }
    Ok(())
}

/// Reads a request. Returns `None` if the client has closed the connection.
async fn read_request(
    stream: &mut (impl AsyncBufReadExt + Unpin),
    pace: Option<(usize, Duration)>,
) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length");
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    let (size, interval) = pace.unwrap_or((usize::MAX, Duration::ZERO));
    for piece in body.chunks_mut(size) {
        stream.read_exact(piece).await?;
        advance_clock(interval).await;
    }
    Ok(Some(Request {
        method,
        target,
        headers,
        body,
        client_certificate: None,
    }))
}
