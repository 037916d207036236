//! A header or trailer section: its field lines in the order in which they came.
//!
//! A section has a dozen lines, and most names that are looked for are standard ones, which compare as numbers: going
//! through the lines costs less than hashing, and adding a line no more than writing it down.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Field lines. Names are in lower case; several lines may have one name.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Fields(Vec<Line>);

type Line = (HeaderName, HeaderValue);

/// What a field is looked for by.
pub trait Named {
    /// Whether it is this one.
    fn is(&self, name: &HeaderName) -> bool;
}

impl Named for HeaderName {
    fn is(&self, name: &HeaderName) -> bool {
        self == name
    }
}

impl Named for &HeaderName {
    fn is(&self, name: &HeaderName) -> bool {
        *self == name
    }
}

/// In lower case.
impl Named for &str {
    fn is(&self, name: &HeaderName) -> bool {
        name.as_str() == *self
    }
}

impl Fields {
    /// No lines.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// No lines, and room for some.
    pub fn with_capacity(lines: usize) -> Self {
        Self(Vec::with_capacity(lines))
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the first line of that name.
    pub fn get(&self, name: impl Named) -> Option<&HeaderValue> {
        self.get_all(name).next()
    }

    /// The values of all lines of that name.
    pub fn get_all(&self, name: impl Named) -> impl Iterator<Item = &HeaderValue> {
        self.0
            .iter()
            .filter_map(move |(other, value)| name.is(other).then_some(value))
    }

    /// Whether there is a line of that name.
    pub fn contains_key(&self, name: impl Named) -> bool {
        self.get(name).is_some()
    }

    /// The lines.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The name of each line.
    pub fn keys(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The value of each line.
    pub fn values(&self) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter().map(|(_, value)| value)
    }

    /// One more line.
    pub fn append(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        self.0.push((name.into(), value));
    }

    /// The one line of that name, instead of all there were.
    pub fn insert(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        let name = name.into();
        let Some(place) = self.0.iter().position(|(other, _)| *other == name) else {
            self.0.push((name, value));
            return;
        };
        let mut at = 0;
        self.0.retain(|(other, _)| {
            let stays = at <= place || *other != name;
            at += 1;
            stays
        });
        if let Some((_, first)) = self.0.get_mut(place) {
            *first = value;
        }
    }

    /// A line that is added where there is none of that name.
    pub fn or_insert(&mut self, name: impl Into<HeaderName>, value: impl FnOnce() -> HeaderValue) {
        let name = name.into();
        if !self.contains_key(&name) {
            self.0.push((name, value()));
        }
    }

    /// Takes all lines of that name out. Gives the value of the first.
    pub fn remove(&mut self, name: impl Named) -> Option<HeaderValue> {
        let place = self.0.iter().position(|(other, _)| name.is(other))?;
        let (_, first) = self.0.remove(place);
        self.0.retain(|(other, _)| !name.is(other));
        Some(first)
    }

    /// Keeps the lines that `stays` says.
    pub fn retain(&mut self, mut stays: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
        self.0.retain(|(name, value)| stays(name, value));
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Line;
    type IntoIter = std::slice::Iter<'a, Line>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl IntoIterator for Fields {
    type Item = Line;
    type IntoIter = std::vec::IntoIter<Line>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Adds lines, also where there are some of their names.
impl Extend<Line> for Fields {
    fn extend<T: IntoIterator<Item = Line>>(&mut self, lines: T) {
        self.0.extend(lines);
    }
}

impl FromIterator<Line> for Fields {
    fn from_iter<T: IntoIterator<Item = Line>>(lines: T) -> Self {
        Self(lines.into_iter().collect())
    }
}

/// What a library has read.
impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len());
        let mut last = None;
        for (name, value) in map {
            // Further values of a name come without it.
            last = name.or(last);
            if let Some(name) = &last {
                fields.append(name, value);
            }
        }
        fields
    }
}

/// What a library writes. What would be too much for it is left out.
impl From<&Fields> for HeaderMap {
    fn from(fields: &Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields {
            let _ = map.try_append(name, value.clone());
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
    }

    fn name(of: usize) -> HeaderName {
        let names = ["host", "te", "x-a", "x-b"];
        HeaderName::from_static(names[of % names.len()])
    }

    fn change() -> impl Strategy<Value = Change> {
        (0..4usize, 0..4usize, 0..9u8).prop_map(|(kind, of, value)| match kind {
            0 => Change::Append(of, value),
            1 => Change::Insert(of, value),
            2 => Change::Default(of, value),
            _ => Change::Remove(of),
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
                        fields.append(name(of), u16::from(value).into());
                        map.append(name(of), HeaderValue::from(u16::from(value)));
                    }
                    Change::Insert(of, value) => {
                        fields.insert(name(of), u16::from(value).into());
                        map.insert(name(of), HeaderValue::from(u16::from(value)));
                    }
                    Change::Default(of, value) => {
                        fields.or_insert(name(of), || u16::from(value).into());
                        map.entry(name(of)).or_insert_with(|| u16::from(value).into());
                    }
                    Change::Remove(of) => prop_assert_eq!(fields.remove(name(of)), map.remove(name(of))),
                }
                for of in 0..4 {
                    let ours: Vec<_> = fields.get_all(name(of)).collect();
                    let theirs: Vec<_> = map.get_all(name(of)).iter().collect();
                    prop_assert_eq!(&ours, &theirs);
                    prop_assert_eq!(fields.get(name(of).as_str()), theirs.first().copied());
                    prop_assert_eq!(fields.contains_key(name(of)), !theirs.is_empty());
                }
                prop_assert_eq!(fields.len(), map.len());
            }
            prop_assert_eq!(&HeaderMap::from(&fields), &map);
            prop_assert_eq!(HeaderMap::from(&Fields::from(map.clone())), map);
        }
    }
}
