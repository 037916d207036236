use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::*;

const KEYS: &str = r#"{"keys":[{"crv":"Ed25519","kty":"OKP","x":"AQAB"}]}"#;
const OTHERS: &str = r#"{"keys":[{"crv":"Ed25519","kty":"OKP","x":"AAAA"}]}"#;

/// An identity provider that says what it is told to.
struct Provider {
    _tasks: JoinSet<()>,
    address: SocketAddr,
    root: String,
    answer: Arc<Mutex<String>>,
}

impl Provider {
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(ok(KEYS)));
        let said = Arc::clone(&answer);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, said) = (acceptor.clone(), Arc::clone(&said));
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(octet) => request.push(octet),
                            Err(_) => return,
                        }
                    }
                    assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"), "{request:?}");
                    let answer = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self {
            _tasks: tasks,
            address,
            root: made.cert.pem(),
            answer,
        }
    }

    fn says(&self, answer: String) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    fn url(&self) -> Arc<str> {
        format!("https://localhost:{}/keys", self.address.port()).into()
    }

    fn settings(&self, from: &str) -> Arc<KeySets> {
        Arc::new(KeySets {
            from: vec![from.into()],
            refresh: Duration::from_millis(50),
            ca_file: Some(self.root.as_str().into()),
        })
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn what_is_taken_for_a_key_set() {
    let provider = Provider::start().await;
    let client = Client::new(Some(&provider.root)).unwrap();
    // Keys of kinds that nobody knows here are left out (RFC 7517 section 5).
    let more = r#"{"keys":[{"kty":"AKP","pub":"AA"},{"kty":"OKP","crv":"Ed25519","x":"AQAB"},{"kty":"EC"}],"more":1}"#;
    for (answer, want) in [
        (ok(KEYS), Ok(KEYS)),
        (ok(more), Ok(KEYS)),
        (ok(r#"{"keys":[{"kty":"AKP"}]}"#), Err("neither RSA, EC nor OKP")),
        (ok(r#"{"keys":[{"kty":"oct","k":"AA"}]}"#), Err("a secret")),
        (ok(r#"{"keys":[]}"#), Err("no list")),
        (ok("<html>"), Err("is not JSON")),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Err("the answer is 404"),
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Err("the answer is 302"),
        ),
        (ok(&" ".repeat(300_000)), Err("length limit exceeded")),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(),
            Err("end of file"),
        ),
        ("SSH-2.0-x\r\n".to_owned(), Err("invalid HTTP")),
    ] {
        provider.says(answer.clone());
        let came = client.fetch(&provider.url()).await;
        match (&came, want) {
            (Ok(keys), Ok(want)) => assert_eq!(&**keys, want),
            (Err(error), Err(want)) => assert!(error.contains(want), "{error}"),
            _ => panic!("{came:?} after {answer}"),
        }
    }
    // Nobody whom the roots do not vouch for, and nothing in the clear.
    let stranger = Client::new(None)
        .unwrap()
        .fetch(&provider.url())
        .await
        .unwrap_err();
    assert!(stranger.contains("certificate"), "{stranger}");
    let clear = client.fetch("http://localhost/keys").await.unwrap_err();
    assert!(clear.contains("unsupported scheme http"), "{clear}");
}

struct Running {
    tasks: JoinSet<()>,
    wanted: watch::Sender<Option<BTreeSet<Arc<str>>>>,
    context: watch::Sender<Context>,
    known: watch::Receiver<Known>,
    stop: CancellationToken,
}

impl Running {
    fn start(state_dir: &Path, settings: Option<Arc<KeySets>>, urls: &[Arc<str>]) -> Self {
        let context = Context {
            key_sets: settings,
            ..crate::tests::context()
        };
        let (wanted, wanted_receiver) = watch::channel(Some(urls.iter().cloned().collect()));
        let (context, context_receiver) = watch::channel(context);
        let (known, known_receiver) = watch::channel(Known::new());
        let stop = CancellationToken::new();
        let fetcher = Fetcher {
            wanted: wanted_receiver,
            context: context_receiver,
            known,
            state_dir: state_dir.to_owned(),
            metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
            stop: stop.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(fetcher.run());
        Self {
            tasks,
            wanted,
            context,
            known: known_receiver,
            stop,
        }
    }

    /// Waits until this is known of a URL.
    async fn until(&mut self, url: &str, fits: impl Fn(&KeySet) -> bool) -> KeySet {
        let known = self.known.wait_for(|known| known.get(url).is_some_and(&fits));
        let known = timeout(Duration::from_secs(20), known)
            .await
            .expect("in time")
            .unwrap();
        known[url].clone()
    }
}

fn keys_are(want: &str) -> impl Fn(&KeySet) -> bool {
    move |set| set.keys.as_deref() == Some(want) && set.error.is_none()
}

#[tokio::test]
async fn keys_come_change_and_outlive_their_provider() {
    let state = tempfile::tempdir().unwrap();
    let provider = Provider::start().await;
    let url = provider.url();
    let from = url.strip_suffix("keys").unwrap();
    let settings = Some(provider.settings(from));
    let mut running = Running::start(state.path(), settings.clone(), std::slice::from_ref(&url));
    running.until(&url, keys_are(KEYS)).await;
    provider.says(ok(OTHERS));
    running.until(&url, keys_are(OTHERS)).await;
    provider.says("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned());
    let failed = running.until(&url, |set| set.error.is_some()).await;
    assert_eq!(failed.keys.as_deref(), Some(OTHERS));
    assert_eq!(
        failed.error.as_deref(),
        Some("the answer is 500 Internal Server Error")
    );
    running.stop.cancel();
    while running.tasks.join_next().await.is_some() {}

    // After a restart they are there before anybody has answered.
    let mut running = Running::start(state.path(), settings, std::slice::from_ref(&url));
    running
        .until(&url, |set| set.keys.as_deref() == Some(OTHERS))
        .await;
    provider.says(ok(KEYS));
    running.until(&url, keys_are(KEYS)).await;

    // What the file takes back is not used any more, and what it gives again is.
    running.context.send_modify(|context| context.key_sets = None);
    let refused = running.until(&url, |set| set.keys.is_none()).await;
    assert!(refused.error.unwrap().contains("no [key_sets]"));
    let elsewhere = provider.settings("https://id.example.com/");
    running
        .context
        .send_modify(|context| context.key_sets = Some(elsewhere));
    running
        .until(&url, |set| {
            set.error
                .as_ref()
                .is_some_and(|error| error.contains("key_sets.from"))
        })
        .await;
    let allowed = provider.settings(&url);
    running
        .context
        .send_modify(|context| context.key_sets = Some(allowed));
    running.until(&url, keys_are(KEYS)).await;

    running.wanted.send_replace(Some(BTreeSet::new()));
    let gone = running.known.wait_for(|known| known.is_empty());
    timeout(Duration::from_secs(20), gone)
        .await
        .expect("in time")
        .unwrap();
}
