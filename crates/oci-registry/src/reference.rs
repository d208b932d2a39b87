//! References to repositories and their content (distribution-spec, "Pulling Manifests").
//!
//! Provides [`Reference`] and its parts ([`name`]), the short forms of docker ([`docker`]), and locations that may also
//! be layout directories and archives ([`location`]). Parsing is strict, and its errors have the span of the invalid
//! bytes. The parsers access neither files nor the network. Except for the short forms of docker, they do not guess a
//! registry and do not add the tag `latest`.

mod docker;
mod full;
mod identifier;
mod location;
mod name;

pub use full::Reference;
pub use identifier::Identifier;
pub use location::{ArchiveFormat, ImageName, Location, LocationText};
pub(crate) use location::{ParsedLocation, PathAndName};
pub(crate) use name::DOCKER_HUB;
pub use name::{RegistryName, RepositoryName, Tag};
