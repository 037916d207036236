//! Readers of values. Errors say what is wrong and what to write instead; what they quote is made safe to print.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use sekisho_config::model::{FieldCondition, ValueMatch};

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

/// Most conditions of one kind.
const MOST_CONDITIONS: usize = 16;

/// Methods, by commas.
pub(crate) fn methods(value: &str) -> Result<BTreeSet<Arc<str>>, String> {
    let methods: BTreeSet<Arc<str>> = list(value)
        .map(|name| match Method::from_bytes(name.as_bytes()) {
            Ok(method)
                if name
                    .bytes()
                    .all(|octet| octet.is_ascii_uppercase() || octet == b'-') =>
            {
                Ok(method.as_str().into())
            }
            _ => Err(format!(
                "`{}` is not a method; write names in capitals, for example GET, HEAD",
                printable(name)
            )),
        })
        .collect::<Result<_, _>>()?;
    if methods.is_empty() || methods.len() > MOST_CONDITIONS {
        return Err(format!(
            "it names {} methods; write from 1 to {MOST_CONDITIONS}",
            methods.len()
        ));
    }
    Ok(methods)
}

/// Conditions on header fields, one a line. Names with an underscore never pass the box.
pub(crate) fn header_conditions(value: &str) -> Result<BTreeSet<FieldCondition>, String> {
    conditions(value, |name| {
        let good = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
        (!name.is_empty() && name.bytes().all(good))
            .then(|| HeaderName::from_bytes(name.as_bytes()).ok())
            .flatten()
            .map(|name| name.as_str().into())
            .ok_or_else(|| {
                format!(
                    "`{}` is not the name of a header field; write letters, digits and `-`",
                    printable(name)
                )
            })
    })
}

/// Conditions on query parameters, one a line.
pub(crate) fn query_conditions(value: &str) -> Result<BTreeSet<FieldCondition>, String> {
    conditions(value, |name| {
        if name.is_empty() || name.len() > 256 {
            Err("a name is empty or longer than 256 octets; write the name of a parameter".to_owned())
        } else {
            Ok(name.into())
        }
    })
}

fn conditions(
    value: &str,
    name: impl Fn(&str) -> Result<Arc<str>, String>,
) -> Result<BTreeSet<FieldCondition>, String> {
    let conditions: BTreeSet<FieldCondition> = lines(value)
        .map(|line| {
            let (text, value) = match (line.strip_prefix('!'), line.find(['=', '~'])) {
                (Some(absent), _) => (absent, ValueMatch::Absent),
                (None, None) => (line, ValueMatch::Present),
                (None, Some(at)) => {
                    let (text, rest) = line.split_at(at);
                    let value = match rest.strip_prefix('=') {
                        Some(value) => ValueMatch::Exact(value.into()),
                        None => {
                            let pattern = rest.trim_start_matches('~');
                            let pattern = pattern
                                .parse()
                                .map_err(|why: sekisho_config::model::Invalid| printable(&why.to_string()))?;
                            ValueMatch::Regex(pattern)
                        }
                    };
                    (text, value)
                }
            };
            let name = name(text.trim())?;
            Ok(FieldCondition { name, value })
        })
        .collect::<Result<_, String>>()?;
    if conditions.is_empty() || conditions.len() > MOST_CONDITIONS {
        return Err(format!(
            "it holds {} conditions; write from 1 to {MOST_CONDITIONS}, one a line",
            conditions.len()
        ));
    }
    Ok(conditions)
}
