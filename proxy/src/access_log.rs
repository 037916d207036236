//! The access log: JSON lines, built by the workers, written by one thread.
//!
//! A worker collects lines in a buffer of its own and hands it over when it is full or a moment old. The queue to the
//! writer is bounded: when the reader of standard output does not keep up, lines are dropped and counted.

use std::cell::RefCell;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use jiff::Timestamp;

use crate::metrics::{Cell, Counters};

/// A buffer is handed over when it holds this many octets.
const CHUNK: usize = 32 * 1024;
/// Buffers that wait for the writer at most; beyond it lines are dropped.
const QUEUE: usize = 256;

/// The way to the writer thread.
#[derive(Clone, Debug)]
pub(crate) struct Sender(SyncSender<Vec<u8>>);

/// Starts the writer thread; it ends when the last [`Sender`] is gone.
pub(crate) fn writer(out: Box<dyn Write + Send>) -> std::io::Result<(Sender, std::thread::JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(QUEUE);
    let thread = std::thread::Builder::new()
        .name("access-log".into())
        .spawn(move || write(out, &receiver))?;
    Ok((Sender(sender), thread))
}

fn write(mut out: Box<dyn Write + Send>, chunks: &Receiver<Vec<u8>>) {
    let mut failing = false;
    for chunk in chunks {
        match out.write_all(&chunk).and_then(|()| out.flush()) {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "the access log cannot be written; lines are lost until it can");
            }
            Err(_) => {}
        }
    }
}

/// The lines of one worker that are not handed over yet.
#[derive(Debug)]
pub(crate) struct Lines {
    buffer: RefCell<(Vec<u8>, u64)>,
    clock: RefCell<(i64, String)>,
    sender: Sender,
}

impl Lines {
    pub(crate) fn new(sender: Sender) -> Self {
        Self {
            buffer: RefCell::default(),
            clock: RefCell::new((i64::MIN, String::new())),
            sender,
        }
    }

    /// Adds one line: `fields` writes them.
    pub(crate) fn line(&self, counters: &Counters, fields: impl FnOnce(&mut Fields<'_>)) {
        let full = {
            let mut buffer = self.buffer.borrow_mut();
            let (octets, lines) = &mut *buffer;
            octets.extend_from_slice(b"{\"time\":\"");
            self.time(octets);
            octets.push(b'"');
            fields(&mut Fields(octets));
            octets.extend_from_slice(b"}\n");
            *lines += 1;
            octets.len() >= CHUNK
        };
        if full {
            self.hand_over(counters);
        }
    }

    /// Appends the time in RFC 3339 with milliseconds; the part down to the second is made once a second.
    fn time(&self, octets: &mut Vec<u8>) {
        let now = Timestamp::now();
        let mut clock = self.clock.borrow_mut();
        if clock.0 != now.as_second() {
            let text = now.to_string();
            clock.1 = text.get(..19).unwrap_or_default().to_owned();
            clock.0 = now.as_second();
        }
        octets.extend_from_slice(clock.1.as_bytes());
        let _ = write!(octets, ".{:03}Z", now.subsec_millisecond().clamp(0, 999));
    }

    /// Gives what is collected to the writer, or drops and counts it.
    pub(crate) fn hand_over(&self, counters: &Counters) {
        let (octets, lines) = std::mem::take(&mut *self.buffer.borrow_mut());
        if lines == 0 {
            return;
        }
        match self.sender.0.try_send(octets) {
            Ok(()) => counters.add(Cell::LogLines, lines),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                counters.add(Cell::LogDropped, lines)
            }
        }
    }
}

/// Writes the fields of one line.
pub(crate) struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A text field; control characters, quotes and what is not UTF-8 are escaped.
    pub(crate) fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.0.push(b'"');
        escape(self.0, value);
        self.0.push(b'"');
    }

    /// Anything that prints as a JSON number.
    pub(crate) fn number(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        let _ = write!(self.0, "{value}");
    }

    /// A duration in seconds with microseconds.
    pub(crate) fn seconds(&mut self, key: &str, value: std::time::Duration) {
        self.key(key);
        let _ = write!(self.0, "{}.{:06}", value.as_secs(), value.subsec_micros());
    }

    /// Anything that prints without characters that JSON must escape: an address, a number, a name of ours.
    pub(crate) fn plain(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        let _ = write!(self.0, "\"{value}\"");
    }
}

fn escape(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for octet in chunk.valid().bytes() {
            match octet {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
                0..=0x1f | 0x7f => {
                    let _ = write!(out, "\\u{octet:04x}");
                }
                _ => out.push(octet),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_octets_make_valid_json(value: Vec<u8>) {
            let mut line = b"{\"a\":1".to_vec();
            Fields(&mut line).text("value", &value);
            line.push(b'}');
            let parsed: serde_json::Value = serde_json::from_slice(&line).unwrap();
            proptest::prop_assert_eq!(parsed["value"].as_str().unwrap(), String::from_utf8_lossy(&value));
        }
    }
}
