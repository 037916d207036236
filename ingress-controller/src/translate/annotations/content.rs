//! The rows that say what becomes of bodies on their way.

use std::sync::Arc;

use sekisho_config::model::{Encoding, MediaRange};

use super::read::{list, number, size};
use super::{Annotation, Row};
use crate::text::{is_object_name, printable};
use crate::world::{Kind, ServicePortRef};

const INGRESS: &[Kind] = &[Kind::Ingress];

/// Those of this file, for the table.
pub(super) static ROWS: &[&dyn Row] = &[
    &COMPRESSION,
    &COMPRESSION_MIN_BYTES,
    &COMPRESSION_TYPES,
    &MIRROR_SERVICE,
    &MIRROR_PERCENT,
    &MIRROR_MAX_BODY_BYTES,
    &BUFFER_REQUESTS,
    &BUFFER_RESPONSES,
];

/// Most media types of one list.
const MOST_TYPES: usize = 64;

/// Codings by commas, none twice; `off` for none.
fn encodings(value: &str) -> Result<Arc<[Encoding]>, String> {
    let mut encodings = Vec::new();
    for name in list(value) {
        if name == "off" && list(value).count() == 1 {
            return Ok(Arc::default());
        }
        let encoding = name
            .parse()
            .map_err(|why: sekisho_config::model::Invalid| printable(&format!("{why}, by commas, or off")))?;
        if encodings.contains(&encoding) {
            return Err(format!("`{}` stands there twice; write it once", printable(name)));
        }
        encodings.push(encoding);
    }
    if encodings.is_empty() {
        return Err("it is empty; write gzip, br and zstd in the order you like, or off".to_owned());
    }
    Ok(encodings.into())
}

fn types(value: &str) -> Result<Arc<[MediaRange]>, String> {
    let types: Vec<MediaRange> = list(value)
        .map(|text| {
            text.parse()
                .map_err(|why: sekisho_config::model::Invalid| printable(&why.to_string()))
        })
        .collect::<Result<_, _>>()?;
    if types.is_empty() || types.len() > MOST_TYPES {
        return Err(format!(
            "it names {} media types; write from 1 to {MOST_TYPES}",
            types.len()
        ));
    }
    Ok(types.into())
}

pub(in crate::translate) static COMPRESSION: Annotation<Arc<[Encoding]>> = Annotation {
    name: "sekisho.io/compression",
    on: INGRESS,
    values: "`gzip`, `br`, `zstd`, by commas, the preferred one first: `zstd, br, gzip`; `off`",
    does: "answers are [compressed](http.md#compression) for clients that take it, instead of `http.compression`",
    read: encodings,
};

pub(in crate::translate) static COMPRESSION_MIN_BYTES: Annotation<u64> = Annotation {
    name: "sekisho.io/compression-min-bytes",
    on: INGRESS,
    values: "a size: `1k`",
    does: "answers that are known to be smaller are not compressed, instead of `http.compression_min_bytes`",
    read: size,
};

pub(in crate::translate) static COMPRESSION_TYPES: Annotation<Arc<[MediaRange]>> = Annotation {
    name: "sekisho.io/compression-types",
    on: INGRESS,
    values: "media types, by commas: `text/*, application/json`",
    does: "which answers are compressed, instead of `http.compression_types`",
    read: types,
};

/// `name:port`
fn service_port(value: &str) -> Result<(Arc<str>, ServicePortRef), String> {
    let bad = || {
        format!(
            "`{}` is not a Service and its port; write name:port, for example web-v2:80, for one in the namespace of the Ingress",
            printable(value)
        )
    };
    let (name, port) = value.split_once(':').ok_or_else(bad)?;
    let port = match port.parse::<u16>() {
        Ok(1..) => ServicePortRef::Number(port.parse().map_err(|_| bad())?),
        Err(_) if is_object_name(port, 63) => ServicePortRef::Name(port.into()),
        _ => return Err(bad()),
    };
    if is_object_name(name, 253) {
        Ok((name.into(), port))
    } else {
        Err(bad())
    }
}

/// A size from 1 to `most`.
fn bounded_size(value: &str, most: u64) -> Result<u64, String> {
    match size(value)? {
        0 => Err("is 0; write a size, for example 64k".to_owned()),
        size if size > most => Err(format!("is larger than {} MiB; write less", most >> 20)),
        size => Ok(size),
    }
}

pub(in crate::translate) static MIRROR_SERVICE: Annotation<(Arc<str>, ServicePortRef)> = Annotation {
    name: "sekisho.io/mirror-service",
    on: INGRESS,
    values: "`name:port`, in the namespace of the Ingress",
    does: "this Service gets [copies of requests](routing.md#mirroring)",
    read: service_port,
};

pub(in crate::translate) static MIRROR_PERCENT: Annotation<u8> = Annotation {
    name: "sekisho.io/mirror-percent",
    on: INGRESS,
    values: "`1` to `100` (default)",
    does: "of a hundred requests so many are copied",
    read: |value| {
        number(value.trim_end_matches('%'), 1, 100).map(|percent| u8::try_from(percent).unwrap_or(100))
    },
};

pub(in crate::translate) static MIRROR_MAX_BODY_BYTES: Annotation<u64> = Annotation {
    name: "sekisho.io/mirror-max-body-bytes",
    on: INGRESS,
    values: "a size up to `1m`; `64k`",
    does: "a request with a larger body is not copied",
    read: |value| bounded_size(value, 1 << 20),
};

pub(in crate::translate) static BUFFER_REQUESTS: Annotation<u64> = Annotation {
    name: "sekisho.io/buffer-requests",
    on: INGRESS,
    values: "a size up to `64m`: `1m`",
    does: "request bodies up to this size are [gathered](http.md#gathered-bodies) before a pod is asked; a larger one is refused (413)",
    read: |value| bounded_size(value, 64 << 20),
};

pub(in crate::translate) static BUFFER_RESPONSES: Annotation<u64> = Annotation {
    name: "sekisho.io/buffer-responses",
    on: INGRESS,
    values: "a size up to `64m`: `1m`",
    does: "answers up to this size are [gathered](http.md#gathered-bodies) before they go to the client; of a larger one so much",
    read: |value| bounded_size(value, 64 << 20),
};
