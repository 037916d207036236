//! Who may come in through the paths of an Ingress, and how often.

use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{
    Action, Basic, ClientAuth, ConcurrentLimit, Door, FindingKind, ForwardAuth, Jwt, RateLimit,
};

use super::annotations::{self, Unreadable};
use super::backends;
use super::findings::Findings;
use super::named;
use crate::text::printable;
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
    let basic = basic(world, ingress, findings)?;
    let jwt = jwt(world, ingress, findings)?;
    if basic.is_some() && jwt.is_some() {
        findings.add(
            FindingKind::Conflict,
            (Kind::Ingress, &ingress.name),
            annotations::AUTH_BASIC_SECRET.place(),
            "stands beside the keys for tokens, and a request has one Authorization for both: the paths answer 503; take one out",
        );
        return Err(Unreadable(annotations::AUTH_BASIC_SECRET.name));
    }
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
        client_auth: client_auth(world, ingress, findings)?,
        basic,
        jwt,
        forward_auth: forward_auth(world, ingress, findings)?,
    })
}

const CLOSED: &str = "the paths answer 503";

fn basic(world: &World, ingress: &Ingress, findings: &mut Findings) -> Result<Option<Basic>, Unreadable> {
    let row = &annotations::AUTH_BASIC_SECRET;
    let written = &ingress.annotations;
    let realm = annotations::AUTH_BASIC_REALM.strictly_of(written)?;
    let strip = annotations::AUTH_BASIC_STRIP.strictly_of(written)?;
    let user_header = annotations::AUTH_BASIC_USER_HEADER.strictly_of(written)?;
    let Some(content) = named::content(row, world, ingress, CLOSED, findings)? else {
        if realm.is_none() && strip.is_none() && user_header.is_none() {
            return Ok(None);
        }
        findings.add(
            FindingKind::InvalidValue,
            (Kind::Ingress, &ingress.name),
            row.place(),
            "is missing beside others about passwords: the paths answer 503; name the Secret",
        );
        return Err(Unreadable(row.name));
    };
    let secret = &content.name;
    let mut unusable = |message: String| named::unusable(row, ingress, &message, findings);
    let Some((users, faults)) = content.users() else {
        unusable(format!(
            "{CLOSED}: Secret {secret} has no key `auth`; make it with kubectl create secret generic --from-file=auth"
        ));
        return Err(Unreadable(row.name));
    };
    for fault in faults.iter().take(MOST_LINES) {
        let (line, why) = (fault.line, fault.why);
        unusable(format!(
            "line {line} of `auth` in Secret {secret} lets nobody in: {why}"
        ));
    }
    if faults.len() > MOST_LINES {
        let more = faults.len() - MOST_LINES;
        unusable(format!(
            "{more} further lines of `auth` in Secret {secret} let nobody in; correct those before"
        ));
    }
    if users.is_empty() {
        unusable(format!(
            "{CLOSED}: `auth` in Secret {secret} has no user who may come in; write one with htpasswd -B"
        ));
        return Err(Unreadable(row.name));
    }
    Ok(Some(Basic {
        users: users.clone(),
        realm: realm.unwrap_or_else(|| "Restricted".into()),
        strip: strip.unwrap_or_default(),
        user_header,
    }))
}

/// Lines of a file that are named one by one.
const MOST_LINES: usize = 5;

fn client_auth(
    world: &World,
    ingress: &Ingress,
    findings: &mut Findings,
) -> Result<Option<Arc<ClientAuth>>, Unreadable> {
    let row = &annotations::CLIENT_CA_SECRET;
    let written = &ingress.annotations;
    let required = annotations::CLIENT_VERIFY.strictly_of(written)?;
    let depth = annotations::CLIENT_VERIFY_DEPTH.strictly_of(written)?;
    let forward = annotations::CLIENT_CERT_FORWARD.strictly_of(written)?;
    let Some(content) = named::content(row, world, ingress, CLOSED, findings)? else {
        if required.is_none() && depth.is_none() && forward.is_none() {
            return Ok(None);
        }
        findings.add(
            FindingKind::InvalidValue,
            (Kind::Ingress, &ingress.name),
            row.place(),
            "is missing beside others about certificates of clients: the paths answer 503; name the Secret",
        );
        return Err(Unreadable(row.name));
    };
    let why = match content.client_cas() {
        Some(Ok(cas)) => {
            return Ok(Some(Arc::new(ClientAuth {
                cas: cas.clone(),
                required: required.unwrap_or(true),
                depth: depth.unwrap_or(3),
                forward: forward.unwrap_or_default(),
            })));
        }
        Some(Err(why)) => printable(why),
        None => "it has no key `ca.crt`; put the certificates of the CAs there in PEM form".to_owned(),
    };
    let message = format!("{CLOSED}: Secret {}: {why}", content.name);
    named::unusable(row, ingress, &message, findings);
    Err(Unreadable(row.name))
}

/// The key set, from whichever of the three places names it.
fn key_set(
    world: &World,
    ingress: &Ingress,
    findings: &mut Findings,
) -> Result<Option<Arc<str>>, Unreadable> {
    let mut found = annotations::JWT_JWKS.strictly_of(&ingress.annotations)?;
    for row in [&annotations::JWT_JWKS_SECRET, &annotations::JWT_JWKS_CONFIG_MAP] {
        let Some(content) = named::content(row, world, ingress, CLOSED, findings)? else {
            continue;
        };
        let text = content
            .get("jwks")
            .map(|octets| std::str::from_utf8(octets).unwrap_or_default());
        let keys = match text {
            None => Err("it has no key `jwks`; put a JSON Web Key Set there".to_owned()),
            Some(_) if found.is_some() => Err(TWICE.to_owned()),
            Some(text) => annotations::key_set(text),
        };
        match keys {
            Ok(keys) => found = Some(keys),
            Err(why) => {
                let message = format!("{CLOSED}: {} {}: {why}", content.kind, content.name);
                named::unusable(row, ingress, &message, findings);
                return Err(Unreadable(row.name));
            }
        }
    }
    let row = &annotations::JWT_JWKS_URL;
    if let Some(url) = row.strictly_of(&ingress.annotations)? {
        let mut say = |message: &str| {
            findings.add(
                FindingKind::ReferenceUnusable,
                (Kind::Ingress, &ingress.name),
                row.place(),
                message,
            );
        };
        if found.is_some() {
            say(&format!("{CLOSED}: {TWICE}"));
            return Err(Unreadable(row.name));
        }
        let known = world.key_sets.get(&url).cloned().unwrap_or_default();
        match (known.keys, known.error) {
            (Some(keys), None) => found = Some(keys),
            (Some(keys), Some(error)) => {
                say(&format!("the keys of before stay in use: {url}: {error}"));
                found = Some(keys);
            }
            (None, error) => {
                let why = error.as_deref().unwrap_or(
                    "it has not been fetched yet, or annotations name more URLs than the 200 that are",
                );
                say(&format!("{CLOSED}: {url}: {why}"));
                return Err(Unreadable(row.name));
            }
        }
    }
    Ok(found)
}

/// Why keys are refused that would not be the only ones.
const TWICE: &str = "the keys stand in another annotation as well; take one of them out";

fn jwt(world: &World, ingress: &Ingress, findings: &mut Findings) -> Result<Option<Jwt>, Unreadable> {
    let written = &ingress.annotations;
    let issuer = annotations::JWT_ISSUER.strictly_of(written)?;
    let audiences = annotations::JWT_AUDIENCES.strictly_of(written)?;
    let leeway = annotations::JWT_LEEWAY.strictly_of(written)?;
    let claims = annotations::JWT_CLAIM_HEADERS.strictly_of(written)?;
    let Some(keys) = key_set(world, ingress, findings)? else {
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
