//! Hosts and their routes: merging Ingresses, precedence, conflicts.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use sekisho_config::model::{
    Action, ClientAuth, Conditions, FindingKind, HostPattern, ObjectName, PathMatch, Route, RouteId,
    Unavailable, VirtualHost,
};

use super::findings::Findings;
use super::{annotations, backends, filters, pools};
use crate::text::printable;
use crate::world::{Ingress, Kind, PathType, RulePath, World};

/// Longest path of a rule; a request line as long is refused anyway.
const LONGEST_PATH: usize = 4096;

/// One host, while its Ingresses are gathered, the oldest first.
#[derive(Default)]
struct Draft {
    routes: Vec<Route>,
    taken: BTreeMap<(PathMatch, Conditions), RouteId>,
    fallback: Option<Route>,
}

/// The hosts of `ingresses`, which come oldest first; notes the pools they need.
pub(super) fn hosts<'a>(
    world: &World,
    ingresses: &[&'a Arc<Ingress>],
    wanted: &mut pools::Wanted<'a>,
    findings: &mut Findings,
) -> OrdMap<HostPattern, Arc<VirtualHost>> {
    let mut drafts: BTreeMap<HostPattern, Draft> = BTreeMap::new();
    for ingress in ingresses {
        let conditions = conditions(ingress);
        let filters = filters::of(world, ingress, findings);
        // Nothing passes where it cannot be read who may.
        let guarded = |action: Action| match &filters {
            Ok(_) => action,
            Err(annotations::Unreadable(name)) => Action::Unavailable(Unavailable::Unreadable {
                annotation: (*name).into(),
            }),
        };
        let filters_of = || filters.as_ref().ok().cloned().flatten();
        let asked = filters_of().and_then(|filters| filters.door.forward_auth.clone()?.pool);
        let copied = filters_of().and_then(|filters| Some(filters.mirror.as_ref()?.pool.clone()));
        for pool in asked.into_iter().chain(copied) {
            wanted.add(pool, None);
        }
        let mut note = |action: &Action| {
            for pool in action.pools() {
                wanted.add(pool.clone(), Some(ingress));
            }
        };
        let mut named: Vec<HostPattern> = Vec::new();
        for (rule_index, rule) in ingress.rules.iter().enumerate() {
            let host: HostPattern = match rule.host.parse() {
                Ok(host) => host,
                Err(error) => {
                    findings.add(
                        FindingKind::InvalidValue,
                        (Kind::Ingress, &ingress.name),
                        format!("spec.rules[{rule_index}].host"),
                        format!("the rule is left out: {}", bounded(&error)),
                    );
                    continue;
                }
            };
            let draft = drafts.entry(host.clone()).or_default();
            named.push(host.clone());
            let Ok(conditions) = &conditions else { continue };
            for (path_index, path) in rule.paths.iter().enumerate() {
                let place = format!("spec.rules[{rule_index}].http.paths[{path_index}]");
                let Some(matches) = path_match(ingress, path, &place, findings) else {
                    continue;
                };
                let id = RouteId {
                    ingress: ingress.name.clone(),
                    place: Some((narrow(rule_index), narrow(path_index))),
                };
                let key = (matches, conditions.clone());
                if let Some(winner) = draft.taken.get(&key) {
                    findings.add(
                        FindingKind::Conflict,
                        (Kind::Ingress, &ingress.name),
                        place,
                        conflict(&host, &key, &id, winner),
                    );
                    continue;
                }
                let action = backends::resolve(
                    world,
                    ingress,
                    &path.backend,
                    &format!("{place}.backend"),
                    findings,
                );
                let action = filters::split(world, ingress, &path.backend, action, findings);
                let action = guarded(action);
                note(&action);
                draft.taken.insert(key.clone(), id.clone());
                let (path, conditions) = key;
                draft.routes.push(Route {
                    id,
                    path,
                    conditions,
                    filters: filters_of(),
                    action,
                });
            }
        }
        let Some(backend) = &ingress.default_backend else {
            continue;
        };
        let action = backends::resolve(world, ingress, backend, "spec.defaultBackend", findings);
        let action = guarded(filters::split(world, ingress, backend, action, findings));
        if ingress.rules.is_empty() {
            named.push(HostPattern::Any);
        }
        let route = Route {
            id: RouteId {
                ingress: ingress.name.clone(),
                place: None,
            },
            path: PathMatch::Prefix("/".into()),
            conditions: Conditions::default(),
            filters: filters_of(),
            action,
        };
        for host in named {
            let fallback = &mut drafts.entry(host.clone()).or_default().fallback;
            match fallback {
                None => {
                    note(&route.action);
                    *fallback = Some(route.clone());
                }
                Some(winner) if winner.id == route.id => {}
                Some(winner) => findings.add(
                    FindingKind::Conflict,
                    (Kind::Ingress, &ingress.name),
                    "spec.defaultBackend",
                    format!(
                        "for host {host} the default backend of the older Ingress {} is used; remove one of the two",
                        winner.id.ingress
                    ),
                ),
            }
        }
    }
    drafts
        .into_iter()
        .map(|(host, draft)| {
            let mut routes = draft.routes;
            let mut fallback = draft.fallback;
            one_client_auth(&host, routes.iter_mut().chain(&mut fallback), findings);
            // Stable: among equals the older Ingress stays in front.
            routes.sort_by_cached_key(precedence);
            (
                host.clone(),
                Arc::new(VirtualHost {
                    host,
                    routes,
                    fallback,
                }),
            )
        })
        .collect()
}

/// A handshake asks for certificates of one kind: of the Ingresses of a host that want any, the oldest says which. The
/// paths of others that want something else are closed, for nobody could meet it.
fn one_client_auth<'a>(
    host: &HostPattern,
    routes: impl Iterator<Item = &'a mut Route>,
    findings: &mut Findings,
) {
    let row = &annotations::CLIENT_CA_SECRET;
    let mut first: Option<(Arc<ClientAuth>, ObjectName)> = None;
    for route in routes {
        let wished = route
            .filters
            .as_ref()
            .and_then(|filters| filters.door.client_auth.clone());
        let Some(wished) = wished else { continue };
        match &first {
            None => first = Some((wished, route.id.ingress.clone())),
            Some((winner, _)) if *winner == wished => {}
            Some((_, winner)) => {
                findings.add(
                    FindingKind::Conflict,
                    (Kind::Ingress, &route.id.ingress),
                    row.place(),
                    format!(
                        "for host {host} the older Ingress {winner} says which certificates clients show, and it says something \
                         else: these paths answer 503; write the same in both"
                    ),
                );
                route.filters = None;
                route.action = Action::Unavailable(Unavailable::Unreadable {
                    annotation: row.name.into(),
                });
            }
        }
    }
}

/// Smaller is tried first: the longest path; then by kind of path; then the longer spelling; then more conditions, on the
/// method before those on header fields before those on the query, as the Gateway API has it.
///
/// The trailing slash of a `Prefix` does not count for its length, for it matches without it: for `/foo`, `Exact /foo` is
/// better than `Prefix /foo/`; for `/foo/`, `Prefix /foo/` is better than `Prefix /foo`. A regular expression is as long
/// as the literal text that it begins with, so that it never takes anything away from a prefix that says more.
fn precedence(route: &Route) -> impl Ord + use<> {
    let (length, kind) = match &route.path {
        PathMatch::Exact(path) => (path.len(), 0),
        PathMatch::Regex(pattern) => (pattern.literal_beginning().len(), 1),
        PathMatch::Prefix(path) => (path.trim_end_matches('/').len(), 2),
    };
    let conditions = &route.conditions;
    (
        Reverse(length),
        kind,
        Reverse(route.path.path().len()),
        conditions.methods.is_empty(),
        Reverse(conditions.headers.len()),
        Reverse(conditions.query.len()),
    )
}

/// What the annotations of an Ingress ask of a request beside its path.
///
/// One that cannot be read leaves the paths out: without it they would take what belongs to others.
fn conditions(ingress: &Ingress) -> Result<Conditions, annotations::Unreadable> {
    let written = &ingress.annotations;
    Ok(Conditions {
        methods: annotations::MATCH_METHOD
            .strictly_of(written)?
            .unwrap_or_default(),
        headers: annotations::MATCH_HEADER
            .strictly_of(written)?
            .unwrap_or_default(),
        query: annotations::MATCH_QUERY.strictly_of(written)?.unwrap_or_default(),
    })
}

/// The path of a rule as it is matched; `None`, with a finding, when no request can ever have it.
fn path_match(ingress: &Ingress, path: &RulePath, place: &str, findings: &mut Findings) -> Option<PathMatch> {
    let mut report = |kind, field: &str, message: String| {
        findings.add(
            kind,
            (Kind::Ingress, &ingress.name),
            format!("{place}.{field}"),
            message,
        );
    };
    let text: &str = match &path.path_type {
        PathType::ImplementationSpecific if path.path.is_empty() => "/",
        _ => &path.path,
    };
    let use_regex = annotations::USE_REGEX.of(&ingress.annotations) == Some(true);
    if use_regex && path.path_type == PathType::ImplementationSpecific {
        return match text.parse() {
            Ok(pattern) if text.starts_with('/') => Some(PathMatch::Regex(pattern)),
            Ok(_) => {
                report(
                    FindingKind::InvalidValue,
                    "path",
                    format!(
                        "`{}` does not begin with `/`: the path is left out; begin it so",
                        printable(text)
                    ),
                );
                None
            }
            Err(why) => {
                let why: sekisho_config::model::Invalid = why;
                report(
                    FindingKind::InvalidValue,
                    "path",
                    format!("the path is left out: {}", bounded(&why)),
                );
                None
            }
        };
    }
    if let Err(why) = check_path(text) {
        report(
            FindingKind::InvalidValue,
            "path",
            format!(
                "`{}` {why}: the path is left out; write it as clients ask for it",
                printable(text)
            ),
        );
        return None;
    }
    match &path.path_type {
        PathType::Exact => Some(PathMatch::Exact(text.into())),
        PathType::Prefix => Some(PathMatch::Prefix(text.into())),
        PathType::ImplementationSpecific => {
            if text.contains(['(', '*', '[', '^', '$', '|', '\\']) {
                report(
                    FindingKind::Unsupported,
                    "path",
                    format!(
                        "`{}` looks like a regular expression; ImplementationSpecific is read like Prefix, character by character; annotate \
                         sekisho.io/use-regex: \"true\" to have it read as one",
                        printable(text)
                    ),
                );
            }
            Some(PathMatch::Prefix(text.into()))
        }
        PathType::Other(other) => {
            report(
                FindingKind::InvalidValue,
                "pathType",
                format!(
                    "`{}` is not a path type: the path is left out; write Exact, Prefix or ImplementationSpecific",
                    printable(other)
                ),
            );
            None
        }
    }
}

/// The rules of the API server, and none that a request's normalised path could not meet.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > LONGEST_PATH {
        return Err("is longer than 4096 octets");
    }
    if !path.starts_with('/') {
        return Err("does not begin with `/`");
    }
    if path.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err("holds a space or a control character");
    }
    if path.contains(['?', '#']) {
        return Err("holds `?` or `#`, and the query is not matched");
    }
    if path.contains("//") {
        return Err("holds `//`");
    }
    if path.split('/').any(|element| element == "." || element == "..") {
        return Err("holds the element `.` or `..`");
    }
    Ok(())
}

fn conflict(
    host: &HostPattern,
    (path, conditions): &(PathMatch, Conditions),
    loser: &RouteId,
    winner: &RouteId,
) -> String {
    let mut path = printable(&path.to_string());
    if !conditions.is_empty() {
        path.push_str(" with the same conditions");
    }
    if winner.ingress == loser.ingress {
        format!("host {host} has path {path} twice, {winner} is used; remove one of the two")
    } else {
        format!("host {host} path {path} belongs to the older Ingress {winner}; remove one of the two")
    }
}

fn narrow(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// An error text that quotes a value of an object.
fn bounded(error: &impl std::fmt::Display) -> String {
    printable(&error.to_string())
}
