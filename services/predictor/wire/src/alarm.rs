//! Deadlines of calls under one timer: a timer for each would wake the I/O thread once more for nearly every call.

use std::collections::BTreeMap;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Poll, Waker};
use std::time::Instant;

use tokio::sync::Notify;

use crate::lock;

type At = (Instant, u64);

#[derive(Default)]
struct Due {
    wakers: BTreeMap<At, Waker>,
    count: u64,
    /// When the timer goes off; no later than the first deadline.
    rings: Option<Instant>,
}

#[derive(Default)]
pub struct Alarm {
    due: Mutex<Due>,
    sooner: Notify,
}

impl Alarm {
    /// What `future` gives; None when the deadline comes first. Needs `ring` to run beside.
    pub async fn within<F: Future>(&self, deadline: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut place = Place { alarm: self, at: None };
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if Instant::now() >= deadline {
                return Poll::Ready(None);
            }
            place.wake(deadline, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Wake whoever is too late; never ends.
    pub async fn ring(&self) {
        loop {
            match self.next(Instant::now()) {
                None => self.sooner.notified().await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.sooner.notified() => {}
                },
            }
        }
    }

    /// Wake who is too late by now; the first deadline of the others.
    fn next(&self, now: Instant) -> Option<Instant> {
        let mut due = lock(&self.due);
        while let Some(first) = due.wakers.first_entry().filter(|first| first.key().0 <= now) {
            first.remove().wake();
        }
        due.rings = due.wakers.first_key_value().map(|((at, _), _)| *at);
        due.rings
    }
}

/// Where one call waits, until it is dropped.
struct Place<'a> {
    alarm: &'a Alarm,
    at: Option<At>,
}

impl Place<'_> {
    fn wake(&mut self, deadline: Instant, waker: &Waker) {
        let mut due = lock(&self.alarm.due);
        due.count += 1;
        let at = *self.at.get_or_insert((deadline, due.count));
        due.wakers.entry(at).and_modify(|known| known.clone_from(waker)).or_insert_with(|| waker.clone());
        // What ended before its deadline leaves the timer as it is: it then goes off for nobody, once.
        if due.rings.is_none_or(|rings| deadline < rings) {
            due.rings = Some(deadline);
            self.alarm.sooner.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            lock(&self.alarm.due).wakers.remove(&at);
        }
    }
}
