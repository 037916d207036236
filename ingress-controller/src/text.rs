//! Text that comes from objects and files, made safe to print.

/// `text` in one line of bounded length, control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut safe: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        safe.push('…');
    }
    safe
}

/// Whether `text` can name an object: lower-case letters, digits, `-` and `.`, a letter or digit at both ends.
pub(crate) fn is_object_name(text: &str, longest: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= longest
        && text
            .bytes()
            .all(|byte| inner(byte) || byte == b'-' || byte == b'.')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, want) in [
            ("a", true),
            ("web-1.example", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a b", false),
            ("a/b", false),
            ("ä", false),
        ] {
            assert_eq!(is_object_name(text, 63), want, "{text:?}");
        }
        assert!(!is_object_name("aaaa", 3));
    }

    #[test]
    fn nothing_breaks_a_line() {
        assert_eq!(printable("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
        assert_eq!(printable(&"x".repeat(200)).chars().count(), 121);
    }
}
