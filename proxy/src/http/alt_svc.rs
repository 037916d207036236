//! What answers on an HTTPS listener say of HTTP/3 (RFC 7838): that it is there, or that it is there no more.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::HeaderValue;

/// HTTP/3 was there, and clients may remember it.
const GONE: u32 = 1 << 16;

/// Whether HTTP/3 is served beside a listener. All workers read it.
#[derive(Debug, Default)]
pub(crate) struct AltSvc(AtomicU32);

impl AltSvc {
    /// It is served on this port.
    pub(crate) fn on(&self, port: u16) {
        self.0.store(u32::from(port), Ordering::Relaxed);
    }

    /// It is served no more.
    pub(crate) fn off(&self) {
        self.0.store(GONE, Ordering::Relaxed);
    }

    /// Whether it is served.
    pub(crate) fn is_on(&self) -> bool {
        (1..GONE).contains(&self.0.load(Ordering::Relaxed))
    }

    /// What to say now; a client is to remember it for so long. `None`: nothing, for there never was anything.
    pub(crate) fn value(&self, max_age: Duration) -> Option<HeaderValue> {
        match (self.0.load(Ordering::Relaxed), max_age.as_secs()) {
            (0, _) => None,
            (GONE.., _) => Some(HeaderValue::from_static("clear")),
            (_, 0) => None,
            (port, age) => HeaderValue::try_from(format!("h3=\":{port}\"; ma={age}")).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let (alt_svc, age) = (AltSvc::default(), Duration::from_secs(60));
        let said = |age| alt_svc.value(age).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(said(age), None);
        alt_svc.on(8443);
        assert_eq!(said(age).as_deref(), Some("h3=\":8443\"; ma=60"));
        assert_eq!(said(Duration::ZERO), None);
        alt_svc.off();
        assert_eq!(said(age).as_deref(), Some("clear"));
    }
}
