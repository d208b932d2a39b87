//! Tables on stdout.
//!
//! On a terminal, a table has a header, aligned columns and short values, and fits the width of the terminal: the list
//! column shows as many items as fit. Elsewhere it has neither header nor padding. Tabs separate the cells, and values
//! are exact: full digests, sizes in bytes and dates as the registry states them.

use console::Term;
use jiff::Timestamp;
use oci_registry::{Digest, escape};

use crate::figures::Size;
use crate::output;
use crate::report::{self, Error};

/// Cell of an unknown value.
const UNKNOWN: &str = "-";

/// Space between two columns.
const COLUMN_GAP: &str = "  ";

/// Width of a table if the width of the terminal is unknown.
const DEFAULT_WIDTH: usize = 100;

/// Maximum length of a text from a registry, in characters.
const MAX_TEXT_LENGTH: usize = 4000;

/// Number of hexadecimal digits of a short digest.
const SHORT_DIGEST_LENGTH: usize = 12;

/// Returns the first digits of a digest, without the algorithm.
pub(crate) fn short_digest(digest: &Digest) -> &str {
    short_hex(digest.encoded())
}

/// Returns as many of these hexadecimal digits as a short digest has.
pub(crate) fn short_hex(encoded: &str) -> &str {
    encoded.get(..SHORT_DIGEST_LENGTH).unwrap_or(encoded)
}

/// Returns the digest as stdout shows it: short on a terminal, else in full.
pub(crate) fn display_digest(digest: &Digest) -> &str {
    if output::is_stdout_terminal() {
        short_digest(digest)
    } else {
        digest.as_str()
    }
}

/// Column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    header: &'static str,
    width: usize,
    is_right_aligned: bool,
}

impl Column {
    fn new(header: &'static str, width: usize) -> Self {
        Self {
            header,
            width: width.max(header.len()),
            is_right_aligned: false,
        }
    }

    /// Column of texts, which is as wide as its header until [`Column::fit`] widens it.
    pub(crate) fn text(header: &'static str) -> Self {
        Self::new(header, 0)
    }

    /// Right-aligned column of sizes.
    pub(crate) fn size(header: &'static str) -> Self {
        Self {
            is_right_aligned: true,
            ..Self::new(header, "1023.9 MiB".len())
        }
    }

    /// Column of dates.
    pub(crate) fn date(header: &'static str) -> Self {
        Self::new(header, "2026-11-28 14:05".len())
    }

    /// Column of digests.
    pub(crate) fn digest(header: &'static str) -> Self {
        Self::new(header, SHORT_DIGEST_LENGTH)
    }

    /// Widens the column to the longest of these texts, but to at most `limit` characters. A longer text moves the other
    /// cells of its row.
    #[must_use]
    pub(crate) fn fit<T: AsRef<str>>(
        mut self,
        limit: usize,
        texts: impl IntoIterator<Item = T>,
    ) -> Self {
        let widths = texts.into_iter().map(|text| text.as_ref().chars().count());
        let longest = widths.max().unwrap_or_default();
        self.width = self.width.max(longest.min(limit));
        self
    }
}

/// Cell of a table. A missing value is shown as `-`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    /// Text, which may contain control characters.
    Text(Option<&'a str>),
    /// Text without control characters, such as a line of a tree. Leading spaces are kept.
    Verbatim(&'a str),
    /// Number of bytes.
    Size(Option<u64>),
    /// Date in RFC 3339 format. A text in another format is shown unchanged.
    Date(Option<&'a str>),
    Digest(Option<&'a Digest>),
    /// List. On a terminal, `+2` replaces the last two items if they do not fit.
    List(&'a [String]),
}

impl Cell<'_> {
    /// Returns the exact value.
    fn exact(&self) -> String {
        let text = match self {
            Self::Text(text) | Self::Date(text) => text.map(|text| escape(text, MAX_TEXT_LENGTH)),
            Self::Verbatim(text) => Some((*text).to_owned()),
            Self::Size(size) => size.map(|size| size.to_string()),
            Self::Digest(digest) => digest.map(ToString::to_string),
            Self::List(items) => Some(escape(&items.join(","), MAX_TEXT_LENGTH)),
        };
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| UNKNOWN.to_owned())
    }

    /// Returns the value for a terminal, in at most `room` characters if it is a list.
    fn format_for_terminal(&self, room: usize) -> String {
        match self {
            Self::Size(Some(size)) => Size(*size).to_string(),
            Self::Date(Some(text)) => match text.parse::<Timestamp>() {
                Ok(time) => time.strftime("%Y-%m-%d %H:%M").to_string(),
                Err(_) => escape(text, 16),
            },
            Self::Digest(Some(digest)) => short_digest(digest).to_owned(),
            Self::List(items) if !items.is_empty() => short_list(items, room),
            _ => self.exact(),
        }
    }
}

/// Returns as many items as fit into `room` characters, and the number of the others. An item is never cut, because
/// triples differ at their end. If no item fits, only the number of items is returned.
fn short_list(items: &[String], room: usize) -> String {
    let items: Vec<_> = items
        .iter()
        .map(|item| escape(item, MAX_TEXT_LENGTH))
        .collect();
    let candidate = |shown: usize| {
        let text = items[..shown].join(", ");
        match items.len() - shown {
            0 => text,
            others => format!("{text}, +{others}"),
        }
    };
    let mut candidates = (1..=items.len()).rev().map(candidate);
    let fitting = candidates.find(|text| text.chars().count() <= room);
    fitting.unwrap_or_else(|| items.len().to_string())
}

/// Table whose rows are printed one by one.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [Column; N],
    /// Width of the terminal, or `None` if stdout is not a terminal.
    width: Option<usize>,
}

impl<const N: usize> Table<N> {
    /// Creates a table on stdout.
    pub(crate) fn new(columns: [Column; N]) -> Self {
        let width = output::is_stdout_terminal().then(|| {
            let size = Term::stdout().size_checked();
            let width = size.map(|(_, width)| usize::from(width));
            width.filter(|width| *width > 0).unwrap_or(DEFAULT_WIDTH)
        });
        Self { columns, width }
    }

    /// Whether stdout is a terminal, so that values are short.
    pub(crate) fn is_short(&self) -> bool {
        self.width.is_some()
    }

    /// Prints the header, if stdout is a terminal.
    pub(crate) fn print_header(&self) -> Result<(), Error> {
        if self.width.is_none() {
            return Ok(());
        }
        report::write_line(self.align(self.columns.map(|column| column.header.to_owned())))
    }

    /// Prints a row.
    pub(crate) fn print_row(&self, cells: [Cell<'_>; N]) -> Result<(), Error> {
        report::write_line(self.format_row(cells))
    }

    fn format_row(&self, cells: [Cell<'_>; N]) -> String {
        let Some(width) = self.width else {
            return cells.map(|cell| cell.exact()).join("\t");
        };
        // The last column takes the remaining width.
        let others = self.columns.iter().rev().skip(1);
        let others: usize = others.map(|column| column.width + COLUMN_GAP.len()).sum();
        self.align(cells.map(|cell| cell.format_for_terminal(width.saturating_sub(others))))
    }

    fn align(&self, cells: [String; N]) -> String {
        let padded = self.columns.iter().zip(cells).map(|(column, cell)| {
            let width = column.width;
            if column.is_right_aligned {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let line = padded.collect::<Vec<_>>().join(COLUMN_GAP);
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: [&str; 3] = [
        "aarch64-apple-darwin",
        "x86_64-unknown-linux-gnu",
        "x86_64-unknown-linux-musl",
    ];

    fn table(width: Option<usize>) -> Table<5> {
        let columns = [
            Column::text("TAG").fit(40, ["1.10.0", "latest"]),
            Column::size("SIZE"),
            Column::date("CREATED (UTC)"),
            Column::digest("DIGEST"),
            Column::text("TARGETS"),
        ];
        Table { columns, width }
    }

    fn row(table: &Table<5>, created: Option<&str>) -> String {
        let digest = Digest::sha256(b"");
        table.format_row([
            Cell::Text(Some("1.10.0")),
            Cell::Size(Some(1_572_864)),
            Cell::Date(created),
            Cell::Digest(Some(&digest)),
            Cell::List(&TARGETS.map(str::to_owned)),
        ])
    }

    #[test]
    fn row_on_terminal_is_aligned_and_short() {
        let shown = [54, 80, 100, 200].map(|width| {
            let shown = row(&table(Some(width)), Some("2026-11-28T15:05:59+01:00"));
            assert!(shown.chars().count() <= width.max(55), "{shown}");
            shown
        });
        let start = "1.10.0     1.5 MiB  2026-11-28 14:05  e3b0c44298fc";
        assert_eq!(
            shown,
            [
                format!("{start}  3"),
                format!("{start}  aarch64-apple-darwin, +2"),
                format!("{start}  aarch64-apple-darwin, +2"),
                format!("{start}  {}", TARGETS.join(", ")),
            ]
        );
    }

    #[test]
    fn row_without_terminal_has_tabs_and_exact_values() {
        let created = "2026-11-28T15:05:59+01:00";
        let shown = row(&table(None), Some(created));
        let expected = [
            "1.10.0",
            "1572864",
            created,
            &Digest::sha256(b"").to_string(),
            &TARGETS.join(","),
        ];
        assert_eq!(shown, expected.join("\t"));
    }

    #[test]
    fn unknown_value_is_shown_as_dash() {
        for cell in [
            Cell::Text(None),
            Cell::Size(None),
            Cell::Date(None),
            Cell::Digest(None),
            Cell::List(&[]),
        ] {
            assert_eq!(cell.exact(), "-", "{cell:?}");
            assert_eq!(cell.format_for_terminal(100), "-", "{cell:?}");
        }
    }

    #[test]
    fn control_characters_in_text_are_escaped() {
        let cell = Cell::Text(Some("a\u{1b}\tb"));
        assert_eq!(cell.exact(), "a\\u{1b} b");
        assert_eq!(cell.format_for_terminal(100), "a\\u{1b} b");
    }
}
