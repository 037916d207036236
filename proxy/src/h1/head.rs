//! A header section: the start line and the field lines up to the empty line.
//!
//! Lines end with CRLF and nothing else. A bare CR or LF, a folded line, white space around a field name, a control
//! character in a value are faults (RFC 9112 sections 2.2, 5.1, 5.2): some recipients repair them, each in its own way.

use memchr::memchr;

use crate::fields::Fields;

/// Lines of a section, and octets beyond those that have come, for which there is room at once: what is added on the way needs
/// some of it.
const LINES: usize = 20;
const ADDED: usize = 512;
/// Octets that have come for which there is room at once.
const AT_ONCE: usize = 1024;

/// How large a header section may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Octets of the whole section.
    pub head_bytes: usize,
    /// Field lines.
    pub fields: usize,
    /// Octets of the request target.
    pub uri_bytes: usize,
}

/// Why a header section is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// It is not HTTP, or not in the one form that everybody reads alike.
    #[error("the header section is malformed")]
    Malformed,
    /// The request target is too long (414).
    #[error("the request target is too long")]
    Uri,
    /// Too many octets or fields (431).
    #[error("the header section is too large")]
    TooLarge,
    /// An HTTP version that is not spoken here (505).
    #[error("the HTTP version is not supported")]
    Version,
    /// Where the body ends could be read in two ways.
    #[error("the length of the body is ambiguous")]
    Framing,
}

/// A range of octets of the buffer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// The octets.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start..self.end).unwrap_or_default()
    }
}

/// How far a header section was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// More octets are needed.
    Partial,
    /// The section is this many octets long.
    Complete(usize),
}

/// Empty lines before a start line that are forgiven (RFC 9112 section 2.2).
const EMPTY_LINES: u8 = 4;

/// Reads a header section in as many pieces as it comes in. Each octet is looked at once, however small the pieces.
#[derive(Debug, Default)]
pub struct Parser {
    /// Where the line in hand begins.
    line: usize,
    /// Up to where no end of a line was found.
    seen: usize,
    empty_lines: u8,
    start: Option<Span>,
    fields: Fields,
}

impl Parser {
    /// For a section without a start line: trailers.
    pub fn trailers() -> Self {
        Self {
            start: Some(Span::default()),
            ..Self::default()
        }
    }

    /// The start line, once it is there.
    pub fn start<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        self.start.map_or(&[], |span| span.of(buffer))
    }

    /// The field lines.
    pub fn into_fields(self) -> Fields {
        self.fields
    }

    /// Goes on with `buffer`, which begins with what was there before. `check` looks at the start line as soon as it
    /// is whole.
    ///
    /// # Errors
    /// [`Fault`] when the section must be refused. The parser is of no use then.
    pub fn advance(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        check: impl Fn(&[u8]) -> Result<(), Fault>,
    ) -> Result<Step, Fault> {
        loop {
            let rest = buffer.get(self.seen..).unwrap_or_default();
            let Some(place) = memchr(b'\n', rest) else {
                self.seen = buffer.len();
                return self.wait(buffer, limits);
            };
            let end = self.seen + place;
            self.seen = end + 1;
            let line = buffer.get(self.line..end).unwrap_or_default();
            let Some((b'\r', line)) = line.split_last() else {
                return Err(Fault::Malformed);
            };
            let begin = std::mem::replace(&mut self.line, self.seen);
            if self.line > limits.head_bytes {
                return Err(self.too_large(line, limits));
            }
            if self.start.is_none() {
                if line.is_empty() {
                    self.empty_lines += 1;
                    if self.empty_lines > EMPTY_LINES {
                        return Err(Fault::Malformed);
                    }
                    continue;
                }
                check(line)?;
                self.start = Some(Span {
                    start: begin,
                    end: end - 1,
                });
            } else if line.is_empty() {
                return Ok(Step::Complete(self.line));
            } else {
                let (name, value) = field(line)?;
                if self.fields.len() >= limits.fields {
                    return Err(Fault::TooLarge);
                }
                if self.fields.is_empty() {
                    self.fields = Fields::with_capacity(LINES, buffer.len().min(AT_ONCE) + ADDED);
                }
                self.fields.take(name, value);
            }
        }
    }

    /// What to say when the end of the line in hand has not come yet.
    fn wait(&self, buffer: &[u8], limits: &Limits) -> Result<Step, Fault> {
        let line = buffer.get(self.line..).unwrap_or_default();
        if buffer.len() > limits.head_bytes {
            return Err(self.too_large(line, limits));
        }
        if self.start.is_none() {
            // What does not begin like HTTP (TLS, for one) need not be waited for.
            match line.first() {
                Some(first) if !is_token(*first) && *first != b'\r' => return Err(Fault::Malformed),
                _ => {}
            }
            // Method, version and two spaces besides.
            if line.len() > limits.uri_bytes.saturating_add(128) {
                return Err(Fault::Uri);
            }
        }
        Ok(Step::Partial)
    }

    fn too_large(&self, line: &[u8], limits: &Limits) -> Fault {
        if self.start.is_none() && line.len() > limits.uri_bytes {
            Fault::Uri
        } else {
            Fault::TooLarge
        }
    }
}

/// One field line without its CRLF: the name, and the value without the white space around it.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    // A folded line begins with white space, which is in no token.
    let colon = line
        .iter()
        .position(|octet| !is_token(*octet))
        .filter(|colon| *colon > 0 && line.get(*colon) == Some(&b':'))
        .ok_or(Fault::Malformed)?;
    let (name, value) = line.split_at(colon);
    let mut value = value.get(1..).unwrap_or_default();
    if !is_clean(value) {
        return Err(Fault::Malformed);
    }
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    Ok((name, value))
}

/// Characters of a token (RFC 9110 section 5.6.2), looked up: every octet of every name is asked about.
pub(crate) fn is_token(octet: u8) -> bool {
    TOKEN.get(usize::from(octet)).copied().unwrap_or_default()
}

#[expect(clippy::indexing_slicing, reason = "made by the compiler, which would refuse")]
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < table.len() {
        table[octet] = matches!(octet as u8,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'z' | b'|' | b'~');
        octet += 1;
    }
    table
};

/// Whether nothing in a value is forbidden. Eight octets are looked at together, and one by one only where one of them
/// may be: a control character is less than 0x20, or 0x7f.
fn is_clean(value: &[u8]) -> bool {
    const EACH: u64 = u64::MAX / 0xff;
    const HIGH: u64 = EACH << 7;
    let good = |octets: &[u8]| !octets.iter().any(|octet| is_forbidden_in_value(*octet));
    let all_good = |eight: &[u8; 8]| {
        let octets = u64::from_ne_bytes(*eight);
        let del = octets ^ (EACH * 0x7f);
        let low = octets.wrapping_sub(EACH * 0x20) & !octets;
        let zero = del.wrapping_sub(EACH) & !del;
        (low | zero) & HIGH == 0 || good(eight)
    };
    // The last eight may be looked at twice.
    match value.last_chunk() {
        Some(last) => value.as_chunks().0.iter().all(all_good) && all_good(last),
        None => good(value),
    }
}

fn is_forbidden_in_value(octet: u8) -> bool {
    (octet < 0x20 && octet != b'\t') || octet == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes: 256,
        fields: 4,
        uri_bytes: 64,
    };

    fn begins(line: &[u8]) -> Result<(), Fault> {
        match line.first() {
            Some(first) if is_token(*first) => Ok(()),
            _ => Err(Fault::Malformed),
        }
    }

    fn read(input: &[u8]) -> Result<(Step, Vec<(String, String)>), Fault> {
        let mut parser = Parser::default();
        let step = parser.advance(input, &LIMITS, begins)?;
        let fields = parser.into_fields();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let fields = fields
            .iter()
            .map(|(name, value)| (text(name.as_bytes()), text(value.as_bytes())))
            .collect();
        Ok((step, fields))
    }

    #[test]
    fn sections() {
        let fields = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<Vec<_>>()
        };
        for (input, want) in [
            (
                "x\r\na: b\r\n\r\n",
                Ok((Step::Complete(11), fields(&[("a", "b")]))),
            ),
            (
                "x\r\nA:\t b c \t\r\nd:\r\n\r\nrest",
                Ok((Step::Complete(20), fields(&[("a", "b c"), ("d", "")]))),
            ),
            ("\r\n\r\nx\r\n\r\n", Ok((Step::Complete(9), vec![]))),
            (
                "x\r\na: \u{e9}\r\n\r\n",
                Ok((Step::Complete(12), fields(&[("a", "\u{e9}")]))),
            ),
            ("x\r\na: b\r\n", Ok((Step::Partial, fields(&[("a", "b")])))),
            ("x\r\na: b\r", Ok((Step::Partial, vec![]))),
            ("", Ok((Step::Partial, vec![]))),
            ("\r\n\r\n\r\n\r\n\r\nx\r\n\r\n", Err(Fault::Malformed)),
            ("\nx\r\n\r\n", Err(Fault::Malformed)),
            ("x\na: b\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na: b\n\r\n", Err(Fault::Malformed)),
            ("x\r\na: b\r\n\n", Err(Fault::Malformed)),
            ("x\r\na: b\rc: d\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na: b\r\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na: b\r\n c\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\n\ta: b\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na : b\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\n: b\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na b: c\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na(: c\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na\0: c\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\n\u{e9}: c\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na: \0\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na: \u{7f}\r\n\r\n", Err(Fault::Malformed)),
            ("x\r\na: \u{1}\r\n\r\n", Err(Fault::Malformed)),
            ("\u{16}\u{3}\u{1}", Err(Fault::Malformed)),
            (
                "x\r\na:1\r\nb:1\r\nc:1\r\nd:1\r\ne:1\r\n\r\n",
                Err(Fault::TooLarge),
            ),
        ] {
            assert_eq!(read(input.as_bytes()), want, "{input:?}");
        }
        let long = |length| format!("x\r\na: {}\r\n\r\n", "b".repeat(length));
        assert!(read(long(240).as_bytes()).is_ok());
        assert_eq!(read(long(250).as_bytes()), Err(Fault::TooLarge));
        assert_eq!(read("x".repeat(193).as_bytes()), Err(Fault::Uri));
        assert_eq!(read("x".repeat(1000).as_bytes()), Err(Fault::Uri));
    }

    #[test]
    fn octets_in_values() {
        for place in 0..20 {
            for octet in 0..=255u8 {
                let mut value = *b"a value of 20 octets";
                value[place] = octet;
                let want = octet == b'\t' || (octet >= 0x20 && octet != 0x7f);
                assert_eq!(is_clean(&value), want, "{octet} at {place}");
            }
        }
        assert!(is_clean(b"") && is_clean(&[0xff; 17]) && is_clean(&[b'\t'; 9]));
    }

    #[test]
    fn tokens() {
        let want = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for octet in 0..=255u8 {
            assert_eq!(is_token(octet), want.as_bytes().contains(&octet), "{octet}");
        }
    }

    proptest::proptest! {
        /// Any octets, in any pieces: no panic, and the pieces make no difference.
        #[test]
        fn pieces_make_no_difference(
            input in proptest::collection::vec(proptest::sample::select(&b"\r\n\r\n\t :ab\0\xff"[..]), 0..80),
            cuts in proptest::collection::vec(0usize..80, 0..5),
        ) {
            let whole = {
                let mut parser = Parser::default();
                (parser.advance(&input, &LIMITS, begins), parser.fields.clone())
            };
            let mut parser = Parser::default();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
            cuts.push(input.len());
            cuts.sort_unstable();
            let mut last = Ok(Step::Partial);
            for cut in cuts {
                last = parser.advance(&input[..cut], &LIMITS, begins);
                if last != Ok(Step::Partial) {
                    break;
                }
            }
            proptest::prop_assert_eq!((last, parser.fields.clone()), whole);
        }
    }
}
