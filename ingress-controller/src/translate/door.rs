//! Who may come in through the paths of an Ingress, and how often.

use std::time::Duration;

use sekisho_config::model::{Action, ConcurrentLimit, Door, FindingKind, ForwardAuth, Jwt, RateLimit};

use super::annotations::{self, Unreadable};
use super::backends;
use super::findings::Findings;
use crate::world::{Backend, Ingress, Kind, ServicePortRef, World};

/// The door of all routes of an Ingress. One that cannot be read as it is meant must not stand open.
pub(super) fn of(world: &World, ingress: &Ingress, findings: &mut Findings) -> Result<Door, Unreadable> {
    let written = &ingress.annotations;
    let by = annotations::LIMIT_BY.strictly_of(written)?;
    let burst = annotations::RATE_LIMIT_BURST.strictly_of(written)?;
    let rate = annotations::RATE_LIMIT.strictly_of(written)?;
    let most = annotations::CONCURRENT_REQUESTS.strictly_of(written)?;
    let mut idle = |place: String, message: &str| {
        findings.add(
            FindingKind::InvalidValue,
            (Kind::Ingress, &ingress.name),
            place,
            message,
        );
    };
    if burst.is_some() && rate.is_none() {
        idle(
            annotations::RATE_LIMIT_BURST.place(),
            "has no effect without sekisho.io/rate-limit; write one",
        );
    }
    if by.is_some() && rate.is_none() && most.is_none() {
        idle(
            annotations::LIMIT_BY.place(),
            "has no effect without sekisho.io/rate-limit or sekisho.io/concurrent-requests; write one",
        );
    }
    let by = by.unwrap_or_default();
    Ok(Door {
        allow: annotations::ALLOW_NETWORKS
            .strictly_of(written)?
            .unwrap_or_default(),
        deny: annotations::DENY_NETWORKS
            .strictly_of(written)?
            .unwrap_or_default(),
        rate: rate.map(|(requests, per)| RateLimit {
            requests,
            per,
            burst: burst.unwrap_or(requests),
            by: by.clone(),
        }),
        concurrent: most.map(|most| ConcurrentLimit { most, by }),
        jwt: jwt(ingress, findings)?,
        forward_auth: forward_auth(world, ingress, findings)?,
    })
}

fn jwt(ingress: &Ingress, findings: &mut Findings) -> Result<Option<Jwt>, Unreadable> {
    let written = &ingress.annotations;
    let issuer = annotations::JWT_ISSUER.strictly_of(written)?;
    let audiences = annotations::JWT_AUDIENCES.strictly_of(written)?;
    let leeway = annotations::JWT_LEEWAY.strictly_of(written)?;
    let claims = annotations::JWT_CLAIM_HEADERS.strictly_of(written)?;
    let Some(keys) = annotations::JWT_JWKS.strictly_of(written)? else {
        if issuer.is_none() && audiences.is_none() && leeway.is_none() && claims.is_none() {
            return Ok(None);
        }
        findings.add(
            FindingKind::InvalidValue,
            (Kind::Ingress, &ingress.name),
            annotations::JWT_JWKS.place(),
            "is missing beside others about tokens: the paths answer 503; write the keys",
        );
        return Err(Unreadable(annotations::JWT_JWKS.name));
    };
    Ok(Some(Jwt {
        keys,
        issuer,
        audiences: audiences.unwrap_or_default(),
        leeway: leeway.unwrap_or(Duration::from_secs(30)),
        claims: claims.unwrap_or_default(),
    }))
}

fn forward_auth(
    world: &World,
    ingress: &Ingress,
    findings: &mut Findings,
) -> Result<Option<ForwardAuth>, Unreadable> {
    let written = &ingress.annotations;
    let timeout = annotations::AUTH_TIMEOUT.strictly_of(written)?;
    let copy = annotations::AUTH_RESPONSE_HEADERS.strictly_of(written)?;
    let Some(url) = annotations::AUTH_URL.strictly_of(written)? else {
        for (there, place) in [
            (timeout.is_some(), annotations::AUTH_TIMEOUT.place()),
            (copy.is_some(), annotations::AUTH_RESPONSE_HEADERS.place()),
        ] {
            if there {
                findings.add(
                    FindingKind::InvalidValue,
                    (Kind::Ingress, &ingress.name),
                    place,
                    "has no effect without sekisho.io/auth-url; write one",
                );
            }
        }
        return Ok(None);
    };
    let backend = Backend::Service {
        name: url.service.clone(),
        port: ServicePortRef::Number(i32::from(url.port)),
    };
    let place = annotations::AUTH_URL.place();
    // Without a pool every request is refused: what cannot be asked does not say yes.
    let pool = match backends::resolve(world, ingress, &backend, &place, findings) {
        Action::Forward(pool) => Some(pool),
        Action::Split(_) | Action::Unavailable(_) => None,
    };
    Ok(Some(ForwardAuth {
        pool,
        host: url.host,
        path: url.path,
        timeout: timeout.unwrap_or(Duration::from_secs(5)),
        copy: copy.unwrap_or_default(),
    }))
}
