//! Which call is answered here, and which by the Python door.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch, Semaphore, SemaphorePermit};

use crate::alarm::Alarm;
use crate::body::{refusal, Body};
use crate::forms::{Forms, Known};
use crate::grpc::{self, Status};
use crate::inner::Inner;
use crate::limits::{Budget, Held};
use crate::lock;
use crate::message::{scan, Scanned};
use crate::stream::Answers;
use crate::group::{Answer, Job, Logged};
use crate::work::{deliver, drop_counted, Shop, Turn, Worker};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Requests that the Python door may have at once: the rest waits here, where it may become known meanwhile.
pub const PYTHON_CALLS: usize = 900;

/// Bytes of metadata that a call may bring.
const MAX_METADATA: usize = 16 * 1024;

pub type Key = [u8; 32];

/// What every connection knows.
pub struct Shared {
    pub forms: Forms,
    pub alarm: Alarm,
    pub shop: Arc<Shop>,
    /// Runs what is short, and asks Python about forms.
    pub worker: Arc<Worker>,
    /// SHA-256 of every `authorization` that is good now, and whether it came since Python last asked.
    pub keys: RwLock<HashMap<Key, AtomicBool>>,
    pub inner: String,
    pub request_bytes: usize,
    pub timeout: Duration,
    pub budget: Arc<Budget>,
    pub python: Semaphore,
    /// Whether the spans of calls that bring a sampled trace go anywhere.
    pub traced: bool,
    pub log_share: f64,
    pub log_due: Mutex<f64>,
    pub waiting: Arc<AtomicUsize>,
    pub under_way: AtomicUsize,
    pub draining: watch::Receiver<bool>,
}

/// One request on its way: answered later, or not here.
pub enum Taken {
    Queued(oneshot::Receiver<Answer>),
    Python(Held),
}

impl Shared {
    pub fn admitted(&self, headers: &HeaderMap) -> bool {
        key_of(headers).is_some_and(|key| self.holds(&key))
    }

    /// Whether a key is good now.
    pub fn holds(&self, key: &Key) -> bool {
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.get(key).inspect(|came| came.store(true, Ordering::Relaxed)).is_some()
    }

    /// Whether Python must see the call whatever is in it: it makes spans of traces that are sampled.
    pub fn must_trace(&self, headers: &HeaderMap) -> bool {
        let sampled = |value: &http::HeaderValue| {
            value.as_bytes().get(53..55).and_then(|flags| u8::from_str_radix(std::str::from_utf8(flags).ok()?, 16).ok())
                .is_some_and(|flags| flags & 1 == 1)
        };
        self.traced && headers.get("traceparent").is_some_and(sampled)
    }

    /// Queue a request of a form that is known, have Python asked about one that is not.
    pub fn take(&self, scanned: Scanned, message: &Bytes, headers: &HeaderMap, arrived: Instant, deadline: Instant,
                held: Held) -> Result<Taken, Status> {
        let form = match self.forms.look(&scanned.key, message.len()) {
            Known::Fast(form) if form.fits(&scanned.raw) => form,
            Known::Ask => {
                self.worker.ready(Turn::Ask(scanned.key, message.clone()));
                return Ok(Taken::Python(held));
            }
            _ => return Ok(Taken::Python(held)),
        };
        let (reply, answer) = oneshot::channel();
        let logged = self.log_is_due().then(|| Logged {
            traceparent: headers.get("traceparent").map(|value| Bytes::copy_from_slice(value.as_bytes())),
        });
        let group = form.group.clone();
        let job = Job { form, id: scanned.id, raw: scanned.raw, arrived, deadline, logged, reply, held };
        let mut dropped = Vec::new();
        let taken = group.push(job, &mut dropped);
        if !dropped.is_empty() {
            deliver(drop_counted(&self.shop, &group, dropped));
        }
        taken.inspect_err(|_| {
            lock(&self.shop.counts).entry(group.version()).or_default().failed("Busy", arrived.elapsed().as_secs_f64());
        })?;
        Ok(Taken::Queued(answer))
    }

    /// A place at the Python door, and whether it had to be waited for: what was unknown may be known by then.
    pub async fn place(&self, deadline: Instant) -> Result<(SemaphorePermit<'_>, bool), Status> {
        if let Ok(permit) = self.python.try_acquire() {
            return Ok((permit, false));
        }
        let permit = tokio::time::timeout_at(deadline.into(), self.python.acquire()).await.map_err(|_| {
            Status::new(grpc::DEADLINE_EXCEEDED, "the deadline passed before the request could be read")
        })?;
        permit.map(|permit| (permit, true)).map_err(|_| stopping())
    }

    pub fn deadline(&self, headers: &HeaderMap, arrived: Instant) -> Instant {
        arrived + grpc::timeout(headers).map_or(self.timeout, |asked| asked.min(self.timeout))
    }

    fn log_is_due(&self) -> bool {
        let mut due = lock(&self.log_due);
        *due += self.log_share;
        let is_due = *due >= 1.0;
        *due -= f64::from(u8::from(is_due));
        is_due
    }
}

/// What a caller shows, as it is kept.
pub fn key_of(headers: &HeaderMap) -> Option<Key> {
    headers.get(http::header::AUTHORIZATION).map(|value| Sha256::digest(value.as_bytes()).into())
}

/// Counts a call as under way until it is dropped.
pub struct UnderWay(Arc<Shared>);

impl UnderWay {
    pub fn new(shared: &Arc<Shared>) -> UnderWay {
        shared.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(shared.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answer one call. Dropped when the caller gives it up, and with it what waits for it.
pub async fn answer(shared: Arc<Shared>, inner: Arc<Inner>,
                    request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let size = grpc::metadata_bytes(request.headers());
    if size > MAX_METADATA {
        let said = format!("the call brings {size} bytes of metadata, {MAX_METADATA} at most");
        return Ok(refusal(&Status::new(grpc::RESOURCE_EXHAUSTED, said)));
    }
    if request.headers().get("grpc-encoding").is_some_and(|name| !grpc::ENCODINGS.contains(&name.as_bytes())) {
        let mut said = refusal(&Status::new(grpc::UNIMPLEMENTED, "this grpc-encoding is not read here"));
        said.headers_mut().insert("grpc-accept-encoding", http::HeaderValue::from_static("identity,deflate,gzip"));
        return Ok(said);
    }
    let said = match request.uri().path() {
        INFER if shared.admitted(request.headers()) && readable(&shared, &request) => {
            unary(&shared, &inner, request).await
        }
        STREAM if readable(&shared, &request) => stream(shared, inner, request).await,
        _ => passed(&inner, request.map(Either::Left)).await,
    };
    Ok(said.unwrap_or_else(|status| refusal(&status)))
}

fn readable(shared: &Shared, request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let plain = headers.get("grpc-encoding").is_none_or(|name| name == "identity");
    let grpc = headers.get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/grpc" || kind == "application/grpc+proto");
    request.method() == http::Method::POST && plain && grpc && !shared.must_trace(headers)
}

async fn passed(inner: &Inner, request: Request<Either<Incoming, Full<Bytes>>>) -> Result<Response<Body>, Status> {
    Ok(inner.send(request).await?.map(Body::Passed))
}

async fn unary(shared: &Arc<Shared>, inner: &Inner, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let _counted = UnderWay::new(shared);
    let arrived = Instant::now();
    let deadline = shared.deadline(request.headers(), arrived);
    let (parts, body) = request.into_parts();
    let mut held = shared.budget.hold();
    let framed = whole(shared, body, deadline, &mut held).await?;
    let message = framed.slice(grpc::PREFIX..);
    let mut place = None;
    while let Some(scanned) = scan(&message) {
        match shared.take(scanned, &message, &parts.headers, arrived, deadline, held)? {
            Taken::Python(still) => {
                held = still;
                if place.is_some() {
                    break;
                }
                let (permit, waited) = shared.place(deadline).await?;
                place = Some(permit);
                if !waited {
                    break;
                }
            }
            Taken::Queued(answer) => {
                drop((parts, framed, message));
                let answer = shared.alarm.within(deadline, answer).await.ok_or_else(|| {
                    Status::new(grpc::DEADLINE_EXCEEDED, "the deadline passed before the request was answered")
                })?;
                let (answer, held) = answer.unwrap_or_else(|_| Err(stopping()))?;
                return Ok(Body::once(grpc::framed(&answer), held).response());
            }
        }
    }
    let said = passed(inner, Request::from_parts(parts, Either::Right(Full::new(framed)))).await;
    // It begins to answer when it has read the request.
    drop((held, place));
    said
}

/// The one message of a unary call with its prefix. Memory grows with what has really come.
async fn whole(shared: &Shared, mut body: Incoming, deadline: Instant, held: &mut Held) -> Result<Bytes, Status> {
    let limit = shared.request_bytes;
    let mut read = BytesMut::new();
    let mut wanted = None;
    while let Some(data) = next(&shared.alarm, &mut body, deadline).await? {
        held.grow(data.len())?;
        if read.is_empty() && wanted.is_none() && data.len() > grpc::PREFIX
            && data.len() == grpc::PREFIX + grpc::announced(&data, limit)? && body.is_end_stream() {
            return Ok(data);
        }
        read.extend_from_slice(&data);
        if wanted.is_none() && read.len() >= grpc::PREFIX {
            wanted = Some(grpc::PREFIX + grpc::announced(&read, limit)?);
        }
        if wanted.is_some_and(|wanted| read.len() > wanted) {
            return Err(Status::new(grpc::INTERNAL, "a unary call carries one message, this one more"));
        }
    }
    match wanted {
        Some(wanted) if read.len() == wanted => Ok(read.freeze()),
        _ => Err(Status::new(grpc::INTERNAL, "the call ended before its message did")),
    }
}

/// The next data of a body; None at its end. A caller who is slower than the deadline is not waited for.
async fn next(alarm: &Alarm, body: &mut Incoming, deadline: Instant) -> Result<Option<Bytes>, Status> {
    loop {
        let here = poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => Poll::Ready(None),
        }).await;
        let frame = match here {
            Some(frame) => frame,
            None => alarm.within(deadline, body.frame()).await.ok_or_else(|| {
                Status::new(grpc::DEADLINE_EXCEEDED, "the deadline passed before the request had come")
            })?,
        };
        match frame.transpose().map_err(|error| Status::new(grpc::INTERNAL, error.to_string()))?.map(Frame::into_data) {
            None => return Ok(None),
            Some(Ok(data)) => return Ok(Some(data)),
            Some(Err(_)) => {}
        }
    }
}

async fn stream(shared: Arc<Shared>, inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    if !shared.admitted(request.headers()) {
        let mut asking = HeaderMap::new();
        for name in ["authorization", "content-type", "te"] {
            if let Some(value) = request.headers().get(name) {
                asking.insert(name, value.clone());
            }
        }
        inner.admits(&asking).await?;
    }
    let (parts, body) = request.into_parts();
    Ok(Body::Answers(Box::new(Answers::new(shared, inner, parts.headers, body))).response())
}

pub fn stopping() -> Status {
    Status::new(grpc::UNAVAILABLE, "this server is stopping; remedy: open the stream again elsewhere")
}
