//! The cells of an HLL sketch (Flajolet et al. 2007) over a column, as `services.ingest.core.counting.sketches` fills them.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::columns::eights;

pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
pub fn mixed_bits(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The greatest rank of a set bit for each of 2^`lg_k` cells, of 64-bit values (native uint64) once they are mixed.
#[pyfunction]
pub fn registers<'py>(py: Python<'py>, values: &[u8], lg_k: u32) -> Bound<'py, PyBytes> {
    let lg_k = lg_k.clamp(4, 21);
    let mut cells = vec![0u8; 1 << lg_k];
    for value in eights(values).map(u64::from_ne_bytes) {
        let hash = mixed_bits(value.wrapping_add(GOLDEN));
        // Told by the exponent of a double; the bit set at the end bounds it where all others are clear.
        let rest = ((hash << lg_k) | (1 << (lg_k - 1))) as f64;
        let rank = (64 + 1023 - (rest.to_bits() >> 52)) as u8;
        let cell = &mut cells[(hash >> (64 - lg_k)) as usize];
        *cell = rank.max(*cell);
    }
    PyBytes::new(py, &cells)
}
