//! Method, header and query conditions, compiled once for each route.

use std::borrow::Cow;

use http::{HeaderName, Method};
use regex::Regex;
use sekisho_config::model::{Conditions, FieldCondition, ValueMatch};

use super::{Asked, Lost};
use crate::fields::Fields;

/// The conditions of one route.
#[derive(Debug)]
pub(super) struct Compiled {
    methods: Box<[Method]>,
    headers: Box<[(HeaderName, Test)]>,
    query: Box<[(Box<str>, Test)]>,
}

#[derive(Debug)]
enum Test {
    Present,
    Absent,
    Is(Box<str>),
    Matches(Regex),
}

impl Test {
    fn compile(value: &ValueMatch) -> Option<Self> {
        Some(match value {
            ValueMatch::Present => Self::Present,
            ValueMatch::Absent => Self::Absent,
            ValueMatch::Exact(text) => Self::Is(text.as_ref().into()),
            ValueMatch::Regex(pattern) => Self::Matches(pattern.regex()?),
        })
    }

    fn passes(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Self::Absent, value) => value.is_none(),
            (_, None) => false,
            (Self::Present, Some(_)) => true,
            (Self::Is(wanted), Some(value)) => wanted.as_bytes() == value,
            (Self::Matches(regex), Some(value)) => {
                std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value))
            }
        }
    }
}

impl Compiled {
    /// `None`: no request can meet them.
    pub(super) fn compile(conditions: &Conditions) -> Option<Self> {
        let methods = conditions
            .methods
            .iter()
            .map(|method| Method::from_bytes(method.as_bytes()).ok())
            .collect::<Option<_>>()?;
        let header = |condition: &FieldCondition| {
            let name = HeaderName::from_bytes(condition.name.as_bytes()).ok()?;
            Some((name, Test::compile(&condition.value)?))
        };
        let query = |condition: &FieldCondition| {
            Some((condition.name.as_ref().into(), Test::compile(&condition.value)?))
        };
        Some(Self {
            methods,
            headers: conditions.headers.iter().map(header).collect::<Option<_>>()?,
            query: conditions.query.iter().map(query).collect::<Option<_>>()?,
        })
    }

    /// The first condition that is not met.
    pub(super) fn check(&self, asked: &Asked<'_>) -> Result<(), Lost> {
        if !self.methods.is_empty() && !self.methods.contains(asked.method) {
            return Err(Lost::MethodDiffers);
        }
        for (name, test) in &self.headers {
            let value = asked.headers.and_then(|headers| header(headers, name));
            if !test.passes(value.as_deref()) {
                return Err(Lost::HeaderDiffers);
            }
        }
        for (name, test) in &self.query {
            let value = asked.query.and_then(|query| parameter(query, name));
            if !test.passes(value.as_deref()) {
                return Err(Lost::QueryDiffers);
            }
        }
        Ok(())
    }
}

/// The value of a field; several lines are one list (RFC 9110 section 5.3).
fn header<'a>(headers: &'a Fields, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name);
    let first = lines.next()?.as_bytes();
    let Some(second) = lines.next() else {
        return Some(Cow::Borrowed(first));
    };
    let mut joined = first.to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    Some(Cow::Owned(joined))
}

/// The first parameter of this name, decoded as forms are (`application/x-www-form-urlencoded`).
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *decode(key) == *name.as_bytes())
        .map(|(_, value)| decode(value))
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|octet| octet == b'%' || octet == b'+') {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |octet: Option<&u8>| octet.and_then(|octet| char::from(*octet).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        match octet {
            b'+' => out.push(b' '),
            b'%' => match (digit(after.first()), digit(after.get(1))) {
                (Some(high), Some(low)) => {
                    out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                    rest = after.get(2..).unwrap_or_default();
                }
                // Left as it is, as browsers do.
                _ => out.push(b'%'),
            },
            octet => out.push(octet),
        }
    }
    Cow::Owned(out)
}
