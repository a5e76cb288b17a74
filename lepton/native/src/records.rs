//! The records of a batch in Kafka's format 2 (KIP-98), found but not copied.

use std::ops::Range;

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

/// Where some bytes are in their batch; None for what Kafka calls null.
type Place = Option<Range<usize>>;

#[derive(Clone)]
struct Row {
    part: usize,
    offset: i64,
    timestamp: i64,
    key: Place,
    value: Place,
    /// The headers, and how many there are.
    headers: (Range<usize>, usize),
}

/// Records in the order of their offsets, of as many batches as were joined.
#[pyclass(frozen)]
pub struct Records {
    parts: Vec<Py<PyBytes>>,
    rows: Vec<Row>,
}

struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

fn broken(what: &str) -> PyErr {
    PyValueError::new_err(what.to_owned())
}

impl Cursor<'_> {
    /// A number as protobuf's zigzag varints say it.
    fn number(&mut self) -> PyResult<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.data.get(self.at).ok_or_else(|| broken("a number is cut off"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(broken("a number is too long"))
    }

    fn place(&mut self) -> PyResult<Place> {
        let size = self.number()?;
        if size < 0 {
            return Ok(None);
        }
        let end = usize::try_from(size).ok().and_then(|size| self.at.checked_add(size));
        let end = end.filter(|end| *end <= self.data.len()).ok_or_else(|| broken("a record is cut off"))?;
        let found = self.at..end;
        self.at = end;
        Ok(Some(found))
    }
}

/// What is the same of all records of a batch.
struct Batch {
    part: usize,
    base_offset: i64,
    first_timestamp: i64,
    /// The broker's time, where it stands for all records.
    append_time: Option<i64>,
}

fn row(cursor: &mut Cursor<'_>, batch: &Batch) -> PyResult<Row> {
    let size = cursor.number()?;
    let start = cursor.at;
    cursor.at += 1; // attributes, of which there are none
    let timestamp = batch.first_timestamp.wrapping_add(cursor.number()?);
    let offset = batch.base_offset.wrapping_add(cursor.number()?);
    let (key, value) = (cursor.place()?, cursor.place()?);
    let count = usize::try_from(cursor.number()?).map_err(|_| broken("a negative number of headers"))?;
    let first = cursor.at;
    for _ in 0..count {
        let name = cursor.place()?.ok_or_else(|| broken("a header without a name"))?;
        std::str::from_utf8(&cursor.data[name]).map_err(|_| broken("a header's name is not UTF-8"))?;
        cursor.place()?;
    }
    if i64::try_from(cursor.at - start) != Ok(size) {
        return Err(broken("a record is not as long as it says"));
    }
    let timestamp = batch.append_time.unwrap_or(timestamp);
    Ok(Row { part: batch.part, offset, timestamp, key, value, headers: (first..cursor.at, count) })
}

#[pymethods]
impl Records {
    /// The records of a batch from `start` to `end` of `data`, uncompressed; those before offset `first` are left out.
    /// Raises ValueError for what is no batch.
    #[staticmethod]
    #[pyo3(signature = (data, start, end, count, base_offset, first_timestamp, append_time, first))]
    #[allow(clippy::too_many_arguments)]
    fn read(data: Bound<'_, PyBytes>, start: usize, end: usize, count: usize, base_offset: i64, first_timestamp: i64,
            append_time: Option<i64>, first: i64) -> PyResult<Records> {
        let bytes = data.as_bytes().get(..end).filter(|bytes| start <= bytes.len());
        let mut cursor = Cursor { data: bytes.ok_or_else(|| broken("a batch is cut off"))?, at: start };
        let batch = Batch { part: 0, base_offset, first_timestamp, append_time };
        // A record takes seven bytes at least: nobody makes us reserve more by saying a count.
        let mut rows = Vec::with_capacity(count.min((end - start) / 7));
        for _ in 0..count {
            let row = row(&mut cursor, &batch)?;
            if row.offset >= first {
                rows.push(row);
            }
        }
        if cursor.at != end {
            return Err(broken("bytes are left behind the last record"));
        }
        Ok(Records { parts: vec![data.unbind()], rows })
    }

    /// All of these, one after the other.
    #[staticmethod]
    fn joined(py: Python<'_>, several: Vec<PyRef<'_, Records>>) -> Records {
        let mut found = Records { parts: Vec::new(), rows: Vec::with_capacity(several.iter().map(|one| one.rows.len()).sum()) };
        for one in &several {
            let before = found.parts.len();
            found.parts.extend(one.parts.iter().map(|part| part.clone_ref(py)));
            found.rows.extend(one.rows.iter().map(|row| Row { part: row.part + before, ..row.clone() }));
        }
        found
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }

    /// Those from `start` to before `stop`.
    fn part(&self, py: Python<'_>, start: usize, stop: usize) -> PyResult<Records> {
        let rows = self.rows.get(start..stop).ok_or_else(|| PyIndexError::new_err("no such records"))?;
        let (first, last) = (rows.first().map_or(0, |row| row.part), rows.last().map_or(0, |row| row.part));
        let parts = if rows.is_empty() { &[] } else { &self.parts[first..=last] };
        Ok(Records {
            parts: parts.iter().map(|part| part.clone_ref(py)).collect(),
            rows: rows.iter().map(|row| Row { part: row.part - first, ..row.clone() }).collect(),
        })
    }

    /// (topic, partition, offset, key, value, headers, timestamp) of each from `start` to before `stop`.
    fn told<'py>(&self, py: Python<'py>, topic: Bound<'py, PyString>, partition: Bound<'py, PyAny>, start: usize,
                 stop: usize) -> PyResult<Bound<'py, PyList>> {
        let rows = self.rows.get(start..stop).ok_or_else(|| PyIndexError::new_err("no such records"))?;
        let found = PyList::empty(py);
        for row in rows {
            let data = self.parts[row.part].as_bytes(py);
            let bytes = |place: &Place| place.clone().map(|place| PyBytes::new(py, &data[place]));
            found.append((&topic, &partition, row.offset, bytes(&row.key), bytes(&row.value),
                          headers(py, data, row)?, row.timestamp))?;
        }
        Ok(found)
    }

    /// Offset of each, as native int64.
    fn offsets<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        wholes(py, self.rows.iter().map(|row| row.offset), self.rows.len())
    }

    /// Timestamp of each in milliseconds, as native int64.
    fn timestamps<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        wholes(py, self.rows.iter().map(|row| row.timestamp), self.rows.len())
    }

    /// A byte for each: 1 where there is more to it than its value, or no value.
    fn odd<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let odd: Vec<u8> = self.rows.iter().map(|row| u8::from(row.headers.1 > 0 || row.value.is_none())).collect();
        PyBytes::new(py, &odd)
    }

    /// All values, one after the other, and where each begins and the last ends (native int64).
    fn values<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let size = self.rows.iter().map(|row| row.value.as_ref().map_or(0, |value| value.len())).sum();
        let data = PyBytes::new_with(py, size, |into| {
            let mut at = 0;
            for row in &self.rows {
                if let Some(value) = row.value.clone() {
                    let next = at + value.len();
                    into[at..next].copy_from_slice(&self.parts[row.part].as_bytes(py)[value]);
                    at = next;
                }
            }
            Ok(())
        })?;
        let mut end = 0;
        let ends = std::iter::once(0).chain(self.rows.iter().map(|row| {
            end += row.value.as_ref().map_or(0, |value| value.len()) as i64;
            end
        }));
        Ok((data, wholes(py, ends, self.rows.len() + 1)))
    }
}

fn headers<'py>(py: Python<'py>, data: &[u8], row: &Row) -> PyResult<Bound<'py, PyTuple>> {
    let mut cursor = Cursor { data, at: row.headers.0.start };
    let mut found = Vec::with_capacity(row.headers.1);
    for _ in 0..row.headers.1 {
        let name = cursor.place()?.unwrap_or(0..0);
        let name = String::from_utf8_lossy(&data[name]);
        let value = cursor.place()?.map(|value| PyBytes::new(py, &data[value]));
        found.push((name, value).into_pyobject(py)?);
    }
    PyTuple::new(py, found)
}

pub fn wholes<'py>(py: Python<'py>, numbers: impl Iterator<Item = i64>, count: usize) -> Bound<'py, PyBytes> {
    let mut data = Vec::with_capacity(count * 8);
    for number in numbers {
        data.extend_from_slice(&number.to_ne_bytes());
    }
    PyBytes::new(py, &data)
}
