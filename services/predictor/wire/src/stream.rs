//! ModelStreamInfer: answers in the order asked, many under way, and no more read than is answered.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::body::{piece, CHUNK};
use crate::calls::{key_of, stopping, Key, Shared, Taken, UnderWay};
use crate::grpc::{self, Status};
use crate::inner::{self, Inner};
use crate::limits::Held;
use crate::message::{put_bytes, put_varint, scan};
use crate::group::Answer;

/// Requests of one stream that may be under way; a client that sends more waits for its answers.
const MAX_PIPELINED: usize = 64;

/// A request up to this size may stay in memory whole for what an answer says of it.
const SMALL: usize = 4 * 1024;

const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// The fields of a ModelStreamInferResponse, and of the response within.
const ERROR_MESSAGE: u64 = 1;
const INFER_RESPONSE: u64 = 2;
const MODEL: u64 = 1;
const ID: u64 = 3;

/// Bytes before a response at most: a field, and its length.
const MAX_HEAD: usize = 11;

/// A question to the Python door, given up when it is dropped.
struct Asking(JoinHandle<Result<(Bytes, Held), Status>>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Waiting {
    Queued(oneshot::Receiver<Answer>, Named),
    Ready(Bytes),
    Python(Asking),
}

/// What an answer that failed still says.
struct Named {
    model: Bytes,
    id: Bytes,
}

/// A message for the Python door.
struct Asked {
    headers: HeaderMap,
    framed: Bytes,
    named: Named,
    held: Held,
    deadline: Instant,
}

/// The body of the answer to one stream; polled only as fast as the caller reads.
pub struct Answers {
    shared: Arc<Shared>,
    inner: Arc<Inner>,
    key: Option<Key>,
    headers: HeaderMap,
    limit: Option<(Instant, Pin<Box<Sleep>>)>,
    incoming: Option<Incoming>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    read: BytesMut,
    held: Held,
    /// When the rest of a message must have come that has begun to; while it is waited for.
    rest: Option<Pin<Box<Sleep>>>,
    /// Answers on their way to the caller, and what is held for them.
    out: Bytes,
    written: Held,
    waiting: VecDeque<Waiting>,
    ending: Option<Status>,
    ended: bool,
    _counted: UnderWay,
}

impl Answers {
    pub fn new(shared: Arc<Shared>, inner: Arc<Inner>, headers: HeaderMap, incoming: Incoming) -> Answers {
        let mut draining = shared.draining.clone();
        Answers {
            limit: grpc::timeout(&headers).map(|left| {
                let at = Instant::now() + left;
                (at, Box::pin(tokio::time::sleep_until(at.into())))
            }),
            draining: Box::pin(async move {
                let _ = draining.wait_for(|draining| *draining).await;
            }),
            read: BytesMut::new(),
            held: shared.budget.hold(),
            rest: None,
            out: Bytes::new(),
            written: shared.budget.hold(),
            waiting: VecDeque::new(),
            ending: None,
            ended: false,
            _counted: UnderWay::new(&shared),
            incoming: Some(incoming),
            shared,
            inner,
            key: key_of(&headers),
            headers,
        }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.limit.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready()) {
            self.limit = None;
            self.give_up(Status::new(grpc::DEADLINE_EXCEEDED, "the deadline of the stream passed"));
        }
        if !self.out.is_empty() {
            // Nothing is read before the caller took that, so the rest's time begins anew behind it; who takes
            // nothing is seen to by the limit of unread answers.
            self.rest = None;
        } else if self.is_late(cx) {
            // What came meanwhile may be the rest.
            self.read(cx);
        }
        self.written.set(self.out.len());
        if let Some(frame) = piece(&mut self.out) {
            return Poll::Ready(Some(frame));
        }
        if self.incoming.is_some() && self.draining.as_mut().poll(cx).is_ready() {
            self.close(Some(stopping()));
        }
        let mut ready = BytesMut::new();
        loop {
            let more = self.read(cx);
            let written = self.write(cx, &mut ready);
            if ready.len() >= CHUNK || !(more || written) {
                break;
            }
        }
        self.out = ready.freeze();
        if let Some(frame) = piece(&mut self.out) {
            return Poll::Ready(Some(frame));
        }
        if self.incoming.is_none() && self.waiting.is_empty() {
            self.ended = true;
            let trailers = self.ending.as_ref().map_or_else(grpc::ended_well, Status::trailers);
            return Poll::Ready(Some(Frame::trailers(trailers)));
        }
        Poll::Pending
    }

    /// Whether bytes are held of a message whose rest is waited for.
    pub fn is_torn(&self) -> bool {
        self.rest.is_some()
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.rest.as_mut().is_some_and(|rest| rest.as_mut().poll(cx).is_ready())
    }

    /// Read no more; what was read is answered.
    fn close(&mut self, ending: Option<Status>) {
        self.incoming = None;
        self.read = BytesMut::new();
        self.held.set(0);
        self.rest = None;
        self.ending = ending;
    }

    /// End the stream with nothing more than what is written already.
    fn give_up(&mut self, status: Status) {
        self.close(Some(status));
        self.waiting.clear();
    }

    /// Take messages off the wire while there is room; whether any was taken.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut taken = false;
        while self.waiting.len() < MAX_PIPELINED {
            match self.message() {
                Ok(Some(message)) => {
                    self.rest = None;
                    let waiting = self.begin(message);
                    self.waiting.push_back(waiting);
                    taken = true;
                    continue;
                }
                Ok(None) => {}
                Err(status) => {
                    self.close(Some(status));
                    break;
                }
            }
            let Some(incoming) = self.incoming.as_mut() else { break };
            match Pin::new(incoming).poll_frame(cx) {
                Poll::Pending => {
                    self.wait_for_rest(cx);
                    break;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        if let Err(status) = self.held.grow(data.len()) {
                            self.close(Some(status));
                            break;
                        }
                        self.read.extend_from_slice(&data);
                    }
                }
                Poll::Ready(None) => {
                    let torn = !self.read.is_empty();
                    self.close(torn.then(|| Status::new(grpc::INTERNAL, "the stream ended inside a message")));
                    break;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.close(Some(Status::new(grpc::INTERNAL, error.to_string())));
                    break;
                }
            }
        }
        taken
    }

    /// Nothing more has come: a message that has begun has so long to come whole as a unary call's, since its bytes are
    /// everybody's room. Time in which nothing is read is not the caller's.
    fn wait_for_rest(&mut self, cx: &mut Context<'_>) {
        if self.read.is_empty() {
            return;
        }
        let timeout = self.shared.timeout;
        self.rest.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if self.is_late(cx) {
            let said = format!("{} bytes of a message came, its rest not within {timeout:?}", self.read.len());
            self.close(Some(Status::new(grpc::DEADLINE_EXCEEDED, said)));
        }
    }

    /// The next whole message that was read.
    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        if self.read.len() < grpc::PREFIX {
            return Ok(None);
        }
        let length = grpc::announced(&self.read, self.shared.request_bytes)?;
        if self.read.len() < grpc::PREFIX + length {
            return Ok(None);
        }
        self.read.advance(grpc::PREFIX);
        let message = self.read.split_to(length).freeze();
        self.held.set(self.read.len());
        Ok(Some(message))
    }

    /// Have one request answered.
    fn begin(&mut self, message: Bytes) -> Waiting {
        let Some(scanned) = scan(&message) else {
            self.close(Some(Status::new(grpc::INTERNAL, "a message of the stream is no ModelInferRequest")));
            return Waiting::Ready(Bytes::new());
        };
        let arrived = Instant::now();
        let deadline = arrived + self.shared.timeout;
        let deadline = self.limit.as_ref().map_or(deadline, |(limit, _)| deadline.min(*limit));
        let kept = |bytes: &Bytes| if message.len() > SMALL { Bytes::copy_from_slice(bytes) } else { bytes.clone() };
        let named = Named { model: kept(&scanned.model), id: kept(&scanned.id) };
        let mut held = self.shared.budget.hold();
        if let Err(status) = held.grow(message.len()) {
            return Waiting::Ready(failed(&status, &named));
        }
        // A stream may outlive its key.
        if self.key.is_some_and(|key| self.shared.holds(&key)) {
            match self.shared.take(scanned, &message, &self.headers, arrived, deadline, held) {
                Ok(Taken::Queued(answer)) => return Waiting::Queued(answer, named),
                Ok(Taken::Python(still)) => held = still,
                Err(status) => return Waiting::Ready(failed(&status, &named)),
            }
        }
        let asked = Asked { headers: self.headers.clone(), framed: grpc::framed(&message), named, held, deadline };
        let asked = ask(self.shared.clone(), self.inner.clone(), asked);
        Waiting::Python(Asking(tokio::spawn(asked)))
    }

    /// Put what is ready into `into`, in order; whether anything was.
    fn write(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> bool {
        let mut any = false;
        while into.len() < CHUNK {
            let Some(first) = self.waiting.front_mut() else { break };
            let frame = match first {
                Waiting::Ready(frame) => std::mem::take(frame),
                Waiting::Python(asking) => match Pin::new(&mut asking.0).poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(Ok((frames, held)))) => {
                        self.written.absorb(held);
                        frames
                    }
                    Poll::Ready(Ok(Err(status))) => {
                        self.give_up(status);
                        break;
                    }
                    Poll::Ready(Err(_)) => {
                        self.give_up(Status::new(grpc::INTERNAL, "internal error"));
                        break;
                    }
                },
                Waiting::Queued(answer, named) => match Pin::new(answer).poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(Ok((answer, held)))) => {
                        put_answer(into, &answer);
                        self.written.absorb(held);
                        Bytes::new()
                    }
                    Poll::Ready(Ok(Err(status))) => failed(&status, named),
                    Poll::Ready(Err(_)) => failed(&stopping(), named),
                },
            };
            into.extend_from_slice(&frame);
            self.waiting.pop_front();
            any = true;
        }
        any
    }
}

fn put_answer(into: &mut BytesMut, answer: &[u8]) {
    // The prefix is written once it is known how long the head is.
    let start = into.len();
    into.reserve(grpc::PREFIX + MAX_HEAD + answer.len());
    into.extend_from_slice(&[0; grpc::PREFIX]);
    put_varint(into, INFER_RESPONSE << 3 | 2);
    put_varint(into, answer.len() as u64);
    into.extend_from_slice(answer);
    let size = into.len() - start - grpc::PREFIX;
    into[start + 1..start + grpc::PREFIX].copy_from_slice(&(size as u32).to_be_bytes());
}

fn failed(status: &Status, named: &Named) -> Bytes {
    let (mut response, mut message) = (BytesMut::new(), BytesMut::new());
    put_bytes(&mut response, MODEL, &named.model);
    put_bytes(&mut response, ID, &named.id);
    put_bytes(&mut message, ERROR_MESSAGE, format!("{}: {}", status.name(), status.message).as_bytes());
    put_bytes(&mut message, INFER_RESPONSE, &response);
    grpc::framed(&message)
}

/// What the Python door answers to one message of a stream, as it lies on the wire. What it cannot read ends the stream.
async fn ask(shared: Arc<Shared>, inner: Arc<Inner>, asked: Asked) -> Result<(Bytes, Held), Status> {
    let Asked { headers, framed, named, mut held, deadline } = asked;
    let asked = async {
        let _place = shared.place(deadline).await?;
        let response = inner.message(STREAM, &headers, framed).await?;
        let begun = response.headers().clone();
        let body = response.into_body().collect().await.map_err(|error| {
            Status::new(grpc::UNAVAILABLE, error.to_string())
        })?;
        let trailers = body.trailers().cloned().unwrap_or(begun);
        inner::ended(trailers.get("grpc-status"), trailers.get("grpc-message"))?;
        Ok(body.to_bytes())
    };
    let answered: Result<Bytes, Status> = asked.await;
    let frames = match answered {
        Ok(frames) => frames,
        Err(status) if status.code == grpc::INTERNAL => return Err(status),
        Err(mut status) => {
            if status.code == grpc::UNAUTHENTICATED {
                // Within a stream every refusal is called so: the call as such was let in.
                status.code = grpc::PERMISSION_DENIED;
            }
            failed(&status, &named)
        }
    };
    held.set(frames.len());
    Ok((frames, held))
}
