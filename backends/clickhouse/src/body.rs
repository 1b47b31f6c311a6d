//! The body of a request: its bytes. With feature `crash-points` an insert's goes out in halves, so that a proof can interrupt it.

#[cfg(not(feature = "crash-points"))]
pub(crate) type Body = http_body_util::Full<bytes::Bytes>;

#[cfg(not(feature = "crash-points"))]
pub(crate) fn body_of(_: &str, bytes: bytes::Bytes) -> Body {
    Body::new(bytes)
}

#[cfg(feature = "crash-points")]
pub(crate) use halves::{Halves as Body, body_of};

#[cfg(feature = "crash-points")]
mod halves {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use crash_points::Failed;
    use hyper::body::{Frame, SizeHint};

    /// One piece, or two with a point between them.
    pub(crate) struct Halves {
        pieces: VecDeque<Bytes>,
        interrupted: bool,
        flushed: bool,
    }

    pub(crate) fn body_of(path_and_query: &str, mut bytes: Bytes) -> Halves {
        let cut = if path_and_query.contains("insert_deduplication_token=") { bytes.len() / 2 } else { 0 };
        let first = bytes.split_to(cut);
        let interrupted = !first.is_empty();
        let pieces = [first, bytes].into_iter().filter(|piece| !piece.is_empty()).collect();
        Halves { pieces, interrupted, flushed: false }
    }

    impl hyper::body::Body for Halves {
        type Data = Bytes;
        type Error = Failed;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
            let is_second = self.interrupted && self.pieces.len() == 1;
            if is_second && !self.flushed {
                // The connection writes out what it has before it asks again.
                self.flushed = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if is_second && let Err(failed) = crash_points::pass("P7") {
                return Poll::Ready(Some(Err(failed)));
            }
            Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.pieces.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
        }
    }
}
