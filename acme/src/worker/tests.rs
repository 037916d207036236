use crate::SetState;
use std::path::Path;
use std::sync::Mutex;

use tokio_util::task::TaskTracker;

use super::*;
use crate::store::tests::issue;

const DAY: i64 = 86_400;

fn names(text: &str) -> Arc<NameSet> {
    Arc::new(text.split(' ').map(|name| name.parse().unwrap()).collect())
}

fn sets(texts: &[&str]) -> BTreeSet<Arc<NameSet>> {
    texts.iter().map(|text| names(text)).collect()
}

fn start_of_time() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// What the CA of a test does; names that start with `bad` fail, with `slow` never end.
#[derive(Default)]
struct Ca {
    orders: Mutex<Vec<(String, i64)>>,
    down: Mutex<bool>,
    most: Mutex<(usize, usize)>,
}

impl Ca {
    fn orders(&self) -> Vec<String> {
        self.orders
            .lock()
            .unwrap()
            .iter()
            .map(|(names, _)| names.clone())
            .collect()
    }

    fn times(&self) -> Vec<i64> {
        self.orders.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }
}

struct Fake {
    ca: Arc<Ca>,
    clock: Clock,
    days: i64,
}

impl Issuer for Fake {
    async fn issue(
        &self,
        names: Arc<NameSet>,
        answers: Answers,
        cancel: CancellationToken,
    ) -> Result<Issued, Failure> {
        let now = (self.clock)();
        let text = text(&names);
        self.ca
            .orders
            .lock()
            .unwrap()
            .push((text.clone(), now.as_second() - start_of_time().as_second()));
        if *self.ca.down.lock().unwrap() {
            return Err(Failure::new(FailureKind::Unreachable, "the CA is down"));
        }
        let _served = answers.publish(text.as_str().into(), "key").await?;
        {
            let mut most = self.ca.most.lock().unwrap();
            *most = (most.0 + 1, most.1.max(most.0 + 1));
        }
        let end = async {
            if text.starts_with("slow") {
                std::future::pending().await
            } else {
                tokio::time::sleep(Duration::from_secs(3)).await
            }
        };
        if text.starts_with("stuck") {
            std::future::pending::<()>().await;
        }
        let cancelled = tokio::select! { () = cancel.cancelled() => true, () = end => false };
        self.ca.most.lock().unwrap().0 -= 1;
        if cancelled {
            return Err(Failure::cancelled());
        }
        if text.starts_with("bad") {
            return Err(Failure::of_validation(names.first().unwrap(), None));
        }
        assert!(!text.starts_with("panic"), "as wished");
        let end = later(now, SignedDuration::from_secs(self.days * DAY));
        let (chain_pem, key) = issue(&names, now, end);
        let certificate = Certificate::from_pem(chain_pem.as_bytes(), key.as_bytes()).unwrap();
        Ok(Issued {
            certificate,
            chain_pem,
        })
    }
}

struct Bench {
    ca: Arc<Ca>,
    events: mpsc::Receiver<Event>,
    wanted: watch::Sender<Option<BTreeSet<Arc<NameSet>>>>,
    acme: watch::Sender<Acme>,
    views: mpsc::Sender<oneshot::Sender<Vec<OrderView>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    open: BTreeSet<Arc<str>>,
}

fn acme(directory: &str) -> Acme {
    Acme {
        directory: directory.into(),
        email: None,
        ca_file: None,
        eab: None,
    }
}

impl Bench {
    fn start(dir: &Path, days: i64, offset: i64) -> Self {
        let base = Instant::now();
        let clock: Clock = Arc::new(move || {
            let since = SignedDuration::try_from(base.elapsed()).unwrap();
            later(later(start_of_time(), since), SignedDuration::from_secs(offset))
        });
        let ca = Arc::new(Ca::default());
        let make = {
            let (ca, clock) = (Arc::clone(&ca), Arc::clone(&clock));
            move |_: &Acme| Fake {
                ca: Arc::clone(&ca),
                clock: Arc::clone(&clock),
                days,
            }
        };
        let (events, inbox) = mpsc::channel(4);
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let store = Store::open(dir).unwrap();
        let worker = Worker::new(&acme("https://ca.test/dir"), make, store, events, metrics, clock);
        let (wanted, wanted_inlet) = watch::channel(None);
        let (acme, acme_inlet) = watch::channel(acme("https://ca.test/dir"));
        let (views, views_inlet) = mpsc::channel(1);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(worker.run(Inlets {
            wanted: wanted_inlet,
            acme: acme_inlet,
            views: views_inlet,
            stop: stop.clone(),
        }));
        Self {
            ca,
            events: inbox,
            wanted,
            acme,
            views,
            stop,
            tasks,
            open: BTreeSet::new(),
        }
    }

    fn want(&self, texts: &[&str]) {
        self.wanted.send_replace(Some(sets(texts)));
    }

    /// The next certificate, answers noted on the way.
    async fn certificate(&mut self) -> String {
        loop {
            match self.events.recv().await.expect("the worker runs") {
                Event::Certificate { names, .. } => return text(&names),
                other => self.note(other),
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Answer { token, .. } => assert!(self.open.insert(token)),
            Event::AnswerDone { token } => assert!(self.open.remove(&token)),
            Event::Certificate { names, .. } => panic!("not expected: {names:?}"),
        }
    }

    /// Lets time pass, answers noted on the way.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, self.events.recv()).await {
            self.note(event);
        }
    }

    async fn view(&self) -> Vec<(String, SetState, u32)> {
        let (reply, view) = oneshot::channel();
        self.views.send(reply).await.unwrap();
        view.await
            .unwrap()
            .into_iter()
            .map(|view| (text(&view.names), view.state, view.failures))
            .collect()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.close();
        while let Some(event) = self.events.recv().await {
            if !matches!(event, Event::Certificate { .. }) {
                self.note(event);
            }
        }
        self.tasks.wait().await;
        assert_eq!(self.open, BTreeSet::new(), "answers left open");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ordered_before_something_is_wanted_and_then_it_is_kept_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!(bench.ca.orders(), [""; 0]);
    bench.want(&["a.test"]);
    for _ in 0..3 {
        assert_eq!(bench.certificate().await, "a.test");
        assert_eq!(bench.view().await, [("a.test".to_owned(), SetState::Valid, 0)]);
    }
    for pair in bench.ca.times().windows(2) {
        let days = (pair[1] - pair[0]) / DAY;
        assert!((60..=63).contains(&days), "renewed after {days} d");
    }
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_set_climbs_its_ladder_and_does_not_hold_up_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    bench.want(&["bad.test", "good.test"]);
    assert_eq!(bench.certificate().await, "good.test");
    bench.pass(Duration::from_secs(3 * 3600)).await;
    let times: Vec<i64> = bench
        .ca
        .orders()
        .iter()
        .zip(bench.ca.times())
        .filter(|(names, _)| *names == "bad.test")
        .map(|(_, at)| at)
        .collect();
    for hour in times.windows(5) {
        assert!(
            hour[4] - hour[0] >= 3600,
            "five failed authorizations within an hour: {times:?}"
        );
    }
    assert!((8..=12).contains(&times.len()), "{times:?}");
    let view = bench.view().await;
    assert_eq!(view[0].1, SetState::Failed);
    assert_eq!(usize::try_from(view[0].2).unwrap(), times.len());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_is_down_is_asked_by_one_order_at_a_time_until_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    *bench.ca.down.lock().unwrap() = true;
    let hosts: Vec<String> = (10..40).map(|i| format!("h{i}.test")).collect();
    bench.want(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
    bench.pass(Duration::from_secs(60)).await;
    // At 0, 5, 15, 35 seconds.
    assert_eq!(bench.ca.orders().len(), 4);
    *bench.ca.down.lock().unwrap() = false;
    for _ in &hosts {
        bench.certificate().await;
    }
    assert_eq!(bench.ca.most.lock().unwrap().1, ORDERS, "orders at a time");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_wanted_is_given_up_and_its_answers_are_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    bench.want(&["slow.test"]);
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(bench.open.len(), 1);
    assert_eq!(
        bench.view().await,
        [("slow.test".to_owned(), SetState::Ordering, 0)]
    );
    bench.want(&["a.test"]);
    assert_eq!(bench.certificate().await, "a.test");
    assert_eq!(bench.open.len(), 0);
    bench.want(&["slow.test"]);
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(bench.open.len(), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_order_is_a_failure_and_takes_its_answer_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    bench.want(&["panic.test"]);
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(
        bench.view().await,
        [("panic.test".to_owned(), SetState::Failed, 1)]
    );
    assert_eq!(bench.open.len(), 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_does_not_end_does_not_hold_up_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    bench.want(&["stuck.test"]);
    bench.pass(Duration::from_secs(30)).await;
    assert_eq!(bench.open.len(), 1);
    let asked = Instant::now();
    bench.stop().await;
    assert_eq!(asked.elapsed(), LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn found_again_after_a_restart_and_removed_when_long_expired_and_unwanted() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    bench.want(&["a.test", "b.test"]);
    let mut found = [bench.certificate().await, bench.certificate().await];
    found.sort();
    bench.stop().await;

    let mut bench = Bench::start(dir.path(), 90, 95 * DAY);
    assert_eq!([bench.certificate().await, bench.certificate().await], found);
    bench.want(&["b.test"]);
    assert_eq!(bench.certificate().await, "b.test");
    bench.pass(Duration::from_secs(10)).await;
    assert_eq!(bench.ca.orders(), ["b.test"], "a.test is not renewed");
    bench.stop().await;

    let mut bench = Bench::start(dir.path(), 90, 105 * DAY);
    assert_eq!(
        [bench.certificate().await, bench.certificate().await],
        found,
        "kept 14 days after expiry"
    );
    bench.want(&["b.test"]);
    bench.pass(Duration::from_secs(10)).await;
    assert_eq!(
        std::fs::read_dir(dir.path().join("acme/certificates"))
            .unwrap()
            .count(),
        1
    );
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_ca_means_everything_anew_and_other_settings_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    bench.want(&["a.test"]);
    bench.certificate().await;
    bench.acme.send_replace(Acme {
        email: Some("ops@example.com".into()),
        ..acme("https://ca.test/dir")
    });
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!(bench.ca.orders().len(), 1);
    bench.acme.send_replace(acme("https://other.test/dir"));
    assert_eq!(bench.certificate().await, "a.test");
    assert_eq!(bench.ca.orders().len(), 2);
    assert_eq!(bench.view().await, [("a.test".to_owned(), SetState::Valid, 0)]);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_order_is_made_while_the_state_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path(), 90, 0);
    bench.pass(Duration::from_secs(1)).await;
    let history = dir.path().join("acme/history");
    std::fs::remove_dir_all(&history).unwrap();
    bench.want(&["a.test"]);
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!(bench.ca.orders(), [""; 0]);
    std::fs::create_dir(&history).unwrap();
    assert_eq!(bench.certificate().await, "a.test");
    bench.stop().await;
}
