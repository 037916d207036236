use std::fmt;
use std::num::NonZeroU32;

use serde::Serialize;

/// Octets of a BFD Control packet without authentication.
pub const LENGTH: usize = 24;

/// State of a session (RFC 5880 section 4.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Held down by the operator of that side.
    AdminDown,
    /// The other side is not heard.
    #[default]
    Down,
    /// The other side is heard; whether it hears us is not known.
    Init,
    /// Both sides hear each other.
    Up,
}

impl State {
    /// The two bits of the packet.
    pub fn number(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }

    /// From the two low bits.
    pub fn from_number(number: u8) -> Self {
        match number & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

/// Why a side last left Up (RFC 5880 section 4.1). Prints as words.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// Nothing has happened.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const EXPIRED: Self = Self(1);
    /// The other side said Down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// The operator holds the session down.
    pub const ADMINISTRATIVE: Self = Self(7);

    /// From the five low bits.
    pub fn from_number(number: u8) -> Self {
        Self(number & 0x1f)
    }

    /// The five bits of the packet.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            9 => "mis-connectivity defect",
            number => return write!(f, "diagnostic {number}"),
        })
    }
}

/// A BFD Control packet (RFC 5880 section 4.1). Times are microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Why the sender last left Up.
    pub diagnostic: Diagnostic,
    /// State of the sender.
    pub state: State,
    /// The sender asks for an answer.
    pub poll: bool,
    /// The answer to a poll. `final` is a word of Rust's.
    pub is_final: bool,
    /// The sender's BFD outlives its control plane.
    pub control_plane_independent: bool,
    /// The sender wants no periodic packets while the session is Up.
    pub demand: bool,
    /// Packets that may be lost, for whoever receives this one.
    pub multiplier: u8,
    /// The sender's name of the session; never zero.
    pub my_discriminator: NonZeroU32,
    /// The receiver's name of the session, as far as the sender knows it; else zero.
    pub your_discriminator: u32,
    /// How often the sender would like to send.
    pub desired_min_tx: u32,
    /// How often the sender can receive; zero: no periodic packets at all.
    pub required_min_rx: u32,
    /// How often the sender can turn Echo packets round; zero: never.
    pub required_min_echo_rx: u32,
}

/// Why a packet is discarded (RFC 5880 section 6.8.6).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Discard {
    /// Cut short, a wrong version or length, a multiplier or discriminator of zero, the multipoint bit.
    Malformed,
    /// It is not authenticated as its session is.
    Authentication,
    /// It may come from too far away (RFC 5881 section 5, RFC 5883 section 5).
    Ttl,
    /// It belongs to no session.
    Unknown,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Malformed, Self::Authentication, Self::Ttl, Self::Unknown];

    /// The label of its metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Authentication => "authentication",
            Self::Ttl => "ttl",
            Self::Unknown => "unknown",
        }
    }
}

impl Packet {
    /// Reads the payload of a datagram that is not authenticated.
    ///
    /// # Errors
    /// [`Discard::Malformed`] or [`Discard::Authentication`].
    pub fn decode(octets: &[u8]) -> Result<Self, Discard> {
        match Self::decode_any(octets)? {
            (packet, None) => Ok(packet),
            (_, Some(_)) => Err(Discard::Authentication),
        }
    }

    /// Reads the payload of a datagram; of an authenticated one also gives all octets of the packet, which have not been judged.
    ///
    /// # Errors
    /// [`Discard::Malformed`].
    pub(crate) fn decode_any(octets: &[u8]) -> Result<(Self, Option<&[u8]>), Discard> {
        let (head, _) = octets.split_first_chunk::<LENGTH>().ok_or(Discard::Malformed)?;
        let [first, second, multiplier, length, rest @ ..] = *head;
        let [
            m0,
            m1,
            m2,
            m3,
            y0,
            y1,
            y2,
            y3,
            t0,
            t1,
            t2,
            t3,
            r0,
            r1,
            r2,
            r3,
            e0,
            e1,
            e2,
            e3,
        ] = rest;
        let length = usize::from(length);
        let authenticated = second & 0x04 != 0;
        let least = if authenticated { LENGTH + 2 } else { LENGTH };
        let my_discriminator = NonZeroU32::new(u32::from_be_bytes([m0, m1, m2, m3]));
        let (Some(my_discriminator), 1, 0, 1..) = (my_discriminator, first >> 5, second & 0x01, multiplier)
        else {
            return Err(Discard::Malformed);
        };
        if length < least || length > octets.len() {
            return Err(Discard::Malformed);
        }
        let whole = octets.get(..length).filter(|_| authenticated);
        let packet = Self {
            diagnostic: Diagnostic::from_number(first),
            state: State::from_number(second >> 6),
            poll: second & 0x20 != 0,
            is_final: second & 0x10 != 0,
            control_plane_independent: second & 0x08 != 0,
            demand: second & 0x02 != 0,
            multiplier,
            my_discriminator,
            your_discriminator: u32::from_be_bytes([y0, y1, y2, y3]),
            desired_min_tx: u32::from_be_bytes([t0, t1, t2, t3]),
            required_min_rx: u32::from_be_bytes([r0, r1, r2, r3]),
            required_min_echo_rx: u32::from_be_bytes([e0, e1, e2, e3]),
        };
        if packet.your_discriminator == 0 && !matches!(packet.state, State::Down | State::AdminDown) {
            return Err(Discard::Malformed);
        }
        Ok((packet, whole))
    }

    /// The payload of a datagram.
    pub fn encode(&self) -> [u8; LENGTH] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let second = self.state.number() << 6
            | flag(self.poll, 0x20)
            | flag(self.is_final, 0x10)
            | flag(self.control_plane_independent, 0x08)
            | flag(self.demand, 0x02);
        let [m0, m1, m2, m3] = self.my_discriminator.get().to_be_bytes();
        let [y0, y1, y2, y3] = self.your_discriminator.to_be_bytes();
        let [t0, t1, t2, t3] = self.desired_min_tx.to_be_bytes();
        let [r0, r1, r2, r3] = self.required_min_rx.to_be_bytes();
        let [e0, e1, e2, e3] = self.required_min_echo_rx.to_be_bytes();
        let first = 1 << 5 | self.diagnostic.number();
        [
            first,
            second,
            self.multiplier,
            24,
            m0,
            m1,
            m2,
            m3,
            y0,
            y1,
            y2,
            y3,
            t0,
            t1,
            t2,
            t3,
            r0,
            r1,
            r2,
            r3,
            e0,
            e1,
            e2,
            e3,
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> Packet {
        Packet {
            diagnostic: Diagnostic::EXPIRED,
            state: State::Up,
            poll: true,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            multiplier: 3,
            my_discriminator: NonZeroU32::new(0x0102_0304).unwrap(),
            your_discriminator: 0x0506_0708,
            desired_min_tx: 50_000,
            required_min_rx: 300_000,
            required_min_echo_rx: 0,
        }
    }

    const OCTETS: [u8; LENGTH] = [
        0x21, 0xe0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0xc3, 0x50, 0, 4, 0x93, 0xe0, 0, 0, 0, 0,
    ];

    #[test]
    fn octets_and_value_side_by_side() {
        assert_eq!(packet().encode(), OCTETS);
        assert_eq!(Packet::decode(&OCTETS), Ok(packet()));
        // What follows the length of the packet is not ours.
        assert_eq!(Packet::decode(&[&OCTETS[..], &[9; 40]].concat()), Ok(packet()));
        for (second, want) in [
            (
                0x00,
                Packet {
                    state: State::AdminDown,
                    poll: false,
                    ..packet()
                },
            ),
            (
                0x48,
                Packet {
                    state: State::Down,
                    poll: false,
                    control_plane_independent: true,
                    ..packet()
                },
            ),
            (
                0x92,
                Packet {
                    state: State::Init,
                    poll: false,
                    is_final: true,
                    demand: true,
                    ..packet()
                },
            ),
        ] {
            let mut octets = OCTETS;
            octets[1] = second;
            assert_eq!(Packet::decode(&octets), Ok(want), "{second:#x}");
            assert_eq!(want.encode(), octets, "{second:#x}");
        }
    }

    #[test]
    fn what_is_discarded() {
        let with = |changes: &[(usize, u8)]| {
            let mut octets = OCTETS.to_vec();
            for (at, octet) in changes {
                octets[*at] = *octet;
            }
            octets
        };
        let unheard = [(8, 0), (9, 0), (10, 0), (11, 0)];
        for (what, octets, want) in [
            ("nothing", vec![], Discard::Malformed),
            ("an octet short", OCTETS[..23].to_vec(), Discard::Malformed),
            ("version 0", with(&[(0, 0x01)]), Discard::Malformed),
            ("version 2", with(&[(0, 0x41)]), Discard::Malformed),
            ("multiplier 0", with(&[(2, 0)]), Discard::Malformed),
            ("length 23", with(&[(3, 23)]), Discard::Malformed),
            ("length beyond the datagram", with(&[(3, 25)]), Discard::Malformed),
            ("multipoint", with(&[(1, 0xe1)]), Discard::Malformed),
            (
                "no discriminator of its own",
                with(&[(4, 0), (5, 0), (6, 0), (7, 0)]),
                Discard::Malformed,
            ),
            ("Up and does not know us", with(&unheard), Discard::Malformed),
            (
                "Init and does not know us",
                with(&[&unheard[..], &[(1, 0x80)]].concat()),
                Discard::Malformed,
            ),
            (
                "authentication without its section",
                with(&[(1, 0xe4)]),
                Discard::Malformed,
            ),
            (
                "authenticated",
                [with(&[(1, 0xe4), (3, 28)]), vec![1, 4, 7, 7]].concat(),
                Discard::Authentication,
            ),
        ] {
            assert_eq!(Packet::decode(&octets), Err(want), "{what}");
        }
        for down in [0x40, 0x00] {
            assert!(Packet::decode(&with(&[&unheard[..], &[(1, down)]].concat())).is_ok());
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_discarded(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = Packet::decode(&octets) {
                prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
            }
        }

        #[test]
        fn near_misses(mut octets in Just(OCTETS), at in 0..LENGTH, octet: u8) {
            octets[at] = octet;
            if let Ok(packet) = Packet::decode(&octets) {
                prop_assert_eq!(packet.encode(), octets);
            }
        }
    }
}
