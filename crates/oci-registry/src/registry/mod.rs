//! Client for registries over HTTP (distribution-spec 1.1).
//!
//! [`Client`] holds the connections, credentials and tokens of a process. [`Registry`] is one registry. [`Repository`]
//! is one repository of a registry and implements [`Source`](crate::storage::Source) and
//! [`Target`](crate::storage::Target).

mod catalog;
mod client;
mod delete;
mod download;
mod manifests;
pub(crate) mod page;
mod ping;
mod ranges;
mod referrers;
mod repository;
mod requests;
pub(crate) mod response;
mod upload;

pub use catalog::Registry;
pub use client::{Client, ClientOptions, RegistryOptions, TransferStats};
pub use ping::{PingResponse, RegistryAccess};
pub use repository::Repository;
pub use requests::Access;
