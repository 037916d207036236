//! Traces: the place of each exchange in one (W3C Trace Context), and spans for a collector (OTLP over HTTP).
//!
//! A worker decides when a request begins and builds the span when it has ended; one thread collects spans and sends them.
//! The queue between them is bounded: where the collector does not keep up, spans are dropped and counted.

pub(crate) mod context;
pub(crate) mod export;
mod otlp;

use context::Context;

/// One exchange, as a server's span. Times are in nanoseconds since 1970.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) context: Context,
    pub(crate) start: u128,
    pub(crate) end: u128,
    pub(crate) chosen: Option<u128>,
    pub(crate) connected: Option<u128>,
    pub(crate) first_byte: Option<u128>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) scheme: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) client: String,
    pub(crate) request_id: String,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u32,
    pub(crate) revision: u64,
    pub(crate) host: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) ingress: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) user_agent: Option<String>,
    /// Who ended it before its end, and in which phase.
    pub(crate) ended: Option<(&'static str, &'static str)>,
}

/// Octets of a text that a client has sent, at most: spans wait by the thousand for a collector that does not answer.
const LONGEST: usize = 1024;

/// What a client has sent, as a span holds it.
pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets.get(..LONGEST).unwrap_or(octets)).into_owned()
}

impl Span {
    /// A span of which nothing but its place is known.
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            start: 0,
            end: 0,
            chosen: None,
            connected: None,
            first_byte: None,
            method: String::new(),
            path: String::new(),
            scheme: "http",
            protocol: "1.1",
            client: String::new(),
            request_id: String::new(),
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            retries: 0,
            revision: 0,
            host: None,
            namespace: None,
            ingress: None,
            service: None,
            pod: None,
            node: None,
            endpoint: None,
            user_agent: None,
            ended: None,
        }
    }

    /// Method and Ingress: few different ones, as the conventions ask; never the path.
    fn name(&self) -> String {
        match (&self.namespace, &self.ingress) {
            (Some(namespace), Some(ingress)) => format!("{} {namespace}/{ingress}", self.method),
            _ => self.method.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_held_in_part() {
        for (sent, want) in [
            (3, 3),
            (LONGEST, LONGEST),
            (LONGEST + 1, LONGEST),
            (60_000, LONGEST),
        ] {
            assert_eq!(text(&vec![b'x'; sent]).len(), want);
        }
        assert_eq!(text(b"a\xff"), "a\u{fffd}");
    }
}
