//! Which of the newest entries of a growing list has a given hash: open addressing, as `services.ingest.core.keys.table`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::columns::eights;
use crate::records::wholes;

const NEVER: i64 = -1;
const LEAST_SLOTS: usize = 1024;

/// Numbers of entries by hash; an entry whose number is below the `oldest` of a call is as good as gone.
#[pyclass]
pub struct Newest {
    slots: Vec<(u64, i64)>,
    used: usize,
}

#[pymethods]
impl Newest {
    #[new]
    fn new() -> Newest {
        Newest { slots: vec![(0, NEVER); LEAST_SLOTS], used: 0 }
    }

    /// How many slots there are.
    #[getter]
    fn size(&self) -> usize {
        self.slots.len()
    }

    /// For each hash (native uint64) the number of its living entry (native int64), -1 where there is none.
    fn find<'py>(&self, py: Python<'py>, hashes: &[u8], oldest: i64) -> Bound<'py, PyBytes> {
        let found = eights(hashes).map(u64::from_ne_bytes).map(|hash| {
            let (_, number) = self.slots[self.place(hash, oldest)];
            if number >= oldest { number } else { NEVER }
        });
        wholes(py, found, hashes.len() / 8)
    }

    /// Entries with these numbers, none below `oldest`; places of those left out, as a living one has their hash.
    fn add<'py>(&mut self, py: Python<'py>, hashes: &[u8], numbers: &[u8], oldest: i64) -> PyResult<Bound<'py, PyBytes>> {
        if hashes.len() != numbers.len() {
            return Err(PyValueError::new_err("a number for each hash"));
        }
        self.make_room(hashes.len() / 8, oldest.max(0));
        let mut out = Vec::new();
        let entries = eights(hashes).map(u64::from_ne_bytes).zip(eights(numbers).map(i64::from_ne_bytes));
        for (place, (hash, number)) in entries.enumerate() {
            let slot = self.place(hash, oldest);
            if self.slots[slot].1 == NEVER {
                self.slots[slot] = (hash, number);
                self.used += 1;
            } else {
                out.push(place as i64);
            }
        }
        let count = out.len();
        Ok(wholes(py, out.into_iter(), count))
    }
}

impl Newest {
    /// The slot of the living entry with this hash, or else the first that is free.
    fn place(&self, hash: u64, oldest: i64) -> usize {
        let mask = self.slots.len() - 1;
        let (mut slot, step) = (hash as usize & mask, (hash >> 40) as usize | 1);
        loop {
            let (held, number) = self.slots[slot];
            // NEVER lies below every `oldest` that is asked for.
            if number == NEVER || (held == hash && number >= oldest) {
                return slot;
            }
            slot = (slot + step) & mask;
        }
    }

    /// Half of the slots stay free, so that a way ends soon.
    fn make_room(&mut self, count: usize, oldest: i64) {
        if 2 * (self.used + count) <= self.slots.len() {
            return;
        }
        let living: Vec<(u64, i64)> = self.slots.iter().copied().filter(|(_, number)| *number >= oldest).collect();
        let mut size = self.slots.len();
        while 2 * (living.len() + count) > size {
            size *= 2;
        }
        self.slots = vec![(0, NEVER); size];
        self.used = living.len();
        for (hash, number) in living {
            let slot = self.place(hash, oldest);
            self.slots[slot] = (hash, number);
        }
    }
}
