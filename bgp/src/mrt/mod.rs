//! The routing table as an MRT file (RFC 6396 TABLE_DUMP_V2, with path identifiers RFC 8050), for the tools that read such.
//!
//! Pure: peers and pages of paths in, octets out. The table goes on changing between two pages, so a dump is of no single
//! moment. When a path came is not remembered; its record has the time of the dump.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use sekisho_config::model::{PeerName, Prefix, RouterId};

use crate::rib::HeldPath;
use crate::view::PeerView;
use crate::wire::{self, Families, Negotiated, Nlri, UpdateOut};

const TABLE_DUMP_V2: u16 = 13;
const PEER_INDEX_TABLE: u16 = 1;
const RIB_IPV4_UNICAST: u16 = 2;
const RIB_IPV6_UNICAST: u16 = 4;
/// What the subtypes of RFC 8050 are above those without path identifiers.
const ADD_PATH: u16 = 6;

/// Entries of one record.
const ENTRIES: usize = u16::MAX as usize;

/// A dump that has begun.
#[derive(Debug)]
pub struct Dump {
    time: u32,
    peers: BTreeMap<PeerName, u16>,
    sequence: u32,
}

impl Dump {
    /// Begins one: the record with the peers. Paths of peers that are not among them are left out.
    pub fn begin(now: Timestamp, collector: RouterId, peers: &[PeerView]) -> (Self, Bytes) {
        let mut dump = Self {
            // Wraps in 2106, as the format has it.
            time: u32::try_from(now.as_second()).unwrap_or(u32::MAX),
            peers: BTreeMap::new(),
            sequence: 0,
        };
        let mut body = BytesMut::new();
        body.put_slice(&collector.address().octets());
        // No view name.
        body.put_u16(0);
        let mut entries = BytesMut::new();
        let mut count: u16 = 0;
        for peer in peers.iter().take(ENTRIES) {
            // Bit 0: IPv6 address; bit 1: 4 octets of AS.
            entries.put_u8(if peer.address.is_ipv6() { 0b11 } else { 0b10 });
            entries.put_slice(&peer.router_id.map_or([0; 4], |id| id.address().octets()));
            put_address(&mut entries, peer.address);
            entries.put_u32(peer.asn.map_or(0, sekisho_config::model::Asn::number));
            dump.peers.insert(peer.name.clone(), count);
            count = count.saturating_add(1);
        }
        body.put_u16(count);
        body.put_slice(&entries);
        let mut out = BytesMut::new();
        dump.record(PEER_INDEX_TABLE, &body, &mut out);
        (dump, out.freeze())
    }

    /// The records of a page of paths, in the order in which they come; paths of one prefix stand together.
    pub fn page(&mut self, paths: &[HeldPath]) -> Bytes {
        let mut out = BytesMut::new();
        for of_prefix in paths.chunk_by(|a, b| a.prefix == b.prefix) {
            let Some(prefix) = of_prefix.first().map(|path| path.prefix) else {
                continue;
            };
            for with_id in [false, true] {
                let entries: Vec<_> = of_prefix
                    .iter()
                    .filter(|path| path.path_id.is_some() == with_id)
                    .filter_map(|path| self.entry(path))
                    .collect();
                for part in entries.chunks(ENTRIES) {
                    self.rib(prefix, with_id, part, &mut out);
                }
            }
        }
        out.freeze()
    }

    fn rib(&mut self, prefix: Prefix, with_id: bool, entries: &[BytesMut], out: &mut BytesMut) {
        let mut body = BytesMut::new();
        body.put_u32(self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        body.put_u8(prefix.length());
        let used = usize::from(prefix.length().div_ceil(8));
        match prefix.address() {
            IpAddr::V4(address) => body.extend(address.octets().iter().take(used)),
            IpAddr::V6(address) => body.extend(address.octets().iter().take(used)),
        }
        body.put_u16(u16::try_from(entries.len()).unwrap_or(u16::MAX));
        entries.iter().for_each(|entry| body.put_slice(entry));
        let plain = if prefix.is_ipv4() {
            RIB_IPV4_UNICAST
        } else {
            RIB_IPV6_UNICAST
        };
        self.record(if with_id { plain + ADD_PATH } else { plain }, &body, out);
    }

    fn entry(&self, path: &HeldPath) -> Option<BytesMut> {
        let peer = self.peers.get(&path.peer)?;
        let attributes = attributes(path)?;
        let mut entry = BytesMut::with_capacity(attributes.len().saturating_add(12));
        entry.put_u16(*peer);
        entry.put_u32(self.time);
        if let Some(id) = path.path_id {
            entry.put_u32(id);
        }
        entry.put_u16(u16::try_from(attributes.len()).ok()?);
        entry.put_slice(&attributes);
        Some(entry)
    }

    fn record(&self, subtype: u16, body: &[u8], out: &mut BytesMut) {
        out.put_u32(self.time);
        out.put_u16(TABLE_DUMP_V2);
        out.put_u16(subtype);
        out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        out.put_slice(body);
    }
}

fn put_address(out: &mut BytesMut, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.put_slice(&address.octets()),
        IpAddr::V6(address) => out.put_slice(&address.octets()),
    }
}

/// What the paths of a peer are written with: 4-octet AS numbers, nothing left out, room for everything.
pub(crate) fn negotiated(internal: bool, path_ids: bool) -> Negotiated {
    Negotiated {
        internal,
        four_octet_as: true,
        families: Families::ALL,
        add_path_send: if path_ids { Families::ALL } else { Families::NONE },
        extended_message_send: true,
        extended_next_hop_send: true,
        ..Negotiated::default()
    }
}

/// The path attributes, MP_REACH_NLRI cut down to the next hop (RFC 6396 section 4.3.4). `None`: they cannot be written.
fn attributes(path: &HeldPath) -> Option<Vec<u8>> {
    let prefixes = [Nlri {
        path_id: None,
        prefix: path.prefix,
    }];
    let what = UpdateOut::Announce {
        prefixes: &prefixes,
        next_hop: path.next_hop,
        attributes: &path.attributes,
    };
    let messages = wire::encode_update(what, &negotiated(path.internal, false)).ok()?;
    let body = messages.first()?.get(wire::HEADER_LENGTH..)?;
    // Nothing is withdrawn: two octets of zero, then the attributes behind their length.
    let (_, rest) = body.split_first_chunk::<2>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let mut rest = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    let mut out = Vec::with_capacity(rest.len());
    while let [flags, code, ..] = *rest {
        let (header, length) = match (flags & 0x10 != 0, rest) {
            (true, [_, _, high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            (false, [_, _, length, ..]) => (3, usize::from(*length)),
            _ => return None,
        };
        let whole = rest.get(..header + length)?;
        rest = rest.get(header + length..)?;
        if code != 14 {
            out.extend_from_slice(whole);
            continue;
        }
        // AFI, SAFI, then the next hop behind its length.
        let value = whole.get(header..)?;
        let length = *value.get(3)?;
        let next_hop = value.get(3..4 + usize::from(length))?;
        out.extend_from_slice(&[flags & !0x10, 14, u8::try_from(next_hop.len()).ok()?]);
        out.extend_from_slice(next_hop);
    }
    Some(out)
}

#[cfg(test)]
mod tests;
