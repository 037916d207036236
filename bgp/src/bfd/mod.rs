//! Bidirectional Forwarding Detection (RFC 5880, 5881, 5883): notices within milliseconds that a neighbour is gone.
//!
//! [`Packet`] is the wire, `machine` one session, `table` all of them with their timers and how a packet finds its session:
//! all pure. `thread` has the sockets and the clock, on a thread of its own with real-time priority where the system
//! allows that. The speaker says through [`Handle`] what it wants and reads `Live`; what a failure means for BGP
//! (RFC 5882) is the speaker's affair.
//!
//! Not offered: Echo (Required Min Echo RX is 0), Demand mode of our own (the peer's is honoured), simple passwords.

mod auth;
mod live;
mod machine;
#[cfg(test)]
mod machine_tests;
mod packet;
mod realtime;
mod socket;
mod table;
mod thread;
#[cfg(test)]
mod thread_tests;

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

pub use self::live::BfdView;
pub(crate) use self::live::{Live, SessionMetrics};
pub(crate) use self::machine::Timing;
pub use self::packet::{Diagnostic, Discard, LENGTH, Packet, State};
pub use self::realtime::Priority;
pub(crate) use self::table::Wanted;
use self::thread::{KINDS, Loop, Shared};

/// UDP ports: one hop (RFC 5881), several (RFC 5883).
pub(crate) const PORTS: [u16; 2] = [3784, 4784];

/// Speaks to the thread, which runs from the first wish on.
#[derive(Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    ports: [u16; 2],
    discarded: [prometheus::IntCounter; 4],
    thread: Option<Running>,
}

#[derive(Debug)]
struct Running {
    wake: UnixStream,
    /// The same socket, for waiting.
    news: tokio::net::UnixStream,
    thread: std::thread::JoinHandle<()>,
}

impl Handle {
    /// `discarded` counts for each of [`Discard::ALL`].
    pub(crate) fn new(ports: [u16; 2], discarded: [prometheus::IntCounter; 4]) -> Self {
        Self {
            shared: Arc::default(),
            ports,
            discarded,
            thread: None,
        }
    }

    /// The session with `peer` as it is to be, or that there is to be none. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the system gives no thread or socket pair; ask again.
    pub(crate) fn set(&mut self, peer: IpAddr, wanted: Option<Wanted>) -> io::Result<()> {
        if self.thread.is_none() {
            if wanted.is_none() {
                return Ok(());
            }
            self.thread = Some(self.start()?);
        }
        let mut wishes = self.shared.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.insert(peer, wanted);
        drop(wishes);
        self.wake();
        Ok(())
    }

    fn start(&self) -> io::Result<Running> {
        let (ours, theirs) = UnixStream::pair()?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true)?;
        }
        let news = tokio::net::UnixStream::from_std(ours.try_clone()?)?;
        let work = Loop {
            shared: Arc::clone(&self.shared),
            wake: theirs,
            ports: self.ports,
            discarded: self.discarded.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("bfd".into())
            .spawn(|| work.run())?;
        Ok(Running {
            wake: ours,
            news,
            thread,
        })
    }

    fn wake(&self) {
        if let Some(running) = &self.thread {
            // Full: the thread has been woken and has not looked yet.
            let _ = (&running.wake).write(&[1]);
        }
    }

    /// Waits until some session has another state, or its peer has.
    ///
    /// Cancel-safe: yes.
    pub(crate) async fn news(&self) {
        let Some(running) = &self.thread else {
            return std::future::pending().await;
        };
        let mut space = [0; 64];
        loop {
            if running.news.readable().await.is_err() {
                return std::future::pending().await;
            }
            match running.news.try_read(&mut space) {
                // The thread has ended, which only a panic of it can be.
                Ok(0) => return std::future::pending().await,
                Ok(_) => return,
                Err(_) => {}
            }
        }
    }

    /// How the thread runs; `None`: it does not yet.
    pub(crate) fn priority(&self) -> Option<Priority> {
        Priority::from_number(self.shared.priority.load(Relaxed))
    }

    /// Whether the thread has died.
    pub(crate) fn died(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|running| running.thread.is_finished())
    }

    /// Forgets a thread that has died; the next wish starts another one.
    pub(crate) fn restart(&mut self) {
        self.thread = None;
    }

    /// What stands in the way of a session with this peer on this box.
    pub(crate) fn obstacle(&self, live: &Live, ipv4: bool, multihop: bool) -> Option<String> {
        let words = |errno: i32| io::Error::from_raw_os_error(errno);
        let [single, multi] = self.ports;
        let port = if multihop { multi } else { single };
        let kinds = KINDS.iter().zip(&self.shared.receivers);
        let bound = kinds
            .filter(|(kind, _)| **kind == (ipv4, multihop))
            .map(|(_, errno)| errno.load(Relaxed))
            .find(|errno| *errno != 0);
        match (bound, live.errno()) {
            (Some(libc::EADDRINUSE), _) => Some(format!(
                "UDP port {port} is taken: another BFD daemon runs on this box; stop it, or leave BFD to it"
            )),
            (Some(errno), _) => Some(format!("cannot receive on UDP port {port}: {}", words(errno))),
            (None, 0) => None,
            (None, errno) => Some(format!("cannot send: {}", words(errno))),
        }
    }
}

impl Drop for Handle {
    /// Every peer is told that its session ends; the thread is gone when this returns.
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.wake();
        if let Some(running) = self.thread.take() {
            let _ = running.thread.join();
        }
    }
}
