use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Invalid, PolicyRule, Prefix, Secret};

/// Autonomous system number, 4 octets (RFC 6793). Zero is reserved (RFC 7607) and cannot be made.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Asn(NonZeroU32);

impl Asn {
    /// AS_TRANS, which stands in a 2-octet field for a number that does not fit (RFC 6793).
    pub const TRANS: u16 = 23456;

    /// The number.
    pub fn number(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for Asn {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Invalid> {
        NonZeroU32::new(number).map(Self).ok_or_else(|| {
            Invalid::new(
                "AS 0 is reserved (RFC 7607)",
                "write a number from 1 to 4294967295",
            )
        })
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// BGP Identifier: any four octets but zero (RFC 6286). Prints as a dotted quad.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct RouterId(Ipv4Addr);

impl RouterId {
    /// The identifier as a dotted quad.
    pub fn address(self) -> Ipv4Addr {
        self.0
    }

    /// The identifier as a number in host order, for comparisons (RFC 4271 section 6.8).
    pub fn number(self) -> u32 {
        self.0.to_bits()
    }
}

impl TryFrom<Ipv4Addr> for RouterId {
    type Error = Invalid;

    fn try_from(address: Ipv4Addr) -> Result<Self, Invalid> {
        if address.is_unspecified() {
            return Err(Invalid::new(
                "router id 0.0.0.0 is reserved (RFC 6286)",
                "write an IPv4 address of this box, for example 192.0.2.10",
            ));
        }
        Ok(Self(address))
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a BGP peer: letters, digits, `-`, `_`, `.`, `:`; at most 63. Peers of a range are named by their address.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct PeerName(Arc<str>);

impl PeerName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = !text.is_empty()
            && text.len() <= 63
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        if !fits {
            return Err(Invalid::new(
                format!("`{}` cannot name a peer", text.escape_debug()),
                "use 1 to 63 letters, digits, `-`, `_`, `.` or `:`",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl From<IpAddr> for PeerName {
    fn from(address: IpAddr) -> Self {
        Self(address.to_string().into())
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a peer is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A node of the cluster: its routes are learned, nothing is announced to it.
    Cluster,
    /// A router above: VIPs are announced to it, its routes are not used to reach pods.
    Upstream,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Upstream => "upstream",
        })
    }
}

/// What peers are asked to do while this process is away (RFC 4724).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GracefulRestart {
    /// Whether they are asked to keep what they have from us.
    pub enabled: bool,
    /// For how long, whole seconds below 4096.
    pub time: Duration,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            enabled: false,
            time: Duration::from_secs(120),
        }
    }
}

/// Who we are in BGP. Changing it ends and reopens every session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BgpIdentity {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP Identifier.
    pub router_id: RouterId,
    /// Hold time that we offer; zero (off) or at least 3 s (RFC 4271 section 4.2).
    pub hold_time: Duration,
    /// Our CLUSTER_ID as a route reflector (RFC 4456): the router id unless told otherwise.
    pub cluster_id: RouterId,
    /// Our own restart.
    pub restart: GracefulRestart,
}

/// How long a peer is left alone after an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ErrorWait {
    /// After the first error; doubled with each that follows.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for ErrorWait {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
        }
    }
}

/// The `[bgp]` section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bgp {
    /// Who we are.
    pub identity: BgpIdentity,
    /// Where passive sessions are accepted. Names sockets: a change needs a restart.
    pub listen: Vec<SocketAddr>,
    /// Whether best routes and VIPs are written to the kernel.
    pub install_routes: bool,
    /// Kernel routing table of learned routes (254 is `main`).
    pub table: u32,
    /// Whether routes share nexthop objects of the kernel, where it has them.
    pub nexthop_objects: bool,
    /// Which equal paths share the packets of a prefix.
    pub multipath: Multipath,
    /// From `cluster` peers only prefixes inside these are let in; empty: any but the built-in exceptions.
    pub pod_prefixes: Vec<Prefix>,
    /// Waits after errors. Changing them ends and reopens every session.
    pub error_wait: ErrorWait,
    /// Whether the cluster's own word on its networks of pods (Calico's IP pools) counts as well.
    pub discover_pod_prefixes: bool,
    /// BMP collectors (RFC 7854).
    pub bmp: Vec<SocketAddr>,
    /// Peers by name.
    pub peers: Vec<Peer>,
    /// Ranges from which connections are accepted.
    pub peer_ranges: Vec<PeerRange>,
}

/// Which paths of a prefix that are equal until the tie-break carry packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Multipath {
    /// How equal they have to be.
    pub rule: MultipathRule,
    /// How many at most.
    pub most: NonZeroU8,
    /// Whether their shares follow the link bandwidth that they carry.
    pub link_bandwidth: bool,
}

/// How equal the AS_PATHs of paths that share packets have to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MultipathRule {
    /// As long as one another.
    Relax,
    /// The same.
    Exact,
}

impl Multipath {
    /// More gateways than this a route cannot have.
    pub const MOST: NonZeroU8 = NonZeroU8::new(64).expect("64 is not 0");
}

impl Default for Multipath {
    fn default() -> Self {
        Self {
            rule: MultipathRule::Relax,
            most: Self::MOST,
            link_bandwidth: false,
        }
    }
}

/// A configured BGP peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its name.
    pub name: PeerName,
    /// Where it is.
    pub address: IpAddr,
    /// The interface it is on; exactly where the address is link-local.
    pub interface: Option<Arc<str>>,
    /// Its TCP port (179).
    pub port: u16,
    /// Its AS.
    pub asn: PeerAs,
    /// What it is for.
    pub role: Role,
    /// Never dial, only accept.
    pub passive: bool,
    /// How its connections are made and protected.
    pub transport: Transport,
    /// How much it may announce.
    pub max_prefixes: MaxPrefixes,
    /// Where it is of another AS: that AS has to stand first in its AS_PATHs (RFC 4271 section 6.3).
    pub enforce_first_as: bool,
    /// What is let in from it, beyond what always holds: the first rule that accepts or rejects decides; none: accepted.
    pub import: Vec<Arc<PolicyRule>>,
    /// How VIPs, and what is passed on, are announced to it, likewise.
    pub export: Vec<Arc<PolicyRule>>,
    /// What it hears besides VIPs, and how.
    pub pass_on: PassOn,
    /// What is agreed on with it beyond addresses.
    pub session: SessionSettings,
    /// The BFD session with it (RFC 5880), if there is to be one.
    pub bfd: Option<Bfd>,
}

/// What a session with a peer is held to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SessionSettings {
    /// What we are to the peer (RFC 9234); `None`: nothing is said.
    pub role: Option<BgpRole>,
    /// A peer that says nothing of its role is refused.
    pub role_strict: bool,
    /// There is to be no session, and this is what the peer is told (RFC 9003).
    pub shutdown: Option<Arc<str>>,
}

/// What one speaker is to another of another AS (RFC 9234 section 3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BgpRole {
    /// Gives transit.
    Provider,
    /// A route server.
    Rs,
    /// Of a route server.
    RsClient,
    /// Gets transit.
    Customer,
    /// Neither.
    Peer,
}

impl BgpRole {
    /// Every role, in the order of its number.
    pub const ALL: [Self; 5] = [
        Self::Provider,
        Self::Rs,
        Self::RsClient,
        Self::Customer,
        Self::Peer,
    ];

    /// As the capability has it.
    pub fn number(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::Rs => 1,
            Self::RsClient => 2,
            Self::Customer => 3,
            Self::Peer => 4,
        }
    }

    /// What the other side has to be.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::Customer => Self::Provider,
            Self::Rs => Self::RsClient,
            Self::RsClient => Self::Rs,
            Self::Peer => Self::Peer,
        }
    }
}

impl fmt::Display for BgpRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "provider",
            Self::Rs => "rs",
            Self::RsClient => "rs-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        })
    }
}

/// What a peer hears besides VIPs: nothing, unless it is told so.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PassOn {
    /// The best routes of `cluster` peers.
    pub pods: bool,
    /// It is a client of ours (RFC 4456): what other peers of our AS say is reflected to it, and what it says to them.
    pub reflector_client: bool,
    /// The next hop of what is passed on.
    pub next_hop: PassedNextHop,
    /// Least time between two rounds of announcements (RFC 4271 section 9.2.1.1); withdrawals never wait.
    pub interval: Duration,
}

/// The next hop of what is passed on to a peer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum PassedNextHop {
    /// As it came inside our AS; ours to another one.
    #[default]
    Usual,
    /// Ours: packets come through the box, which has to forward them.
    Own,
    /// As it came.
    Unchanged,
}

/// A BFD session beside a BGP session (RFC 5880, 5881, 5882, 5883).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bfd {
    /// How often packets go out and may come in, whole microseconds.
    pub interval: Duration,
    /// Packets that may be lost.
    pub multiplier: u8,
    /// The peer is not on the same link: RFC 5883 instead of RFC 5881.
    pub multihop: bool,
    /// Of several hops: packets with a lower TTL are not believed.
    pub min_ttl: u8,
    /// No BGP session until the BFD session is up.
    pub strict: bool,
    /// How packets are authenticated (RFC 5880 section 6.7).
    pub auth: Option<BfdAuth>,
}

/// The key of a BFD session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BfdAuth {
    /// Auth Key ID.
    pub id: u8,
    /// How packets are signed.
    pub algorithm: BfdAlgorithm,
    /// The key.
    pub key: BfdKey,
}

impl BfdAuth {
    /// # Errors
    /// A key that is empty or longer than its algorithm takes.
    pub fn new(id: u8, algorithm: BfdAlgorithm, key: &[u8]) -> Result<Self, Invalid> {
        if key.is_empty() || key.len() > algorithm.longest_key() {
            return Err(Invalid::new(
                format!("a key of {} octets", key.len()),
                "write one line of 1 to 16 octets for MD5, 1 to 20 for SHA1, into the file",
            ));
        }
        let mut octets = [0; 20];
        octets
            .iter_mut()
            .zip(key)
            .for_each(|(place, octet)| *place = *octet);
        Ok(Self {
            id,
            algorithm,
            key: BfdKey(octets),
        })
    }
}

/// A key, filled up with zeros. Prints as `***`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct BfdKey([u8; 20]);

impl BfdKey {
    /// The octets, for the one place that needs them; MD5 takes the first 16.
    pub fn octets(&self) -> [u8; 20] {
        self.0
    }
}

impl fmt::Debug for BfdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Algorithms of BFD (RFC 5880 sections 6.7.3 and 6.7.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BfdAlgorithm {
    /// Keyed MD5.
    KeyedMd5,
    /// Meticulous Keyed MD5: no packet counts twice.
    MeticulousKeyedMd5,
    /// Keyed SHA1.
    KeyedSha1,
    /// Meticulous Keyed SHA1: no packet counts twice.
    MeticulousKeyedSha1,
}

impl BfdAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [
        Self::KeyedMd5,
        Self::MeticulousKeyedMd5,
        Self::KeyedSha1,
        Self::MeticulousKeyedSha1,
    ];

    /// Octets of the longest key, which are those of the digest too.
    pub fn longest_key(self) -> usize {
        match self {
            Self::KeyedMd5 | Self::MeticulousKeyedMd5 => 16,
            Self::KeyedSha1 | Self::MeticulousKeyedSha1 => 20,
        }
    }
}

impl fmt::Display for BfdAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyedMd5 => "keyed-md5",
            Self::MeticulousKeyedMd5 => "meticulous-keyed-md5",
            Self::KeyedSha1 => "keyed-sha1",
            Self::MeticulousKeyedSha1 => "meticulous-keyed-sha1",
        })
    }
}

impl Default for Bfd {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(300),
            multiplier: 3,
            multihop: false,
            min_ttl: 1,
            strict: false,
            auth: None,
        }
    }
}

/// Which AS a peer may be of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerAs {
    /// Ours.
    Internal,
    /// Any but ours.
    External,
    /// One of these.
    AnyOf(BTreeSet<Asn>),
}

impl PeerAs {
    /// Whether a peer of `asn` may be it, where we are of `ours`.
    pub fn admits(&self, asn: Asn, ours: Asn) -> bool {
        match self {
            Self::Internal => asn == ours,
            Self::External => asn != ours,
            Self::AnyOf(numbers) => numbers.contains(&asn),
        }
    }

    /// The number, where only one is possible.
    pub fn number(&self, ours: Asn) -> Option<Asn> {
        match self {
            Self::Internal => Some(ours),
            Self::External => None,
            Self::AnyOf(numbers) if numbers.len() == 1 => numbers.first().copied(),
            Self::AnyOf(_) => None,
        }
    }
}

impl From<Asn> for PeerAs {
    fn from(asn: Asn) -> Self {
        Self::AnyOf(BTreeSet::from([asn]))
    }
}

impl fmt::Display for PeerAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal => f.write_str("internal"),
            Self::External => f.write_str("external"),
            Self::AnyOf(numbers) => {
                for (index, asn) in numbers.iter().enumerate() {
                    let between = if index == 0 { "" } else { " or " };
                    write!(f, "{between}{asn}")?;
                }
                Ok(())
            }
        }
    }
}

/// How connections with a peer are made and protected.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Transport {
    /// Key of TCP MD5 signatures (RFC 2385), 1 to 80 octets: segments without the right signature are dropped.
    pub password: Option<Secret>,
    /// Packets from more than this many hops away are dropped (RFC 5082); we send with TTL 255.
    pub ttl_security: Option<u8>,
    /// TTL of what we send, where that is not the default: 1 to a peer of another AS, the system's inside our AS.
    pub multihop: Option<u8>,
    /// Our end of connections that we open.
    pub source_address: Option<IpAddr>,
    /// Keys of TCP-AO (RFC 5925), the one to begin with first; not together with a password.
    pub ao_keys: Vec<AoKey>,
}

/// A master key tuple of TCP-AO.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AoKey {
    /// SendID: what our segments say of the key.
    pub send_id: u8,
    /// RecvID: what the peer's segments say of it.
    pub receive_id: u8,
    /// How segments are signed.
    pub algorithm: AoAlgorithm,
    /// The master key, 1 to 80 octets.
    pub key: Secret,
}

/// Algorithms of TCP-AO (RFC 5926), and the one that it lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AoAlgorithm {
    /// HMAC-SHA-1-96.
    HmacSha1,
    /// AES-128-CMAC-96.
    Aes128Cmac,
    /// HMAC-SHA-256-128.
    HmacSha256,
}

impl AoAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::HmacSha1, Self::Aes128Cmac, Self::HmacSha256];
}

impl fmt::Display for AoAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha1 => "hmac-sha-1-96",
            Self::Aes128Cmac => "aes-128-cmac-96",
            Self::HmacSha256 => "hmac-sha-256-128",
        })
    }
}

/// How many paths a peer may have here, both families together, and what happens beyond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MaxPrefixes {
    /// The most; one more ends the session with Cease 6/1.
    pub limit: u32,
    /// Percent of the limit from which on it is said.
    pub warning_percent: u8,
    /// How long the peer is kept away then; `None`: until its settings change.
    pub restart: Option<Duration>,
}

impl Default for MaxPrefixes {
    fn default() -> Self {
        Self {
            limit: 1_000_000,
            warning_percent: 80,
            restart: Some(Duration::from_secs(300)),
        }
    }
}

impl MaxPrefixes {
    /// The number of paths from which on it is said that the limit is near.
    pub fn warning(&self) -> u32 {
        let part = u64::from(self.limit) * u64::from(self.warning_percent) / 100;
        u32::try_from(part).unwrap_or(self.limit).max(1)
    }
}

/// Passive neighbours: every address inside `prefix` may connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerRange {
    /// Where they are.
    pub prefix: Prefix,
    /// Their AS.
    pub asn: PeerAs,
    /// What they are for.
    pub role: Role,
    /// How their connections are protected.
    pub transport: Transport,
    /// How much each of them may announce.
    pub max_prefixes: MaxPrefixes,
    /// As for a peer.
    pub enforce_first_as: bool,
    /// As for a peer.
    pub import: Vec<Arc<PolicyRule>>,
    /// As for a peer.
    pub export: Vec<Arc<PolicyRule>>,
    /// As for a peer.
    pub pass_on: PassOn,
    /// As for a peer.
    pub session: SessionSettings,
    /// As for a peer.
    pub bfd: Option<Bfd>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_a_peer() {
        let asn = |number| Asn::try_from(number).unwrap();
        let both = PeerAs::AnyOf([asn(1), asn(2)].into());
        // (who may come, who comes; we are AS 1) -> may, the only number
        for (wanted, comes, may, number) in [
            (&PeerAs::Internal, 1, true, Some(1)),
            (&PeerAs::Internal, 2, false, Some(1)),
            (&PeerAs::External, 1, false, None),
            (&PeerAs::External, 2, true, None),
            (&PeerAs::from(asn(2)), 2, true, Some(2)),
            (&PeerAs::from(asn(2)), 1, false, Some(2)),
            (&both, 1, true, None),
            (&both, 3, false, None),
        ] {
            assert_eq!(wanted.admits(asn(comes), asn(1)), may, "{wanted} and {comes}");
            assert_eq!(wanted.number(asn(1)), number.map(asn), "{wanted}");
        }
        assert_eq!(both.to_string(), "1 or 2");
    }

    #[test]
    fn reserved_values_cannot_be_made() {
        assert!(Asn::try_from(0).is_err());
        assert_eq!(Asn::try_from(4_294_967_295).unwrap().to_string(), "4294967295");
        assert!(RouterId::try_from(Ipv4Addr::UNSPECIFIED).is_err());
        for bad in ["", "a b", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<PeerName>().is_err(), "{bad:?}");
        }
    }
}
