//! Human-readable byte sizes and counts.

use std::fmt;

/// Byte size with a binary unit and one decimal.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scale, unit) = find_unit(self.0);
        write_scaled(f, self.0, scale)?;
        write!(f, " {unit}")
    }
}

/// Part of a byte size in the unit of the whole size, such as `73.5 of 286.1 MiB`.
pub(crate) struct Portion {
    pub(crate) part: u64,
    pub(crate) whole: u64,
    pub(crate) separator: &'static str,
}

impl fmt::Display for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scale, unit) = find_unit(self.whole);
        write_scaled(f, self.part, scale)?;
        f.write_str(self.separator)?;
        write_scaled(f, self.whole, scale)?;
        write!(f, " {unit}")
    }
}

/// Returns the number of bytes and the name of the largest unit that is not larger than the size.
fn find_unit(size: u64) -> (u64, &'static str) {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut unit, mut scale) = (0, 1_u64);
    while unit + 1 < UNITS.len() && size / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    (scale, UNITS[unit])
}

/// Writes a size in units of `scale` bytes, with one decimal unless the unit is the byte.
fn write_scaled(f: &mut fmt::Formatter<'_>, size: u64, scale: u64) -> fmt::Result {
    if scale == 1 {
        return write!(f, "{size}");
    }
    // Integer arithmetic is used, because `f64` cannot represent every `u64`.
    let tenths = (u128::from(size) * 10 + u128::from(scale) / 2) / u128::from(scale);
    write!(f, "{}.{}", tenths / 10, tenths % 10)
}

/// Returns a count and its noun, such as `1 tag` or `3 tags`.
pub(crate) fn format_count(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Joins the first `limit` items. If there are more, `and 3 more` and the noun follow.
pub(crate) fn join_first(
    items: impl ExactSizeIterator<Item = String>,
    limit: usize,
    noun: &str,
) -> String {
    let rest = items.len().saturating_sub(limit);
    let mut texts: Vec<_> = items.take(limit).collect();
    if rest > 0 {
        texts.push(format!("and {rest} more {noun}"));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portion_has_the_unit_of_the_whole() {
        let shown = |part, whole| {
            let separator = " of ";
            Portion {
                part,
                whole,
                separator,
            }
            .to_string()
        };
        assert_eq!(shown(77_070_336, 299_997_593), "73.5 of 286.1 MiB");
        assert_eq!(shown(10, 1023), "10 of 1023 B");
    }

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        let shown = [0, 1023, 1024, 1536, 1_048_576, 1_063_256_064, u64::MAX]
            .map(|size| Size(size).to_string());
        assert_eq!(
            shown,
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "1.0 MiB",
                "1014.0 MiB",
                "16777216.0 TiB"
            ]
        );
    }
}
