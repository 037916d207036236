//! Which route takes a request: a pure look-up whose cost grows neither with the number of hosts nor with the number of
//! routes of one host.
//!
//! Precedence: exact host, then wildcard, then the rules for any host. A host that matched keeps the request: it falls
//! back to its own default backend and then to the default of the box, never to the rules of a less specific host.
//! Within a host the routes are in the order of [`VirtualHost::routes`]; the first that matches wins.
//!
//! [`VirtualHost::routes`]: sekisho_config::model::VirtualHost::routes

mod conditions;
mod explain;
mod host;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use explain::{Loser, Lost, takes};
pub use host::CompiledHost;
use http::Method;
use sekisho_config::model::{HostPattern, Route};
use serde::Serialize;

use crate::fields::Fields;
use crate::filter;

/// What of a request the routes of a host look at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// In normal form ([`crate::path::normalise`]).
    pub path: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its header section, as it came.
    pub headers: Option<&'a Fields>,
    /// What stands behind the `?`, as it came.
    pub query: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// `GET path`, without any header field.
    pub fn get(path: &'a str) -> Self {
        Self {
            path,
            method: &Method::GET,
            headers: None,
            query: None,
        }
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
    #[serde(skip)]
    pub(crate) filters: Option<&'a Arc<filter::Compiled>>,
}

/// How a route came to win.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WonBy {
    /// Its path and its conditions take the request, and those of no better one do.
    Path,
    /// No route of the host matches; the default backend of that host's Ingress answers.
    HostFallback,
    /// Neither host nor path matches; the default backend of the box answers.
    DefaultBackend,
}

/// The answer of [`find`]: the winner at once, the losers when asked.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// What answers; `None` is a 404.
    pub winner: Option<Winner<'a>>,
    /// Tables whose host pattern matches, most specific first.
    tables: [Option<&'a CompiledHost>; 3],
    asked: Asked<'a>,
}

/// Finds the route for a request among the tables whose host matches, most specific first.
/// `any` is the table of [`HostPattern::Any`].
pub(crate) fn find<'a>(
    exact: Option<&'a CompiledHost>,
    wildcard: Option<&'a CompiledHost>,
    any: Option<&'a CompiledHost>,
    asked: Asked<'a>,
) -> Found<'a> {
    let tables = [exact, wildcard, any];
    let winner = tables.iter().flatten().next().and_then(|table| {
        let host = &table.wished().host;
        table
            .route(&asked)
            .map(|(route, filters)| Winner {
                host,
                route,
                by: WonBy::Path,
                filters,
            })
            .or_else(|| {
                let by = if *host == HostPattern::Any {
                    WonBy::DefaultBackend
                } else {
                    WonBy::HostFallback
                };
                table.fallback().map(|(route, filters)| Winner {
                    host,
                    route,
                    by,
                    filters,
                })
            })
            .or_else(|| {
                let any = any?;
                let (route, filters) = any.fallback()?;
                Some(Winner {
                    host: &any.wished().host,
                    route,
                    by: WonBy::DefaultBackend,
                    filters,
                })
            })
    });
    Found {
        winner,
        tables,
        asked,
    }
}
