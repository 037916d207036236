//! Spans as OTLP wants them over HTTP: `ExportTraceServiceRequest` in the JSON mapping of protocol buffers (OTLP 1.x, "JSON
//! Protobuf Encoding": identifiers in hexadecimal, 64-bit integers as strings).

use serde_json::{Value, json};

use super::Span;

/// SPAN_KIND_SERVER
const SERVER: u8 = 2;
/// STATUS_CODE_ERROR
const ERROR: u8 = 2;

/// One request of an exporter.
pub(crate) fn request(appliance: &str, spans: &[Span]) -> Vec<u8> {
    let resource = [
        text("service.name", "sekisho"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", appliance),
    ];
    let spans: Vec<_> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "sekisho.http", "version": env!("CARGO_PKG_VERSION")}, "spans": spans}],
    }]})
    .to_string()
    .into_bytes()
}

fn span(span: &Span) -> Value {
    let mut attributes = vec![
        text("http.request.method", &span.method),
        text("url.path", &span.path),
        text("url.scheme", span.scheme),
        text("network.protocol.version", span.protocol),
        text("client.address", &span.client),
        text("sekisho.request_id", &span.request_id),
        number("http.request.body.size", span.bytes_in),
        number("http.response.body.size", span.bytes_out),
        number("http.request.resend_count", u64::from(span.retries)),
        number("sekisho.revision", span.revision),
    ];
    if span.status != 0 {
        attributes.push(number("http.response.status_code", u64::from(span.status)));
    }
    let optional = [
        ("server.address", &span.host),
        ("k8s.namespace.name", &span.namespace),
        ("sekisho.ingress", &span.ingress),
        ("k8s.service.name", &span.service),
        ("k8s.pod.name", &span.pod),
        ("k8s.node.name", &span.node),
        ("network.peer.address", &span.endpoint),
        ("user_agent.original", &span.user_agent),
    ];
    attributes.extend(
        optional
            .into_iter()
            .filter_map(|(key, value)| Some(text(key, value.as_deref()?))),
    );
    if let Some((by, phase)) = span.ended {
        attributes.push(text("sekisho.ended_by", by));
        attributes.push(text("sekisho.ended_in", phase));
    }
    let mut value = json!({
        "traceId": span.context.trace.to_string(),
        "spanId": span.context.span.to_string(),
        "name": span.name(),
        "kind": SERVER,
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes,
        "events": events(span),
    });
    if let Some(fields) = value.as_object_mut() {
        if let Some(parent) = span.context.parent {
            fields.insert("parentSpanId".into(), parent.to_string().into());
        }
        // A server's span is in error from 500 on, or where the exchange was not brought to its end.
        if span.status >= 500 || span.ended.is_some_and(|(by, _)| by != "client") {
            fields.insert("status".into(), json!({"code": ERROR}));
        }
    }
    value
}

/// The moments in between, as the access log has them.
fn events(span: &Span) -> Vec<Value> {
    [
        ("endpoint chosen", span.chosen),
        ("connected", span.connected),
        ("response header", span.first_byte),
    ]
    .into_iter()
    .filter_map(|(name, at)| Some(json!({"name": name, "timeUnixNano": at?.to_string()})))
    .collect()
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

#[cfg(test)]
mod tests {
    use super::super::context::{Context, Parent};
    use super::*;

    #[test]
    fn a_span_as_a_collector_reads_it() {
        let parent = Parent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let context = Context::begin(parent, true, 1, &mut || 7).unwrap();
        let span = Span {
            start: 1_700_000_000_000_000_000,
            end: 1_700_000_000_250_000_000,
            chosen: Some(1_700_000_000_000_100_000),
            status: 502,
            host: Some("shop.example.com".into()),
            pod: Some("shop-1".into()),
            ended: Some(("upstream", "wait")),
            ..Span::new(context)
        };
        let value: Value = serde_json::from_slice(&request("edge-1", &[span])).unwrap();
        let got = &value["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(got["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(got["parentSpanId"], "00f067aa0ba902b7");
        assert_eq!(got["spanId"], "0000000000000007");
        assert_eq!(got["startTimeUnixNano"], "1700000000000000000");
        assert_eq!(got["status"]["code"], 2);
        assert_eq!(got["events"].as_array().unwrap().len(), 1);
        let attributes = got["attributes"].as_array().unwrap();
        let of = |key: &str| {
            let found = attributes.iter().find(|attribute| attribute["key"] == key);
            found.map(|attribute| attribute["value"].clone())
        };
        assert_eq!(of("http.response.status_code").unwrap()["intValue"], "502");
        assert_eq!(of("k8s.pod.name").unwrap()["stringValue"], "shop-1");
        assert_eq!(of("k8s.node.name"), None);
        let resource = &value["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(resource[2]["value"]["stringValue"], "edge-1");
    }
}
