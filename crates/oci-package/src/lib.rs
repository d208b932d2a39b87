//! placeholder

mod kind;

pub use kind::{Kind, UnknownKind};
