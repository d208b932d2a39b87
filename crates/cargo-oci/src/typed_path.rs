//! Parser for `PATH[:TYPE]` arguments: the path of a file with an optional media type.

use std::fmt;
use std::path::{Path, PathBuf};

use oci_registry::MediaType;

use crate::session::Session;

/// Unparsed `PATH[:TYPE]` argument.
///
/// A path may contain a colon, and the text after the colon may look like a media type. The argument is a path as a
/// whole if such a file exists, so it is split only when the file is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypedPath(String);

impl TypedPath {
    /// Returns the path and the media type. If the whole argument is an existing path, there is no media type.
    pub(crate) fn split(&self, session: &Session) -> (PathBuf, Option<MediaType>) {
        self.split_with(|path| session.resolve(path).exists())
    }

    fn split_with(&self, exists: impl Fn(&Path) -> bool) -> (PathBuf, Option<MediaType>) {
        let whole = Path::new(&self.0);
        // One character before the colon is a drive letter, as in `C:/x`.
        let parts = self.0.rsplit_once(':');
        match parts.filter(|(path, kind)| path.len() > 1 && is_media_type(kind)) {
            Some((path, kind)) if !exists(whole) => (path.into(), Some(kind.into())),
            _ => (whole.to_owned(), None),
        }
    }
}

impl fmt::Display for TypedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for TypedPath {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Whether text has the form `type/subtype` (RFC 6838, 4.2).
pub(crate) fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXISTING: &str = "build-2026-11-28T10:40/tool";

    #[test]
    fn argument_is_split_unless_path_exists() {
        for (text, path, kind) in [
            ("out/w", "out/w", None),
            ("C:/out/w", "C:/out/w", None),
            ("out:x", "out:x", None),
            ("out/w:application/json", "out/w", Some("application/json")),
            (EXISTING, EXISTING, None),
            (
                "build-2026-11-28T10:40/tool:application/wasm",
                EXISTING,
                Some("application/wasm"),
            ),
        ] {
            let typed = TypedPath::from(text);
            let (found, media_type) = typed.split_with(|path| path == Path::new(EXISTING));
            let media_type = media_type.map(|kind| kind.to_string());
            assert_eq!(
                (found.to_str(), media_type.as_deref()),
                (Some(path), kind),
                "{text}"
            );
        }
    }
}
