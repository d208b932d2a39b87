//! Incremental parser for the names in one page of a list. It parses the page while the page arrives.
//!
//! Some registries return the whole list in one page, so only the incomplete part of the document `{"name": …, "tags":
//! ["a", "b", …]}` is kept in memory. `serde_json` parses the parts: keys, names, and the values of other members.

use std::collections::VecDeque;

use serde::de::{DeserializeOwned, IgnoredAny};
use snafu::{ResultExt, Snafu, ensure};

/// Keys of the lists in a page (distribution-spec, "Listing Tags"; the catalog of docker's registry API).
const LISTS: [&str; 2] = ["tags", "repositories"];

/// Maximum length of a key or name in a page, in bytes of JSON. A valid tag has at most 128 characters, a valid
/// repository name at most 255.
const MAX_NAME: usize = 4 << 10;

/// Maximum length of the value of another member, in bytes of JSON. Google's registries send an object that describes
/// every manifest of the repository.
const MAX_OTHER: usize = 16 << 20;

/// Maximum number of names in a page.
const MAX_NAMES: usize = 1_000_000;

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("expected {expected}, found `{}`", found.escape_ascii()))]
    Unexpected { expected: &'static str, found: u8 },
    #[snafu(display("the document is incomplete"))]
    Incomplete,
    #[snafu(display("the document has no list of names"))]
    NoList,
    #[snafu(display("the document has two lists of names"))]
    TwoLists,
    #[snafu(display("a part of the document has more than {limit} bytes"))]
    TooLong { limit: usize },
    #[snafu(display("the list has more than {MAX_NAMES} names"))]
    TooMany,
    #[snafu(display("a part of the document is not valid JSON"))]
    Malformed { source: serde_json::Error },
}

/// Incremental parser of one page.
#[derive(Debug)]
pub(super) struct NamesParser {
    /// Received bytes of the last part of the document, which is incomplete.
    buffer: Vec<u8>,
    /// Length of `buffer` at which the buffer is parsed again. The length doubles while a value is incomplete, so that
    /// a long value is not parsed again for each chunk.
    parse_at: usize,
    expected: Expected,
    has_list: bool,
    count: usize,
}

/// Part of the document that the parser expects next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Document,
    Key { may_end: bool },
    Colon { is_list: bool },
    List,
    Name { may_end: bool },
    AfterName,
    Value,
    AfterValue,
    End,
}

impl NamesParser {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            parse_at: 0,
            expected: Expected::Document,
            has_list: false,
            count: 0,
        }
    }

    /// Parses the next bytes of the page, and appends the names that are complete.
    pub(super) fn feed(&mut self, bytes: &[u8], names: &mut VecDeque<String>) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < self.parse_at {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = trim_start(&buffer);
        while let Some(&first) = rest.first() {
            let Some(after) = self.parse_part(first, rest, names)? else {
                break;
            };
            rest = trim_start(after);
        }
        self.buffer.extend_from_slice(rest);
        self.parse_at = match self.expected {
            Expected::Value => 2 * rest.len(),
            _ => 0,
        };
        Ok(())
    }

    /// Parses the end of the page, and appends the last names.
    pub(super) fn finish(&mut self, names: &mut VecDeque<String>) -> Result<(), Error> {
        self.parse_at = 0;
        self.feed(&[], names)?;
        ensure!(self.expected == Expected::End, IncompleteSnafu);
        ensure!(self.has_list, NoListSnafu);
        Ok(())
    }

    /// Parses one part of the document. Returns the bytes after the part, or `None` if the part is incomplete.
    fn parse_part<'a>(
        &mut self,
        first: u8,
        bytes: &'a [u8],
        names: &mut VecDeque<String>,
    ) -> Result<Option<&'a [u8]>, Error> {
        let mut rest = &bytes[1..];
        self.expected = match (self.expected, first) {
            (Expected::Document, b'{') => Expected::Key { may_end: true },
            (Expected::Key { .. }, b'"') => {
                let Some((key, after)) = parse::<String>(bytes, MAX_NAME)? else {
                    return Ok(None);
                };
                rest = after;
                let is_list = LISTS.contains(&key.as_str());
                ensure!(!(is_list && self.has_list), TwoListsSnafu);
                self.has_list |= is_list;
                Expected::Colon { is_list }
            }
            (Expected::Key { may_end: true } | Expected::AfterValue, b'}') => Expected::End,
            (Expected::Colon { is_list: true }, b':') => Expected::List,
            (Expected::Colon { is_list: false }, b':') => Expected::Value,
            (Expected::List, b'[') => Expected::Name { may_end: true },
            // Some registries send `null` for an empty list.
            (Expected::List, b'n') => {
                let Some(((), after)) = parse(bytes, MAX_NAME)? else {
                    return Ok(None);
                };
                rest = after;
                Expected::AfterValue
            }
            (Expected::Name { .. }, b'"') => {
                let Some((name, after)) = parse(bytes, MAX_NAME)? else {
                    return Ok(None);
                };
                rest = after;
                ensure!(self.count < MAX_NAMES, TooManySnafu);
                self.count += 1;
                names.push_back(name);
                Expected::AfterName
            }
            (Expected::Name { may_end: true } | Expected::AfterName, b']') => Expected::AfterValue,
            (Expected::AfterName, b',') => Expected::Name { may_end: false },
            (Expected::Value, _) => {
                let Some((IgnoredAny, after)) = parse(bytes, MAX_OTHER)? else {
                    return Ok(None);
                };
                rest = after;
                Expected::AfterValue
            }
            (Expected::AfterValue, b',') => Expected::Key { may_end: false },
            (expected, found) => {
                let expected = match expected {
                    Expected::Document => "an object",
                    Expected::Key { .. } => "a key",
                    Expected::Colon { .. } => "a colon",
                    Expected::List => "a list",
                    Expected::Name { .. } => "a name",
                    Expected::AfterName => "the next name",
                    Expected::Value | Expected::AfterValue => "the next key",
                    Expected::End => "nothing more",
                };
                return UnexpectedSnafu { expected, found }.fail();
            }
        };
        Ok(Some(rest))
    }
}

/// Removes JSON white space from the beginning.
fn trim_start(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = bytes.iter().position(|byte| !is_space(byte));
    &bytes[start.unwrap_or(bytes.len())..]
}

/// Parses the value at the beginning of `bytes`. Returns the value and the bytes after it, or `None` if the value is
/// incomplete.
fn parse<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<Option<(T, &[u8])>, Error> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter();
    let next = values.next();
    let (value, rest) = match next {
        Some(Ok(value)) => (Some(value), &bytes[values.byte_offset()..]),
        // For a truncated number, serde_json reports an invalid document and not an incomplete document.
        Some(Err(error)) if !(error.is_eof() || ends_in_number(bytes)) => {
            return Err(error).context(MalformedSnafu);
        }
        _ => (None, &[][..]),
    };
    ensure!(bytes.len() - rest.len() <= limit, TooLongSnafu { limit });
    // A number or a literal such as `null` is complete only if another byte follows.
    let is_delimited = !rest.is_empty() || matches!(bytes.last(), Some(b'"' | b']' | b'}'));
    Ok(value.filter(|_| is_delimited).map(|value| (value, rest)))
}

/// Whether the last byte may be part of a number.
fn ends_in_number(bytes: &[u8]) -> bool {
    matches!(
        bytes.last(),
        Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
    )
}

/// Returns the names of a page that arrives in chunks of `piece` bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read(page: &[u8], piece: usize) -> Result<Vec<String>, Error> {
    let (mut parser, mut names) = (NamesParser::new(), VecDeque::new());
    for piece in page.chunks(piece.max(1)) {
        parser.feed(piece, &mut names)?;
    }
    parser.finish(&mut names)?;
    Ok(names.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn page_of_each_known_format_is_parsed() {
        for (page, expected) in [
            (r#"{"name":"x","tags":["a","b"]}"#, &["a", "b"][..]),
            (r#" { "repositories" : [ "a" ] } "#, &["a"]),
            (r#"{"name":"x","tags":null}"#, &[]),
            (r#"{"tags":null,"name":"x"}"#, &[]),
            (r#"{"tags":[]}"#, &[]),
            (
                r#"{"tags":["a\"]b\u0041"],"x":{"y":["tags","}",{}],"z":1.5e3}}"#,
                &["a\"]bA"],
            ),
            (
                r#"{"child":[],"\u0074ags":["a"],"manifest":{"tags":["no"]}}"#,
                &["a"],
            ),
        ] {
            for piece in [1, 2, 3, 1000] {
                assert_eq!(read(page.as_bytes(), piece).unwrap(), expected, "{page}");
            }
        }
    }

    #[test]
    fn malformed_page_is_rejected() {
        for page in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"name":"x"}"#,
            r#"{"tags":{}}"#,
            r#"{"tags":nil}"#,
            r#"{"tags":"a"}"#,
            r#"{"tags":[1]}"#,
            r#"{"tags":["a",]}"#,
            r#"{"tags":["a" "b"]}"#,
            r#"{"tags":["a"]"#,
            r#"{"tags":["a"]}x"#,
            r#"{"tags":["a"],"tags":["b"]}"#,
            r#"{"tags":["a"],"repositories":["b"]}"#,
            r#"{"tags":["a"],}"#,
            r#"{"x":tru,"tags":[]}"#,
            r#"{"x":,"tags":[]}"#,
            r#"{"x":[1,"tags":[]}"#,
            r#"{"tags":["\x"]}"#,
            r#"{"errors":[]}"#,
        ] {
            assert!(read(page.as_bytes(), 3).is_err(), "{page}");
        }
    }

    #[test]
    fn page_above_a_limit_is_rejected() {
        let (name, other) = ("a".repeat(MAX_NAME), "a".repeat(MAX_OTHER));
        for page in [
            format!(r#"{{"tags":["{name}"#),
            format!(r#"{{"tags":["{name}"]}}"#),
            format!(r#"{{"{name}"#),
            format!(r#"{{"x":"{other}"#),
        ] {
            let read = read(page.as_bytes(), 999);
            assert!(matches!(read, Err(Error::TooLong { .. })));
        }
        let many = format!(r#"{{"tags":[{}"a"]}}"#, r#""a","#.repeat(MAX_NAMES));
        assert!(matches!(read(many.as_bytes(), 999), Err(Error::TooMany)));
    }

    #[test]
    fn long_json_value_before_the_list_is_skipped() {
        let other = "a".repeat(1 << 20);
        let page = format!(r#"{{"manifest":{{"x":"{other}"}},"tags":["a"]}}"#);
        assert_eq!(read(page.as_bytes(), 999).unwrap(), ["a"]);
    }

    proptest! {
        #[test]
        fn random_list_is_parsed_unchanged(
            names in proptest::collection::vec(".{0,20}", 0..20),
            other in ".{0,20}",
            piece in 1_usize..50,
            pretty in any::<bool>(),
        ) {
            let page = json!({"a": {other.clone(): [other.clone(), 1, null]}, "tags": names, "z": other});
            let page = if pretty { format!("{page:#}") } else { page.to_string() };
            prop_assert_eq!(read(page.as_bytes(), piece).unwrap(), names);
        }

        #[test]
        fn accepted_page_is_valid_json(page in r#"[{}\[\]",:a-z\\ 0-9]{0,60}"#, piece in 1_usize..9) {
            if let Ok(names) = read(page.as_bytes(), piece) {
                let document: serde_json::Value = serde_json::from_str(&page).unwrap();
                let list = document.get("tags").or_else(|| document.get("repositories")).unwrap();
                let listed = list.as_array().map_or(0, Vec::len);
                prop_assert_eq!(names.len(), listed);
            }
        }
    }
}
