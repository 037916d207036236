//! What is on its way to a socket: written at once as far as the socket takes it, the rest kept until it takes more.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Octets that wait for a socket.
#[derive(Debug, Default)]
pub(crate) struct Output {
    queue: VecDeque<Bytes>,
    /// The stream may hold octets itself (TLS).
    unflushed: bool,
}

impl Output {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.unflushed
    }

    /// Writes `head`, `body` and `tail`, or keeps what the stream does not take now. Gives the number of octets written.
    ///
    /// # Errors
    /// Nothing was written. Behind the first octet an error shows when what is left is to be sent.
    pub(crate) fn put(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
        head: &[u8],
        body: Option<Bytes>,
        tail: &'static [u8],
    ) -> io::Result<usize> {
        let body = body.unwrap_or_default();
        let whole = head.len() + body.len() + tail.len();
        let mut written = 0;
        while self.queue.is_empty() && written < whole {
            let rest = |piece: &[u8], before: usize| written.saturating_sub(before).min(piece.len());
            let head_rest = head.get(rest(head, 0)..).unwrap_or_default();
            let body_rest = body.get(rest(&body, head.len())..).unwrap_or_default();
            let tail_rest = tail
                .get(rest(tail, head.len() + body.len())..)
                .unwrap_or_default();
            let polled = if head_rest.len() == whole - written {
                Pin::new(&mut *stream).poll_write(cx, head_rest)
            } else {
                let pieces = [
                    IoSlice::new(head_rest),
                    IoSlice::new(body_rest),
                    IoSlice::new(tail_rest),
                ];
                Pin::new(&mut *stream).poll_write_vectored(cx, &pieces)
            };
            match polled {
                Poll::Ready(Ok(0)) if written == 0 => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(error)) if written == 0 => return Err(error),
                Poll::Ready(Ok(count @ 1..)) => {
                    written += count;
                    self.unflushed = true;
                }
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        if written < whole {
            let mut skip = written;
            for piece in [Bytes::copy_from_slice(head), body, Bytes::from_static(tail)] {
                let gone = skip.min(piece.len());
                skip -= gone;
                if gone < piece.len() {
                    self.queue.push_back(piece.slice(gone..));
                }
            }
        } else if let Poll::Ready(Ok(())) = Pin::new(stream).poll_flush(cx) {
            self.unflushed = false;
        }
        Ok(written)
    }

    /// Ready when nothing waits any more.
    pub(crate) fn poll_drain(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let polled = match &mut *self.queue.make_contiguous() {
                [one] => Pin::new(&mut *stream).poll_write(cx, one),
                many => {
                    let mut pieces = [IoSlice::new(&[]); 8];
                    for (slice, piece) in pieces.iter_mut().zip(many) {
                        *slice = IoSlice::new(piece);
                    }
                    Pin::new(&mut *stream).poll_write_vectored(cx, &pieces)
                }
            };
            let mut count = ready!(polled)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            while let Some(piece) = self.queue.front_mut() {
                let gone = count.min(piece.len());
                piece.advance(gone);
                count -= gone;
                if !piece.is_empty() {
                    break;
                }
                self.queue.pop_front();
            }
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    /// Takes so many octets, and then nothing more.
    struct Breaks(usize);

    impl AsyncWrite for Breaks {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = self.0.min(octets.len());
            self.0 -= count;
            Poll::Ready(if count == 0 {
                Err(io::ErrorKind::ConnectionReset.into())
            } else {
                Ok(count)
            })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What has left has left: nobody may believe that nothing was sent.
    #[tokio::test]
    async fn an_error_behind_the_first_octet_shows_later() {
        for (takes, want) in [(0, None), (3, Some(3)), (7, Some(7)), (8, Some(8))] {
            let (mut stream, mut output) = (Breaks(takes), Output::default());
            let body = || Some(Bytes::from_static(b"body"));
            let put = poll_fn(|cx| Poll::Ready(output.put(&mut stream, cx, b"head", body(), b""))).await;
            assert_eq!(put.ok(), want, "{takes}");
            let drained = poll_fn(|cx| output.poll_drain(&mut stream, cx)).await;
            assert_eq!(drained.is_err(), want.is_some(), "{takes}");
        }
    }

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order() {
        let octets: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        for (head, body) in [(0, 0), (5, 0), (0, 5), (300, 700), (10, 90), (64, 64), (100, 1)] {
            // The pipe takes 64 octets at a time.
            let (mut ours, mut theirs) = duplex(64);
            let mut output = Output::default();
            let sent = [&octets[..head], &octets[..body], b"end", b"more"].concat();
            let reading = async {
                let mut got = vec![0; sent.len()];
                theirs.read_exact(&mut got).await.unwrap();
                got
            };
            let writing = async {
                poll_fn(|cx| {
                    let body = Some(Bytes::copy_from_slice(&octets[..body]));
                    Poll::Ready(output.put(&mut ours, cx, &octets[..head], body, b"end"))
                })
                .await
                .unwrap();
                poll_fn(|cx| Poll::Ready(output.put(&mut ours, cx, b"more", None, b"")))
                    .await
                    .unwrap();
                poll_fn(|cx| output.poll_drain(&mut ours, cx)).await.unwrap();
                assert!(output.is_empty());
            };
            let (got, ()) = tokio::join!(reading, writing);
            assert_eq!(got, sent, "{head} {body}");
        }
    }
}
