//! TCP proxy that limits the rate of its connections and counts the transferred bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use testkit::tcp::TcpServer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Number of pieces that are transferred per second while the rate is limited.
const PIECES: u64 = 50;

/// Proxy in front of one host. The proxy stops when the value is dropped.
#[derive(Debug)]
pub struct ThrottledProxy {
    server: TcpServer,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Rate in bytes per second, for each direction of each connection.
    rate: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl ThrottledProxy {
    /// Starts a proxy in front of `host` that transfers `rate` bytes per second in each direction of a connection.
    #[must_use]
    pub fn start(host: &str, rate: u64) -> Self {
        let state = Arc::new(State {
            rate: AtomicU64::new(rate),
            ..State::default()
        });
        let server = TcpServer::start({
            let (host, state) = (host.to_owned(), Arc::clone(&state));
            move |client, _| relay(client, host.clone(), Arc::clone(&state))
        });
        Self { server, state }
    }

    /// Returns the proxy's `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Removes the rate limit. Open connections are no longer limited either.
    pub fn remove_limit(&self) {
        self.state.rate.store(u64::MAX, Ordering::Relaxed);
    }

    /// Returns the number of bytes that the proxy has received from the host so far.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.state.received.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes that the proxy has sent to the host so far.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }
}

/// Transfers data between a client and the host until one side closes its connection.
async fn relay(client: TcpStream, host: String, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(host).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = transfer(from_server, to_client, &state.rate, &state.received) => {}
        () = transfer(from_client, to_server, &state.rate, &state.sent) => {}
    }
}

async fn transfer(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    rate: &AtomicU64,
    count: &AtomicU64,
) {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let rate = rate.load(Ordering::Relaxed);
        let size = usize::try_from(rate / PIECES).unwrap_or(usize::MAX);
        let size = size.clamp(1, buffer.len());
        let Ok(read @ 1..) = from.read(&mut buffer[..size]).await else {
            return;
        };
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        count.fetch_add(read as u64, Ordering::Relaxed);
        if rate != u64::MAX {
            tokio::time::sleep(Duration::from_millis(1000 / PIECES)).await;
        }
    }
}
