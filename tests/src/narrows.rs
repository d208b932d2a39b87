//! A narrow way to a registry: so many bytes a second and no more, and a count of them.
//!
//! It carries bytes, not requests, and ends with its value.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often a connection carries something, in a second.
const STEPS: u64 = 50;

/// A way to one registry.
#[derive(Debug)]
pub struct Narrows {
    host: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    /// Bytes a second in each direction of each connection.
    rate: AtomicU64,
    down: AtomicU64,
    up: AtomicU64,
}

impl Narrows {
    /// A way to `host` on which each connection carries so many bytes a second, in each direction.
    #[must_use]
    pub fn before(host: &str, rate: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound port has a number");
        let shared = Arc::new(Shared::default());
        shared.rate.store(rate, Ordering::Relaxed);
        let (server, sharing) = (host.to_owned(), Arc::clone(&shared));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if sharing.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                let pair = client.try_clone().ok().zip(server.try_clone().ok());
                let (client_again, server_again) = pair.expect("a socket has two ends");
                let (down, up) = (Arc::clone(&sharing), Arc::clone(&sharing));
                std::thread::spawn(move || carry(server, client, &down, |shared| &shared.down));
                std::thread::spawn(move || {
                    carry(client_again, server_again, &up, |shared| &shared.up);
                });
            }
        });
        Self {
            host: address.to_string(),
            shared,
        }
    }

    /// `127.0.0.1:PORT` of this end.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Lets everything pass from now on, however fast.
    pub fn widen(&self) {
        self.shared.rate.store(u64::MAX, Ordering::Relaxed);
    }

    /// How many bytes came from the registry so far.
    #[must_use]
    pub fn down(&self) -> u64 {
        self.shared.down.load(Ordering::Relaxed)
    }

    /// How many bytes went to the registry so far.
    #[must_use]
    pub fn up(&self) -> u64 {
        self.shared.up.load(Ordering::Relaxed)
    }
}

impl Drop for Narrows {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Lets the listener look.
        let _ = TcpStream::connect(&self.host);
    }
}

#[expect(clippy::disallowed_methods, reason = "to be slow is what this is for")]
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    shared: &Shared,
    count: impl Fn(&Shared) -> &AtomicU64,
) {
    let mut buffer = vec![0; 1 << 20];
    while !shared.is_over.load(Ordering::Relaxed) {
        let rate = shared.rate.load(Ordering::Relaxed);
        let room = usize::try_from(rate / STEPS).unwrap_or(usize::MAX);
        let room = room.clamp(1, buffer.len());
        let Ok(read @ 1..) = from.read(&mut buffer[..room]) else {
            break;
        };
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        count(shared).fetch_add(read as u64, Ordering::Relaxed);
        if rate != u64::MAX {
            std::thread::sleep(Duration::from_millis(1000 / STEPS));
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
