use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{At, Log, Place, quote};
use super::keys::{self, Absent, KEYS, Key, Kind, SECTIONS, Section, one_of};
use super::scalar::{self, nearest, write_duration, write_size};
use crate::model::{Asn, Invalid, PeerAs};

/// One table of the file, with the section of [`KEYS`] that says what may stand in it.
///
/// Every reading function returns `None` for a key that is absent or whose fault it has recorded.
pub(super) struct Table<'a> {
    section: &'static Section,
    pub(super) place: Place,
    entries: &'a DeTable<'a>,
    log: &'a Log,
    /// Where relative paths start.
    base: &'a Path,
}

impl<'a> Table<'a> {
    /// Judges the names in `entries` at once; values are judged when they are read.
    pub(super) fn new(
        section: &'static Section,
        place: Place,
        entries: &'a DeTable<'a>,
        log: &'a Log,
        base: &'a Path,
    ) -> Self {
        let table = Self {
            section,
            place,
            entries,
            log,
            base,
        };
        for (name, _) in entries {
            table.judge_name(name.as_ref(), log.line(&name.span()));
        }
        table
    }

    fn judge_name(&self, name: &str, line: usize) {
        let place = Place {
            line,
            key: format!("{}.{name}", self.place.key),
        };
        let here = self.section.name;
        match keys::find(here, name) {
            Some(Key {
                absent: Absent::NotSupportedYet,
                ..
            }) => {
                self.log
                    .fault(&place, "not supported yet", "remove it (it would do nothing)");
            }
            Some(_) => {}
            None if SECTIONS
                .iter()
                .any(|s| s.name.split_once('.') == Some((here, name))) => {}
            None => {
                let names = || {
                    KEYS.iter()
                        .filter(|k| k.section == here && !matches!(k.absent, Absent::NotSupportedYet))
                        .map(|k| k.name)
                };
                let elsewhere = KEYS
                    .iter()
                    .filter(|k| k.name == name)
                    .find_map(|k| SECTIONS.iter().find(|s| s.name == k.section));
                let instead = match (elsewhere, nearest(name, names())) {
                    (Some(section), _) => format!("`{name}` belongs in {}", section.header()),
                    (None, Some(near)) => format!("did you mean `{near}`?"),
                    (None, None) => format!(
                        "the keys of {} are {}",
                        self.section.header(),
                        names().collect::<Vec<_>>().join(", ")
                    ),
                };
                self.log.fault(&place, "unknown key", instead);
            }
        }
    }

    /// The value of `name`, and where it is. A required key that is absent is a fault, unless the text is not
    /// even TOML: the key may stand in the part that could not be read.
    fn entry(&self, key: &Key) -> Option<(&'a DeValue<'a>, Place)> {
        match self.find(key.name) {
            Some(value) => {
                let place = Place {
                    line: self.log.line(&value.span()),
                    key: self.path(key.name),
                };
                Some((value.get_ref(), place))
            }
            None => {
                if matches!(key.absent, Absent::Required) && !self.log.has_syntax_faults() {
                    let place = Place {
                        line: self.place.line,
                        key: self.path(key.name),
                    };
                    self.log.fault(
                        &place,
                        "missing",
                        format!("write for example: {} = {}", key.name, key.example),
                    );
                }
                None
            }
        }
    }

    fn find(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries
            .iter()
            .find(|(key, _)| key.get_ref().as_ref() == name)
            .map(|(_, value)| value)
    }

    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.place.key)
    }

    /// The key of [`KEYS`]; a test reads every one of them, so that none is forgotten here.
    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = keys::find(self.section.name, name);
        debug_assert!(
            key.is_some(),
            "{}.{name} is read and is not in KEYS",
            self.section.name
        );
        key
    }

    fn wrong_type(&self, place: &Place, key: &Key, got: &DeValue<'_>, want: &str) {
        self.log.fault(
            place,
            format!("{} where {want} is expected", type_name(got)),
            format!("write for example: {} = {}", key.name, key.example),
        );
    }

    /// Where `name` is, or where it would be.
    pub(super) fn place_of(&self, name: &str) -> Place {
        let line = self
            .find(name)
            .map_or(self.place.line, |value| self.log.line(&value.span()));
        Place {
            line,
            key: self.path(name),
        }
    }

    /// Whether `name` is written, with whatever value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether `name` is written as a list with nothing in it.
    pub(super) fn is_empty_list(&self, name: &str) -> bool {
        let list = self.find(name).and_then(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.is_empty())
    }

    /// A string that `read` accepts.
    pub(super) fn text<T>(&self, name: &str, read: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<At<T>> {
        let key = self.key(name)?;
        let (value, place) = self.entry(key)?;
        let Some(text) = value.as_str() else {
            self.wrong_type(&place, key, value, "a string");
            return None;
        };
        self.accept(read(text), place)
    }

    fn accept<T>(&self, read: Result<T, Invalid>, place: Place) -> Option<At<T>> {
        match read {
            Ok(value) => Some(At { value, place }),
            Err(invalid) => {
                self.log.invalid(&place, &invalid);
                None
            }
        }
    }

    /// A list of strings that `read` accepts, none of them twice. Bad elements are left out.
    pub(super) fn list<T: Clone + Ord>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, Invalid>,
    ) -> Option<At<Vec<At<T>>>> {
        let key = self.key(name)?;
        let (value, place) = self.entry(key)?;
        let Some(array) = value.as_array() else {
            self.wrong_type(&place, key, value, "a list");
            return None;
        };
        let mut seen = BTreeSet::new();
        let mut list = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let place = Place {
                line: self.log.line(&element.span()),
                key: format!("{}[{index}]", place.key),
            };
            let Some(text) = element.get_ref().as_str() else {
                self.wrong_type(&place, key, element.get_ref(), "a string");
                continue;
            };
            let Some(item) = self.accept(read(text), place) else {
                continue;
            };
            if seen.insert(item.value.clone()) {
                list.push(item);
            } else {
                self.log.fault(
                    &item.place,
                    format!("{} is written twice", quote(text)),
                    "keep one of them",
                );
            }
        }
        Some(At { value: list, place })
    }

    /// One of the words of the key.
    pub(super) fn word(&self, name: &str) -> Option<At<&'static str>> {
        let Kind::OneOf(words) = self.key(name)?.kind else {
            return None;
        };
        let key = self.key(name)?;
        let (value, place) = self.entry(key)?;
        let Some(text) = value.as_str() else {
            self.wrong_type(&place, key, value, "a string");
            return None;
        };
        let Some(word) = words.iter().find(|word| **word == text) else {
            self.log.fault(
                &place,
                format!("{} is none of the words known here", quote(text)),
                format!("write {}", one_of(words)),
            );
            return None;
        };
        Some(At { value: word, place })
    }

    /// `true` or `false`.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        let key = self.key(name)?;
        let (value, place) = self.entry(key)?;
        if value.as_bool().is_none() {
            self.wrong_type(&place, key, value, "true or false");
        }
        value.as_bool()
    }

    /// `true` is a table in which nothing is written, `false` none; `None`: absent, or at fault.
    pub(super) fn switch(&self, name: &str, empty: &'a DeTable<'a>) -> Option<Option<Self>> {
        let key = self.key(name)?;
        let Kind::Switch(section) = key.kind else {
            return None;
        };
        let section = SECTIONS.iter().find(|known| known.name == section)?;
        let (value, place) = self.entry(key)?;
        let entries = match value {
            DeValue::Boolean(false) => return Some(None),
            DeValue::Boolean(true) => empty,
            DeValue::Table(entries) => entries,
            _ => {
                self.wrong_type(&place, key, value, "true, false or a table");
                return None;
            }
        };
        Some(Some(Table::new(section, place, entries, self.log, self.base)))
    }

    /// A number or a size within the range of the key.
    pub(super) fn number<T: TryFrom<u64>>(&self, name: &str) -> Option<At<T>> {
        let key = self.key(name)?;
        let (value, place) = self.entry(key)?;
        let (min, max, size) = match key.kind {
            Kind::Integer { min, max } => (min, max, false),
            Kind::Size { min, max } => (min, max, true),
            _ => (0, u64::MAX, false),
        };
        let (number, written) = match value {
            DeValue::Integer(integer) => (
                u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
                integer.to_string(),
            ),
            DeValue::String(text) if size => (
                Some(self.accept(scalar::size(text), place.clone())?.value),
                text.to_string(),
            ),
            _ => {
                self.wrong_type(&place, key, value, if size { "a size" } else { "a whole number" });
                return None;
            }
        };
        match number
            .filter(|n| (min..=max).contains(n))
            .and_then(|n| T::try_from(n).ok())
        {
            Some(value) => Some(At { value, place }),
            None => {
                let range = if size {
                    format!("write {} to {}", write_size(min), write_size(max))
                } else {
                    format!("write a number from {min} to {max}")
                };
                self.log
                    .fault(&place, format!("{written} is out of range"), range);
                None
            }
        }
    }

    /// An AS number.
    pub(super) fn asn(&self, name: &str) -> Option<At<Asn>> {
        let number = self.number::<u32>(name)?;
        self.accept(Asn::try_from(number.value), number.place)
    }

    /// The AS numbers that a peer may have.
    pub(super) fn peer_as(&self, name: &str) -> Option<At<PeerAs>> {
        const WANTED: &str = "an AS number, a list of them, \"internal\" or \"external\"";
        let key = self.key(name)?;
        let (value, place) = self.entry(key)?;
        let number = |value: &DeValue<'_>, place: &Place| {
            let DeValue::Integer(integer) = value else {
                self.wrong_type(place, key, value, WANTED);
                return None;
            };
            let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
            let asn = number.and_then(|number| Asn::try_from(number).ok());
            if asn.is_none() {
                let what = format!("{integer} is out of range");
                self.log.fault(place, what, "write a number from 1 to 4294967295");
            }
            asn
        };
        let value = match value {
            DeValue::String(text) if text == "internal" => PeerAs::Internal,
            DeValue::String(text) if text == "external" => PeerAs::External,
            DeValue::String(text) => {
                let what = format!("{} is none of the words known here", quote(text));
                let instead =
                    "write a number without quotes, a list of numbers, \"internal\" or \"external\"";
                self.log.fault(&place, what, instead);
                return None;
            }
            DeValue::Array(elements) => {
                let mut numbers = BTreeSet::new();
                for (index, element) in elements.iter().enumerate() {
                    let place = Place {
                        line: self.log.line(&element.span()),
                        key: format!("{}[{index}]", place.key),
                    };
                    numbers.insert(number(element.get_ref(), &place)?);
                }
                if numbers.is_empty() {
                    self.log
                        .fault(&place, "an empty list lets nobody in", "write the AS numbers");
                    return None;
                }
                PeerAs::AnyOf(numbers)
            }
            other => PeerAs::from(number(other, &place)?),
        };
        Some(At { value, place })
    }

    /// A duration within the range of the key.
    pub(super) fn duration(&self, name: &str) -> Option<At<Duration>> {
        let key = self.key(name)?;
        let (value, place) = self.entry(key)?;
        if let DeValue::Integer(integer) = value {
            self.log.fault(
                &place,
                format!("{integer} has no unit"),
                format!(
                    "write \"{integer}s\" for seconds, or \"{integer}ms\", \"{integer}m\", \"{integer}h\""
                ),
            );
            return None;
        }
        let duration = self.text(name, scalar::duration)?;
        if let Kind::Duration { min, max } = key.kind
            && !(min..=max).contains(&duration.value)
        {
            self.log.fault(
                &place,
                format!("{} is out of range", write_duration(duration.value)),
                format!("write \"{}\" to \"{}\"", write_duration(min), write_duration(max)),
            );
            return None;
        }
        Some(duration)
    }

    /// A path; a relative one starts at the folder of the file.
    pub(super) fn path_of(&self, name: &str) -> Option<At<PathBuf>> {
        self.text(name, |text| self.file_path(text))
    }

    /// A list of such paths.
    pub(super) fn paths(&self, name: &str) -> Option<At<Vec<At<PathBuf>>>> {
        self.list(name, |text| self.file_path(text))
    }

    fn file_path(&self, text: &str) -> Result<PathBuf, Invalid> {
        if text.is_empty() || text.contains('\0') || text.len() > 4096 {
            return Err(Invalid::new(
                "empty, too long, or not a path",
                "write the path of a file or folder",
            ));
        }
        Ok(self.base.join(text))
    }

    /// A string or a whole number, as written.
    pub(super) fn text_or_integer(&self, name: &str) -> Option<At<String>> {
        let key = self.key(name)?;
        let (value, place) = self.entry(key)?;
        match value {
            DeValue::String(text) => Some(At {
                value: text.to_string(),
                place,
            }),
            DeValue::Integer(integer) => {
                let number = u64::from_str_radix(integer.as_str(), integer.radix());
                let value = number.map_or_else(|_| integer.to_string(), |number| number.to_string());
                Some(At { value, place })
            }
            _ => {
                self.wrong_type(&place, key, value, "a string or a whole number");
                None
            }
        }
    }
}

/// A socket address that something can listen on.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Invalid> {
    const HELP: &str = "write address:port, for example \"0.0.0.0:80\" or \"[::]:80\"";
    let address: SocketAddr = text
        .parse()
        .map_err(|_| Invalid::new(format!("{} is not a socket address", quote(text)), HELP))?;
    reject_odd(address.ip(), text)?;
    Ok(address)
}

/// An address of one machine.
pub(super) fn host_address(text: &str) -> Result<IpAddr, Invalid> {
    let address = IpAddr::from_str(text).map_err(|_| {
        Invalid::new(
            format!("{} is not an IP address", quote(text)),
            "write it without port and prefix length, for example 10.0.0.11",
        )
    })?;
    reject_odd(address, text)?;
    if address.is_unspecified() {
        return Err(Invalid::new(
            format!("{} is no machine's address", quote(text)),
            "write the address itself",
        ));
    }
    Ok(address)
}

fn reject_odd(address: IpAddr, text: &str) -> Result<(), Invalid> {
    let what = match address {
        a if a.is_multicast() => "a multicast address",
        IpAddr::V4(a) if a.is_broadcast() => "the broadcast address",
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => {
            return Err(Invalid::new(
                format!("{} is an IPv4 address in IPv6 form", quote(text)),
                "write it as IPv4",
            ));
        }
        _ => return Ok(()),
    };
    Err(Invalid::new(
        format!("{} is {what}", quote(text)),
        "write a unicast address",
    ))
}

/// A value's type with its article.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
