//! The socket: connections are taken, served under limits, and ended in good order.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::calls::{answer, Shared};
use crate::inner::Inner;
use crate::limits::Patience;
use crate::work::Done;

/// Calls of one connection that may be under way.
const MAX_STREAMS: u32 = 1024;

/// What a caller may have sent of one call, and on one connection, before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What may be written to one call before its caller reads.
const SEND_BUFFER: usize = 256 * 1024;

/// A call with more metadata is not read at all; one with more than it may bring is told so.
const MAX_HEADERS: u32 = 64 * 1024;

/// How every HTTP/2 connection begins, and how long that may take at most.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
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
            for (reply, answer) in batch {
                // Whoever gave the call up waits no more.
                let _ = reply.send(answer);
            }
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
        begun = tokio::time::timeout(within, begun(stream)) => begun.ok().flatten(),
        _ = draining.wait_for(|draining| *draining) => None,
    };
    let Some(stream) = begun else { return };
    let local = stream.peer.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
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

/// A connection whose preface was read, and is handed on from memory.
struct Begun {
    peer: TcpStream,
    handed: usize,
}

/// None for a peer that speaks something else.
async fn begun(mut peer: TcpStream) -> Option<Begun> {
    let mut read = [0; PREFACE.len()];
    let mut at = 0;
    while at < read.len() {
        let count = peer.read(&mut read[at..]).await.ok().filter(|count| *count > 0)?;
        at += count;
        if read[..at] != PREFACE[..at] {
            return None;
        }
    }
    Some(Begun { peer, handed: 0 })
}

impl AsyncRead for Begun {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = &PREFACE[self.handed..];
        if left.is_empty() {
            return Pin::new(&mut self.peer).poll_read(cx, into);
        }
        let count = left.len().min(into.remaining());
        into.put_slice(&left[..count]);
        self.handed += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.peer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.peer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.peer).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>,
                           bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.peer).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.peer.is_write_vectored()
    }
}
