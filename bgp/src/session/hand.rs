//! A peer made by hand, for tests.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use sekisho_config::model::RouterId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::{
    self, Attributes, Capability, Families, Family, Message, Negotiated, NextHop, Nlri, Open, Update,
    UpdateOut,
};

/// A peer made by hand.
pub(crate) struct Hand<S> {
    pub(crate) stream: S,
    input: BytesMut,
    pub(crate) negotiated: Negotiated,
    last: u8,
    /// Whether it can restart gracefully.
    pub(crate) restarts: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Hand<S> {
    /// On a stream, with the identifier 192.0.2.`last`.
    pub(crate) fn new(stream: S, last: u8) -> Self {
        Self {
            stream,
            last,
            restarts: false,
            input: BytesMut::new(),
            negotiated: Negotiated {
                internal: true,
                four_octet_as: true,
                families: Families::ALL,
                enhanced_route_refresh: true,
                ..Negotiated::default()
            },
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(frame) = wire::frame(&mut self.input, &self.negotiated).unwrap() {
                return Some(wire::decode(&frame, &self.negotiated).unwrap());
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next message that is no KEEPALIVE.
    pub(crate) async fn said(&mut self) -> Option<Message> {
        loop {
            match self.next().await {
                Some(Message::Keepalive) => {}
                other => return other,
            }
        }
    }

    pub(crate) async fn update(&mut self) -> Update {
        match self.said().await {
            Some(Message::Update(update)) => update,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.unwrap();
    }

    pub(crate) fn open(last: u8) -> Bytes {
        Self::open_with(last, vec![])
    }

    /// Its OPEN, with more capabilities.
    pub(crate) fn open_with(last: u8, more: Vec<Capability>) -> Bytes {
        let mut capabilities = vec![
            Capability::Multiprotocol(Family::Ipv4Unicast),
            Capability::Multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::FourOctetAs(64512),
            Capability::EnhancedRouteRefresh,
        ];
        capabilities.extend(more);
        let open = Open {
            my_as: 64512,
            hold_time: 90,
            router_id: RouterId::try_from(Ipv4Addr::new(192, 0, 2, last)).unwrap(),
            capabilities,
        };
        wire::encode_open(&open).unwrap()
    }

    /// Its OPEN, with graceful restart for IPv4.
    fn restarting_open(last: u8) -> Bytes {
        Self::open_with(
            last,
            vec![Capability::GracefulRestart {
                restarted: false,
                notification: false,
                time: 120,
                families: vec![(1, 1, true)],
            }],
        )
    }

    /// Answers an OPEN with ours and confirms.
    pub(crate) async fn establish(&mut self) {
        let open = if self.restarts {
            Self::restarting_open(self.last)
        } else {
            Self::open(self.last)
        };
        self.establish_with(&open).await;
    }

    /// The same with this OPEN.
    pub(crate) async fn establish_with(&mut self, open: &[u8]) {
        assert!(matches!(self.next().await, Some(Message::Open(_))));
        self.send(open).await;
        self.send(&wire::encode_keepalive()).await;
    }

    /// An UPDATE that announces `prefixes`.
    pub(crate) fn announcement(&self, prefixes: &[&str], next_hop: &str) -> Vec<u8> {
        let plain = |prefix: &&str| Nlri {
            path_id: None,
            prefix: prefix.parse().unwrap(),
        };
        let prefixes: Vec<_> = prefixes.iter().map(plain).collect();
        let what = UpdateOut::Announce {
            prefixes: &prefixes,
            next_hop: NextHop {
                address: next_hop.parse().unwrap(),
                link_local: None,
            },
            attributes: &Attributes::default(),
        };
        wire::encode_update(what, &self.negotiated).unwrap().concat()
    }
}
