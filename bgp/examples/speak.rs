//! A BGP speaker to try things by hand: `speak FILE [vip=ADDRESS]... [track=ADDRESS]...` with a box's file, of which only `[bgp]`
//! counts.
//!
//! Prints events as they come and every view each two seconds; ends in order on Ctrl-C. It writes kernel routes unless
//! the file says otherwise: use a network namespace of your own.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sekisho_bgp::announce::{Plan, PlannedVip};
use sekisho_bgp::rib::RouteQuery;
use sekisho_bgp::{Event, Inputs};
use sekisho_config::model::{AnnounceTo, Role, Routing, Vip, VipPurpose};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a file")?;
    let reading = sekisho_config::file::read(&file, &std::fs::read_to_string(&file)?, &|path| {
        std::fs::read(path)
    })
    .map_err(|faults| {
        faults
            .iter()
            .map(|fault| format!("{fault}\n"))
            .collect::<String>()
    })?;
    let bgp = reading.settings.bgp.ok_or("the file has no [bgp]")?;
    let mut plan = Plan::default();
    let mut tracked = imbl::OrdSet::new();
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=') else {
            return Err("expected vip=ADDRESS or track=ADDRESS".into());
        };
        match name {
            "vip" => {
                let address: IpAddr = value.parse()?;
                let vip = Vip {
                    address,
                    pool: "public".into(),
                    announce_to: vec![AnnounceTo::Role(Role::Upstream)],
                    purpose: VipPurpose::Ingress,
                };
                let planned = PlannedVip::host(Arc::new(vip), Ok(()));
                plan.vips.insert(address, planned);
            }
            "track" => drop(tracked.insert(value.parse()?)),
            _ => return Err("expected vip=ADDRESS or track=ADDRESS".into()),
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
                    let error = peer.last_error.map(|error| (error.by, error.text));
                    println!(
                        "peer {} {} AS {} {} {} v4 + {} v6 used {} stale {} rejected {} announced {} updates in {} out {} faulty {} flaps {}",
                        peer.name, peer.address, peer.asn.map_or(0, |asn| asn.number()), peer.state, peer.received.ipv4, peer.received.ipv6, peer.received.used,
                        peer.received.stale, peer.rejected_paths, peer.announced, peer.messages_received.update,
                        peer.messages_sent.update, peer.faulty_updates, peer.flaps,
                    );
                    println!("  {error:?} {:?}", peer.connect_error.map(|error| error.text));
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
    handle.drain(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    handle.finish().await;
    println!("finished");
    Ok(())
}
