//! The `traceparent` field (W3C Trace Context, level 1): read, decided on, written.

use std::fmt;

use crate::fields::Name;

/// Name of the field.
pub(crate) const TRACEPARENT: Name<'static> = Name::from_static("traceparent");

/// Number of a trace; never zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TraceId(u128);

/// Number of a span; never zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SpanId(u64);

impl TraceId {
    /// From dice; the one forbidden value becomes another.
    pub(crate) fn from_dice(high: u64, low: u64) -> Self {
        Self(((u128::from(high) << 64) | u128::from(low)).max(1))
    }
}

impl SpanId {
    /// From dice; the one forbidden value becomes another.
    pub(crate) fn from_dice(roll: u64) -> Self {
        Self(roll.max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a caller says of the trace it is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Parent {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    /// Whether the caller records it.
    pub(crate) sampled: bool,
}

impl Parent {
    /// Reads a field value. A later version than 00 may say more behind the flags (section 3.2.4); what cannot be read is as
    /// good as not there.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = hex(value, 2)?;
        let (trace, rest) = hex(rest.strip_prefix(b"-")?, 32)?;
        let (span, rest) = hex(rest.strip_prefix(b"-")?, 16)?;
        let (flags, rest) = hex(rest.strip_prefix(b"-")?, 2)?;
        let ended = rest.is_empty() || (version != 0 && rest.starts_with(b"-"));
        if version == 0xff || !ended || trace == 0 || span == 0 {
            return None;
        }
        Some(Self {
            trace: TraceId(trace),
            span: SpanId(u64::try_from(span).ok()?),
            sampled: flags & 1 == 1,
        })
    }
}

/// A number of `digits` hexadecimal digits in lower case, and what follows it.
fn hex(text: &[u8], digits: usize) -> Option<(u128, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let mut value = 0;
    for digit in number {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = (value << 4) | u128::from(digit);
    }
    Some((value, rest))
}

/// The place of one exchange in a trace that is recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Context {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) parent: Option<SpanId>,
}

impl Context {
    /// Decides whether an exchange is recorded: a caller that we believe decides it; any other request is recorded once in
    /// `one_in`. A trace that the caller began goes on in any case.
    pub(crate) fn begin(
        parent: Option<Parent>,
        believed: bool,
        one_in: u64,
        roll: &mut dyn FnMut() -> u64,
    ) -> Option<Self> {
        let recorded = match parent {
            Some(parent) if believed => parent.sampled,
            _ => roll().is_multiple_of(one_in.max(1)),
        };
        recorded.then(|| Self {
            trace: parent.map_or_else(|| TraceId::from_dice(roll(), roll()), |parent| parent.trace),
            span: SpanId::from_dice(roll()),
            parent: parent.map(|parent| parent.span),
        })
    }

    /// The field for the endpoint: we are its parent, and we record.
    pub(crate) fn field(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn dice(mut next: u64) -> impl FnMut() -> u64 {
        move || {
            next += 1;
            next
        }
    }

    #[test]
    fn fields_as_the_recommendation_has_them() {
        let parsed = Parent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(parsed.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parsed.span.to_string(), "00f067aa0ba902b7");
        assert!(parsed.sampled);
        for (value, good) in [
            (GOOD.to_owned(), true),
            (GOOD.replace("-01", "-00"), true),
            // A later version, with more behind it.
            (format!("cc{}-what-comes", &GOOD[2..]), true),
            (format!("cc{}.what-comes", &GOOD[2..]), false),
            (format!("{GOOD}-more"), false),
            (format!("ff{}", &GOOD[2..]), false),
            (GOOD.to_uppercase(), false),
            (GOOD[..54].to_owned(), false),
            (
                GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
                false,
            ),
            (GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (GOOD.replace('-', "_"), false),
            (String::new(), false),
        ] {
            assert_eq!(Parent::parse(value.as_bytes()).is_some(), good, "{value}");
        }
    }

    #[test]
    fn who_decides() {
        let parent = |sampled| {
            Some(Parent {
                sampled,
                ..Parent::parse(GOOD.as_bytes()).unwrap()
            })
        };
        // parent, believed, one in, recorded with dice that begin at 1
        for (parent, believed, one_in, recorded) in [
            (None, false, 1, true),
            (None, true, 2, false),
            (parent(true), true, 1_000_000, true),
            (parent(false), true, 1, false),
            (parent(true), false, 1_000_000, false),
            (parent(false), false, 1, true),
        ] {
            let context = Context::begin(parent, believed, one_in, &mut dice(0));
            assert_eq!(context.is_some(), recorded, "{parent:?} {believed} {one_in}");
            if let (Some(context), Some(parent)) = (context, parent) {
                assert_eq!((context.trace, context.parent), (parent.trace, Some(parent.span)));
                assert_ne!(context.span, parent.span);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_can_be_read(high: u64, low: u64, span: u64) {
            let context = Context { trace: TraceId::from_dice(high, low), span: SpanId::from_dice(span), parent: None };
            let parsed = Parent::parse(context.field().as_bytes()).unwrap();
            proptest::prop_assert_eq!((parsed.trace, parsed.span, parsed.sampled), (context.trace, context.span, true));
        }

        #[test]
        fn any_octets_are_taken_or_left(value: Vec<u8>) {
            if let Some(parsed) = Parent::parse(&value) {
                proptest::prop_assert!(value.len() >= 55);
                let trace = parsed.trace.to_string();
                proptest::prop_assert_eq!(trace.as_bytes(), &value[3..35]);
            }
        }
    }
}
