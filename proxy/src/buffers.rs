//! Buffers that a worker's connections share: a connection has one only while octets are in it.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Octets that are read at a time: most header sections and small bodies fit.
const SMALL: usize = 16 * 1024;
/// Octets that are read at a time where a body fills the small ones.
const LARGE: usize = 64 * 1024;
/// Octets left free in front of what is read. A TLS record is copied to 5 octets behind the beginning of its own buffer;
/// where both buffers begin alike, the copy goes to a place 1 to 15 octets further in its page than the source, and that is
/// 20 times slower on some processors (`rep movsb` of AMD's Zen 4).
const AHEAD: usize = 64;
/// Less room than this is not worth a read.
const ROOM: usize = 2048;
/// Free buffers that a worker keeps, of each size.
const SPARE: usize = 64;

thread_local! {
    static SPARES: RefCell<[Vec<BytesMut>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn take(large: bool) -> BytesMut {
    let mut buffer = SPARES.with_borrow_mut(|[small, big]| {
        let (list, size) = if large { (big, LARGE) } else { (small, SMALL) };
        list.pop()
            .unwrap_or_else(|| BytesMut::with_capacity(size + AHEAD))
    });
    step_ahead(&mut buffer);
    buffer
}

/// Leaves the place in front free, in an empty buffer.
fn step_ahead(buffer: &mut BytesMut) {
    buffer.put_bytes(0, AHEAD);
    buffer.advance(AHEAD);
}

/// Gives a buffer back whose octets are used up. Pieces of it that somebody holds still stay whole.
pub(crate) fn give(buffer: &mut BytesMut) {
    let mut buffer = std::mem::take(buffer);
    if buffer.capacity() == 0 {
        return;
    }
    buffer.clear();
    SPARES.with_borrow_mut(|[small, large]| {
        // Where a piece is held still the room behind it is what is left; the rest comes back when the piece goes.
        if buffer.capacity() > SMALL + AHEAD || buffer.try_reclaim(LARGE + AHEAD) {
            if large.len() < SPARE && buffer.try_reclaim(LARGE + AHEAD) {
                large.push(buffer);
            }
        } else if small.len() < SPARE && buffer.try_reclaim(SMALL + AHEAD) {
            small.push(buffer);
        }
    });
}

/// Reads into `buffer`, which is given room as it needs it. `streaming`: octets come faster than they are taken. `Ok(0)` is
/// the end of the stream.
pub(crate) fn poll_fill(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
    streaming: bool,
) -> Poll<std::io::Result<usize>> {
    if buffer.capacity() == 0 {
        *buffer = take(streaming);
    } else if buffer.capacity() - buffer.len() < ROOM {
        let want = if streaming { LARGE } else { SMALL };
        // Most often the octets before have been used up, and new ones take their place.
        if buffer.try_reclaim(want + AHEAD) {
            if buffer.is_empty() {
                step_ahead(buffer);
            }
        } else if buffer.is_empty() {
            give(buffer);
            *buffer = take(streaming);
        } else {
            buffer.reserve(want);
        }
    }
    poll_read_buf(Pin::new(stream), cx, buffer)
}

/// A vector to write into and to forget: empty at the beginning, its room stays.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // Taken out, so that work may come here again.
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let done = work(&mut scratch);
    if scratch.capacity() <= 4 * LARGE {
        SCRATCH.set(scratch);
    }
    done
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Room, what is left free in front, and octets are there again when a buffer is used again.
    #[tokio::test]
    async fn buffers_come_back() {
        let (mut source, mut sink) = tokio::io::duplex(LARGE);
        for (streaming, size) in [(false, SMALL), (false, SMALL), (true, LARGE), (true, LARGE)] {
            let mut buffer = BytesMut::new();
            for _ in 0..3 {
                source.write_all(b"octets").await.unwrap();
                let count = poll_fn(|cx| poll_fill(&mut sink, cx, &mut buffer, streaming)).await;
                assert_eq!(count.unwrap(), 6);
            }
            assert_eq!(buffer.capacity(), size);
            assert_eq!(&buffer.split_to(18)[..], b"octetsoctetsoctets");
            give(&mut buffer);
            let kept = SPARES.with_borrow(|[small, large]| if streaming { large.len() } else { small.len() });
            assert_eq!((kept, buffer.capacity()), (1, 0));
        }
    }
}
