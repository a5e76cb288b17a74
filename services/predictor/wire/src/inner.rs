//! The way to the Python door, which answers everything that is not answered here: one connection a caller's connection,
//! so that a caller who reads slowly holds up nobody else.

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::grpc::{self, Status};

/// What may lie unread of one answer, and of all on a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

const METADATA: &str = "/inference.GRPCInferenceService/ServerMetadata";

pub type Given = Either<Incoming, Full<Bytes>>;

pub struct Inner {
    path: String,
    /// Whether the caller is on this machine.
    local: bool,
    sender: Mutex<Option<SendRequest<Given>>>,
}

impl Inner {
    pub fn new(path: String, local: bool) -> Inner {
        Inner { path, local, sender: Mutex::new(None) }
    }

    /// What the Python door answers.
    pub async fn send(&self, mut request: Request<Given>) -> Result<Response<Incoming>, Status> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(Authority::from_static("localhost"));
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Status::new(grpc::INTERNAL, "no path was named"))?;
        *request.version_mut() = http::Version::HTTP_2;
        // Every caller comes by a Unix socket there; what only local ones may do must not be open to all.
        grpc::tell_caller(request.headers_mut(), self.local);
        let mut sender = self.sender().await?;
        sender.send_request(request).await.map_err(away)
    }

    async fn sender(&self) -> Result<SendRequest<Given>, Status> {
        let mut held = self.sender.lock().await;
        if let Some(sender) = held.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = UnixStream::connect(&self.path).await.map_err(away)?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(away)?;
        // It ends once every sender and answer is dropped.
        tokio::spawn(connection);
        *held = Some(sender.clone());
        Ok(sender)
    }

    /// One message to a method, under the headers of the call it came by.
    pub async fn message(&self, path: &str, headers: &HeaderMap, framed: Bytes) -> Result<Response<Incoming>, Status> {
        let mut request = Request::post(path)
            .body(Either::Right(Full::new(framed)))
            .map_err(|_| Status::new(grpc::INTERNAL, "no path was named"))?;
        *request.headers_mut() = headers.clone();
        request.headers_mut().remove(http::header::CONTENT_LENGTH);
        self.send(request).await
    }

    /// Whether the Python door lets a caller in; it remembers the key.
    pub async fn admits(&self, headers: &HeaderMap) -> Result<(), Status> {
        let response = self.message(METADATA, headers, grpc::framed(b"")).await?;
        let said = response.headers().get("grpc-status").cloned();
        let message = response.headers().get("grpc-message").cloned();
        if said.is_some() {
            return ended(said.as_ref(), message.as_ref());
        }
        let trailers = response.into_body().collect().await.map_err(away)?.trailers().cloned().unwrap_or_default();
        ended(trailers.get("grpc-status"), trailers.get("grpc-message"))
    }
}

/// How a call ended, from its trailers.
pub fn ended(code: Option<&HeaderValue>, message: Option<&HeaderValue>) -> Result<(), Status> {
    let code = code.and_then(|value| value.to_str().ok()?.parse::<u16>().ok());
    let code = code.ok_or_else(|| away("it ended without a status"))?;
    if code == 0 {
        return Ok(());
    }
    Err(Status::new(code, message.map(|value| grpc::unpercent(value.as_bytes())).unwrap_or_default()))
}

fn away(error: impl std::fmt::Display) -> Status {
    let said = format!("the call did not reach its handler: {error}");
    Status { answered: false, ..Status::new(grpc::UNAVAILABLE, said) }
}
