use http::{HeaderName, HeaderValue, Method, Uri};
use sekisho_bgp::VipView;
use sekisho_config::model::{Action, Filters, HostName, ListenerState, PoolId, VipPurpose};
use sekisho_proxy::fields::Fields;
use sekisho_proxy::path::normal_form;
use sekisho_proxy::route::{self, Found, WonBy};
use serde::Serialize;

use super::endpoints::{self, EndpointView};
use super::{vips, word};
use crate::control::Picture;

/// The whole chain for one request: each step with what was found, and whether it is good.
#[derive(Serialize)]
pub(crate) struct Explanation {
    request: String,
    revision: sekisho_config::model::Revision,
    steps: Vec<Step>,
    endpoints: Vec<EndpointView>,
    /// What the client gets.
    answer: String,
}

#[derive(Serialize)]
struct Step {
    what: &'static str,
    good: bool,
    found: String,
    detail: Vec<String>,
}

impl Step {
    fn new(what: &'static str, good: bool, found: impl Into<String>) -> Self {
        Self {
            what,
            good,
            found: found.into(),
            detail: Vec::new(),
        }
    }
}

/// A request, as somebody asks about it.
pub(crate) struct Request<'a> {
    /// Where it goes.
    pub(crate) url: &'a str,
    /// Its method; GET when absent.
    pub(crate) method: Option<&'a str>,
    /// Its header fields, one a line: `name: value`.
    pub(crate) headers: &'a str,
}

/// A request, taken apart.
struct Asked {
    https: bool,
    host: Option<HostName>,
    path: String,
    query: Option<String>,
    method: Method,
    headers: Fields,
}

/// Explains what becomes of a request.
///
/// # Errors
/// When it is not one that a client could make, in words.
pub(crate) fn view(
    picture: &Picture,
    announced: &[VipView],
    request: &Request<'_>,
) -> Result<Explanation, String> {
    let asked = read(request)?;
    let mut steps = vec![vip(picture, announced), listener(picture, asked.https)];
    if asked.https {
        steps.push(certificate(picture, asked.host.as_ref()));
    }
    let mut explanation = Explanation {
        request: format!(
            "{} {} {}{}",
            asked.method,
            if asked.https { "https" } else { "http" },
            asked.host.as_ref().map_or("(no host)", HostName::as_str),
            asked.path
        ),
        revision: picture.revision,
        steps,
        endpoints: Vec::new(),
        answer: String::new(),
    };
    let found = picture.snapshot.find(
        asked.host.as_ref(),
        route::Asked {
            path: &asked.path,
            method: &asked.method,
            headers: Some(&asked.headers),
            query: asked.query.as_deref(),
        },
    );
    explanation.steps.push(rule(&found));
    let filters = found.winner.and_then(|winner| winner.route.filters.as_deref());
    if let Some(filters) = filters {
        let names = filters.names().join(", ");
        explanation.steps.push(Step::new("filters", true, names));
    }
    if let Some(answer) = answered(filters, &asked) {
        explanation.answer = answer;
        return Ok(explanation);
    }
    explanation.answer = match found.winner.map(|winner| &winner.route.action) {
        None => "404: no rule takes this host and path, and there is no default backend".into(),
        Some(Action::Unavailable(why)) => {
            explanation
                .steps
                .push(Step::new("service", false, why.to_string()));
            format!("503: {why}")
        }
        Some(Action::Forward(id)) => service(picture, id, &mut explanation),
        Some(Action::Split(shares)) => {
            let sum: u32 = shares.iter().map(|share| u32::from(share.weight)).sum();
            let mut answers = Vec::new();
            for share in shares.iter() {
                let answer = match &share.action {
                    Action::Forward(id) => format!("{id}: {}", service(picture, id, &mut explanation)),
                    Action::Unavailable(why) => format!("503: {why}"),
                    Action::Split(_) => continue,
                };
                answers.push(format!("{} of {sum} to {answer}", share.weight));
            }
            answers.join("; ")
        }
    };
    Ok(explanation)
}

/// What the box answers by itself, whatever the Service is.
fn answered(filters: Option<&Filters>, asked: &Asked) -> Option<String> {
    if asked.path.contains("%2F") && !filters.is_some_and(|filters| filters.encoded_slash) {
        return Some("400: the path holds an encoded slash, and the rule does not allow one".into());
    }
    let filters = filters?;
    if filters.https_only && !asked.https {
        return Some("308: to the same place over TLS".into());
    }
    if let Some(answer) = &filters.answer {
        return Some(format!("{}: {}", answer.status, answer.text));
    }
    let redirect = filters.redirect.as_ref()?;
    Some(format!("{}: redirected elsewhere", redirect.status))
}

/// The step of one Service, its endpoints, and what becomes of a request for it.
fn service(picture: &Picture, id: &PoolId, explanation: &mut Explanation) -> String {
    let Some(pool) = picture.snapshot.pool(id) else {
        return format!("503: Service {id} has no endpoint");
    };
    let rows = endpoints::of_pool(picture, pool);
    let used = rows.iter().filter(|row| row.in_use).count();
    explanation.endpoints.extend(rows);
    let (eligible, known) = (pool.eligible(), pool.endpoints().len());
    let mut step = Step::new(
        "service",
        eligible > 0,
        format!("{id}: {used} of {known} endpoints are in use"),
    );
    step.detail.push(format!("balanced by {}", word(&pool.balance())));
    explanation.steps.push(step);
    match used {
        _ if eligible == 0 => format!("503: Service {id} has no endpoint that is ready and routed"),
        0 => "forwarded straight to an endpoint although all are ejected".into(),
        1 => "forwarded straight to the one endpoint in use".into(),
        n => format!("forwarded straight to one of {n} endpoints"),
    }
}

fn read(request: &Request<'_>) -> Result<Asked, String> {
    let url = request.url;
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("`{}` is not a URL: {error}", url.escape_debug()))?;
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err("only http:// and https:// can be explained".into()),
    };
    let host = match uri.host() {
        // A literal address is a request without a name: it can match only the rules for every host.
        Some(host) if host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() => None,
        Some(host) => Some(host.parse::<HostName>().map_err(|error| error.to_string())?),
        None => None,
    };
    let path = normal_form(uri.path())
        .map_err(|error| format!("400: the path {} is refused: {error}", uri.path().escape_debug()))?
        .path
        .into_owned();
    let method = request.method.unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| format!("`{}` is not a method", method.escape_debug()))?;
    let mut headers = Fields::new();
    for line in request.headers.lines().filter(|line| !line.is_empty()) {
        let field = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let (name, value) = field.ok_or_else(|| {
            format!(
                "`{}` is not a header field; write `name: value`",
                line.escape_debug()
            )
        })?;
        headers.append(name, value);
    }
    Ok(Asked {
        https,
        host,
        path,
        query: uri.query().map(str::to_owned),
        method,
        headers,
    })
}

fn vip(picture: &Picture, announced: &[VipView]) -> Step {
    let ingress: Vec<_> = picture
        .plan
        .vips
        .values()
        .filter(|planned| planned.vip.purpose == VipPurpose::Ingress)
        .map(|planned| planned.vip.address)
        .collect();
    if ingress.is_empty() {
        return Step::new(
            "vip",
            true,
            "none: there is no [[vips]] pool; clients reach the listeners' own addresses",
        );
    }
    let rows: Vec<_> = vips::view(picture, announced)
        .into_iter()
        .filter(|row| ingress.contains(&row.address))
        .collect();
    let good = rows.iter().any(|row| !row.announced_to.is_empty());
    let mut step = Step::new(
        "vip",
        good,
        ingress
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    );
    for row in rows {
        let to: Vec<_> = row.announced_to.iter().map(ToString::to_string).collect();
        if !to.is_empty() {
            step.detail
                .push(format!("{} is announced to {}", row.address, to.join(", ")));
        }
        if let Some(why) = row.withheld {
            step.detail.push(format!("{} is withheld: {why}", row.address));
        }
    }
    step
}

fn listener(picture: &Picture, https: bool) -> Step {
    let listeners = if https {
        &picture.desired.https
    } else {
        &picture.desired.http
    };
    let mut good = !listeners.is_empty();
    let mut states = Vec::new();
    for address in listeners {
        match picture.observed.listeners.get(address) {
            Some(ListenerState::Bound) => {
                let http3 = https && picture.desired.http3.contains(address);
                let also = if http3 {
                    ", with HTTP/3 on UDP beside it"
                } else {
                    ""
                };
                states.push(format!("{address} is bound{also}"));
            }
            Some(ListenerState::Failed { error }) => {
                good = false;
                states.push(format!("{address} is not bound: {error}"));
            }
            None => {
                good = false;
                states.push(format!("{address} is not bound yet"));
            }
        }
    }
    let found = if states.is_empty() {
        format!(
            "none; list one under listen.{}",
            if https { "https" } else { "http" }
        )
    } else {
        states.join(", ")
    };
    Step::new("listener", good, found)
}

fn certificate(picture: &Picture, host: Option<&HostName>) -> Step {
    let Some(host) = host else {
        return Step::new(
            "certificate",
            false,
            "the placeholder: a client that asks by address sends no name",
        );
    };
    match picture.snapshot.certificate(host).served {
        Ok(certificate) => Step::new(
            "certificate",
            true,
            format!(
                "{}, by {}, until {}",
                super::names(&certificate.names),
                certificate.issuer,
                certificate.not_after
            ),
        ),
        Err(why) => Step::new("certificate", false, format!("the placeholder: {why}")),
    }
}

fn rule(found: &Found<'_>) -> Step {
    let mut step = match &found.winner {
        None => Step::new("rule", false, "none takes it"),
        Some(winner) => Step::new(
            "rule",
            true,
            format!(
                "Ingress {} wins: host {}, {}",
                winner.route.id,
                winner.host,
                match winner.by {
                    WonBy::Path => spell(winner.route),
                    WonBy::HostFallback => "default backend of this host".into(),
                    WonBy::DefaultBackend => "default backend of the box".into(),
                }
            ),
        ),
    };
    // A host with thousands of paths: the first losers tell enough.
    const SHOWN: usize = 20;
    let mut losers = found.losers();
    for loser in losers.by_ref().take(SHOWN) {
        step.detail.push(format!(
            "{} loses: host {}, {}: {}",
            loser.route.id,
            loser.host,
            spell(loser.route),
            loser.why
        ));
    }
    match losers.count() {
        0 => {}
        more => step.detail.push(format!("and {more} more")),
    }
    step
}

fn spell(route: &sekisho_config::model::Route) -> String {
    if route.conditions.is_empty() {
        route.path.to_string()
    } else {
        format!("{}, {}", route.path, route.conditions)
    }
}
