//! The door of a route: who may come in, and how often. Pure look-ups beside two tables of fixed size that all workers
//! share without a lock.

pub(crate) mod basic;
pub(crate) mod jwt;
mod limits;
mod networks;
mod slots;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use sekisho_config::model::{Door, ForwardAuth, LimitBy, ObjectName};

use self::limits::Pace;
pub(crate) use self::limits::Rates;
use self::networks::Networks;
pub(crate) use self::slots::{Slots, Ticket};
use crate::client_auth;
use crate::fields::{Fields, Name};
use crate::metrics::{Cell, Counters};

/// The door of one route.
#[derive(Debug)]
pub(crate) struct Compiled {
    ingress: ObjectName,
    networks: Option<Networks>,
    rate: Option<(Pace, By)>,
    concurrent: Option<(u32, By)>,
    client_auth: Option<Arc<client_auth::Compiled>>,
    basic: Option<basic::Compiled>,
    jwt: Option<jwt::Compiled>,
    auth: Option<Auth>,
}

/// Whom to ask about a request.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) wished: ForwardAuth,
    pub(crate) host: HeaderValue,
    pub(crate) copy: Box<[HeaderName]>,
}

#[derive(Debug)]
enum By {
    Address,
    Header(HeaderName),
    Ingress,
}

/// Why somebody is turned away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turned {
    /// The address is in no network that is let in.
    Network,
    /// Too often; seconds after which another try may pass.
    Rate(u32),
    /// Too many at a time.
    Concurrency,
}

/// What all routes and workers count in.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    rates: Rates,
    slots: Arc<Slots>,
    pub(crate) hashers: basic::Hashers,
}

impl By {
    fn compile(by: &LimitBy) -> Self {
        match by {
            LimitBy::Address => Self::Address,
            LimitBy::Header(name) => {
                HeaderName::from_bytes(name.as_bytes()).map_or(Self::Address, Self::Header)
            }
            LimitBy::Ingress => Self::Ingress,
        }
    }

    /// What stands for those who are counted together.
    fn key(
        &self,
        ingress: &ObjectName,
        address: IpAddr,
        headers: &Fields,
        hash: impl Fn(&Key<'_>) -> u64,
    ) -> u64 {
        let who = match self {
            Self::Ingress => Who::All,
            Self::Address => Who::Address(customer(address)),
            Self::Header(name) => headers.get(name).map_or_else(
                || Who::Address(customer(address)),
                |value| Who::Value(value.as_bytes()),
            ),
        };
        hash(&Key { ingress, who })
    }
}

#[derive(Hash)]
struct Key<'a> {
    ingress: &'a ObjectName,
    who: Who<'a>,
}

#[derive(Hash)]
enum Who<'a> {
    All,
    Address(IpAddr),
    Value(&'a [u8]),
}

/// The address by which a client is counted: of IPv6 its /64.
fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

impl Compiled {
    /// The door of a route of `ingress`; `None` when it stands open.
    pub(crate) fn compile(ingress: &ObjectName, door: &Door) -> Option<Self> {
        if door.is_open() {
            return None;
        }
        Some(Self {
            ingress: ingress.clone(),
            networks: Networks::compile(&door.allow, &door.deny),
            rate: door
                .rate
                .as_ref()
                .map(|rate| (Pace::compile(rate), By::compile(&rate.by))),
            concurrent: door
                .concurrent
                .as_ref()
                .map(|limit| (limit.most, By::compile(&limit.by))),
            client_auth: door
                .client_auth
                .as_ref()
                .map(|auth| Arc::new(client_auth::Compiled::compile(auth))),
            basic: door.basic.as_ref().map(basic::Compiled::compile),
            jwt: door.jwt.as_ref().map(jwt::Compiled::compile),
            auth: door.forward_auth.as_ref().map(|auth| Auth {
                host: HeaderValue::from_str(&auth.host).unwrap_or_else(|_| HeaderValue::from_static("")),
                copy: auth
                    .copy
                    .iter()
                    .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                    .collect(),
                wished: auth.clone(),
            }),
        })
    }

    /// Whether a field of this name says who the client is, once it was let in.
    pub(crate) fn decides(&self, name: Name<'_>) -> bool {
        let basic = self.basic.as_ref().and_then(basic::Compiled::owned);
        let jwt = self.jwt.iter().flat_map(|jwt| jwt.owned());
        let auth = self.auth.iter().flat_map(|auth| &auth.copy);
        basic
            .into_iter()
            .chain(jwt)
            .chain(auth)
            .any(|owned| name == *owned)
    }

    /// Whether an address may come in at all.
    pub(crate) fn lets_in(&self, address: IpAddr) -> Result<(), Turned> {
        match &self.networks {
            Some(networks) if !networks.let_in(address) => Err(Turned::Network),
            _ => Ok(()),
        }
    }

    /// Counts a request; the ticket is kept as long as it runs.
    pub(crate) fn count(
        &self,
        tables: &Tables,
        counters: &Counters,
        address: IpAddr,
        headers: &Fields,
    ) -> Result<Option<Ticket>, Turned> {
        if let Some((pace, by)) = &self.rate {
            let key = by.key(&self.ingress, address, headers, |key| tables.rates.hash(key));
            if tables.rates.take(key, pace).map_err(Turned::Rate)? {
                counters.inc(Cell::RateForgotten);
            }
        }
        match &self.concurrent {
            None => Ok(None),
            Some((most, by)) => {
                let key = by.key(&self.ingress, address, headers, |key| tables.slots.hash(key));
                let ticket = tables.slots.enter(key, *most).map_err(|()| Turned::Concurrency)?;
                if ticket.is_none() {
                    counters.inc(Cell::ConcurrencyUncounted);
                }
                Ok(ticket)
            }
        }
    }

    /// Which certificates of clients are believed.
    pub(crate) fn client_auth(&self) -> Option<&Arc<client_auth::Compiled>> {
        self.client_auth.as_ref()
    }

    /// Whose passwords are believed.
    pub(crate) fn basic(&self) -> Option<&basic::Compiled> {
        self.basic.as_ref()
    }

    /// The Ingress whose door it is.
    pub(crate) fn ingress(&self) -> &ObjectName {
        &self.ingress
    }

    /// Which tokens are believed.
    pub(crate) fn jwt(&self) -> Option<&jwt::Compiled> {
        self.jwt.as_ref()
    }

    /// Whom to ask.
    pub(crate) fn auth(&self) -> Option<&Auth> {
        self.auth.as_ref()
    }
}

impl Tables {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            hashers: basic::Hashers::new(workers),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sekisho_config::model::{ConcurrentLimit, RateLimit};

    use super::*;
    use crate::metrics::Metrics;

    fn door(change: impl FnOnce(&mut Door)) -> Compiled {
        let mut door = Door::default();
        change(&mut door);
        Compiled::compile(&ObjectName::new("ns", "web"), &door).unwrap()
    }

    fn field(value: &'static str) -> Fields {
        [(HeaderName::from_static("x-key"), HeaderValue::from_static(value))]
            .into_iter()
            .collect()
    }

    #[test]
    fn who_is_counted_together() {
        for (by, one, other, together) in [
            (LimitBy::Address, ("192.0.2.1", ""), ("192.0.2.1", "x"), true),
            (LimitBy::Address, ("192.0.2.1", ""), ("192.0.2.2", ""), false),
            (
                LimitBy::Address,
                ("192.0.2.1", ""),
                ("::ffff:192.0.2.1", ""),
                true,
            ),
            (
                LimitBy::Address,
                ("2001:db8::1", ""),
                ("2001:db8::ffff:1", ""),
                true,
            ),
            (
                LimitBy::Address,
                ("2001:db8::1", ""),
                ("2001:db8:0:1::1", ""),
                false,
            ),
            (
                LimitBy::Header("x-key".into()),
                ("192.0.2.1", "a"),
                ("192.0.2.2", "a"),
                true,
            ),
            (
                LimitBy::Header("x-key".into()),
                ("192.0.2.1", "a"),
                ("192.0.2.1", "b"),
                false,
            ),
            (LimitBy::Ingress, ("192.0.2.1", "a"), ("192.0.2.2", "b"), true),
        ] {
            let limited = door(|door| {
                door.rate = Some(RateLimit {
                    requests: 1,
                    per: Duration::from_hours(1),
                    burst: 1,
                    by: by.clone(),
                });
            });
            let tables = Tables::new(1);
            let ask = |(address, value): (&str, &'static str)| {
                limited
                    .count(
                        &tables,
                        &Metrics::detached(),
                        address.parse().unwrap(),
                        &field(value),
                    )
                    .is_ok()
            };
            assert!(ask(one));
            assert_eq!(ask(other), !together, "{by:?} {one:?} {other:?}");
        }
    }

    #[test]
    fn places_are_given_back() {
        let limited = door(|door| {
            door.concurrent = Some(ConcurrentLimit {
                most: 2,
                by: LimitBy::Address,
            });
        });
        let tables = Tables::new(1);
        let counters = Metrics::detached();
        let ask = || limited.count(&tables, &counters, "192.0.2.1".parse().unwrap(), &Fields::new());
        let first = ask().unwrap();
        let _second = ask().unwrap();
        assert_eq!(ask().unwrap_err(), Turned::Concurrency);
        drop(first);
        assert!(ask().is_ok());
    }
}
