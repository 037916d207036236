//! Cross-origin resource sharing: preflights are answered here, and what the Service says of it is replaced.

use http::{HeaderValue, Method, StatusCode};
use sekisho_config::model::{Cors, Origin};

use super::{Answer, Seen};
use crate::fields::names::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use crate::fields::{Fields, Name, Value};

#[derive(Debug)]
pub(super) struct Compiled {
    origins: Box<[Origin]>,
    any: bool,
    methods: Option<HeaderValue>,
    headers: Headers,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

#[derive(Debug)]
enum Headers {
    /// None beyond those that browsers allow by themselves.
    Simple,
    Listed(HeaderValue),
    /// Those that are asked for.
    Asked,
}

fn list(names: &[std::sync::Arc<str>]) -> Option<HeaderValue> {
    let text = names.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
    (!text.is_empty())
        .then(|| HeaderValue::from_str(&text).ok())
        .flatten()
}

impl Compiled {
    pub(super) fn compile(cors: &Cors) -> Self {
        let any = cors.origins.contains(&Origin::Any);
        Self {
            origins: cors.origins.as_slice().into(),
            any,
            methods: list(&cors.methods),
            headers: if cors.headers.iter().any(|name| **name == *"*") {
                Headers::Asked
            } else {
                list(&cors.headers).map_or(Headers::Simple, Headers::Listed)
            },
            expose: list(&cors.expose),
            credentials: cors.credentials && !any,
            max_age: cors.max_age.map(|age| HeaderValue::from(age.as_secs())),
        }
    }

    /// What the origin of a request may be told; `None` when it may not be told anything.
    fn allowed(&self, origin: Value<'_>) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        self.origins
            .iter()
            .any(|pattern| pattern.takes(&text))
            .then(|| origin.into())
    }

    /// The answer to a preflight; `None` when the request is none.
    pub(super) fn preflight(&self, seen: &Seen<'_>) -> Option<Answer> {
        if *seen.method != Method::OPTIONS {
            return None;
        }
        let origin = seen.headers.get(ORIGIN)?;
        seen.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut answer = Answer::new(StatusCode::NO_CONTENT);
        // An origin that is not let in is told nothing, which browsers read as no.
        if self.allowed(origin).is_some() {
            let mut put = |name: Name<'_>, value: Option<HeaderValue>| {
                if let Some(value) = value {
                    answer.headers.append(name, value);
                }
            };
            put(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            put(
                ACCESS_CONTROL_ALLOW_HEADERS,
                match &self.headers {
                    Headers::Simple => None,
                    Headers::Listed(list) => Some(list.clone()),
                    Headers::Asked => seen
                        .headers
                        .get(ACCESS_CONTROL_REQUEST_HEADERS)
                        .map(HeaderValue::from),
                },
            );
            put(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            put(
                VARY,
                Some(HeaderValue::from_static(
                    "Access-Control-Request-Method, Access-Control-Request-Headers",
                )),
            );
        }
        Some(answer)
    }

    /// Says in an answer who may read it; what the Service says of it does not count.
    pub(super) fn response(&self, headers: &mut Fields, origin: Option<Value<'_>>) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            headers.remove(name);
        }
        if !self.any {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(allowed) = origin.and_then(|origin| self.allowed(origin)) else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
    }
}
