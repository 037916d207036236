use std::time::Duration;

use super::fault::quote;
use crate::model::Invalid;

const DURATION_HELP: &str = "write a whole number with ms, s, m or h, for example \"10s\" or \"500ms\"";
const SIZE_HELP: &str = "write octets as a number, or with KiB or MiB, for example \"64KiB\"";

/// Reads `10s`, `500ms`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, Invalid> {
    let bad = || Invalid::new(format!("{} is not a duration", quote(text)), DURATION_HELP);
    let (number, unit) = split(text).ok_or_else(bad)?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60 * 1000),
        "h" => number.checked_mul(60 * 60 * 1000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(bad)
}

/// Writes a duration the way [`duration`] reads it, in the largest unit that keeps it whole.
pub(super) fn write_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    [("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000)]
        .into_iter()
        .find(|(_, unit)| milliseconds.is_multiple_of(*unit))
        .map_or_else(
            || format!("{milliseconds}ms"),
            |(name, unit)| format!("{}{name}", milliseconds / unit),
        )
}

/// Reads `64KiB`, `1MiB`, `512B`.
pub(super) fn size(text: &str) -> Result<u64, Invalid> {
    let bad = || Invalid::new(format!("{} is not a size", quote(text)), SIZE_HELP);
    let (number, unit) = split(text).ok_or_else(bad)?;
    let octets = match unit {
        "" | "B" => Some(number),
        "KiB" => number.checked_mul(1024),
        "MiB" => number.checked_mul(1024 * 1024),
        _ => None,
    };
    octets.ok_or_else(bad)
}

/// Writes a size the way [`size`] reads it.
pub(super) fn write_size(octets: u64) -> String {
    match octets {
        0 => "0".to_owned(),
        n if n.is_multiple_of(1024 * 1024) => format!("{}MiB", n / (1024 * 1024)),
        n if n.is_multiple_of(1024) => format!("{}KiB", n / 1024),
        n => n.to_string(),
    }
}

/// Digits and what follows them; no sign, no space, no fraction.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit))
}

/// The candidate that differs least from `word`, if it is near enough to be a slip of the pen.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody misspells a key into something this long; it bounds the work on hostile text.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let cell = |row: &[usize], column: usize| row.get(column).copied().unwrap_or_default();
    let (mut above_two, mut above): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let substituted = cell(&above, j) + usize::from(x != y);
            let mut least = substituted.min(cell(&above, j + 1) + 1).min(cell(&row, j) + 1);
            if let (Some(i), Some(j)) = (i.checked_sub(1), j.checked_sub(1))
                && a.get(i) == Some(y)
                && b.get(j) == Some(x)
            {
                least = least.min(cell(&above_two, j) + 1);
            }
            row.push(least);
        }
        above_two = std::mem::replace(&mut above, row);
    }
    cell(&above, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (input, want) in [
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("0s", Some(0)),
            ("10", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("1.5s", None),
            ("10 s", None),
            ("10S", None),
            ("1d", None),
            ("18446744073709551615h", None),
            ("18446744073709551616ms", None),
            ("١s", None),
        ] {
            let got = duration(input).ok().map(|d| d.as_millis());
            assert_eq!(got, want, "{input:?}");
        }
    }

    #[test]
    fn sizes() {
        for (input, want) in [
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1_048_576)),
            ("512", Some(512)),
            ("512B", Some(512)),
            ("64KB", None),
            ("64k", None),
            ("KiB", None),
            ("18446744073709551615KiB", None),
        ] {
            assert_eq!(size(input).ok(), want, "{input:?}");
        }
    }

    #[test]
    fn suggestions() {
        let keys = ["asn", "router_id", "hold_time", "listen", "install_routes"];
        for (word, want) in [
            ("hold_tme", Some("hold_time")),
            ("hold-time", Some("hold_time")),
            ("Router_ID", Some("router_id")),
            ("as", Some("asn")),
            ("ans", Some("asn")),
            ("holdtime", Some("hold_time")),
            ("xyz", None),
            ("password", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), want, "{word:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_safe(text: String) {
            let _ = duration(&text);
            let _ = size(&text);
            let _ = nearest(&text, ["hold_time", "asn"]);
        }

        #[test]
        fn reads_what_it_writes(n: u64) {
            let n = n / 4_000_000;
            proptest::prop_assert_eq!(duration(&write_duration(Duration::from_millis(n))).unwrap().as_millis(), u128::from(n));
            proptest::prop_assert_eq!(size(&write_size(n)).unwrap(), n);
        }
    }
}
