use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sekisho_config::model::{
    Action, Balance, CertificateSource, ClusterPart, Condition, Conditions, Desired, Endpoint, HostPattern,
    Http, ListenerState, NodeName, ObjectName, Observed, PathMatch, Pool, PoolId, Revision, Route, RouteId,
    Routing, TcpRoute, Timeouts, Upstream, VirtualHost,
};
use sekisho_proxy::{Event, Handle, Inputs, Live, Snapshot, snapshot, start_with_log};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A wait that ends only when something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited too long for {what}"))
}

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Write for Capture {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) const HTTP: &str = "127.0.0.1:0";
pub(crate) const HTTPS: &str = "127.0.0.2:0";

/// A running data plane with what is wished of it.
pub(crate) struct Plane {
    pub(crate) handle: Handle,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
    pub(crate) registry: prometheus::Registry,
    pub(crate) routing: Routing,
    revision: u64,
    log: Capture,
}

pub(crate) fn quick() -> Timeouts {
    Timeouts {
        drain: Duration::from_secs(5),
        drain_tunnels: Duration::from_millis(300),
        ..Timeouts::default()
    }
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_with(quick(), Http::default()).await
    }

    pub(crate) async fn start_with(timeouts: Timeouts, http: Http) -> Self {
        Self::start_live(Live {
            http,
            timeouts,
            ..Live::default()
        })
        .await
    }

    pub(crate) async fn start_live(live: Live) -> Self {
        let desired = Desired {
            cluster: Some(ClusterPart::default()),
            http: vec![HTTP.parse().unwrap()],
            https: vec![HTTPS.parse().unwrap()],
            http3: Vec::new(),
            sticky_key: Some(sekisho_config::model::Secret::new(*b"a key of the tests")),
        };
        let log = Capture::default();
        let registry = prometheus::Registry::new();
        let inputs = Inputs {
            workers: 2,
            appliance: "box".into(),
            live,
            snapshot: Arc::new(Snapshot::default()),
        };
        let (handle, events) = start_with_log(inputs, &registry, Box::new(log.clone())).unwrap();
        let mut plane = Self {
            handle,
            events,
            desired,
            observed: Observed::default(),
            registry,
            routing: Routing::Off,
            revision: 0,
            log,
        };
        plane.publish();
        plane.bound(2).await;
        plane
    }

    /// Waits for `count` listeners to be bound.
    pub(crate) async fn bound(&mut self, count: usize) {
        for _ in 0..count {
            match soon("a listener", self.events.recv()).await {
                Some(Event::Listener {
                    state: Some(ListenerState::Bound),
                    ..
                }) => {}
                other => panic!("not bound: {other:?}"),
            }
        }
    }

    /// Waits for the next word on an endpoint's health and publishes what follows from it, as the control task does.
    pub(crate) async fn health(&mut self) -> (SocketAddr, Option<bool>) {
        loop {
            let Event::Health {
                address,
                check,
                health,
            } = soon("a health check", self.events.recv()).await.unwrap()
            else {
                continue;
            };
            let well = health.as_ref().map(|health| health.well);
            match health {
                Some(health) => self.observed.health.insert((address, check), health),
                None => self.observed.health.remove(&(address, check)),
            };
            self.publish();
            return (address, well);
        }
    }

    pub(crate) fn publish(&mut self) {
        self.revision += 1;
        let previous = self.handle.current();
        let next = snapshot::compile(
            &previous,
            &self.desired,
            &self.observed,
            self.routing,
            Revision(self.revision),
        );
        self.handle.publish(Arc::new(next));
    }

    pub(crate) fn configure(&self, change: impl FnOnce(&mut Live)) {
        let mut live = Live {
            timeouts: quick(),
            ..Live::default()
        };
        change(&mut live);
        self.handle.configure(live);
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.handle.bound(HTTP.parse().unwrap()).unwrap()
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.handle.bound(HTTPS.parse().unwrap()).unwrap()
    }

    pub(crate) fn cluster(&mut self) -> &mut ClusterPart {
        self.desired.cluster.as_mut().unwrap()
    }

    /// Changes how the box speaks to a pool that [`Plane::pool`] made.
    pub(crate) fn upstream(&mut self, name: &str, upstream: Upstream) {
        let id = PoolId {
            service: ObjectName::new("ns", name),
            port: 80,
        };
        let pools = &mut self.cluster().pools;
        let pool = Pool {
            upstream,
            ..Pool::clone(pools.get(&id).unwrap())
        };
        pools.insert(id, Arc::new(pool));
    }

    /// Wishes for a pool `ns/<name>:80` with these endpoints.
    pub(crate) fn pool(&mut self, name: &str, endpoints: &[SocketAddr]) -> PoolId {
        let id = PoolId {
            service: ObjectName::new("ns", name),
            port: 80,
        };
        let mut endpoints: Vec<Endpoint> = endpoints
            .iter()
            .enumerate()
            .map(|(index, address)| Endpoint {
                address: *address,
                pod: Some(ObjectName::new("ns", format!("{name}-{index}"))),
                node: Some(NodeName("node-1".into())),
                condition: Condition::Ready,
                weight: std::num::NonZeroU8::MIN,
            })
            .collect();
        endpoints.sort_by_key(|endpoint| endpoint.address);
        let pool = Pool {
            id: id.clone(),
            balance: Balance::LeastRequest,
            upstream: Upstream::default(),
            policy: Arc::default(),
            endpoints,
        };
        self.cluster().pools.insert(id.clone(), Arc::new(pool));
        id
    }

    /// Changes the wish for the pool `ns/<name>:80`.
    pub(crate) fn change_pool(&mut self, name: &str, change: impl FnOnce(&mut Pool)) {
        let id = PoolId {
            service: ObjectName::new("ns", name),
            port: 80,
        };
        let pool = self.cluster().pools.get_mut(&id).unwrap();
        change(Arc::make_mut(pool));
    }

    /// Wishes for `host` with one prefix route `/` to a pool of that name.
    pub(crate) fn host(&mut self, host: &str, endpoints: &[SocketAddr]) {
        let pool = self.pool(host, endpoints);
        self.route(host, &[("/", Action::Forward(pool))]);
    }

    pub(crate) fn route(&mut self, host: &str, routes: &[(&str, Action)]) {
        let pattern: HostPattern = host.parse().unwrap();
        let routes = routes
            .iter()
            .zip(0u32..)
            .map(|((path, action), index)| Route {
                id: RouteId {
                    ingress: ObjectName::new("ns", "web"),
                    place: Some((0, index)),
                },
                path: PathMatch::Prefix((*path).into()),
                conditions: Conditions::default(),
                filters: None,
                action: action.clone(),
            })
            .collect();
        let host = VirtualHost {
            host: pattern.clone(),
            routes,
            fallback: None,
        };
        self.cluster().hosts.insert(pattern, Arc::new(host));
    }

    pub(crate) fn certificate(&mut self, host: &str, source: CertificateSource) {
        self.cluster()
            .certificates
            .insert(host.parse().unwrap(), Arc::new(source));
    }

    /// Wishes for a TCP listener and waits until it is bound; gives its real address.
    pub(crate) async fn tcp(&mut self, endpoints: &[SocketAddr]) -> SocketAddr {
        let pool = self.pool("db", endpoints);
        let listen: SocketAddr = "127.0.0.3:0".parse().unwrap();
        let route = TcpRoute {
            listen,
            service: pool.service.clone(),
            pool,
        };
        self.cluster().tcp.insert(listen, Arc::new(route));
        self.publish();
        self.bound(1).await;
        self.handle.bound(listen).unwrap()
    }

    /// Sends octets on a new connection and reads until the end of it.
    pub(crate) async fn raw(&self, octets: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.http()).await.unwrap();
        stream.write_all(octets.as_ref()).await.unwrap();
        read_all(&mut stream).await
    }

    /// A new connection that has said this.
    pub(crate) async fn ask(&self, octets: impl AsRef<[u8]>) -> TcpStream {
        let mut client = TcpStream::connect(self.http()).await.unwrap();
        client.write_all(octets.as_ref()).await.unwrap();
        client
    }

    /// `GET path` with `Connection: close`.
    pub(crate) async fn fetch(&self, host: &str, path: &str) -> String {
        self.raw(format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    /// Sum of the series of a metric whose labels contain all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.registry
            .gather()
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(|family| family.get_metric().to_vec())
            .filter(|metric| {
                labels.iter().all(|(n, v)| {
                    metric
                        .get_label()
                        .iter()
                        .any(|label| label.name() == *n && label.value() == *v)
                })
            })
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    /// Ends everything and gives the access log as it was written.
    pub(crate) async fn finish_with_text(self) -> String {
        soon("the stop", self.handle.finish()).await;
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    /// Ends everything and gives the lines of the access log; by status and then by who ended the exchange, since
    /// the order of the workers means nothing.
    pub(crate) async fn finish(self) -> Vec<serde_json::Value> {
        let log = self.finish_with_text().await;
        let mut lines: Vec<serde_json::Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        lines.sort_by_key(|line| {
            (
                line["status"].as_u64(),
                line["ended_by"].as_str().map(str::to_owned),
            )
        });
        lines
    }
}

/// Reads until the connection ends, whichever way.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut octets = Vec::new();
    soon("the end of a connection", async {
        let mut chunk = [0; 4096];
        while let Ok(count) = stream.read(&mut chunk).await {
            if count == 0 {
                break;
            }
            octets.extend_from_slice(&chunk[..count]);
        }
    })
    .await;
    String::from_utf8_lossy(&octets).into_owned()
}

/// Reads until `end` was read.
pub(crate) async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut octets = Vec::new();
    soon(end, async {
        while !octets.ends_with(end.as_bytes()) {
            let mut octet = [0];
            if stream.read(&mut octet).await.unwrap_or(0) == 0 {
                break;
            }
            octets.push(octet[0]);
        }
    })
    .await;
    String::from_utf8_lossy(&octets).into_owned()
}

/// What a backend does after its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    Keep,
    Close,
    Reset,
    /// Waits until the other side closes.
    Hang,
    /// Sends back what it gets, until the end of it; then closes.
    Echo,
}

/// A backend that reads one request after the other and answers by a script.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Requests as they came, header and body.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    /// Told when a connection has ended.
    pub(crate) closed: mpsc::Receiver<()>,
    _tasks: JoinSet<()>,
}

pub(crate) const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

impl Backend {
    pub(crate) async fn hello() -> Self {
        Self::start(|_, _| (HELLO.to_owned(), Then::Keep)).await
    }

    /// `script` gets the number of the request over all connections (from 0) and the request.
    pub(crate) async fn start(
        script: impl Fn(usize, &str) -> (String, Then) + Send + Sync + Clone + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub(crate) async fn start_at(
        address: &str,
        script: impl Fn(usize, &str) -> (String, Then) + Send + Sync + Clone + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (ended, closed) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        let (count, seen) = (Arc::clone(&connections), Arc::clone(&requests));
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (script, seen, ended) = (script.clone(), Arc::clone(&seen), ended.clone());
                serving.spawn(async move {
                    converse(stream, script, seen).await;
                    let _ = ended.send(()).await;
                });
            }
        });
        Self {
            address,
            connections,
            requests,
            closed,
            _tasks: tasks,
        }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn converse(
    mut stream: TcpStream,
    script: impl Fn(usize, &str) -> (String, Then),
    seen: Arc<Mutex<Vec<String>>>,
) {
    loop {
        let Some(request) = read_request(&mut stream).await else {
            return;
        };
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let (answer, then) = script(number, &request);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Close => return,
            Then::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Then::Hang => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                return;
            }
            Then::Echo => {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
                return;
            }
        }
    }
}

/// A request with its body; `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut octets = Vec::new();
    while !octets.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        if stream.read(&mut octet).await.ok()? == 0 {
            return None;
        }
        octets.push(octet[0]);
    }
    let head = String::from_utf8_lossy(&octets).to_ascii_lowercase();
    if let Some(length) = head.split("\r\ncontent-length: ").nth(1) {
        let length: usize = length.split("\r\n").next()?.parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        octets.extend_from_slice(&body);
    } else if head.contains("\r\ntransfer-encoding: chunked") {
        // Trailers may stand between the last chunk and the end.
        let body = octets.len() - 2;
        let ends = |octets: &[u8]| {
            octets.ends_with(b"\r\n\r\n") && octets[body..].windows(5).any(|line| line == b"\r\n0\r\n")
        };
        while !ends(&octets) {
            let mut octet = [0];
            if stream.read(&mut octet).await.ok()? == 0 {
                break;
            }
            octets.push(octet[0]);
        }
    }
    Some(String::from_utf8_lossy(&octets).into_owned())
}

/// A port on loopback where nothing listens.
pub(crate) async fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
