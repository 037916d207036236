//! What the allocator keeps after use goes back to the system.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often it is asked.
const PERIOD: Duration = Duration::from_secs(5);

/// The allocator hands memory back a while after it was freed, but only when somebody asks it for more. After a peer with a
/// million routes has gone nobody does, and the room of its routes would stay ours.
pub(crate) async fn give_back(stop: CancellationToken) {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = period.tick() => collect(),
        }
    }
}

#[expect(unsafe_code, reason = "the allocator's crate has no safe way to ask")]
fn collect() {
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: it takes no pointer and may be called by any thread at any time; without force it only purges what has been free for
    // a while, of all threads, and looks through the pages of this one.
    unsafe { mi_collect(false) }
}
