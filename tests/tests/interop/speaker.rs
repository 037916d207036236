//! A BGP speaker made of octets, for what no daemon would say.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{BOX, Netns, now, wait_for};

/// What it announces.
pub(crate) const PREFIX: &str = "10.244.30.0/26";
const NLRI: &[u8] = &[26, 10, 244, 30, 0];

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

/// An established iBGP session from the second neighbour, hold time 90 s.
pub(crate) struct Speaker {
    stream: TcpStream,
}

impl Speaker {
    /// Dials the box from 10.0.0.`number` until it accepts the OPEN and the session stands.
    pub(crate) fn open(netns: &Netns, number: u8) -> Result<Self> {
        netns.ip(&format!("route replace {} dev eth0 src 10.0.0.{number}", BOX.v4))?;
        let (speaker, _) = wait_for("the raw session", Duration::from_secs(30), || {
            netns.enter(|| {
                let address = (BOX.v4, 179).into();
                let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                stream.set_write_timeout(Some(Duration::from_secs(5)))?;
                let mut speaker = Self { stream };
                // Version 4, AS 64512, hold time 90, the address as router id; capabilities: IPv4 unicast, 4-octet AS.
                let capabilities = [1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfc, 0];
                let mut body = vec![4, 0xfc, 0, 0, 90, 10, 0, 0, number, 14, 2, 12];
                body.extend_from_slice(&capabilities);
                speaker.send(&message(OPEN, &body))?;
                speaker.expect(OPEN)?;
                speaker.send(&message(KEEPALIVE, &[]))?;
                speaker.expect(KEEPALIVE)?;
                Ok(speaker)
            })
        })?;
        Ok(speaker)
    }

    /// Sends octets as they are.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(octets)?)
    }

    /// Announces [`PREFIX`] with these path attributes.
    pub(crate) fn announce(&mut self, attributes: &[u8]) -> Result<()> {
        self.send(&update(attributes, NLRI))
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        loop {
            let (kind, body) = self.read()?;
            if kind == wanted {
                return Ok(());
            }
            ensure!(kind != NOTIFICATION, "NOTIFICATION {body:?}");
        }
    }

    fn read(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 19];
        self.stream.read_exact(&mut head)?;
        let [.., high, low, kind] = head;
        let length = usize::from(u16::from_be_bytes([high, low]))
            .checked_sub(19)
            .context("length below 19")?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((kind, body))
    }

    /// Fails if the box has sent a NOTIFICATION or closed; the box sends a KEEPALIVE at least every third of 9 s.
    pub(crate) fn alive(&mut self) -> Result<()> {
        self.send(&message(KEEPALIVE, &[]))?;
        self.stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        let outcome = loop {
            match self.read() {
                Ok((NOTIFICATION, body)) => {
                    break Err(anyhow::anyhow!("the box ended the session: {body:?}"));
                }
                Ok(_) => {}
                Err(error) if quiet(&error) => break Ok(()),
                Err(error) => break Err(error.context("the box closed the connection")),
            }
        };
        self.stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        outcome
    }

    /// Reads until a NOTIFICATION, the end, or half a second of silence.
    pub(crate) fn read_to_notification_or_quiet(&mut self) {
        let start = now();
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(500)));
        while start.elapsed() < Duration::from_secs(5) {
            match self.read() {
                Ok((NOTIFICATION, _)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

fn quiet(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend_from_slice(&u16::try_from(19 + body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    out
}

fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend_from_slice(&u16::try_from(attributes.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend_from_slice(attributes);
    body.extend_from_slice(nlri);
    message(UPDATE, &body)
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 0];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 21];
const LOCAL_PREF: &[u8] = &[0x40, 5, 4, 0, 0, 0, 100];

/// Path attributes as they should be.
pub(crate) fn good() -> Vec<u8> {
    [ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF].concat()
}

/// Malformed in ways that RFC 7606 answers with treat-as-withdraw.
pub(crate) fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (
            "ORIGIN of two octets (7.1)",
            [&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP, LOCAL_PREF].concat(),
        ),
        (
            "ORIGIN with value 7 (7.1)",
            [&[0x40, 1, 1, 7], AS_PATH, NEXT_HOP, LOCAL_PREF].concat(),
        ),
        (
            "ORIGIN with the optional flag (3c)",
            [&[0xc0, 1, 1, 0], AS_PATH, NEXT_HOP, LOCAL_PREF].concat(),
        ),
        (
            "AS_PATH with one octet over (7.2)",
            [
                ORIGIN,
                &[0x40, 2, 7, 2, 1, 0, 0, 0xfd, 0xe8, 2],
                NEXT_HOP,
                LOCAL_PREF,
            ]
            .concat(),
        ),
        (
            "AS_PATH segment longer than the attribute (7.2)",
            [ORIGIN, &[0x40, 2, 2, 2, 6], NEXT_HOP, LOCAL_PREF].concat(),
        ),
        (
            "AS_PATH segment of length zero (7.2)",
            [ORIGIN, &[0x40, 2, 2, 2, 0], NEXT_HOP, LOCAL_PREF].concat(),
        ),
        (
            "NEXT_HOP of five octets (7.3)",
            [ORIGIN, AS_PATH, &[0x40, 3, 5, 10, 0, 0, 21, 0], LOCAL_PREF].concat(),
        ),
        (
            "MULTI_EXIT_DISC of three octets (7.4)",
            [&good()[..], &[0x80, 4, 3, 0, 0, 0]].concat(),
        ),
        (
            "LOCAL_PREF of three octets (7.5)",
            [ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 5, 3, 0, 0, 0]].concat(),
        ),
        (
            "COMMUNITIES of three octets (7.8)",
            [&good()[..], &[0xc0, 8, 3, 0, 0, 0]].concat(),
        ),
        (
            "ORIGINATOR_ID of three octets (7.9)",
            [&good()[..], &[0x80, 9, 3, 10, 0, 0]].concat(),
        ),
        (
            "CLUSTER_LIST of three octets (7.10)",
            [&good()[..], &[0x80, 10, 3, 10, 0, 0]].concat(),
        ),
        ("no ORIGIN (3d)", [AS_PATH, NEXT_HOP, LOCAL_PREF].concat()),
        ("no NEXT_HOP (3d)", [ORIGIN, AS_PATH, LOCAL_PREF].concat()),
    ]
}

/// What may end the session and must never end the process: whole messages.
pub(crate) fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let from_hex = |text: &str| -> Vec<u8> {
        let mut out = vec![0xff; 16];
        out.extend(
            (0..text.len() / 2).filter_map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()),
        );
        out
    };
    vec![
        (
            "AS_PATH that made a decoder loop without end",
            from_hex("003002000000154001010040020702010000fde8024003040a00000118c00002"),
        ),
        ("length 0", from_hex("000002")),
        ("length 18", from_hex("001204")),
        ("length 65535", from_hex("ffff02")),
        ("type 0", from_hex("001300")),
        ("type 77", from_hex("00134d")),
        ("wrong marker", vec![0; 19]),
        ("attribute header cut short", from_hex("00180200000001fe")),
        ("withdrawn length beyond the message", from_hex("00170200ffff00")),
        (
            "prefix length 33",
            [message(UPDATE, &[0, 2, 33, 10, 0, 0])].concat(),
        ),
        ("MP_REACH of three octets", from_hex("001c0200000005020e020300")),
        ("MP_UNREACH of three octets", from_hex("001c0200000005200f020300")),
        (
            "OPEN when established",
            message(OPEN, &[4, 0xfc, 0, 0, 90, 10, 0, 0, 21, 0]),
        ),
        ("KEEPALIVE with a body", message(KEEPALIVE, &[0; 40])),
        ("NOTIFICATION without a body", message(NOTIFICATION, &[])),
        ("4096 octets of attribute 128 in itself", {
            let mut attributes = Vec::new();
            while attributes.len() < 3900 {
                let [high, low] = u16::try_from(attributes.len() + 4).unwrap_or(0).to_be_bytes();
                let mut outer = vec![0xd0, 128, high, low, 0, 0, 0xfc, 0];
                outer.append(&mut attributes);
                attributes = outer;
            }
            update(&attributes, NLRI)
        }),
        ("half a message and silence", from_hex("00400200")),
    ]
}
