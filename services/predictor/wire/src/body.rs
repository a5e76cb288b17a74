//! What the door answers with: one message, what the Python door says, or the answers of a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use http::Response;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::grpc::{self, Status};
use crate::limits::{self, Held};
use crate::stream::Answers;

/// What is handed on to HTTP/2 at once: the rest waits, counted, until the caller has taken what came before.
pub const CHUNK: usize = 32 * 1024;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

pub enum Body {
    Empty,
    /// A framed message, then a good end.
    Once { rest: Bytes, trailers: Option<HeaderMap>, _held: Held },
    Passed(Incoming),
    Answers(Box<Answers>),
}

impl Body {
    pub fn once(frame: Bytes, held: Held) -> Body {
        Body::Once { rest: frame, trailers: Some(grpc::ended_well()), _held: held }
    }

    /// A response that begins; the body ends it with trailers.
    pub fn response(self) -> Response<Body> {
        let mut response = Response::new(self);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

/// A response that is nothing but a status.
pub fn refusal(status: &Status) -> Response<Body> {
    let mut response = Body::Empty.response();
    response.headers_mut().extend(status.trailers());
    response
}

/// The next piece of `bytes`; None when nothing is left.
pub fn piece(bytes: &mut Bytes) -> Option<Frame<Bytes>> {
    (!bytes.is_empty()).then(|| Frame::data(bytes.split_to(bytes.len().min(CHUNK))))
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let body = self.get_mut();
        let next = match body {
            Body::Empty => Poll::Ready(None),
            Body::Once { rest, trailers, .. } => {
                Poll::Ready(piece(rest).or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Body::Passed(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Body::Answers(answers) => answers.poll(cx).map(|frame| frame.map(Ok)),
        };
        let piece = matches!(&next, Poll::Ready(Some(Ok(frame))) if frame.is_data());
        limits::given(piece || matches!(body, Body::Answers(answers) if answers.is_torn()));
        next
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Once { rest, trailers, .. } => rest.is_empty() && trailers.is_none(),
            Body::Passed(incoming) => incoming.is_end_stream(),
            Body::Answers(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Passed(incoming) => incoming.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
