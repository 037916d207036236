//! The header of a connection that comes from a listed network.

use std::net::SocketAddr;
use std::time::Duration;

use sekisho_config::model::Prefix;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LONGEST, LONGEST_V1, Said, parse};
use crate::metrics::{Cell, Counters};
use crate::start::Live;
use crate::stream::Stream;

/// The two ends of a client's connection: as the socket says, or as the PROXY header does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) client: SocketAddr,
    /// Where it connected to.
    pub(crate) server: SocketAddr,
}

/// Takes the header off a connection from `peer`, if it comes from a network that sends one. Octets after the header stay
/// in the socket. `local`: where the client connected to, if that is known without asking the system. `None`: the header is missing, malformed or late, and the connection is to be closed.
///
/// Cancel-safe: no.
pub(crate) async fn receive(
    stream: &mut Stream,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    live: &Live,
    counters: &Counters,
) -> Option<Ends> {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let own = Ends {
        client: plain(peer),
        // A connection that is already gone has no address; it is found to be gone at the first read.
        server: plain(local.or_else(|| stream.local_address()).unwrap_or(peer)),
    };
    if !is_listed(&live.proxy_protocol_from, own.client) {
        return Some(own);
    }
    // In a box of its own: of connections that send none it takes no room.
    let said = match stream.watch() {
        Ok(stream) => Box::pin(read(stream, live.timeouts.proxy_protocol)).await,
        Err(_) => Err(Missed::Malformed),
    };
    counters.inc(match said {
        Ok(Said::Proxied { .. }) => Cell::ProxyProtocolOk,
        Ok(Said::Own) => Cell::ProxyProtocolLocal,
        Err(Missed::Malformed) => Cell::ProxyProtocolMalformed,
        Err(Missed::Late) => Cell::ProxyProtocolTimeout,
    });
    match said {
        Ok(Said::Proxied { client, server }) => Some(Ends { client, server }),
        Ok(Said::Own) => Some(own),
        Err(missed) => {
            tracing::debug!(%peer, ?missed, "a connection without a good PROXY header was closed");
            None
        }
    }
}

fn is_listed(networks: &[Prefix], peer: SocketAddr) -> bool {
    networks.iter().any(|network| network.contains(peer.ip()))
}

#[derive(Clone, Copy, Debug)]
enum Missed {
    Malformed,
    Late,
}

/// Looks at what has come before taking it, so that not one octet of what follows the header is taken.
async fn read(stream: &mut TcpStream, limit: Duration) -> Result<Said, Missed> {
    let reading = async {
        let mut buffer = vec![0; LONGEST_V1];
        let mut held = 0;
        loop {
            if held == buffer.len() {
                buffer.resize(LONGEST, 0);
            }
            let room = buffer.get_mut(held..).unwrap_or_default();
            let seen = match stream.peek(room).await {
                Ok(0) | Err(_) => return Err(Missed::Malformed),
                Ok(seen) => held + seen,
            };
            let (said, end) = match parse(buffer.get(..seen).unwrap_or_default()) {
                Ok(Some((said, end))) => (Some(said), end),
                Ok(None) => (None, seen),
                Err(malformed) => {
                    tracing::trace!(%malformed, "no PROXY header");
                    return Err(Missed::Malformed);
                }
            };
            let taken = buffer.get_mut(held..end).unwrap_or_default();
            if stream.read_exact(taken).await.is_err() {
                return Err(Missed::Malformed);
            }
            held = end;
            if let Some(said) = said {
                return Ok(said);
            }
        }
    };
    timeout(limit, reading).await.unwrap_or(Err(Missed::Late))
}
