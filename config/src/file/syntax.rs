use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::fault::Log;

/// Faults of the TOML itself that are reported; a file that is not TOML at all would have one a line.
const MOST: usize = 50;

/// Reports what the parser could not read, each with the key it can be pinned to.
pub(super) fn report(log: &Log, text: &str, document: &DeTable<'_>, errors: &[Error]) {
    for error in errors.iter().take(MOST) {
        let span = error.span().unwrap_or(0..0);
        let line = log.line(&span);
        let message = error.message();
        if message == "duplicate key" {
            let key = text.get(span).unwrap_or("syntax");
            log.syntax(line, key, "written twice", "keep one of them");
            continue;
        }
        let key = value_at(document, span.start).unwrap_or_else(|| "syntax".to_owned());
        if message.contains("must be quoted") {
            let what = "a value that is no number, true or false, and is not in quotes";
            log.syntax(
                line,
                &key,
                what,
                "write text, durations and addresses in double quotes",
            );
        } else {
            log.syntax(
                line,
                &key,
                message,
                "correct the TOML of this line (https://toml.io)",
            );
        }
    }
}

/// The path of the innermost value that spans `offset`.
fn value_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let name = name.get_ref();
        match below(value, offset)? {
            path if path.is_empty() => Some(name.to_string()),
            path if path.starts_with('[') => Some(format!("{name}{path}")),
            path => Some(format!("{name}.{path}")),
        }
    })
}

/// The path inside `value`, empty for `value` itself; `None` when it is not in there. Depth is bounded by the parser.
fn below(value: &Spanned<DeValue<'_>>, offset: usize) -> Option<String> {
    let span = value.span();
    let here = || (span.start <= offset && offset <= span.end).then(String::new);
    match value.get_ref() {
        // The span of a table is its header: what stands in it is elsewhere, and the header is no value.
        DeValue::Table(table) => value_at(table, offset),
        DeValue::Array(elements) => elements
            .iter()
            .enumerate()
            .find_map(|(index, element)| {
                let path = below(element, offset)?;
                let dot = if path.is_empty() || path.starts_with('[') {
                    ""
                } else {
                    "."
                };
                Some(format!("[{index}]{dot}{path}"))
            })
            .or_else(|| {
                if elements.iter().any(|e| e.get_ref().is_table()) {
                    None
                } else {
                    here()
                }
            }),
        _ => here(),
    }
}
