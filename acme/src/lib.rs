//! ACME (RFC 8555): obtains and renews the certificates that Ingresses ask for.
//!
//! Job: hold one certificate for every wanted set of names. [`due`] decides what to do and when (pure); `store`
//! keeps account, certificates and the history of failures on disk; `order` runs one order over HTTP-01; the worker
//! joins them.
//!
//! Data in: the wanted sets ([`Handle::want`]), the `[acme]` section ([`Handle::configure`]), and for every
//! challenge answer the revision under which it is served. Data out: [`Event`]s and [`OrderView`]s.
//!
//! It does not serve challenge answers or certificates (the proxy does), knows no Kubernetes object, and orders
//! nothing that was not asked for by name: an unknown SNI never leads to an order.

mod answers;
mod ca;
pub mod due;
pub mod failure;
pub mod history;
mod issuer;
mod metrics;
mod order;
mod store;
mod view;
mod worker;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use sekisho_config::model::{Acme, Certificate, ChallengeAnswer, NameSet, Revision};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use view::{OrderView, SetState};

/// Events that may wait for the control task before the worker waits too.
const EVENTS: usize = 64;

/// What [`start`] needs.
#[derive(Debug)]
pub struct Inputs {
    /// `[acme]`
    pub acme: Acme,
    /// `appliance.state_dir`; the directory `acme` is made in it.
    pub state_dir: PathBuf,
    /// Where the worker is spawned, for an orderly stop.
    pub tasks: TaskTracker,
    /// Asks the worker to stop: answers are withdrawn, nothing new is ordered.
    pub stop: CancellationToken,
}

/// What happens here, for the control task.
#[derive(Debug)]
pub enum Event {
    /// A certificate is held: found in the store at start, obtained or renewed. The newest for a set replaces older ones.
    Certificate {
        /// The set as it was wanted.
        names: Arc<NameSet>,
        /// Chain and key.
        certificate: Arc<Certificate>,
    },
    /// Serve this under `/.well-known/acme-challenge/<token>` on port 80 of every host (RFC 8555 section 8.3).
    Answer {
        /// Token of the challenge.
        token: Arc<str>,
        /// What to answer.
        answer: ChallengeAnswer,
        /// To be told once a published snapshot serves it; only then is the CA told to look.
        published: oneshot::Sender<Revision>,
    },
    /// The answer is no longer needed. Sent once for every [`Event::Answer`], also after failure.
    AnswerDone {
        /// Token of the challenge.
        token: Arc<str>,
    },
}

/// Why ACME cannot start. A CA that cannot be reached is not among the reasons: it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory is not usable.
    #[error("cannot use {} for ACME state: {source}; make it writable for the user of the process", path.display())]
    StateDir {
        /// Which directory or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A metric is registered twice.
    #[error("metrics of ACME cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The running worker. Dropping it does not stop it; `Inputs::stop` does.
#[derive(Clone, Debug)]
pub struct Handle {
    wanted: watch::Sender<Option<BTreeSet<Arc<NameSet>>>>,
    acme: watch::Sender<Acme>,
    views: mpsc::Sender<oneshot::Sender<Vec<OrderView>>>,
}

impl Handle {
    /// The whole wanted set: what is not in it is no longer ordered or renewed.
    ///
    /// Nothing is ordered before the first call.
    pub fn want(&self, sets: BTreeSet<Arc<NameSet>>) {
        self.wanted.send_if_modified(|wanted| {
            let differs = wanted.as_ref() != Some(&sets);
            if differs {
                *wanted = Some(sets);
            }
            differs
        });
    }

    /// Takes another `[acme]` section live. Another directory means another account, and every certificate anew.
    pub fn configure(&self, acme: Acme) {
        self.acme.send_if_modified(|current| {
            let differs = *current != acme;
            if differs {
                *current = acme;
            }
            differs
        });
    }

    /// One row a wanted set, in order of names. Empty when the worker has stopped.
    ///
    /// Cancel-safe: yes.
    pub async fn view(&self) -> Vec<OrderView> {
        let (reply, view) = oneshot::channel();
        if self.views.send(reply).await.is_err() {
            return Vec::new();
        }
        view.await.unwrap_or_default()
    }
}

/// Starts the worker on the current runtime.
///
/// # Errors
/// [`StartError`] when the state directory cannot be written or a metric is registered twice.
pub fn start(
    inputs: Inputs,
    registry: &prometheus::Registry,
) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let metrics = metrics::Metrics::register(registry)?;
    let store = store::Store::open(&inputs.state_dir)
        .map_err(|(path, source)| StartError::StateDir { path, source })?;
    let (events, outlet) = mpsc::channel(EVENTS);
    let (views, views_inlet) = mpsc::channel(4);
    let (wanted, wanted_inlet) = watch::channel(None);
    let make_issuer = {
        let store = store.clone();
        move |acme: &Acme| issuer::AcmeIssuer::new(acme.clone(), store.clone())
    };
    let worker = worker::Worker::new(
        &inputs.acme,
        make_issuer,
        store,
        events,
        metrics,
        Arc::new(jiff::Timestamp::now),
    );
    let (acme, acme_inlet) = watch::channel(inputs.acme);
    inputs.tasks.spawn(worker.run(worker::Inlets {
        wanted: wanted_inlet,
        acme: acme_inlet,
        views: views_inlet,
        stop: inputs.stop,
    }));
    Ok((Handle { wanted, acme, views }, outlet))
}
