//! Peers that do as the tables say, and the speaker that they speak with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use prometheus::Registry;
use sekisho_config::model::{
    Asn, Bgp, BgpIdentity, BgpRole, ErrorWait, MaxPrefixes, PassOn, Peer, PeerName, Prefix, Role, RouterId,
    Routing, SessionSettings, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Handle, Inputs, start};
use super::text::{Place, bytes, octets, whole};
use super::{At, Case, Kind, Want};
use crate::rib::{Relation, RouteQuery};
use crate::view::PeerView;
use crate::wire::{self, Families, Family, Message, Negotiated, Notification};

const PATIENCE: Duration = Duration::from_secs(60);

impl Kind {
    pub(super) fn internal(self) -> bool {
        matches!(
            self,
            Self::Internal | Self::OldInternal | Self::Paths | Self::Plain | Self::Bare
        )
    }

    pub(super) fn wide(self) -> bool {
        !matches!(self, Self::OldInternal | Self::OldExternal | Self::Bare)
    }

    /// What we are to it.
    fn our_role(self) -> Option<BgpRole> {
        Some(match self {
            Self::Lateral => BgpRole::Peer,
            Self::Customer => BgpRole::Customer,
            Self::Provider => BgpRole::Provider,
            _ => return None,
        })
    }

    fn asn(self) -> u32 {
        if self.internal() { 64512 } else { 65001 }
    }

    /// Its OPEN after the identifier: the optional parameters.
    fn parameters(self) -> &'static str {
        match self {
            Self::Internal => "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:,cap:41:0000fc00)",
            Self::External => "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:,cap:41:0000fde9)",
            Self::OldInternal | Self::OldExternal => {
                "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:)"
            }
            Self::Extended => {
                "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:,cap:41:0000fde9,cap:06:)"
            }
            Self::NextHops => {
                "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:,cap:41:0000fde9,cap:05:000100010002)"
            }
            Self::Paths => {
                "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:,cap:41:0000fc00,cap:45:0001010200020103)"
            }
            Self::Lateral => {
                "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:,cap:41:0000fde9,cap:09:04)"
            }
            Self::Customer => {
                "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:,cap:41:0000fde9,cap:09:00)"
            }
            Self::Provider => {
                "params(cap:01:00010001,cap:01:00020001,cap:02:,cap:46:,cap:41:0000fde9,cap:09:03)"
            }
            Self::Bare => "00",
            Self::Plain => "params(cap:01:00010001,cap:02:,cap:41:0000fc00)",
        }
    }

    fn open(self, place: Place) -> Vec<u8> {
        let [_, a, b, c] = place.address().octets();
        let fixed = format!("04 {:04x} 005a 0a{a:02x}{b:02x}{c:02x}", self.asn());
        let body = [bytes(&fixed, self, place), bytes(self.parameters(), self, place)].concat();
        whole(1, &body)
    }

    /// How our messages to it are read.
    fn negotiated(self) -> Negotiated {
        Negotiated {
            internal: self.internal(),
            four_octet_as: self.wide(),
            families: if matches!(self, Self::Plain | Self::Bare) {
                Families::NONE.with(Family::Ipv4Unicast)
            } else {
                Families::ALL
            },
            enhanced_route_refresh: !matches!(self, Self::Plain | Self::Bare),
            ..Negotiated::default()
        }
    }
}

/// A speaker with a peer for each case.
pub(super) struct Bench {
    handle: Handle,
    listening: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bench {
    pub(super) async fn start(cases: &[Case]) -> Self {
        let asn = |number| Asn::try_from(number).unwrap();
        let peers = cases.iter().enumerate().map(|(number, case)| {
            let address = Place::new(number).address();
            Peer {
                name: PeerName::from(std::net::IpAddr::from(address)),
                address: address.into(),
                interface: None,
                port: 179,
                asn: asn(case.kind.asn()).into(),
                role: Role::Upstream,
                passive: true,
                transport: Transport::default(),
                max_prefixes: MaxPrefixes::default(),
                enforce_first_as: true,
                import: vec![],
                export: vec![],
                pass_on: PassOn::default(),
                session: SessionSettings {
                    role: case.kind.our_role(),
                    role_strict: case.kind.our_role().is_some(),
                    shutdown: None,
                },
                bfd: None,
            }
        });
        let bgp = Bgp {
            bmp: vec![],
            identity: BgpIdentity {
                asn: asn(64512),
                router_id: RouterId::try_from(Ipv4Addr::new(192, 0, 2, 10)).unwrap(),
                hold_time: Duration::from_secs(90),
                cluster_id: RouterId::try_from(Ipv4Addr::new(192, 0, 2, 10)).unwrap(),
                restart: sekisho_config::model::GracefulRestart::default(),
            },
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            install_routes: false,
            table: 254,
            nexthop_objects: true,
            multipath: sekisho_config::model::Multipath::default(),
            pod_prefixes: vec![],
            error_wait: ErrorWait::default(),
            discover_pod_prefixes: true,
            peers: peers.collect(),
            peer_ranges: vec![],
        };
        let stop = CancellationToken::new();
        let inputs = Inputs {
            bgp,
            routing: Routing::Required,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        let (handle, mut events) = start(inputs, &Registry::new()).await.unwrap();
        // Nobody wants to know, but the speaker does not want to wait either.
        TaskTracker::new().spawn(async move { while events.recv().await.is_some() {} });
        let listening = loop {
            match handle
                .listeners()
                .await
                .first()
                .and_then(|listener| listener.bound)
            {
                Some(bound) => break bound,
                None => sleep(Duration::from_millis(5)).await,
            }
        };
        Self {
            handle,
            listening,
            stop,
        }
    }

    async fn has(&self, prefix: &str, place: Place) -> bool {
        let prefix: Prefix = prefix.parse().unwrap();
        let query = RouteQuery {
            prefix: Some((Relation::Exact, prefix)),
            peer: Some(PeerName::from(std::net::IpAddr::from(place.address()))),
            ..RouteQuery::default()
        };
        !self.handle.routes(query).await.is_empty()
    }

    async fn view(&self, place: Place) -> PeerView {
        let name = PeerName::from(std::net::IpAddr::from(place.address()));
        let peers = self.handle.peers().await;
        peers.into_iter().find(|peer| peer.name == name).unwrap()
    }
}

/// One connection.
struct Peered {
    stream: TcpStream,
    input: BytesMut,
    negotiated: Negotiated,
}

/// What came from the speaker.
#[derive(Debug)]
enum Heard {
    Message(Message),
    End,
}

impl Peered {
    async fn next(&mut self) -> Heard {
        loop {
            if let Some(frame) = wire::frame(&mut self.input, &self.negotiated).unwrap() {
                return Heard::Message(wire::decode(&frame, &self.negotiated).unwrap());
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return Heard::End;
            }
        }
    }

    /// The NOTIFICATION that ends the connection, if there is one.
    async fn end(&mut self) -> Option<Notification> {
        loop {
            match self.next().await {
                Heard::Message(Message::Notification(notification)) => return Some(notification),
                Heard::Message(_) => {}
                Heard::End => return None,
            }
        }
    }

    async fn send(&mut self, octets: &[u8]) {
        // The speaker may have closed: then its last words are what counts.
        let _ = self.stream.write_all(octets).await;
    }
}

pub(super) async fn run(bench: &Bench, case: Case, place: Place) -> Result<(), String> {
    match timeout(PATIENCE, attempt(bench, case, place)).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "nothing came of it; {:?}",
            bench.view(place).await.last_error
        )),
    }
}

async fn attempt(bench: &Bench, case: Case, place: Place) -> Result<(), String> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(place.address().into(), 0)).unwrap();
    let mut peer = Peered {
        stream: socket.connect(bench.listening).await.unwrap(),
        input: BytesMut::new(),
        negotiated: Negotiated::default(),
    };
    let Heard::Message(Message::Open(_)) = peer.next().await else {
        return Err("no OPEN came".into());
    };
    peer.negotiated = case.kind.negotiated();
    let octets = octets(case.octets, case.kind, place);
    if case.at == At::Connected {
        peer.send(&octets).await;
        return match case.want {
            Want::Fine => stands(bench, &mut peer, place).await,
            want => ends(bench, &mut peer, place, want).await,
        };
    }
    peer.send(&case.kind.open(place)).await;
    if case.at == At::Opened {
        peer.send(&octets).await;
        return match case.want {
            Want::Fine => stands(bench, &mut peer, place).await,
            want => ends(bench, &mut peer, place, want).await,
        };
    }
    peer.send(&wire::encode_keepalive()).await;
    let withdraws = matches!(case.want, Want::Withdrawn | Want::Gone | Want::Kept);
    if withdraws {
        peer.send(&super::text::octets(&seed(case.kind), case.kind, place))
            .await;
        until(|| present(bench, case, place)).await;
    }
    peer.send(&octets).await;
    if matches!(case.want, Want::Reset(..) | Want::Closed) {
        return ends(bench, &mut peer, place, case.want).await;
    }
    peer.send(&super::text::octets(&sentinel(case.kind), case.kind, place))
        .await;
    tokio::select! {
        ended = peer.end() => {
            return Err(format!("the connection ended by {:?}", ended.map(|notification| notification.to_string())));
        }
        () = until(|| bench.has_owned(place.sentinel(), place)) => {}
    }
    let (present, faults) = (
        present(bench, case, place).await,
        bench.view(place).await.faulty_updates,
    );
    let right = match case.want {
        Want::Fine => true,
        Want::Announced => present && faults == 0,
        Want::Discarded => present && faults == 1,
        Want::Withdrawn => !present && faults == 1,
        Want::Gone => !present && faults == 0,
        Want::Kept => present,
        Want::Reset(..) | Want::Closed => false,
    };
    if right {
        Ok(())
    } else {
        Err(format!("prefix there: {present}, faulty UPDATEs: {faults}"))
    }
}

impl Bench {
    async fn has_owned(&self, prefix: String, place: Place) -> bool {
        self.has(&prefix, place).await
    }
}

/// Whether the case's prefix is there, in the family that the case is about.
async fn present(bench: &Bench, case: Case, place: Place) -> bool {
    if ["Q", "REACH"].iter().any(|word| case.octets.contains(word)) {
        bench.has(&place.prefix6(), place).await
    } else {
        bench.has(&place.prefix(), place).await
    }
}

async fn until<F: Future<Output = bool>>(mut right: impl FnMut() -> F) {
    while !right().await {
        sleep(Duration::from_millis(10)).await;
    }
}

/// What was announced before: the prefix in both families, where there are both.
fn seed(kind: Kind) -> String {
    match kind {
        Kind::Paths => {
            "update | BASE | 00000001 P ; update | ORIGIN PATH 80:0e:00020110+HOP6+00+00000001+Q |".into()
        }
        Kind::Plain | Kind::Bare => "update | BASE | P".into(),
        _ => "update | BASE | P ; update | REACH ORIGIN PATH |".into(),
    }
}

fn sentinel(kind: Kind) -> String {
    match kind {
        Kind::Paths => "update | BASE | 00000001 SENTINEL".into(),
        _ => "update | BASE | SENTINEL".into(),
    }
}

/// The OPEN was taken: the session comes to stand.
async fn stands(bench: &Bench, peer: &mut Peered, place: Place) -> Result<(), String> {
    peer.send(&wire::encode_keepalive()).await;
    loop {
        match peer.next().await {
            Heard::Message(Message::Update(_)) => return Ok(()),
            Heard::Message(Message::Notification(notification)) => {
                return Err(format!("the connection ended by {notification}"));
            }
            Heard::Message(_) => {}
            Heard::End => {
                return Err(format!(
                    "the connection ended; {:?}",
                    bench.view(place).await.last_error
                ));
            }
        }
    }
}

async fn ends(bench: &Bench, peer: &mut Peered, place: Place, want: Want) -> Result<(), String> {
    let got = peer.end().await;
    match (want, &got) {
        (Want::Closed, None) => return Ok(()),
        (Want::Reset(code, subcode, data), Some(got))
            if (got.code, got.subcode) == (code, subcode)
                && data.is_none_or(|data| bytes(data, Kind::Internal, place) == got.data) => {}
        _ => {
            return Err(format!(
                "the connection ended by {:?}",
                got.map(|got| got.to_string())
            ));
        }
    }
    if !matches!(peer.next().await, Heard::End) {
        return Err("something came after the NOTIFICATION".into());
    }
    // The same in words for the operator.
    let notification = got.map(|got| got.to_string()).unwrap_or_default();
    let told = || async {
        let error = bench.view(place).await.last_error;
        error.is_some_and(|error| error.text.contains(&notification))
    };
    until(told).await;
    Ok(())
}
