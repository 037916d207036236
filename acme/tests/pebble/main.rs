//! Orders at Pebble, a real ACME CA, on loopback.
//!
//! Needs `pebble` (Debian package `pebble`) in `PATH`, or in `usr/bin` below `$SEKISHO_TEST_BIN`. Without it the tests
//! say so and pass, unless `SEKISHO_REQUIRE_DAEMONS=1`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

mod authority;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authority::{Authority, Options, Site};
use sekisho_acme::{Event, Handle, Inputs, OrderView, SetState, start};
use sekisho_config::model::{Acme, Certificate, NameSet, Revision, Secret};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Until a test gives up; only a broken one takes it.
const PATIENCE: Duration = Duration::from_secs(60);

fn names(text: &str) -> Arc<NameSet> {
    Arc::new(text.split(' ').map(|name| name.parse().unwrap()).collect())
}

fn sets(texts: &[&str]) -> BTreeSet<Arc<NameSet>> {
    texts.iter().map(|text| names(text)).collect()
}

/// The worker and a stand-in for the control task.
struct Appliance {
    handle: Handle,
    certificates: mpsc::Receiver<(Arc<NameSet>, Arc<Certificate>)>,
    answers: Arc<Mutex<BTreeMap<String, bool>>>,
    registry: prometheus::Registry,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Appliance {
    fn start(state_dir: &Path, acme: Acme, site: &Site) -> Self {
        let (tasks, stop, registry) = (
            TaskTracker::new(),
            CancellationToken::new(),
            prometheus::Registry::new(),
        );
        let inputs = Inputs {
            acme,
            state_dir: state_dir.into(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let (handle, mut events) = start(inputs, &registry).unwrap();
        let (found, certificates) = mpsc::channel(64);
        let answers: Arc<Mutex<BTreeMap<String, bool>>> = Arc::default();
        let (open, site) = (Arc::clone(&answers), site.clone());
        tasks.spawn(async move {
            let mut revision = 0;
            while let Some(event) = events.recv().await {
                match event {
                    Event::Answer {
                        token,
                        answer,
                        published,
                    } => {
                        // A CA that were told too early would ask in this while, and fail.
                        tokio::task::yield_now().await;
                        if site.is_stuck() {
                            assert!(
                                open.lock().unwrap().insert(token.to_string(), true).is_none(),
                                "{token} twice"
                            );
                            continue;
                        }
                        site.serve(&token, &answer.key_authorization);
                        assert!(
                            open.lock().unwrap().insert(token.to_string(), true).is_none(),
                            "{token} twice"
                        );
                        revision += 1;
                        let _ = published.send(Revision(revision));
                    }
                    Event::AnswerDone { token } => {
                        site.withdraw(&token);
                        let before = open.lock().unwrap().insert(token.to_string(), false);
                        assert_eq!(before, Some(true), "{token} was not out");
                    }
                    Event::Certificate { names, certificate } => {
                        let _ = found.send((names, certificate)).await;
                    }
                }
            }
        });
        Self {
            handle,
            certificates,
            answers,
            registry,
            tasks,
            stop,
        }
    }

    async fn certificate(&mut self) -> (Arc<NameSet>, Arc<Certificate>) {
        let next = tokio::time::timeout(PATIENCE, self.certificates.recv()).await;
        match next {
            Ok(Some(found)) => found,
            _ => panic!("no certificate; {:#?}", self.handle.view().await),
        }
    }

    /// The view of a set, once it is as wanted.
    async fn view(&self, of: &str, wanted: impl Fn(&OrderView) -> bool) -> OrderView {
        let of = names(of);
        let seen = tokio::time::timeout(PATIENCE, async {
            let mut poll = tokio::time::interval(Duration::from_millis(50));
            loop {
                poll.tick().await;
                let view = self.handle.view().await.into_iter().find(|view| view.names == of);
                if let Some(view) = view
                    && wanted(&view)
                {
                    return view;
                }
            }
        });
        match seen.await {
            Ok(view) => view,
            Err(_) => panic!("never; {:#?}", self.handle.view().await),
        }
    }

    /// Stops; the answers that were out, all of which must have been withdrawn.
    async fn stop(self) -> usize {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait())
            .await
            .expect("the worker stops");
        let answers = self.answers.lock().unwrap();
        assert!(answers.values().all(|open| !open), "left open: {answers:?}");
        answers.len()
    }

    fn metric(&self, line: &str) -> bool {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        text.lines().any(|have| have == line)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_obtained_kept_and_found_again() {
    let Some(ca) = Authority::start(Options {
        nonce_reject: 50,
        ..Options::default()
    })
    .await
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut appliance = Appliance::start(dir.path(), ca.acme(), &ca.site);
    let wanted = sets(&["a.test b.test", "c.test"]);
    appliance.handle.want(wanted.clone());
    let mut found = BTreeMap::new();
    for _ in 0..2 {
        let (names, certificate) = appliance.certificate().await;
        assert!(
            names.iter().all(|name| certificate.serves(name)),
            "{certificate:?}"
        );
        found.insert(names, certificate);
    }
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), wanted);
    let view = appliance
        .view("c.test", |view| view.state == SetState::Valid)
        .await;
    assert_eq!((view.failures, view.last_error), (0, None));
    assert!(view.issuer.unwrap().contains("Pebble"));
    assert!(view.next_attempt < view.not_after && view.last_order_seconds.is_some());
    appliance
        .view("a.test b.test", |view| view.state == SetState::Valid)
        .await;
    assert!(appliance.metric(r#"sekisho_acme_orders_total{result="issued"} 2"#));
    assert!(appliance.metric(r#"sekisho_acme_certificates{state="held"} 2"#));
    assert_eq!(appliance.stop().await, 3, "one answer a name");
    assert_eq!(
        ca.site.misses(),
        0,
        "the CA was told to look before the answer was served"
    );

    // After a restart both are there at once, and nothing is ordered.
    let mut appliance = Appliance::start(dir.path(), ca.acme(), &ca.site);
    appliance.handle.want(wanted);
    for _ in 0..2 {
        let (names, certificate) = appliance.certificate().await;
        assert_eq!(found.get(&names), Some(&certificate));
    }
    appliance
        .view("c.test", |view| view.state == SetState::Valid)
        .await;
    assert_eq!(appliance.stop().await, 0);
    assert_eq!(ca.accounts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorization_that_is_still_valid_needs_no_challenge() {
    let Some(ca) = Authority::start(Options {
        authz_reuse: 100,
        ..Options::default()
    })
    .await
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut appliance = Appliance::start(dir.path(), ca.acme(), &ca.site);
    appliance.handle.want(sets(&["a.test b.test"]));
    appliance.certificate().await;
    appliance.handle.want(sets(&["a.test", "a.test b.test"]));
    assert_eq!(appliance.certificate().await.0, names("a.test"));
    assert_eq!(appliance.stop().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_elsewhere_fails_in_words_and_disturbs_no_other() {
    let Some(ca) = Authority::start(Options::default()).await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut appliance = Appliance::start(dir.path(), ca.acme(), &ca.site);
    appliance
        .handle
        .want(sets(&["good.test", "good.test missing.test", "*.wild.test"]));
    assert_eq!(appliance.certificate().await.0, names("good.test"));
    let view = appliance
        .view("good.test missing.test", |view| view.state == SetState::Failed)
        .await;
    let error = view.last_error.unwrap();
    assert!(
        error.starts_with("validation of missing.test failed: "),
        "{error}"
    );
    assert!(
        !error.contains("good.test failed") && view.failures == 1,
        "{error}"
    );
    assert!(view.next_attempt.is_some());
    let view = appliance
        .view("*.wild.test", |view| view.state == SetState::Refused)
        .await;
    assert!(view.last_error.unwrap().contains("HTTP-01") && view.next_attempt.is_none());
    appliance.stop().await;

    // The failure is remembered over a restart: no new order follows at once.
    let appliance = Appliance::start(dir.path(), ca.acme(), &ca.site);
    appliance.handle.want(sets(&["good.test missing.test"]));
    let again = appliance
        .view("good.test missing.test", |view| view.state == SetState::Failed)
        .await;
    assert_eq!(again.last_error.as_deref(), Some(error.as_str()));
    assert_eq!(appliance.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ca_is_not_told_to_look_at_an_answer_that_is_not_served() {
    let Some(ca) = Authority::start(Options::default()).await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    ca.site.be_stuck();
    let appliance = Appliance::start(dir.path(), ca.acme(), &ca.site);
    appliance.handle.want(sets(&["a.test"]));
    let view = appliance
        .view("a.test", |view| view.state == SetState::Failed)
        .await;
    let error = view.last_error.unwrap();
    assert!(error.contains("the CA was not told to look"), "{error}");
    assert!(appliance.metric(r#"sekisho_acme_orders_total{result="not_published"} 1"#));
    assert_eq!(appliance.stop().await, 1);
    assert_eq!(ca.site.misses(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_account_binding_is_used_and_its_lack_is_told() {
    let key = b"an HMAC key of 32 octets, or so.";
    let options = Options {
        eab: Some(("kid-1", key)),
        ..Options::default()
    };
    let Some(ca) = Authority::start(options).await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut appliance = Appliance::start(dir.path(), ca.acme(), &ca.site);
    appliance.handle.want(sets(&["a.test"]));
    let view = appliance.view("a.test", |view| view.last_error.is_some()).await;
    assert!(view.last_error.unwrap().contains("acme.eab_key_id"));
    let eab = Some(("kid-1".into(), Secret::new(*key)));
    appliance.handle.configure(Acme {
        eab,
        email: Some("ops@example.com".into()),
        ..ca.acme()
    });
    assert_eq!(appliance.certificate().await.0, names("a.test"));
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_directory_is_taken_live_and_an_unreachable_one_is_tried_again() {
    let Some(first) = Authority::start(Options::default()).await else {
        return;
    };
    let Some(second) = Authority::start(Options::default()).await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let nowhere = Acme {
        directory: "https://127.0.0.1:9/dir".into(),
        ..first.acme()
    };
    let mut appliance = Appliance::start(dir.path(), nowhere, &first.site);
    appliance.handle.want(sets(&["a.test"]));
    let view = appliance.view("a.test", |view| view.last_error.is_some()).await;
    assert!(view.last_error.unwrap().contains("check acme.directory"));
    assert_eq!(view.failures, 0, "the way to the CA is no fault of the names");

    appliance.handle.configure(first.acme());
    let of_first = appliance.certificate().await.1;
    appliance.stop().await;
    let mut appliance = Appliance::start(dir.path(), second.acme(), &second.site);
    appliance.handle.want(sets(&["a.test"]));
    assert_eq!(
        appliance.certificate().await.1,
        of_first,
        "what is held is served until the other CA has issued"
    );
    let of_second = appliance.certificate().await.1;
    assert_ne!(of_first.issuer, of_second.issuer);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_the_ca_has_lost_is_made_again() {
    let Some(mut ca) = Authority::start(Options::default()).await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut appliance = Appliance::start(dir.path(), ca.acme(), &ca.site);
    appliance.handle.want(sets(&["a.test"]));
    appliance.certificate().await;
    ca.restart().await;
    appliance.handle.want(sets(&["b.test"]));
    assert_eq!(appliance.certificate().await.0, names("b.test"));
    appliance.stop().await;
}
