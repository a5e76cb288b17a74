//! Requests that wait for a version of a model, which of them make one batch, and how one batch is run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tokio::sync::oneshot;

use crate::forms::Form;
use crate::grpc::{self, Status};
use crate::limits::Held;
use crate::lock;
use crate::message::{put_bytes, texts_end};
use crate::pace::Pace;
use crate::work::{Turn, Worker};

/// The fields of a ModelInferResponse that are written here.
const RESPONSE_ID: u64 = 3;
const RESPONSE_RAW: u64 = 6;

/// A message, and its share of the budget until the caller has taken it.
pub type Answer = Result<(Bytes, Held), Status>;
/// Raw outputs of a batch; or why there are none, and Python's word for the outcome.
pub type Outputs = Result<Vec<Bytes>, (Status, String)>;

/// What Python wants to know of a request whose answer it logs.
pub struct Logged {
    pub traceparent: Option<Bytes>,
}

pub struct Job {
    pub form: Arc<Form>,
    pub id: Bytes,
    pub raw: Vec<Bytes>,
    pub arrived: Instant,
    pub deadline: Instant,
    pub logged: Option<Logged>,
    pub reply: oneshot::Sender<Answer>,
    pub held: Held,
}

impl Job {
    /// Whether nobody waits for it any more, or its answer would be too late.
    fn is_unwanted(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.deadline <= now
    }
}

/// How the rows of an output lie in its bytes: so many bytes a row, or so many texts, each behind its length.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    Fixed(usize),
    Texts(usize),
}

/// How requests of a version may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of a batch, and of what waits.
    pub max_rows: usize,
    pub queue_rows: usize,
    /// Longest that a request may be expected to wait; None: by the pace.
    pub wait_s: Option<f64>,
    /// As it was when the wire came to know the version.
    pub pace: Pace,
}

/// What is expected to take longer, in seconds, does not run on the I/O thread.
const BRIEF_S: f64 = 5e-4;

/// A caller told to come back sooner would only be told so again.
const MIN_RETRY_S: f64 = 0.01;

/// One version of one model: its bounds, and the thread that runs it.
pub struct Lane {
    pub model: String,
    pub version: String,
    pub bounds: Bounds,
    pub waiting: AtomicUsize,
    /// Requests whose rows those are.
    pub pending: AtomicUsize,
    /// Rows that wait in all lanes.
    pub all: Arc<AtomicUsize>,
    pub worker: Arc<Worker>,
    /// Whether the worker is for this lane alone, and ends with it.
    pub own: bool,
    /// Whether how long a run takes follows from its rows, so that a short one may run on the I/O thread.
    pub steady: bool,
}

impl Lane {
    fn add(&self, rows: usize) {
        self.waiting.fetch_add(rows, Ordering::Relaxed);
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.all.fetch_add(rows, Ordering::Relaxed);
    }

    fn free(&self, requests: usize, rows: usize) {
        self.waiting.fetch_sub(rows, Ordering::Relaxed);
        self.pending.fetch_sub(requests, Ordering::Relaxed);
        self.all.fetch_sub(rows, Ordering::Relaxed);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.own {
            self.worker.stop();
        }
    }
}

/// Requests that may share a batch: of one version, with the same tensors in the same order, for the same outputs.
pub struct Group {
    pub lane: Arc<Lane>,
    pub run: Py<PyAny>,
    pub outputs: Vec<Rows>,
    queue: Mutex<Queue>,
}

struct Queue {
    jobs: VecDeque<Job>,
    rows: usize,
    /// Since when a turn of the worker is to come, or on.
    scheduled: Option<Instant>,
    /// Rows of the batch that is run, and since when.
    running: Option<(usize, Instant)>,
    /// Of what a request waits for: a batch with its wait for a turn.
    pace: Pace,
    /// Of the runs alone.
    runs: Pace,
}

impl Queue {
    /// Seconds that a request waits which comes now.
    fn waits_s(&self, max_rows: usize, now: Instant) -> f64 {
        let running = self.running.map(|(rows, since)| (rows, now.saturating_duration_since(since)));
        self.pace.waits_s(self.rows, max_rows, running)
    }
}

impl Group {
    pub fn new(lane: Arc<Lane>, run: Py<PyAny>, outputs: Vec<Rows>) -> Group {
        let pace = lane.bounds.pace;
        let queue = Queue { jobs: VecDeque::new(), rows: 0, scheduled: None, running: None, pace, runs: pace };
        Group { lane, run, outputs, queue: Mutex::new(queue) }
    }

    /// Have a job run; refused when so much waits already that it would wait in vain. What was given up or is too late
    /// makes room then, and is put into `dropped`.
    pub fn push(self: &Arc<Group>, job: Job, dropped: &mut Vec<Job>) -> Result<(), Status> {
        let (lane, now) = (&self.lane, Instant::now());
        let mut queue = lock(&self.queue);
        if self.refusal(&queue, &job, now).is_some() {
            self.clear_out(&mut queue, dropped, now);
            self.refusal(&queue, &job, now).map_or(Ok(()), Err)?;
        }
        lane.add(job.form.rows);
        queue.rows += job.form.rows;
        queue.jobs.push_back(job);
        let known = queue.scheduled.is_some();
        queue.scheduled.get_or_insert(now);
        drop(queue);
        if !known {
            lane.worker.ready(Turn::Run(self.clone()));
        }
        Ok(())
    }

    /// Model and version, as they are counted.
    pub fn version(&self) -> (String, String) {
        (self.lane.model.clone(), self.lane.version.clone())
    }

    /// Whether all that waits is one batch, which is run in a moment. Where more waits the I/O thread must go on reading,
    /// and refusing.
    pub fn is_brief(&self) -> bool {
        let (lane, queue) = (&self.lane, lock(&self.queue));
        lane.steady && !lane.own && queue.rows <= lane.bounds.max_rows && queue.runs.of(queue.rows) <= BRIEF_S
    }

    /// Why a job is not let in. What would run next is always tried: only so does an estimate that was too long come
    /// right.
    fn refusal(&self, queue: &Queue, job: &Job, now: Instant) -> Option<Status> {
        let (bounds, rows) = (&self.lane.bounds, job.form.rows);
        let waiting = self.lane.waiting.load(Ordering::Relaxed);
        let waits_s = queue.waits_s(bounds.max_rows, now);
        // One request may be more than a batch.
        let largest = queue.running.map_or(0, |(rows, _)| rows).max(bounds.max_rows);
        let most_s = queue.pace.most_s(largest, bounds.wait_s);
        let left = job.deadline.checked_duration_since(now);
        let said = if waiting + rows > bounds.queue_rows {
            format!("{waiting} rows wait already, {rows} more do not fit")
        } else if waits_s <= 0.0 {
            return None;
        } else if waits_s > most_s {
            format!("{waiting} rows wait already, about {waits_s:.3} s to wait, {most_s:.3} s at most")
        } else if left.is_some_and(|left| waits_s + queue.pace.of(rows) > left.as_secs_f64()) {
            format!("about {waits_s:.3} s to wait, and the request's deadline is sooner than its answer")
        } else {
            return None;
        };
        let remedy = "send again later, or raise serve.replicas, or what serve.batching lets wait";
        let status = Status::new(grpc::RESOURCE_EXHAUSTED, format!("{said}; remedy: {remedy}"));
        Some(Status { retry_after_s: Some(waits_s.max(MIN_RETRY_S)), ..status })
    }

    /// Let go of what need not be run, wherever it stands.
    fn clear_out(&self, queue: &mut Queue, dropped: &mut Vec<Job>, now: Instant) {
        if !queue.jobs.iter().any(|job| job.is_unwanted(now)) {
            return;
        }
        let waited = std::mem::take(&mut queue.jobs).into_iter();
        let (gone, kept): (VecDeque<Job>, VecDeque<Job>) = waited.partition(|job| job.is_unwanted(now));
        queue.jobs = kept;
        let freed = gone.iter().map(|job| job.form.rows).sum();
        queue.rows -= freed;
        self.lane.free(gone.len(), freed);
        dropped.extend(gone);
    }

    /// The next batch; what was given up or is too late is put into `dropped`. Said too: whether more waits, and since
    /// when the batch did.
    pub fn take(&self, dropped: &mut Vec<Job>) -> (Vec<Job>, bool, Instant) {
        let now = Instant::now();
        let (mut batch, mut rows, mut freed) = (Vec::new(), 0, 0);
        let mut queue = lock(&self.queue);
        while let Some(job) = queue.jobs.front() {
            let unwanted = job.is_unwanted(now);
            let size = job.form.rows;
            if !unwanted && !batch.is_empty() && rows + size > self.lane.bounds.max_rows {
                break;
            }
            let Some(job) = queue.jobs.pop_front() else { break };
            freed += size;
            if unwanted {
                dropped.push(job);
            } else {
                rows += size;
                batch.push(job);
            }
        }
        let more = !queue.jobs.is_empty();
        queue.rows -= freed;
        queue.running = (!batch.is_empty()).then_some((rows, now));
        let since = std::mem::replace(&mut queue.scheduled, more.then_some(now)).unwrap_or(now);
        drop(queue);
        self.lane.free(batch.len() + dropped.len(), freed);
        (batch, more, since)
    }

    /// The batch that was taken has ended: so long after it was scheduled, and so long after its run began. None where
    /// nothing follows from that.
    pub fn ended(&self, took: Option<(Duration, Duration)>) {
        let mut queue = lock(&self.queue);
        if let (Some((rows, _)), Some((took, ran))) = (queue.running.take(), took) {
            queue.pace.ran(rows, took);
            queue.runs.ran(rows, ran);
        }
    }

    pub fn call(&self, py: Python<'_>, batch: &[Job], joined: &mut Instant) -> Outputs {
        self.outputs_of(py, batch, joined).unwrap_or_else(|error| {
            error.write_unraisable(py, Some(self.run.bind(py)));
            Err((Status::new(grpc::INTERNAL, "internal error; the server's log has it"), "bug".to_owned()))
        })
    }

    fn outputs_of(&self, py: Python<'_>, batch: &[Job], joined: &mut Instant) -> PyResult<Outputs> {
        let rows: usize = batch.iter().map(|job| job.form.rows).sum();
        let inputs = PyList::empty(py);
        for index in 0..batch[0].raw.len() {
            let size = batch.iter().map(|job| job.raw[index].len()).sum();
            inputs.append(PyBytes::new_with(py, size, |buffer| {
                let mut at = 0;
                for job in batch {
                    let raw = &job.raw[index];
                    buffer[at..at + raw.len()].copy_from_slice(raw);
                    at += raw.len();
                }
                Ok(())
            })?)?;
        }
        let logged = PyList::empty(py);
        let mut start = 0;
        for job in batch {
            if let Some(wanted) = &job.logged {
                let traceparent = wanted.traceparent.as_ref().map(|value| PyBytes::new(py, value));
                logged.append((start, start + job.form.rows, PyBytes::new(py, &job.id),
                               job.arrived.elapsed().as_secs_f64(), traceparent))?;
            }
            start += job.form.rows;
        }
        *joined = Instant::now();
        let said = self.run.bind(py).call1((rows, inputs, logged))?;
        if let Ok((code, message, outcome, retry_after_s)) = said.extract::<(u16, String, String, Option<f64>)>() {
            return Ok(Err((Status { retry_after_s, ..Status::new(code, message) }, outcome)));
        }
        let outputs = said.try_iter()?;
        let read = outputs.map(|one| Ok(Bytes::copy_from_slice(one?.cast::<PyBytes>()?.as_bytes())));
        Ok(Ok(read.collect::<PyResult<Vec<Bytes>>>()?))
    }

    /// One message a request, each with its own rows; None when an output does not hold as many rows as it must.
    pub fn answers(&self, batch: &[Job], outputs: &[Bytes]) -> Option<Vec<Bytes>> {
        if outputs.len() != self.outputs.len() {
            return None;
        }
        let mut at = vec![0_usize; outputs.len()];
        let mut written = Vec::with_capacity(batch.len());
        for job in batch {
            let mut message = BytesMut::with_capacity(job.form.head.len() + job.id.len() + 64);
            message.extend_from_slice(&job.form.head);
            if !job.id.is_empty() {
                put_bytes(&mut message, RESPONSE_ID, &job.id);
            }
            for ((kind, output), at) in self.outputs.iter().zip(outputs).zip(&mut at) {
                let rest = output.get(*at..)?;
                let size = match kind {
                    Rows::Fixed(size) => job.form.rows.checked_mul(*size)?,
                    Rows::Texts(texts) => texts_end(rest, job.form.rows.checked_mul(*texts)?, false)?,
                };
                put_bytes(&mut message, RESPONSE_RAW, rest.get(..size)?);
                *at += size;
            }
            written.push(message.freeze());
        }
        outputs.iter().zip(&at).all(|(output, at)| output.len() == *at).then_some(written)
    }
}
