//! Who issues: a CA with our account there. The worker knows only [`Issuer`], so that its tests need no CA.

use std::future::Future;
use std::sync::Arc;

use sekisho_config::model::{Acme, NameSet, Secret};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::answers::Answers;
use crate::ca::Ca;
use crate::failure::{Failure, FailureKind};
use crate::order::{self, Issued};
use crate::store::{Store, StoredAccount};

/// Obtains certificates.
pub(crate) trait Issuer: Send + Sync + 'static {
    /// Obtains one for `names`; gives up when `cancel` is cancelled. The caller withdraws the answers afterwards.
    fn issue(
        &self,
        names: Arc<NameSet>,
        answers: Answers,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Issued, Failure>> + Send;
}

/// The CA of an `[acme]` section.
#[derive(Debug)]
pub(crate) struct AcmeIssuer {
    acme: Acme,
    store: Store,
    /// Held while an account is made: orders that start together must not make two.
    joined: Mutex<Option<Arc<Joined>>>,
}

#[derive(Debug)]
struct Joined {
    ca: Ca,
    credentials: Secret,
}

impl AcmeIssuer {
    pub(crate) fn new(acme: Acme, store: Store) -> Self {
        Self {
            acme,
            store,
            joined: Mutex::new(None),
        }
    }

    /// The CA and our account there; made at first use, tried again at the next after a failure.
    async fn joined(&self) -> Result<Arc<Joined>, Failure> {
        let mut place = self.joined.lock().await;
        if let Some(joined) = &*place {
            return Ok(Arc::clone(joined));
        }
        let (store, acme) = (self.store.clone(), self.acme.clone());
        let (ca, stored) = blocking(move || {
            let ca = Ca::new(acme.ca_file.as_deref());
            (ca, store.account(&acme.directory))
        })
        .await?;
        let ca = ca?;
        let account = match order::account(&ca, &self.acme, stored.clone()).await {
            // A contact that the CA does not take is no reason to let certificates expire.
            Err(failure) if stored.is_some() && failure.kind == FailureKind::Account => {
                warn!(error = %failure, "contact of the ACME account stays what it was");
                stored.clone()
            }
            other => Some(other?),
        };
        let Some(account) = account else {
            return Err(Failure::new(FailureKind::Internal, "no account"));
        };
        if stored.as_ref() != Some(&account) {
            self.save(account.clone()).await?;
        }
        let joined = Arc::new(Joined {
            ca,
            credentials: account.credentials,
        });
        *place = Some(Arc::clone(&joined));
        Ok(joined)
    }

    async fn save(&self, account: StoredAccount) -> Result<(), Failure> {
        let (store, directory) = (self.store.clone(), Arc::clone(&self.acme.directory));
        blocking(move || {
            if let Err(error) = store.save_account(&directory, &account) {
                // Using it is better than not; a restart makes another, of which CAs allow several an hour.
                error!(%error, "ACME account cannot be written below state_dir; free space or mend the permissions");
            }
        })
        .await
    }

    /// Forgets the account that the CA does not know.
    async fn retire(&self, of: &Arc<Joined>) {
        let mut place = self.joined.lock().await;
        if place.as_ref().is_some_and(|joined| Arc::ptr_eq(joined, of)) {
            *place = None;
            warn!(directory = %self.acme.directory, "CA does not know our account any more; a new one is made");
            let (store, directory) = (self.store.clone(), Arc::clone(&self.acme.directory));
            let _ = blocking(move || store.retire_account(&directory)).await;
        }
    }
}

impl Issuer for AcmeIssuer {
    async fn issue(
        &self,
        names: Arc<NameSet>,
        answers: Answers,
        cancel: CancellationToken,
    ) -> Result<Issued, Failure> {
        // Not cancelled: an account that is made and not kept counts against the limit of the CA all the same.
        let joined = self.joined().await?;
        let result = tokio::select! {
            () = cancel.cancelled() => Err(Failure::cancelled()),
            result = order::run(&joined.ca, &joined.credentials, &names, &answers) => result,
        };
        if let Err(failure) = &result
            && failure.kind == FailureKind::UnknownAccount
        {
            self.retire(&joined).await;
        }
        result
    }
}

/// Runs what blocks away from the runtime's own threads: BGP timers run there too.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Failure::new(
            FailureKind::Internal,
            format!("a file operation was lost: {error}"),
        )
    })
}
