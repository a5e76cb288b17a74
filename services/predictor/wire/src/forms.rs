//! Forms of requests, and what Python said of each.
//!
//! Callers send the same form again and again. Python has read and checked one request of a form against the model's
//! signature; a later one is good when its raw contents have the sizes that follow from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::lock;
use crate::message::Content;
use crate::group::Group;

/// Forms that are kept, and how large one may be: what callers make up must not become memory.
const MAX_FORMS: usize = 1024;
const MAX_FORM_BYTES: usize = 16 * 1024;

/// Requests that Python is looking at, and their bytes (one may always have more); others wait for their next request.
const MAX_ASKED: usize = 64;
const MAX_ASKED_BYTES: usize = 16 << 20;

/// A form that need not be read by Python. `head` is the response but for id and values.
pub struct Form {
    pub group: Arc<Group>,
    pub rows: usize,
    pub contents: Vec<Content>,
    pub head: Bytes,
}

impl Form {
    pub fn fits(&self, raw: &[Bytes]) -> bool {
        raw.len() == self.contents.len() && self.contents.iter().zip(raw).all(|(content, one)| content.holds(one))
    }
}

pub enum Known {
    Fast(Arc<Form>),
    Slow,
    /// Nothing is known yet, and Python should be asked.
    Ask,
    /// Nothing is known yet.
    Unknown,
}

enum Entry {
    Fast(Arc<Form>),
    Slow,
    /// Python was sent a request of so many bytes.
    Asked(usize),
}

#[derive(Default)]
struct Table {
    entries: HashMap<Vec<u8>, Entry>,
    asked: usize,
    asked_bytes: usize,
}

impl Table {
    /// Drop everything but what Python is looking at: what it will say holds.
    fn forget(&mut self) -> Vec<Entry> {
        let asked = |entry: &Entry| matches!(entry, Entry::Asked(_));
        let (kept, gone) = std::mem::take(&mut self.entries).into_iter().partition::<HashMap<_, _>, _>(|(_, one)| asked(one));
        self.entries = kept;
        gone.into_values().collect()
    }
}

#[derive(Default)]
pub struct Forms(Mutex<Table>);

impl Forms {
    /// What is known of the form of a request of `size` bytes; whoever is told to ask is the only one.
    pub fn look(&self, key: &[u8], size: usize) -> Known {
        let mut table = lock(&self.0);
        match table.entries.get(key) {
            Some(Entry::Fast(form)) => return Known::Fast(form.clone()),
            Some(Entry::Slow) => return Known::Slow,
            Some(Entry::Asked(_)) => return Known::Unknown,
            None => {}
        }
        let many = table.asked > 0 && (table.asked >= MAX_ASKED || table.asked_bytes + size > MAX_ASKED_BYTES);
        if key.len() > MAX_FORM_BYTES || many {
            return Known::Unknown;
        }
        if table.entries.len() >= MAX_FORMS {
            table.forget();
        }
        table.entries.insert(key.to_vec(), Entry::Asked(size));
        table.asked += 1;
        table.asked_bytes += size;
        Known::Ask
    }

    /// What Python says of a form it was asked about; None: requests of it are for Python.
    pub fn teach(&self, key: &[u8], form: Option<Arc<Form>>) {
        let mut table = lock(&self.0);
        let entry = form.map_or(Entry::Slow, Entry::Fast);
        if let Some(Entry::Asked(size)) = table.entries.insert(key.to_vec(), entry) {
            table.asked -= 1;
            table.asked_bytes -= size;
        }
    }

    pub fn forget(&self) {
        let forgotten = lock(&self.0).forget();
        drop(forgotten);
    }
}
