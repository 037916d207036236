//! What a table costs in memory, counted octet by octet, while it is full and while a peer with all of it goes.

#![expect(unsafe_code, reason = "an allocator that counts can be had in no other way")]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sekisho_bgp::rib::{KernelRoute, KernelTarget, Local, NextHops, PeerInfo, Rib};
use sekisho_bgp::wire::{AsPath, Attributes, NextHop, Nlri, Segment, Update};
use sekisho_config::model::{Asn, Multipath, PeerName, Prefix, Role, RouterId};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it came; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// The most since the last time that this was asked.
fn peak() -> usize {
    PEAK.swap(live(), Ordering::Relaxed)
}

const ROUTES: u32 = 200_000;

fn update(first: u32, count: u32, path: u32) -> Update {
    let nlri = |index: u32| {
        let address = Ipv4Addr::from_bits(0x1000_0000 + (index << 8));
        let next_hop = NextHop {
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
            link_local: None,
        };
        let prefix = Prefix::new(IpAddr::V4(address), 24).unwrap();
        (
            Nlri {
                path_id: None,
                prefix,
            },
            next_hop,
        )
    };
    let attributes = Attributes {
        as_path: AsPath {
            segments: vec![Segment::Sequence(vec![65001, 100_000 + path, 500_000])],
        },
        ..Attributes::default()
    };
    Update {
        announced: (first..first + count).map(nlri).collect(),
        attributes: Some(Arc::new(attributes)),
        ..Update::default()
    }
}

fn table() -> (Rib, PeerInfo) {
    let us = RouterId::try_from(Ipv4Addr::new(192, 0, 2, 10)).unwrap();
    let mut rib = Rib::new(Local {
        asn: Asn::try_from(65000).unwrap(),
        router_id: us,
        cluster_id: us,
        kernel_fallback: false,
        multipath: Multipath::default(),
    });
    let mut kernel = NextHops::default();
    let target = KernelTarget::Connected { interface: 2 };
    kernel
        .routes
        .insert("10.0.0.0/24".parse().unwrap(), KernelRoute { target, metric: 0 });
    kernel.links.insert(2, "eth0".into());
    rib.next_hops_changed(kernel);
    let address = Ipv4Addr::new(10, 0, 0, 2);
    let info = PeerInfo {
        name: PeerName::from(IpAddr::V4(address)),
        address: IpAddr::V4(address),
        asn: Asn::try_from(65001).unwrap(),
        router_id: RouterId::try_from(address).unwrap(),
        role: Role::Cluster,
        interface: Some(2),
    };
    (rib, info)
}

/// Fills a table and empties it; octets for each route: held, at most while they go, left over.
fn measure(step: u32) -> [f64; 3] {
    let (mut rib, info) = table();
    let (peer, _) = rib.peer_up(info);
    let before = live();
    let each = |octets: usize| octets.saturating_sub(before) as f64 / f64::from(ROUTES);
    for first in (0..ROUTES).step_by(step as usize) {
        let path = if step > 100 { 0 } else { first / step };
        rib.update(peer, &update(first, step, path));
    }
    assert_eq!(rib.counts(peer).used, ROUTES as usize);
    let held = each(live());
    peak();
    // As the speaker does it: each piece is handed over and let go.
    let (first, mut rest) = rib.begin_peer_down(peer, &[]);
    drop(first);
    while let Some(piece) = rib.go_on(&mut rest) {
        drop(piece);
    }
    drop(rest);
    [held, each(peak()), each(live())]
}

#[test]
fn octets_of_a_route() {
    // Prefixes of one UPDATE, and what a route may take: held, at most while all go at once.
    for (step, most_held, most_going) in [(800, 42.0, 80.0), (5, 105.0, 145.0)] {
        let [held, going, left] = measure(step);
        println!("{step} prefixes an UPDATE: {held:.1} held, {going:.1} while they go, {left:.1} left");
        assert!(
            held <= most_held,
            "{held} octets held for a route, {step} an UPDATE"
        );
        assert!(
            going <= most_going,
            "{going} octets while they go, {step} an UPDATE"
        );
        assert!(left < 1.0, "{left} octets are left of a route, {step} an UPDATE");
    }
}
