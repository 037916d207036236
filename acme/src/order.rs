//! One order, from the account to the certificate, over HTTP-01 (RFC 8555 sections 7.3 to 7.5 and 8.3).

use std::collections::BTreeSet;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, ExternalAccountKey, Identifier,
    NewAccount, NewOrder, OrderStatus,
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use sekisho_config::model::{Acme, Certificate, HostPattern, NameSet, Secret};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::answers::Answers;
use crate::ca::{Ca, RetryAfter};
use crate::failure::{Failure, FailureKind, is_bad_nonce, is_passing};
use crate::history::later;
use crate::store::{StoredAccount, certificate_for};

/// For the CA to look at every name; some look from several places one after the other.
const VALIDATION: Duration = Duration::from_secs(180);

/// For the CA to issue.
const ISSUANCE: Duration = Duration::from_secs(180);

/// Between two looks at an order: this first, growing to the longest.
const FIRST_POLL: Duration = Duration::from_millis(250);
const LONGEST_POLL: Duration = Duration::from_secs(5);

/// A nonce may be refused (RFC 8555 section 6.5); the client library gives up after 3.
const NONCES: u32 = 8;
const PASSING_FAULTS: u32 = 2;

/// Tokens are base64url (RFC 8555 section 8.3) and become part of a path.
const LONGEST_TOKEN: usize = 256;

/// Evaluates a call until it succeeds: again with another nonce, and after faults that pass; not against a
/// Retry-After. A macro, because a function that takes an async closure makes futures that are not `Send`.
macro_rules! attempt {
    ($retry_after:expr, $call:expr) => {{
        let mut faults = Faults::default();
        loop {
            match $call {
                Err(error) if faults.may_repeat(&error, $retry_after) => faults.pause().await,
                result => break result,
            }
        }
    }};
}

/// What an order brought.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: Certificate,
    pub(crate) chain_pem: String,
}

/// The account for `acme`: the stored one with its contact brought up to date, or a new one. To be stored if it differs.
pub(crate) async fn account(
    ca: &Ca,
    acme: &Acme,
    stored: Option<StoredAccount>,
) -> Result<StoredAccount, Failure> {
    let email = acme.email.as_deref().map(str::to_owned);
    let mailto = email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = mailto.as_deref().into_iter().collect();
    if let Some(stored) = stored {
        if stored.email == email {
            return Ok(stored);
        }
        let (account, retry_after) = connect(ca, &stored.credentials).await?;
        attempt!(&retry_after, account.update_contacts(&contact).await)
            .map_err(|error| of_account("telling the CA the new acme.email", &error, &retry_after))?;
        info!("contact of the ACME account changed");
        return Ok(StoredAccount { email, ..stored });
    }
    let eab = acme
        .eab
        .as_ref()
        .map(|(id, key)| ExternalAccountKey::new(id.to_string(), key.expose()));
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let mut nonces = 0;
    let credentials = loop {
        let (http, retry_after) = ca.for_order();
        let made = Account::builder_with_http(http)
            .create(&new, acme.directory.to_string(), eab.as_ref())
            .await;
        match made {
            Ok((_, credentials)) => break credentials,
            Err(error) if is_bad_nonce(&error) && nonces < NONCES => nonces += 1,
            Err(error) => return Err(of_account("making an account", &error, &retry_after)),
        }
    };
    info!(directory = %acme.directory, "ACME account made");
    let credentials = serde_json::to_vec(&credentials)
        .map_err(|_| Failure::new(FailureKind::Internal, "the new account cannot be written as JSON"))?;
    Ok(StoredAccount {
        email,
        credentials: Secret::new(credentials),
    })
}

/// Obtains a certificate for `names`. Answers that are out when it ends are for the caller to withdraw.
pub(crate) async fn run(
    ca: &Ca,
    credentials: &Secret,
    names: &NameSet,
    answers: &Answers,
) -> Result<Issued, Failure> {
    let (account, retry_after) = connect(ca, credentials).await?;
    let identifiers: Vec<Identifier> = names
        .iter()
        .map(|name| Identifier::Dns(name.to_string()))
        .collect();
    let new = NewOrder::new(&identifiers);
    let order = attempt!(&retry_after, account.new_order(&new).await)
        .map_err(|error| failed("making the order", &error, &retry_after))?;
    let mut order = Order { order, retry_after };
    debug!(url = order.order.url(), "order made");
    let pending = order.publish(answers).await?;
    if pending > 0 {
        order.set_ready().await?;
    } else {
        debug!("every authorization is still valid; no challenge needed");
    }
    order.wait_ready().await?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| internal(&error))?;
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())
        .map_err(|error| internal(&error))?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| internal(&error))?;
    let chain_pem = order.finalize(request.der()).await?;
    let certificate =
        certificate_for(names, chain_pem.as_bytes(), key.serialize_pem().as_bytes()).map_err(|why| {
            Failure::new(
                FailureKind::BadCertificate,
                format!("the CA issued what was not ordered: {why}"),
            )
        })?;
    Ok(Issued {
        certificate,
        chain_pem,
    })
}

/// An order at the CA.
struct Order {
    order: instant_acme::Order,
    retry_after: RetryAfter,
}

impl Order {
    /// Publishes the answer of every authorization that is not valid yet; how many there are.
    async fn publish(&mut self, answers: &Answers) -> Result<usize, Failure> {
        let mut tokens = BTreeSet::new();
        let mut waiting = Vec::new();
        let mut faults = Faults::default();
        // An authorization that could not be fetched is skipped by the library's iterator; the next round starts
        // afresh and costs no request for those that were fetched.
        'round: loop {
            let mut authorizations = self.order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = match authorization {
                    Ok(authorization) => authorization,
                    Err(error) if faults.may_repeat(&error, &self.retry_after) => {
                        faults.pause().await;
                        continue 'round;
                    }
                    Err(error) => {
                        return Err(failed("asking for an authorization", &error, &self.retry_after));
                    }
                };
                let name = authorization.identifier().to_string();
                match authorization.status {
                    AuthorizationStatus::Valid => continue,
                    AuthorizationStatus::Pending => {}
                    other => {
                        return Err(Failure::new(
                            FailureKind::Refused,
                            format!(
                                "the authorization for {name} is {other:?} from the start; it is tried again with a new order"
                            ),
                        ));
                    }
                }
                let Some(challenge) = authorization.challenge(ChallengeType::Http01) else {
                    return Err(Failure::new(
                        FailureKind::Refused,
                        format!(
                            "the CA offers no HTTP-01 challenge for {name}; give the certificate in a Secret"
                        ),
                    ));
                };
                let token = challenge.token.as_str();
                if token.is_empty()
                    || token.len() > LONGEST_TOKEN
                    || !token
                        .bytes()
                        .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
                {
                    return Err(Failure::new(
                        FailureKind::Refused,
                        format!("the CA's token for {name} is not base64url (RFC 8555 section 8.3)"),
                    ));
                }
                if tokens.insert(token.to_owned()) {
                    let answer = challenge.key_authorization();
                    waiting.push(answers.publish(token.into(), answer.as_str()).await?);
                }
            }
            break;
        }
        answers.served(waiting).await?;
        Ok(tokens.len())
    }

    /// Tells the CA to look.
    async fn set_ready(&mut self) -> Result<(), Failure> {
        let mut told = BTreeSet::new();
        while let Some((name, result)) = self.tell_next(&told).await {
            if let Err(error) = result {
                let failure = failed("telling the CA to look", &error, &self.retry_after);
                // The first of two tries may have arrived, or the CA may be done already: its own state decides.
                if self.is_untouched(&name).await {
                    return Err(failure);
                }
            }
            told.insert(name);
        }
        Ok(())
    }

    /// Tells the CA to look at the first pending authorization that is not in `told`.
    async fn tell_next(&mut self, told: &BTreeSet<String>) -> Option<(String, Result<(), Error>)> {
        let retry_after = self.retry_after.clone();
        let mut authorizations = self.order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            // `publish` has fetched them all.
            let Ok(mut authorization) = authorization else {
                continue;
            };
            let name = authorization.identifier().to_string();
            if authorization.status != AuthorizationStatus::Pending || told.contains(&name) {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) else {
                continue;
            };
            let result = attempt!(&retry_after, challenge.set_ready().await);
            return Some((name, result));
        }
        None
    }

    /// Whether the CA's own state says that it has not been told to look at `name`.
    async fn is_untouched(&mut self, name: &str) -> bool {
        let retry_after = self.retry_after.clone();
        let mut authorizations = self.order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let Ok(mut authorization) = authorization else {
                continue;
            };
            if authorization.identifier().to_string() == name {
                let refreshed = attempt!(&retry_after, authorization.refresh().await.map(|_| ()));
                return refreshed.is_err()
                    || (authorization.status == AuthorizationStatus::Pending
                        && authorization.challenges.iter().all(|challenge| {
                            challenge.r#type != ChallengeType::Http01
                                || challenge.status == ChallengeStatus::Pending
                        }));
            }
        }
        true
    }

    /// Waits until every authorization is valid.
    async fn wait_ready(&mut self) -> Result<(), Failure> {
        let status = self
            .poll("waiting for the validation", VALIDATION, |status| {
                !matches!(status, OrderStatus::Pending)
            })
            .await?;
        match status {
            OrderStatus::Invalid => Err(self.reason().await),
            _ => Ok(()),
        }
    }

    /// Sends the CSR and fetches the chain, in PEM.
    async fn finalize(&mut self, csr: &[u8]) -> Result<String, Failure> {
        let retry_after = self.retry_after.clone();
        if self.order.state().status == OrderStatus::Ready
            && let Err(error) = attempt!(&retry_after, self.order.finalize_csr(csr).await)
        {
            let failure = failed("finalizing the order", &error, &retry_after);
            // As in `set_ready`: what counts is what arrived.
            let state = attempt!(&retry_after, {
                self.order.refresh().await.map(|state| state.status)
            });
            if !matches!(state, Ok(OrderStatus::Processing | OrderStatus::Valid)) {
                return Err(failure);
            }
        }
        let status = self
            .poll("waiting for the certificate", ISSUANCE, |status| {
                matches!(status, OrderStatus::Valid | OrderStatus::Invalid)
            })
            .await?;
        if status == OrderStatus::Invalid {
            return Err(self.reason().await);
        }
        attempt!(&retry_after, self.order.certificate().await)
            .map_err(|error| failed("fetching the certificate", &error, &retry_after))?
            .ok_or_else(|| {
                Failure::new(
                    FailureKind::Refused,
                    "the order is valid, but the CA gives no certificate",
                )
            })
    }

    /// Looks at the order until `done`, as often as the CA allows.
    async fn poll(
        &mut self,
        what: &str,
        within: Duration,
        done: impl Fn(OrderStatus) -> bool,
    ) -> Result<OrderStatus, Failure> {
        let retry_after = self.retry_after.clone();
        let deadline = Instant::now() + within;
        let mut delay = FIRST_POLL;
        let mut status = self.order.state().status;
        let mut asked = None;
        while !done(status) {
            let wait = wait(delay, asked, within);
            if Instant::now() + wait > deadline {
                let words = format!(
                    "{what}: the CA did not finish within {} s; it is tried again",
                    within.as_secs()
                );
                let mut failure = Failure::new(FailureKind::Slow, words);
                failure.retry_after = asked.map(|asked| later(Timestamp::now(), asked));
                return Err(failure);
            }
            sleep(wait).await;
            delay = delay.mul_f32(1.5).min(LONGEST_POLL);
            status = attempt!(&retry_after, {
                self.order.refresh().await.map(|state| state.status)
            })
            .map_err(|error| failed(what, &error, &retry_after))?;
            asked = retry_after.wait();
        }
        Ok(status)
    }

    /// Why the order is invalid: the authorizations that failed, else what the order says.
    async fn reason(&mut self) -> Failure {
        let retry_after = self.retry_after.clone();
        let mut failures: Vec<Failure> = Vec::new();
        let mut authorizations = self.order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let Ok(mut authorization) = authorization else {
                continue;
            };
            if attempt!(&retry_after, authorization.refresh().await.map(|_| ())).is_err()
                || authorization.status != AuthorizationStatus::Invalid
            {
                continue;
            }
            let Ok(name) = authorization.identifier().to_string().parse::<HostPattern>() else {
                continue;
            };
            let problem = authorization
                .challenges
                .iter()
                .find_map(|challenge| challenge.error.as_ref());
            failures.push(Failure::of_validation(&name, problem));
        }
        let more = failures.len().saturating_sub(3);
        let mut failures = failures.into_iter();
        match failures.next() {
            Some(mut failure) => {
                for (place, next) in failures.enumerate() {
                    failure.authorizations.extend(next.authorizations);
                    if place < 2 {
                        failure.message = format!("{}; {}", failure.message, next.message);
                    }
                }
                if more > 0 {
                    failure.message = format!("{}; and {more} more", failure.message);
                }
                failure
            }
            None => match &self.order.state().error {
                Some(problem) => failed("the order", &Error::Api(problem.clone()), &retry_after),
                None => Failure::new(
                    FailureKind::Refused,
                    "the CA calls the order invalid and does not say why",
                ),
            },
        }
    }
}

/// How long to wait before the next look: what the CA asked for, bounded, since its number may be anything.
fn wait(delay: Duration, asked: Option<SignedDuration>, longest: Duration) -> Duration {
    let asked = asked
        .and_then(|asked| Duration::try_from(asked).ok())
        .unwrap_or_default();
    asked.min(longest).max(delay)
}

/// Reads the directory and joins it with the account. What fails here is the CA or the way to it.
async fn connect(ca: &Ca, credentials: &Secret) -> Result<(Account, RetryAfter), Failure> {
    let (http, retry_after) = ca.for_order();
    let credentials = serde_json::from_slice(credentials.expose())
        .map_err(|_| Failure::new(FailureKind::Account, "the stored account cannot be read"))?;
    let account = Account::builder_with_http(http)
        .from_credentials(credentials)
        .await
        .map_err(|error| failed("reading the directory of the CA", &error, &retry_after))?;
    Ok((account, retry_after))
}

/// Faults of one request so far.
#[derive(Default)]
struct Faults {
    nonces: u32,
    passing: u32,
}

impl Faults {
    fn may_repeat(&mut self, error: &Error, retry_after: &RetryAfter) -> bool {
        if is_bad_nonce(error) {
            self.nonces += 1;
            return self.nonces <= NONCES;
        }
        if is_passing(error) && retry_after.wait().is_none() {
            self.passing += 1;
            return self.passing <= PASSING_FAULTS;
        }
        false
    }

    async fn pause(&self) {
        sleep(Duration::from_millis(50) * self.nonces + Duration::from_secs(1) * self.passing).await;
    }
}

fn failed(what: &str, error: &Error, retry_after: &RetryAfter) -> Failure {
    let at = retry_after.wait().map(|wait| later(Timestamp::now(), wait));
    Failure::from_client(what, error, at)
}

/// As [`failed`], for what concerns the account: a refusal there holds up every set.
fn of_account(what: &str, error: &Error, retry_after: &RetryAfter) -> Failure {
    let mut failure = failed(what, error, retry_after);
    if !matches!(
        failure.kind,
        FailureKind::Unreachable | FailureKind::UnknownAccount
    ) {
        failure.kind = FailureKind::Account;
    }
    failure
}

fn internal(error: &rcgen::Error) -> Failure {
    Failure::new(
        FailureKind::Internal,
        format!("key or request cannot be made: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_what_the_ca_asked_for_within_reason() {
        let seconds = Duration::from_secs;
        for (asked, want) in [
            (None, seconds(1)),
            (Some(SignedDuration::from_secs(3)), seconds(3)),
            (Some(SignedDuration::ZERO), seconds(1)),
            (Some(SignedDuration::from_secs(-3)), seconds(1)),
            (Some(SignedDuration::MAX), seconds(180)),
        ] {
            assert_eq!(wait(seconds(1), asked, seconds(180)), want, "{asked:?}");
        }
    }

    #[test]
    fn what_passes_is_repeated_a_bounded_number_of_times() {
        let problem = |kind: &str| -> Error {
            Error::Api(
                serde_json::from_str(&format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}"}}"#)).unwrap(),
            )
        };
        for (kind, want) in [
            ("badNonce", 8),
            ("serverInternal", 2),
            ("rateLimited", 0),
            ("unauthorized", 0),
        ] {
            let mut faults = Faults::default();
            let error = problem(kind);
            let repeated = (0..50)
                .take_while(|_| faults.may_repeat(&error, &RetryAfter::default()))
                .count();
            assert_eq!(repeated, want, "{kind}");
        }
    }
}
