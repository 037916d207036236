//! Two threads on the loopback interface. Nothing here is judged by time, only by what comes of it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::time::timeout;

use super::*;
use crate::metrics::Metrics;

/// How long anything may take that needs two slow intervals, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

struct Side {
    handle: Handle,
    live: Arc<Live>,
    registry: Registry,
}

fn side(port: u16) -> Side {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).unwrap();
    Side {
        handle: Handle::new([port, port], metrics.bfd_discarded()),
        live: Arc::new(Live::new(metrics.bfd(&"peer".parse().unwrap()))),
        registry,
    }
}

impl Side {
    fn wanted(&self, peer: SocketAddr, local: IpAddr, multihop: bool) -> Wanted {
        Wanted {
            timing: Timing {
                interval: 50_000,
                multiplier: 20,
            },
            peer,
            local: Some(local),
            multihop,
            min_ttl: 255,
            auth: None,
            live: Arc::clone(&self.live),
        }
    }

    async fn until(&self, what: &str, is: impl Fn(&Live) -> bool) {
        let wait = async {
            while !is(&self.live) {
                self.handle.news().await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}: {:?}", self.live);
    }

    fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let values = family
            .get_metric()
            .iter()
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value());
        values.sum()
    }
}

/// A port that nobody has right now.
fn free_port(address: &str) -> u16 {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test]
async fn two_boxes_meet_and_part() {
    for (any, a, b, multihop) in [
        ("0.0.0.0", "127.0.0.1", "127.0.0.2", false),
        ("0.0.0.0", "127.0.0.1", "127.0.0.2", true),
        ("::", "::1", "::1", false),
    ] {
        let (mut one, mut other) = (side(free_port(any)), side(free_port(any)));
        let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
        let to = |side: &Side, address| SocketAddr::new(address, side.handle.ports[0]);
        one.handle
            .set(b, Some(one.wanted(to(&other, b), a, multihop)))
            .unwrap();
        other
            .handle
            .set(a, Some(other.wanted(to(&one, a), b, multihop)))
            .unwrap();
        one.until("up", |live| live.state() == State::Up).await;
        other.until("up", |live| live.state() == State::Up).await;
        assert!(one.handle.priority().is_some() && !one.handle.died());
        assert_eq!(one.handle.obstacle(&one.live, a.is_ipv4(), multihop), None);
        assert_eq!(one.metric("sekisho_bfd_up"), 1.0);
        // Taken away by the operator: no failure.
        one.handle.set(b, None).unwrap();
        other
            .until("told", |live| live.remote_state() == State::AdminDown)
            .await;
        other.until("down", |live| live.state() == State::Down).await;
        assert_eq!(
            (other.live.failures(), other.metric("sekisho_bfd_failures_total")),
            (0, 0.0)
        );
        one.handle
            .set(b, Some(one.wanted(to(&other, b), a, multihop)))
            .unwrap();
        other.until("up again", |live| live.state() == State::Up).await;
        // The end of the process says goodbye as well.
        drop(one);
        other
            .until("down again", |live| live.state() == State::Down)
            .await;
        assert_eq!(other.live.failures(), 0);
        assert!(other.metric("sekisho_bfd_packets_total") > 4.0);
    }
}

#[tokio::test]
async fn a_taken_port_is_said_and_tried_again() {
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut one = side(taken.local_addr().unwrap().port());
    let peer: IpAddr = "127.0.0.2".parse().unwrap();
    let wanted = one.wanted(SocketAddr::new(peer, 9), "127.0.0.1".parse().unwrap(), false);
    one.handle.set(peer, Some(wanted)).unwrap();
    let until = |want: bool| {
        let one = &one;
        async move {
            let wait = async {
                while one.handle.obstacle(&one.live, true, false).is_some() != want {
                    tokio::task::yield_now().await;
                }
            };
            assert!(timeout(PATIENCE, wait).await.is_ok(), "obstacle: {want}");
        }
    };
    until(true).await;
    let said = one.handle.obstacle(&one.live, true, false).unwrap();
    assert!(said.contains("another BFD daemon"), "{said}");
    drop(taken);
    until(false).await;
}
