use super::*;
use crate::wire::AsPath;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Sample {
    attributes: Attributes,
    external: bool,
    router_id: RouterId,
    address: IpAddr,
    peer: PeerName,
    path_id: Option<u32>,
    cost: Result<u32, Ineligible>,
}

impl Sample {
    /// Equal to every other sample until the router id.
    fn new(last: u8) -> Self {
        Self {
            attributes: Attributes {
                as_path: AsPath {
                    segments: vec![Segment::Sequence(vec![64513])],
                },
                ..Attributes::default()
            },
            external: true,
            router_id: RouterId::try_from(Ipv4Addr::new(10, 0, 0, last)).unwrap(),
            address: IpAddr::from([10, 0, 0, last]),
            peer: PeerName::from(IpAddr::from([10, 0, 0, last])),
            path_id: None,
            cost: Ok(0),
        }
    }

    fn with(last: u8, change: impl FnOnce(&mut Self)) -> Self {
        let mut sample = Self::new(last);
        change(&mut sample);
        sample
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            attributes: &self.attributes,
            external: self.external,
            router_id: self.router_id,
            peer_address: self.address,
            peer: &self.peer,
            path_id: self.path_id,
            cost: self.cost,
            owner: false,
        }
    }
}

fn run(samples: &[Sample]) -> Vec<Place> {
    decide(
        &samples.iter().map(Sample::candidate).collect::<Vec<_>>(),
        Multipath::default(),
    )
}

fn sequence(numbers: &[u32]) -> AsPath {
    AsPath {
        segments: vec![Segment::Sequence(numbers.to_vec())],
    }
}

#[test]
fn every_step_names_itself() {
    let router = |last| Ipv4Addr::new(10, 0, 0, last);
    // The winner is 10.0.0.9, so that no step is won by the tie-break by chance.
    let cases: Vec<(&str, Sample, Sample, Lost)> = vec![
        (
            "LOCAL_PREF",
            Sample::with(9, |s| {
                s.external = false;
                s.attributes.local_preference = Some(2_147_483_135);
                s.attributes.as_path = sequence(&[1, 2, 3]);
            }),
            Sample::with(1, |s| {
                s.external = false;
                s.attributes.local_preference = Some(2_147_482_623);
            }),
            Lost::LocalPreference {
                have: 2_147_482_623,
                best: 2_147_483_135,
            },
        ),
        (
            "LLGR_STALE is the last choice, whatever its LOCAL_PREF",
            Sample::with(9, |s| s.external = false),
            Sample::with(1, |s| {
                s.external = false;
                s.attributes.local_preference = Some(500);
                s.attributes.communities = vec![0xffff_0006];
            }),
            Lost::LongLivedStale,
        ),
        (
            "LOCAL_PREF of an external peer is ignored",
            Sample::with(9, |s| s.external = false),
            Sample::with(1, |s| {
                s.attributes.local_preference = Some(500);
                s.attributes.as_path = sequence(&[64513, 64514]);
            }),
            Lost::AsPathLength { have: 2, best: 1 },
        ),
        (
            "AS_PATH: a set counts one",
            Sample::with(9, |s| {
                s.attributes.as_path.segments = vec![Segment::Set(vec![1, 2, 3])]
            }),
            Sample::with(1, |s| s.attributes.as_path = sequence(&[64513, 64513])),
            Lost::AsPathLength { have: 2, best: 1 },
        ),
        (
            "ORIGIN",
            Sample::with(9, |s| s.attributes.med = Some(5)),
            Sample::with(1, |s| s.attributes.origin = Origin::Incomplete),
            Lost::Origin {
                have: Origin::Incomplete,
                best: Origin::Igp,
            },
        ),
        (
            "MED of one AS; absent is zero",
            Sample::new(9),
            Sample::with(1, |s| s.attributes.med = Some(1)),
            Lost::Med { have: 1, best: 0 },
        ),
        (
            "external before internal",
            Sample::with(9, |s| s.cost = Ok(3)),
            Sample::with(1, |s| s.external = false),
            Lost::Internal,
        ),
        (
            "nearer next hop",
            Sample::new(9),
            Sample::with(1, |s| s.cost = Ok(1)),
            Lost::Cost { have: 1, best: 0 },
        ),
        (
            "router id",
            Sample::new(1),
            Sample::new(9),
            Lost::RouterId {
                have: router(9),
                best: router(1),
            },
        ),
        (
            "ORIGINATOR_ID in place of the router id",
            Sample::with(9, |s| s.attributes.originator_id = Some(router(1))),
            Sample::new(2),
            Lost::RouterId {
                have: router(2),
                best: router(1),
            },
        ),
        (
            "CLUSTER_LIST",
            Sample::with(9, |s| {
                s.attributes.originator_id = Some(router(1));
                s.attributes.cluster_list = vec![router(9)];
            }),
            Sample::with(2, |s| {
                s.attributes.originator_id = Some(router(1));
                s.attributes.cluster_list = vec![router(9), router(8)];
            }),
            Lost::ClusterListLength { have: 2, best: 1 },
        ),
        (
            "peer address",
            Sample::with(2, |s| s.router_id = RouterId::try_from(router(1)).unwrap()),
            Sample::with(9, |s| s.router_id = RouterId::try_from(router(1)).unwrap()),
            Lost::PeerAddress {
                have: IpAddr::V4(router(9)),
                best: IpAddr::V4(router(2)),
            },
        ),
        (
            "path identifier",
            Sample::with(1, |s| s.path_id = Some(1)),
            Sample::with(1, |s| s.path_id = Some(2)),
            Lost::PathId,
        ),
        (
            "an unreachable next hop loses to anything",
            Sample::with(9, |s| s.attributes.as_path = sequence(&[1, 2, 3, 4])),
            Sample::with(1, |s| s.cost = Err(Ineligible::NextHopUnreachable)),
            Lost::Ineligible {
                why: Ineligible::NextHopUnreachable,
            },
        ),
    ];
    for (name, winner, loser, lost) in cases {
        for (samples, best) in [([winner.clone(), loser.clone()], 0), ([loser, winner], 1)] {
            let places = run(&samples);
            assert_eq!((places[0].index, places[0].lost), (best, None), "{name}");
            assert_eq!(places[1].lost, Some(lost), "{name}");
            assert!(!lost.to_string().is_empty());
        }
    }
}

#[test]
fn meds_of_different_neighbours_do_not_meet() {
    // The textbook case: A and C are of one AS, C has the lower MED, B is of another; a pairwise comparison
    // would depend on the order of arrival.
    let a = Sample::with(1, |s| s.attributes.med = Some(200));
    let b = Sample::with(2, |s| s.attributes.as_path = sequence(&[64999]));
    let c = Sample::with(3, |s| s.attributes.med = Some(100));
    for samples in [
        [a.clone(), b.clone(), c.clone()],
        [c.clone(), b.clone(), a.clone()],
        [b.clone(), a.clone(), c.clone()],
    ] {
        let places = run(&samples);
        let at = |place: usize| samples[places[place].index].address;
        assert_eq!([at(0), at(1), at(2)], [b.address, c.address, a.address]);
        assert_eq!(places[2].lost, Some(Lost::Med { have: 200, best: 100 }));
        assert!(places[1].used, "equal until the router id");
        assert!(!places[2].used);
    }
}

#[test]
fn equal_paths_share_whatever_their_as_path_holds() {
    let samples = [
        Sample::new(1),
        Sample::with(2, |s| s.attributes.as_path = sequence(&[65000])),
        Sample::with(3, |s| s.cost = Ok(1)),
    ];
    assert_eq!(run(&samples).iter().filter(|place| place.used).count(), 2);
}

#[test]
fn nobody_wins_when_nobody_may() {
    let samples = [
        Sample::with(1, |s| s.cost = Err(Ineligible::Upstream)),
        Sample::with(2, |s| s.cost = Err(Ineligible::NextHopUnreachable)),
    ];
    let places = run(&samples);
    assert!(places.iter().all(|place| !place.used));
    assert_eq!(places[0].index, 1, "the more hopeful first");
}

pub(crate) fn attributes() -> impl Strategy<Value = Attributes> {
    let segment = prop_oneof![
        4 => prop::collection::vec(64512u32..64515, 0..3).prop_map(Segment::Sequence),
        1 => prop::collection::vec(64512u32..64515, 1..3).prop_map(Segment::Set),
    ];
    (
        prop::sample::select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]),
        prop::collection::vec(segment, 0..2),
        prop::option::of(0u32..3),
        prop::option::of(99u32..102),
        prop::option::of(1u8..3),
        0usize..3,
    )
        .prop_map(
            |(origin, segments, med, local_preference, originator, clusters)| Attributes {
                origin,
                as_path: AsPath { segments },
                med,
                local_preference,
                originator_id: originator.map(|last| Ipv4Addr::new(10, 0, 0, last)),
                cluster_list: vec![Ipv4Addr::new(10, 9, 9, 9); clusters],
                ..Attributes::default()
            },
        )
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let cost = prop_oneof![4 => (0u32..2).prop_map(Ok), 1 => Just(Err(Ineligible::NextHopUnreachable))];
    let sample =
        (attributes(), any::<bool>(), 1u8..4, cost).prop_map(|(attributes, external, router, cost)| Sample {
            attributes,
            external,
            router_id: RouterId::try_from(Ipv4Addr::new(10, 0, 0, router)).unwrap(),
            cost,
            ..Sample::new(1)
        });
    prop::collection::vec(sample, 1..8).prop_map(|mut samples| {
        for (index, sample) in samples.iter_mut().enumerate() {
            // Two paths a peer, so that path identifiers matter as well.
            sample.path_id = Some(u32::try_from(index % 2).unwrap());
            let last = u8::try_from(index / 2 + 1).unwrap();
            sample.address = IpAddr::from([10, 0, 0, last]);
            sample.peer = PeerName::from(sample.address);
        }
        samples
    })
}

proptest! {
    #[test]
    fn a_total_order_whatever_comes_first(samples in samples(), seed: u64) {
        let places = run(&samples);
        let mut seen: Vec<usize> = places.iter().map(|place| place.index).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..samples.len()).collect::<Vec<_>>(), "every path has a place");
        let best = places.iter().filter(|place| place.lost.is_none()).count();
        prop_assert_eq!(best, usize::from(samples.iter().any(|sample| sample.cost.is_ok())));
        prop_assert!(places.is_sorted_by_key(|place| !place.used), "used paths stand first");

        let mut shuffled = samples.clone();
        let rotation = usize::try_from(seed % 7).unwrap() % shuffled.len();
        shuffled.rotate_left(rotation);
        if seed % 2 == 0 {
            shuffled.reverse();
        }
        let names = |samples: &[Sample], places: &[Place]| -> Vec<_> {
            places.iter().map(|place| {
                let sample = &samples[place.index];
                (sample.peer.clone(), sample.path_id, place.lost)
            }).collect()
        };
        prop_assert_eq!(names(&samples, &places), names(&shuffled, &run(&shuffled)));
    }

    #[test]
    fn a_loser_does_not_choose_the_winner(samples in samples()) {
        // Taking away a path that was out before the MED step changes neither the best nor the reasons of the used.
        let places = run(&samples);
        let gone = places.iter().find(|place| place.lost.is_some_and(|lost| lost.step() < 4));
        if let Some(gone) = gone {
            let rest: Vec<_> = samples.iter().enumerate().filter(|(i, _)| *i != gone.index).map(|(_, s)| s.clone()).collect();
            let after = run(&rest);
            let best = |samples: &[Sample], places: &[Place]| places.iter().filter(|p| p.used)
                .map(|p| (samples[p.index].peer.clone(), samples[p.index].path_id, p.lost)).collect::<Vec<_>>();
            prop_assert_eq!(best(&samples, &places), best(&rest, &after));
        }
    }
}
