//! A running data plane on loopback, once for the process, before an endpoint of ours in the same process: the targets
//! play whole connections, through the same code that serves clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sekisho_config::model::{
    Action, ClusterPart, Condition, Conditions, Desired, Endpoint, Http, NodeName, ObjectName, Observed,
    PathMatch, Pool, PoolId, Revision, Route, RouteId, Routing, Timeouts, Upstream, VirtualHost,
};
use sekisho_proxy::fields::Fields;
use sekisho_proxy::h1::head::{Parser, Step};
use sekisho_proxy::h1::{Decoded, Decoder, Limits, request};
use sekisho_proxy::message::request::Parts;
use sekisho_proxy::path::normalise;
use sekisho_proxy::{Event, Handle, Inputs, Live, Snapshot, snapshot, start_with_log};

/// What is longer than this hangs.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// In every answer of the endpoint.
pub const MARK: &[u8] = b"x-endpoint: 1\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nx-endpoint: 1\r\ncontent-length: 2\r\n\r\nok";
const ANSWER_TO_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nx-endpoint: 1\r\ncontent-length: 2\r\n\r\n";

/// The limits of the plane.
pub const LIMITS: Limits = Limits {
    head_bytes: 64 * 1024,
    fields: 128,
    uri_bytes: 16 * 1024,
};

/// A request as somebody read it.
#[derive(Debug)]
pub struct Read1 {
    pub head: Parts,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

/// What an endpoint does with a connection.
#[derive(Clone)]
pub enum Script {
    /// Reads requests, checks them, keeps them, answers them.
    Record,
    /// Answers each connection's first request with these octets; then a FIN, or a reset.
    Play { answer: Vec<u8>, reset: bool },
}

/// The plane and its endpoint.
pub struct Plane {
    pub http: SocketAddr,
    pub https: SocketAddr,
    script: Arc<Mutex<Script>>,
    got: Arc<Mutex<Vec<Read1>>>,
    _handle: Handle,
    _runtime: tokio::runtime::Runtime,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plane {
    pub fn start() -> Self {
        let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = endpoint.local_addr().unwrap();
        let (script, got) = (Arc::new(Mutex::new(Script::Record)), Arc::default());
        let (wanted, kept) = (Arc::clone(&script), Arc::clone(&got));
        std::thread::spawn(move || {
            for stream in endpoint.incoming().flatten() {
                let script = lock(&wanted).clone();
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || match script {
                    Script::Record => record(stream, &kept),
                    Script::Play { answer, reset } => play(stream, &answer, reset),
                });
            }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (handle, http, https) = runtime.block_on(begin(address));
        Self {
            http,
            https,
            script,
            got,
            _handle: handle,
            _runtime: runtime,
        }
    }

    pub fn play(&self, script: Script) {
        *lock(&self.script) = script;
    }

    /// What the endpoint has got since the last call.
    pub fn take(&self) -> Vec<Read1> {
        std::mem::take(&mut *lock(&self.got))
    }
}

async fn begin(endpoint: SocketAddr) -> (Handle, SocketAddr, SocketAddr) {
    let id = PoolId {
        service: ObjectName::new("ns", "web"),
        port: 80,
    };
    let pool = Pool {
        id: id.clone(),
        balance: sekisho_config::model::Balance::LeastRequest,
        upstream: Upstream::default(),
        policy: Arc::default(),
        endpoints: vec![Endpoint {
            address: endpoint,
            pod: Some(ObjectName::new("ns", "web-0")),
            node: Some(NodeName("node-1".into())),
            condition: Condition::Ready,
            weight: std::num::NonZeroU8::MIN,
        }],
    };
    let pattern: sekisho_config::model::HostPattern = "a.test".parse().unwrap();
    let host = VirtualHost {
        host: pattern.clone(),
        routes: vec![Route {
            id: RouteId {
                ingress: ObjectName::new("ns", "web"),
                place: Some((0, 0)),
            },
            path: PathMatch::Prefix("/".into()),
            conditions: Conditions::default(),
            filters: None,
            action: Action::Forward(id.clone()),
        }],
        fallback: None,
    };
    let mut cluster = ClusterPart::default();
    cluster.pools.insert(id, Arc::new(pool));
    cluster.hosts.insert(pattern, Arc::new(host));
    let (http, https) = ("127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap());
    let desired = Desired {
        cluster: Some(cluster),
        http: vec![http],
        https: vec![https],
        ..Desired::default()
    };
    let live = Live {
        http: Http {
            access_log: false,
            max_requests_per_connection: u64::MAX,
            ..Http::default()
        },
        timeouts: Timeouts {
            request_header: Duration::from_secs(1),
            request_body: Duration::from_secs(1),
            response_read: Duration::from_secs(1),
            ..Timeouts::default()
        },
        ..Live::default()
    };
    let snapshot = snapshot::compile(
        &Snapshot::default(),
        &desired,
        &Observed::default(),
        Routing::Off,
        Revision(1),
    );
    let inputs = Inputs {
        workers: 1,
        appliance: "fuzz".into(),
        live,
        snapshot: Arc::new(snapshot),
    };
    let registry = prometheus::Registry::new();
    let (handle, mut events) = start_with_log(inputs, &registry, Box::new(std::io::sink())).unwrap();
    for _ in 0..2 {
        assert!(matches!(events.recv().await, Some(Event::Listener { .. })));
    }
    let (http, https) = (handle.bound(http).unwrap(), handle.bound(https).unwrap());
    (handle, http, https)
}

/// Reads requests out of `octets`; says how the reading ended.
pub struct Reader {
    buffer: BytesMut,
    parser: Parser,
    /// A request whose body is being read.
    open: Option<(Read1, Decoder)>,
}

/// What came of it.
pub enum Next {
    Request(Box<Read1>),
    More,
    Fault,
}

impl Reader {
    pub fn new(octets: &[u8]) -> Self {
        Self {
            buffer: BytesMut::from(octets),
            parser: Parser::default(),
            open: None,
        }
    }

    pub fn feed(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    pub fn next(&mut self) -> Next {
        loop {
            if let Some((read, decoder)) = &mut self.open {
                match decoder.decode(&mut self.buffer) {
                    Ok(Decoded::Data(data)) => read.body.extend_from_slice(&data),
                    Ok(Decoded::Trailers(trailers)) => read.trailers = trailers,
                    Ok(Decoded::More) => return Next::More,
                    Ok(Decoded::End) => {}
                    Err(_) => return Next::Fault,
                }
                if !decoder.is_done() {
                    continue;
                }
                return match self.open.take() {
                    Some((read, _)) => Next::Request(Box::new(read)),
                    None => Next::Fault,
                };
            }
            match request::advance(&mut self.parser, &self.buffer, &LIMITS) {
                Ok(Step::Partial) => return Next::More,
                Ok(Step::Complete(length)) => {
                    let section: Bytes = self.buffer.split_to(length).freeze();
                    let parser = std::mem::take(&mut self.parser);
                    let Ok(head) = request::head(parser, &section) else {
                        return Next::Fault;
                    };
                    let Ok(decoder) = request::framing(head.version, &head.headers) else {
                        return Next::Fault;
                    };
                    let read = Read1 {
                        head,
                        body: Vec::new(),
                        trailers: Fields::new(),
                    };
                    self.open = Some((read, decoder));
                }
                Err(_) => return Next::Fault,
            }
        }
    }
}

fn record(mut stream: TcpStream, kept: &Mutex<Vec<Read1>>) {
    let mut reader = Reader::new(b"");
    let mut chunk = [0; 16 * 1024];
    loop {
        match reader.next() {
            Next::Request(read) => {
                check(&read);
                let head = read.head.method == http::Method::HEAD;
                lock(kept).push(*read);
                if stream
                    .write_all(if head { ANSWER_TO_HEAD } else { ANSWER })
                    .is_err()
                {
                    return;
                }
                continue;
            }
            Next::More => {}
            Next::Fault => panic!("the endpoint got what is no request: {:?}", reader.buffer),
        }
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => reader.feed(&chunk[..count]),
            _ => return,
        }
    }
}

/// What holds of every request that an endpoint gets, whatever the client has sent.
fn check(read: &Read1) {
    let headers = &read.head.headers;
    let count = |name: &str| headers.get_all(name).count();
    for name in [
        "host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "forwarded",
        "x-request-id",
    ] {
        assert_eq!(count(name), 1, "{name}: {read:?}");
    }
    assert_eq!(headers.get("x-forwarded-for").unwrap(), "127.0.0.1", "{read:?}");
    assert_eq!(headers.get("x-real-ip").unwrap(), "127.0.0.1", "{read:?}");
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy",
        "expect",
        "http2-settings",
        "x-original-url",
    ] {
        assert_eq!(count(name), 0, "{name}: {read:?}");
    }
    assert!(
        count("connection") == 0
            || (headers.get("connection").is_some_and(|value| value == "upgrade") && read.body.is_empty()),
        "{read:?}"
    );
    assert!(headers.get_all("te").all(|te| te == "trailers"), "{read:?}");
    for name in headers.keys().chain(read.trailers.keys()) {
        assert!(!name.as_str().contains(['_', '"']), "{name}: {read:?}");
    }
    for name in [
        "host",
        "content-length",
        "transfer-encoding",
        "x-forwarded-for",
        "authorization",
        "cookie",
    ] {
        assert!(!read.trailers.contains_key(name), "{name}: {read:?}");
    }
    assert!(read.head.uri.authority().is_none(), "{read:?}");
    let path = read.head.uri.path();
    assert!(
        path == "*" || normalise(path).is_ok_and(|normal| normal == path),
        "{read:?}"
    );
}

fn play(mut stream: TcpStream, answer: &[u8], reset: bool) {
    let mut reader = Reader::new(b"");
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        reader.feed(&chunk[..count]);
        if let Next::Request(_) = reader.next() {
            let _ = stream.write_all(answer);
            if reset {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            return;
        }
    }
}

/// A client's connection; what it leaves behind is no socket that waits.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    stream
}

/// Everything until the end of a connection, and whether the end was one in order.
pub fn read_all(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut octets = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (octets, true),
            Ok(count) => octets.extend_from_slice(&chunk[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                panic!("the connection hangs after {octets:?}")
            }
            Err(_) => return (octets, false),
        }
    }
}
