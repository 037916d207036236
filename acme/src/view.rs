use std::sync::Arc;

use jiff::Timestamp;
use sekisho_config::model::NameSet;
use serde::Serialize;

/// One wanted set of names, for `sekisho certificates` and the admin API.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderView {
    /// The identifiers.
    pub names: Arc<NameSet>,
    /// Where it stands.
    pub state: SetState,
    /// Issuer of the certificate held, if any.
    pub issuer: Option<String>,
    /// End of validity of the certificate held, if any.
    pub not_after: Option<Timestamp>,
    /// When the next order is started; `None` while one runs or none will be.
    pub next_attempt: Option<Timestamp>,
    /// Why the last order failed, or why none is made. Gone after a success.
    pub last_error: Option<String>,
    /// Orders that failed since the last success.
    pub failures: u32,
    /// How long the last order took, whatever became of it.
    pub last_order_seconds: Option<f64>,
}

/// Where a wanted set stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SetState {
    /// No certificate yet; its first order waits for its turn.
    Waiting,
    /// An order runs.
    Ordering,
    /// Held, not due.
    Valid,
    /// Held and valid, renewal is due.
    Due,
    /// Held, but its validity has ended.
    Expired,
    /// No certificate; the last order failed and is repeated at `next_attempt`.
    Failed,
    /// No order is made for it; `last_error` says why.
    Refused,
}
