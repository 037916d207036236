use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::Invalid;

/// A community: `65000:100` (RFC 1997), `65000:1:2` (RFC 8092), `rt:65000:1` and `ro:65000:1` (RFC 4360), `ext:0x…`, or
/// `graceful-shutdown`, `no-export`, `no-advertise`, `blackhole`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large(u32, u32, u32),
    /// RFC 4360, as sent.
    Extended([u8; 8]),
}

/// Communities by parts: each a number, a range or `*`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CommunityPattern {
    /// RFC 1997: high and low half.
    Standard(Part, Part),
    /// RFC 8092.
    Large(Part, Part, Part),
    /// A route target or route origin (RFC 4360): subtype, administrator, number.
    Extended(u8, Part, Part),
    /// Exactly these octets.
    Octets([u8; 8]),
}

/// From the first to the second, both included.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Part(u32, u32);

impl Part {
    const ANY: Self = Self(0, u32::MAX);

    fn holds(self, number: u32) -> bool {
        (self.0..=self.1).contains(&number)
    }

    fn exactly(self) -> Option<u32> {
        (self.0 == self.1).then_some(self.0)
    }

    fn parse(text: &str, most: u32) -> Option<Self> {
        if text == "*" {
            return Some(Self::ANY);
        }
        let number = |text: &str| {
            let address = || text.parse::<Ipv4Addr>().ok().map(Ipv4Addr::to_bits);
            let number = text.parse::<u32>().ok().or_else(address);
            number.filter(|number| *number <= most)
        };
        match text.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self(first, last))
            }
            None => number(text).map(|number| Self(number, number)),
        }
    }
}

const ROUTE_TARGET: u8 = 2;
const ROUTE_ORIGIN: u8 = 3;

impl CommunityPattern {
    /// Whether a standard community fits.
    pub fn fits_standard(&self, value: u32) -> bool {
        matches!(self, Self::Standard(high, low) if high.holds(value >> 16) && low.holds(value & 0xffff))
    }

    /// Whether a large community fits.
    pub fn fits_large(&self, a: u32, b: u32, c: u32) -> bool {
        matches!(self, Self::Large(x, y, z) if x.holds(a) && y.holds(b) && z.holds(c))
    }

    /// Whether an extended community fits.
    pub fn fits_extended(&self, octets: [u8; 8]) -> bool {
        match self {
            Self::Octets(wanted) => *wanted == octets,
            Self::Extended(subtype, admin, number) => {
                let [kind, sub, a, b, c, d, e, f] = octets;
                let (first, second) = match kind & 0xbf {
                    0 => (u32::from_be_bytes([0, 0, a, b]), u32::from_be_bytes([c, d, e, f])),
                    1 | 2 => (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([0, 0, e, f])),
                    _ => return false,
                };
                sub == *subtype && admin.holds(first) && number.holds(second)
            }
            Self::Standard(..) | Self::Large(..) => false,
        }
    }
}

const PATTERN_HELP: &str = "write \"65000:100\", a large one \"65000:1:2\", an extended one \"rt:65000:1\" or \"ro:65000:1\", each part a number, a range \"1-9\" or \"*\"; or graceful-shutdown, no-export, no-advertise, blackhole";
const HELP: &str = "write \"65000:100\", a large one \"65000:1:2\", an extended one \"rt:65000:1\", \"ro:65000:1\" or \"ext:0x0002fde800000001\"; or graceful-shutdown, no-export, no-advertise, blackhole";

impl FromStr for CommunityPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse(text).ok_or_else(|| Invalid::new("not a community", PATTERN_HELP))
    }
}

fn parse(text: &str) -> Option<CommunityPattern> {
    let named = match text {
        "graceful-shutdown" => Some(0),
        "blackhole" => Some(0x029a),
        "no-export" => Some(0xff01),
        "no-advertise" => Some(0xff02),
        _ => None,
    };
    if let Some(low) = named {
        return Some(CommunityPattern::Standard(Part(0xffff, 0xffff), Part(low, low)));
    }
    let parts: Vec<&str> = text.split(':').take(4).collect();
    match parts[..] {
        ["ext", octets] => {
            let digits = octets.strip_prefix("0x").filter(|digits| digits.len() == 16)?;
            let value = u64::from_str_radix(digits, 16).ok()?;
            Some(CommunityPattern::Octets(value.to_be_bytes()))
        }
        [kind @ ("rt" | "ro"), admin, number] => {
            let subtype = if kind == "rt" { ROUTE_TARGET } else { ROUTE_ORIGIN };
            let admin = Part::parse(admin, u32::MAX)?;
            let narrow = admin != Part::ANY && admin.1 > 0xffff;
            let number = Part::parse(number, if narrow { 0xffff } else { u32::MAX })?;
            Some(CommunityPattern::Extended(subtype, admin, number))
        }
        [high, low] => Some(CommunityPattern::Standard(
            Part::parse(high, 0xffff)?,
            Part::parse(low, 0xffff)?,
        )),
        [a, b, c] => Some(CommunityPattern::Large(
            Part::parse(a, u32::MAX)?,
            Part::parse(b, u32::MAX)?,
            Part::parse(c, u32::MAX)?,
        )),
        _ => None,
    }
}

impl FromStr for Community {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse(text)
            .and_then(|pattern| single(&pattern, text))
            .ok_or_else(|| Invalid::new("not a community", HELP))
    }
}

/// The one community that a pattern without ranges names.
fn single(pattern: &CommunityPattern, text: &str) -> Option<Community> {
    Some(match pattern {
        CommunityPattern::Standard(high, low) => Community::Standard(high.exactly()? << 16 | low.exactly()?),
        CommunityPattern::Large(a, b, c) => Community::Large(a.exactly()?, b.exactly()?, c.exactly()?),
        CommunityPattern::Octets(octets) => Community::Extended(*octets),
        CommunityPattern::Extended(subtype, admin, number) => {
            let (admin, number) = (admin.exactly()?, number.exactly()?);
            let dotted = text.split(':').nth(1).is_some_and(|admin| admin.contains('.'));
            let ([a, b, c, d], [e, f, g, h]) = (admin.to_be_bytes(), number.to_be_bytes());
            Community::Extended(if dotted || admin > 0xffff {
                // An address of IPv4, or an AS number of four octets; the number has two.
                if number > 0xffff {
                    return None;
                }
                [if dotted { 1 } else { 2 }, *subtype, a, b, c, d, g, h]
            } else {
                [0, *subtype, c, d, e, f, g, h]
            })
        }
    })
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xffff),
            Self::Large(a, b, c) => write!(f, "{a}:{b}:{c}"),
            Self::Extended(octets) => {
                let [kind, sub, a, b, c, d, e, g] = *octets;
                let name = match sub {
                    ROUTE_TARGET => "rt",
                    ROUTE_ORIGIN => "ro",
                    _ => "",
                };
                match (kind, name) {
                    (0, "rt" | "ro") => {
                        let (admin, number) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g]));
                        write!(f, "{name}:{admin}:{number}")
                    }
                    (1, "rt" | "ro") => {
                        write!(
                            f,
                            "{name}:{}:{}",
                            Ipv4Addr::new(a, b, c, d),
                            u16::from_be_bytes([e, g])
                        )
                    }
                    (2, "rt" | "ro") => {
                        let (admin, number) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g]));
                        write!(f, "{name}:{admin}:{number}")
                    }
                    _ => write!(f, "ext:0x{:016x}", u64::from_be_bytes(*octets)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities() {
        let extended = |octets| Some(Community::Extended(octets));
        for (text, want) in [
            ("65000:100", Some(Community::Standard(0xfde8_0064))),
            ("0:0", Some(Community::Standard(0))),
            ("no-export", Some(Community::Standard(0xffff_ff01))),
            ("4200000000:1:2", Some(Community::Large(4_200_000_000, 1, 2))),
            ("rt:65000:1", extended([0, 2, 0xfd, 0xe8, 0, 0, 0, 1])),
            (
                "ro:65000:4294967295",
                extended([0, 3, 0xfd, 0xe8, 255, 255, 255, 255]),
            ),
            ("rt:70000:1", extended([2, 2, 0, 1, 0x11, 0x70, 0, 1])),
            ("rt:10.0.0.1:7", extended([1, 2, 10, 0, 0, 1, 0, 7])),
            (
                "ext:0x4004000012345678",
                extended([0x40, 4, 0, 0, 0x12, 0x34, 0x56, 0x78]),
            ),
            ("rt:70000:65536", None),
            ("rt:10.0.0.1:65536", None),
            ("ext:0x12", None),
            ("65536:1", None),
            ("1:65536", None),
            ("1:*", None),
            ("1", None),
            ("1:2:3:4", None),
            ("a:b", None),
            ("", None),
        ] {
            let got: Option<Community> = text.parse().ok();
            assert_eq!(got, want, "{text:?}");
            if let Some(community) = got
                && text.contains(':')
            {
                assert_eq!(community.to_string(), text);
            }
        }
    }

    #[test]
    fn patterns() {
        for (pattern, community, want) in [
            ("65000:*", "65000:7", true),
            ("65000:*", "65001:7", false),
            ("65000:1-9", "65000:9", true),
            ("65000:1-9", "65000:10", false),
            ("*:*", "65000:10", true),
            ("*:*", "1:2:3", false),
            ("65000:*:7", "65000:1:7", true),
            ("65000:*:7", "65000:1:8", false),
            ("rt:65000:*", "rt:65000:1", true),
            ("rt:65000:*", "ro:65000:1", false),
            ("rt:*:*", "rt:10.0.0.1:1", true),
            ("rt:70000:1", "rt:70000:1", true),
            ("ext:0x0002fde800000001", "rt:65000:1", true),
            ("ext:0x0002fde800000001", "rt:65000:2", false),
            ("no-export", "65535:65281", true),
        ] {
            let parsed: CommunityPattern = pattern.parse().unwrap();
            let got = match community.parse().unwrap() {
                Community::Standard(value) => parsed.fits_standard(value),
                Community::Large(a, b, c) => parsed.fits_large(a, b, c),
                Community::Extended(octets) => parsed.fits_extended(octets),
            };
            assert_eq!(got, want, "{pattern} {community}");
        }
        for bad in [
            "",
            "*",
            "1:2-1",
            "rt:1",
            "rt:1:2:3",
            "1:2:3:4",
            "x:*",
            "65536-65537:1",
        ] {
            assert!(bad.parse::<CommunityPattern>().is_err(), "{bad:?}");
        }
    }
}
