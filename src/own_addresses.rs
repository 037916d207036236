//! The addresses of the box's own interfaces, which no endpoint may have.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::control::Change;

/// Interfaces seldom change, and asking costs some system calls.
const EVERY: Duration = Duration::from_secs(5);

/// The addresses as they are now; those of VIPs are not on an interface, and translate knows them.
pub(crate) fn now() -> std::io::Result<Arc<BTreeSet<IpAddr>>> {
    let addresses = nix::ifaddrs::getifaddrs()?
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            address
                .as_sockaddr_in()
                .map(|v4| IpAddr::from(v4.ip()))
                .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .collect();
    Ok(Arc::new(addresses))
}

/// Tells control when they change, until `stop`.
pub(crate) async fn watch(
    mut known: Arc<BTreeSet<IpAddr>>,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
) {
    let mut failed = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match now() {
            Ok(addresses) if addresses != known => {
                known = addresses;
                failed = false;
                if changes
                    .send(Change::OwnAddresses(Arc::clone(&known)))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Ok(_) => failed = false,
            Err(error) => {
                if !failed {
                    warn!(%error, "the addresses of the interfaces cannot be read; the last ones known stay refused as endpoints");
                }
                failed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_loopback_address_is_among_them() {
        assert!(
            super::now()
                .unwrap()
                .contains(&std::net::IpAddr::from([127, 0, 0, 1]))
        );
    }
}
