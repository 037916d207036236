//! What the streams of a connection share, and how far its client may go.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use quinn::Connection;
use tokio::time::Instant;

use super::endpoint::code;
use crate::clock;
use crate::h3::Code;
use crate::h3::fields::Limits;
use crate::http::connection::Client;
use crate::metrics::Cell as Metric;

/// How long a client's doings are counted together.
const SPAN: Duration = Duration::from_secs(10);

/// What a client did in a span of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    since: Instant,
    streams: u32,
    resets: u32,
    idle: u32,
}

impl Tally {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            streams: 0,
            resets: 0,
            idle: 0,
        }
    }
}

/// A connection, for its streams.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) client: Rc<Client>,
    tally: Cell<Tally>,
}

impl Link {
    pub(super) fn new(connection: Connection, client: Rc<Client>) -> Rc<Self> {
        Rc::new(Self {
            connection,
            client,
            tally: Cell::new(Tally::new(clock::now())),
        })
    }

    /// How large requests may be.
    pub(super) fn limits(&self) -> Limits {
        let http = &self.client.live.http;
        Limits {
            section: http.max_header_bytes,
            fields: http.max_headers,
            path: http.max_uri_bytes,
        }
    }

    /// Closes the connection because of what the client sent.
    pub(super) fn fail(&self, why: Code) {
        self.close(why, Metric::Http3Protocol);
    }

    fn close(&self, why: Code, metric: Metric) {
        if self.connection.close_reason().is_none() {
            tracing::debug!(client = %self.client.peer(), code = why.0, "a client's connection is closed");
            self.client.worker.counters.inc(metric);
            self.connection.close(code(why), b"");
        }
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) -> Tally {
        let now = clock::now();
        let mut tally = self.tally.get();
        if now.saturating_duration_since(tally.since) >= SPAN {
            tally = Tally::new(now);
        }
        add(&mut tally);
        self.tally.set(tally);
        tally
    }

    /// A stream was opened.
    pub(super) fn opened(&self) {
        self.count(|tally| tally.streams += 1);
    }

    /// The client has taken a request back.
    pub(super) fn reset(&self) {
        let tally = self.count(|tally| tally.resets += 1);
        if tally.resets > self.client.live.http.max_resets && tally.resets > tally.streams / 2 {
            self.close(Code::EXCESSIVE_LOAD, Metric::Http3ResetFlood);
        }
    }

    /// Frames came that carry nothing and move nothing on.
    pub(super) fn idle(&self, frames: u32) {
        if frames == 0 {
            return;
        }
        let tally = self.count(|tally| tally.idle = tally.idle.saturating_add(frames));
        if tally.idle > self.client.live.http.max_control_frames {
            self.close(Code::EXCESSIVE_LOAD, Metric::Http3ControlFlood);
        }
    }
}
