//! Boxes in a network that breaks: connections are reset, stall or never come to be, boxes restart, the clock jumps,
//! peers are shut down, announcements change all the time. Then the network heals, and everything has to be right.
//!
//! What happens to the network follows from a seed; a failure names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;

use super::*;

/// Networks by number: the two middle octets of every address in it.
static WORLDS: LazyLock<Mutex<HashMap<u16, Arc<World>>>> = LazyLock::new(Mutex::default);
static NEXT_WORLD: AtomicU16 = AtomicU16::new(1);

/// Two boxes.
type Pair = (u8, u8);

fn pair(a: u8, b: u8) -> Pair {
    (a.min(b), a.max(b))
}

/// What is between boxes.
#[derive(Default)]
struct World {
    listeners: Mutex<BTreeMap<u8, mpsc::Sender<Line>>>,
    /// Between these nothing comes to be: attempts are refused, or hang.
    cut: Mutex<BTreeMap<Pair, bool>>,
    stalled: Mutex<BTreeSet<Pair>>,
    cables: Mutex<Vec<Weak<Cable>>>,
    ports: AtomicU16,
}

impl World {
    fn of(address: Ipv4Addr) -> (Arc<Self>, u8) {
        let [_, high, low, number] = address.octets();
        let world = WORLDS
            .lock()
            .unwrap()
            .get(&u16::from_be_bytes([high, low]))
            .cloned();
        (world.expect("a world"), number)
    }

    /// The cables between two boxes that are still in use.
    fn cables(&self, between: Pair) -> Vec<Arc<Cable>> {
        let mut cables = self.cables.lock().unwrap();
        cables.retain(|cable| cable.strong_count() > 0);
        cables
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|cable| cable.between == between)
            .collect()
    }

    fn reset(&self, between: Pair) {
        for cable in self.cables(between) {
            cable.set(|state| state.broken = true);
        }
    }

    fn stall(&self, between: Pair, stalled: bool) {
        if stalled {
            self.stalled.lock().unwrap().insert(between);
        } else {
            self.stalled.lock().unwrap().remove(&between);
        }
        for cable in self.cables(between) {
            cable.set(|state| state.stalled = stalled);
        }
    }
}

/// One connection, seen from outside.
struct Cable {
    between: Pair,
    state: Mutex<CableState>,
}

#[derive(Default)]
struct CableState {
    broken: bool,
    stalled: bool,
    waiting: Vec<Waker>,
}

impl Cable {
    fn set(&self, change: impl FnOnce(&mut CableState)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Whether octets pass now; whoever has to wait is woken when that changes.
    fn passes(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock().unwrap();
        if !state.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        match (state.broken, state.stalled) {
            (true, _) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            (false, true) => Poll::Pending,
            (false, false) => Poll::Ready(Ok(())),
        }
    }
}

/// One end of a connection.
struct Line {
    stream: DuplexStream,
    cable: Arc<Cable>,
    ends: (SocketAddr, SocketAddr),
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.cable.passes(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_read(cx, buf),
            other => other,
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.cable.passes(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_write(cx, octets),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Stream for Line {
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some(self.ends)
    }

    fn protect(&self, _: IpAddr, _: &Protection) -> io::Result<()> {
        Ok(())
    }

    async fn dial(peer: SocketAddr, protection: Protection) -> io::Result<Self> {
        let (Some(IpAddr::V4(own)), IpAddr::V4(theirs)) = (protection.transport.source_address, peer.ip())
        else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let ((world, from), (_, to)) = (World::of(own), World::of(theirs));
        let between = pair(from, to);
        let cut = world.cut.lock().unwrap().get(&between).copied();
        match cut {
            Some(true) => return Err(io::ErrorKind::HostUnreachable.into()),
            Some(false) => return std::future::pending().await,
            None => {}
        }
        let listener = world.listeners.lock().unwrap().get(&to).cloned();
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        let cable = Arc::new(Cable {
            between,
            state: Mutex::new(CableState {
                stalled: world.stalled.lock().unwrap().contains(&between),
                ..CableState::default()
            }),
        });
        world.cables.lock().unwrap().push(Arc::downgrade(&cable));
        // A port for each connection tells them apart.
        let near = SocketAddr::new(own.into(), world.ports.fetch_add(1, Ordering::Relaxed));
        let (here, there) = duplex(4096);
        let line = |stream, ends| Self {
            stream,
            cable: Arc::clone(&cable),
            ends,
        };
        listener
            .try_send(line(there, (peer, near)))
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(line(here, (near, peer)))
    }
}

/// What the speaker of a box holds of one peer.
#[derive(Debug, Default)]
struct Heard {
    up: bool,
    prefixes: BTreeSet<Prefix>,
    wrong: Option<String>,
}

impl Heard {
    fn take(&mut self, report: Report) {
        match report {
            Report::Up(_) => {
                if self.up {
                    self.wrong = Some("a session came up while one stood".into());
                }
                self.up = true;
                self.prefixes.clear();
            }
            Report::Down(_) => {
                if !self.up {
                    self.wrong = Some("a session went down while none stood".into());
                }
                self.up = false;
                self.prefixes.clear();
            }
            Report::Updates(updates) => {
                if !self.up {
                    self.wrong = Some("an UPDATE came while no session stood".into());
                }
                for update in updates {
                    if !update.faults.is_empty() {
                        self.wrong = Some(format!("{:?}", update.faults));
                    }
                    for nlri in update.withdrawn {
                        self.prefixes.remove(&nlri.prefix);
                    }
                    self.prefixes
                        .extend(update.announced.into_iter().map(|(nlri, _)| nlri.prefix));
                }
            }
            Report::Refresh(..) => {}
        }
    }
}

/// A session of a box.
struct Post {
    orders: watch::Sender<Orders>,
    shared: Shared,
    heard: Arc<Mutex<Heard>>,
}

/// A box that runs.
struct Running {
    posts: BTreeMap<u8, Post>,
    /// Ends with it, and so do its connections.
    _tasks: JoinSet<()>,
}

struct Simulation {
    world: Arc<World>,
    world_number: u16,
    external: bool,
    boxes: u8,
    running: BTreeMap<u8, Running>,
    announced: BTreeMap<u8, BTreeSet<Prefix>>,
    dice: u64,
    diary: Vec<String>,
}

impl Simulation {
    fn new(seed: u64, boxes: u8) -> Self {
        let world_number = NEXT_WORLD.fetch_add(1, Ordering::Relaxed);
        let world = Arc::new(World::default());
        WORLDS.lock().unwrap().insert(world_number, Arc::clone(&world));
        Self {
            world,
            world_number,
            external: seed.is_multiple_of(2),
            boxes,
            running: BTreeMap::new(),
            announced: BTreeMap::new(),
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            diary: Vec::new(),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 16) % end
    }

    fn some_box(&mut self) -> u8 {
        u8::try_from(self.below(self.boxes.into())).unwrap() + 1
    }

    fn some_pair(&mut self) -> Pair {
        let a = self.some_box();
        loop {
            let b = self.some_box();
            if a != b {
                return pair(a, b);
            }
        }
    }

    fn address(&self, number: u8) -> Ipv4Addr {
        let [high, low] = self.world_number.to_be_bytes();
        Ipv4Addr::new(10, high, low, number)
    }

    fn asn(&self, number: u8) -> Asn {
        Asn::try_from(if self.external {
            65000 + u32::from(number)
        } else {
            64512
        })
        .unwrap()
    }

    fn start(&mut self, number: u8) {
        let mut tasks = JoinSet::new();
        let (connections, mut accepted) = mpsc::channel::<Line>(8);
        let mut doors = BTreeMap::new();
        let mut posts = BTreeMap::new();
        for other in (1..=self.boxes).filter(|other| *other != number) {
            let seed = self.below(u64::MAX);
            let settings = Settings {
                name: PeerName::from(IpAddr::from(self.address(other))),
                address: SocketAddr::new(self.address(other).into(), 179),
                passive: false,
                protection: Protection {
                    transport: Transport {
                        source_address: Some(self.address(number).into()),
                        ..Transport::default()
                    },
                    interface: None,
                    external: self.external,
                },
                identity: Identity {
                    asn: self.asn(number),
                    router_id: RouterId::try_from(self.address(number)).unwrap(),
                    hold_time: 9,
                    restart: crate::fsm::Restart::receiver(120),
                    peer_as: self.asn(other).into(),
                    add_path_send: false,
                    role: None,
                    role_strict: false,
                },
                timers: Timers::default(),
                seed,
            };
            let (orders, orders_taken) = watch::channel(Orders::default());
            let (door, accepted_taken) = mpsc::channel(4);
            let (reports_sent, mut reports) = mpsc::channel(4);
            let shared = Shared::new();
            let channels = Channels {
                key: 1,
                orders: orders_taken,
                accepted: accepted_taken,
                reports: reports_sent,
                shared: shared.clone(),
                metrics: Metrics::register(&Registry::new()).unwrap().peer(&settings.name),
            };
            let heard = Arc::new(Mutex::new(Heard::default()));
            let diary = Arc::clone(&heard);
            tasks.spawn(async move {
                while let Some((_, report)) = reports.recv().await {
                    diary.lock().unwrap().take(report);
                }
            });
            tasks.spawn(Session::new(settings, channels).run());
            doors.insert(self.address(other), door);
            posts.insert(
                other,
                Post {
                    orders,
                    shared,
                    heard,
                },
            );
        }
        tasks.spawn(async move {
            while let Some(line) = accepted.recv().await {
                let IpAddr::V4(from) = line.ends.1.ip() else {
                    continue;
                };
                if let Some(door) = doors.get(&from) {
                    let _ = door.try_send(line);
                }
            }
        });
        self.world.listeners.lock().unwrap().insert(number, connections);
        self.running.insert(number, Running { posts, _tasks: tasks });
        self.order(number);
    }

    fn stop(&mut self, number: u8) {
        self.world.listeners.lock().unwrap().remove(&number);
        self.running.remove(&number);
    }

    /// Tells the sessions of a box what it announces.
    fn order(&self, number: u8) {
        let Some(running) = self.running.get(&number) else {
            return;
        };
        let none = BTreeSet::new();
        let prefixes = self.announced.get(&number).unwrap_or(&none);
        let export = Export {
            asn: self.asn(number),
            cluster_id: self.address(number),
            internal: !self.external,
            client: false,
            next_hop: PassedNextHop::Usual,
            draining: false,
            rules: vec![],
        };
        let adverts: Adverts = prefixes
            .iter()
            .map(|prefix| {
                let advert = export.vip(prefix, &PathChange::default()).unwrap();
                (vip_key(*prefix), Arc::new(advert))
            })
            .collect();
        for post in running.posts.values() {
            post.orders
                .send_modify(|orders| orders.wanted.vips = adverts.clone());
        }
    }

    fn change_announcements(&mut self) {
        let number = self.some_box();
        for _ in 0..=self.below(20) {
            let prefix =
                Prefix::host(Ipv4Addr::new(203, 0, number, u8::try_from(self.below(64)).unwrap()).into());
            let announced = self.announced.entry(number).or_default();
            if !announced.remove(&prefix) {
                announced.insert(prefix);
            }
        }
        self.order(number);
    }

    fn shut_down(&mut self, between: Pair, text: Option<&str>) {
        if let Some(post) = self
            .running
            .get(&between.0)
            .and_then(|running| running.posts.get(&between.1))
        {
            post.orders
                .send_modify(|orders| orders.shutdown = text.map(Into::into));
        }
    }

    /// One thing that goes wrong, or right again.
    async fn misfortune(&mut self) {
        let between = self.some_pair();
        let number = self.some_box();
        let what = self.below(12);
        self.diary.push(format!("{what}: {between:?} {number}"));
        match what {
            0 | 1 => self.world.reset(between),
            2 => self.world.stall(between, true),
            3 => self.world.stall(between, false),
            4 => {
                let refused = self.below(2) == 0;
                self.world.cut.lock().unwrap().insert(between, refused);
            }
            5 => {
                self.world.cut.lock().unwrap().remove(&between);
            }
            6 => self.stop(number),
            7 => {
                self.stop(number);
                self.start(number);
            }
            8 => {
                let jump = self.below(60);
                tokio::time::advance(Duration::from_secs(jump)).await;
            }
            9 => self.shut_down(between, Some("for a while")),
            10 => self.shut_down(between, None),
            _ => self.change_announcements(),
        }
        let pause = self.below(4000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn heal(&mut self) {
        self.world.cut.lock().unwrap().clear();
        for a in 1..=self.boxes {
            for b in (1..=self.boxes).filter(|b| a < *b) {
                self.world.stall((a, b), false);
                self.shut_down((a, b), None);
            }
            if !self.running.contains_key(&a) {
                self.start(a);
            }
        }
    }

    /// What has to hold once the network has been whole for long enough.
    fn judge(&self) -> Result<(), String> {
        for (number, running) in &self.running {
            for (other, post) in &running.posts {
                let who = format!("{number} with {other}");
                let there = &self.running.get(other).expect("runs").posts[number];
                let (here, there_status) = (post.shared.lock(), there.shared.lock());
                if here.state != State::Established {
                    return Err(format!("{who}: {}, {:?}", here.state, here.last_error));
                }
                let mirrored = there_status.ends.map(|(near, far)| (far, near));
                if here.ends != mirrored {
                    return Err(format!(
                        "{who}: two connections stand, {:?} and {mirrored:?}",
                        here.ends
                    ));
                }
                drop((here, there_status));
                let heard = post.heard.lock().unwrap();
                if let Some(wrong) = &heard.wrong {
                    return Err(format!("{who}: {wrong}"));
                }
                let none = BTreeSet::new();
                let announced = self.announced.get(other).unwrap_or(&none);
                if heard.prefixes != *announced {
                    return Err(format!(
                        "{who}: heard {:?}, announced {announced:?}",
                        heard.prefixes
                    ));
                }
            }
        }
        Ok(())
    }

    fn flaps(&self) -> u64 {
        let posts = self.running.values().flat_map(|running| running.posts.values());
        posts.map(|post| post.shared.lock().flaps).sum()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        WORLDS.lock().unwrap().remove(&self.world_number);
    }
}

async fn simulate(seed: u64, boxes: u8) -> Result<(), String> {
    let mut simulation = Simulation::new(seed, boxes);
    for number in 1..=boxes {
        simulation.start(number);
        simulation.change_announcements();
    }
    for _ in 0..80 {
        simulation.misfortune().await;
    }
    simulation.heal();
    // The longest wait after errors is a minute, and a connection that hung takes a hold time to be noticed.
    tokio::time::sleep(Duration::from_secs(90)).await;
    let flaps = simulation.flaps();
    simulation.change_announcements();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let judged = simulation.judge();
    let quiet = simulation.flaps() == flaps;
    match judged {
        Ok(()) if quiet => Ok(()),
        Ok(()) => Err("sessions were lost in a network that is whole".into()),
        Err(what) => Err(format!("{what}\n{}", simulation.diary.join("\n"))),
    }
}

fn run(seeds: std::ops::Range<u64>, boxes: u8) {
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        if let Err(what) = runtime.block_on(simulate(seed, boxes)) {
            panic!("seed {seed}, {boxes} boxes: {what}");
        }
    }
}

#[test]
fn two_boxes_in_a_network_that_breaks() {
    run(0..60, 2);
}

#[test]
fn three_boxes_in_a_network_that_breaks() {
    run(1000..1030, 3);
}
