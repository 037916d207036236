//! A body compressed piece by piece. What has come goes out when the body pauses, so that nobody waits for what is there;
//! the end is written only when the body has come to its own.

use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::body::{BodyError, Piece};
use crate::compress::Encoder;
use crate::fields::Fields;
use crate::http::frame::Frame;

/// Octets that go out in one piece, about.
const ENOUGH: usize = 16 * 1024;
/// Octets that are compressed in one turn; then others get theirs.
const TURN: usize = 128 * 1024;

#[derive(Debug)]
pub(super) struct Coder {
    encoder: Encoder,
    state: State,
    /// What has come and is not compressed.
    input: Bytes,
    /// What is compressed and has not gone.
    out: Vec<u8>,
    /// Something is in the encoder that was not flushed.
    dirty: bool,
    trailers: Option<Fields>,
    /// Octets so far.
    pub(super) taken: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Body,
    Flush,
    Finish,
    /// The end is written; trailers may be left.
    Written,
    Over,
    Broken,
}

impl Coder {
    pub(super) fn new(encoder: Encoder) -> Self {
        Self {
            encoder,
            state: State::Body,
            input: Bytes::new(),
            out: Vec::new(),
            dirty: false,
            trailers: None,
            taken: 0,
        }
    }

    /// Everything was handed over.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The next piece; `ask` gives those of the body.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ask: &mut dyn FnMut(&mut Context<'_>) -> Poll<Piece>,
    ) -> Poll<Piece> {
        let mut turn = 0;
        loop {
            if self.out.len() >= ENOUGH {
                return Poll::Ready(Some(Ok(self.piece())));
            }
            let stepped = match self.state {
                State::Body if !self.input.is_empty() => {
                    if turn >= TURN {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    self.encoder.encode(&self.input, &mut self.out).map(|taken| {
                        self.input.advance(taken);
                        turn += taken;
                        self.dirty = true;
                    })
                }
                State::Body => match ask(cx) {
                    Poll::Pending if self.dirty => {
                        self.state = State::Flush;
                        Ok(())
                    }
                    Poll::Pending if self.out.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Some(Ok(self.piece()))),
                    Poll::Ready(Some(Err(error))) => {
                        self.state = State::Broken;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(None) => {
                        self.state = State::Finish;
                        Ok(())
                    }
                    Poll::Ready(Some(Ok(frame))) => {
                        match frame.into_data() {
                            Ok(data) => {
                                self.taken += data.len() as u64;
                                self.input = data;
                            }
                            Err(other) => {
                                self.trailers = other.into_trailers().ok();
                                self.state = State::Finish;
                            }
                        }
                        Ok(())
                    }
                },
                State::Flush => self.encoder.flush(&mut self.out).map(|all| {
                    if all {
                        self.dirty = false;
                        self.state = State::Body;
                    }
                }),
                State::Finish => self.encoder.finish(&mut self.out).map(|all| {
                    if all {
                        self.state = State::Written;
                    }
                }),
                State::Written => {
                    if self.trailers.is_none() {
                        self.state = State::Over;
                    }
                    if !self.out.is_empty() {
                        return Poll::Ready(Some(Ok(self.piece())));
                    }
                    self.state = State::Over;
                    return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
                }
                State::Over | State::Broken => return Poll::Ready(None),
            };
            if let Err(error) = stepped {
                self.state = State::Broken;
                return Poll::Ready(Some(Err(BodyError::Io(error))));
            }
        }
    }

    fn piece(&mut self) -> Frame {
        Frame::data(Bytes::from(std::mem::take(&mut self.out)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use http::HeaderValue;
    use proptest::prelude::*;
    use sekisho_config::model::Encoding::{self, Brotli, Gzip, Zstd};

    use super::*;
    use crate::compress::tests::decoded;

    /// What a body does when it is asked.
    #[derive(Clone, Debug)]
    enum Step {
        Data(Vec<u8>),
        Pause,
        Trailers,
        Break,
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What comes out: octets before each pause, trailers, whether it broke.
    #[derive(Debug, Default)]
    struct Out {
        pieces: Vec<Vec<u8>>,
        trailers: bool,
        broken: bool,
    }

    fn run(encoding: Encoding, steps: &[Step]) -> Out {
        let mut steps: VecDeque<Step> = steps.iter().cloned().collect();
        let mut coder = Coder::new(Encoder::new(encoding, None).unwrap());
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut out = Out {
            pieces: vec![Vec::new()],
            ..Out::default()
        };
        let mut paused = false;
        loop {
            let before = woken.0.load(Ordering::SeqCst);
            let mut asked_in_vain = false;
            let polled = coder.poll(&mut cx, &mut |_| match steps.front() {
                Some(Step::Pause) if !paused => {
                    asked_in_vain = true;
                    paused = true;
                    Poll::Pending
                }
                Some(Step::Pause) => {
                    // Asked again in the same pause: still nothing, until the pause was seen outside.
                    asked_in_vain = true;
                    Poll::Pending
                }
                None => Poll::Ready(None),
                Some(Step::Data(_) | Step::Trailers | Step::Break) => {
                    Poll::Ready(Some(match steps.pop_front() {
                        Some(Step::Data(data)) => Ok(Frame::data(data.into())),
                        Some(Step::Trailers) => {
                            let mut map = Fields::new();
                            map.insert(
                                http::HeaderName::from_static("x-sum"),
                                HeaderValue::from_static("1"),
                            );
                            Ok(Frame::trailers(map))
                        }
                        _ => Err(BodyError::Length),
                    }))
                }
            });
            match polled {
                Poll::Pending if asked_in_vain => {
                    // The pause is over.
                    assert!(matches!(steps.pop_front(), Some(Step::Pause)));
                    paused = false;
                    out.pieces.push(Vec::new());
                }
                Poll::Pending => assert!(woken.0.load(Ordering::SeqCst) > before, "nobody wakes it"),
                Poll::Ready(None) => {
                    assert!(coder.is_over() || out.broken);
                    return out;
                }
                Poll::Ready(Some(Err(_))) => out.broken = true,
                Poll::Ready(Some(Ok(frame))) => {
                    assert!(!out.broken && !out.trailers);
                    match frame.into_data() {
                        Ok(data) => out.pieces.last_mut().unwrap().extend_from_slice(&data),
                        Err(_) => out.trailers = true,
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_there_goes_out_when_the_body_pauses() {
        let data = |text: &str| Step::Data(text.as_bytes().to_vec());
        for encoding in [Gzip, Brotli, Zstd] {
            let out = run(
                encoding,
                &[
                    Step::Pause,
                    data("one"),
                    data("two"),
                    Step::Pause,
                    Step::Pause,
                    data("three"),
                    Step::Trailers,
                ],
            );
            let sizes: Vec<bool> = out.pieces.iter().map(|piece| piece.is_empty()).collect();
            assert_eq!(sizes, [true, false, true, false], "{encoding:?}");
            assert!(out.trailers && !out.broken);
            assert_eq!(decoded(encoding, &out.pieces.concat()).unwrap(), b"onetwothree");
        }
    }

    #[test]
    fn what_breaks_off_has_no_end() {
        for encoding in [Gzip, Brotli, Zstd] {
            for steps in [
                vec![Step::Break],
                vec![Step::Data(b"half".repeat(10_000)), Step::Break],
                vec![Step::Data(b"half".to_vec()), Step::Pause, Step::Break],
            ] {
                let out = run(encoding, &steps);
                assert!(out.broken, "{encoding:?}");
                let octets = out.pieces.concat();
                assert!(
                    octets.is_empty() || decoded(encoding, &octets).is_err(),
                    "{encoding:?}"
                );
            }
        }
    }

    #[test]
    fn an_empty_body_is_one_too() {
        for encoding in [Gzip, Brotli, Zstd] {
            let out = run(encoding, &[]);
            assert_eq!(decoded(encoding, &out.pieces.concat()).unwrap(), b"");
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let data = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..30_000),
            (any::<u8>(), 0..300_000usize).prop_map(|(octet, times)| vec![octet; times]),
        ];
        let step = prop_oneof![3 => data.prop_map(Step::Data), 1 => Just(Step::Pause)];
        proptest::collection::vec(step, 0..10)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// decompress(compress(body)) = body, in whatever pieces and with whatever pauses it comes.
        #[test]
        fn the_body_comes_back(steps in steps(), trailers: bool) {
            let body: Vec<u8> = steps
                .iter()
                .filter_map(|step| match step {
                    Step::Data(data) => Some(&data[..]),
                    _ => None,
                })
                .collect::<Vec<_>>()
                .concat();
            let mut steps = steps;
            if trailers {
                steps.push(Step::Trailers);
            }
            for encoding in [Gzip, Brotli, Zstd] {
                let out = run(encoding, &steps);
                prop_assert_eq!(out.trailers, trailers);
                prop_assert!(decoded(encoding, &out.pieces.concat()).unwrap() == body);
            }
        }
    }
}
