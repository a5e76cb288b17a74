//! A connection below HTTP/2: its preface is read, and answers to pings do not go out alone.
//!
//! Clients that measure their bandwidth (gRPC's own do) send a ping with nearly every answer they read. To write each
//! answer to a ping by itself would double the writes of a busy connection, and the reads of its peer.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How every HTTP/2 connection begins.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that answers a ping: how it begins, and how long it is with the eight bytes it gives back.
const PONG: [u8; 9] = [0, 0, 8, 6, 1, 0, 0, 0, 0];
const PONG_BYTES: usize = PONG.len() + 8;

/// How long an answer to a ping may wait for something to go out with. It waits only while nothing else is written.
const PONG_WITHIN: Duration = Duration::from_millis(5);

/// What is written at once, with the pong before it; the rest is asked for again.
const SLICES: usize = 16;

pub struct Peer {
    stream: TcpStream,
    /// Bytes of the preface that were handed on.
    handed: usize,
    pong: Option<Pong>,
    /// When to look after a pong that waits. It stays set when the pong has gone out: to set a timer for each would wake
    /// the I/O thread once more for each.
    late: Option<Pin<Box<Sleep>>>,
}

/// An answer to a ping that waits.
struct Pong {
    frame: [u8; PONG_BYTES],
    written: usize,
    due: Instant,
}

/// None for a peer that speaks something else.
pub async fn begun(mut stream: TcpStream) -> Option<Peer> {
    let mut read = [0; PREFACE.len()];
    let mut at = 0;
    while at < read.len() {
        let count = stream.read(&mut read[at..]).await.ok().filter(|count| *count > 0)?;
        at += count;
        if read[..at] != PREFACE[..at] {
            return None;
        }
    }
    Some(Peer { stream, handed: 0, pong: None, late: None })
}

impl Peer {
    pub fn is_local(&self) -> bool {
        self.stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// Write the pong that waits, by itself.
    fn poll_pong(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(pong) = &mut self.pong {
            let rest = &pong.frame[pong.written..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            self.wrote(count)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Of so many bytes written, how many were not the pong's.
    fn wrote(&mut self, count: usize) -> io::Result<usize> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let Some(pong) = &mut self.pong else { return Ok(count) };
        let of_pong = count.min(PONG_BYTES - pong.written);
        pong.written += of_pong;
        if pong.written == PONG_BYTES {
            self.pong = None;
        }
        Ok(count - of_pong)
    }
}

/// The frame, where there is one answer to a ping and nothing else.
fn pong(bytes: &[IoSlice<'_>]) -> Option<[u8; PONG_BYTES]> {
    let mut given = bytes.iter().filter(|slice| !slice.is_empty());
    let frame: [u8; PONG_BYTES] = given.next()?[..].try_into().ok()?;
    (given.next().is_none() && frame.starts_with(&PONG)).then_some(frame)
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = &PREFACE[self.handed..];
        if left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let count = left.len().min(into.remaining());
        into.put_slice(&left[..count]);
        self.handed += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>,
                           bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.pong.is_none() {
            let Some(frame) = pong(bytes) else {
                return Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
            };
            this.pong = Some(Pong { frame, written: 0, due: Instant::now() + PONG_WITHIN });
            return Poll::Ready(Ok(PONG_BYTES));
        }
        while let Some(pong) = &this.pong {
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(&pong.frame[pong.written..]);
            let count = bytes.len().min(SLICES - 1);
            slices[1..=count].copy_from_slice(&bytes[..count]);
            let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, &slices[..=count]))?;
            let others = this.wrote(written)?;
            if others > 0 {
                return Poll::Ready(Ok(others));
            }
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bytes)
    }

    /// Waits with a pong until it is late, or was written before something else.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(due) = this.pong.as_ref().map(|pong| pong.due) {
            let late = this.late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            ready!(late.as_mut().poll(cx));
            if Instant::now() < due {
                // It was set for a pong that went out before.
                late.as_mut().reset(due);
                ready!(late.as_mut().poll(cx));
            }
            ready!(this.poll_pong(cx))?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pong(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
