use std::net::IpAddr;

use sekisho_config::model::{
    Action, Balance, Condition, Conditions, Endpoint, HostPattern, ListenerState, ObjectName, PathMatch,
    Pool, Reach, Route, RouteId, RoutedVia, Unroutable, Upstream, VirtualHost, Withhold,
};

use super::*;

const VIP: &str = "203.0.113.1";

fn settings() -> Settings {
    let text = r#"
        [appliance]
        name = "edge"
        [listen]
        http = ["0.0.0.0:80", "[::]:80"]
        https = []
        [source]
        manifests = "/m"
        routing = "required"
        [bgp]
        asn = 64512
        router_id = "192.0.2.10"
        [[vips]]
        name = "public"
        addresses = ["203.0.113.0/28"]
        announce_to = ["upstream"]
    "#;
    sekisho_config::file::read("sekisho.toml", text, &|_| Ok(b"edge".to_vec()))
        .unwrap()
        .settings
}

fn part(addresses: &[&str]) -> ClusterPart {
    let id = PoolId {
        service: ObjectName::new("default", "web"),
        port: 80,
    };
    let route = Route {
        id: RouteId {
            ingress: ObjectName::new("default", "web"),
            place: Some((0, 0)),
        },
        path: PathMatch::Prefix("/".into()),
        conditions: Conditions::default(),
        filters: None,
        action: Action::Forward(id.clone()),
    };
    let endpoints = addresses
        .iter()
        .map(|ip| Endpoint {
            address: SocketAddr::new(ip.parse().unwrap(), 8080),
            pod: None,
            node: None,
            condition: Condition::Ready,
            weight: std::num::NonZeroU8::MIN,
        })
        .collect();
    let host = VirtualHost {
        host: HostPattern::Any,
        routes: vec![route],
        fallback: None,
    };
    let vip = Vip {
        address: VIP.parse().unwrap(),
        pool: "public".into(),
        announce_to: Vec::new(),
        purpose: VipPurpose::Ingress,
    };
    ClusterPart {
        hosts: [(HostPattern::Any, Arc::new(host))].into_iter().collect(),
        pools: [(
            id.clone(),
            Arc::new(Pool {
                id,
                balance: Balance::default(),
                upstream: Upstream::default(),
                policy: Arc::default(),
                endpoints,
            }),
        )]
        .into_iter()
        .collect(),
        vips: [(vip.address, Arc::new(vip))].into_iter().collect(),
        ..ClusterPart::default()
    }
}

fn translated(addresses: &[&str]) -> Change {
    Change::Translated {
        generation: 1,
        part: part(addresses),
        findings: Arc::from([]),
    }
}

fn routed(address: &str) -> Change {
    let address: IpAddr = address.parse().unwrap();
    let via = RoutedVia {
        prefix: sekisho_config::model::Prefix::host(address),
        next_hops: vec!["10.0.0.11".parse().unwrap()],
        peers: Vec::new(),
        interface: None,
        kernel: false,
    };
    Change::Reach(vec![(address, Some(Reach::Routed(via)))])
}

fn bound(address: &str, state: Option<ListenerState>) -> Change {
    Change::Listener {
        address: address.parse().unwrap(),
        state,
    }
}

fn announcement(control: &Control) -> Option<Result<(), Withhold>> {
    control
        .plan
        .vips
        .get(&VIP.parse().unwrap())
        .map(|planned| planned.announce.clone())
}

#[test]
fn a_vip_is_announced_only_while_its_whole_chain_holds() {
    let failed = ListenerState::Failed {
        error: "in use".into(),
    };
    let unroutable = Reach::Unroutable {
        why: Unroutable::NoRoute,
    };
    let not_bound = |error: Option<&str>| Withhold::ListenerNotBound {
        listener: "0.0.0.0:80".parse().unwrap(),
        error: error.map(Into::into),
    };
    type Step = (&'static str, Change, Option<Result<(), Withhold>>);
    let steps: Vec<Step> = vec![
        ("nothing known", Change::Tick, None),
        (
            "objects, no listener",
            translated(&["10.244.0.5"]),
            Some(Err(not_bound(None))),
        ),
        // The IPv6 listener does not matter to an IPv4 VIP.
        (
            "listener",
            bound("0.0.0.0:80", Some(ListenerState::Bound)),
            Some(Err(Withhold::NoEligibleEndpoint)),
        ),
        ("route", routed("10.244.0.5"), Some(Ok(()))),
        (
            "listener lost",
            bound("0.0.0.0:80", Some(failed)),
            Some(Err(not_bound(Some("in use")))),
        ),
        (
            "listener back",
            bound("0.0.0.0:80", Some(ListenerState::Bound)),
            Some(Ok(())),
        ),
        (
            "route lost",
            Change::Reach(vec![("10.244.0.5".parse().unwrap(), Some(unroutable))]),
            Some(Err(Withhold::NoEligibleEndpoint)),
        ),
        (
            "another pod, no route yet",
            translated(&["10.244.0.6"]),
            Some(Err(Withhold::NoEligibleEndpoint)),
        ),
        ("its route", routed("10.244.0.6"), Some(Ok(()))),
        ("stopping", Change::Stopping, Some(Err(Withhold::Stopping))),
    ];
    let mut control = Control::new(settings(), Arc::default());
    for (what, change, want) in steps {
        control.fold(change);
        control.compile();
        assert_eq!(announcement(&control), want, "{what}");
    }
}

#[test]
fn reachability_of_an_address_ends_with_the_word_of_the_routing_table() {
    let mut control = Control::new(settings(), Arc::default());
    control.fold(translated(&["10.244.0.5"]));
    control.fold(routed("10.244.0.5"));
    // The pod goes and comes back before the routing table noticed: its word still stands.
    control.fold(translated(&[]));
    control.fold(translated(&["10.244.0.5"]));
    control.compile();
    assert_eq!(control.snapshot.eligible_http(), 1);
    control.fold(Change::Reach(vec![("10.244.0.5".parse().unwrap(), None)]));
    control.compile();
    assert_eq!(control.snapshot.eligible_http(), 0);
}

#[test]
fn an_answer_is_in_the_snapshot_of_the_revision_that_is_reported() {
    let mut control = Control::new(settings(), Arc::default());
    let (published, mut waiting) = oneshot::channel();
    let answer = sekisho_config::model::ChallengeAnswer {
        key_authorization: "token.key".into(),
    };
    let waiter = control
        .fold(Change::Answer {
            token: "token".into(),
            answer,
            published,
        })
        .unwrap();
    assert!(waiting.try_recv().is_err(), "reported before it is published");
    control.compile();
    waiter.send(control.revision).unwrap();
    assert_eq!(waiting.try_recv().unwrap(), control.snapshot.revision());
    assert!(control.observed.answers.contains_key("token"));
    control.fold(Change::AnswerDone {
        token: "token".into(),
    });
    assert!(control.observed.answers.is_empty());
}

#[test]
fn every_publication_has_its_own_revision() {
    let mut control = Control::new(settings(), Arc::default());
    let mut last = control.revision;
    for _ in 0..3 {
        control.compile();
        assert!(control.revision > last);
        last = control.revision;
    }
}

#[test]
fn acme_is_told_once_of_what_is_wanted() {
    let names: Arc<sekisho_config::model::NameSet> =
        Arc::new(["web.example.com".parse().unwrap()].into_iter().collect());
    let source = CertificateSource::Acme {
        ingress: ObjectName::new("default", "web"),
        names: Arc::clone(&names),
    };
    let mut with = part(&[]);
    with.certificates
        .insert("web.example.com".parse().unwrap(), Arc::new(source));
    let translated = |part: &ClusterPart| Change::Translated {
        generation: 1,
        part: part.clone(),
        findings: Arc::from([]),
    };
    let mut control = Control::new(settings(), Arc::default());
    assert!(!control.compile().wanted, "nothing is wanted at the start");
    control.fold(translated(&with));
    assert!(control.compile().wanted);
    assert_eq!(control.wanted, BTreeSet::from([names]));
    control.fold(translated(&with));
    assert!(!control.compile().wanted, "the same again");
    control.fold(translated(&part(&[])));
    assert!(control.compile().wanted);
    assert!(control.wanted.is_empty());
}
