//! Columns as Arrow holds them, filled row by row.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Every eight bytes.
pub fn eights(data: &[u8]) -> impl Iterator<Item = [u8; 8]> + '_ {
    data.chunks_exact(8).map(|chunk| {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        eight
    })
}

/// A bit a row, least significant first.
#[derive(Default)]
struct Bits {
    data: Vec<u8>,
    size: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.size % 8 == 0 {
            self.data.push(0);
        }
        if let Some(last) = self.data.last_mut() {
            *last |= u8::from(bit) << (self.size % 8);
        }
        self.size += 1;
    }
}

enum Values {
    Reals(Vec<f64>),
    Wholes(Vec<i64>),
    Bools(Bits),
    Texts(Vec<i32>, Vec<u8>),
}

pub struct Column {
    values: Values,
    valid: Bits,
    missing: usize,
}

/// Missing values; validity where there are any; ends of texts or nothing; values.
pub type Buffers<'py> = (usize, Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>, Bound<'py, PyBytes>);

impl Column {
    pub fn reals(rows: usize) -> Column {
        Column::of(Values::Reals(Vec::with_capacity(rows)))
    }

    pub fn wholes(rows: usize) -> Column {
        Column::of(Values::Wholes(Vec::with_capacity(rows)))
    }

    pub fn bools() -> Column {
        Column::of(Values::Bools(Bits::default()))
    }

    pub fn texts(rows: usize) -> Column {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Column::of(Values::Texts(ends, Vec::new()))
    }

    fn of(values: Values) -> Column {
        Column { values, valid: Bits::default(), missing: 0 }
    }

    pub fn push_real(&mut self, value: f64) {
        if let Values::Reals(held) = &mut self.values {
            held.push(value);
        }
        self.valid.push(true);
    }

    pub fn push_whole(&mut self, value: i64) {
        if let Values::Wholes(held) = &mut self.values {
            held.push(value);
        }
        self.valid.push(true);
    }

    pub fn push_bool(&mut self, value: bool) {
        if let Values::Bools(held) = &mut self.values {
            held.push(value);
        }
        self.valid.push(true);
    }

    /// Texts of one column hold less than 2^31 bytes: so do the events of a batch they come from.
    pub fn push_text(&mut self, value: &[u8]) {
        if let Values::Texts(ends, held) = &mut self.values {
            held.extend_from_slice(value);
            ends.push(held.len() as i32);
        }
        self.valid.push(true);
    }

    pub fn push_missing(&mut self) {
        match &mut self.values {
            Values::Reals(held) => held.push(0.0),
            Values::Wholes(held) => held.push(0),
            Values::Bools(held) => held.push(false),
            Values::Texts(ends, held) => ends.push(held.len() as i32),
        }
        self.valid.push(false);
        self.missing += 1;
    }

    pub fn buffers<'py>(&self, py: Python<'py>) -> Buffers<'py> {
        let valid = (self.missing > 0).then(|| PyBytes::new(py, &self.valid.data));
        let (ends, values) = match &self.values {
            Values::Reals(held) => (None, bytes_of(py, held, |value| value.to_ne_bytes())),
            Values::Wholes(held) => (None, bytes_of(py, held, |value| value.to_ne_bytes())),
            Values::Bools(held) => (None, PyBytes::new(py, &held.data)),
            Values::Texts(ends, held) => (Some(bytes_of(py, ends, |end| end.to_ne_bytes())), PyBytes::new(py, held)),
        };
        (self.missing, valid, ends, values)
    }
}

fn bytes_of<'py, T: Copy, const N: usize>(py: Python<'py>, values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bound<'py, PyBytes> {
    let mut data = Vec::with_capacity(values.len() * N);
    for value in values {
        data.extend_from_slice(&bytes(*value));
    }
    PyBytes::new(py, &data)
}
