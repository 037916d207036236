//! The rows that say what becomes of bodies on their way.

use std::sync::Arc;

use sekisho_config::model::{Encoding, MediaRange};

use super::read::{list, size};
use super::{Annotation, Row};
use crate::text::printable;
use crate::world::Kind;

const INGRESS: &[Kind] = &[Kind::Ingress];

/// Those of this file, for the table.
pub(super) static ROWS: &[&dyn Row] = &[&COMPRESSION, &COMPRESSION_MIN_BYTES, &COMPRESSION_TYPES];

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
