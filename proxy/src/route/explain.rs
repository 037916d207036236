//! Why the other routes did not get a request: the definition of a match, one route at a time, which the compiled tables
//! must agree with.

use sekisho_config::model::{HostPattern, PathMatch, Route};
use serde::Serialize;

use super::conditions::Compiled;
use super::{Asked, Found, WonBy};
use crate::path;

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
    /// Its path does, and the method is none of its own.
    MethodDiffers,
    /// Its path does, and a condition on a header field is not met.
    HeaderDiffers,
    /// Its path does, and a condition on a query parameter is not met.
    QueryDiffers,
    /// It matches, and one that stands before it does too.
    BetterRoute,
    /// Its host pattern matches, and a more specific one does too; that one keeps the request.
    LessSpecificHost,
    /// It is a default backend, and a route matched.
    NotNeeded,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PathDiffers => "its path does not match",
            Self::MethodDiffers => "its method does not match",
            Self::HeaderDiffers => "a header condition is not met",
            Self::QueryDiffers => "a query condition is not met",
            Self::BetterRoute => "a longer or exact path, or one with more conditions, matches",
            Self::LessSpecificHost => "a more specific host matches",
            Self::NotNeeded => "it is a default backend and a route matches",
        })
    }
}

impl<'a> Found<'a> {
    /// Every route of a matching host that did not win, with the reason; for `explain`, not for the request path.
    pub fn losers(&self) -> impl Iterator<Item = Loser<'a>> + use<'a> {
        let Self {
            winner,
            tables,
            asked,
        } = *self;
        tables
            .into_iter()
            .flatten()
            .enumerate()
            .flat_map(move |(depth, table)| {
                let wished: &'a _ = table.wished();
                let host = &wished.host;
                let routes = wished.routes.iter().map(move |route| {
                    let why = match takes(route, &asked) {
                        Err(why) => why,
                        Ok(()) if depth > 0 => Lost::LessSpecificHost,
                        Ok(()) => Lost::BetterRoute,
                    };
                    Loser { host, route, why }
                });
                let fallback = wished.fallback.iter().map(move |route| {
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

/// Whether a route takes a request, and why not: the definition, which the compiled tables must agree with.
///
/// # Errors
/// The first reason against it.
pub fn takes(route: &Route, asked: &Asked<'_>) -> Result<(), Lost> {
    let takes = |path: &str| path_takes(&route.path, path);
    if !takes(asked.path) && !path::without_parameters(asked.path).is_some_and(|path| takes(&path)) {
        return Err(Lost::PathDiffers);
    }
    match Compiled::compile(&route.conditions) {
        Some(conditions) => conditions.check(asked),
        // A header name that no request can have.
        None => Err(Lost::HeaderDiffers),
    }
}

fn path_takes(rule: &PathMatch, path: &str) -> bool {
    match path::rule(rule) {
        None => false,
        Some(PathMatch::Exact(rule)) => *rule == *path,
        Some(PathMatch::Prefix(rule)) => {
            let rule = rule.strip_suffix('/').unwrap_or(&rule);
            path.strip_prefix(rule)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        Some(PathMatch::Regex(pattern)) => pattern.regex().is_some_and(|regex| regex.is_match(path)),
    }
}
