//! The only place that calls the zettabgp crate. Each function states what its caller has checked; docs/zettabgp.md says why.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{BufMut, Bytes, BytesMut};
use sekisho_config::model::Prefix;
use zettabgp::afi::ipv4::BgpAddrV4;
use zettabgp::afi::ipv6::BgpAddrV6;
use zettabgp::afi::{BgpAddrs, WithPathId, decode_bgpitems_from, decode_pathid_bgpitems_from};
use zettabgp::message::attributes::unknown::BgpAttrUnknown;
use zettabgp::message::attributes::{BgpAttrItem, BgpAttrParams};
use zettabgp::message::update::BgpUpdateMessage;
use zettabgp::{BgpMessage, BgpSessionParams, BgpTransportMode};

use super::frame::{FrameKind, HEADER_LENGTH};
use super::{EncodeError, Family, Negotiated, Nlri};

/// More than any UPDATE can fill, so that the crate's encoders, which index without checking, never leave it.
const BUFFER: usize = 70_000;

/// `peer_mode` stays IPv4 whatever the transport (it decides how the plain NLRI field is read), and path identifiers are never guessed.
fn params() -> BgpSessionParams {
    let mut params = BgpSessionParams::new(0, 0, BgpTransportMode::IPv4, Ipv4Addr::UNSPECIFIED, Vec::new());
    params.fuzzy_pathid = false;
    params.has_as32bit = true;
    params
}

/// Hands over the prefixes of `field`, which the caller has walked: no length too long, nothing cut off.
pub(super) fn prefixes(field: &[u8], family: Family, path_ids: bool, mut each: impl FnMut(Nlri)) {
    let mut put = |path_id, address, length| {
        if let Some(prefix) = Prefix::new(address, length) {
            each(Nlri { path_id, prefix });
        }
    };
    match (family, path_ids) {
        (Family::Ipv4Unicast, false) => {
            if let Ok((items, _)) = decode_bgpitems_from::<BgpAddrV4>(field) {
                items
                    .iter()
                    .for_each(|one| put(None, IpAddr::V4(one.addr), one.prefixlen));
            }
        }
        (Family::Ipv6Unicast, false) => {
            if let Ok((items, _)) = decode_bgpitems_from::<BgpAddrV6>(field) {
                items
                    .iter()
                    .for_each(|one| put(None, IpAddr::V6(one.addr), one.prefixlen));
            }
        }
        (Family::Ipv4Unicast, true) => {
            if let Ok((items, _)) = decode_pathid_bgpitems_from::<BgpAddrV4>(field) {
                items
                    .iter()
                    .for_each(|one| put(Some(one.pathid), IpAddr::V4(one.nlri.addr), one.nlri.prefixlen));
            }
        }
        (Family::Ipv6Unicast, true) => {
            if let Ok((items, _)) = decode_pathid_bgpitems_from::<BgpAddrV6>(field) {
                items
                    .iter()
                    .for_each(|one| put(Some(one.pathid), IpAddr::V6(one.nlri.addr), one.nlri.prefixlen));
            }
        }
    }
}

/// One attribute of type 1, 3 to 10, 16 or 32, whose exact length and value range the caller has checked; AGGREGATOR
/// tells the width of its AS by its length. Communities come back sorted, each once.
pub(super) fn attribute(code: u8, flags: u8, value: &[u8]) -> Option<BgpAttrItem> {
    if !matches!(code, 1 | 3..=10 | 16 | 32) {
        return None;
    }
    BgpAttrItem::decode_from(&params(), code, flags, value.len(), value).ok()
}

/// An attribute built by us, carried by the crate as one that it does not know and so copies octet by octet.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    flags: u8,
    code: u8,
    value: Vec<u8>,
}

impl Carried {
    /// `flags` without the Extended Length bit: that is set when the value needs it.
    pub(super) fn new(flags: u8, code: u8, value: Vec<u8>) -> Self {
        let flags = if value.len() > 255 {
            flags | 0x10
        } else {
            flags & !0x10
        };
        Self { flags, code, value }
    }

    /// Octets on the wire, header included.
    pub(super) fn length(&self) -> usize {
        let header = if self.value.len() > 255 { 4 } else { 3 };
        self.value.len().saturating_add(header)
    }

    fn item(self) -> BgpAttrItem {
        BgpAttrItem::Unknown(BgpAttrUnknown {
            params: BgpAttrParams {
                typecode: self.code,
                flags: self.flags,
            },
            value: self.value,
        })
    }
}

/// Writes one UPDATE after another into the same buffer.
pub(super) struct Writer {
    params: BgpSessionParams,
    message: BgpUpdateMessage,
    buffer: Vec<u8>,
    path_ids: bool,
    most: usize,
}

impl Writer {
    /// For a peer on which `negotiated` was agreed.
    pub(super) fn new(negotiated: &Negotiated) -> Self {
        Self {
            params: params(),
            message: BgpUpdateMessage::new(),
            buffer: vec![0; BUFFER],
            path_ids: negotiated.add_path_send.contains(Family::Ipv4Unicast),
            most: negotiated.max_send_length(),
        }
    }

    /// The attributes of the following messages, in this order.
    pub(super) fn attributes(&mut self, attributes: impl IntoIterator<Item = Carried>) {
        self.message.attrs = attributes.into_iter().map(Carried::item).collect();
    }

    /// One UPDATE with these IPv4 prefixes in its withdrawn and NLRI fields; the caller has seen to it that it fits.
    pub(super) fn message(&mut self, withdrawn: &[Nlri], announced: &[Nlri]) -> Result<Bytes, EncodeError> {
        self.message.withdraws = self.addresses(withdrawn);
        self.message.updates = self.addresses(announced);
        let length = self
            .message
            .encode_to(&self.params, &mut self.buffer)
            .map_err(|error| EncodeError::Library(error.to_string()))?;
        let body = self.buffer.get(..length).unwrap_or_default();
        if body.len() != length || length.saturating_add(HEADER_LENGTH) > self.most {
            return Err(EncodeError::Library(format!(
                "the UPDATE came out {length} octets long"
            )));
        }
        let mut octets: BytesMut = super::header(FrameKind::Update, length);
        octets.put_slice(body);
        Ok(octets.freeze())
    }

    fn addresses(&self, prefixes: &[Nlri]) -> BgpAddrs {
        let items = prefixes.iter().filter_map(|nlri| match nlri.prefix.address() {
            IpAddr::V4(address) => Some((
                nlri.path_id.unwrap_or(0),
                BgpAddrV4::new(address, nlri.prefix.length()),
            )),
            IpAddr::V6(_) => None,
        });
        if self.path_ids {
            BgpAddrs::IPV4UP(items.map(|(id, item)| WithPathId::new(id, item)).collect())
        } else {
            BgpAddrs::IPV4U(items.map(|(_, item)| item).collect())
        }
    }
}
