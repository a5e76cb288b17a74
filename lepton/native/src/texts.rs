//! Columns of texts as Arrow holds them: their hashes, where Kafka's partitioner puts them, and their msgpack.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::columns::eights;
use crate::sketch::{GOLDEN, mixed_bits};

const LONGEST: usize = 0xFFFF;
const SEED: u32 = 0x9747_B28C;
const MIX: u32 = 0x5BD1_E995;

/// Each text of a column: `ends` is where each begins and the last ends (native int32), `data` the bytes from the first
/// one's beginning on.
fn texts<'a>(ends: &'a [u8], data: &'a [u8]) -> PyResult<Vec<&'a [u8]>> {
    let places: Vec<i32> = ends.chunks_exact(4).map(|four| i32::from_ne_bytes([four[0], four[1], four[2], four[3]])).collect();
    let Some(first) = places.first().copied() else {
        return Err(PyValueError::new_err("a column has one end more than texts"));
    };
    let within = |place: i32| usize::try_from(i64::from(place) - i64::from(first)).ok();
    places
        .windows(2)
        .map(|pair| within(pair[0]).zip(within(pair[1])).and_then(|(start, end)| data.get(start..end)))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| PyValueError::new_err("a text lies outside its column"))
}

/// The number of at most eight bytes, the first the least.
fn word(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(eight)
}

/// The hash of each text (native uint64) as `services.ingest.core.keys.keys` has it.
#[pyfunction]
pub fn hashes<'py>(py: Python<'py>, ends: &[u8], data: &[u8], seed: u64) -> PyResult<Bound<'py, PyBytes>> {
    let texts = texts(ends, data)?;
    let mut found = Vec::with_capacity(texts.len() * 8);
    for text in texts {
        let mut value = (text.len() as u64).wrapping_mul(GOLDEN) ^ seed;
        for part in text.chunks(8) {
            value = mixed_bits(value ^ word(part));
        }
        found.extend_from_slice(&mixed_bits(value).to_ne_bytes());
    }
    Ok(PyBytes::new(py, &found))
}

/// MurmurHash2 (Austin Appleby) of each text (native uint32), with the seed of Kafka's `Utils.murmur2`.
#[pyfunction]
pub fn murmur2<'py>(py: Python<'py>, ends: &[u8], data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let texts = texts(ends, data)?;
    let mut found = Vec::with_capacity(texts.len() * 4);
    for text in texts {
        let mut value = SEED ^ text.len() as u32;
        for part in text.chunks(4) {
            let mut four = word(part) as u32;
            if part.len() == 4 {
                four = four.wrapping_mul(MIX);
                four = (four ^ (four >> 24)).wrapping_mul(MIX);
                value = value.wrapping_mul(MIX) ^ four;
            } else {
                value = (value ^ four).wrapping_mul(MIX);
            }
        }
        value = (value ^ (value >> 13)).wrapping_mul(MIX);
        found.extend_from_slice(&(value ^ (value >> 15)).to_ne_bytes());
    }
    Ok(PyBytes::new(py, &found))
}

/// Each text as msgpack begins and holds it, one after the other; None where one is longer than two bytes can say.
#[pyfunction]
pub fn packed<'py>(py: Python<'py>, ends: &[u8], data: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let texts = texts(ends, data)?;
    let mut found = Vec::with_capacity(data.len() + 3 * texts.len());
    for text in texts {
        match text.len() {
            size @ 0..32 => found.push(0xA0 | size as u8),
            size @ 32..256 => found.extend_from_slice(&[0xD9, size as u8]),
            size @ 256..=LONGEST => found.extend_from_slice(&[0xDA, (size >> 8) as u8, size as u8]),
            _ => return Ok(None),
        }
        found.extend_from_slice(text);
    }
    Ok(Some(PyBytes::new(py, &found)))
}

/// Whether a hash (native uint64) comes twice.
#[pyfunction]
pub fn repeated(hashes: &[u8]) -> bool {
    let size = (hashes.len() / 4).next_power_of_two().max(2);
    // Zero is a free slot, and so the one hash that is looked after by itself.
    let (mut slots, mut zero) = (vec![0u64; size], false);
    for hash in eights(hashes).map(u64::from_ne_bytes) {
        if hash == 0 {
            if zero {
                return true;
            }
            zero = true;
            continue;
        }
        let mut slot = hash as usize & (size - 1);
        while slots[slot] != 0 {
            if slots[slot] == hash {
                return true;
            }
            slot = (slot + 1) & (size - 1);
        }
        slots[slot] = hash;
    }
    false
}
