//! Plain TCP server on 127.0.0.1, for connections that are interrupted before HTTP.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use crate::loopback;

/// Server that passes each connection to a handler. The server stops when the value is dropped.
#[derive(Debug)]
pub struct TcpServer {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TcpServer {
    /// Starts a server. The handler receives each connection and the number of earlier connections.
    pub fn start<H, F>(handler: H) -> Self
    where
        H: Fn(TcpStream, usize) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let accepting = loopback::current_runtime().spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            // When the server stops, the set is dropped, which closes all connections.
            let mut connections = JoinSet::new();
            for earlier in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                // With Nagle's algorithm, a body that follows its head waits 40 ms for the delayed acknowledgement.
                // Setting the option fails if the client has already closed the connection.
                let _ = stream.set_nodelay(true);
                connections.spawn(handler(stream, earlier));
            }
        });
        Self { address, accepting }
    }

    /// Returns `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
