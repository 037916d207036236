//! The PROXY protocol, versions 1 and 2: what a load balancer in front says of the client, and what the box says to
//! endpoints that ask for it.
//!
//! Reading and writing are pure functions of octets; [`receive`] is the little that touches a socket.

mod crc32c;
mod receive;
#[cfg(test)]
mod tests;
mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) use receive::{Ends, receive};
pub use write::write;

/// Begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Begins a header of version 1.
const WORD: &[u8] = b"PROXY ";
/// A header of version 1 at its longest, with the line end.
const LONGEST_V1: usize = 107;
/// Octets of version 2 before the addresses.
const FIXED_V2: usize = 16;
/// Addresses and TLVs that are taken at most. Senders stay far below; a client certificate is the largest thing in use.
const LONGEST_REST: usize = 4096;
/// A header at its longest.
pub const LONGEST: usize = FIXED_V2 + LONGEST_REST;

/// Type of the TLV that holds a checksum of the whole header.
const CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said {
    /// Who is connected with whom.
    Proxied {
        /// The client.
        client: SocketAddr,
        /// Where the client connected to.
        server: SocketAddr,
    },
    /// Nothing: the connection is the sender's own (LOCAL: health checks), or of a kind without addresses that could be
    /// used here (UNKNOWN, UNSPEC, unix sockets). The addresses of the connection itself hold.
    Own,
}

/// Why something is no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// It begins like neither version.
    #[error("it does not begin with a PROXY header")]
    NoHeader,
    /// The line of version 1 is not of the form that the specification prescribes.
    #[error("the line of version 1 is malformed")]
    Line,
    /// An address or port of version 1 is not one.
    #[error("an address or port of version 1 is malformed")]
    Address,
    /// A version, command, family or transport that does not exist or cannot be here.
    #[error("version, command or family of version 2 is not one that can be here")]
    Kind,
    /// Longer than it may be, or too short for its addresses.
    #[error("the length of version 2 cannot be right")]
    Length,
    /// A TLV reaches beyond the header, or the checksum is wrong.
    #[error("a TLV of version 2 is malformed")]
    Tlv,
}

/// Reads a header at the beginning of `octets`: what it says, and how many octets it has. `None`: all octets so far are
/// the beginning of one that needs more.
///
/// # Errors
/// [`Malformed`] as soon as no further octets could make it a header.
pub fn parse(octets: &[u8]) -> Result<Option<(Said, usize)>, Malformed> {
    let begins = |with: &[u8]| octets.iter().zip(with).all(|(octet, want)| octet == want);
    if begins(SIGNATURE) {
        version_2(octets)
    } else if begins(WORD) {
        version_1(octets)
    } else {
        Err(Malformed::NoHeader)
    }
}

fn version_1(octets: &[u8]) -> Result<Option<(Said, usize)>, Malformed> {
    let searched = octets.get(..LONGEST_V1).unwrap_or(octets);
    let Some(end) = searched.iter().position(|octet| *octet == b'\n') else {
        let good = |(place, octet): (usize, &u8)| {
            // A CR is the last octet but one; nothing else but printable ASCII may be there.
            (b' '..=b'~').contains(octet) || (*octet == b'\r' && place + 1 == searched.len())
        };
        return if searched.len() == LONGEST_V1 || !searched.iter().enumerate().all(good) {
            Err(Malformed::Line)
        } else {
            Ok(None)
        };
    };
    let line = searched
        .get(WORD.len()..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .filter(|line| line.iter().all(|octet| (b' '..=b'~').contains(octet)))
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(Malformed::Line)?;
    // Whatever follows UNKNOWN is to be ignored.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(Some((Said::Own, end + 1)));
    }
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(Malformed::Line);
    let address: fn(&str) -> Option<IpAddr> = match word()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(Malformed::Line),
    };
    let (client, server, client_port, server_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Malformed::Line);
    }
    let end_of = |ip, number| {
        let (ip, number) = (address(ip), port(number));
        ip.zip(number)
            .map(|(ip, port)| socket(ip, port))
            .ok_or(Malformed::Address)
    };
    let said = Said::Proxied {
        client: end_of(client, client_port)?,
        server: end_of(server, server_port)?,
    };
    Ok(Some((said, end + 1)))
}

/// A port in decimal without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// An IPv4 client of an IPv6 socket is written as what it is.
fn socket(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

fn version_2(octets: &[u8]) -> Result<Option<(Said, usize)>, Malformed> {
    let kind = |place: usize| octets.get(place).copied();
    match kind(12) {
        None => return Ok(None),
        // LOCAL and PROXY.
        Some(0x20 | 0x21) => {}
        Some(_) => return Err(Malformed::Kind),
    }
    let local = kind(12) == Some(0x20);
    let addresses = match kind(13) {
        None => return Ok(None),
        // Of a local connection nothing but the length counts.
        Some(_) if local => 0,
        // Unspecified; IPv4, IPv6 and unix sockets over a stream. Datagrams did not come by TCP.
        Some(0x00) => 0,
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(0x31) => 216,
        Some(_) => return Err(Malformed::Kind),
    };
    let (Some(high), Some(low)) = (kind(14), kind(15)) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < addresses || length > LONGEST_REST {
        return Err(Malformed::Length);
    }
    let whole = FIXED_V2 + length;
    let Some(header) = octets.get(..whole) else {
        return Ok(None);
    };
    let rest = header.get(FIXED_V2..).unwrap_or_default();
    if local || addresses == 0 {
        return Ok(Some((Said::Own, whole)));
    }
    check_tlvs(header, FIXED_V2 + addresses)?;
    let said = match addresses {
        12 => proxied::<4>(rest),
        36 => proxied::<16>(rest),
        _ => Some(Said::Own),
    };
    Ok(Some((said.ok_or(Malformed::Length)?, whole)))
}

/// Two addresses of `N` octets and their ports.
fn proxied<const N: usize>(octets: &[u8]) -> Option<Said>
where
    IpAddr: From<[u8; N]>,
{
    let (client, octets) = octets.split_first_chunk::<N>()?;
    let (server, octets) = octets.split_first_chunk::<N>()?;
    let (client_port, octets) = octets.split_first_chunk::<2>()?;
    let (server_port, _) = octets.split_first_chunk::<2>()?;
    Some(Said::Proxied {
        client: socket(IpAddr::from(*client), u16::from_be_bytes(*client_port)),
        server: socket(IpAddr::from(*server), u16::from_be_bytes(*server_port)),
    })
}

/// Walks over the TLVs from `start` on; of their values only the checksum is looked at.
fn check_tlvs(header: &[u8], start: usize) -> Result<(), Malformed> {
    let mut place = start;
    while place < header.len() {
        let field = |at: usize| header.get(at).copied().ok_or(Malformed::Tlv);
        let length = usize::from(u16::from_be_bytes([field(place + 1)?, field(place + 2)?]));
        let value = place + 3;
        let held = header.get(value..value + length).ok_or(Malformed::Tlv)?;
        if field(place)? == CRC32C && *held != crc32c::of_header(header, value..value + length).to_be_bytes()
        {
            return Err(Malformed::Tlv);
        }
        place = value + length;
    }
    Ok(())
}
