//! The one table of what may stand in the file: reading, unknown keys and the page `docs/configuration.md` come from it.

use std::fmt::Write as _;
use std::time::Duration;

use super::scalar::{write_duration, write_size};

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name between the brackets.
    pub name: &'static str,
    /// Whether it is an array of tables, written `[[name]]`.
    pub repeated: bool,
    /// Whether the file must have it.
    pub required: bool,
    /// What it is about.
    pub meaning: &'static str,
}

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section it stands in.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// What holds where it is not written.
    pub absent: Absent,
    /// A value as TOML; where there is a default that is a value, the default.
    pub example: &'static str,
    /// What a change of a running box needs.
    pub change: Change,
    /// What it is, with its unit where the type does not say it.
    pub meaning: &'static str,
}

/// Type and range of a value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string, and what it holds.
    Text(&'static str),
    /// A list of strings, and what they hold.
    List(&'static str),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// Octets: a whole number, or a string with `KiB` or `MiB`.
    Size {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A string with `ms`, `s`, `m` or `h`.
    Duration {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// A string or a whole number, and what they hold.
    TextOrInteger(&'static str),
    /// AS numbers that a peer may have: one, a list, `internal` or `external`.
    PeerAs,
    /// `true`, `false` or a table with the keys of this section.
    Switch(&'static str),
}

/// What holds where a key is not written.
#[derive(Clone, Copy, Debug)]
pub enum Absent {
    /// It must be written.
    Required,
    /// The value of `example`.
    Example,
    /// Something that is not a value of the key.
    Means(&'static str),
    /// The key is known and refused: what it asks for does not exist yet.
    NotSupportedYet,
}

/// What a change of a running box needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// A reload; nothing that it does not touch is disturbed.
    Live,
    /// A restart: it names a socket or a file of the process, or is fixed when the process starts.
    Restart,
}

/// The sections, in the order of the page.
pub const SECTIONS: &[Section] = &[
    section("appliance", false, false, "The process itself."),
    section("listen", false, false, "Where HTTP and HTTPS clients connect."),
    section(
        "source",
        false,
        true,
        "Where Kubernetes objects come from: exactly one of `manifests` and `kubeconfig`.",
    ),
    section(
        "bgp",
        false,
        false,
        "Who the box is in BGP. Without this section it speaks no BGP.",
    ),
    section("bgp.peers", true, false, "One BGP peer each."),
    section(
        "bgp.peers.bfd",
        false,
        false,
        "BFD with a peer, written inside it: `bfd = { interval = \"100ms\" }`. Ranges have the same keys.",
    ),
    section(
        "bgp.peer_ranges",
        true,
        false,
        "Passive neighbours: every address inside `prefix` may connect.",
    ),
    section(
        "bgp.sets",
        true,
        false,
        "Lists with a name. Conditions of `[[bgp.rules]]` refer to one as `@NAME`.",
    ),
    section(
        "bgp.rules",
        true,
        false,
        "One rule of import or export each, used by the peers and ranges that name it. Every condition has to hold; one that is not written holds for all.",
    ),
    section(
        "vips",
        true,
        false,
        "One pool of addresses each, for Services of type LoadBalancer and for the Ingress listeners.",
    ),
    section(
        "acme",
        false,
        false,
        "The CA that certificates are ordered from. Without this section they come from Secrets only.",
    ),
    section("http", false, false, "Limits of the HTTP data plane."),
    section(
        "access_log",
        false,
        false,
        "How exchanges are written down; `http.access_log` says whether.",
    ),
    section(
        "tracing",
        false,
        false,
        "Spans for an OpenTelemetry collector. Without this section none are made.",
    ),
    section(
        "key_sets",
        false,
        false,
        "From where key sets for tokens may be fetched (`sekisho.io/jwt-jwks-url`). Without this section none is.",
    ),
    section("timeouts", false, false, "Every wait of the data plane."),
];

/// The keys, in the order of the page.
#[rustfmt::skip] // one row a key
pub const KEYS: &[Key] = &[
    key("appliance", "name", Kind::Text("name"), Absent::Means("host name"), "\"edge-1\"", RESTART,
        "Name of the box in logs, metrics and forwarded headers: 1 to 63 letters, digits, `-`, `_`, `.`."),
    key("appliance", "state_dir", Kind::Text("path"), Absent::Example, "\"/var/lib/sekisho\"", RESTART,
        "Where the ACME account, certificates and last good views are kept."),
    key("appliance", "run_dir", Kind::Text("path"), Absent::Example, "\"/run/sekisho\"", RESTART,
        "Where the unix socket `admin.sock` of the command line is made."),
    key("appliance", "admin", Kind::Text("socket address"), Absent::Example, "\"127.0.0.1:9901\"", RESTART,
        "Where `/metrics`, `/livez`, `/readyz` and `/api/v1/` answer. It asks for no password: keep it on a private address."),
    key("appliance", "workers", Kind::Integer { min: 0, max: 1024 }, Absent::Example, "0", RESTART,
        "Data workers, one thread each; 0 is one per core."),

    key("listen", "http", Kind::List("socket addresses"), Absent::Example, "[\"0.0.0.0:80\", \"[::]:80\"]", LIVE,
        "HTTP listeners; an empty list is none."),
    key("listen", "https", Kind::List("socket addresses"), Absent::Example, "[\"0.0.0.0:443\", \"[::]:443\"]", LIVE,
        "HTTPS listeners; an empty list is none."),
    key("listen", "http3", Kind::List("socket addresses"), Absent::Example, "[]", LIVE,
        "Those of `https` beside which HTTP/3 is served, on UDP of the same address and port."),
    key("listen", "ingress_addresses", Kind::List("IP addresses"), Absent::Means("the first address of each family of the first `[[vips]]` pool, else the listeners' own"), "[\"203.0.113.1\"]", LIVE,
        "Addresses that Ingresses get in their status; those inside a `[[vips]]` pool are announced."),
    key("listen", "trusted_proxies", Kind::List("prefixes"), Absent::Example, "[]", LIVE,
        "Networks whose `X-Forwarded-*` headers are believed."),
    key("listen", "proxy_protocol_from", Kind::List("prefixes"), Absent::Example, "[]", LIVE,
        "Networks (of load balancers in front) whose connections begin with a PROXY header, version 1 or 2. It is believed; a connection without one is closed."),

    key("source", "manifests", Kind::Text("path"), Absent::Means("objects come from `kubeconfig`"), "\"/etc/sekisho/manifests\"", RESTART,
        "Directory of Kubernetes YAML, watched for changes."),
    key("source", "kubeconfig", Kind::Text("path"), Absent::Means("objects come from `manifests`"), "\"/etc/sekisho/kubeconfig\"", RESTART,
        "A cluster: the path of a kubeconfig, or `\"in-cluster\"` for the service account of the pod the process runs in."),
    key("source", "ingress_class", Kind::Text("name"), Absent::Example, "\"sekisho\"", LIVE,
        "Name of the IngressClass that is ours."),
    key("source", "routing", Kind::OneOf(&["required", "preferred", "off"]), Absent::Means("`\"required\"`; without `[bgp]` `\"off\"`"), "\"off\"", RESTART,
        "Whether an endpoint needs a route: a BGP route; a BGP route or else the kernel's own; none."),
    key("source", "allow_loopback_endpoints", Kind::Bool, Absent::Example, "false", LIVE,
        "Whether endpoints may be addresses of the box itself or of its links. For trials only: it opens the box's own ports to whoever may write an EndpointSlice."),

    key("bgp", "asn", Kind::Integer { min: 1, max: u32::MAX as u64 }, Absent::Required, "64512", LIVE,
        "Our AS number. A change ends and reopens every session."),
    key("bgp", "router_id", Kind::Text("IPv4 address"), Absent::Required, "\"192.0.2.10\"", LIVE,
        "Our BGP identifier, different on every box. A change ends and reopens every session."),
    key("bgp", "listen", Kind::List("socket addresses"), Absent::Example, "[\"0.0.0.0:179\"]", RESTART,
        "Where peers may connect; an empty list is nowhere."),
    key("bgp", "hold_time", duration(0, 65_535_000), Absent::Example, "\"9s\"", LIVE,
        "Hold time that we offer, whole seconds: 0s (off) or 3s and more (RFC 4271). A change ends and reopens every session."),
    key("bgp", "cluster_id", Kind::Text("IPv4 address"), Absent::Means("`router_id`"), "\"192.0.2.10\"", LIVE,
        "Our CLUSTER_ID as a route reflector (RFC 4456): the same on boxes that reflect for the same clients. A change ends and reopens every session."),
    key("bgp", "install_routes", Kind::Bool, Absent::Example, "true", LIVE,
        "Whether best routes and VIPs are written to the kernel."),
    key("bgp", "table", Kind::TextOrInteger("`\"main\"`, or a number from 1 to 4294967295 but 255"), Absent::Example, "\"main\"", LIVE,
        "Kernel routing table of learned routes."),
    key("bgp", "nexthop_objects", Kind::Bool, Absent::Example, "true", LIVE,
        "Routes of the kernel share nexthop objects, so that a dead next hop is one change for all of them; without, and on kernels before 5.3, each route has its own gateways."),
    key("bgp", "multipath", Kind::OneOf(&["relax", "exact"]), Absent::Example, "\"relax\"", LIVE,
        "Which paths share the packets of a prefix: those equal to the best but for the content of their AS_PATH, or only those with the same AS_PATH."),
    key("bgp", "max_paths", Kind::Integer { min: 1, max: 64 }, Absent::Example, "64", LIVE,
        "How many paths share the packets of a prefix at most."),
    key("bgp", "link_bandwidth", Kind::Bool, Absent::Example, "false", LIVE,
        "Where all of them carry the link bandwidth extended community, their shares follow it."),
    key("bgp", "pod_prefixes", Kind::List("prefixes"), Absent::Example, "[]", LIVE,
        "Networks of pods: from `cluster` peers only prefixes inside these are let in. Empty: any prefix, except a default route and our VIPs."),
    key("bgp", "discover_pod_prefixes", Kind::Bool, Absent::Example, "true", LIVE,
        "Whether Calico's IP pools in the cluster's API count as networks of pods too, where there are some and we may read them."),
    key("bgp", "cluster_import", Kind::List("names of rules"), Absent::Example, "[]", LIVE,
        "`import` of `cluster` peers and ranges that do not write one."),
    key("bgp", "cluster_export", Kind::List("names of rules"), Absent::Example, "[]", LIVE,
        "`export` of `cluster` peers and ranges that do not write one."),
    key("bgp", "upstream_import", Kind::List("names of rules"), Absent::Example, "[]", LIVE,
        "`import` of `upstream` peers and ranges that do not write one."),
    key("bgp", "upstream_export", Kind::List("names of rules"), Absent::Example, "[]", LIVE,
        "`export` of `upstream` peers and ranges that do not write one."),
    key("bgp", "error_wait", duration(100, HOUR), Absent::Example, "\"1s\"", LIVE,
        "Wait after a session or a connection ended by an error; doubled with each that follows. A change ends and reopens every session."),
    key("bgp", "error_wait_max", duration(100, HOUR), Absent::Example, "\"60s\"", LIVE,
        "The longest such wait. A peer that connects by itself waits 5s at most."),

    key("bgp", "graceful_restart", Kind::Bool, Absent::Example, "false", LIVE,
        "Whether peers are asked to keep our VIPs while this process restarts or has died (RFC 4724). A change ends and reopens every session."),
    key("bgp", "restart_time", duration(1000, 4_095_000), Absent::Example, "\"120s\"", LIVE,
        "For how long they may, whole seconds. A change ends and reopens every session."),
    key("bgp", "bmp", Kind::List("socket addresses"), Absent::Example, "[]", LIVE,
        "BMP collectors (RFC 7854) that are told what the peers say, after the rules of import."),

    key("bgp.peers", "name", Kind::Text("name"), Absent::Means("its address"), "\"node-1\"", LIVE,
        "Name of the peer: 1 to 63 letters, digits, `-`, `_`, `.`, `:`."),
    key("bgp.peers", "address", Kind::Text("IP address"), Absent::Required, "\"10.0.0.11\"", LIVE,
        "Where it is. A link-local address names its interface: `\"fe80::1%eth1\"`."),
    key("bgp.peers", "asn", Kind::PeerAs, Absent::Required, "64512", LIVE,
        "Its AS number. `internal` is ours, `external` any other one; of a list it may have any."),
    key("bgp.peers", "role", Kind::OneOf(ROLES), Absent::Required, "\"cluster\"", LIVE,
        "What it is for: `cluster` is a node, pod routes are learned from it; `upstream` is a router above, VIPs are announced to it."),
    key("bgp.peers", "passive", Kind::Bool, Absent::Example, "false", LIVE,
        "Never dial, only accept."),
    key("bgp.peers", "port", Kind::Integer { min: 1, max: 65_535 }, Absent::Example, "179", LIVE,
        "Its TCP port."),
    key("bgp.peers", "password_file", Kind::Text("path"), Absent::Means("no signatures"), "\"/etc/sekisho/bgp.password\"", LIVE,
        "File whose content, without the line end, is the key of TCP MD5 signatures (RFC 2385): 1 to 80 octets. Read again at each reload."),
    key("bgp.peers", "ao_keys", Kind::List("`ID ALGORITHM FILE`"), Absent::Means("no signatures"), "[\"1 hmac-sha-1-96 /etc/sekisho/tor-1.ao\"]", LIVE,
        "Keys of TCP-AO (RFC 5925; Linux 6.7 with CONFIG_TCP_AO), the one to sign with first: an id (`1/2` where ours and the peer's differ), `hmac-sha-1-96`, `aes-128-cmac-96` or `hmac-sha-256-128`, and the file of the key. Not together with `password_file`."),
    key("bgp.peers", "bfd", Kind::Switch("bgp.peers.bfd"), Absent::Example, "false", LIVE,
        "BFD session with the peer: its routes go within a second of its death. `true` is a table in which nothing is written."),
    key("bgp.peers", "ttl_security", Kind::Integer { min: 1, max: 254 }, Absent::Means("any distance"), "1", LIVE,
        "Drop what comes from more than so many hops away (GTSM, RFC 5082): 1 is a neighbour on the same network. The peer must do the same, or at least send with TTL 255."),
    key("bgp.peers", "multihop", Kind::Integer { min: 1, max: 255 }, Absent::Means("1 for another AS, the system's inside our AS"), "2", LIVE,
        "TTL of what we send: how many hops away the peer may be. Not together with `ttl_security`."),
    key("bgp.peers", "source_address", Kind::Text("IP address"), Absent::Means("the kernel's choice"), "\"10.0.0.5\"", LIVE,
        "Our address when we dial. It must be one of the box."),
    key("bgp.peers", "max_prefixes", Kind::Integer { min: 1, max: u32::MAX as u64 }, Absent::Example, "1000000", LIVE,
        "Paths that it may have here, both families together. One more ends the session (Cease 6/1)."),
    key("bgp.peers", "max_prefixes_warning", Kind::Integer { min: 1, max: 100 }, Absent::Example, "80", LIVE,
        "Percent of `max_prefixes` from which on the log warns."),
    key("bgp.peers", "max_prefixes_action", Kind::OneOf(&["restart", "idle"]), Absent::Example, "\"restart\"", LIVE,
        "After the limit: `restart` lets it come back after `max_prefixes_restart`; `idle` keeps it away until one of these keys changes."),
    key("bgp.peers", "max_prefixes_restart", duration(1000, 24 * HOUR), Absent::Example, "\"5m\"", LIVE,
        "How long it is kept away."),
    key("bgp.peers", "enforce_first_as", Kind::Bool, Absent::Example, "true", LIVE,
        "Of a peer of another AS: let in only paths whose AS_PATH begins with that AS. `false` for route servers."),
    key("bgp.peers", "bgp_role", Kind::OneOf(BGP_ROLES), Absent::Means("nothing is said of it"), "\"customer\"", LIVE,
        "What we are to a peer of another AS (RFC 9234). A peer that says it is something that does not fit is refused; routes are marked so that none leaks."),
    key("bgp.peers", "bgp_role_strict", Kind::Bool, Absent::Example, "false", LIVE,
        "Refuse a peer that says nothing of its role."),
    key("bgp.peers", "shutdown", Kind::Text("text of at most 255 octets"), Absent::Means("the session is wanted"), "\"maintenance until 06:00\"", LIVE,
        "End the session and keep it down (Cease 6/2); the peer is told this text (RFC 9003)."),
    key("bgp.peers", "import", Kind::List("names of rules"), Absent::Means("that of its role in `[bgp]`"), "[]", LIVE,
        "`[[bgp.rules]]` for what it announces, in order. The first that accepts or rejects decides; none: accepted."),
    key("bgp.peers", "export", Kind::List("names of rules"), Absent::Means("that of its role in `[bgp]`"), "[]", LIVE,
        "`[[bgp.rules]]` for what is announced to it, likewise: VIPs, and pods with `reannounce`."),
    key("bgp.peers", "reannounce", Kind::OneOf(&["nothing", "pods"]), Absent::Example, "\"nothing\"", LIVE,
        "What it hears besides VIPs: `pods` are the best routes of `cluster` peers. A change reopens the session."),
    key("bgp.peers", "route_reflector_client", Kind::Bool, Absent::Example, "false", LIVE,
        "It is a client of ours (RFC 4456): with `reannounce = \"pods\"` it hears what other peers of our AS say, and they hear it."),
    key("bgp.peers", "next_hop", Kind::OneOf(&["self", "unchanged"]), Absent::Means("`unchanged` inside our AS, `self` to another one"), "\"unchanged\"", LIVE,
        "Next hop of pods passed on. With `self` packets come through the box, which then has to forward them (`net.ipv4.ip_forward`)."),
    key("bgp.peers", "advertisement_interval", duration(0, 600_000), Absent::Example, "\"0s\"", LIVE,
        "Least time between two rounds of announcements (MRAI, RFC 4271). Withdrawals never wait."),

    key("bgp.peers.bfd", "interval", duration(10, 60_000), Absent::Example, "\"300ms\"", LIVE,
        "How often packets go out and may come in, at most; the slower of the two sides counts."),
    key("bgp.peers.bfd", "multiplier", Kind::Integer { min: 1, max: 255 }, Absent::Example, "3", LIVE,
        "So many packets in a row may be lost: `interval` times `multiplier` is how long a death goes unnoticed."),
    key("bgp.peers.bfd", "multihop", Kind::Bool, Absent::Means("whether the peer has `multihop`, or a `ttl_security` above 1"), "false", LIVE,
        "UDP port 4784 (RFC 5883) for a peer that is not on the same link, instead of 3784 (RFC 5881)."),
    key("bgp.peers.bfd", "min_ttl", Kind::Integer { min: 1, max: 255 }, Absent::Means("any"), "253", LIVE,
        "With `multihop`: packets that arrive with a lower TTL are discarded; they are sent with 255. Without it 255 is always demanded."),
    key("bgp.peers.bfd", "auth", Kind::Text("`ID ALGORITHM FILE`"), Absent::Means("packets are not authenticated"), "\"1 meticulous-keyed-sha1 /etc/sekisho/tor-1.ao\"", LIVE,
        "Key of Control packets (RFC 5880 section 6.7): its id, `keyed-md5`, `meticulous-keyed-md5`, `keyed-sha1` or `meticulous-keyed-sha1`, and its file, of 1 to 16 (MD5) or 20 octets. Read again at each reload."),
    key("bgp.peers.bfd", "strict", Kind::Bool, Absent::Example, "false", LIVE,
        "Whether the BGP session waits until the BFD session is up. Otherwise a peer without BFD is a peer all the same."),

    key("bgp.peer_ranges", "prefix", Kind::Text("prefix"), Absent::Required, "\"10.0.0.0/24\"", LIVE,
        "Where they are."),
    key("bgp.peer_ranges", "asn", Kind::PeerAs, Absent::Required, "64512", LIVE,
        "Their AS number, as for a peer; each may have another one that fits."),
    key("bgp.peer_ranges", "role", Kind::OneOf(ROLES), Absent::Required, "\"cluster\"", LIVE,
        "What they are for, as for a peer."),
    key("bgp.peer_ranges", "password_file", Kind::Text("path"), Absent::Means("no signatures"), "\"/etc/sekisho/bgp.password\"", LIVE,
        "Key of TCP MD5 signatures, as for a peer; it holds for every address of the range."),
    key("bgp.peer_ranges", "ao_keys", Kind::List("`ID ALGORITHM FILE`"), Absent::Means("no signatures"), "[\"1 hmac-sha-1-96 /etc/sekisho/tor-1.ao\"]", LIVE,
        "Keys of TCP-AO (RFC 5925; Linux 6.7 with CONFIG_TCP_AO), the one to sign with first: an id (`1/2` where ours and the peer's differ), `hmac-sha-1-96`, `aes-128-cmac-96` or `hmac-sha-256-128`, and the file of the key. Not together with `password_file`."),
    key("bgp.peer_ranges", "bfd", Kind::Switch("bgp.peers.bfd"), Absent::Example, "false", LIVE,
        "As for a peer; a session with each that connects."),
    key("bgp.peer_ranges", "ttl_security", Kind::Integer { min: 1, max: 254 }, Absent::Means("any distance"), "1", LIVE,
        "As for a peer."),
    key("bgp.peer_ranges", "multihop", Kind::Integer { min: 1, max: 255 }, Absent::Means("as for a peer"), "2", LIVE,
        "As for a peer."),
    key("bgp.peer_ranges", "max_prefixes", Kind::Integer { min: 1, max: u32::MAX as u64 }, Absent::Example, "1000000", LIVE,
        "Paths that each of them may have here, both families together. One more ends the session (Cease 6/1)."),
    key("bgp.peer_ranges", "max_prefixes_warning", Kind::Integer { min: 1, max: 100 }, Absent::Example, "80", LIVE,
        "Percent of `max_prefixes` from which on the log warns."),
    key("bgp.peer_ranges", "max_prefixes_action", Kind::OneOf(&["restart", "idle"]), Absent::Example, "\"restart\"", LIVE,
        "After the limit: `restart` lets it come back after `max_prefixes_restart`; `idle` keeps it away until one of these keys changes."),
    key("bgp.peer_ranges", "max_prefixes_restart", duration(1000, 24 * HOUR), Absent::Example, "\"5m\"", LIVE,
        "How long it is kept away."),
    key("bgp.peer_ranges", "enforce_first_as", Kind::Bool, Absent::Example, "true", LIVE,
        "Of a peer of another AS: let in only paths whose AS_PATH begins with that AS. `false` for route servers."),
    key("bgp.peer_ranges", "bgp_role", Kind::OneOf(BGP_ROLES), Absent::Means("nothing is said of it"), "\"customer\"", LIVE,
        "What we are to a peer of another AS (RFC 9234). A peer that says it is something that does not fit is refused; routes are marked so that none leaks."),
    key("bgp.peer_ranges", "bgp_role_strict", Kind::Bool, Absent::Example, "false", LIVE,
        "Refuse a peer that says nothing of its role."),
    key("bgp.peer_ranges", "import", Kind::List("names of rules"), Absent::Means("that of its role in `[bgp]`"), "[]", LIVE,
        "`[[bgp.rules]]` for what it announces, in order. The first that accepts or rejects decides; none: accepted."),
    key("bgp.peer_ranges", "export", Kind::List("names of rules"), Absent::Means("that of its role in `[bgp]`"), "[]", LIVE,
        "`[[bgp.rules]]` for what is announced to it, likewise: VIPs, and pods with `reannounce`."),
    key("bgp.peer_ranges", "reannounce", Kind::OneOf(&["nothing", "pods"]), Absent::Example, "\"nothing\"", LIVE,
        "What it hears besides VIPs: `pods` are the best routes of `cluster` peers. A change reopens the session."),
    key("bgp.peer_ranges", "route_reflector_client", Kind::Bool, Absent::Example, "false", LIVE,
        "It is a client of ours (RFC 4456): with `reannounce = \"pods\"` it hears what other peers of our AS say, and they hear it."),
    key("bgp.peer_ranges", "next_hop", Kind::OneOf(&["self", "unchanged"]), Absent::Means("`unchanged` inside our AS, `self` to another one"), "\"unchanged\"", LIVE,
        "Next hop of pods passed on. With `self` packets come through the box, which then has to forward them (`net.ipv4.ip_forward`)."),
    key("bgp.peer_ranges", "advertisement_interval", duration(0, 600_000), Absent::Example, "\"0s\"", LIVE,
        "Least time between two rounds of announcements (MRAI, RFC 4271). Withdrawals never wait."),

    key("bgp.sets", "name", Kind::Text("name"), Absent::Required, "\"pods\"", LIVE,
        "Name of the set: 1 to 63 letters, digits, `-`, `_`, `.`."),
    key("bgp.sets", "prefixes", Kind::List("prefixes, each with `ge` and `le`"), Absent::Means("none"), "[\"10.244.0.0/16 ge 24 le 26\"]", LIVE,
        "For `prefixes = [\"@NAME\"]` of a rule."),
    key("bgp.sets", "communities", Kind::List("communities"), Absent::Means("none"), "[\"65000:*\"]", LIVE,
        "For `communities` and `all_communities` of a rule."),
    key("bgp.sets", "next_hops", Kind::List("prefixes"), Absent::Means("none"), "[\"10.0.0.0/24\"]", LIVE,
        "For `next_hops` of a rule."),
    key("bgp.sets", "as_numbers", Kind::List("AS numbers and ranges"), Absent::Means("none"), "[\"65001\", \"64512-64999\"]", LIVE,
        "For `as_path` of a rule, where `@NAME` is any of these: `\"^@NAME .* [@NAME 65010]$\"`."),

    key("bgp.rules", "name", Kind::Text("name"), Absent::Required, "\"far-rack\"", LIVE,
        "Name of the rule: 1 to 63 letters, digits, `-`, `_`, `.`."),
    key("bgp.rules", "prefixes", Kind::List("prefixes, each with `ge` and `le`"), Absent::Means("any"), "[\"10.244.0.0/16 ge 24 le 26\"]", LIVE,
        "Condition: the prefix is one of these, or inside one and of a length from `ge` to `le`."),
    key("bgp.rules", "family", Kind::OneOf(&["ipv4", "ipv6"]), Absent::Means("any"), "\"ipv4\"", LIVE,
        "Condition: the prefix is of this family."),
    key("bgp.rules", "communities", Kind::List("communities"), Absent::Means("any"), "[\"65000:*\"]", LIVE,
        "Condition: the path has one that fits one of these. `65000:100`, large `65000:1:2`, extended `rt:65000:1`, `ro:65000:1`, `ext:0x…`, each part a number, a range `1-9` or `*`; `graceful-shutdown`, `no-export`, `no-advertise`, `blackhole`."),
    key("bgp.rules", "all_communities", Kind::List("communities"), Absent::Means("any"), "[\"65000:100\", \"65000:1:2\"]", LIVE,
        "Condition: for each of these the path has one that fits."),
    key("bgp.rules", "as_path_has", Kind::Integer { min: 1, max: u32::MAX as u64 }, Absent::Means("any"), "65001", LIVE,
        "Condition: this AS stands in the AS_PATH."),
    key("bgp.rules", "as_path_neighbour", Kind::Integer { min: 1, max: u32::MAX as u64 }, Absent::Means("any"), "65001", LIVE,
        "Condition: the AS_PATH begins with this AS, the nearest."),
    key("bgp.rules", "as_path_origin", Kind::Integer { min: 1, max: u32::MAX as u64 }, Absent::Means("any"), "65001", LIVE,
        "Condition: the AS_PATH ends with this AS, where the path came from."),
    key("bgp.rules", "as_path_length", Kind::Text("`ge` and `le` with numbers"), Absent::Means("any"), "\"ge 2 le 5\"", LIVE,
        "Condition: length of the AS_PATH; a set counts one."),
    key("bgp.rules", "as_path", Kind::Text("expression over AS numbers"), Absent::Means("any"), "\"^65001 .* 65010$\"", LIVE,
        "Condition: the AS_PATH fits. `.` is any AS, `64512-65534` a range, `[65001 65002]` one of these, `( | )` alternatives, `*` `+` `?` `{2,5}` how often, `^` and `$` the ends."),
    key("bgp.rules", "next_hops", Kind::List("prefixes"), Absent::Means("any"), "[\"10.0.0.0/24\"]", LIVE,
        "Condition: the next hop is inside one of these. Holds for no VIP."),
    key("bgp.rules", "local_preference", Kind::Integer { min: 0, max: u32::MAX as u64 }, Absent::Means("left as it is"), "200", LIVE,
        "Change: LOCAL_PREF. It counts inside one AS only."),
    key("bgp.rules", "med", Kind::Integer { min: 0, max: u32::MAX as u64 }, Absent::Means("left as it is"), "50", LIVE,
        "Change: MULTI_EXIT_DISC."),
    key("bgp.rules", "add_med", Kind::Integer { min: 1, max: u32::MAX as u64 }, Absent::Means("left as it is"), "10", LIVE,
        "Change: so much more MULTI_EXIT_DISC, after `med`."),
    key("bgp.rules", "prepend", Kind::Integer { min: 1, max: 16 }, Absent::Means("left as it is"), "1", LIVE,
        "Change: so many times more the nearest AS in the AS_PATH. Towards our own AS, and of paths of our own AS, it changes nothing."),
    key("bgp.rules", "set_communities", Kind::List("communities"), Absent::Means("left as they are"), "[\"65000:100\"]", LIVE,
        "Change: these in place of all that are there, of every kind; an empty list leaves none."),
    key("bgp.rules", "remove_communities", Kind::List("communities"), Absent::Means("none"), "[\"65000:*\"]", LIVE,
        "Change: those that fit are taken out, after `set_communities`."),
    key("bgp.rules", "add_communities", Kind::List("communities"), Absent::Means("none"), "[\"65000:100\"]", LIVE,
        "Change: communities added, last."),
    key("bgp.rules", "next_hop", Kind::Text("`\"self\"`, `\"unchanged\"` or an IP address"), Absent::Means("left as it is"), "\"10.0.0.1\"", LIVE,
        "Change: the next hop. On import only an address counts; an address is given to paths of its family."),
    key("bgp.rules", "reason", Kind::Text("text"), Absent::Means("the rule's name is shown"), "\"zone b has a box of its own\"", LIVE,
        "Why it rejects: shown by `sekisho routes --rejected` and `sekisho vips`."),
    key("bgp.rules", "then", Kind::OneOf(&["accept", "reject", "next"]), Absent::Required, "\"accept\"", LIVE,
        "What happens then; `next` asks the following rule."),

    key("vips", "name", Kind::Text("name"), Absent::Required, "\"public\"", LIVE,
        "Name of the pool: 1 to 63 letters, digits, `-`, `_`, `.`."),
    key("vips", "addresses", Kind::List("prefixes"), Absent::Required, "[\"203.0.113.0/28\", \"2001:db8:1::/112\"]", LIVE,
        "Its addresses. Pools never overlap."),
    key("vips", "announce_to", Kind::List("roles or peer names"), Absent::Example, "[]", LIVE,
        "To whom its addresses in use are announced: `\"upstream\"`, or names of upstream peers."),
    key("vips", "announce", Kind::OneOf(&["hosts", "aggregate"]), Absent::Example, "\"hosts\"", LIVE,
        "`hosts`: each address in use, /32 or /128. `aggregate`: the prefixes of `addresses` that hold one; the rest of such a prefix is unreachable on the box."),
    key("vips", "aggregate_while", Kind::OneOf(&["any", "all"]), Absent::Example, "\"any\"", LIVE,
        "A prefix is announced while `any` address in use inside it can serve, or only while `all` can."),
    key("vips", "communities", Kind::List("communities"), Absent::Means("none"), "[\"65000:100\"]", LIVE,
        "Communities of its paths. Rules of a peer come after all of these."),
    key("vips", "med", Kind::Integer { min: 0, max: u32::MAX as u64 }, Absent::Means("none"), "50", LIVE,
        "MULTI_EXIT_DISC of its paths."),
    key("vips", "prepend", Kind::Integer { min: 1, max: 16 }, Absent::Means("none"), "1", LIVE,
        "So many times more our AS in the AS_PATH, towards other ASes."),
    key("vips", "local_preference", Kind::Integer { min: 0, max: u32::MAX as u64 }, Absent::Means("100"), "200", LIVE,
        "LOCAL_PREF of its paths, inside our AS."),
    key("vips", "next_hop", Kind::Text("`\"self\"` or an IP address"), Absent::Means("`self`"), "\"192.0.2.9\"", LIVE,
        "Next hop of its paths of that family, in place of our own address."),

    key("acme", "directory", Kind::Text("https URL"), Absent::Required, "\"https://acme.example/directory\"", LIVE,
        "Directory of an RFC 8555 CA."),
    key("acme", "email", Kind::Text("email address"), Absent::Means("no contact"), "\"ops@example.com\"", LIVE,
        "Whom the CA may write to."),
    key("acme", "ca_file", Kind::Text("path"), Absent::Means("the public roots"), "\"/etc/sekisho/acme-ca.pem\"", LIVE,
        "PEM file with the root of a private CA, used for talking to the directory only."),
    key("acme", "eab_key_id", Kind::Text("text"), Absent::Means("no external account binding"), "\"kid-1\"", LIVE,
        "Key identifier of an external account binding (RFC 8555 section 7.3.4); with `eab_hmac_key_file`."),
    key("acme", "eab_hmac_key_file", Kind::Text("path"), Absent::Means("no external account binding"), "\"/etc/sekisho/eab.key\"", LIVE,
        "File with its HMAC key, base64url as the CA prints it; with `eab_key_id`."),

    key("http", "max_header_bytes", Kind::Size { min: 8192, max: 1024 * 1024 }, Absent::Example, "\"64KiB\"", LIVE,
        "Octets of a request's header section; 431 beyond it."),
    key("http", "max_headers", Kind::Integer { min: 16, max: 4096 }, Absent::Example, "128", LIVE,
        "Fields of a request's header section; 431 beyond it."),
    key("http", "max_uri_bytes", Kind::Size { min: 256, max: 60 * 1024 }, Absent::Example, "\"16KiB\"", LIVE,
        "Octets of a request target; 414 beyond it."),
    key("http", "max_body_bytes", Kind::Size { min: 0, max: 1 << 40 }, Absent::Example, "0", LIVE,
        "Octets of a request body, 413 beyond it; 0 is no limit."),
    key("http", "min_body_rate", Kind::Size { min: 0, max: 1 << 20 }, Absent::Example, "100", LIVE,
        "Octets of a request body that a client has to send for each second that it is waited for beyond `timeouts.request_body` in all; then 408. 0: it may take any time. Not for gRPC, and not once the answer has begun."),
    key("http", "max_concurrent_streams", Kind::Integer { min: 1, max: 65_535 }, Absent::Example, "100", LIVE,
        "Streams at a time on one HTTP/2 or HTTP/3 connection."),
    key("http", "max_control_frames", Kind::Integer { min: 10, max: 1_000_000_000 }, Absent::Example, "2000", LIVE,
        "HTTP/2: SETTINGS, PING, PRIORITY, unknown and empty frames of one connection in 10 s; beyond it GOAWAY (ENHANCE_YOUR_CALM). HTTP/3: frames of its control stream, unknown and empty ones, unknown streams; beyond it it is closed (H3_EXCESSIVE_LOAD)."),
    key("http", "max_resets", Kind::Integer { min: 10, max: 1_000_000_000 }, Absent::Example, "200", LIVE,
        "HTTP/2: streams of one connection that its client resets in 10 s, if it resets more than every other one, or provokes the box to reset in all; beyond it GOAWAY. HTTP/3: requests that its client takes back; beyond it the connection is closed (H3_EXCESSIVE_LOAD)."),
    key("http", "max_requests_per_connection", Kind::Integer { min: 1, max: 1_000_000_000 }, Absent::Example, "10000", LIVE,
        "Requests on one client connection before it is closed."),
    key("http", "max_upstream_streams", Kind::Integer { min: 1, max: 10_000 }, Absent::Example, "100", LIVE,
        "Requests at a time on one HTTP/2 connection to an endpoint, or as many as the endpoint allows; more of them open another connection."),
    key("http", "max_idle_per_endpoint", Kind::Integer { min: 0, max: 65_535 }, Absent::Example, "64", LIVE,
        "Idle connections kept to one endpoint by one worker."),
    key("http", "max_connections", Kind::Integer { min: 1, max: 10_000_000 }, Absent::Example, "100000", LIVE,
        "Client connections at a time in total; `when_full` says what becomes of further ones."),
    key("http", "when_full", Kind::OneOf(&["wait", "close"]), Absent::Example, "\"wait\"", LIVE,
        "Connections beyond `max_connections` wait in the kernel's queue, or are accepted and closed at once, so that clients go elsewhere."),
    key("http", "shed_after", duration(0, HOUR), Absent::Example, "\"1s\"", LIVE,
        "How long what is ready to go on may wait for a data worker. Beyond it the worker answers new requests 503 and accepts no connections, until the wait is half as long. 0 is never."),
    key("http", "max_connections_per_address", Kind::Integer { min: 0, max: 10_000_000 }, Absent::Example, "0", LIVE,
        "Client connections at a time from one address; further ones are closed at once. 0 is no limit."),
    key("http", "http3_max_age", duration(0, 365 * 24 * 3_600_000), Absent::Example, "\"24h\"", LIVE,
        "How long clients remember that there is HTTP/3, as answers over TLS tell them (`Alt-Svc`); 0s: they are not told."),
    key("http", "http3_retry_above", Kind::Integer { min: 0, max: 1_000_000 }, Absent::Example, "64", LIVE,
        "QUIC handshakes at a time in one worker beyond which a client has to prove its address before the box does anything for it (Retry), which costs it a round trip; 0: always."),
    key("http", "abort_on_half_close", Kind::Bool, Absent::Example, "false", LIVE,
        "Whether a client that closes its sending side before it has its answer is taken to have left."),
    key("http", "sticky_key_file", Kind::Text("path"), Absent::Means("a key of the box's own"), "\"/etc/sekisho/sticky.key\"", LIVE,
        "File with the key of the cookies by which clients stay with a pod (`sekisho.io/affinity`), 16 octets or more. Boxes with the same key understand each other's cookies. Without it each box keeps a key of its own in `state_dir`."),
    key("http", "error_pages", Kind::List("paths"), Absent::Means("the box's own words"), "[\"/etc/sekisho/5xx.html\", \"/etc/sekisho/404.html\"]", LIVE,
        "Files with the [pages](routing.md#error-pages) for errors that the box itself answers, where an Ingress has none for the status. Their names say for which: `503.html`, `4xx.json`, `5xx.txt`; 64 KiB at most. They are read again when the configuration is."),
    key("http", "compression", Kind::List("`\"zstd\"`, `\"br\"`, `\"gzip\"`"), Absent::Means("nothing is compressed"), "[\"zstd\", \"br\", \"gzip\"]", LIVE,
        "Codings in which answers are compressed for clients that take them, the preferred one first; `sekisho.io/compression` says otherwise for an Ingress."),
    key("http", "compression_min_bytes", Kind::Size { min: 0, max: 1 << 30 }, Absent::Example, "\"1KiB\"", LIVE,
        "Answers that are known to be smaller are not compressed."),
    key("http", "compression_types", Kind::List("media types, `\"text/*\"` too"), Absent::Means("text, scripts, JSON, XML, SVG, WebAssembly, plain fonts"), "[\"text/*\", \"application/json\"]", LIVE,
        "Media types of answers that are compressed."),
    key("http", "compression_memory", Kind::Size { min: 0, max: 1 << 40 }, Absent::Example, "\"64MiB\"", LIVE,
        "Memory of all answers that are being compressed; what would need more goes out as it is."),
    key("http", "buffer_memory", Kind::Size { min: 0, max: 1 << 40 }, Absent::Example, "\"64MiB\"", LIVE,
        "Memory of all bodies that are gathered (`sekisho.io/buffer-requests`, 503 beyond it; `sekisho.io/buffer-responses`, passed on as they come beyond it) or copied (`sekisho.io/mirror-service`, no copy beyond it)."),
    key("http", "max_mirrored_requests", Kind::Integer { min: 0, max: 1_000_000 }, Absent::Example, "256", LIVE,
        "Copies of requests at a time (`sekisho.io/mirror-service`); further ones are not made."),
    key("http", "access_log", Kind::Bool, Absent::Example, "true", LIVE,
        "Whether exchanges are written down; `[access_log]` says how."),

    key("access_log", "format", Kind::OneOf(&["json", "combined"]), Absent::Example, "\"json\"", LIVE,
        "A JSON object with all fields, or the combined format of Apache and nginx."),
    key("access_log", "file", Kind::Text("path"), Absent::Means("standard output"), "\"/var/log/sekisho/access.log\"", LIVE,
        "Where lines are appended. Opened anew within a second when it was renamed or removed, as logrotate does."),
    key("access_log", "sample_one_in", Kind::Integer { min: 1, max: 1_000_000 }, Absent::Example, "1", LIVE,
        "Of exchanges that went well (answered by an endpoint below 400, to the end) one in so many is written; all others always are."),

    key("tracing", "otlp", Kind::Text("http or https URL"), Absent::Required, "\"http://127.0.0.1:4318\"", LIVE,
        "Base URL of an OTLP collector over HTTP; `/v1/traces` is added to it."),
    key("tracing", "sample_one_in", Kind::Integer { min: 1, max: 1_000_000 }, Absent::Example, "100", LIVE,
        "Of requests one in so many is recorded. What a `traceparent` from `trusted_proxies` says goes before it."),
    key("tracing", "ca_file", Kind::Text("path"), Absent::Means("the public roots"), "\"/etc/sekisho/collector-ca.pem\"", LIVE,
        "PEM file with the roots that the collector's certificate is checked with."),

    key("key_sets", "from", Kind::List("https URLs"), Absent::Required, "[\"https://id.example.com/realms/\"]", LIVE,
        "What may be fetched: these URLs, and all that begin with one that ends with `/`. Whoever may write an Ingress can have the box ask there."),
    key("key_sets", "refresh", duration(1000, 24 * HOUR), Absent::Example, "\"10m\"", LIVE,
        "How often each key set is fetched."),
    key("key_sets", "ca_file", Kind::Text("path"), Absent::Means("the public roots"), "\"/etc/sekisho/id-ca.pem\"", LIVE,
        "PEM file with the roots that certificates there are checked with."),

    key("timeouts", "proxy_protocol", duration(10, 5 * MINUTE), Absent::Example, "\"5s\"", LIVE,
        "PROXY header, from accept to its last octet."),
    key("timeouts", "tls_handshake", duration(10, 5 * MINUTE), Absent::Example, "\"10s\"", LIVE,
        "TLS handshake, from accept to finished."),
    key("timeouts", "request_header", duration(10, 10 * MINUTE), Absent::Example, "\"10s\"", LIVE,
        "Request header section, from its first octet to its end; 408."),
    key("timeouts", "request_body", duration(10, 24 * HOUR), Absent::Example, "\"1m\"", LIVE,
        "Between two reads of a request body, until the answer begins; from then on `response_read` counts."),
    key("timeouts", "keep_alive", duration(10, 24 * HOUR), Absent::Example, "\"75s\"", LIVE,
        "Idle connection of a client."),
    key("timeouts", "connection_age", duration(10, 168 * HOUR), Absent::Example, "\"1h\"", LIVE,
        "Age of a client connection, after which it is closed at the end of the exchange."),
    key("timeouts", "response_write", duration(10, 24 * HOUR), Absent::Example, "\"1m\"", LIVE,
        "Between two writes to a client that does not read."),
    key("timeouts", "connect", duration(10, 5 * MINUTE), Absent::Example, "\"5s\"", LIVE,
        "Connecting to an endpoint."),
    key("timeouts", "response_read", duration(10, 24 * HOUR), Absent::Example, "\"1m\"", LIVE,
        "First octet of the response, and between two reads of it, if the request's body does not move either; 504."),
    key("timeouts", "upstream_idle", duration(10, 24 * HOUR), Absent::Example, "\"1m\"", LIVE,
        "Idle connection to an endpoint; keep it below the keep-alive of the applications."),
    key("timeouts", "tunnel_idle", duration(10, 168 * HOUR), Absent::Example, "\"1h\"", LIVE,
        "Idle WebSocket or other upgraded connection."),
    key("timeouts", "tcp_idle", duration(10, 168 * HOUR), Absent::Example, "\"10m\"", LIVE,
        "Idle TCP connection."),
    key("timeouts", "drain", duration(0, HOUR), Absent::Example, "\"30s\"", LIVE,
        "Draining at stop: HTTP exchanges."),
    key("timeouts", "drain_tunnels", duration(0, 24 * HOUR), Absent::Example, "\"4m\"", LIVE,
        "Draining at stop: upgraded and TCP connections."),
];

/// What one speaker is to another (RFC 9234).
const BGP_ROLES: &[&str] = &["provider", "customer", "peer", "rs", "rs-client"];
const ROLES: &[&str] = &["cluster", "upstream"];
const LIVE: Change = Change::Live;
const RESTART: Change = Change::Restart;
const MINUTE: u64 = 60 * 1000;
const HOUR: u64 = 60 * MINUTE;

const fn section(name: &'static str, repeated: bool, required: bool, meaning: &'static str) -> Section {
    Section {
        name,
        repeated,
        required,
        meaning,
    }
}

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    absent: Absent,
    example: &'static str,
    change: Change,
    meaning: &'static str,
) -> Key {
    Key {
        section,
        name,
        kind,
        absent,
        example,
        change,
        meaning,
    }
}

/// Bounds in milliseconds.
const fn duration(min: u64, max: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
    }
}

/// The key `name` of `section`.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

impl Section {
    /// The header as it is written in the file.
    pub fn header(&self) -> String {
        if self.repeated {
            format!("[[{}]]", self.name)
        } else {
            format!("[{}]", self.name)
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(what) | Self::TextOrInteger(what) => f.write_str(what),
            Self::List(what) => write!(f, "list of {what}"),
            Self::OneOf(words) => f.write_str(&one_of(words)),
            Self::Bool => f.write_str("true or false"),
            Self::Switch(section) => write!(f, "true, false, or a table with the keys of `[{section}]`"),
            Self::PeerAs => f.write_str("AS number, list of AS numbers, `\"internal\"` or `\"external\"`"),
            Self::Integer { min, max } => write!(f, "number, {min} to {max}"),
            Self::Size { min, max } => write!(f, "size, {} to {}", write_size(*min), write_size(*max)),
            Self::Duration { min, max } => {
                write!(
                    f,
                    "duration, {} to {}",
                    write_duration(*min),
                    write_duration(*max)
                )
            }
        }
    }
}

/// `"a"`, `"b"` or `"c"`.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The reference of every key, as Markdown: the part of `docs/configuration.md` that a test compares with this table.
pub fn reference() -> String {
    let mut out = String::new();
    for section in SECTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "### `{}`\n\n{}\n", section.header(), section.meaning);
        out.push_str("| Key | Type | Default | Change | Meaning |\n|---|---|---|---|---|\n");
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            let default = match key.absent {
                Absent::Required => "required".to_owned(),
                Absent::Example => format!("`{}`", key.example),
                Absent::Means(what) => what.to_owned(),
                Absent::NotSupportedYet => {
                    let _ = writeln!(out, "| `{}` | | | | {} |", key.name, key.meaning);
                    continue;
                }
            };
            let change = match key.change {
                Change::Live => "live",
                Change::Restart => "restart",
            };
            let kind = key.kind.to_string().replace('|', "\\|");
            let _ = writeln!(
                out,
                "| `{}` | {kind} | {default} | {change} | {} |",
                key.name, key.meaning
            );
        }
        out.push('\n');
    }
    out
}
