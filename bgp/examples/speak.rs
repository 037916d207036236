//! A BGP speaker to try things by hand: `speak LISTEN ASN ROUTER_ID [NAME=ADDRESS,ASN,ROLE[,passive]]... [vip=ADDRESS]... [range=PREFIX,ASN,ROLE]... [track=ADDRESS]...`
//!
//! Prints events as they come and every view each two seconds; ends in order on Ctrl-C. Writes kernel routes only with
//! `install` among the arguments: use a network namespace of your own.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sekisho_bgp::announce::{Plan, PlannedVip};
use sekisho_bgp::rib::RouteQuery;
use sekisho_bgp::{Event, Inputs};
use sekisho_config::model::{
    AnnounceTo, Asn, Bgp, BgpIdentity, Peer, PeerRange, Role, RouterId, Routing, Vip, VipPurpose,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

fn role(text: &str) -> Role {
    if text == "upstream" {
        Role::Upstream
    } else {
        Role::Cluster
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("too few arguments");
    let (listen, asn, router_id) = (next()?, next()?, next()?);
    let mut bgp = Bgp {
        identity: BgpIdentity {
            asn: Asn::try_from(asn.parse::<u32>()?)?,
            router_id: RouterId::try_from(router_id.parse::<std::net::Ipv4Addr>()?)?,
            hold_time: Duration::from_secs(9),
        },
        listen: if listen == "-" {
            vec![]
        } else {
            vec![listen.parse()?]
        },
        install_routes: false,
        table: 254,
        peers: vec![],
        peer_ranges: vec![],
    };
    let mut plan = Plan::default();
    let mut tracked = imbl::OrdSet::new();
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=') else {
            bgp.install_routes |= argument == "install";
            continue;
        };
        let mut parts = value.split(',');
        let first = parts.next().unwrap_or_default();
        match name {
            "vip" => {
                let address: IpAddr = first.parse()?;
                let vip = Vip {
                    address,
                    pool: "public".into(),
                    announce_to: vec![AnnounceTo::Role(Role::Upstream)],
                    purpose: VipPurpose::Ingress,
                };
                let planned = PlannedVip {
                    vip: Arc::new(vip),
                    announce: Ok(()),
                };
                plan.vips.insert(address, planned);
            }
            "track" => drop(tracked.insert(first.parse()?)),
            "range" => bgp.peer_ranges.push(PeerRange {
                prefix: first.parse()?,
                asn: Asn::try_from(parts.next().unwrap_or("1").parse::<u32>()?)?,
                role: role(parts.next().unwrap_or_default()),
            }),
            name => bgp.peers.push(Peer {
                name: name.parse()?,
                address: first.parse()?,
                port: 179,
                asn: Asn::try_from(parts.next().unwrap_or("1").parse::<u32>()?)?,
                role: role(parts.next().unwrap_or_default()),
                passive: parts.next().is_some(),
            }),
        }
    }
    let registry = prometheus::Registry::new();
    let inputs = Inputs {
        bgp,
        routing: Routing::Required,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let (handle, mut events) = sekisho_bgp::start(inputs, &registry).await?;
    handle.announce(Arc::new(plan));
    handle.track(tracked);
    let mut every = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Reach(answers)) => for answer in answers { println!("reach {answer:?}") },
                Some(event) => println!("event {event:?}"),
                None => return Ok(()),
            },
            _ = every.tick() => {
                for peer in handle.peers().await {
                    println!(
                        "peer {} {} {} hold {:?} received {:?} announced {} in {:?} out {:?} faulty {} flaps {} stale {:?} error {:?}",
                        peer.name, peer.address, peer.state, peer.hold_time_seconds, peer.received, peer.announced,
                        peer.messages_received, peer.messages_sent, peer.faulty_updates, peer.flaps,
                        peer.stale_for_seconds, peer.last_error.map(|error| (error.by, error.text)),
                    );
                }
                for route in handle.routes(RouteQuery { limit: 20, ..RouteQuery::default() }).await {
                    println!(
                        "route {} via {} from {} best {} used {} stale {} {:?}",
                        route.prefix, route.next_hop, route.peer, route.best, route.used, route.stale, route.reason
                    );
                }
                for vip in handle.vips().await {
                    println!("vip {} to {:?} missing {:?}", vip.prefix, vip.announced_to, vip.missing);
                }
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    handle.finish().await;
    println!("finished");
    Ok(())
}
