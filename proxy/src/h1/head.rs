//! A header section: the start line and the field lines up to the empty line.
//!
//! Lines end with CRLF and nothing else. A bare CR or LF, a folded line, white space around a field name, a control
//! character in a value are faults (RFC 9112 sections 2.2, 5.1, 5.2): some recipients repair them, each in its own way.

use memchr::memchr;

use crate::fields::{Fields, Line};

/// Lines of a section, and octets beyond its own, for which there is room at once: what is added on the way needs some of it.
const LINES: usize = 24;
const ADDED: usize = 512;

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
    fields: Vec<Line>,
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

    /// The field lines of `section`, which was read to its end.
    pub fn into_fields(self, section: &[u8]) -> Fields {
        Fields::read(section, self.fields, ADDED)
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
            // The first line, and one that was not whole before, is looked at when its end is there.
            if self.start.is_none() || self.seen > self.line {
                let rest = buffer.get(self.seen..).unwrap_or_default();
                let Some(place) = memchr(b'\n', rest) else {
                    return self.wait(buffer, limits);
                };
                let end = self.seen + place;
                if self.start.is_none() {
                    self.first_line(buffer, end, limits, &check)?;
                    continue;
                }
                self.seen = self.line;
            }
            let found = match line(buffer, self.line) {
                // Nothing is said of a line before its end is there: the pieces make no difference.
                Err(_) if memchr(b'\n', buffer.get(self.line..).unwrap_or_default()).is_none() => {
                    Found::Partial
                }
                found => found?,
            };
            let next = match found {
                Found::Partial => return self.wait(buffer, limits),
                Found::End(end) => {
                    self.to(end, limits)?;
                    return Ok(Step::Complete(end));
                }
                Found::Field(line, next) => {
                    if self.fields.len() >= limits.fields {
                        return Err(Fault::TooLarge);
                    }
                    if self.fields.capacity() == 0 {
                        self.fields.reserve(LINES);
                    }
                    self.fields.push(line);
                    next
                }
            };
            self.to(next, limits)?;
        }
    }

    /// The next line begins at `next`.
    fn to(&mut self, next: usize, limits: &Limits) -> Result<(), Fault> {
        (self.line, self.seen) = (next, next);
        if next > limits.head_bytes {
            return Err(Fault::TooLarge);
        }
        Ok(())
    }

    /// A line before the fields, of which the LF stands at `end`.
    fn first_line(
        &mut self,
        buffer: &[u8],
        end: usize,
        limits: &Limits,
        check: impl Fn(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let begin = self.line;
        let Some((b'\r', line)) = buffer.get(begin..end).unwrap_or_default().split_last() else {
            return Err(Fault::Malformed);
        };
        self.to(end + 1, limits)
            .map_err(|_| self.too_large(line, limits))?;
        if line.is_empty() {
            self.empty_lines += 1;
            return if self.empty_lines > EMPTY_LINES {
                Err(Fault::Malformed)
            } else {
                Ok(())
            };
        }
        check(line)?;
        self.start = Some(Span {
            start: begin,
            end: end - 1,
        });
        Ok(())
    }

    /// What to say when the end of the line in hand has not come yet.
    fn wait(&mut self, buffer: &[u8], limits: &Limits) -> Result<Step, Fault> {
        self.seen = buffer.len();
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

/// What begins at a place.
enum Found {
    /// A field line, and where the next line begins.
    Field(Line, usize),
    /// The empty line; where what is behind it begins.
    End(usize),
    /// Its end has not come yet.
    Partial,
}

/// Reads what begins at `begin`: a name, and a value without the white space around it.
fn line(buffer: &[u8], begin: usize) -> Result<Found, Fault> {
    let octets = buffer.get(begin..).unwrap_or_default();
    // A folded line begins with white space, which is in no token.
    let Some(colon) = octets.iter().position(|octet| !is_token(*octet)) else {
        return Ok(Found::Partial);
    };
    let (name, rest) = octets.split_at(colon);
    let rest = match rest {
        [b':', rest @ ..] if !name.is_empty() => rest,
        [b'\r', b'\n', ..] if name.is_empty() => return Ok(Found::End(begin + 2)),
        [b'\r'] if name.is_empty() => return Ok(Found::Partial),
        _ => return Err(Fault::Malformed),
    };
    let Some(stop) = first_forbidden(rest) else {
        return Ok(Found::Partial);
    };
    let (mut value, rest) = rest.split_at(stop);
    match rest {
        [b'\r', b'\n', ..] => {}
        [b'\r'] => return Ok(Found::Partial),
        _ => return Err(Fault::Malformed),
    }
    let behind = begin + colon + 1 + stop;
    let (mut from, mut to) = (begin + colon + 1, behind);
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
        from += 1;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
        to -= 1;
    }
    Ok(Found::Field(
        Line::new(begin..begin + colon, from..to),
        behind + 2,
    ))
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

/// Where the first octet is that no value has: the end of a line, or a fault. Eight octets are looked at together: a
/// control character is less than 0x20, or 0x7f.
fn first_forbidden(octets: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::MAX / 0xff;
    let mut at = 0;
    while let Some(eight) = octets.get(at..)?.first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let del = word ^ (EACH * 0x7f);
        let low = word.wrapping_sub(EACH * 0x20) & !word;
        let zero = del.wrapping_sub(EACH) & !del;
        // The lowest one is right; those above it may be wrong.
        let found = (low | zero) & (EACH << 7);
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if octets.get(at) != Some(&b'\t') {
            return Some(at);
        }
        at += 1;
    }
    let rest = octets.get(at..)?;
    let place = rest.iter().position(|octet| is_forbidden_in_value(*octet))?;
    Some(at + place)
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
        let fields = parser.into_fields(input);
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
            // Nothing is said of a line before its end is there.
            ("x\r\na\u{e9}", Ok((Step::Partial, vec![]))),
            ("x\r\na: b\0", Ok((Step::Partial, vec![]))),
            ("x\r\na: b\rc", Ok((Step::Partial, vec![]))),
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
        let forbidden = |octet: u8| octet != b'\t' && (octet < 0x20 || octet == 0x7f);
        for place in 0..20 {
            for octet in 0..=255u8 {
                let mut value = *b"a value of 20 octets";
                value[place] = octet;
                let want = forbidden(octet).then_some(place);
                assert_eq!(first_forbidden(&value), want, "{octet} at {place}");
            }
        }
        for none in [
            &b""[..],
            &[0xff; 17],
            b"\t\t\t\t\t\t\t\t\t",
            b"\ta\tb\tc\td\te\tf",
        ] {
            assert_eq!(first_forbidden(none), None);
        }
    }

    #[test]
    fn tokens() {
        let want = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for octet in 0..=255u8 {
            assert_eq!(is_token(octet), want.as_bytes().contains(&octet), "{octet}");
        }
    }

    proptest::proptest! {
        /// However a line came, it goes on in one form.
        #[test]
        fn one_form(
            lines in proptest::collection::vec(("[A-Za-z0-9-]{1,20}", "[ \t]{0,3}", "([!-~]([ -~\t]{0,20}[!-~])?)?", "[ \t]{0,3}"), 0..6),
        ) {
            let limits = Limits { head_bytes: 4096, fields: 9, uri_bytes: 9 };
            let (mut input, mut want) = (String::from("x\r\n"), String::new());
            for (name, before, value, after) in &lines {
                input += &format!("{name}:{before}{value}{after}\r\n");
                want += &format!("{}: {value}\r\n", name.to_ascii_lowercase());
            }
            input += "\r\n";
            let mut parser = Parser::default();
            proptest::prop_assert_eq!(parser.advance(input.as_bytes(), &limits, begins), Ok(Step::Complete(input.len())));
            let mut out = Vec::new();
            parser.into_fields(input.as_bytes()).encode(&mut out, |_| true);
            proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), want);
        }

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
