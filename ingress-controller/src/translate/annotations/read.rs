//! Readers of values. Errors say what is wrong and what to write instead; what they quote is made safe to print.

use std::time::Duration;

use crate::text::printable;

/// `"true"` or `"false"`, as Kubernetes writes them: an annotation is always a text.
pub(crate) fn boolean(value: &str) -> Result<bool, String> {
    one_of(value, &[("true", true), ("false", false)])
}

/// One word of a list.
pub(crate) fn one_of<T: Copy>(value: &str, words: &[(&str, T)]) -> Result<T, String> {
    words
        .iter()
        .find(|(word, _)| *word == value)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!(
                "`{}` is not known; write {}",
                printable(value),
                words.join(" or ")
            )
        })
}

/// A whole number within bounds.
pub(crate) fn number(value: &str, least: u64, most: u64) -> Result<u64, String> {
    value
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            format!(
                "`{}` is not a whole number from {least} to {most}; write one",
                printable(value)
            )
        })
}

/// A time with its unit, within bounds: `500ms`, `5s`, `2m`, `1h`.
pub(crate) fn duration(value: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    millis
        .zip(number.parse::<u64>().ok())
        .and_then(|(unit, number)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .filter(|time| (least..=most).contains(time))
        .ok_or_else(|| {
            format!(
                "`{}` is not a time from {least:?} to {most:?}; write a whole number with its unit, for example 5s or 500ms",
                printable(value)
            )
        })
}

/// A number of octets: `8192`, `64k`, `8m`, `1g` (powers of 1024).
pub(crate) fn size(value: &str) -> Result<u64, String> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let factor = match unit {
        "" => Some(1),
        "k" | "K" | "Ki" => Some(1u64 << 10),
        "m" | "M" | "Mi" => Some(1 << 20),
        "g" | "G" | "Gi" => Some(1 << 30),
        _ => None,
    };
    factor
        .zip(number.parse::<u64>().ok())
        .and_then(|(factor, number)| number.checked_mul(factor))
        .ok_or_else(|| {
            format!(
                "`{}` is not a size; write octets, or a whole number with k, m or g, for example 8m",
                printable(value)
            )
        })
}

/// The entries of a list, split at commas and line ends, trimmed, empty ones left out.
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split([',', '\n'])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

/// The lines of a value, trimmed, empty ones left out.
pub(crate) fn lines(value: &str) -> impl Iterator<Item = &str> {
    value.lines().map(str::trim).filter(|line| !line.is_empty())
}
