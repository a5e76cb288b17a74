//! The threads that run Python: one call a batch, in turn for whoever has something to run.

use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::{mpsc, oneshot};

use crate::counts::{Counts, Times, Version};
use crate::group::{Answer, Group, Job, Outputs};
use crate::grpc::{self, Status};
use crate::lock;

pub type Done = Vec<(oneshot::Sender<Answer>, Answer)>;

/// What a worker does next.
pub enum Turn {
    Run(Arc<Group>),
    /// Tell Python of a form that is new: its key and a request of it.
    Ask(Vec<u8>, Bytes),
}

#[derive(Default)]
struct Turns {
    waiting: VecDeque<Turn>,
    idle: bool,
    rung: bool,
    stopped: bool,
}

/// The queue of one thread that runs Python.
pub struct Worker {
    turns: Mutex<Turns>,
    bell: Condvar,
    runtime: tokio::runtime::Handle,
    shop: Arc<Shop>,
}

/// What worker threads share.
pub struct Shop {
    pub ask: Py<PyAny>,
    pub done: mpsc::UnboundedSender<Done>,
    pub counts: Mutex<Counts>,
}

impl Worker {
    pub fn new(runtime: tokio::runtime::Handle, shop: Arc<Shop>) -> Worker {
        Worker { turns: Mutex::default(), bell: Condvar::new(), runtime, shop }
    }

    /// Queue a turn. A sleeping thread is looked after once what the I/O thread has read already is queued too.
    pub fn ready(self: &Arc<Worker>, turn: Turn) {
        let mut turns = lock(&self.turns);
        turns.waiting.push_back(turn);
        self.ring(turns);
    }

    fn ring(self: &Arc<Worker>, mut turns: MutexGuard<'_, Turns>) {
        if turns.idle && !turns.waiting.is_empty() && !std::mem::replace(&mut turns.rung, true) {
            drop(turns);
            let worker = self.clone();
            self.runtime.spawn(async move { worker.begin() });
        }
    }

    /// Wake the sleeping thread. But one short batch that waits alone is run here, on the I/O thread, at once: to wake
    /// the other thread, to share Python and the caches with it, and to be woken by it costs more than such a run.
    fn begin(self: &Arc<Worker>) {
        let mut turns = lock(&self.turns);
        let alone = turns.idle && turns.waiting.len() == 1
            && matches!(turns.waiting.front(), Some(Turn::Run(group)) if group.is_brief());
        let Some(Turn::Run(group)) = alone.then(|| turns.waiting.pop_front()).flatten() else {
            drop(turns);
            self.bell.notify_one();
            return;
        };
        turns.rung = false;
        drop(turns);
        let done = catch_unwind(AssertUnwindSafe(|| Python::attach(|py| self.run(py, group))));
        deliver(done.unwrap_or_default());
        self.ring(lock(&self.turns));
    }

    pub fn stop(&self) {
        lock(&self.turns).stopped = true;
        self.bell.notify_one();
    }

    fn next(&self) -> Option<Turn> {
        let mut turns = lock(&self.turns);
        loop {
            if let Some(turn) = turns.waiting.pop_front() {
                return Some(turn);
            }
            if turns.stopped {
                return None;
            }
            turns.idle = true;
            turns = self.bell.wait(turns).unwrap_or_else(std::sync::PoisonError::into_inner);
            (turns.idle, turns.rung) = (false, false);
        }
    }

    /// The thread's work, until `stop`.
    pub fn work(self: Arc<Worker>) {
        Python::attach(|py| {
            while let Some(turn) = py.detach(|| self.next()) {
                // What panics has written why, and costs the requests of this turn alone: whoever waits is told.
                let _ = catch_unwind(AssertUnwindSafe(|| self.turn(py, turn)));
            }
        });
    }

    fn turn(self: &Arc<Worker>, py: Python<'_>, turn: Turn) {
        match turn {
            Turn::Run(group) => {
                let done = self.run(py, group);
                // The receiver is gone once the door has closed; whoever waited is gone too.
                let _ = self.shop.done.send(done);
            }
            Turn::Ask(key, message) => {
                let asked = self.shop.ask.bind(py).call1((PyBytes::new(py, &key), PyBytes::new(py, &message)));
                if let Err(error) = asked {
                    error.write_unraisable(py, None);
                }
            }
        }
    }

    /// One batch of a group; who is to be told what of it.
    fn run(self: &Arc<Worker>, py: Python<'_>, group: Arc<Group>) -> Done {
        let began = Instant::now();
        let mut dropped = Vec::new();
        let (batch, more, since) = group.take(&mut dropped);
        let mut joined = began;
        let outputs = if batch.is_empty() { Ok(Vec::new()) } else { group.call(py, &batch, &mut joined) };
        py.detach(|| {
            let inferred = Instant::now();
            group.ended(outputs.is_ok().then(|| (inferred - since, inferred - began)));
            let times = Times { began, joined, inferred, ended: inferred };
            let done = finish(&self.shop, &group, batch, dropped, outputs, times);
            if more {
                lock(&self.turns).waiting.push_back(Turn::Run(group));
            }
            done
        })
    }
}

/// Hand out answers. Whoever gave the call up waits no more.
pub fn deliver(done: Done) {
    for (reply, answer) in done {
        let _ = reply.send(answer);
    }
}

/// Count a batch and what was dropped beside it, and say who gets what.
fn finish(shop: &Shop, group: &Group, batch: Vec<Job>, dropped: Vec<Job>, outputs: Outputs, mut times: Times) -> Done {
    let mut done = Vec::with_capacity(batch.len() + dropped.len());
    let answers = outputs.and_then(|outputs| group.answers(&batch, &outputs).ok_or_else(|| {
        let said = "the model answered with another number of rows; remedy: roll the model back";
        (Status::new(grpc::UNAVAILABLE, said), "Unavailable".to_owned())
    }));
    times.ended = Instant::now();
    count(shop, group, &batch, &dropped, &answers, &times);
    done.extend(too_late(dropped));
    match answers {
        _ if batch.is_empty() => {}
        Ok(answers) => {
            done.extend(batch.into_iter().zip(answers).map(|(mut job, answer)| {
                job.held.set(answer.len());
                (job.reply, Ok((answer, job.held)))
            }));
        }
        Err((status, _)) => done.extend(batch.into_iter().map(|job| (job.reply, Err(status.clone())))),
    }
    done
}

/// The lock is held for no longer than that: the I/O thread takes it for each request that it refuses.
fn count(shop: &Shop, group: &Group, batch: &[Job], dropped: &[Job], answers: &Outputs, times: &Times) {
    let mut counts = lock(&shop.counts);
    let counted = counts.entry(group.version()).or_default();
    count_dropped(counted, dropped, times.began);
    match answers {
        _ if batch.is_empty() => {}
        Ok(_) => counted.answered(batch, times),
        Err((_, outcome)) => {
            for job in batch {
                counted.failed(outcome, job.arrived.elapsed().as_secs_f64());
            }
        }
    }
}

/// Count what was dropped without a batch, and say who gets what.
pub fn drop_counted(shop: &Shop, group: &Group, dropped: Vec<Job>) -> Done {
    count_dropped(lock(&shop.counts).entry(group.version()).or_default(), &dropped, Instant::now());
    too_late(dropped).collect()
}

fn count_dropped(counted: &mut Version, dropped: &[Job], now: Instant) {
    for job in dropped {
        let outcome = if job.deadline <= now { "TimeoutError" } else { "cancelled" };
        counted.failed(outcome, job.arrived.elapsed().as_secs_f64());
    }
}

fn too_late(dropped: Vec<Job>) -> impl Iterator<Item = (oneshot::Sender<Answer>, Answer)> {
    dropped.into_iter().map(|job| {
        let late = Status::new(grpc::DEADLINE_EXCEEDED, "the deadline passed before the request could run");
        (job.reply, Err(late))
    })
}
