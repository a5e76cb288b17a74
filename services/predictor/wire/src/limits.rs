//! How much of callers' bytes may be in memory at once, and how long an answer may lie there unread.

use std::cell::Cell;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Sleep;

use crate::grpc::{Status, RESOURCE_EXHAUSTED};

pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), limit })
    }

    pub fn hold(self: &Arc<Budget>) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }
}

/// A call's share of the budget, its request's first and then its answer's; given back when it is dropped.
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    pub fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        if used > self.budget.limit {
            let said = format!("requests of {used} bytes are under way, {} at most", self.budget.limit);
            return Err(Status { retry_after_s: Some(0.1), ..Status::new(RESOURCE_EXHAUSTED, said) });
        }
        Ok(())
    }

    /// Hold so many bytes, more or fewer than before: of an answer that is there already.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Hold what another one held as well.
    pub fn absorb(&mut self, mut other: Held) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

tokio::task_local! {
    /// How often the body of this call's answer was asked for more, and whether it counts on being asked again: it gave
    /// a piece, or looks itself after a request that came in part.
    static GIVEN: Cell<(u64, bool)>;
}

/// Note that the body of an answer was asked for more, and whether it must be again.
pub fn given(more: bool) {
    // Outside of a call nobody waits.
    let _ = GIVEN.try_with(|cell| cell.set((cell.get().0.wrapping_add(1), more)));
}

/// Runs calls, and ends one whose caller takes nothing of its answer for so long, or lets none be given.
#[derive(Clone)]
pub struct Patience(pub Duration);

impl<F> hyper::rt::Executor<F> for Patience
where
    F: Future + Send + 'static,
{
    fn execute(&self, call: F) {
        let patience = self.0;
        tokio::spawn(GIVEN.scope(Cell::default(), async move {
            let mut call = pin!(call);
            let mut waited: Option<(u64, Pin<Box<Sleep>>)> = None;
            poll_fn(|cx| {
                if call.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                let (count, unread) = GIVEN.with(Cell::get);
                if !unread {
                    waited = None;
                    return Poll::Pending;
                }
                if waited.as_ref().is_none_or(|(since, _)| *since != count) {
                    waited = Some((count, Box::pin(tokio::time::sleep(patience))));
                }
                waited.as_mut().map_or(Poll::Pending, |(_, sleep)| sleep.as_mut().poll(cx))
            })
            .await;
        }));
    }
}
