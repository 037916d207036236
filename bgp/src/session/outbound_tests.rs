use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use sekisho_config::model::Prefix;
use tokio::time::Instant;

use super::outbound::{Adverts, Next, NextHops, Outbound, Standing, Wanted};
use crate::policy::export::{Advert, Via};
use crate::wire::{self, Attributes, Families, Family, Message, Negotiated, NextHop, Nlri, RawAttribute};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn standing(add_path: bool) -> Standing {
    let families = if add_path { Families::ALL } else { Families::NONE };
    Standing {
        negotiated: Negotiated {
            internal: true,
            four_octet_as: true,
            families: Families::ALL,
            add_path_send: families,
            ..Negotiated::default()
        },
        local: Some("10.0.0.10".parse().unwrap()),
        peer: PEER,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        number: 1,
        pods: false,
    }
}

/// RFC 4724 section 4.1: whoever waits for us lets go of what it has not heard when the marker comes.
#[tokio::test(start_paused = true)]
async fn the_end_marker_waits_until_a_restart_is_over() {
    let session = standing(false);
    let (mut outbound, mut table) = (Outbound::default(), Table::default());
    let now = Instant::now();
    let told = pods(&[("10.1.0.0/26", 0, advert(1, given(11), None))]);
    outbound.reset(session);
    outbound.want(Wanted {
        unfinished: true,
        ..told.clone()
    });
    table.drain(&mut outbound, &session, now);
    assert_eq!((table.paths.len(), table.ended), (1, 0));
    outbound.want(told);
    table.drain(&mut outbound, &session, now);
    assert_eq!((table.paths.len(), table.ended), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_end_marker_waits_until_it_it_is_known_what_the_peer_is_to_hear() {
    let session = Standing {
        pods: true,
        ..standing(false)
    };
    let (mut outbound, mut table) = (Outbound::default(), Table::default());
    let now = Instant::now();
    outbound.reset(session);
    table.drain(&mut outbound, &session, now);
    assert_eq!(table.updates, 0, "an end before the beginning");
    outbound.want(Wanted {
        sessions: 1,
        ..pods(&[("10.1.0.0/26", 0, advert(1, given(11), None))])
    });
    table.drain(&mut outbound, &session, now);
    assert_eq!((table.paths.len(), table.ended), (1, 2));
    // The next session of the same peer.
    let session = Standing { number: 2, ..session };
    outbound.reset(session);
    table.drain(&mut outbound, &session, now);
    assert_eq!(table.ended, 2);
    outbound.want(Wanted {
        sessions: 2,
        ..pods(&[])
    });
    table.drain(&mut outbound, &session, now);
    assert_eq!((table.paths.len(), table.ended), (0, 4));
}

fn advert(med: u32, next_hop: Via, from: Option<IpAddr>) -> Arc<Advert> {
    Arc::new(Advert {
        attributes: Arc::new(Attributes {
            med: Some(med),
            ..Attributes::default()
        }),
        next_hop,
        from,
    })
}

fn given(last: u8) -> Via {
    Via::Given(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
}

fn pods(adverts: &[(&str, u32, Arc<Advert>)]) -> Wanted {
    let key = |prefix: &str, id: u32| (prefix.parse().unwrap(), id);
    Wanted {
        pods: adverts
            .iter()
            .map(|(prefix, id, advert)| (key(prefix, *id), Arc::clone(advert)))
            .collect(),
        ..Wanted::default()
    }
}

/// What a peer makes of messages: MED and next hop of each path.
#[derive(Default)]
struct Table {
    paths: BTreeMap<Nlri, (u32, NextHop)>,
    updates: usize,
    ended: usize,
}

impl Table {
    fn hear(&mut self, messages: Vec<Bytes>, session: &Standing) {
        // The other end of the same agreement.
        let negotiated = Negotiated {
            add_path_receive: session.negotiated.add_path_send,
            ..session.negotiated
        };
        for message in messages {
            assert!(message.len() <= negotiated.max_send_length());
            let mut input = BytesMut::from(&message[..]);
            let frame = wire::frame(&mut input, &negotiated).unwrap().unwrap();
            let Message::Update(update) = wire::decode(&frame, &negotiated).unwrap() else {
                panic!("no UPDATE");
            };
            assert!(update.faults.is_empty(), "{:?}", update.faults);
            self.updates += 1;
            self.ended += usize::from(update.end_of_rib.is_some());
            for nlri in update.withdrawn {
                assert!(self.paths.remove(&nlri).is_some(), "{nlri:?} was never announced");
            }
            let med = update
                .attributes
                .and_then(|attributes| attributes.med)
                .unwrap_or(0);
            for (nlri, next_hop) in update.announced {
                self.paths.insert(nlri, (med, next_hop));
            }
        }
    }

    fn drain(&mut self, outbound: &mut Outbound, session: &Standing, now: Instant) {
        while let Some(Next::Updates(messages)) = outbound.next(now) {
            self.hear(messages, session);
        }
    }

    fn shown(&self) -> Vec<String> {
        let shown = |(nlri, (med, next_hop)): (&Nlri, &(u32, NextHop))| {
            let id = nlri.path_id.map(|id| format!(" {id}")).unwrap_or_default();
            format!("{}{id} {med} {}", nlri.prefix, next_hop.address)
        };
        self.paths.iter().map(shown).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_differs_is_said_and_nothing_else() {
    let session = standing(false);
    let (mut outbound, mut table) = (Outbound::default(), Table::default());
    let now = Instant::now();
    let first = advert(1, given(11), None);
    outbound.want(pods(&[
        ("10.1.0.0/26", 0, Arc::clone(&first)),
        ("10.2.0.0/26", 0, Arc::clone(&first)),
    ]));
    outbound.reset(session);
    table.drain(&mut outbound, &session, now);
    assert_eq!(
        table.shown(),
        ["10.1.0.0/26 1 10.0.0.11", "10.2.0.0/26 1 10.0.0.11"]
    );
    assert_eq!(
        (table.updates, table.ended),
        (3, 2),
        "one UPDATE for both, and two markers"
    );

    // The same again, as another object: silence. Another MED: an implicit withdrawal. Not wanted: a withdrawal.
    let same = advert(1, given(11), None);
    outbound.want(pods(&[("10.1.0.0/26", 0, same), ("10.2.0.0/26", 0, first)]));
    table.drain(&mut outbound, &session, now);
    assert_eq!(table.updates, 3);
    outbound.want(pods(&[("10.2.0.0/26", 0, advert(2, given(12), None))]));
    table.drain(&mut outbound, &session, now);
    assert_eq!(table.shown(), ["10.2.0.0/26 2 10.0.0.12"]);
    assert_eq!(table.updates, 5);

    // What changes while nobody looks and is back again leaves no trace.
    outbound.want(pods(&[]));
    outbound.want(pods(&[("10.2.0.0/26", 0, advert(2, given(12), None))]));
    table.drain(&mut outbound, &session, now);
    assert_eq!(table.updates, 5);
}

#[tokio::test(start_paused = true)]
async fn a_peer_does_not_hear_itself() {
    let session = standing(true);
    let (mut outbound, mut table) = (Outbound::default(), Table::default());
    let mut reflected = (*advert(1, given(12), Some("10.0.0.2".parse().unwrap()))).clone();
    let mut attributes = (*reflected.attributes).clone();
    attributes.originator_id = Some(Ipv4Addr::new(10, 0, 0, 1));
    reflected.attributes = Arc::new(attributes);
    outbound.want(pods(&[
        ("10.1.0.0/26", 2, advert(1, given(11), Some(PEER))),
        (
            "10.1.0.0/26",
            3,
            advert(3, given(11), Some("10.0.0.2".parse().unwrap())),
        ),
        ("10.2.0.0/26", 2, Arc::new(reflected)),
        ("10.3.0.0/26", 2, advert(1, Via::Given(PEER), None)),
        (
            "10.4.0.0/26",
            2,
            advert(1, Via::Given("2001:db8::1".parse().unwrap()), None),
        ),
        ("2001:db8::/64", 2, advert(1, given(11), None)),
        (
            "2001:db8:1::/64",
            2,
            advert(1, Via::Given("fe80::1".parse().unwrap()), None),
        ),
    ]));
    outbound.reset(session);
    table.drain(&mut outbound, &session, Instant::now());
    assert_eq!(table.shown(), ["10.1.0.0/26 3 3 10.0.0.11"]);
}

#[tokio::test(start_paused = true)]
async fn announcements_wait_for_their_interval_and_withdrawals_do_not() {
    let session = standing(false);
    let (mut outbound, mut table) = (Outbound::default(), Table::default());
    let paced = |wanted: Wanted| Wanted {
        interval: Duration::from_secs(5),
        ..wanted
    };
    let one = advert(1, given(11), None);
    outbound.want(paced(pods(&[("10.1.0.0/26", 0, Arc::clone(&one))])));
    outbound.reset(session);
    let start = Instant::now();
    table.drain(&mut outbound, &session, start);
    assert_eq!(table.paths.len(), 1, "the first round goes out at once");
    outbound.want(paced(pods(&[("10.2.0.0/26", 0, one)])));
    table.drain(&mut outbound, &session, start + Duration::from_secs(1));
    assert_eq!(table.paths.len(), 0, "withdrawn, and nothing announced");
    let due = outbound.deadline().unwrap();
    assert_eq!(due, start + Duration::from_secs(5));
    table.drain(&mut outbound, &session, due);
    assert_eq!(table.shown(), ["10.2.0.0/26 1 10.0.0.11"]);
    assert_eq!(outbound.deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_to_say_withdraws_what_it_replaces() {
    let session = standing(false);
    let (mut outbound, mut table) = (Outbound::default(), Table::default());
    let now = Instant::now();
    outbound.want(pods(&[("10.1.0.0/26", 0, advert(1, given(11), None))]));
    outbound.reset(session);
    table.drain(&mut outbound, &session, now);
    let huge = Advert {
        attributes: Arc::new(Attributes {
            unknown: vec![RawAttribute {
                flags: 0xc0,
                code: 99,
                value: vec![0; 4090].into(),
            }],
            ..Attributes::default()
        }),
        next_hop: given(11),
        from: None,
    };
    outbound.want(pods(&[("10.1.0.0/26", 0, Arc::new(huge))]));
    table.drain(&mut outbound, &session, now);
    assert_eq!(table.shown(), [""; 0]);
    assert_eq!(outbound.count(), 0);
    // A refresh does not find what was never said, and a path that fits is said again.
    outbound.refresh(Family::Ipv4Unicast);
    table.drain(&mut outbound, &session, now);
    outbound.want(pods(&[("10.1.0.0/26", 0, advert(2, given(11), None))]));
    table.drain(&mut outbound, &session, now);
    assert_eq!(table.shown(), ["10.1.0.0/26 2 10.0.0.11"]);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_of_a_kind_are_packed() {
    let session = standing(false);
    let (mut outbound, mut table) = (Outbound::default(), Table::default());
    let (even, odd) = (advert(2, given(11), None), advert(3, given(12), None));
    let pods: Adverts = (0..10_000_u32)
        .map(|n| {
            let prefix = Prefix::new(Ipv4Addr::from(0x0a00_0000 + (n << 6)).into(), 26).unwrap();
            ((prefix, 0), Arc::clone(if n % 2 == 0 { &even } else { &odd }))
        })
        .collect();
    outbound.want(Wanted {
        pods,
        ..Wanted::default()
    });
    outbound.reset(session);
    table.drain(&mut outbound, &session, Instant::now());
    assert_eq!(table.paths.len(), 10_000);
    // 50,000 octets of prefixes in messages of 4096, in batches.
    assert!(table.updates <= 24, "{} UPDATEs", table.updates);
}

proptest! {
    /// Whatever is wanted, in whatever order, with refreshes and new sessions between: the peer ends up with just that.
    #[test]
    fn the_peer_has_what_is_wanted(
        steps in proptest::collection::vec((proptest::collection::vec((0u8..6, 2u32..4, 0u32..3, 0u8..3), 0..8), 0u8..5, any::<bool>()), 1..12),
        add_path in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = runtime.enter();
        let session = standing(add_path);
        let (mut outbound, mut table) = (Outbound::default(), Table::default());
        let now = Instant::now();
        outbound.reset(session);
        for (wanted, then, own) in steps {
            let next_hops = NextHops {
                ipv6: own.then(|| "fd00::10".parse().unwrap()),
                ..NextHops::default()
            };
            let adverts: Adverts = wanted
                .iter()
                .map(|(block, id, med, hop)| {
                    let id = if add_path { *id } else { 0 };
                    if *block > 3 {
                        let prefix = Prefix::new(Ipv6Addr::new(0xfd00, (*block).into(), 0, 0, 0, 0, 0, 0).into(), 64).unwrap();
                        return ((prefix, id), advert(*med, Via::Own, None));
                    }
                    let prefix = Prefix::new(Ipv4Addr::new(10, 1, *block, 0).into(), 24).unwrap();
                    // Hop 1 is the peer itself, which is not told so.
                    ((prefix, id), advert(*med, given(*hop), None))
                })
                .collect();
            outbound.want(Wanted { pods: adverts.clone(), next_hops, ..Wanted::default() });
            match then {
                0 => outbound.refresh(Family::Ipv4Unicast),
                1 => {
                    outbound.forget();
                    outbound.reset(session);
                    table.paths.clear();
                }
                // Nothing is sent before the next change comes.
                2 => continue,
                _ => {}
            }
            table.drain(&mut outbound, &session, now);
            let want: BTreeMap<Nlri, u32> = adverts
                .iter()
                .filter(|(_, advert)| advert.next_hop != Via::Given(PEER))
                .filter(|(_, advert)| advert.next_hop != Via::Own || own)
                .map(|((prefix, id), advert)| {
                    let nlri = Nlri { path_id: add_path.then_some(*id), prefix: *prefix };
                    (nlri, advert.attributes.med.unwrap())
                })
                .collect();
            let have: BTreeMap<Nlri, u32> = table.paths.iter().map(|(nlri, (med, _))| (*nlri, *med)).collect();
            prop_assert_eq!(have, want);
            prop_assert_eq!(outbound.count(), table.paths.len());
            prop_assert!(outbound.is_shared(), "nothing of its own is kept of what all peers hear");
        }
    }
}
