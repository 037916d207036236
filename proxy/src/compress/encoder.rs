//! Octets in, fewer octets out. Levels and windows are chosen so that one answer costs a few hundred KiB and no more
//! processor than sending it is worth; a short answer gets a small window.

use std::io::{self, Write as _};

use brotli::CompressorWriter;
use flate2::{Compress, FlushCompress, Status};
use sekisho_config::model::Encoding;
use zstd::stream::raw::{CParameter, InBuffer, Operation as _, OutBuffer};

/// Octets that are taken at a time: what one turn of the worker may cost.
const SLICE: usize = 16 * 1024;
/// Room for what comes out of them.
const ROOM: usize = 16 * 1024;

const GZIP_LEVEL: u32 = 4;
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// Windows, as powers of two; gzip knows none that is larger than its largest here.
const GZIP_WINDOWS: (u8, u8) = (9, 15);
const BROTLI_WINDOWS: (u8, u8) = (10, 18);
const ZSTD_WINDOWS: (u8, u8) = (10, 18);

/// One answer on its way.
pub(crate) enum Encoder {
    Gzip(Compress),
    /// `None`: its end is written.
    Brotli(Option<Box<CompressorWriter<Vec<u8>>>>),
    Zstd(zstd::stream::raw::Encoder<'static>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
        })
    }
}

/// The smallest window that holds `length` octets, or the largest.
fn window(length: Option<u64>, (least, most): (u8, u8)) -> u8 {
    let needed = length.map_or_else(
        || u32::from(most),
        |length| u64::BITS - length.saturating_sub(1).leading_zeros(),
    );
    u8::try_from(needed).unwrap_or(most).clamp(least, most)
}

impl Encoder {
    /// For a body of `length` octets, where that is known.
    pub(crate) fn new(encoding: Encoding, length: Option<u64>) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Gzip => Self::Gzip(Compress::new_gzip(
                flate2::Compression::new(GZIP_LEVEL),
                window(length, GZIP_WINDOWS),
            )),
            Encoding::Brotli => Self::Brotli(Some(Box::new(CompressorWriter::new(
                Vec::new(),
                4096,
                BROTLI_QUALITY,
                u32::from(window(length, BROTLI_WINDOWS)),
            )))),
            Encoding::Zstd => {
                let mut encoder = zstd::stream::raw::Encoder::new(ZSTD_LEVEL)?;
                let window = u32::from(window(length, ZSTD_WINDOWS));
                encoder.set_parameter(CParameter::WindowLog(window))?;
                encoder.set_parameter(CParameter::HashLog(window.min(16)))?;
                encoder.set_parameter(CParameter::ChainLog(window.min(15)))?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Memory that one takes: what was measured (441 KiB, 2115 KiB, 1088 KiB for the largest window), rounded up.
    pub(crate) fn memory(encoding: Encoding, length: Option<u64>) -> usize {
        let window = |windows| 1usize << window(length, windows);
        match encoding {
            Encoding::Gzip => window(GZIP_WINDOWS) * 4 + 320 * 1024,
            Encoding::Brotli => window(BROTLI_WINDOWS) * 4 + 1280 * 1024,
            Encoding::Zstd => window(ZSTD_WINDOWS) * 2 + 768 * 1024,
        }
    }

    /// Takes octets from the front of `input`; says how many.
    pub(crate) fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let input = input.get(..SLICE).unwrap_or(input);
        out.reserve(ROOM);
        match self {
            Self::Gzip(deflate) => {
                let before = deflate.total_in();
                deflate.compress_vec(input, out, FlushCompress::None)?;
                usize::try_from(deflate.total_in() - before).map_err(io::Error::other)
            }
            Self::Brotli(writer) => {
                let writer = writer.as_mut().ok_or(io::ErrorKind::WriteZero)?;
                writer.write_all(input)?;
                out.append(writer.get_mut());
                Ok(input.len())
            }
            Self::Zstd(encoder) => {
                let mut from = InBuffer::around(input);
                let at = out.len();
                encoder.run(&mut from, &mut OutBuffer::around_pos(out, at))?;
                Ok(from.pos())
            }
        }
    }

    /// Writes what it holds, so that everything taken so far can be read; `true`: all of it.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        out.reserve(ROOM);
        match self {
            Self::Gzip(deflate) => {
                deflate.compress_vec(&[], out, FlushCompress::Sync)?;
                // Where there is room left there was no more to write.
                Ok(out.len() < out.capacity())
            }
            Self::Brotli(writer) => {
                let writer = writer.as_mut().ok_or(io::ErrorKind::WriteZero)?;
                writer.flush()?;
                out.append(writer.get_mut());
                Ok(true)
            }
            Self::Zstd(encoder) => {
                let at = out.len();
                Ok(encoder.flush(&mut OutBuffer::around_pos(out, at))? == 0)
            }
        }
    }

    /// Writes the end; `true`: all of it.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        out.reserve(ROOM);
        match self {
            Self::Gzip(deflate) => {
                let status = deflate.compress_vec(&[], out, FlushCompress::Finish)?;
                Ok(status == Status::StreamEnd)
            }
            Self::Brotli(writer) => {
                if let Some(writer) = writer.take() {
                    out.append(&mut writer.into_inner());
                }
                Ok(true)
            }
            Self::Zstd(encoder) => {
                let at = out.len();
                Ok(encoder.finish(&mut OutBuffer::around_pos(out, at), true)? == 0)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;
    use sekisho_config::model::Encoding::{Brotli, Gzip, Zstd};

    use super::*;

    /// What an independent reader makes of compressed octets; an error where they are not whole.
    pub(crate) fn decoded(encoding: Encoding, octets: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        match encoding {
            Gzip => {
                flate2::read::MultiGzDecoder::new(octets).read_to_end(&mut text)?;
            }
            Brotli => {
                brotli::Decompressor::new(octets, 4096).read_to_end(&mut text)?;
            }
            Zstd => {
                zstd::stream::read::Decoder::new(octets)?.read_to_end(&mut text)?;
            }
        }
        Ok(text)
    }

    #[test]
    fn windows() {
        for (length, want) in [
            (None, 18),
            (Some(0), 10),
            (Some(1024), 10),
            (Some(1025), 11),
            (Some(100_000), 17),
            (Some(1 << 18), 18),
            (Some(u64::MAX), 18),
        ] {
            assert_eq!(window(length, (10, 18)), want, "{length:?}");
        }
    }

    #[test]
    fn what_was_taken_can_be_read_after_a_flush() {
        for encoding in [Gzip, Brotli, Zstd] {
            let mut encoder = Encoder::new(encoding, None).unwrap();
            let mut out = Vec::new();
            for piece in ["one ", "two ", "three "] {
                assert_eq!(encoder.encode(piece.as_bytes(), &mut out).unwrap(), piece.len());
                while !encoder.flush(&mut out).unwrap() {}
                // Read as far as it goes: the end is not there.
                let mut text = Vec::new();
                let mut octet = [0];
                let mut reader: Box<dyn io::Read> = match encoding {
                    Gzip => Box::new(flate2::read::GzDecoder::new(&out[..])),
                    Brotli => Box::new(brotli::Decompressor::new(&out[..], 4096)),
                    Zstd => Box::new(zstd::stream::read::Decoder::new(&out[..]).unwrap()),
                };
                while matches!(reader.read(&mut octet), Ok(1)) {
                    text.push(octet[0]);
                }
                assert!(text.ends_with(piece.as_bytes()), "{encoding:?}: {text:?}");
            }
            assert!(decoded(encoding, &out).is_err(), "{encoding:?} looks whole");
        }
    }

    /// Text that repeats itself, and noise, which does not.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..70_000),
            (proptest::collection::vec(any::<u8>(), 1..64), 0..4000usize)
                .prop_map(|(word, times)| word.repeat(times)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// However the body comes in, and wherever it pauses, what goes out is the body.
        #[test]
        fn the_body_comes_back(
            body in body(),
            splits in proptest::collection::vec((0..40_000usize, any::<bool>()), 0..12),
            known: bool,
        ) {
            for encoding in [Gzip, Brotli, Zstd] {
                let mut encoder = Encoder::new(encoding, known.then_some(body.len() as u64)).unwrap();
                let mut out = Vec::new();
                let mut rest = &body[..];
                for (at, pause) in &splits {
                    let (mut piece, after) = rest.split_at(rest.len().min(*at));
                    rest = after;
                    while !piece.is_empty() {
                        let taken = encoder.encode(piece, &mut out).unwrap();
                        piece = &piece[taken..];
                    }
                    if *pause {
                        while !encoder.flush(&mut out).unwrap() {}
                    }
                }
                while !rest.is_empty() {
                    let taken = encoder.encode(rest, &mut out).unwrap();
                    rest = &rest[taken..];
                }
                while !encoder.finish(&mut out).unwrap() {}
                prop_assert_eq!(decoded(encoding, &out).unwrap(), body.clone());
            }
        }
    }
}
