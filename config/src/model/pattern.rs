use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind};
use serde::{Serialize, Serializer};

use super::Invalid;

/// Octets of a pattern at most.
const LONGEST: usize = 1024;
/// Octets of a compiled pattern at most; `\w{1000}` is beyond it.
const LARGEST: usize = 256 * 1024;
const HELP: &str = "write a regular expression in ASCII of at most 1024 octets, as RE2 reads it: no back-references, no look-around, no \
                    large repetitions";

/// A regular expression that has to match a whole text. It is matched in linear time and its compiled size is bounded,
/// so that nobody who may write one can make it dear.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The compiled form, anchored at both ends. `None` never happens for a pattern that was read.
    pub fn regex(&self) -> Option<Regex> {
        build(&self.0).ok()
    }

    /// The pattern as [`Pattern::regex`] compiles it, for a set of them.
    pub fn anchored(&self) -> String {
        anchored(&self.0)
    }

    /// The literal text with which every match begins; may be empty, is never too long.
    pub fn literal_beginning(&self) -> String {
        literal_beginning(&self.0)
    }
}

fn anchored(text: &str) -> String {
    format!(r"\A(?:{text})\z")
}

fn build(text: &str) -> Result<Regex, regex::Error> {
    let compile = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(LARGEST)
            .dfa_size_limit(4 * LARGEST)
            .nest_limit(50)
            .build()
    };
    // By itself first: `a)|(b` would otherwise leave its group.
    compile(text)?;
    compile(&anchored(text))
}

fn literal_beginning(text: &str) -> String {
    let mut literal = Vec::new();
    if let Ok(hir) = regex_syntax::parse(text) {
        begin(&hir, &mut literal);
    }
    // A pattern in ASCII has literals in ASCII, but for escapes such as `\u{e9}`: those end it.
    let ascii = literal.iter().take_while(|octet| octet.is_ascii()).count();
    literal.truncate(ascii);
    String::from_utf8(literal).unwrap_or_default()
}

/// Appends what `hir` begins with; whether that is the whole of it.
fn begin(hir: &Hir, literal: &mut Vec<u8>) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(text) => {
            literal.extend_from_slice(&text.0);
            true
        }
        HirKind::Capture(capture) => begin(&capture.sub, literal),
        HirKind::Concat(parts) => parts.iter().all(|part| begin(part, literal)),
        HirKind::Repetition(repeated) if repeated.min > 0 => {
            begin(&repeated.sub, literal);
            false
        }
        HirKind::Repetition(_) | HirKind::Class(_) | HirKind::Alternation(_) => false,
    }
}

impl FromStr for Pattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: String| Invalid::new(format!("`{}` {why}", text.escape_debug()), HELP);
        if text.is_empty()
            || text.len() > LONGEST
            || !text.bytes().all(|octet| (b' '..=b'~').contains(&octet))
        {
            return Err(bad("is empty, too long or not printable ASCII".to_owned()));
        }
        match build(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(regex::Error::CompiledTooBig(_)) => Err(bad("is too large when compiled".to_owned())),
            Err(_) => Err(bad("is not a regular expression".to_owned())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, good) in [
            ("/api/v[0-9]+/.*", true),
            ("(?i)/a", true),
            ("a|b", true),
            ("", false),
            ("(", false),
            ("a)|(b", false),
            (r"(a)\1", false),
            ("(?=a)", false),
            (r"\w{1000}", false),
            ("((((a{10}){10}){10}){10})", false),
            ("/caf\u{e9}", false),
            ("/a\nb", false),
        ] {
            assert_eq!(text.parse::<Pattern>().is_ok(), good, "{text}");
        }
        assert!("a".repeat(1025).parse::<Pattern>().is_err());
    }

    #[test]
    fn the_whole_text_is_matched() {
        for (pattern, text, want) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/bc", false),
            ("/a.*", "/a/b", true),
            ("/a", "/a\n", false),
            ("(?x)/a # b", "/a", false),
        ] {
            let Ok(parsed) = pattern.parse::<Pattern>() else {
                assert!(!want, "{pattern}");
                continue;
            };
            assert_eq!(parsed.regex().unwrap().is_match(text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn beginnings() {
        for (pattern, want) in [
            ("/api/v[0-9]+", "/api/v"),
            ("^/api", "/api"),
            (r"/a\.b/.*", "/a.b/"),
            ("/ab?c", "/a"),
            ("/ab*", "/a"),
            ("/ab+", "/ab"),
            ("/ab{0}", "/a"),
            ("/a|/b", ""),
            ("/a(/b|/c)", "/a"),
            ("(?i)/a", "/"),
            (r"/a\d", "/a"),
            ("/a[|]b", "/a|b"),
            ("/a[](]|/b", ""),
            ("a|/b", ""),
            (r"/a\|b", "/a|b"),
        ] {
            assert_eq!(literal_beginning(pattern), want, "{pattern}");
        }
    }

    proptest::proptest! {
        /// Whatever matches begins with the literal beginning.
        #[test]
        fn a_beginning_is_never_too_long(pattern in r"[/ab.+*?()|\[\]{}^$\\0]{1,10}", text in "/[ab/.0|]{0,5}") {
            if let Ok(pattern) = pattern.parse::<Pattern>() {
                let regex = pattern.regex().unwrap();
                if regex.is_match(&text) {
                    proptest::prop_assert!(text.starts_with(&pattern.literal_beginning()), "{} {}", pattern, text);
                }
            }
        }

        #[test]
        fn any_text_is_safe(text: String) { let _ = text.parse::<Pattern>(); }
    }
}
