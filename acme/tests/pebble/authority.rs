//! Pebble, a DNS server that sends names to loopback, and the web site that the CA visits.

use std::collections::BTreeMap;
use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, SanType};
use sekisho_config::model::Acme;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// How Pebble is to behave.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// Nonces refused, in percent.
    pub(crate) nonce_reject: u8,
    /// Valid authorizations used again, in percent.
    pub(crate) authz_reuse: u8,
    /// Key identifier and HMAC key that an account needs.
    pub(crate) eab: Option<(&'static str, &'static [u8])>,
}

/// What answers on port 80 of every name.
#[derive(Clone, Default)]
pub(crate) struct Site {
    answers: Arc<Mutex<BTreeMap<String, String>>>,
    misses: Arc<AtomicUsize>,
    stuck: Arc<AtomicBool>,
}

impl Site {
    pub(crate) fn serve(&self, token: &str, answer: &str) {
        self.answers
            .lock()
            .unwrap()
            .insert(token.to_owned(), answer.to_owned());
    }

    pub(crate) fn withdraw(&self, token: &str) {
        self.answers.lock().unwrap().remove(token);
    }

    /// From now on answers are taken and never served.
    pub(crate) fn be_stuck(&self) {
        self.stuck.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Requests for answers that were not there.
    pub(crate) fn misses(&self) -> usize {
        self.misses.load(Ordering::Relaxed)
    }

    async fn run(self, listener: TcpListener) {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let Ok(length) = client.read(&mut head).await else {
                continue;
            };
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let token = path
                .strip_prefix("/.well-known/acme-challenge/")
                .unwrap_or_default();
            let answer = self.answers.lock().unwrap().get(token).cloned();
            let response = match answer {
                Some(body) => format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                ),
                None => {
                    self.misses.fetch_add(1, Ordering::Relaxed);
                    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
                }
            };
            let _ = client.write_all(response.as_bytes()).await;
            let _ = client.shutdown().await;
        }
    }
}

/// A running Pebble.
pub(crate) struct Authority {
    pub(crate) site: Site,
    dir: tempfile::TempDir,
    program: PathBuf,
    options: Options,
    address: SocketAddr,
    dns: SocketAddr,
    accounts: Arc<AtomicUsize>,
    pebble: Option<Child>,
    tasks: JoinSet<()>,
}

impl Authority {
    /// Starts it; `None`, with a word why, where it is not installed.
    pub(crate) async fn start(options: Options) -> Option<Self> {
        let Some(program) = program() else {
            let why =
                "pebble is neither in PATH nor in usr/bin of SEKISHO_TEST_BIN (Debian package `pebble`)";
            assert!(
                env::var_os("SEKISHO_REQUIRE_DAEMONS").is_none_or(|value| value != "1"),
                "{why}"
            );
            eprintln!("not tested: {why}");
            return None;
        };
        let mut tasks = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_port = listener.local_addr().unwrap().port();
        let site = Site::default();
        tasks.spawn(site.clone().run(listener));
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = socket.local_addr().unwrap();
        tasks.spawn(serve_dns(socket));

        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        std::fs::write(
            dir.path().join("web.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        std::fs::write(dir.path().join("web.key"), key.serialize_pem()).unwrap();

        let mut authority = Self {
            site,
            dir,
            program,
            options,
            address: ([127, 0, 0, 1], 0).into(),
            dns,
            accounts: Arc::default(),
            pebble: None,
            tasks,
        };
        // Pebble cannot tell a port that the system chose, so one is looked for; another may take it meanwhile.
        for _ in 0..5 {
            let free = [
                TcpListener::bind("127.0.0.1:0").await.unwrap(),
                TcpListener::bind("127.0.0.1:0").await.unwrap(),
            ];
            let [address, management] = free.map(|listener| listener.local_addr().unwrap());
            authority.address = address;
            let config = serde_json::json!({"pebble": {
                "listenAddress": address.to_string(),
                "managementListenAddress": management.to_string(),
                "certificate": authority.dir.path().join("web.pem"),
                "privateKey": authority.dir.path().join("web.key"),
                "httpPort": http_port,
                "tlsPort": 1,
                "externalAccountBindingRequired": options.eab.is_some(),
                "externalAccountMACKeys": options.eab.map(|(id, key)| BTreeMap::from([(id, base64url(key))])),
            }});
            std::fs::write(authority.dir.path().join("pebble.json"), config.to_string()).unwrap();
            if authority.run().await {
                return Some(authority);
            }
        }
        panic!("pebble does not start");
    }

    /// The `[acme]` section for it.
    pub(crate) fn acme(&self) -> Acme {
        Acme {
            directory: format!("https://{}/dir", self.address).into(),
            email: None,
            ca_file: Some(self.dir.path().join("web.pem")),
            eab: None,
        }
    }

    /// Accounts made so far.
    pub(crate) fn accounts(&self) -> usize {
        self.accounts.load(Ordering::Relaxed)
    }

    /// Ends it and starts it again at the same address; it remembers nothing.
    pub(crate) async fn restart(&mut self) {
        if let Some(mut pebble) = self.pebble.take() {
            pebble.kill().await.unwrap();
        }
        assert!(self.run().await, "pebble does not start again");
    }

    async fn run(&mut self) -> bool {
        let mut pebble = Command::new(&self.program)
            .arg("-config")
            .arg(self.dir.path().join("pebble.json"))
            .arg("-dnsserver")
            .arg(self.dns.to_string())
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", self.options.nonce_reject.to_string())
            .env("PEBBLE_AUTHZREUSE", self.options.authz_reuse.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(pebble.stdout.take().unwrap()).lines();
        self.pebble = Some(pebble);
        // It says so before it listens; whether it does is seen by connecting.
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("ACME directory available at") {
                break;
            }
        }
        let accounts = Arc::clone(&self.accounts);
        self.tasks.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("There are now") && line.contains("account") {
                    accounts.fetch_add(1, Ordering::Relaxed);
                }
                if env::var_os("SEKISHO_TEST_VERBOSE").is_some() {
                    eprintln!("pebble: {line}");
                }
            }
        });
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..250 {
            poll.tick().await;
            if tokio::net::TcpStream::connect(self.address).await.is_ok() {
                return true;
            }
            let exited = self
                .pebble
                .as_mut()
                .is_none_or(|pebble| !matches!(pebble.try_wait(), Ok(None)));
            if exited {
                return false;
            }
        }
        false
    }
}

fn program() -> Option<PathBuf> {
    let below = env::var_os("SEKISHO_TEST_BIN").map(|root| PathBuf::from(root).join("usr/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    below
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|dir| dir.join("pebble"))
        .find(|program| program.is_file())
}

/// Answers every A question with 127.0.0.1, and NXDOMAIN for names that start with `missing`.
async fn serve_dns(socket: UdpSocket) {
    let mut query = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut query).await {
        let query = &query[..length];
        // The question follows 12 octets of header: labels, a zero, type and class.
        let Some(end) = query.iter().skip(12).position(|octet| *octet == 0) else {
            continue;
        };
        let Some(question) = query.get(12..12 + end + 5) else {
            continue;
        };
        let is_a = question[end + 1..end + 3] == [0, 1];
        let missing = question[1..].starts_with(b"missing");
        let mut answer = query[..2].to_vec();
        answer.extend([
            0x81,
            if missing { 0x83 } else { 0x80 },
            0,
            1,
            0,
            u8::from(is_a && !missing),
            0,
            0,
            0,
            0,
        ]);
        answer.extend(question);
        if is_a && !missing {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
        }
        let _ = socket.send_to(&answer, from).await;
    }
}

fn base64url(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let octet = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = (octet(0) << 16) | (octet(1) << 8) | octet(2);
        for place in 0..=chunk.len() {
            let sextet = usize::try_from(bits >> (18 - 6 * place)).unwrap() & 63;
            text.push(char::from(ALPHABET[sextet]));
        }
    }
    text
}
