//! Files handed in with `--file NAME=PATH[:TYPE]`: nothing is built.

use std::path::PathBuf;
use std::str::FromStr;

use oci_registry::{FileName, MediaType};

use super::super::is_media_type;

/// One file as it was named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandedFile {
    /// The file's name in the package.
    pub(crate) name: FileName,
    /// Where it is, relative to the working directory.
    pub(crate) path: PathBuf,
    /// Its media type, when one was given.
    pub(crate) media_type: Option<MediaType>,
}

impl FromStr for HandedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split_once('=')
            .filter(|(name, place)| !name.is_empty() && !place.is_empty());
        let (name, place) = parts.ok_or("expected NAME=PATH or NAME=PATH:TYPE")?;
        let name = name
            .parse::<FileName>()
            .map_err(|error| error.to_string())?;
        // `C:/x` is a drive and not a media type: a path before a type has more than one character.
        let typed = place
            .rsplit_once(':')
            .filter(|(path, kind)| path.len() > 1 && is_media_type(kind));
        let (path, media_type) = match typed {
            Some((path, kind)) => (path, Some(MediaType::from(kind))),
            None => (place, None),
        };
        Ok(Self {
            name,
            path: path.into(),
            media_type,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_types_are_told_apart() {
        let parse = |text: &str| {
            let file: HandedFile = text.parse().ok()?;
            Some((
                file.name.to_string(),
                file.path.to_str()?.to_owned(),
                file.media_type.map(|kind| kind.to_string()),
            ))
        };
        let plain = |name: &str, path: &str| Some((name.to_owned(), path.to_owned(), None));
        assert_eq!(parse("w=out/w"), plain("w", "out/w"));
        assert_eq!(parse("w=C:/out/w"), plain("w", "C:/out/w"));
        assert_eq!(parse("w=out:x"), plain("w", "out:x"));
        assert_eq!(parse("w=a=b"), plain("w", "a=b"));
        assert_eq!(
            parse("w=out/w.json:application/json"),
            Some((
                "w".into(),
                "out/w.json".into(),
                Some("application/json".into())
            ))
        );
        assert_eq!(parse("w"), None);
        assert_eq!(parse("=w"), None);
        assert_eq!(parse("w="), None);
        assert_eq!(parse("../w=x"), None);
    }
}
