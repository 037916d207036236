//! The time of a worker's turn: read once when a client's connection or stream gets its turn, not at every step of its
//! request.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A turn begins. Gives its time.
pub(crate) fn turn() -> Instant {
    let now = Instant::now();
    NOW.set(Some(now));
    now
}

/// The time of this turn. Only what runs within a connection's or stream's turn may ask.
pub(crate) fn now() -> Instant {
    NOW.get().unwrap_or_else(Instant::now)
}
