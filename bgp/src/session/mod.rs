//! One peer: the sockets, the clock and the queues around its state machine.
//!
//! Each peer has a task of its own, which reads, decodes, writes and keeps time. It hands UPDATEs to the speaker through
//! a bounded channel whose waiters are served in turn, and reads nothing while it waits for its turn: a peer that
//! floods slows down itself. It takes orders as one whole wanted state, so that the speaker never waits for it.

mod connection;
#[cfg(test)]
pub(crate) mod hand;
mod outbound;
#[cfg(test)]
mod outbound_tests;
pub(crate) mod socket;
mod status;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sekisho_config::model::PeerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use self::connection::{Connection, Io};
pub(crate) use self::outbound::{Adverts, FIRST_PATH_ID, NextHops, OutKey, Wanted, vip_key};
use self::outbound::{Next, Outbound, Standing};
pub(crate) use self::socket::Protection;
pub use self::status::{CannotAnnounce, EndedBy, LastError, MessageCounts};
pub(crate) use self::status::{Shared, Status};
use crate::fsm::{Action, Ended, Event, Fsm, Identity, LinkId, Side, State, Terms, Timers};
use crate::metrics::PeerMetrics;
use crate::wire::{self, Families, Family, Message, Notification, RouteRefresh, RouteRefreshKind, Update};

/// Least time that the peer may take nothing of what we send (RFC 9687); twice the hold time where that is more.
const SEND_HOLD: Duration = Duration::from_secs(20);

/// Connections that may be on their way out at a time; further ones are dropped on the spot.
const CLOSING: usize = 8;

/// What never changes in the life of a session; a peer whose settings change gets a new one.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: PeerName,
    pub(crate) address: SocketAddr,
    pub(crate) passive: bool,
    pub(crate) protection: Protection,
    pub(crate) identity: Identity,
    pub(crate) timers: Timers,
    pub(crate) seed: u64,
}

/// What the speaker wants of a session: always the whole of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    /// What the peer is to hear.
    pub(crate) wanted: Wanted,
    /// Administratively shut down; the peer is told this text (RFC 9003).
    pub(crate) shutdown: Option<Arc<str>>,
    /// End the session for good, with this Cease.
    pub(crate) stop: Option<Notification>,
    /// With [`Self::stop`]: the process is to be back soon, and peers that keep its paths meanwhile hear nothing (RFC 4724).
    pub(crate) leave: bool,
    /// End the session and keep away for a time; obeyed once for each number.
    pub(crate) reset: Option<(u64, Notification, Duration)>,
    /// Ask the peer to say everything again (RFC 2918); obeyed once for each number.
    pub(crate) refresh: u64,
}

/// What a session tells the speaker, in order.
#[derive(Debug)]
pub(crate) enum Report {
    /// The session stands.
    Up(Arc<Terms>),
    /// UPDATEs, in order.
    Updates(Vec<Update>),
    /// The peer begins to say everything of a family again, or has said it (RFC 7313).
    Refresh(Family, RouteRefreshKind),
    /// It is over.
    Down(Ended),
}

/// Which incarnation of which session a report is from.
pub(crate) type SessionKey = u64;

/// Ends of the channels of a session.
pub(crate) struct Channels<S> {
    pub(crate) key: SessionKey,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) accepted: mpsc::Receiver<S>,
    pub(crate) reports: mpsc::Sender<(SessionKey, Report)>,
    pub(crate) shared: Shared,
    pub(crate) metrics: PeerMetrics,
}

/// A stream that a session can run on: TCP, or a pair in memory for tests.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + Sized + 'static {
    /// Our end and the peer's.
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)>;

    /// Opens a connection.
    fn dial(
        peer: SocketAddr,
        protection: Protection,
    ) -> impl Future<Output = io::Result<Self>> + Send + 'static;

    /// Makes a connection that the peer opened what `protection` has it be.
    fn protect(&self, peer: IpAddr, protection: &Protection) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((self.local_addr().ok()?, self.peer_addr().ok()?))
    }

    fn dial(
        peer: SocketAddr,
        protection: Protection,
    ) -> impl Future<Output = io::Result<Self>> + Send + 'static {
        socket::dial(peer, protection)
    }

    fn protect(&self, peer: IpAddr, protection: &Protection) -> io::Result<()> {
        socket::protect_accepted(self, peer, protection)
    }
}

/// What a session waits for.
enum Happening<S> {
    /// New orders; `false`: nobody gives any more.
    Orders(bool),
    /// The speaker took a report.
    Reported,
    Accepted(S),
    Dialed(io::Result<S>),
    Io(LinkId, Io),
    Due,
}

type Dialing<S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send>>;

/// The task of one peer. Ends when its orders say stop, or the speaker is gone.
pub(crate) struct Session<S> {
    settings: Settings,
    channels: Channels<S>,
    fsm: Fsm,
    connections: Vec<Connection<S>>,
    dialing: Option<Dialing<S>>,
    closing: JoinSet<()>,
    next_link: u64,
    /// Reports that wait for their turn with the speaker. While there are any, nothing is read.
    outbox: Vec<Report>,
    established: Option<(LinkId, Arc<Terms>)>,
    outbound: Outbound,
    /// How many sessions have stood.
    sessions: u64,
    resets_done: u64,
    refreshes_done: u64,
    shut_down: Option<Arc<str>>,
    actions: Vec<Action>,
}

impl<S: Stream> Session<S> {
    pub(crate) fn new(settings: Settings, channels: Channels<S>) -> Self {
        let fsm = Fsm::new(
            settings.identity.clone(),
            settings.passive,
            settings.timers.clone(),
            settings.seed,
        );
        Self {
            settings,
            channels,
            fsm,
            connections: Vec::new(),
            dialing: None,
            closing: JoinSet::new(),
            next_link: 0,
            outbox: Vec::new(),
            established: None,
            outbound: Outbound::default(),
            sessions: 0,
            resets_done: 0,
            refreshes_done: 0,
            shut_down: None,
            actions: Vec::new(),
        }
    }

    /// Runs until stopped.
    pub(crate) async fn run(mut self) {
        self.on(Event::Start);
        self.obey();
        while !self.stopped() {
            self.turn().await;
            while self.closing.try_join_next().is_some() {}
        }
        // What still waits is of interest to a speaker that runs, not to one that has stopped.
        for report in std::mem::take(&mut self.outbox) {
            let _ = self.channels.reports.try_send((self.channels.key, report));
        }
        while self.closing.join_next().await.is_some() {}
    }

    fn stopped(&self) -> bool {
        let ordered =
            self.channels.orders.borrow().stop.is_some() || self.channels.orders.has_changed().is_err();
        ordered && self.fsm.state() == State::Idle && self.connections.is_empty()
    }

    /// Waits for one thing and deals with it.
    async fn turn(&mut self) {
        let deadline = self.deadline();
        let may_read = self.outbox.is_empty();
        let due = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if due {
            // What has come in counts before the clock does: we may be the ones who are late.
            if may_read && let Some((id, io)) = self.try_io() {
                self.io(id, io);
            }
            return self.expire();
        }
        match self.happening(deadline, may_read).await {
            Happening::Orders(true) => self.obey(),
            Happening::Orders(false) => {
                self.on(Event::Stop(Notification::shutdown("the speaker has stopped")))
            }
            Happening::Reported => {}
            Happening::Accepted(stream) => self.accepted(stream),
            Happening::Dialed(result) => {
                self.dialing = None;
                match result {
                    Ok(stream) => self.connected(stream, Side::Dialed),
                    Err(error) => self.dial_failed(&error),
                }
            }
            Happening::Io(id, io) => self.io(id, io),
            Happening::Due => self.expire(),
        }
    }

    /// Waits for the next thing to happen. Cancel-safe: yes; every branch is.
    async fn happening(&mut self, deadline: Option<Instant>, may_read: bool) -> Happening<S> {
        let Self {
            channels,
            connections,
            dialing,
            outbox,
            ..
        } = self;
        let io = poll_fn(|cx| {
            for connection in connections.iter_mut() {
                if let Poll::Ready(io) = connection.poll(cx, may_read) {
                    return Poll::Ready((connection.id, io));
                }
            }
            Poll::Pending
        });
        let dialed = async {
            match dialing {
                Some(dialing) => dialing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = channels.orders.changed() => Happening::Orders(changed.is_ok()),
            permit = channels.reports.reserve(), if !outbox.is_empty() => {
                match permit {
                    Ok(permit) => permit.send((channels.key, outbox.remove(0))),
                    Err(_) => outbox.clear(),
                }
                Happening::Reported
            }
            Some(stream) = channels.accepted.recv() => Happening::Accepted(stream),
            result = dialed => Happening::Dialed(result),
            (id, io) = io => Happening::Io(id, io),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Happening::Due,
        }
    }

    /// One look at the connections, without waiting.
    fn try_io(&mut self) -> Option<(LinkId, Io)> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        self.connections
            .iter_mut()
            .find_map(|connection| match connection.poll(&mut cx, true) {
                Poll::Ready(io) => Some((connection.id, io)),
                Poll::Pending => None,
            })
    }

    fn deadline(&self) -> Option<Instant> {
        let fsm = self.fsm.deadline().map(Instant::from_std);
        let stuck = self
            .connections
            .iter()
            .filter_map(Connection::stuck_since)
            .map(|since| since + self.send_hold());
        // While the peer takes nothing there is no use in waking up for what could be said.
        let sayable = self.outbound.deadline().filter(|_| self.has_room());
        stuck.chain(fsm).chain(sayable).min()
    }

    /// Whether the peer takes what it is told.
    fn has_room(&self) -> bool {
        let has_room = |id| {
            let mut connections = self.connections.iter();
            connections.any(|connection| connection.id == id && connection.has_room())
        };
        self.established.as_ref().is_some_and(|(id, _)| has_room(*id))
    }

    fn send_hold(&self) -> Duration {
        let hold = self.established.as_ref().and_then(|(_, terms)| terms.hold_time);
        hold.map_or(SEND_HOLD, |hold| SEND_HOLD.max(hold * 2))
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let limit = self.send_hold();
        let stalled: Vec<_> = self
            .connections
            .iter()
            .filter(|connection| connection.stuck_since().is_some_and(|since| now >= since + limit))
            .map(|connection| connection.id)
            .collect();
        for id in stalled {
            self.on(Event::Stalled(id));
        }
        if !self.outbox.is_empty()
            && let Some((id, _)) = self.established
        {
            self.on(Event::Busy(id));
        }
        self.on(Event::Deadline);
        self.announce();
    }

    /// Takes the newest orders.
    fn obey(&mut self) {
        let orders = self.channels.orders.borrow_and_update().clone();
        if let Some(notification) = orders.stop {
            let terms = self.established.as_ref().map(|(_, terms)| terms);
            let waits = terms.is_some_and(|terms| terms.graceful_restart.is_some());
            if !(orders.leave && waits) {
                self.outbound.want(Wanted::default());
                self.announce();
            }
            return self.on(if orders.leave {
                Event::Leave(notification)
            } else {
                Event::Stop(notification)
            });
        }
        if orders.shutdown != self.shut_down {
            self.shut_down.clone_from(&orders.shutdown);
            self.on(match orders.shutdown {
                Some(text) => Event::Stop(Notification::shutdown(&text)),
                None => Event::Start,
            });
        }
        self.outbound.want(orders.wanted);
        self.announce();
        if let Some((number, notification, hold_off)) = orders.reset
            && number > self.resets_done
        {
            self.resets_done = number;
            self.on(Event::Reset {
                notification,
                hold_off,
            });
        }
        if orders.refresh > self.refreshes_done {
            self.refreshes_done = orders.refresh;
            self.ask_again();
        }
    }

    /// Asks the peer to say everything again.
    fn ask_again(&mut self) {
        let Some((id, terms)) = self.established.clone() else {
            return;
        };
        if !terms.wire.route_refresh {
            return;
        }
        info!(peer = %self.settings.name, "asking the peer for everything again");
        self.send_refresh(id, terms.wire.families, RouteRefreshKind::Request);
    }

    fn send_refresh(&mut self, id: LinkId, families: Families, kind: RouteRefreshKind) {
        for family in families.iter() {
            let (afi, safi) = family.numbers();
            self.send(id, &Message::RouteRefresh(RouteRefresh { afi, safi, kind }));
        }
    }

    fn accepted(&mut self, stream: S) {
        match stream.protect(self.settings.address.ip(), &self.settings.protection) {
            Ok(()) => self.connected(stream, Side::Accepted),
            Err(error) => {
                warn!(peer = %self.settings.name, %error, "connection of a BGP peer dropped: it cannot be protected as configured");
                let text = format!("its connection was dropped: {error}");
                self.channels.shared.lock().connect_error = Some(LastError::new(EndedBy::Network, text));
            }
        }
    }

    fn connected(&mut self, stream: S, side: Side) {
        let id = LinkId(self.next_link);
        self.next_link = self.next_link.saturating_add(1);
        self.channels.shared.lock().connect_error = None;
        self.connections.push(Connection::new(id, stream));
        self.on(Event::Connected(id, side));
    }

    fn dial_failed(&mut self, error: &io::Error) {
        debug!(peer = %self.settings.name, address = %self.settings.address, %error, "BGP connection attempt failed");
        let text = format!("cannot connect to {}: {error}", self.settings.address);
        self.channels.shared.lock().connect_error = Some(LastError::new(EndedBy::Network, text));
        self.on(Event::DialFailed);
    }

    fn io(&mut self, id: LinkId, io: Io) {
        match io {
            Io::Lost(why) => {
                // Whoever is closed takes a NOTIFICATION that came just before with it; those were read already.
                self.on(Event::Lost(id, why));
                self.drop_connection(id);
            }
            Io::Read => self.read(id),
            Io::Written => {}
        }
        self.announce();
    }

    /// Decodes what is in the input buffer. Between two messages the machine acts, since an OPEN changes how the next
    /// message is read.
    fn read(&mut self, id: LinkId) {
        loop {
            let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
                return;
            };
            let (kind, decoded) = match connection.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => (Some(frame.kind), wire::decode(&frame, &connection.negotiated)),
                Err(error) => (None, Err(error)),
            };
            match decoded {
                Ok(message) => {
                    self.count_in(&message);
                    self.on(Event::Message(id, message));
                }
                Err(error) => {
                    warn!(peer = %self.settings.name, %error, "message cannot be read, closing the connection");
                    self.on(Event::Malformed(id, kind, error.notification()));
                    return;
                }
            }
        }
    }

    /// Feeds the machine and does what it says.
    fn on(&mut self, event: Event) {
        let before = self.fsm.state();
        let mut actions = std::mem::take(&mut self.actions);
        self.fsm.handle(Instant::now().into_std(), event, &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
        let state = self.fsm.state();
        if state != before {
            debug!(peer = %self.settings.name, %before, %state, "BGP state");
            self.channels.shared.lock().state = state;
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial => {
                let protection = self.settings.protection.clone();
                self.dialing = Some(Box::pin(S::dial(self.settings.address, protection)));
            }
            Action::StopDial => self.dialing = None,
            Action::Send(id, message) => self.send(id, &message),
            Action::Close(id) => self.drop_connection(id),
            Action::Agreed(id, terms) => {
                if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
                    connection.negotiated = terms.wire;
                }
            }
            Action::Up(id, terms) => self.up(id, terms),
            Action::Deliver(message) => self.deliver(message),
            Action::Down(ended) => self.down(ended),
            Action::Failed(ended) => self.failed(&ended),
        }
    }

    fn send(&mut self, id: LinkId, message: &Message) {
        let octets = match message {
            Message::Open(open) => wire::encode_open(open),
            Message::Keepalive => Ok(wire::encode_keepalive()),
            Message::Notification(notification) => Ok(wire::encode_notification(notification)),
            Message::RouteRefresh(refresh) => Ok(wire::encode_route_refresh(refresh)),
            // UPDATEs go out through `announce`.
            Message::Update(_) => return,
        };
        match octets {
            Ok(octets) => {
                if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
                    connection.push(octets);
                    self.count_out(message);
                }
            }
            Err(error) => warn!(peer = %self.settings.name, %error, "message cannot be written"),
        }
    }

    fn drop_connection(&mut self, id: LinkId) {
        if let Some(at) = self.connections.iter().position(|connection| connection.id == id) {
            let connection = self.connections.swap_remove(at);
            if self.closing.len() < CLOSING {
                self.closing.spawn(connection.close());
            }
        }
    }

    fn up(&mut self, id: LinkId, terms: Arc<Terms>) {
        let connection = self.connections.iter().find(|connection| connection.id == id);
        let ends = connection.and_then(|connection| connection.stream().ends());
        let local = ends.map(|(local, _)| local);
        info!(
            peer = %self.settings.name,
            address = %self.settings.address.ip(),
            asn = %terms.asn,
            router_id = %terms.router_id,
            hold_time = terms.hold_time.map_or(0, |hold| hold.as_secs()),
            "BGP session established"
        );
        {
            let mut status = self.channels.shared.lock();
            status.since = jiff::Timestamp::now();
            status.terms = Some(Arc::clone(&terms));
            status.ends = ends;
        }
        self.channels.metrics.up.set(1);
        self.sessions = self.sessions.saturating_add(1);
        self.outbound.reset(Standing {
            negotiated: terms.wire,
            local: local.map(|local| local.ip()),
            peer: self.settings.address.ip(),
            router_id: terms.router_id.address(),
            number: self.sessions,
            pods: self.settings.identity.add_path_send,
        });
        self.established = Some((id, Arc::clone(&terms)));
        self.outbox.push(Report::Up(terms));
        self.announce();
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Update(mut update) => {
                let terms = self.established.as_ref().map(|(_, terms)| terms);
                if let Some(otc) = terms.and_then(|terms| terms.wire.only_to_customer) {
                    otc.receive(&mut update);
                }
                if !update.faults.is_empty() {
                    self.faulty(&update);
                }
                match self.outbox.last_mut() {
                    Some(Report::Updates(updates)) => updates.push(update),
                    _ => self.outbox.push(Report::Updates(vec![update])),
                }
            }
            Message::RouteRefresh(refresh) if refresh.kind == RouteRefreshKind::Request => {
                if let Some(family) = wire::Family::from_numbers(refresh.afi, refresh.safi) {
                    // Counted as a message; a peer that asks without end must not fill the log.
                    debug!(peer = %self.settings.name, %family, "the peer asks for everything again");
                    self.outbound.refresh(family);
                    self.announce();
                }
            }
            Message::RouteRefresh(refresh) => {
                let family = wire::Family::from_numbers(refresh.afi, refresh.safi);
                if let (Some(family), RouteRefreshKind::Begin | RouteRefreshKind::End) =
                    (family, refresh.kind)
                {
                    self.outbox.push(Report::Refresh(family, refresh.kind));
                }
            }
            _ => {}
        }
    }

    fn faulty(&mut self, update: &Update) {
        self.channels.metrics.faulty_updates.inc();
        let mut status = self.channels.shared.lock();
        status.faulty_updates = status.faulty_updates.saturating_add(1);
        // The first one of a connection is worth a line; a flood of them is a number.
        let first = status.last_fault.is_none();
        status.last_fault = update.faults.first().cloned();
        drop(status);
        if first {
            warn!(
                peer = %self.settings.name,
                faults = ?update.faults,
                "UPDATE with faults; treated as withdrawn or without the attribute (RFC 7606), the session stays"
            );
        }
    }

    fn down(&mut self, ended: Ended) {
        let error = LastError::of(&ended);
        warn!(peer = %self.settings.name, by = ?error.by, reason = %error.text, "BGP session down");
        self.note_end(&ended);
        {
            let mut status = self.channels.shared.lock();
            status.since = error.at;
            status.last_error = Some(error);
            status.terms = None;
            status.ends = None;
            status.flaps = status.flaps.saturating_add(1);
            status.announced = 0;
            status.announced_vips.clear();
            status.withheld.clear();
            status.last_fault = None;
        }
        self.channels.metrics.up.set(0);
        self.channels.metrics.flaps.inc();
        self.channels.metrics.announced.set(0);
        self.established = None;
        self.outbound.forget();
        self.outbox.push(Report::Down(ended));
    }

    fn failed(&mut self, ended: &Ended) {
        let error = LastError::of(ended);
        info!(peer = %self.settings.name, by = ?error.by, reason = %error.text, "BGP connection did not become a session");
        self.note_end(ended);
        let mut status = self.channels.shared.lock();
        // A connection that only breaks explains less than what was said before.
        if matches!(ended, Ended::Lost(_)) {
            status.connect_error = Some(error);
        } else {
            status.last_error = Some(error);
        }
    }

    fn note_end(&self, ended: &Ended) {
        let error = LastError::of(ended);
        match ended {
            Ended::Sent(_) => {
                self.channels.metrics.notifications_sent.inc();
                self.channels.shared.lock().notification_sent = Some(error);
            }
            Ended::Received(_) => {
                self.channels.metrics.notifications_received.inc();
                self.channels.shared.lock().notification_received = Some(error);
            }
            Ended::Lost(_) | Ended::Restarted => {}
        }
    }

    /// Queues the UPDATEs that make what the peer knows equal to what is wanted, as far as there is room.
    fn announce(&mut self) {
        let Some((id, _)) = self.established else {
            return;
        };
        loop {
            if !self.has_room() {
                break;
            }
            match self.outbound.next(Instant::now()) {
                None => break,
                Some(Next::Refresh(families, kind)) => self.send_refresh(id, families, kind),
                Some(Next::Updates(messages)) => self.send_updates(id, messages),
            }
        }
        if self.outbound.has_news() {
            let mut status = self.channels.shared.lock();
            status.announced = self.outbound.count();
            status.announced_vips.clone_from(self.outbound.vips());
            status.withheld = self.outbound.withheld();
            self.channels
                .metrics
                .announced
                .set(i64::try_from(status.announced).unwrap_or(i64::MAX));
        }
    }

    fn send_updates(&mut self, id: LinkId, messages: Vec<Bytes>) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        for octets in messages {
            connection.push(octets);
            self.channels.metrics.messages_sent.update.inc();
            self.channels.shared.lock().sent.update += 1;
        }
    }

    fn count_in(&self, message: &Message) {
        let mut status = self.channels.shared.lock();
        count(&mut status.received, message);
        drop(status);
        self.channels.metrics.messages_received.of(message).inc();
    }

    fn count_out(&self, message: &Message) {
        let mut status = self.channels.shared.lock();
        count(&mut status.sent, message);
        drop(status);
        self.channels.metrics.messages_sent.of(message).inc();
    }
}

fn count(counts: &mut MessageCounts, message: &Message) {
    let field = match message {
        Message::Open(_) => &mut counts.open,
        Message::Update(_) => &mut counts.update,
        Message::Notification(_) => &mut counts.notification,
        Message::Keepalive => &mut counts.keepalive,
        Message::RouteRefresh(_) => &mut counts.route_refresh,
    };
    *field = field.saturating_add(1);
}
