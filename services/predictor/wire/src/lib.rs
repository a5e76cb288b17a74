//! The native wire: HTTP/2, gRPC's frames, deadlines, queues and counts of the requests that need nothing but a batch.
//!
//! What decides is Python: which forms of requests are good for which version of a model, which keys hold, what is
//! logged. Every other call goes on, as it came, to the Python door behind a Unix socket.

mod alarm;
mod body;
mod calls;
mod counts;
mod forms;
mod group;
mod grpc;
mod inner;
mod limits;
mod message;
mod pace;
mod peer;
mod server;
mod stream;
mod work;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::{mpsc, watch, Semaphore};

use alarm::Alarm;
use calls::{Key, Shared, PYTHON_CALLS};
use forms::{Form, Forms};
use limits::Budget;
use message::Content;
use group::{Bounds, Group as WorkGroup, Lane as WorkLane, Rows};
use pace::Pace;
use work::{Done, Shop, Worker};

/// Callers' bytes in memory at once, as a multiple of the largest request, and no less than so many.
const BUDGET_REQUESTS: usize = 8;
const MIN_BUDGET: usize = 64 << 20;

/// A lock that a panic elsewhere does not make unusable: what it guards is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place for the requests of one version of a model.
#[pyclass(frozen)]
struct Lane(Arc<WorkLane>);

#[pyclass(frozen)]
struct Group(Arc<WorkGroup>);

#[pymethods]
impl Lane {
    /// `run(rows, inputs, logged)` answers a batch; `outputs` are bytes a row, or minus the texts a row.
    fn group(&self, run: Py<PyAny>, outputs: Vec<i64>) -> Group {
        let outputs = outputs.into_iter().map(|one| {
            if one < 0 { Rows::Texts(one.unsigned_abs() as usize) } else { Rows::Fixed(one as usize) }
        });
        Group(Arc::new(WorkGroup::new(self.0.clone(), run, outputs.collect())))
    }

    /// Requests that wait for a batch.
    fn pending(&self) -> usize {
        self.0.pending.load(Ordering::Relaxed)
    }
}

/// Model, version, requests by outcome, rows; seconds of answered and of failed requests, and of the steps of the
/// former; seconds since the last answer; batches by rows; seconds of some answers.
type Counted = (String, String, HashMap<String, u64>, u64, (f64, f64), [f64; 4], Option<f64>,
                HashMap<usize, (u64, f64, f64, f64)>, Vec<f64>);

#[pyclass(frozen)]
struct Door {
    shared: Arc<Shared>,
    drain: watch::Sender<bool>,
    grace: watch::Sender<Duration>,
    io: Mutex<Option<JoinHandle<()>>>,
    workers: Mutex<Vec<(Arc<Worker>, JoinHandle<()>)>>,
    runtime: tokio::runtime::Handle,
    #[pyo3(get)]
    port: u16,
}

#[pymethods]
impl Door {
    /// Listen, and answer from now on. Raises OSError when the port is taken. Signals should be blocked in the thread
    /// that calls this.
    #[new]
    #[pyo3(signature = (host, port, inner, ask, *, request_bytes, timeout_s, traced, log_share))]
    #[allow(clippy::too_many_arguments)]
    fn new(host: &str, port: u16, inner: String, ask: Py<PyAny>, request_bytes: usize, timeout_s: f64, traced: bool,
           log_share: f64) -> PyResult<Door> {
        let listener = std::net::TcpListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (drain, draining) = watch::channel(false);
        let (grace, left) = watch::channel(Duration::ZERO);
        let (sender, done) = mpsc::unbounded_channel::<Done>();
        let shop = Arc::new(Shop { ask, done: sender, counts: Mutex::default() });
        let worker = Arc::new(Worker::new(handle.clone(), shop.clone()));
        let shared = Arc::new(Shared {
            forms: Forms::default(),
            alarm: Alarm::default(),
            shop: shop.clone(),
            worker: worker.clone(),
            keys: RwLock::default(),
            inner,
            request_bytes,
            timeout: Duration::from_secs_f64(timeout_s),
            budget: Budget::new((request_bytes * BUDGET_REQUESTS).max(MIN_BUDGET)),
            python: Semaphore::new(PYTHON_CALLS),
            traced,
            log_share,
            log_due: Mutex::default(),
            waiting: Arc::default(),
            under_way: AtomicUsize::new(0),
            draining,
        });
        let served = shared.clone();
        let io = std::thread::Builder::new().name("wire".into()).spawn(move || {
            // Known to Python from the start: to become so for each batch that runs here would cost more than the batch.
            Python::attach(|py| py.detach(|| runtime.block_on(async move {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    server::serve(listener, served, done, left).await;
                }
            })));
        })?;
        let door = Door { shared, drain, grace, io: Mutex::new(Some(io)), workers: Mutex::default(), runtime: handle, port };
        door.begin(worker)?;
        Ok(door)
    }

    /// SHA-256 of every `authorization` that is good from now on.
    fn keys(&self, digests: Vec<Key>) {
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) =
            digests.into_iter().map(|key| (key, AtomicBool::new(false))).collect();
    }

    /// Those of them that came since the last call.
    fn used(&self) -> Vec<Key> {
        let keys = self.shared.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().filter(|(_, came)| came.swap(false, Ordering::Relaxed)).map(|(key, _)| *key).collect()
    }

    /// A place for the requests of one version of a model; what is not `quick` gets a thread of its own. Of one that is
    /// `steady` too, how long a run takes follows from its rows: a lone request may run where it was read. `pace`: seconds
    /// of a batch of one row, and of each further row; who would wait longer than `wait_s` is refused.
    #[pyo3(signature = (model, version, quick, *, steady, max_rows, queue_rows, wait_s, pace))]
    #[allow(clippy::too_many_arguments)]
    fn lane(&self, model: String, version: String, quick: bool, steady: bool, max_rows: usize, queue_rows: usize,
            wait_s: Option<f64>, pace: (f64, f64)) -> PyResult<Lane> {
        let worker = if quick { self.shared.worker.clone() } else {
            Arc::new(Worker::new(self.runtime.clone(), self.shared.shop.clone()))
        };
        if !quick {
            self.begin(worker.clone())?;
        }
        let (waiting, pending, all) = (AtomicUsize::new(0), AtomicUsize::new(0), self.shared.waiting.clone());
        let bounds = Bounds { max_rows, queue_rows, wait_s, pace: Pace::new(pace.0, pace.1) };
        let lane = WorkLane { model, version, bounds, waiting, pending, all, worker, own: !quick, steady };
        Ok(Lane(Arc::new(lane)))
    }

    /// What holds of the form of the request that `ask` was called with: `contents` are bytes of each raw input, or
    /// minus the number of texts in it; `head` is the response but for id and values.
    fn teach(&self, key: &[u8], group: &Group, rows: usize, contents: Vec<i64>, head: &[u8]) {
        let contents = contents.into_iter().map(|one| {
            if one < 0 { Content::Texts(one.unsigned_abs() as usize) } else { Content::Fixed(one as usize) }
        });
        let form = Form { group: group.0.clone(), rows, contents: contents.collect(), head: Bytes::copy_from_slice(head) };
        self.shared.forms.teach(key, Some(Arc::new(form)));
    }

    /// Requests of this form are for the Python door.
    fn leave(&self, key: &[u8]) {
        self.shared.forms.teach(key, None);
    }

    /// Nothing that was taught holds any more. Requests that wait already are answered as they were taken.
    fn forget(&self, py: Python<'_>) {
        py.detach(|| self.shared.forms.forget());
    }

    /// What was done since the last call.
    fn take(&self) -> Vec<Counted> {
        let counts = std::mem::take(&mut *lock(&self.shared.shop.counts));
        counts.into_iter().map(|((model, version), one)| {
            (model, version, one.outcomes, one.rows, (one.success_s, one.fail_s), one.steps_s,
             one.last.map(|last| last.elapsed().as_secs_f64()), one.batches, one.timed)
        }).collect()
    }

    /// Rows that wait for a batch.
    fn waiting_rows(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Calls that are being answered here.
    fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::Relaxed)
    }

    /// Take no more connections and calls, answer what was taken, and give up what is open after `grace_s`. Blocks.
    fn stop(&self, py: Python<'_>, grace_s: f64) -> PyResult<()> {
        py.detach(|| {
            self.grace.send_replace(Duration::from_secs_f64(grace_s));
            self.drain.send_replace(true);
            let mut ended = lock(&self.io).take().is_none_or(|io| io.join().is_ok());
            self.shared.forms.forget();
            for (worker, thread) in std::mem::take(&mut *lock(&self.workers)) {
                worker.stop();
                ended &= thread.join().is_ok();
            }
            if ended { Ok(()) } else { Err(PyRuntimeError::new_err("a thread of the wire panicked")) }
        })
    }
}

impl Door {
    fn begin(&self, worker: Arc<Worker>) -> PyResult<()> {
        let works = worker.clone();
        let thread = std::thread::Builder::new().name("wire inference".into()).spawn(move || works.work())?;
        let mut workers = lock(&self.workers);
        workers.retain(|(_, thread)| !thread.is_finished());
        workers.push((worker, thread));
        Ok(())
    }
}

#[pymodule]
mod native {
    #[pymodule_export]
    use super::{Door, Group, Lane};
}
