//! Sums of columns of numbers, added strictly from the first row to the last: the bits numpy gives, without its copies.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::columns::eights;

const PARTS: usize = 7;

/// `services.ingest.core.steps.moments.Moments` with rows added: `state` is seven parts of so many columns, `rows` one
/// column after the other (native doubles).
#[pyfunction]
pub fn fed<'py>(py: Python<'py>, state: &[u8], rows: &[u8], columns: usize) -> PyResult<Bound<'py, PyBytes>> {
    let mut state: Vec<f64> = eights(state).map(f64::from_ne_bytes).collect();
    let values = rows.len() / 8;
    if columns == 0 || state.len() != PARTS * columns || values % columns != 0 {
        return Err(PyValueError::new_err("seven parts and as many values of every column"));
    }
    let size = values / columns;
    for column in 0..columns {
        let part = |number: usize| number * columns + column;
        let [mut present, mut shift, mut total, mut squares, mut low, mut high] =
            [0, 2, 3, 4, 5, 6].map(|number| state[part(number)]);
        let before = present;
        for value in eights(&rows[column * size * 8..(column + 1) * size * 8]).map(f64::from_ne_bytes) {
            if !value.is_finite() {
                continue;
            }
            if shift.is_nan() {
                shift = value;
            }
            let apart = value - shift;
            present += 1.0;
            total += apart;
            squares += apart * apart;
            low = if value < low { value } else { low };
            high = if value > high { value } else { high };
        }
        state[part(1)] += size as f64 - (present - before);
        for (number, value) in [(0, present), (2, shift), (3, total), (4, squares), (5, low), (6, high)] {
            state[part(number)] = value;
        }
    }
    let data: Vec<u8> = state.iter().flat_map(|value| value.to_ne_bytes()).collect();
    Ok(PyBytes::new(py, &data))
}
