//! Buffers that a worker's connections share: a connection has one only while octets are in it.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Octets that are read at a time: most header sections and small bodies fit.
const SMALL: usize = 16 * 1024;
/// Octets that are read at a time where a body fills the small ones.
const LARGE: usize = 64 * 1024;
/// Less room than this is not worth a read.
const ROOM: usize = 2048;
/// Free buffers that a worker keeps, of each size.
const SPARE: usize = 64;

thread_local! {
    static SPARES: RefCell<[Vec<BytesMut>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn take(large: bool) -> BytesMut {
    SPARES.with_borrow_mut(|[small, big]| {
        let (list, size) = if large { (big, LARGE) } else { (small, SMALL) };
        list.pop().unwrap_or_else(|| BytesMut::with_capacity(size))
    })
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
        if buffer.capacity() > SMALL || buffer.try_reclaim(LARGE) {
            if large.len() < SPARE && buffer.try_reclaim(LARGE) {
                large.push(buffer);
            }
        } else if small.len() < SPARE && buffer.try_reclaim(SMALL) {
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
        if !buffer.try_reclaim(want) {
            if buffer.is_empty() {
                give(buffer);
                *buffer = take(streaming);
            } else {
                buffer.reserve(want);
            }
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
