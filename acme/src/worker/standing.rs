//! Where each wanted set stands, for whoever asks.

use std::sync::Arc;

use jiff::Timestamp;
use sekisho_config::model::NameSet;

use super::Worker;
use crate::due::{Plan, plan};
use crate::view::{OrderView, SetState};

impl<I, M> Worker<I, M> {
    pub(super) fn view(&self) -> Vec<OrderView> {
        let now = (self.clock)();
        self.wanted
            .iter()
            .flatten()
            .map(|names| self.view_of(names, now))
            .collect()
    }

    fn view_of(&self, names: &Arc<NameSet>, now: Timestamp) -> OrderView {
        let held = self.held.get(names);
        let validity = self.validity.get(names);
        let failures = self.history.of(names);
        let plan = plan(names, validity, &self.history);
        let runs = self.running_names.contains(names);
        let state = match (&plan, validity) {
            _ if runs => SetState::Ordering,
            (Plan::Refused(_), _) => SetState::Refused,
            (_, Some(validity)) if validity.not_after <= now => SetState::Expired,
            (Plan::Order(at), Some(validity)) => {
                // Between two attempts it is still due, only not now.
                let failing = failures.is_some() && validity.renew_at(0.0) <= now;
                if *at <= now || failing || !validity.of_this_ca {
                    SetState::Due
                } else {
                    SetState::Valid
                }
            }
            (_, None) if failures.is_some() => SetState::Failed,
            (_, None) => SetState::Waiting,
        };
        let next_attempt = match &plan {
            Plan::Order(at) if !runs => Some((*at).max(now)),
            _ => None,
        };
        let last_error = match &plan {
            Plan::Refused(refusal) => Some(refusal.to_string()),
            Plan::Order(_) => {
                let of_ca = (state != SetState::Valid).then(|| self.history.of_ca()).flatten();
                failures.or(of_ca).map(|failures| failures.error.clone())
            }
        };
        OrderView {
            names: Arc::clone(names),
            state,
            issuer: held.map(|held| held.certificate.issuer.clone()),
            not_after: held.map(|held| held.certificate.not_after),
            next_attempt,
            last_error,
            failures: failures.map_or(0, |failures| failures.count),
            last_order_seconds: self.took.get(names).copied(),
        }
    }
}
