//! Authentication of Control packets (RFC 5880 sections 4.3, 4.4, 6.7.3 and 6.7.4). Pure.

use std::time::{Duration, Instant};

use md5::Md5;
use sekisho_config::model::{BfdAlgorithm, BfdAuth};
use sha1::{Digest, Sha1};

use super::packet::{LENGTH, Packet};

/// Octets of the section before the digest: type, length, key id, reserved, sequence number.
const HEAD: usize = 8;

/// The A bit.
const AUTHENTICATED: u8 = 0x04;

/// How one session signs what it sends and judges what comes in.
#[derive(Debug)]
pub(crate) struct Auth {
    settings: BfdAuth,
    /// bfd.XmitAuthSeq.
    sent: u32,
    /// What was sent last: a number that is not meticulous changes with it.
    last: Option<Packet>,
    /// bfd.RcvAuthSeq and when it came; `None`: bfd.AuthSeqKnown is 0.
    received: Option<(u32, Instant)>,
}

impl Auth {
    /// With a sequence number to begin with that nobody can guess.
    pub(crate) fn new(settings: BfdAuth, sent: u32) -> Self {
        Self {
            settings,
            sent,
            last: None,
            received: None,
        }
    }

    pub(crate) fn settings(&self) -> BfdAuth {
        self.settings
    }

    /// The payload of a datagram.
    pub(crate) fn seal(&mut self, packet: &Packet) -> Vec<u8> {
        let (algorithm, width) = (self.settings.algorithm, width(self.settings.algorithm));
        if is_meticulous(algorithm) || self.last != Some(*packet) {
            self.sent = self.sent.wrapping_add(1);
            self.last = Some(*packet);
        }
        let length = u8::try_from(HEAD + width).unwrap_or(u8::MAX);
        let mut octets = Vec::with_capacity(LENGTH + HEAD + width);
        octets.extend_from_slice(&packet.encode());
        if let [_, second, _, whole, ..] = &mut *octets {
            *second |= AUTHENTICATED;
            *whole = whole.saturating_add(length);
        }
        octets.extend_from_slice(&[number(algorithm), length, self.settings.id, 0]);
        octets.extend_from_slice(&self.sent.to_be_bytes());
        let digest = self.digest(&octets);
        octets.extend_from_slice(&digest);
        octets
    }

    /// Whether a packet is the peer's: `octets` as long as the packet says that it is, `multiplier` ours. A number that was not
    /// heard for twice the detection time is forgotten.
    pub(crate) fn accepts(
        &mut self,
        now: Instant,
        octets: &[u8],
        multiplier: u8,
        detection_time: Duration,
    ) -> bool {
        let (algorithm, width) = (self.settings.algorithm, width(self.settings.algorithm));
        let Some((signed, digest)) = octets.split_at_checked(LENGTH + HEAD) else {
            return false;
        };
        let Some(&[kind, length, id, _, a, b, c, d]) = signed.get(LENGTH..) else {
            return false;
        };
        let fits = kind == number(algorithm)
            && usize::from(length) == HEAD + width
            && digest.len() == width
            && id == self.settings.id;
        let sequence = u32::from_be_bytes([a, b, c, d]);
        let known = self
            .received
            .filter(|(_, at)| now.saturating_duration_since(*at) < detection_time.saturating_mul(2));
        let in_turn = known.is_none_or(|(last, _)| {
            let ahead = sequence.wrapping_sub(last);
            let least = u32::from(is_meticulous(algorithm));
            (least..=u32::from(multiplier).saturating_mul(3)).contains(&ahead)
        });
        if !fits || !in_turn || !equal(&self.digest(signed), digest) {
            return false;
        }
        self.received = Some((sequence, now));
        true
    }

    /// Of everything before the digest, with the key in its place.
    fn digest(&self, signed: &[u8]) -> Vec<u8> {
        let key = self.settings.key.octets();
        match self.settings.algorithm {
            BfdAlgorithm::KeyedMd5 | BfdAlgorithm::MeticulousKeyedMd5 => {
                let key = key.get(..16).unwrap_or(&key);
                Md5::new()
                    .chain_update(signed)
                    .chain_update(key)
                    .finalize()
                    .to_vec()
            }
            BfdAlgorithm::KeyedSha1 | BfdAlgorithm::MeticulousKeyedSha1 => Sha1::new()
                .chain_update(signed)
                .chain_update(key)
                .finalize()
                .to_vec(),
        }
    }
}

/// Auth Type.
fn number(algorithm: BfdAlgorithm) -> u8 {
    match algorithm {
        BfdAlgorithm::KeyedMd5 => 2,
        BfdAlgorithm::MeticulousKeyedMd5 => 3,
        BfdAlgorithm::KeyedSha1 => 4,
        BfdAlgorithm::MeticulousKeyedSha1 => 5,
    }
}

/// Octets of the digest.
fn width(algorithm: BfdAlgorithm) -> usize {
    algorithm.longest_key()
}

fn is_meticulous(algorithm: BfdAlgorithm) -> bool {
    matches!(
        algorithm,
        BfdAlgorithm::MeticulousKeyedMd5 | BfdAlgorithm::MeticulousKeyedSha1
    )
}

/// In a time that does not tell where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::packet::{Diagnostic, State};
    use super::*;

    const DETECTION: Duration = Duration::from_millis(150);

    fn packet() -> Packet {
        Packet {
            diagnostic: Diagnostic::NONE,
            state: State::Up,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            multiplier: 3,
            my_discriminator: NonZeroU32::new(7).unwrap(),
            your_discriminator: 9,
            desired_min_tx: 50_000,
            required_min_rx: 50_000,
            required_min_echo_rx: 0,
        }
    }

    fn settings(algorithm: BfdAlgorithm, id: u8, key: &[u8]) -> BfdAuth {
        BfdAuth::new(id, algorithm, key).unwrap()
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn whoever_has_the_key_is_heard() {
        for algorithm in BfdAlgorithm::ALL {
            let ours = settings(algorithm, 4, b"secret");
            let mut sender = Auth::new(ours, u32::MAX - 1);
            let mut receiver = Auth::new(ours, 0);
            // Over the end of the numbers.
            for _ in 0..5 {
                let octets = sender.seal(&packet());
                assert_eq!(octets.len(), LENGTH + HEAD + width(algorithm), "{algorithm}");
                assert_eq!(usize::from(octets[3]), octets.len());
                let (read, whole) = Packet::decode_any(&octets).unwrap();
                assert_eq!((read, whole), (packet(), Some(&*octets)));
                assert!(receiver.accepts(now(), &octets, 3, DETECTION), "{algorithm}");
            }
            let octets = sender.seal(&packet());
            for (what, settings) in [
                ("another key", settings(algorithm, 4, b"secret2")),
                ("another id", settings(algorithm, 5, b"secret")),
            ] {
                let mut other = Auth::new(settings, 0);
                assert!(
                    !other.accepts(now(), &octets, 3, DETECTION),
                    "{algorithm}: {what}"
                );
            }
            for other in BfdAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                let mut other = Auth::new(self::settings(other, 4, b"secret"), 0);
                assert!(!other.accepts(now(), &octets, 3, DETECTION), "{algorithm}");
            }
            for at in 0..octets.len() {
                let mut damaged = octets.clone();
                damaged[at] ^= 1;
                let mut fresh = Auth::new(ours, 0);
                assert!(
                    !fresh.accepts(now(), &damaged, 3, DETECTION) || at == LENGTH + 3,
                    "{algorithm}: octet {at}"
                );
                assert!(
                    !fresh.accepts(now(), &octets[..at], 3, DETECTION),
                    "{algorithm}: {at} octets"
                );
            }
        }
    }

    #[test]
    fn what_was_heard_before_counts_no_more() {
        for (algorithm, again) in [
            (BfdAlgorithm::KeyedSha1, true),
            (BfdAlgorithm::MeticulousKeyedSha1, false),
        ] {
            let ours = settings(algorithm, 1, b"k");
            let (mut sender, mut receiver) = (Auth::new(ours, 100), Auth::new(ours, 0));
            let now = now();
            let early = sender.seal(&packet());
            let other = sender.seal(&Packet {
                poll: true,
                ..packet()
            });
            assert!(receiver.accepts(now, &early, 3, DETECTION));
            assert_eq!(
                receiver.accepts(now, &early, 3, DETECTION),
                again,
                "{algorithm}: the same again"
            );
            assert!(receiver.accepts(now, &other, 3, DETECTION));
            assert!(
                !receiver.accepts(now, &early, 3, DETECTION),
                "{algorithm}: an earlier one"
            );
            let mut far = Auth::new(ours, 200);
            let octets = far.seal(&packet());
            assert!(
                !receiver.accepts(now, &octets, 3, DETECTION),
                "{algorithm}: far ahead"
            );
            // Whoever was silent may have begun anew.
            assert!(receiver.accepts(now + DETECTION * 2, &octets, 3, DETECTION));
        }
    }

    #[test]
    fn numbers_change_as_the_algorithm_has_it() {
        for (algorithm, differs) in [
            (BfdAlgorithm::KeyedMd5, false),
            (BfdAlgorithm::MeticulousKeyedMd5, true),
        ] {
            let mut sender = Auth::new(settings(algorithm, 1, b"k"), 7);
            assert_eq!(
                sender.seal(&packet()) != sender.seal(&packet()),
                differs,
                "{algorithm}"
            );
        }
    }
}
