//! The access log: lines, built by the workers, written by one thread to standard output or a file.
//!
//! A worker collects lines in a buffer of its own and hands it over when it is full or a moment old. The queue to the
//! writer is bounded: when the reader of standard output does not keep up, lines are dropped and counted.

use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::metrics::{Cell, Counters};

/// A buffer is handed over when it holds this many octets.
const CHUNK: usize = 32 * 1024;
/// Buffers that wait for the writer at most; beyond it lines are dropped.
const QUEUE: usize = 256;
/// How often it is looked whether the file was renamed.
const LOOK: Duration = Duration::from_secs(1);

/// The way to the writer thread.
#[derive(Clone, Debug)]
pub(crate) struct Sender(SyncSender<Vec<u8>>);

/// Starts the writer thread; it ends when the last [`Sender`] is gone. `file` names the file that is to be written to, as
/// it is now; without one, lines go to `out`.
pub(crate) fn writer(
    out: Box<dyn Write + Send>,
    file: impl Fn() -> Option<Arc<Path>> + Send + 'static,
) -> std::io::Result<(Sender, std::thread::JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(QUEUE);
    let thread = std::thread::Builder::new()
        .name("access-log".into())
        .spawn(move || write(Output { out, opened: None }, &file, &receiver))?;
    Ok((Sender(sender), thread))
}

fn write(mut output: Output, file: &dyn Fn() -> Option<Arc<Path>>, chunks: &Receiver<Vec<u8>>) {
    let mut failing = false;
    for chunk in chunks {
        let file = file();
        match output.write(file.as_ref(), &chunk) {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                let file = file.map(|file| file.display().to_string());
                tracing::warn!(%error, file, "the access log cannot be written; lines are lost until it can");
            }
            Err(_) => {}
        }
    }
}

/// Where lines go.
struct Output {
    out: Box<dyn Write + Send>,
    opened: Option<Opened>,
}

struct Opened {
    path: Arc<Path>,
    file: File,
    /// When it was last known to be the file of that name.
    looked: Instant,
}

impl Output {
    fn write(&mut self, file: Option<&Arc<Path>>, chunk: &[u8]) -> std::io::Result<()> {
        let Some(path) = file else {
            self.opened = None;
            self.out.write_all(chunk)?;
            return self.out.flush();
        };
        if !self.opened.as_mut().is_some_and(|opened| opened.is_still(path)) {
            self.opened = None;
            let file = File::options().create(true).append(true).open(path)?;
            self.opened = Some(Opened {
                path: Arc::clone(path),
                file,
                looked: Instant::now(),
            });
        }
        self.opened
            .as_mut()
            .map_or(Ok(()), |opened| opened.file.write_all(chunk))
    }
}

impl Opened {
    /// Whether it is the file of this name: rotation renames it.
    fn is_still(&mut self, path: &Arc<Path>) -> bool {
        if self.path != *path {
            return false;
        }
        if self.looked.elapsed() < LOOK {
            return true;
        }
        self.looked = Instant::now();
        let number = |meta: std::io::Result<Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
        number(self.file.metadata()) == number(std::fs::metadata(path))
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

    /// Adds one line as a JSON object: `fields` writes them.
    pub(crate) fn line(&self, counters: &Counters, fields: impl FnOnce(&mut Fields<'_>)) {
        self.add(counters, |octets| {
            octets.extend_from_slice(b"{\"time\":\"");
            self.time(octets);
            octets.push(b'"');
            fields(&mut Fields(octets));
            octets.push(b'}');
        });
    }

    /// Adds one line in the combined format.
    pub(crate) fn combined(&self, counters: &Counters, line: &Combined<'_>) {
        self.add(counters, |octets| line.write(octets, &Timestamp::now()));
    }

    fn add(&self, counters: &Counters, write: impl FnOnce(&mut Vec<u8>)) {
        let full = {
            let mut buffer = self.buffer.borrow_mut();
            let (octets, lines) = &mut *buffer;
            write(octets);
            octets.push(b'\n');
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

/// One line of the combined format: `client - user [time] "request" status octets "referer" "user agent"`.
pub(crate) struct Combined<'a> {
    pub(crate) client: std::net::IpAddr,
    pub(crate) user: Option<&'a [u8]>,
    pub(crate) request: [&'a [u8]; 3],
    pub(crate) status: u16,
    pub(crate) bytes_out: u64,
    pub(crate) referer: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
}

impl Combined<'_> {
    fn write(&self, out: &mut Vec<u8>, now: &Timestamp) {
        let _ = write!(out, "{} - ", self.client);
        plain(out, self.user.unwrap_or(b"-"));
        let _ = write!(out, " [{}] \"", now.strftime("%d/%b/%Y:%H:%M:%S +0000"));
        for (index, part) in self.request.iter().enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            plain(out, part);
        }
        let _ = write!(out, "\" {} {} \"", self.status, self.bytes_out);
        plain(out, self.referer.unwrap_or(b"-"));
        out.extend_from_slice(b"\" \"");
        plain(out, self.user_agent.unwrap_or(b"-"));
        out.push(b'"');
    }
}

/// As nginx escapes it: quotes, backslashes and what is no printable ASCII as `\xHH`, so that no client makes a line.
fn plain(out: &mut Vec<u8>, value: &[u8]) {
    for octet in value {
        match octet {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                let _ = write!(out, "\\x{octet:02X}");
            }
            _ => out.push(*octet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_combined_format() {
        let mut out = Vec::new();
        let line = Combined {
            client: "192.0.2.1".parse().unwrap(),
            user: Some(b"eve"),
            request: [b"GET", b"/a\"b\n", b"HTTP/1.1"],
            status: 200,
            bytes_out: 17,
            referer: None,
            user_agent: Some("caf\u{e9} \\".as_bytes()),
        };
        line.write(&mut out, &Timestamp::from_second(1_000_000_000).unwrap());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"192.0.2.1 - eve [09/Sep/2001:01:46:40 +0000] "GET /a\x22b\x0A HTTP/1.1" 200 17 "-" "caf\xC3\xA9 \x5C""#
        );
    }

    #[test]
    fn a_renamed_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("access.log").into();
        let mut output = Output {
            out: Box::new(std::io::sink()),
            opened: None,
        };
        output.write(Some(&path), b"one\n").unwrap();
        let old = folder.path().join("access.log.1");
        std::fs::rename(&path, &old).unwrap();
        // Within the second it goes on where it was.
        output.write(Some(&path), b"two\n").unwrap();
        output.opened.as_mut().unwrap().looked -= LOOK;
        output.write(Some(&path), b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        // A folder that is not there costs these lines and nothing else.
        let nowhere: Arc<Path> = folder.path().join("none/access.log").into();
        output.write(Some(&nowhere), b"lost\n").unwrap_err();
        output.write(Some(&path), b"four\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\nfour\n");
    }

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
