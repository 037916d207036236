//! From the text of one file to objects. Pure; every fault carries its line and leaves the other documents alone.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use sekisho_config::model::FindingKind;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::text::printable;
use crate::world::{Content, Kind, Object, ParseError, TlsSecret};

/// Largest file.
pub(super) const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Most documents in one file, and most items in all of its lists.
const MAX_DOCUMENTS: usize = 10_000;
/// Deepest nesting of a document.
const MAX_DEPTH: usize = 64;
/// How deep a List may hold Lists.
const MAX_LIST_DEPTH: usize = 4;
/// After so many faults the rest of a file is not looked at.
const MAX_FAULTS: usize = 100;

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// Objects of the kinds we read, with the line where their document begins.
    pub(crate) objects: Vec<(Object, usize)>,
    /// What is wrong.
    pub(crate) faults: Vec<Fault>,
    /// Objects of other kinds, as `Kind namespace/name`.
    pub(crate) ignored: Vec<String>,
}

/// One fault of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: FindingKind,
    /// Line, from 1.
    pub(crate) line: usize,
    /// What, and what to do.
    pub(crate) message: String,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Yaml,
    Json,
}

/// Reads one file.
pub(crate) fn parse(bytes: &[u8], format: Format) -> Parsed {
    let mut reader = Reader::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            reader.unreadable(line, "is not UTF-8; save the file as UTF-8".to_owned());
            return reader.parsed;
        }
    };
    match format {
        Format::Yaml => reader.yaml(text),
        Format::Json => reader.json(text),
    }
    reader.parsed
}

#[derive(Default)]
struct Reader {
    parsed: Parsed,
    objects: usize,
}

impl Reader {
    fn fault(&mut self, kind: FindingKind, line: usize, message: String) {
        self.parsed.faults.push(Fault { kind, line, message });
    }

    fn unreadable(&mut self, line: usize, message: String) {
        self.fault(FindingKind::Unreadable, line, message);
    }

    fn full(&self) -> bool {
        self.parsed.faults.len() >= MAX_FAULTS
    }

    fn yaml(&mut self, text: &str) {
        let documents = split(text);
        if documents.len() > MAX_DOCUMENTS {
            self.unreadable(
                1,
                format!("has more than {MAX_DOCUMENTS} documents; split the file"),
            );
            return;
        }
        for (line, document) in documents {
            if self.full() {
                return;
            }
            match serde_saphyr::from_str_with_options::<Value>(&document, options()) {
                Ok(value) => self.value(value, line, 0),
                Err(error) => {
                    let at = error
                        .location()
                        .and_then(|at| usize::try_from(at.line()).ok())
                        .filter(|at| *at > 0);
                    let line = at.map_or(line, |at| line.saturating_add(at - 1));
                    let text = error.without_snippet().to_string();
                    self.unreadable(line, format!("is not YAML: {}; correct it", printable(&text)));
                }
            }
        }
    }

    fn json(&mut self, text: &str) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        loop {
            let so_far = text.get(..values.byte_offset()).unwrap_or_default();
            let line = so_far.matches('\n').count() + 1;
            match values.next() {
                None => return,
                Some(Ok(value)) => self.value(value, line, 0),
                Some(Err(error)) => {
                    self.unreadable(
                        error.line().max(1),
                        format!("is not JSON: {}; correct it", printable(&error.to_string())),
                    );
                    return;
                }
            }
            if self.full() {
                return;
            }
        }
    }

    /// One object, or a list of them.
    fn value(&mut self, value: Value, line: usize, depth: usize) {
        self.objects += 1;
        if self.objects > MAX_DOCUMENTS {
            if self.objects == MAX_DOCUMENTS + 1 {
                self.unreadable(
                    line,
                    format!("has more than {MAX_DOCUMENTS} objects: the rest is left out; split the file"),
                );
            }
            return;
        }
        let mut value = match value {
            Value::Null => return,
            Value::Object(map) => map,
            _ => {
                return self.unreadable(
                    line,
                    "is not an object; write apiVersion, kind and metadata".to_owned(),
                );
            }
        };
        let kind = value
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let version = value
            .get("apiVersion")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if kind.is_empty() || version.is_empty() {
            return self.unreadable(line, "has no `kind` or no `apiVersion`; write both".to_owned());
        }
        if kind.ends_with("List") && value.get("items").is_some_and(Value::is_array) {
            if depth >= MAX_LIST_DEPTH {
                return self.unreadable(
                    line,
                    format!("has lists nested deeper than {MAX_LIST_DEPTH}; unroll them"),
                );
            }
            // `kubectl get ingress -o yaml` says `kind: List`; a list of one kind may leave the kind of its items out.
            let item_kind = kind
                .strip_suffix("List")
                .filter(|kind| !kind.is_empty())
                .map(str::to_owned);
            if let Some(Value::Array(items)) = value.remove("items") {
                for mut item in items {
                    if let (Some(kind), Value::Object(map)) = (&item_kind, &mut item) {
                        map.entry("kind").or_insert_with(|| kind.as_str().into());
                        map.entry("apiVersion").or_insert_with(|| version.as_str().into());
                    }
                    if self.full() {
                        return;
                    }
                    self.value(item, line, depth + 1);
                }
            }
            return;
        }
        let label = label(&kind, &value);
        let Some(known) = Kind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind && same_group(&version, *known))
        else {
            self.parsed.ignored.push(label);
            return;
        };
        if version != known.api_version() {
            let message = format!(
                "{label} has apiVersion {}, which is not read; write {}",
                printable(&version),
                known.api_version()
            );
            return self.fault(FindingKind::Unsupported, line, message);
        }
        match object(known, Value::Object(value)) {
            Ok(object) => self.parsed.objects.push((object, line)),
            Err(why) => self.unreadable(
                line,
                format!("{label} cannot be read: {}; correct it", printable(&why)),
            ),
        }
    }
}

/// `Kind namespace/name`, for messages.
fn label(kind: &str, value: &serde_json::Map<String, Value>) -> String {
    let metadata = |key: &str| {
        value
            .get("metadata")
            .and_then(|metadata| metadata.get(key))
            .and_then(Value::as_str)
    };
    let name = printable(metadata("name").unwrap_or("(without name)"));
    match metadata("namespace") {
        Some(namespace) => format!("{} {}/{name}", printable(kind), printable(namespace)),
        None => format!("{} {name}", printable(kind)),
    }
}

/// Whether `version` is of the API group of `kind`, or of one where the kind lived before. A `Service` of another group
/// (Knative has one) is another kind.
fn same_group(version: &str, kind: Kind) -> bool {
    let group = |version: &str| {
        version
            .rsplit_once('/')
            .map_or_else(String::new, |(group, _)| group.to_owned())
    };
    group(version) == group(kind.api_version()) || (kind == Kind::Ingress && group(version) == "extensions")
}

fn object(kind: Kind, value: Value) -> Result<Object, String> {
    fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
    let why = |error: ParseError| error.to_string();
    Ok(match kind {
        Kind::Ingress => Object::Ingress(std::sync::Arc::new(
            typed::<networking::Ingress>(value)?.try_into().map_err(why)?,
        )),
        Kind::IngressClass => Object::IngressClass(std::sync::Arc::new(
            typed::<networking::IngressClass>(value)?
                .try_into()
                .map_err(why)?,
        )),
        Kind::Service => Object::Service(std::sync::Arc::new(
            typed::<core::Service>(value)?.try_into().map_err(why)?,
        )),
        Kind::EndpointSlice => Object::EndpointSlice(std::sync::Arc::new(
            typed::<discovery::EndpointSlice>(value)?
                .try_into()
                .map_err(why)?,
        )),
        Kind::Node => Object::Node(std::sync::Arc::new(
            typed::<core::Node>(value)?.try_into().map_err(why)?,
        )),
        Kind::ConfigMap => Object::Content(std::sync::Arc::new(
            Content::of_config_map(typed(value)?).map_err(why)?,
        )),
        Kind::Secret | Kind::NamedSecret => {
            // What serde says of a value that does not fit may quote it, and here the values are keys.
            let secret: core::Secret = typed(value).map_err(|_| {
                "`data` is not a map of base64 texts, or a field has the wrong type".to_owned()
            })?;
            match TlsSecret::parse(&secret).map_err(why)? {
                Some(secret) => Object::Secret(std::sync::Arc::new(secret)),
                None => Object::Content(std::sync::Arc::new(Content::of_secret(&secret).map_err(why)?)),
            }
        }
    })
}

/// Documents of a YAML stream, with the line where each begins. A `---` at the beginning of a line ends a document whatever
/// stands before it (YAML 1.2 section 9.1.2), so that a fault in one document cannot reach the next.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents: Vec<(usize, String)> = Vec::new();
    let mut current = String::new();
    let mut begin = 1;
    let mut finish = |begin: usize, document: &mut String| {
        let content = |line: &str| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
        };
        if document.lines().any(content) {
            documents.push((begin, std::mem::take(document)));
        } else {
            document.clear();
        }
    };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marker = |marker: &str| {
            line.strip_prefix(marker)
                .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if let Some(rest) = marker("---") {
            finish(begin, &mut current);
            begin = index + 1;
            current.push_str("   ");
            current.push_str(rest);
        } else if marker("...").is_some() {
            finish(begin, &mut current);
            begin = index + 2;
        } else {
            current.push_str(line);
        }
    }
    finish(begin, &mut current);
    documents
}

/// Limits against documents that are small to write and large to read.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_nodes: 250_000,
            max_events: 500_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1_000,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";

    /// Objects as `line Kind namespace/name`, faults as `line message`.
    fn show(text: &str, format: Format) -> (Vec<String>, Vec<String>) {
        let parsed = parse(text.as_bytes(), format);
        let objects = parsed
            .objects
            .iter()
            .map(|(object, line)| format!("{line} {} {}", object.kind(), object.name()));
        let faults = parsed
            .faults
            .iter()
            .map(|fault| format!("{} {}", fault.line, fault.message));
        (objects.collect(), faults.collect())
    }

    #[test]
    fn documents() {
        for (what, text, objects, faults) in [
            ("one", SERVICE.to_owned(), vec!["1 Service default/web"], vec![]),
            ("nothing", String::new(), vec![], vec![]),
            ("empty documents, comments, directives", format!("# a\n---\n# b\n---\n%YAML 1.2\n---\n{SERVICE}...\n---\n"), vec!["6 Service default/web"], vec![]),
            ("on the line of the marker", "--- {apiVersion: v1, kind: Service, metadata: {name: a}}\n".to_owned(), vec!["1 Service default/a"], vec![]),
            ("Windows line ends", SERVICE.replace('\n', "\r\n") + "---\r\n" + SERVICE, vec!["1 Service default/web", "5 Service default/web"], vec![]),
            ("a byte order mark", format!("\u{feff}{SERVICE}"), vec!["1 Service default/web"], vec![]),
            ("good ones around a bad one", format!("{SERVICE}---\na: [b\n---\n{SERVICE}"), vec!["1 Service default/web", "7 Service default/web"], vec!["is not YAML"]),
            ("a document marker inside a scalar ends it", format!("a: 'b\n---\n{SERVICE}"), vec!["2 Service default/web"], vec!["is not YAML"]),
            ("a list", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n".to_owned(), vec!["1 Service default/a"], vec![]),
            ("a list of one kind", "apiVersion: v1\nkind: ServiceList\nitems: [{metadata: {name: a}}]\n".to_owned(), vec!["1 Service default/a"], vec![]),
            ("not an object", "- a\n".to_owned(), vec![], vec!["is not an object"]),
            ("no kind", "apiVersion: v1\n".to_owned(), vec![], vec!["has no `kind`"]),
            ("an old version", "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: a}\n".to_owned(), vec![], vec!["has apiVersion extensions/v1beta1, which is not read; write networking.k8s.io/v1"]),
            ("a Service of another group", "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n".to_owned(), vec![], vec![]),
            ("a wrong type", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: 80}\n".to_owned(), vec![], vec!["Service a cannot be read: invalid type"]),
            ("a bad name", "apiVersion: v1\nkind: Service\nmetadata: {name: A B}\n".to_owned(), vec![], vec!["metadata.name `A B` is not a name"]),
            ("the same key twice", "apiVersion: v1\nkind: Service\nkind: Service\nmetadata: {name: a}\n".to_owned(), vec![], vec!["is not YAML"]),
            ("a boolean where a text belongs", "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {x: true}}\n".to_owned(), vec![], vec!["cannot be read"]),
        ] {
            let (got, found) = show(&text, Format::Yaml);
            assert_eq!(got, objects, "{what}: {found:?}");
            assert_eq!(found.len(), faults.len(), "{what}: {found:?}");
            for (got, want) in found.iter().zip(&faults) {
                assert!(got.contains(want), "{what}: {got}");
            }
        }
    }

    #[test]
    fn faults_name_their_line() {
        let (_, faults) = show(&format!("{SERVICE}---\na: b\nc: {{d\ne: f\n"), Format::Yaml);
        let line: usize = faults[0].split(' ').next().unwrap().parse().unwrap();
        assert!((7..=8).contains(&line), "{faults:?}");
        let (_, faults) = show("{\"a\":\n1,\n}", Format::Json);
        assert!(faults[0].starts_with("3 is not JSON"), "{faults:?}");
        let parsed = parse(b"a: b\n\xff\n", Format::Yaml);
        assert_eq!(
            (parsed.faults[0].line, parsed.faults[0].message.as_str()),
            (2, "is not UTF-8; save the file as UTF-8")
        );
    }

    #[test]
    fn small_to_write_and_large_to_read() {
        let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
            let before = format!("*a{}", n - 1);
            format!("{text}a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(", "))
        });
        let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
        let wide_list = "[".repeat(200_000);
        for text in [&bomb, &deep, &wide_list] {
            let (objects, faults) = show(&format!("{text}\n---\n{SERVICE}"), Format::Yaml);
            assert_eq!((objects.len(), faults.len()), (1, 1), "{faults:?}");
        }
        let (_, faults) = show(&"{\"a\":".repeat(10_000), Format::Json);
        assert_eq!(faults.len(), 1);
        let many = "--- {}\n".repeat(MAX_DOCUMENTS + 1);
        assert!(show(&many, Format::Yaml).1[0].contains("more than 10000 documents"));
        let faulty = "--- [\n".repeat(1000);
        assert_eq!(show(&faulty, Format::Yaml).1.len(), MAX_FAULTS);
        let mut nested = "{apiVersion: v1, kind: List, items: []}".to_owned();
        for _ in 0..8 {
            nested = format!("{{apiVersion: v1, kind: List, items: [{nested}]}}");
        }
        assert!(show(&nested, Format::Yaml).1[0].contains("nested deeper"));
    }

    #[test]
    fn secrets_are_never_quoted() {
        for data in [
            "data: {tls.key: '!!hunter2!!'}",
            "data: hunter2",
            "stringData: {tls.key: [hunter2]}",
        ] {
            let text = format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\ntype: kubernetes.io/tls\n{data}\n"
            );
            let (_, faults) = show(&text, Format::Yaml);
            assert!(faults.len() == 1 && !faults[0].contains("hunter2"), "{faults:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_safe(bytes: Vec<u8>, json: bool) {
            let parsed = parse(&bytes, if json { Format::Json } else { Format::Yaml });
            proptest::prop_assert!(parsed.faults.iter().all(|fault| !fault.message.chars().any(char::is_control)));
        }

        #[test]
        fn any_yaml_like_text_is_safe(text in "([-a-z:{}\\[\\]&*!|>'\"%#,. ]|\n|---\n|kind: Service\n|apiVersion: v1\n|\t){0,60}") {
            parse(text.as_bytes(), Format::Yaml);
        }

        /// What comes before and after, a document of its own stays what it is.
        #[test]
        fn neighbours_do_not_matter(before in "[-a-z:{}\\[\\]&*!|>'\"%#,.\n ]{0,60}", after in "[-a-z:{}\\[\\]&*!|>'\"%#,.\n ]{0,60}") {
            let (objects, _) = show(&format!("{before}\n---\n{SERVICE}---\n{after}"), Format::Yaml);
            proptest::prop_assert!(objects.iter().any(|object| object.ends_with("Service default/web")));
        }
    }
}
