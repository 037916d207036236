//! The routes of one host, compiled: a trie over path segments.
//!
//! Routes are named by their place in `VirtualHost::routes`; lower is better, so that the order of the list is the whole
//! of the precedence. A path visits one node for each of its segments, and what it costs there depends on how many routes
//! have the very same path. A regular expression hangs at the last node whose segments every match of it has to begin
//! with; several at one node are tried as one set.

use std::collections::HashMap;
use std::sync::Arc;

use regex::{Regex, RegexSet, RegexSetBuilder};
use sekisho_config::model::{PathMatch, Pattern, Route, VirtualHost};
use smallvec::SmallVec;

use super::Asked;
use super::conditions::Compiled;
use crate::{client_auth, filter, path};

/// Children of a node that are kept in a list; more are hashed.
const FEW: usize = 16;
/// Patterns at one node that are tried one by one; more become a set.
const FEW_PATTERNS: usize = 4;

/// A virtual host with its routes in a trie.
#[derive(Debug)]
pub struct CompiledHost {
    wished: Arc<VirtualHost>,
    /// What its routes ask for and do, by place.
    rules: Vec<Rule>,
    /// What the fallback does.
    filters: Option<Arc<filter::Compiled>>,
    client_auth: Option<Arc<client_auth::Compiled>>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Rule {
    conditions: Option<Box<Compiled>>,
    filters: Option<Arc<filter::Compiled>>,
}

/// One segment deep in the trie.
#[derive(Debug, Default)]
struct Node {
    children: Children,
    /// Ascending, as all lists of places.
    exact: Places,
    prefix: Places,
    patterns: Option<Box<Patterns>>,
}

type Places = SmallVec<[u32; 2]>;

#[derive(Debug)]
enum Children {
    /// Most segments that are not the one in hand have another length, and need not be looked at.
    Few(Vec<(Box<str>, u32)>),
    Many(HashMap<Box<str>, u32>),
}

impl Default for Children {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Children {
    fn get(&self, segment: &str) -> Option<u32> {
        match self {
            Self::Few(list) => list
                .iter()
                .find(|(name, _)| name.as_ref() == segment)
                .map(|(_, child)| *child),
            Self::Many(map) => map.get(segment).copied(),
        }
    }

    fn insert(&mut self, segment: &str, child: u32) {
        match self {
            Self::Few(list) if list.len() < FEW => list.push((segment.into(), child)),
            Self::Few(list) => {
                let mut map: HashMap<Box<str>, u32> = std::mem::take(list).into_iter().collect();
                map.insert(segment.into(), child);
                *self = Self::Many(map);
            }
            Self::Many(map) => {
                map.insert(segment.into(), child);
            }
        }
    }
}

/// The regular expressions at one node.
#[derive(Debug, Default)]
struct Patterns {
    places: Vec<u32>,
    tried: Tried,
}

#[derive(Debug)]
enum Tried {
    Singly(Vec<Regex>),
    Together(RegexSet),
}

impl Default for Tried {
    fn default() -> Self {
        Self::Singly(Vec::new())
    }
}

impl Patterns {
    fn compile(patterns: Vec<(u32, Pattern)>) -> Self {
        let mut places = Vec::new();
        let mut singly = Vec::new();
        let mut texts = Vec::new();
        for (place, pattern) in patterns {
            if let Some(regex) = pattern.regex() {
                places.push(place);
                singly.push(regex);
                texts.push(pattern.anchored());
            }
        }
        let set = (texts.len() > FEW_PATTERNS)
            .then(|| RegexSetBuilder::new(&texts).build())
            .and_then(Result::ok);
        Self {
            places,
            // A set that would be too large is tried one by one.
            tried: set.map_or(Tried::Singly(singly), Tried::Together),
        }
    }

    /// The places below `below` whose pattern matches, ascending, until `take` says that it is enough.
    fn each(&self, path: &str, below: u32, mut take: impl FnMut(u32) -> bool) {
        match &self.tried {
            Tried::Singly(list) => {
                for (place, regex) in self.places.iter().zip(list) {
                    if *place >= below || (regex.is_match(path) && take(*place)) {
                        return;
                    }
                }
            }
            Tried::Together(set) => {
                if self.places.first().is_none_or(|first| *first >= below) {
                    return;
                }
                for index in &set.matches(path) {
                    let Some(place) = self.places.get(index) else {
                        return;
                    };
                    if *place >= below || take(*place) {
                        return;
                    }
                }
            }
        }
    }
}

/// The segments of a path in normal form: `/a/b` is `a`, `b`; `/a/` is `a` and an empty one; `/` is one empty one.
fn segments(path: &str) -> Option<std::str::Split<'_, char>> {
    path.strip_prefix('/').map(|rest| rest.split('/'))
}

impl CompiledHost {
    /// What its routes want of certificates of clients; all that want any want the same.
    pub(crate) fn client_auth(&self) -> Option<&Arc<client_auth::Compiled>> {
        self.client_auth.as_ref()
    }

    pub(crate) fn compile(wished: &Arc<VirtualHost>) -> Self {
        let mut host = Self {
            wished: Arc::clone(wished),
            rules: Vec::with_capacity(wished.routes.len()),
            filters: wished.fallback.as_ref().and_then(filter::Compiled::compile),
            client_auth: None,
            nodes: vec![Node::default()],
        };
        let mut patterns: HashMap<u32, Vec<(u32, Pattern)>> = HashMap::new();
        for (route, place) in wished.routes.iter().zip(0u32..) {
            // A path that no normal form can have and a condition that no request can meet take no request.
            let conditions = if route.conditions.is_empty() {
                Some(None)
            } else {
                Compiled::compile(&route.conditions).map(|compiled| Some(Box::new(compiled)))
            };
            let rule = conditions.is_some().then(|| path::rule(&route.path)).flatten();
            host.rules.push(Rule {
                conditions: conditions.flatten(),
                filters: filter::Compiled::compile(route),
            });
            match rule {
                None => {}
                Some(PathMatch::Exact(path)) => host.add(&path, place, |node| &mut node.exact),
                Some(PathMatch::Prefix(path)) => {
                    let path = path.strip_suffix('/').unwrap_or(&path);
                    host.add(path, place, |node| &mut node.prefix);
                }
                Some(PathMatch::Regex(pattern)) => {
                    let beginning = pattern.literal_beginning();
                    let whole = beginning.rfind('/').and_then(|end| beginning.get(..end));
                    let at = host.node_of(whole.unwrap_or_default()).unwrap_or(0);
                    patterns.entry(at).or_default().push((place, pattern));
                }
            }
        }
        for (at, patterns) in patterns {
            if let Some(node) = host.nodes.get_mut(at as usize) {
                node.patterns = Some(Box::new(Patterns::compile(patterns)));
            }
        }
        let filters = host.rules.iter().filter_map(|rule| rule.filters.as_ref());
        host.client_auth = filters
            .chain(&host.filters)
            .find_map(|filters| filters.door()?.client_auth().cloned());
        host
    }

    fn add(&mut self, path: &str, place: u32, slot: fn(&mut Node) -> &mut Places) {
        let Some(at) = self.node_of(path) else { return };
        if let Some(node) = self.nodes.get_mut(at as usize) {
            slot(node).push(place);
        }
    }

    /// The node of a path, made if it is not there; the empty path is the root. `None` for what is no path.
    fn node_of(&mut self, path: &str) -> Option<u32> {
        let mut at = 0;
        if !path.is_empty() {
            for segment in segments(path)? {
                at = self.child(at, segment);
            }
        }
        Some(at)
    }

    /// The child of `at` for `segment`, made if it is not there.
    fn child(&mut self, at: u32, segment: &str) -> u32 {
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return at;
        };
        match node.children.get(segment) {
            Some(child) => child,
            None => {
                node.children.insert(segment, next);
                self.nodes.push(Node::default());
                next
            }
        }
    }

    /// The virtual host that this was compiled from.
    pub fn wished(&self) -> &Arc<VirtualHost> {
        &self.wished
    }

    /// Whether the conditions of the route at `place` are met.
    fn met(&self, place: u32, asked: &Asked<'_>) -> bool {
        self.rules.get(place as usize).is_some_and(|rule| {
            let conditions = rule.conditions.as_ref();
            conditions.is_none_or(|conditions| conditions.check(asked).is_ok())
        })
    }

    /// The default backend of this host.
    pub(crate) fn fallback(&self) -> Option<(&Route, Option<&Arc<filter::Compiled>>)> {
        Some((self.wished.fallback.as_ref()?, self.filters.as_ref()))
    }

    /// The best route for a request, by its path with the parameters of its segments or without them.
    pub(crate) fn route(&self, asked: &Asked<'_>) -> Option<(&Route, Option<&Arc<filter::Compiled>>)> {
        let mut best = self.best(asked.path, asked, u32::MAX)?;
        if let Some(path) = path::without_parameters(asked.path) {
            best = self.best(&path, asked, best)?;
        }
        let rule = self.rules.get(best as usize)?;
        Some((self.wished.routes.get(best as usize)?, rule.filters.as_ref()))
    }

    /// The place of the best route for a path, if it is better than `best`; else that.
    fn best(&self, path: &str, asked: &Asked<'_>, mut best: u32) -> Option<u32> {
        let offer = |places: &Places, best: &mut u32| {
            for place in places {
                if *place >= *best {
                    return;
                }
                if self.met(*place, asked) {
                    *best = *place;
                    return;
                }
            }
        };
        let mut patterns: SmallVec<[&Patterns; 4]> = SmallVec::new();
        let mut node = self.nodes.first()?;
        let mut whole = true;
        let mut rest = segments(path)?;
        loop {
            offer(&node.prefix, &mut best);
            patterns.extend(node.patterns.as_deref());
            let Some(segment) = rest.next() else { break };
            let child = node.children.get(segment);
            let Some(next) = child.and_then(|child| self.nodes.get(child as usize)) else {
                whole = false;
                break;
            };
            node = next;
        }
        if whole {
            offer(&node.exact, &mut best);
        }
        // Matching a pattern is dear: only those that could still be better are tried, the deepest first.
        for patterns in patterns.into_iter().rev() {
            let below = best;
            patterns.each(path, below, |place| {
                let met = self.met(place, asked);
                if met {
                    best = place;
                }
                met
            });
        }
        Some(best)
    }
}
