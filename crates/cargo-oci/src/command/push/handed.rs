//! Files handed in with `--file NAME=PATH[:TYPE]`: nothing is built.

use std::str::FromStr;

use oci_registry::FileName;

use crate::typed_path::TypedPath;

/// One file as it was named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandedFile {
    /// The file's name in the package.
    pub(crate) name: FileName,
    /// Its path, with its media type if one was given.
    pub(crate) place: TypedPath,
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
        Ok(Self {
            name,
            place: place.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handed_file_is_a_name_and_a_place() {
        let parse = |text: &str| {
            let file: HandedFile = text.parse().ok()?;
            Some((file.name.to_string(), file.place.to_string()))
        };
        let expected = |name: &str, place: &str| Some((name.to_owned(), place.to_owned()));
        assert_eq!(parse("w=out/w"), expected("w", "out/w"));
        assert_eq!(parse("w=a=b"), expected("w", "a=b"));
        assert_eq!(
            parse("w=out/w.json:application/json"),
            expected("w", "out/w.json:application/json")
        );
        assert_eq!(parse("w"), None);
        assert_eq!(parse("=w"), None);
        assert_eq!(parse("w="), None);
        assert_eq!(parse("../w=x"), None);
    }
}
