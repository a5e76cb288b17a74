//! The socket: connections are taken, served under limits, and ended in good order.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::calls::{answer, Shared};
use crate::inner::Inner;
use crate::limits::Patience;
use crate::peer;
use crate::work::{deliver, Done};

/// Calls of one connection that may be under way.
const MAX_STREAMS: u32 = 1024;

/// What a caller may have sent of one call, and on one connection, before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What may be written to one call before its caller reads.
const SEND_BUFFER: usize = 256 * 1024;

/// A call with more metadata is not read at all; one with more than it may bring is told so.
const MAX_HEADERS: u32 = 64 * 1024;

/// How long the preface of a connection may take at most.
const PREFACE_WITHIN: Duration = Duration::from_secs(20);

/// A peer that is gone without a word is found out within these.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_ANSWER: Duration = Duration::from_secs(20);

/// Before the next connection is tried when the process has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serve until `draining` says so; then end what is open, and give up what still is after `grace`.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, mut done: mpsc::UnboundedReceiver<Done>,
                   grace: watch::Receiver<Duration>) {
    let answering = tokio::spawn(async move {
        while let Some(batch) = done.recv().await {
            deliver(batch);
        }
    });
    let alarmed = shared.clone();
    let ringing = tokio::spawn(async move { alarmed.alarm.ring().await });
    let mut connections = JoinSet::new();
    let mut draining = shared.draining.clone();
    loop {
        tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, shared.clone()))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    let left = *grace.borrow();
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(left, ended).await;
    connections.shutdown().await;
    answering.abort();
    ringing.abort();
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without it small answers wait for the caller's acknowledgements.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut draining = shared.draining.clone();
    let within = PREFACE_WITHIN.min(shared.timeout);
    let begun = tokio::select! {
        begun = tokio::time::timeout(within, peer::begun(stream)) => begun.ok().flatten(),
        _ = draining.wait_for(|draining| *draining) => None,
    };
    let Some(stream) = begun else { return };
    let local = stream.is_local();
    let inner = Arc::new(Inner::new(shared.inner.clone(), local));
    let patience = Patience(shared.timeout);
    let service = service_fn(move |request| answer(shared.clone(), inner.clone(), request));
    let connection = Builder::new(patience)
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        // A caller may give up all its calls at once.
        .max_pending_accept_reset_streams(MAX_STREAMS as usize)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // What a peer does wrong on the wire ends its connection and concerns nobody else.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = draining.wait_for(|draining| *draining) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
