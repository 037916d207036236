//! The connections to collectors.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use prometheus::{IntCounterVec, IntGaugeVec};
use sekisho_config::model::Bgp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Feed, Monitored, message};
use crate::rib::HeldPath;
use crate::speaker::Query;

/// Between two attempts, at first and at most.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// A connection attempt, and one write.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two Statistics Reports.
const REPORTS: Duration = Duration::from_secs(60);

/// Prefixes that are asked of the table at a time.
const PAGE: usize = 1000;

/// What every collector's task needs.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) feed: Feed,
    /// Weak, so that nobody takes a collector for somebody who needs the speaker.
    pub(crate) speaker: mpsc::WeakSender<Query>,
    pub(crate) connected: IntGaugeVec,
    pub(crate) resyncs: IntCounterVec,
}

/// Keeps one task for each collector of the settings, until `stop`.
pub(crate) async fn manage(shared: Shared, mut bgp: watch::Receiver<Bgp>, stop: CancellationToken) {
    let mut running: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = bgp.borrow_and_update().bmp.clone();
        running.retain(|address, end| {
            let keep = wanted.contains(address);
            if !keep {
                end.cancel();
            }
            keep
        });
        for address in wanted {
            running.entry(address).or_insert_with(|| {
                let end = stop.child_token();
                tasks.spawn(collector(address, shared.clone(), end.clone()));
                end
            });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = bgp.changed() => if changed.is_err() { break },
        }
        while tasks.try_join_next().is_some() {}
    }
    running.values().for_each(CancellationToken::cancel);
    while tasks.join_next().await.is_some() {}
}

async fn collector(address: SocketAddr, shared: Shared, end: CancellationToken) {
    let label = address.to_string();
    let connected = shared.connected.with_label_values(&[&label]);
    let [mut pause, longest] = PAUSE;
    while !end.is_cancelled() {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                info!(collector = %address, "BMP collector connected");
                connected.set(1);
                let ended = tell(stream, &shared, &end).await;
                connected.set(0);
                pause = PAUSE[0];
                if let Err(error) = ended {
                    shared.resyncs.with_label_values(&[&label]).inc();
                    warn!(collector = %address, %error, "BMP collector is told everything anew");
                }
            }
            Ok(Err(error)) => {
                warn!(collector = %address, %error, "BMP collector cannot be reached; it is tried again")
            }
            Err(_) => warn!(collector = %address, "BMP collector does not answer; it is tried again"),
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = end.cancelled() => {}
        }
        pause = pause.saturating_mul(2).min(longest);
    }
    let _ = shared.connected.remove_label_values(&[&label]);
    let _ = shared.resyncs.remove_label_values(&[&label]);
}

/// Tells everything, then every change, until the `end`. Gives the reason why it has to begin anew.
async fn tell(mut stream: TcpStream, shared: &Shared, end: &CancellationToken) -> io::Result<()> {
    let mut whole = true;
    let ended = tokio::select! {
        ended = tell_all(&mut stream, &mut whole, shared) => Some(ended),
        () = end.cancelled() => None,
    };
    match ended {
        Some(ended) => ended,
        None if whole => {
            write(&mut stream.split().1, &mut whole, &message::termination()).await?;
            stream.shutdown().await
        }
        // In the middle of a message nothing more can be said.
        None => Ok(()),
    }
}

/// `whole`: what was written ends with a whole message.
async fn tell_all(stream: &mut TcpStream, whole: &mut bool, shared: &Shared) -> io::Result<()> {
    let (mut from, mut stream) = stream.split();
    let mut said = [0; 256];
    let description = concat!("Sekisho ", env!("CARGO_PKG_VERSION"));
    write(&mut stream, whole, &message::initiation(description, "sekisho")).await?;
    // First the changes, then the state: what is told twice ends the same.
    let mut changes = shared.feed.0.subscribe();
    let peers: Vec<Monitored> = ask(shared, Query::Monitored).await?;
    for peer in &peers {
        write(&mut stream, whole, &peer.up).await?;
    }
    let mut prefixes = ask(shared, Query::Prefixes).await?;
    while !prefixes.is_empty() {
        let page = prefixes.split_off(prefixes.len().saturating_sub(PAGE));
        let held: Vec<HeldPath> = ask(shared, |answer| Query::Held(page, answer)).await?;
        let mut out = BytesMut::new();
        for peer in &peers {
            let mut paths: Vec<_> = held
                .iter()
                .filter(|path| path.peer == peer.name && !path.stale)
                .collect();
            paths.sort_by_key(|path| {
                (
                    std::sync::Arc::as_ptr(&path.attributes),
                    path.next_hop,
                    path.prefix,
                )
            });
            peer.told(&paths, &mut out);
        }
        write(&mut stream, whole, &out).await?;
    }
    let mut out = BytesMut::new();
    peers.iter().for_each(|peer| peer.told_all(&mut out));
    write(&mut stream, whole, &out).await?;
    let mut reports = interval(REPORTS);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(octets) if octets.is_empty() => return Err(anew("the table changed in a way that cannot be told")),
                Ok(octets) => write(&mut stream, whole, &octets).await?,
                Err(RecvError::Lagged(_)) => return Err(anew("it does not keep up")),
                Err(RecvError::Closed) => return Ok(()),
            },
            // A collector says nothing; what it can do is go.
            read = from.read(&mut said) => if read? == 0 {
                return Err(anew("it closed the connection"));
            },
            _ = reports.tick() => {
                let peers: Vec<Monitored> = ask(shared, Query::Monitored).await?;
                let mut out = BytesMut::new();
                for peer in &peers {
                    out.extend_from_slice(&message::statistics(&peer.head, peer.rejected, peer.held));
                }
                write(&mut stream, whole, &out).await?;
            }
        }
    }
}

fn anew(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

async fn write(stream: &mut WriteHalf<'_>, whole: &mut bool, octets: &[u8]) -> io::Result<()> {
    *whole = false;
    timeout(PATIENCE, stream.write_all(octets))
        .await
        .map_err(|_| anew("it does not read"))??;
    *whole = true;
    Ok(())
}

async fn ask<T>(shared: &Shared, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> io::Result<T> {
    let gone = || anew("the speaker has ended");
    let speaker = shared.speaker.upgrade().ok_or_else(gone)?;
    let (answer, answered) = oneshot::channel();
    speaker.send(query(answer)).await.map_err(|_| gone())?;
    drop(speaker);
    answered.await.map_err(|_| gone())
}

/// For tests: one message after the other.
#[cfg(test)]
pub(crate) fn split(octets: &mut BytesMut) -> Vec<bytes::Bytes> {
    let mut messages = Vec::new();
    while let [_, a, b, c, d, ..] = octets[..] {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if octets.len() < length {
            break;
        }
        messages.push(octets.split_to(length).freeze());
    }
    messages
}
