//! The names in a page of a list, read as the page arrives.
//!
//! Some registries answer everything they have in one page. So a page is not held: of the document
//! `{"name": …, "tags": ["a", "b", …]}` only the name that is arriving is, and each is given out at its closing quote.
//! What is bounded is the length of a name and how many there are.

use std::collections::VecDeque;

use serde::de::IgnoredAny;
use snafu::{ResultExt, Snafu, ensure};

/// The lists that pages hold.
const LISTS: [&str; 2] = ["tags", "repositories"];

/// The longest name in a page, in bytes as it is written: far above what a tag or a repository may have.
const MAX_NAME: usize = 4 << 10;

/// The longest of what else stands in a page, in bytes.
const MAX_OTHER: usize = 64 << 10;

/// More names than any page has.
const MAX_NAMES: usize = 1_000_000;

#[derive(Debug, Snafu)]
pub(super) enum Error {
    #[snafu(display("expected {expected}, and found `{}`", found.escape_ascii()))]
    Unexpected { expected: &'static str, found: u8 },
    #[snafu(display("it ends in the middle"))]
    Unfinished,
    #[snafu(display("it holds no list of names"))]
    NoList,
    #[snafu(display("it holds its list twice"))]
    TwoLists,
    #[snafu(display("something in it has more than {limit} bytes"))]
    TooLong { limit: usize },
    #[snafu(display("it holds more than {MAX_NAMES} names"))]
    TooMany,
    #[snafu(display("something in it is not JSON"))]
    Malformed { source: serde_json::Error },
}

/// Reads one page, piece by piece.
#[derive(Debug)]
pub(super) struct Names {
    place: Place,
    /// What has arrived of the text or value that is being read.
    arrived: Vec<u8>,
    /// Whether the byte before was a backslash that escapes this one.
    is_escaped: bool,
    has_list: bool,
    count: usize,
}

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Document,
    Key {
        may_end: bool,
    },
    WithinKey,
    Colon {
        is_list: bool,
    },
    List,
    Name {
        may_end: bool,
    },
    WithinName,
    AfterName,
    /// Within a value that does not matter, in so many brackets.
    Other {
        depth: u32,
        in_text: bool,
    },
    AfterValue,
    End,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Document,
            arrived: Vec::new(),
            is_escaped: false,
            has_list: false,
            count: 0,
        }
    }

    /// Takes the next bytes, and adds the names that are whole now.
    pub(super) fn feed(&mut self, bytes: &[u8], names: &mut VecDeque<String>) -> Result<(), Error> {
        bytes.iter().try_for_each(|byte| self.take(*byte, names))
    }

    /// Says whether the page was whole.
    pub(super) fn finish(self) -> Result<(), Error> {
        ensure!(self.place == Place::End, UnfinishedSnafu);
        ensure!(self.has_list, NoListSnafu);
        Ok(())
    }

    fn take(&mut self, byte: u8, names: &mut VecDeque<String>) -> Result<(), Error> {
        match self.place {
            Place::WithinKey => {
                if self.text_ends(byte, MAX_OTHER)? {
                    let is_list = LISTS.contains(&self.text()?.as_str());
                    ensure!(!(is_list && self.has_list), TwoListsSnafu);
                    self.has_list |= is_list;
                    self.place = Place::Colon { is_list };
                }
                return Ok(());
            }
            Place::WithinName => {
                if self.text_ends(byte, MAX_NAME)? {
                    ensure!(self.count < MAX_NAMES, TooManySnafu);
                    self.count += 1;
                    names.push_back(self.text()?);
                    self.place = Place::AfterName;
                }
                return Ok(());
            }
            Place::Other { depth, in_text } => return self.pass(byte, depth, in_text),
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => return Ok(()),
            _ => {}
        }
        self.place = match (self.place, byte) {
            (Place::Document, b'{') => Place::Key { may_end: true },
            (Place::Key { .. }, b'"') => self.begin(byte, Place::WithinKey),
            (Place::Key { may_end: true } | Place::AfterValue, b'}') => Place::End,
            (Place::Colon { is_list: true }, b':') => Place::List,
            (Place::Colon { is_list: false }, b':') => {
                self.arrived.clear();
                Place::Other {
                    depth: 0,
                    in_text: false,
                }
            }
            (Place::List, b'[') => Place::Name { may_end: true },
            // Some registries send `null` for none; what else this may be is found out at its end.
            (Place::List, b'n') => self.begin(
                byte,
                Place::Other {
                    depth: 0,
                    in_text: false,
                },
            ),
            (Place::Name { .. }, b'"') => self.begin(byte, Place::WithinName),
            (Place::Name { may_end: true } | Place::AfterName, b']') => Place::AfterValue,
            (Place::AfterName, b',') => Place::Name { may_end: false },
            (Place::AfterValue, b',') => Place::Key { may_end: false },
            (place, found) => {
                let expected = match place {
                    Place::Document => "an object",
                    Place::Key { .. } => "a key",
                    Place::Colon { .. } => "a colon",
                    Place::List => "a list",
                    Place::Name { .. } => "a name",
                    Place::AfterName => "the next name",
                    Place::AfterValue => "the next key",
                    _ => "nothing more",
                };
                return UnexpectedSnafu { expected, found }.fail();
            }
        };
        Ok(())
    }

    fn begin(&mut self, byte: u8, place: Place) -> Place {
        self.arrived.clear();
        self.arrived.push(byte);
        self.is_escaped = false;
        place
    }

    fn keep(&mut self, byte: u8, limit: usize) -> Result<(), Error> {
        ensure!(self.arrived.len() < limit, TooLongSnafu { limit });
        self.arrived.push(byte);
        Ok(())
    }

    /// Takes a byte of a text; says whether it was the last.
    fn text_ends(&mut self, byte: u8, limit: usize) -> Result<bool, Error> {
        self.keep(byte, limit)?;
        let is_end = byte == b'"' && !self.is_escaped;
        self.is_escaped = byte == b'\\' && !self.is_escaped;
        Ok(is_end)
    }

    fn text(&self) -> Result<String, Error> {
        serde_json::from_slice(&self.arrived).context(MalformedSnafu)
    }

    /// Takes a byte of a value that does not matter. The comma or bracket after it ends it.
    fn pass(&mut self, byte: u8, depth: u32, in_text: bool) -> Result<(), Error> {
        if in_text {
            let in_text = !self.text_ends(byte, MAX_OTHER)?;
            self.place = Place::Other { depth, in_text };
            return Ok(());
        }
        if depth == 0 && matches!(byte, b',' | b'}') {
            // Checked whole, so that half of a document is not taken for one.
            let value: Result<IgnoredAny, _> = serde_json::from_slice(&self.arrived);
            value.context(MalformedSnafu)?;
            self.place = if byte == b',' {
                Place::Key { may_end: false }
            } else {
                Place::End
            };
            return Ok(());
        }
        self.keep(byte, MAX_OTHER)?;
        let depth = match byte {
            b'[' | b'{' => depth + 1,
            b']' | b'}' => depth.saturating_sub(1),
            _ => depth,
        };
        self.is_escaped = false;
        self.place = Place::Other {
            depth,
            in_text: byte == b'"',
        };
        Ok(())
    }
}

/// The names of a page that arrives in pieces of this size.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read(page: &[u8], piece: usize) -> Result<Vec<String>, Error> {
    let (mut reader, mut names) = (Names::new(), VecDeque::new());
    for piece in page.chunks(piece.max(1)) {
        reader.feed(piece, &mut names)?;
    }
    reader.finish()?;
    Ok(names.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_are_read() {
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
    fn what_is_no_page_is_refused() {
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
    fn a_page_holds_no_more_than_it_may() {
        let long = format!(r#"{{"tags":["{}"#, "a".repeat(MAX_NAME));
        assert!(matches!(
            read(long.as_bytes(), 999),
            Err(Error::TooLong { .. })
        ));
        let other = format!(r#"{{"x":"{}"#, "a".repeat(MAX_OTHER));
        assert!(matches!(
            read(other.as_bytes(), 999),
            Err(Error::TooLong { .. })
        ));
        let many = format!(r#"{{"tags":[{}"a"]}}"#, r#""a","#.repeat(MAX_NAMES));
        assert!(matches!(read(many.as_bytes(), 999), Err(Error::TooMany)));
    }

    proptest! {
        #[test]
        fn every_list_comes_out_as_it_is(
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
        fn what_is_read_is_json(page in r#"[{}\[\]",:a-z\\ 0-9]{0,60}"#, piece in 1_usize..9) {
            if let Ok(names) = read(page.as_bytes(), piece) {
                let document: serde_json::Value = serde_json::from_str(&page).unwrap();
                let list = document.get("tags").or_else(|| document.get("repositories")).unwrap();
                let listed = list.as_array().map_or(0, Vec::len);
                prop_assert_eq!(names.len(), listed);
            }
        }
    }
}
