//! `/api/v1/…`: one function a page, each from one picture.

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::{Admin, routes};
use crate::view;

/// Why there is no page.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

impl Refused {
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            why: why.into(),
        }
    }
}

/// The page `what`.
pub(super) async fn answer(admin: &Admin, what: &str, query: &str) -> Result<Value, Refused> {
    let picture = admin.picture.borrow().clone();
    match what {
        "status" => {
            let peers = peers(admin).await;
            let (announced, orders, source) = (vips(admin).await, orders(admin).await, admin.source.view());
            let listeners = match &admin.bgp {
                Some(bgp) => bgp.listeners().await,
                None => Vec::new(),
            };
            let bgp = admin.bgp.as_ref().map(|bgp| view::status::BgpRow {
                kernel: bgp.kernel(),
                listeners: &listeners,
            });
            page(&view::status::view(
                &picture,
                bgp,
                &peers,
                &announced,
                &orders,
                &source,
                admin.started,
            ))
        }
        "peers" => page(&peers(admin).await),
        "routes" => {
            let wanted = routes::query(query)?;
            let (rejected, count) = (routes::truth(query, "rejected")?, routes::truth(query, "count")?);
            match &admin.bgp {
                None if count => page(&sekisho_bgp::rib::RouteCount::default()),
                None => page(&Value::Array(Vec::new())),
                Some(bgp) if rejected => page(&bgp.rejected(wanted).await),
                Some(bgp) if count => page(&bgp.count(wanted).await),
                Some(bgp) => page(&bgp.routes(wanted).await),
            }
        }
        "vips" => page(&view::vips::view(&picture, &vips(admin).await)),
        "endpoints" => {
            let service = parameter(query, "service")?;
            page(&view::endpoints::view(&picture, service.as_deref()))
        }
        "certificates" => page(&view::certificates::view(&picture, &orders(admin).await)),
        "findings" => page(&picture.findings),
        "explain" => {
            let url = parameter(query, "url")?.ok_or_else(|| Refused::bad("name the request with ?url="))?;
            let (method, headers) = (parameter(query, "method")?, parameter(query, "headers")?);
            let request = view::explain::Request {
                url: &url,
                method: method.as_deref(),
                headers: headers.as_deref().unwrap_or_default(),
            };
            let explanation =
                view::explain::view(&picture, &vips(admin).await, &request).map_err(Refused::bad)?;
            page(&explanation)
        }
        _ => Err(Refused {
            status: StatusCode::NOT_FOUND,
            why: "no such page".into(),
        }),
    }
}

async fn peers(admin: &Admin) -> Vec<sekisho_bgp::PeerView> {
    match &admin.bgp {
        Some(bgp) => bgp.peers().await,
        None => Vec::new(),
    }
}

async fn vips(admin: &Admin) -> Vec<sekisho_bgp::VipView> {
    match &admin.bgp {
        Some(bgp) => bgp.vips().await,
        None => Vec::new(),
    }
}

async fn orders(admin: &Admin) -> Vec<sekisho_acme::OrderView> {
    match &admin.acme {
        Some(acme) => acme.view().await,
        None => Vec::new(),
    }
}

fn page(value: &(impl Serialize + ?Sized)) -> Result<Value, Refused> {
    serde_json::to_value(value).map_err(|error| Refused {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        why: error.to_string(),
    })
}

/// The value of `key` in a query string, percent-decoded.
pub(super) fn parameter(query: &str, key: &str) -> Result<Option<String>, Refused> {
    let Some(raw) = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    else {
        return Ok(None);
    };
    let mut octets = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let digit = |b: Option<u8>| {
                    b.and_then(|b| char::from(b).to_digit(16))
                        .and_then(|d| u8::try_from(d).ok())
                };
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => high * 16 + low,
                    _ => return Err(Refused::bad("bad percent-encoding in the query")),
                }
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(octets)
        .map(Some)
        .map_err(|_| Refused::bad("the query is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_query_parameters() {
        for (query, want) in [
            ("url=https%3A%2F%2Fa%2Fb", Some("https://a/b")),
            ("x=1&url=a+b", Some("a b")),
            ("", None),
            ("xurl=1", None),
            ("url", None),
            ("url=", Some("")),
        ] {
            assert_eq!(parameter(query, "url").ok().flatten().as_deref(), want, "{query}");
        }
        for bad in ["url=%", "url=%4", "url=%zz", "url=%ff"] {
            assert!(parameter(bad, "url").is_err(), "{bad}");
        }
    }
}
