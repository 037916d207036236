//! The thread: sockets and the clock around the table.
//!
//! It waits in one `ppoll(2)` for packets, for the next timer and for new wishes. It takes no lock that somebody with less
//! priority may hold, writes no log, and calls no runtime: a loaded proxy in the same process must not cost a session.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use nix::poll::ppoll;
use nix::sys::time::TimeSpec;
use prometheus::IntCounter;

use super::packet::Discard;
use super::realtime::hurry;
use super::socket::{Receiver, poll_on, sender};
use super::table::{Send, Table, Wanted};

/// Packets taken in one turn, after which timers have theirs.
const TURN: usize = 512;

/// Between two attempts to open a socket.
const RETRY: Duration = Duration::from_secs(1);

/// Which receiving sockets there are: IPv4, of several hops.
pub(super) const KINDS: [(bool, bool); 4] = [(true, false), (false, false), (true, true), (false, true)];

/// Wishes that the thread has not taken yet: the last one for each peer.
type Wishes = BTreeMap<IpAddr, Option<Wanted>>;

/// What the thread and its handle share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) wishes: Mutex<Wishes>,
    pub(super) stop: AtomicBool,
    /// Of each of [`KINDS`]: the error of the last attempt to bind it, 0 for none.
    pub(super) receivers: [AtomicI32; 4],
    pub(super) priority: AtomicU8,
}

/// Everything the thread works with.
pub(super) struct Loop {
    pub(super) shared: Arc<Shared>,
    /// Says that there are wishes, and to the speaker that there is news.
    pub(super) wake: UnixStream,
    pub(super) ports: [u16; 2],
    pub(super) discarded: [IntCounter; 4],
}

struct State {
    it: Loop,
    table: Table,
    receivers: [Option<Receiver>; 4],
    senders: HashMap<u32, UdpSocket>,
    retry_at: Option<Instant>,
    dice: RandomState,
    out: Vec<Send>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime here whose time a test could pause; the table takes instants"
)]
fn now() -> Instant {
    Instant::now()
}

impl Loop {
    /// Runs until it is told to stop, or the handle is gone.
    pub(super) fn run(self) {
        self.shared.priority.store(hurry().number(), Relaxed);
        let mut state = State {
            it: self,
            table: Table::default(),
            receivers: [const { None }; 4],
            senders: HashMap::new(),
            retry_at: None,
            dice: RandomState::new(),
            out: Vec::new(),
        };
        while state.turn() {}
        state.table.leave_all(now(), &mut state.out);
        state.send();
    }
}

impl State {
    /// Waits once and deals with everything that is there. `false`: it is over.
    fn turn(&mut self) -> bool {
        let woken = self.wait();
        if woken && !self.drain_wake() || self.it.shared.stop.load(Relaxed) {
            return false;
        }
        // The clock is read before the packets are: what comes in later is not late.
        let at = now();
        let unread = self.receive(at);
        if woken {
            self.take_wishes(at);
        }
        if self.retry_at.is_some_and(|retry| retry <= at) {
            self.open();
        }
        self.table.expire(at, unread, &mut self.out);
        self.send();
        if self.table.take_news() {
            // Full: the speaker has been told and has not looked yet.
            let _ = self.it.wake.write(&[1]);
        }
        true
    }

    /// Until something is there or due. Returns whether there are wishes.
    fn wait(&self) -> bool {
        let next = [self.table.deadline(), self.retry_at].into_iter().flatten().min();
        let timeout = next.map(|at| TimeSpec::from_duration(at.saturating_duration_since(now())));
        let mut on = vec![poll_on(&self.it.wake)];
        on.extend(
            self.receivers
                .iter()
                .flatten()
                .map(|receiver| poll_on(&receiver.socket)),
        );
        // An interrupted wait is a short one.
        let _ = ppoll(&mut on, timeout, None);
        on.first().and_then(nix::poll::PollFd::any).unwrap_or(false)
    }

    /// `false`: the handle is gone.
    fn drain_wake(&mut self) -> bool {
        let mut space = [0; 64];
        !matches!(self.it.wake.read(&mut space), Ok(0))
    }

    fn take_wishes(&mut self, at: Instant) {
        let wishes = match self.it.shared.wishes.try_lock() {
            Ok(mut wishes) => std::mem::take(&mut *wishes),
            Err(TryLockError::Poisoned(poisoned)) => std::mem::take(&mut *poisoned.into_inner()),
            // Whoever holds it wakes us when it is done.
            Err(TryLockError::WouldBlock) => return,
        };
        if wishes.is_empty() {
            return;
        }
        for (peer, wanted) in wishes {
            self.table.set(at, peer, wanted, &mut self.out);
        }
        self.open();
        let table = &self.table;
        self.senders.retain(|id, _| table.wanted(*id).is_some());
    }

    /// Opens the sockets that are needed and closes those that are not.
    fn open(&mut self) {
        self.retry_at = None;
        let kinds = KINDS
            .into_iter()
            .zip(&mut self.receivers)
            .zip(&self.it.shared.receivers);
        for (((ipv4, multihop), receiver), error) in kinds {
            if !self.table.needs(ipv4, multihop) {
                *receiver = None;
                error.store(0, Relaxed);
                continue;
            }
            if receiver.is_some() {
                continue;
            }
            let [single, multi] = self.it.ports;
            let port = if multihop { multi } else { single };
            match Receiver::bind(ipv4, multihop, port) {
                Ok(bound) => {
                    *receiver = Some(bound);
                    error.store(0, Relaxed);
                }
                Err(why) => {
                    error.store(errno(&why), Relaxed);
                    self.retry_at = Some(now() + RETRY);
                }
            }
        }
    }

    /// Takes what waits, up to a limit. Returns whether there may be more.
    fn receive(&mut self, at: Instant) -> bool {
        let mut space = [0; 128];
        let mut control = nix::cmsg_space!(i32, i32, i32);
        let mut unread = false;
        for receiver in self.receivers.iter().flatten() {
            let mut taken = 0;
            while let Some((arrival, length)) = receiver.receive(&mut space, &mut control) {
                let octets = space.get(..length).unwrap_or_default();
                if let Err(why) = self.table.receive(at, arrival, octets, &mut self.out) {
                    self.count(why);
                }
                taken += 1;
                if taken == TURN {
                    unread = true;
                    break;
                }
            }
        }
        unread
    }

    fn count(&self, why: Discard) {
        if let Some((_, counter)) = Discard::ALL
            .iter()
            .zip(&self.it.discarded)
            .find(|(one, _)| **one == why)
        {
            counter.inc();
        }
    }

    fn send(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for Send { session, packet } in out.drain(..) {
            let octets = self.table.octets(session, &packet);
            let Some(wanted) = self.table.wanted(session) else {
                continue;
            };
            let socket = match self.senders.get(&session) {
                Some(socket) => Ok(socket),
                None => sender(wanted, self.dice.hash_one(session))
                    .map(|socket| &*self.senders.entry(session).or_insert(socket)),
            };
            let sent = socket.and_then(|socket| socket.send_to(&octets, wanted.peer));
            match sent {
                Ok(_) => wanted.live.sent(0),
                Err(error) => {
                    // An address that has gone may come back; a full queue is no reason for a new port.
                    if error.kind() == std::io::ErrorKind::AddrNotAvailable {
                        self.senders.remove(&session);
                    }
                    wanted.live.sent(errno(&error));
                }
            }
        }
        self.out = out;
    }
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
