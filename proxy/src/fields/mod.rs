//! A header or trailer section: its field lines in the order in which they came.
//!
//! The lines stand one behind the other in one piece of memory, in the form in which HTTP/1.1 sends them; beside it is
//! where each of them begins and ends. So a section is read with one copy, one that nobody has changed is sent with
//! another, and all of it goes at once. It has a dozen lines: to go through them costs less than hashing, and to know
//! that a name is not there takes one bit.

pub mod names;

use std::fmt;
use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Field lines. Names are in lower case; several lines may have one name.
#[derive(Clone, Default)]
pub struct Fields {
    /// `name: value` and CRLF, again and again. What was taken out stays until all of it goes.
    text: Vec<u8>,
    lines: Vec<Line>,
    /// The marks of all names that are there; there may be some of names that were taken out.
    marks: u64,
}

/// Where in the text a line stands. 4 GiB are beyond all limits of a section.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Line {
    name: u32,
    /// Behind the name.
    colon: u32,
    value: u32,
    /// Behind the value.
    end: u32,
}

impl Line {
    /// Where its name and its value stand.
    pub(crate) fn new(name: Range<usize>, value: Range<usize>) -> Self {
        let place = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Self {
            name: place(name.start),
            colon: place(name.end),
            value: place(value.start),
            end: place(value.end),
        }
    }
}

/// One of 64 bits: where it is not set, a name is not there.
#[inline]
fn mark(name: &[u8]) -> u64 {
    let (first, last) = (name.first().copied(), name.last().copied());
    let sum = name.len() + usize::from(first.unwrap_or(0)) * 5 + usize::from(last.unwrap_or(0)) * 11;
    1 << (sum & 63)
}

/// Puts letters into lower case, eight together; the last eight may be looked at twice.
fn lower(name: &mut [u8]) {
    const EACH: u64 = u64::MAX / 0xff;
    let eight = |octets: &mut [u8; 8]| {
        let word = u64::from_ne_bytes(*octets);
        let seven = word & (EACH * 0x7f);
        let above = seven + EACH * u64::from(0x7f - b'Z');
        let from = seven + EACH * u64::from(0x80 - b'A');
        let upper = (above ^ from) & !word & (EACH << 7);
        *octets = (word | (upper >> 2)).to_ne_bytes();
    };
    if name.len() < 8 {
        return name.make_ascii_lowercase();
    }
    name.as_chunks_mut().0.iter_mut().for_each(eight);
    if let Some(last) = name.last_chunk_mut() {
        eight(last);
    }
}

/// What stands between a name and its value.
const COLON: &[u8] = b": ";
/// What stands behind a value.
const CRLF: &[u8] = b"\r\n";

/// The name of a line, in lower case.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Name<'a>(&'a [u8]);

/// The value of a line: what a [`HeaderValue`] may be.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Value<'a>(&'a [u8]);

/// Octets of a value that are no visible characters of ASCII.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the value of the field is no text")]
pub struct NotText;

/// What a field is looked for by.
pub trait Named {
    /// The name in lower case.
    fn octets(&self) -> &[u8];
}

/// What a line may be named.
pub trait FieldName: Named {}

/// What a line may say.
pub trait FieldValue {
    /// The value.
    fn octets(&self) -> &[u8];
}

impl Named for HeaderName {
    fn octets(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl Named for Name<'_> {
    fn octets(&self) -> &[u8] {
        self.0
    }
}

/// In lower case.
impl Named for str {
    fn octets(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<T: Named + ?Sized> Named for &T {
    fn octets(&self) -> &[u8] {
        T::octets(self)
    }
}

impl FieldName for HeaderName {}
impl FieldName for Name<'_> {}
impl<T: FieldName + ?Sized> FieldName for &T {}

impl FieldValue for HeaderValue {
    fn octets(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl FieldValue for Value<'_> {
    fn octets(&self) -> &[u8] {
        self.0
    }
}

impl<T: FieldValue + ?Sized> FieldValue for &T {
    fn octets(&self) -> &[u8] {
        T::octets(self)
    }
}

impl Fields {
    /// No lines.
    pub const fn new() -> Self {
        Self {
            text: Vec::new(),
            lines: Vec::new(),
            marks: 0,
        }
    }

    /// No lines, and room for some, with so many octets in all.
    pub fn with_capacity(lines: usize, octets: usize) -> Self {
        Self {
            text: Vec::with_capacity(octets),
            lines: Vec::with_capacity(lines),
            marks: 0,
        }
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines that were found in `section`; `room`: octets that are added on the way.
    pub(crate) fn read(section: &[u8], lines: Vec<Line>, room: usize) -> Self {
        if lines.is_empty() {
            // As behind nearly every chunked body.
            return Self::new();
        }
        let mut text = Vec::with_capacity(section.len() + room);
        text.extend_from_slice(section);
        let mut marks = 0;
        for line in &lines {
            if let Some(name) = text.get_mut(line.name as usize..line.colon as usize) {
                lower(name);
                marks |= mark(name);
            }
        }
        Self { text, lines, marks }
    }

    #[inline]
    fn octets(&self, range: Range<u32>) -> &[u8] {
        self.text
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }

    #[inline]
    fn name(&self, line: &Line) -> Name<'_> {
        Name(self.octets(line.name..line.colon))
    }

    #[inline]
    fn value(&self, line: &Line) -> Value<'_> {
        Value(self.octets(line.value..line.end))
    }

    #[inline]
    fn is_named(&self, line: &Line, name: &[u8]) -> bool {
        (line.colon - line.name) as usize == name.len() && self.name(line).0 == name
    }

    /// The value of the first line of that name.
    #[inline]
    pub fn get(&self, name: impl Named) -> Option<Value<'_>> {
        let place = self.place(name.octets())?;
        self.lines.get(place).map(|line| self.value(line))
    }

    /// The values of all lines of that name.
    #[inline]
    pub fn get_all<N: Named>(&self, name: N) -> impl Iterator<Item = Value<'_>> + use<'_, N> {
        let lines = match self.place(name.octets()) {
            Some(place) => self.lines.get(place..).unwrap_or_default(),
            None => &[],
        };
        lines
            .iter()
            .filter(move |line| self.is_named(line, name.octets()))
            .map(|line| self.value(line))
    }

    #[inline]
    fn place(&self, name: &[u8]) -> Option<usize> {
        if self.marks & mark(name) == 0 {
            return None;
        }
        self.search(name)
    }

    fn search(&self, name: &[u8]) -> Option<usize> {
        self.lines.iter().position(|line| self.is_named(line, name))
    }

    /// Whether there is a line of that name.
    #[inline]
    pub fn contains_key(&self, name: impl Named) -> bool {
        self.place(name.octets()).is_some()
    }

    /// The lines.
    pub fn iter(&self) -> Lines<'_> {
        Lines {
            fields: self,
            left: self.lines.iter(),
        }
    }

    /// The name of each line.
    pub fn keys(&self) -> impl Iterator<Item = Name<'_>> {
        self.iter().map(|(name, _)| name)
    }

    /// The value of each line.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        self.iter().map(|(_, value)| value)
    }

    /// Writes a line behind all others.
    fn write(&mut self, name: &[u8], value: &[u8]) -> Line {
        let text = &mut self.text;
        let start = text.len();
        let colon = start + name.len();
        let begin = colon + COLON.len();
        let end = begin + value.len();
        text.reserve(end + CRLF.len() - start);
        text.extend_from_slice(name);
        text.extend_from_slice(COLON);
        text.extend_from_slice(value);
        text.extend_from_slice(CRLF);
        self.marks |= mark(name);
        Line::new(start..colon, begin..end)
    }

    /// One more line.
    pub fn append(&mut self, name: impl FieldName, value: impl FieldValue) {
        let line = self.write(name.octets(), value.octets());
        self.lines.push(line);
    }

    /// The one line of that name, instead of all there were.
    pub fn insert(&mut self, name: impl FieldName, value: impl FieldValue) {
        let name = name.octets();
        // It is marked as soon as it is written.
        let place = self.place(name);
        let line = self.write(name, value.octets());
        let Some(place) = place else {
            self.lines.push(line);
            return;
        };
        self.take_out(name, place + 1);
        if let Some(first) = self.lines.get_mut(place) {
            *first = line;
        }
    }

    /// A line that is added where there is none of that name.
    pub fn or_insert<V: FieldValue>(&mut self, name: impl FieldName, value: impl FnOnce() -> V) {
        if !self.contains_key(&name) {
            self.append(name, value());
        }
    }

    /// Takes all lines of that name out.
    pub fn remove(&mut self, name: impl Named) {
        let name = name.octets();
        if let Some(place) = self.place(name) {
            self.take_out(name, place);
        }
    }

    /// Takes out what has that name from a line on.
    fn take_out(&mut self, name: &[u8], from: usize) {
        let mut at = 0;
        self.retain(|other, _| {
            at += 1;
            at <= from || other.0 != name
        });
    }

    /// Keeps the lines that `stays` says.
    pub fn retain(&mut self, mut stays: impl FnMut(Name<'_>, Value<'_>) -> bool) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.retain(|line| stays(self.name(line), self.value(line)));
        self.lines = lines;
    }

    /// Adds lines, also where there are some of their names.
    pub fn extend(&mut self, lines: &Self) {
        for (name, value) in lines {
            self.append(name, value);
        }
    }

    /// Writes the lines that `goes` says as HTTP/1.1 has them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, mut goes: impl FnMut(Name<'_>) -> bool) {
        // What stands together goes together.
        let mut run = 0..0;
        for line in &self.lines {
            if !goes(self.name(line)) {
                continue;
            }
            let behind = line.end.saturating_add(CRLF.len() as u32);
            let plain = self.octets(line.colon..line.value) == COLON && self.octets(line.end..behind) == CRLF;
            if plain && line.name == run.end {
                run.end = behind;
                continue;
            }
            out.extend_from_slice(self.octets(run));
            if plain {
                run = line.name..behind;
            } else {
                // It came with more or less white space.
                run = 0..0;
                for piece in [self.name(line).0, COLON, self.value(line).0, CRLF] {
                    out.extend_from_slice(piece);
                }
            }
        }
        out.extend_from_slice(self.octets(run));
    }
}

impl Name<'static> {
    /// A name that is known.
    ///
    /// # Panics
    /// Unless it is a token in lower case: at compile time, in a constant.
    pub const fn from_static(name: &'static str) -> Self {
        let octets = name.as_bytes();
        let mut left = octets;
        while let [first, rest @ ..] = left {
            assert!(
                matches!(first, b'a'..=b'z' | b'0'..=b'9' | b'-'),
                "no name of a field"
            );
            left = rest;
        }
        Self(octets)
    }
}

impl<'a> Name<'a> {
    /// The name.
    pub fn as_str(self) -> &'a str {
        // A token is ASCII.
        std::str::from_utf8(self.0).unwrap_or_default()
    }

    /// The name.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Value<'a> {
    /// What the box itself writes: visible characters of ASCII.
    pub(crate) fn from_own(text: &'a str) -> Self {
        debug_assert!(
            text.bytes().all(|octet| (b' '..=b'~').contains(&octet)),
            "{text:?} is no value of a field"
        );
        Self(text.as_bytes())
    }

    /// The value.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The value as text.
    ///
    /// # Errors
    /// [`NotText`].
    pub fn to_str(self) -> Result<&'a str, NotText> {
        let is_visible = |octet: &u8| matches!(octet, b'\t' | b' '..=b'~');
        if !self.0.iter().all(is_visible) {
            return Err(NotText);
        }
        std::str::from_utf8(self.0).map_err(|_| NotText)
    }

    /// Octets.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether nothing is said.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq<HeaderName> for Name<'_> {
    fn eq(&self, other: &HeaderName) -> bool {
        self.0 == Named::octets(other)
    }
}

impl PartialEq<Name<'_>> for HeaderName {
    fn eq(&self, other: &Name<'_>) -> bool {
        other == self
    }
}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<HeaderValue> for Value<'_> {
    fn eq(&self, other: &HeaderValue) -> bool {
        self.0 == other.as_bytes()
    }
}

impl<'a> From<&'a HeaderValue> for Value<'a> {
    fn from(value: &'a HeaderValue) -> Self {
        Self(value.as_bytes())
    }
}

/// To be kept beyond the section.
impl From<Value<'_>> for HeaderValue {
    fn from(value: Value<'_>) -> Self {
        Self::from_bytes(value.0).unwrap_or(Self::from_static(""))
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

/// The lines of a section, one after the other.
pub struct Lines<'a> {
    fields: &'a Fields,
    left: std::slice::Iter<'a, Line>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (Name<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.left.next()?;
        Some((self.fields.name(line), self.fields.value(line)))
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (Name<'a>, Value<'a>);
    type IntoIter = Lines<'a>;

    fn into_iter(self) -> Lines<'a> {
        self.iter()
    }
}

impl<N: FieldName, V: FieldValue> FromIterator<(N, V)> for Fields {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(lines: T) -> Self {
        let mut fields = Self::new();
        for (name, value) in lines {
            fields.append(name, value);
        }
        fields
    }
}

/// What a library has read.
impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        map.iter().collect()
    }
}

/// What a library writes. What would be too much for it is left out.
impl From<&Fields> for HeaderMap {
    fn from(fields: &Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                let _ = map.try_append(name, HeaderValue::from(value));
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Append(usize, u8),
        Insert(usize, u8),
        Default(usize, u8),
        Remove(usize),
        Retain(usize),
    }

    fn name(of: usize) -> HeaderName {
        let names = ["host", "te", "x-a", "x-b"];
        HeaderName::from_static(names[of % names.len()])
    }

    fn change() -> impl Strategy<Value = Change> {
        (0..5usize, 0..4usize, 0..9u8).prop_map(|(kind, of, value)| match kind {
            0 => Change::Append(of, value),
            1 => Change::Insert(of, value),
            2 => Change::Default(of, value),
            3 => Change::Remove(of),
            _ => Change::Retain(of),
        })
    }

    proptest! {
        /// It says of each name what the map of the library says, whatever was done before.
        #[test]
        fn is_the_same_as_a_map(changes in proptest::collection::vec(change(), 0..24)) {
            let (mut fields, mut map) = (Fields::new(), HeaderMap::new());
            for change in changes {
                match change {
                    Change::Append(of, value) => {
                        fields.append(name(of), HeaderValue::from(u16::from(value)));
                        map.append(name(of), HeaderValue::from(u16::from(value)));
                    }
                    Change::Insert(of, value) => {
                        fields.insert(name(of), HeaderValue::from(u16::from(value)));
                        map.insert(name(of), HeaderValue::from(u16::from(value)));
                    }
                    Change::Default(of, value) => {
                        fields.or_insert(name(of), || HeaderValue::from(u16::from(value)));
                        map.entry(name(of)).or_insert_with(|| u16::from(value).into());
                    }
                    Change::Remove(of) => {
                        fields.remove(name(of));
                        map.remove(name(of));
                    }
                    Change::Retain(of) => {
                        fields.retain(|other, value| *other.as_bytes() != *name(of).as_str().as_bytes() || value != "3");
                        let kept: Vec<_> = map.get_all(name(of)).iter().filter(|value| *value != "3").cloned().collect();
                        map.remove(name(of));
                        for value in kept {
                            map.append(name(of), value);
                        }
                    }
                }
                for of in 0..4 {
                    let ours: Vec<_> = fields.get_all(name(of)).map(HeaderValue::from).collect();
                    let theirs: Vec<_> = map.get_all(name(of)).iter().cloned().collect();
                    prop_assert_eq!(&ours, &theirs);
                    prop_assert_eq!(fields.get(name(of).as_str()).map(HeaderValue::from), theirs.first().cloned());
                    prop_assert_eq!(fields.contains_key(name(of)), !theirs.is_empty());
                }
                prop_assert_eq!(fields.len(), map.len());
                let line = |(name, value): (Name<'_>, Value<'_>)| format!("{name}: {}\r\n", value.to_str().unwrap());
                let lines: String = fields.iter().map(line).collect();
                let but_te: String = fields.iter().filter(|(name, _)| *name != *"te").map(line).collect();
                for (want, out) in [(lines, true), (but_te, false)] {
                    let mut encoded = Vec::new();
                    fields.encode(&mut encoded, |name| out || name != *"te");
                    prop_assert_eq!(String::from_utf8(encoded).unwrap(), want);
                }
            }
            prop_assert_eq!(&HeaderMap::from(&fields), &map);
            prop_assert_eq!(HeaderMap::from(&Fields::from(map.clone())), map);
        }
    }
}
