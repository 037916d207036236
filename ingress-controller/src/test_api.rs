//! An API server in memory, for tests: lists in pages, watches with bookmarks, 410 in both its forms, status by server-side
//! apply; and it can be told to fail. It speaks through the same client as the real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

type Line = Result<Bytes, std::io::Error>;
type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// How the server says that a version is too old.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Gone {
    /// HTTP status 410.
    Status,
    /// 200, then an ERROR event with code 410.
    Event,
}

/// What is to happen to requests.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status.
    Status(u16),
    /// No answer while the fault lasts.
    Hang,
    /// The connection breaks.
    Break,
}

#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Mutex<State>>, Arc<watch::Sender<u64>>);

/// Namespace and name of the only object that is asked for.
type One = Option<(String, String)>;

struct State {
    revision: u64,
    compacted: u64,
    gone: Gone,
    page: usize,
    deaf: bool,
    objects: BTreeMap<(String, String, String), Value>,
    log: Vec<(u64, String, &'static str, Value)>,
    watchers: Vec<(String, One, mpsc::Sender<Line>)>,
    /// `verb plural`, as `list secrets` or `patch ingresses`; an empty plural is every one.
    faults: Vec<(String, Fault)>,
    requests: Vec<String>,
    patches: Vec<(String, Value)>,
}

impl ApiServer {
    pub(crate) fn new() -> Self {
        let state = State {
            revision: 100,
            compacted: 0,
            gone: Gone::Event,
            page: usize::MAX,
            deaf: false,
            objects: BTreeMap::new(),
            log: Vec::new(),
            watchers: Vec::new(),
            faults: Vec::new(),
            requests: Vec::new(),
            patches: Vec::new(),
        };
        Self(Arc::new(Mutex::new(state)), Arc::new(watch::channel(0).0))
    }

    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move { server.answer(request).await }
            }),
            "default",
        )
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let result = act(&mut self.0.lock().unwrap());
        self.1.send_modify(|changes| *changes += 1);
        result
    }

    /// Creates or replaces every object of these manifests (one JSON or YAML document each).
    pub(crate) fn apply(&self, manifests: &str) {
        for document in manifests
            .split("\n---")
            .filter(|document| !document.trim().is_empty())
        {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            self.with(|state| state.put(object));
        }
    }

    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.with(|state| {
            let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
            let mut object = state.objects.remove(&key).unwrap();
            state.revision += 1;
            object["metadata"]["resourceVersion"] = state.revision.to_string().into();
            state.event(plural, "DELETED", object);
        });
    }

    /// Forgets the history: who asks for an older version is told 410 in this form.
    pub(crate) fn compact(&self, gone: Gone) {
        self.with(|state| {
            state.gone = gone;
            state.revision += 1;
            state.compacted = state.revision;
            state.log.clear();
        });
    }

    /// Ends every watch: in order, or by a broken connection.
    pub(crate) fn drop_watches(&self, broken: bool) {
        self.with(|state| {
            for (_, _, watcher) in state.watchers.drain(..) {
                if broken {
                    let _ = watcher.try_send(Err(std::io::Error::other("connection reset")));
                }
            }
        });
    }

    /// Tells every watch the newest version.
    pub(crate) fn bookmark(&self) {
        self.with(|state| {
            state.revision += 1;
            let line = event("BOOKMARK", json!({"kind": "X", "apiVersion": "v1", "metadata": {"resourceVersion": state.revision.to_string()}}));
            for (_, _, watcher) in &state.watchers {
                let _ = watcher.try_send(Ok(line.clone()));
            }
        });
    }

    pub(crate) fn fault(&self, on: &str, fault: Fault) {
        self.with(|state| state.faults.push((on.to_owned(), fault)));
    }

    pub(crate) fn repair(&self) {
        self.with(|state| state.faults.clear());
    }

    /// Watches that begin from now on neither say anything of themselves nor end: a connection that is dead on the way.
    pub(crate) fn deaf(&self) {
        self.with(|state| state.deaf = true);
    }

    pub(crate) fn page(&self, page: usize) {
        self.with(|state| state.page = page);
    }

    /// Requests so far, as `list secrets` or `watch secrets 104`.
    pub(crate) fn requests(&self, beginning: &str) -> Vec<String> {
        self.with(|state| {
            state
                .requests
                .iter()
                .filter(|request| request.starts_with(beginning))
                .cloned()
                .collect()
        })
    }

    /// Status patches so far: path with query, and body.
    pub(crate) fn patches(&self) -> Vec<(String, Value)> {
        self.with(|state| state.patches.clone())
    }

    /// The object as it is now.
    pub(crate) fn object(&self, plural: &str, namespace: &str, name: &str) -> Value {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.with(|state| state.objects[&key].clone())
    }

    /// Waits until `check` holds.
    pub(crate) async fn until(&self, mut check: impl FnMut(&Self) -> bool) {
        let mut changes = self.1.subscribe();
        loop {
            changes.borrow_and_update();
            if check(self) {
                return;
            }
            changes.changed().await.unwrap();
            // Our own looking is a change as well: let others go first.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    async fn answer(&self, request: Request<Body>) -> Result<Answer, std::io::Error> {
        let (parts, body) = request.into_parts();
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let rest = if path[0] == "api" { &path[2..] } else { &path[3..] };
        let (verb, plural) = match (&parts.method, query.contains_key("watch"), rest) {
            (&Method::GET, false, [plural]) => ("list", *plural),
            (&Method::GET, true, [plural]) => ("watch", *plural),
            (&Method::GET, false, ["namespaces", _, plural]) => ("list", *plural),
            (&Method::GET, true, ["namespaces", _, plural]) => ("watch", *plural),
            (&Method::PATCH, _, ["namespaces", _, plural, _, "status"]) => ("patch", *plural),
            other => panic!("{other:?}"),
        };
        let version = query.get("resourceVersion").cloned().unwrap_or_default();
        let one: One = match rest {
            ["namespaces", namespace, _] => {
                let name = query["fieldSelector"].strip_prefix("metadata.name%3D").unwrap();
                Some(((*namespace).to_owned(), name.to_owned()))
            }
            _ => None,
        };
        self.with(|state| {
            let of = match &one {
                Some((namespace, name)) => format!("{namespace}/{name}"),
                None => String::new(),
            };
            let line = format!("{verb} {plural} {of} {version}").replace("  ", " ");
            state.requests.push(line.trim_end().to_owned())
        });
        loop {
            let mut changes = self.1.subscribe();
            let fault = self.0.lock().unwrap().fault(verb, plural);
            match fault {
                None => break,
                Some(Fault::Hang) => changes.changed().await.unwrap(),
                Some(Fault::Break) => return Err(std::io::Error::other("connection refused")),
                Some(Fault::Status(code)) => return Ok(status(code)),
            }
        }
        match verb {
            "list" => Ok(self.with(|state| state.list(plural, &one, &query))),
            "watch" => Ok(self.with(|state| {
                let seconds = query["timeoutSeconds"].parse().unwrap();
                state.watch(
                    plural,
                    one,
                    version.parse().unwrap(),
                    Duration::from_secs(seconds),
                )
            })),
            _ => {
                let body = body.collect().await.unwrap().to_bytes();
                let patch: Value = serde_json::from_slice(&body).unwrap();
                let line = format!("{}?{}", parts.uri.path(), parts.uri.query().unwrap_or_default());
                Ok(self.with(|state| state.patch(plural, rest[1], rest[3], line, patch)))
            }
        }
    }
}

impl State {
    fn fault(&self, verb: &str, plural: &str) -> Option<Fault> {
        let matches = |on: &str| {
            let (on_verb, on_plural) = on.split_once(' ').unwrap_or((on, ""));
            (on_verb.is_empty() || on_verb == verb) && (on_plural.is_empty() || on_plural == plural)
        };
        self.faults
            .iter()
            .find(|(on, _)| matches(on))
            .map(|(_, fault)| fault.clone())
    }

    fn put(&mut self, mut object: Value) {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let plural = if kind.ends_with('s') {
            format!("{}es", kind.to_lowercase())
        } else {
            format!("{}s", kind.to_lowercase())
        };
        let metadata = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let key = (plural.clone(), metadata("namespace"), metadata("name"));
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        if object["metadata"]["creationTimestamp"].is_null() {
            object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        let kind = if self.objects.insert(key, object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.event(&plural, kind, object);
    }

    fn event(&mut self, plural: &str, kind: &'static str, object: Value) {
        let line = event(kind, object.clone());
        let key = object["metadata"].clone();
        self.log.push((self.revision, plural.to_owned(), kind, object));
        self.watchers.retain(|(of, one, watcher)| {
            of != plural || !is(one, &key) || watcher.try_send(Ok(line.clone())).is_ok()
        });
    }

    fn list(&mut self, plural: &str, one: &One, query: &BTreeMap<String, String>) -> Answer {
        let from: usize = match query.get("continue").map(|token| token.split_once('-').unwrap()) {
            None => 0,
            Some((revision, _)) if revision.parse::<u64>().unwrap() < self.compacted => return status(410),
            Some((_, from)) => from.parse().unwrap(),
        };
        let all: Vec<&Value> = self
            .objects
            .iter()
            .filter(|((of, _, _), object)| of == plural && is(one, &object["metadata"]))
            .map(|(_, object)| object)
            .collect();
        let to = from.saturating_add(self.page).min(all.len());
        let token = (to < all.len()).then(|| format!("{}-{to}", self.revision));
        let body = json!({
            "kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": self.revision.to_string(), "continue": token.unwrap_or_default()},
            "items": all[from..to],
        });
        answer(StatusCode::OK, &body)
    }

    fn watch(&mut self, plural: &str, one: One, version: u64, length: Duration) -> Answer {
        if version < self.compacted {
            if self.gone == Gone::Status {
                return status(410);
            }
            let line = event("ERROR", status_body(410));
            return Response::new(Full::new(line).map_err(|never| match never {}).boxed_unsync());
        }
        let (sender, receiver) = mpsc::channel(1024);
        for (revision, of, kind, object) in &self.log {
            if *revision > version && of == plural && is(&one, &object["metadata"]) {
                sender.try_send(Ok(event(kind, object.clone()))).unwrap();
            }
        }
        self.watchers.push((plural.to_owned(), one, sender));
        let end = tokio::time::Instant::now()
            + if self.deaf {
                Duration::from_secs(1_000_000)
            } else {
                length
            };
        let frames = stream::unfold(receiver, move |mut receiver| async move {
            let line = tokio::time::timeout_at(end, receiver.recv()).await.ok()??;
            Some((line.map(http_body::Frame::data), receiver))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn patch(&mut self, plural: &str, namespace: &str, name: &str, line: String, patch: Value) -> Answer {
        self.patches.push((line, patch.clone()));
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let Some(mut object) = self.objects.get(&key).cloned() else {
            return status(404);
        };
        object["status"] = patch["status"].clone();
        object["metadata"]["managedFields"] =
            json!([{"manager": "sekisho", "operation": "Apply", "subresource": "status"}]);
        self.put(object.clone());
        answer(StatusCode::OK, &object)
    }
}

fn is(one: &One, metadata: &Value) -> bool {
    one.as_ref().is_none_or(|(namespace, name)| {
        metadata["namespace"] == namespace.as_str() && metadata["name"] == name.as_str()
    })
}

fn event(kind: &str, object: Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

fn status_body(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "as the test wants it", "reason": ""})
}

fn status(code: u16) -> Answer {
    answer(StatusCode::from_u16(code).unwrap(), &status_body(code))
}

fn answer(code: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}
