use crate::wire::{AsPath, Segment};

/// What an AS_PATH is allowed to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// AS numbers are 4 octets wide.
    pub(super) wide: bool,
    /// Confederation segments are legal: from a peer of our own AS, which may be a member (RFC 5065 section 5).
    pub(super) confederation: bool,
}

/// Reads AS_PATH or AS4_PATH (RFC 4271 section 4.3, RFC 7606 section 7.2, RFC 7607).
pub(super) fn decode(value: &[u8], rules: Rules) -> Result<AsPath, &'static str> {
    // Mostly one, and there may be hundreds of thousands of paths.
    let mut segments = Vec::with_capacity(1);
    let mut rest = value;
    while !rest.is_empty() {
        let &[kind, count, ref after @ ..] = rest else {
            return Err("a segment is cut off");
        };
        if count == 0 {
            return Err("a segment is empty");
        }
        let width = if rules.wide { 4 } else { 2 };
        let octets = usize::from(count).saturating_mul(width);
        let Some((numbers, after)) = after.split_at_checked(octets) else {
            return Err("a segment reaches past the attribute");
        };
        let numbers: Vec<u32> = if rules.wide {
            numbers
                .as_chunks()
                .0
                .iter()
                .map(|n| u32::from_be_bytes(*n))
                .collect()
        } else {
            numbers
                .as_chunks()
                .0
                .iter()
                .map(|n| u32::from(u16::from_be_bytes(*n)))
                .collect()
        };
        if numbers.contains(&0) {
            return Err("it holds AS 0, which is reserved");
        }
        if matches!(kind, 3 | 4) && !rules.confederation {
            return Err("it holds a confederation segment, but the peer is in no confederation with us");
        }
        segments.push(match kind {
            1 => Segment::Set(numbers),
            2 => Segment::Sequence(numbers),
            3 => Segment::ConfedSequence(numbers),
            4 => Segment::ConfedSet(numbers),
            _ => return Err("a segment has an unknown type"),
        });
        rest = after;
    }
    Ok(AsPath { segments })
}

/// The path of a peer with 2-octet numbers, put together from both attributes (RFC 6793 section 4.2.3).
pub(super) fn merge(short: AsPath, long: AsPath) -> AsPath {
    let Some(mut surplus) = short.length().checked_sub(long.length()) else {
        return short;
    };
    let mut segments = Vec::new();
    for segment in short.segments {
        match segment {
            // Confederation segments count nothing and are kept where they lead or stand among what is kept.
            Segment::ConfedSequence(_) | Segment::ConfedSet(_) => segments.push(segment),
            _ if surplus == 0 => break,
            Segment::Set(_) => {
                surplus = surplus.saturating_sub(1);
                segments.push(segment);
            }
            Segment::Sequence(mut numbers) => {
                numbers.truncate(surplus);
                surplus = surplus.saturating_sub(numbers.len());
                segments.push(Segment::Sequence(numbers));
            }
        }
    }
    for segment in long.segments {
        match (segments.last_mut(), segment) {
            (Some(Segment::Sequence(last)), Segment::Sequence(more))
                if last.len().saturating_add(more.len()) <= 255 =>
            {
                last.extend(more);
            }
            (_, segment) => segments.push(segment),
        }
    }
    AsPath { segments }
}

/// AS4_PATH without the confederation segments that do not belong there; `None` when nothing is left (RFC 6793 section 6).
pub(super) fn without_confederation(mut path: AsPath) -> Option<AsPath> {
    path.segments
        .retain(|segment| matches!(segment, Segment::Set(_) | Segment::Sequence(_)));
    (!path.segments.is_empty()).then_some(path)
}
