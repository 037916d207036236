use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::{Connection, Netns, Target, now};

/// Requests kept at most; further ones are counted no more (far above what a demo sends).
const LIMIT: usize = 200_000;
/// Requests on one connection before the client opens another, so that both kinds are seen.
const PER_CONNECTION: u32 = 20;

/// One request of a load.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was sent.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// The pod that answered, or what went wrong.
    pub answer: Result<String, String>,
}

/// A load that runs until it is ended.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Load {
    /// Starts `clients` clients that each send GET `path` and pause `pause` between two requests.
    pub fn start(target: &Target, path: &str, clients: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let samples = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..clients)
            .map(|_| {
                let (target, path, stop, samples) = (
                    target.clone(),
                    path.to_owned(),
                    Arc::clone(&stop),
                    Arc::clone(&samples),
                );
                std::thread::spawn(move || client(&target, &path, pause, &stop, &samples))
            })
            .collect();
        Self {
            stop,
            threads,
            samples,
        }
    }

    /// How many requests have been answered or have failed so far.
    pub fn count(&self) -> usize {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The last answers of each pod and failure so far, newest state of the load.
    pub fn tally(&self) -> Tally {
        Tally {
            samples: self
                .samples
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Ends the load and gives what it saw.
    pub fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        Tally {
            samples: std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

fn client(target: &Target, path: &str, pause: Duration, stop: &AtomicBool, samples: &Mutex<Vec<Sample>>) {
    let entered = target.from.as_ref().map_or(Ok(()), Netns::become_it);
    let mut open: Option<(Connection, u32)> = None;
    while !stop.load(Ordering::Relaxed) {
        let at = now();
        let answer = match &entered {
            Err(error) => Err(anyhow!("{error:#}")),
            Ok(()) => request(target, path, &mut open),
        };
        if answer.is_err() {
            open = None;
        }
        let sample = Sample {
            at,
            took: at.elapsed(),
            answer: answer.map_err(|error| format!("{error:#}")),
        };
        let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() < LIMIT {
            samples.push(sample);
        }
        drop(samples);
        sleep(pause);
    }
}

fn request(target: &Target, path: &str, open: &mut Option<(Connection, u32)>) -> Result<String> {
    let (mut connection, used) = match open.take() {
        Some(open) => open,
        None => (Connection::open(target)?, 0),
    };
    let response = connection.send("GET", path, &[], b"")?;
    let pod = response.pod()?.to_owned();
    // A server may end a connection after an answer; it says so.
    let closes = response
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    if !closes && used + 1 < PER_CONNECTION {
        *open = Some((connection, used + 1));
    }
    Ok(pod)
}

/// What a load saw.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Every request, in order of their ends.
    pub samples: Vec<Sample>,
}

impl Tally {
    /// Requests.
    pub fn total(&self) -> usize {
        self.samples.len()
    }

    /// Requests without a good answer.
    pub fn failed(&self) -> usize {
        self.samples
            .iter()
            .filter(|sample| sample.answer.is_err())
            .count()
    }

    /// Failures by text.
    pub fn failures(&self) -> BTreeMap<&str, usize> {
        let mut out = BTreeMap::new();
        for error in self
            .samples
            .iter()
            .filter_map(|sample| sample.answer.as_ref().err())
        {
            *out.entry(error.as_str()).or_default() += 1;
        }
        out
    }

    /// Answers by pod.
    pub fn by_pod(&self) -> BTreeMap<&str, usize> {
        let mut out = BTreeMap::new();
        for pod in self
            .samples
            .iter()
            .filter_map(|sample| sample.answer.as_ref().ok())
        {
            *out.entry(pod.as_str()).or_default() += 1;
        }
        out
    }

    /// Whether `pod` has answered.
    pub fn saw(&self, pod: &str) -> bool {
        self.samples
            .iter()
            .any(|sample| sample.answer.as_deref() == Ok(pod))
    }

    /// When the last request was sent that `pod` answered.
    pub fn last_of(&self, pod: &str) -> Option<Instant> {
        self.samples
            .iter()
            .filter(|sample| sample.answer.as_deref() == Ok(pod))
            .map(|sample| sample.at)
            .max()
    }

    /// When the first request was sent that `pod` answered.
    pub fn first_of(&self, pod: &str) -> Option<Instant> {
        self.samples
            .iter()
            .filter(|sample| sample.answer.as_deref() == Ok(pod))
            .map(|sample| sample.at)
            .min()
    }

    /// The median and the longest request.
    pub fn latency(&self) -> (Duration, Duration) {
        let mut all: Vec<_> = self.samples.iter().map(|sample| sample.took).collect();
        all.sort();
        (
            all.get(all.len() / 2).copied().unwrap_or_default(),
            all.last().copied().unwrap_or_default(),
        )
    }
}
