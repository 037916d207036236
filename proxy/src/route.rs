//! Which route takes a request: a pure look-up whose cost does not grow with the number of hosts, and hardly with the
//! number of routes of one host.
//!
//! Precedence: exact host, then wildcard, then the rules for any host. A host that matched keeps the request: it falls
//! back to its own default backend and then to the default of the box, never to the rules of a less specific host.
//! Within a host the routes are in the order of [`VirtualHost::routes`]; the first that matches wins.

use std::sync::Arc;

use sekisho_config::model::{HostPattern, PathMatch, Route, VirtualHost};
use serde::Serialize;

use crate::path;

/// A virtual host with its routes in a trie over path segments.
#[derive(Debug)]
pub struct CompiledHost {
    wished: Arc<VirtualHost>,
    nodes: Vec<Node>,
}

/// One segment deep in the trie. Routes are named by their place in `VirtualHost::routes`: lower is better.
#[derive(Debug, Default)]
struct Node {
    /// Sorted by segment.
    children: Vec<(Box<str>, u32)>,
    exact: Option<u32>,
    prefix: Option<u32>,
}

/// The segments of a path in normal form: `/a/b` is `a`, `b`; `/a/` is `a` and an empty one; `/` is one empty one.
fn segments(path: &str) -> Option<std::str::Split<'_, char>> {
    path.strip_prefix('/').map(|rest| rest.split('/'))
}

impl CompiledHost {
    pub(crate) fn compile(wished: &Arc<VirtualHost>) -> Self {
        let mut host = Self {
            wished: Arc::clone(wished),
            nodes: vec![Node::default()],
        };
        for (route, place) in wished.routes.iter().zip(0u32..) {
            // A path that no normal form can have takes no request.
            let Some(rule) = path::rule(&route.path) else {
                continue;
            };
            let (text, exact) = match &rule {
                PathMatch::Exact(path) => (path.as_ref(), true),
                PathMatch::Prefix(path) => (path.strip_suffix('/').unwrap_or(path), false),
            };
            let mut at = 0;
            if !text.is_empty() {
                let Some(segments) = segments(text) else { continue };
                for segment in segments {
                    at = host.child(at, segment);
                }
            }
            if let Some(node) = host.nodes.get_mut(at as usize) {
                let slot = if exact { &mut node.exact } else { &mut node.prefix };
                // The first of two equal matches wins, as in a list that is tried in order.
                slot.get_or_insert(place);
            }
        }
        host
    }

    /// The child of `at` for `segment`, made if it is not there.
    fn child(&mut self, at: u32, segment: &str) -> u32 {
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return at;
        };
        match node
            .children
            .binary_search_by(|(name, _)| name.as_ref().cmp(segment))
        {
            Ok(found) => node.children.get(found).map_or(at, |(_, child)| *child),
            Err(place) => {
                node.children.insert(place, (segment.into(), next));
                self.nodes.push(Node::default());
                next
            }
        }
    }

    /// The virtual host that this was compiled from.
    pub fn wished(&self) -> &Arc<VirtualHost> {
        &self.wished
    }

    /// The best route for a path in normal form.
    pub(crate) fn route(&self, path: &str) -> Option<&Route> {
        let mut best: Option<u32> = None;
        let mut offer = |candidate: Option<u32>| {
            best = match (best, candidate) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        };
        let mut node = self.nodes.first()?;
        offer(node.prefix);
        let mut whole = true;
        for segment in segments(path)? {
            let Ok(found) = node
                .children
                .binary_search_by(|(name, _)| name.as_ref().cmp(segment))
            else {
                whole = false;
                break;
            };
            node = node
                .children
                .get(found)
                .and_then(|(_, child)| self.nodes.get(*child as usize))?;
            offer(node.prefix);
        }
        if whole {
            offer(node.exact);
        }
        self.wished.routes.get(best? as usize)
    }
}

/// What a request is answered from.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Winner<'a> {
    /// Host pattern whose table decided.
    pub host: &'a HostPattern,
    /// The route.
    pub route: &'a Route,
    /// How it came to win.
    pub by: WonBy,
}

/// How a route came to win.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WonBy {
    /// Its path takes the request, and no better one does.
    Path,
    /// No path of the host matches; the default backend of that host's Ingress answers.
    HostFallback,
    /// Neither host nor path matches; the default backend of the box answers.
    DefaultBackend,
}

/// A route that did not get the request.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Loser<'a> {
    /// Host pattern of its table.
    pub host: &'a HostPattern,
    /// The route.
    pub route: &'a Route,
    /// Why it lost.
    pub why: Lost,
}

/// Why a route did not get the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// Its path does not take the request path.
    PathDiffers,
    /// Its path matches, and a longer (or, at equal length, an exact) one does too.
    BetterPath,
    /// Its host pattern matches, and a more specific one does too; that one keeps the request.
    LessSpecificHost,
    /// It is a default backend, and a route matched.
    NotNeeded,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PathDiffers => "its path does not match",
            Self::BetterPath => "a longer or exact path matches",
            Self::LessSpecificHost => "a more specific host matches",
            Self::NotNeeded => "it is a default backend and a route matches",
        })
    }
}

/// The answer of [`find`]: the winner at once, the losers when asked.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// What answers; `None` is a 404.
    pub winner: Option<Winner<'a>>,
    /// Tables whose host pattern matches, most specific first.
    tables: [Option<&'a CompiledHost>; 3],
    path: &'a str,
}

/// Finds the route for `path` (in normal form) among the tables whose host matches, most specific first.
/// `any` is the table of [`HostPattern::Any`].
pub(crate) fn find<'a>(
    exact: Option<&'a CompiledHost>,
    wildcard: Option<&'a CompiledHost>,
    any: Option<&'a CompiledHost>,
    path: &'a str,
) -> Found<'a> {
    let tables = [exact, wildcard, any];
    let winner = tables.iter().flatten().next().and_then(|table| {
        let host = &table.wished.host;
        table
            .route(path)
            .map(|route| Winner {
                host,
                route,
                by: WonBy::Path,
            })
            .or_else(|| {
                let by = if *host == HostPattern::Any {
                    WonBy::DefaultBackend
                } else {
                    WonBy::HostFallback
                };
                table
                    .wished
                    .fallback
                    .as_ref()
                    .map(|route| Winner { host, route, by })
            })
            .or_else(|| {
                let table = any?;
                let route = table.wished.fallback.as_ref()?;
                Some(Winner {
                    host: &table.wished.host,
                    route,
                    by: WonBy::DefaultBackend,
                })
            })
    });
    Found { winner, tables, path }
}

impl<'a> Found<'a> {
    /// Every route of a matching host that did not win, with the reason; for `explain`, not for the request path.
    pub fn losers(&self) -> impl Iterator<Item = Loser<'a>> + use<'a> {
        let Self { winner, tables, path } = *self;
        tables
            .into_iter()
            .flatten()
            .enumerate()
            .flat_map(move |(depth, table)| {
                let host = &table.wished.host;
                let routes = table.wished.routes.iter().map(move |route| {
                    let why = match takes(&route.path, path) {
                        false => Lost::PathDiffers,
                        true if depth > 0 => Lost::LessSpecificHost,
                        true => Lost::BetterPath,
                    };
                    Loser { host, route, why }
                });
                let fallback = table.wished.fallback.iter().map(move |route| {
                    let decided = winner.is_some_and(|winner| winner.by == WonBy::Path);
                    let why = if decided || depth == 0 || *host == HostPattern::Any {
                        Lost::NotNeeded
                    } else {
                        Lost::LessSpecificHost
                    };
                    Loser { host, route, why }
                });
                routes.chain(fallback).filter(move |loser| {
                    !winner.is_some_and(|winner| std::ptr::eq(winner.route, loser.route))
                })
            })
    }
}

/// Whether a path match takes a path in normal form: the definition, which the trie must agree with.
pub fn takes(rule: &PathMatch, path: &str) -> bool {
    match path::rule(rule) {
        None => false,
        Some(PathMatch::Exact(rule)) => *rule == *path,
        Some(PathMatch::Prefix(rule)) => {
            let rule = rule.strip_suffix('/').unwrap_or(&rule);
            path.strip_prefix(rule)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sekisho_config::model::{Action, ObjectName, RouteId, Unavailable};

    use super::*;

    fn route(index: u32, path: PathMatch) -> Route {
        Route {
            id: RouteId {
                ingress: ObjectName::new("ns", "web"),
                place: Some((0, index)),
            },
            path,
            action: Action::Unavailable(Unavailable::UnsupportedBackend),
        }
    }

    fn host(pattern: &str, rules: &[PathMatch], fallback: bool) -> CompiledHost {
        let routes = rules
            .iter()
            .zip(0..)
            .map(|(rule, index)| route(index, rule.clone()))
            .collect();
        let fallback = fallback.then(|| route(999, PathMatch::Prefix("/".into())));
        CompiledHost::compile(&Arc::new(VirtualHost {
            host: pattern.parse().unwrap(),
            routes,
            fallback,
        }))
    }

    fn rule(text: &str) -> PathMatch {
        match text.strip_prefix('=') {
            Some(path) => PathMatch::Exact(path.into()),
            None => PathMatch::Prefix(text.into()),
        }
    }

    /// The table of the Ingress documentation. Rules are in order of precedence; `=` is Exact.
    #[test]
    fn paths() {
        for (rules, path, want) in [
            (&["/"][..], "/any/thing", Some("/")),
            (&["=/foo"], "/foo", Some("=/foo")),
            (&["=/foo"], "/bar", None),
            (&["=/foo"], "/foo/", None),
            (&["=/foo"], "/FOO", None),
            (&["=/foo/"], "/foo", None),
            (&["/foo"], "/foo", Some("/foo")),
            (&["/foo"], "/foo/", Some("/foo")),
            (&["/foo/"], "/foo", Some("/foo/")),
            (&["/foo/"], "/foo/", Some("/foo/")),
            (&["/foo/"], "/foo/bar", Some("/foo/")),
            (&["/aaa/bb"], "/aaa/bbb", None),
            (&["/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
            (&["/aaa/bbb/"], "/aaa/bbb", Some("/aaa/bbb/")),
            (&["/aaa/bbb"], "/aaa/bbb/ccc", Some("/aaa/bbb")),
            (&["/aaa/bbb"], "/aaa/bbbxyz", None),
            (&["/aaa/bbb", "/aaa", "/"], "/aaa/ccc", Some("/aaa")),
            (&["/aaa/bbb", "/aaa", "/"], "/aaa/bbb", Some("/aaa/bbb")),
            (&["/aaa/bbb", "/aaa", "/"], "/ccc", Some("/")),
            (&["/aaa"], "/ccc", None),
            (&["=/foo", "/foo"], "/foo", Some("=/foo")),
            (&["=/foo", "/foo"], "/foo/x", Some("/foo")),
            (&["/foo/", "/foo"], "/foo/", Some("/foo/")),
            (&["=/"], "/", Some("=/")),
            (&["=/"], "/a", None),
            (&[""], "/a", Some("")),
            (&["/caf%c3%a9"], "/caf%C3%A9/x", Some("/caf%c3%a9")),
            (&["/%7ea"], "/~a", Some("/%7ea")),
            (&["a", "=a"], "/a", None),
        ] {
            let parsed: Vec<PathMatch> = rules.iter().map(|text| rule(text)).collect();
            let got = host("a.b", &parsed, false);
            let got = got.route(path).map(|route| route.path.clone());
            assert_eq!(got, want.map(rule), "{rules:?} {path}");
        }
    }

    /// Exact before wildcard before any; who matched keeps the request.
    #[test]
    fn hosts() {
        let exact = |fallback| host("a.b", &[rule("/x")], fallback);
        let wildcard = host("*.b", &[rule("/")], false);
        let any = host("", &[rule("/")], true);
        for (fallback, path, host, by) in [
            (false, "/x", "a.b", WonBy::Path),
            (true, "/y", "a.b", WonBy::HostFallback),
            (false, "/y", "*", WonBy::DefaultBackend),
        ] {
            let exact = exact(fallback);
            let found = find(Some(&exact), Some(&wildcard), Some(&any), path);
            let winner = found.winner.unwrap();
            assert_eq!(
                (winner.host.to_string().as_str(), winner.by),
                (host, by),
                "{fallback} {path}"
            );
            for loser in found.losers() {
                assert_eq!(
                    loser.why == Lost::LessSpecificHost,
                    loser.host.to_string() != "a.b" && loser.route.id.place != Some((0, 999)),
                    "{loser:?}"
                );
            }
        }
        let exact = exact(false);
        assert!(find(Some(&exact), Some(&wildcard), None, "/y").winner.is_none());
        let found = find(None, Some(&wildcard), Some(&any), "/y");
        assert_eq!(found.winner.unwrap().host.to_string(), "*.b");
        assert_eq!(find(None, None, None, "/").losers().count(), 0);
    }

    proptest! {
        /// The trie agrees with trying the list in order, whatever the order and however odd the rules.
        #[test]
        fn the_trie_is_the_list(
            rules in proptest::collection::vec((any::<bool>(), "(/[ab]{0,2}){0,4}/?|[ab%2f~./]{0,4}"), 0..12),
            raw in "(/[ab]{0,2}){1,5}/?",
        ) {
            let rules: Vec<PathMatch> = rules
                .into_iter()
                .map(|(exact, path)| if exact { PathMatch::Exact(path.into()) } else { PathMatch::Prefix(path.into()) })
                .collect();
            let path = path::normalise(&raw).unwrap();
            let compiled = host("a.b", &rules, false);
            let naive = rules.iter().position(|rule| takes(rule, &path));
            let got = compiled.route(&path).map(|route| route.id.place);
            prop_assert_eq!(got, naive.map(|index| Some((0, u32::try_from(index).unwrap()))), "{:?} {}", rules, path);
        }
    }
}
