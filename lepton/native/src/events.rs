//! JSON objects as columns: those that are plainly good, each member of the strict type its Pipeline says.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::columns::{eights, Buffers, Column};
use crate::scan::{moment, unescape, Number, Odd, Scan, Sure};

enum Kind {
    Float(f64, f64),
    Int(i64, i64),
    Bool,
    /// One of these, or any where there are none; of so many characters as a name where that is not 0.
    Text(Vec<Vec<u8>>, usize),
    /// Microseconds since the epoch.
    Time,
    /// What an event or an entity is called: so many characters at most, no control characters; integers by their digits.
    Name(usize),
}

struct Member {
    name: Vec<u8>,
    kind: Kind,
    required: bool,
}

type Told = (String, String, bool, Option<(f64, f64)>, Option<(i64, i64)>, Vec<String>, usize);

/// A member's value in the event that is being read.
#[derive(Clone, Copy)]
enum Slot {
    Absent,
    Missing,
    Real(f64),
    Whole(i64),
    Bool(bool),
    /// Bytes of the event.
    Text(usize, usize),
    /// Bytes of `unescaped`.
    Unescaped(usize, usize),
}

/// Reads events of one Pipeline version.
#[pyclass(frozen)]
pub struct Events {
    members: Vec<Member>,
}

struct Row {
    slots: Vec<Slot>,
    unescaped: Vec<u8>,
}

#[pymethods]
impl Events {
    /// Each member is (name, kind, required, bounds of a float, of an int, texts it may be, most characters).
    #[new]
    fn new(members: Vec<Told>) -> PyResult<Events> {
        let members = members.into_iter().map(|(name, kind, required, reals, wholes, texts, most)| {
            let (low, high) = reals.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
            let (least, greatest) = wholes.unwrap_or((i64::MIN, i64::MAX));
            let kind = match kind.as_str() {
                "float" => Kind::Float(low, high),
                "int" => Kind::Int(least, greatest),
                "bool" => Kind::Bool,
                "text" => Kind::Text(texts.into_iter().map(String::into_bytes).collect(), most),
                "time" => Kind::Time,
                "name" => Kind::Name(most),
                other => return Err(PyValueError::new_err(format!("no kind {other}"))),
            };
            Ok(Member { name: name.into_bytes(), kind, required })
        });
        Ok(Events { members: members.collect::<PyResult<_>>()? })
    }

    /// Of the values in `data`, the i-th from `starts[i]` to `starts[i + 1]` (native int64): the places of those that
    /// are plainly good (native int64), and a column for each member. `odd` says with a 1 which are not to be looked at.
    fn read<'py>(&self, py: Python<'py>, data: &[u8], starts: &[u8], odd: &[u8]) -> PyResult<(Bound<'py, PyBytes>, Vec<Buffers<'py>>)> {
        let starts: Vec<usize> = eights(starts).map(|start| i64::from_ne_bytes(start).max(0) as usize).collect();
        if starts.len() != odd.len() + 1 || data.len() > i32::MAX as usize {
            return Err(PyValueError::new_err("so many values need one start more, and 2 GiB at most"));
        }
        let mut columns: Vec<Column> = self.members.iter().map(|member| member.column(odd.len())).collect();
        let mut row = Row { slots: vec![Slot::Absent; self.members.len()], unescaped: Vec::new() };
        let mut good = Vec::with_capacity(odd.len() * 8);
        for (place, odd) in odd.iter().enumerate() {
            let value = data.get(starts[place]..starts[place + 1]).filter(|_| *odd == 0);
            if let Some(value) = value {
                if self.event(value, &mut row).is_ok() {
                    row.push(value, &mut columns);
                    good.extend_from_slice(&(place as i64).to_ne_bytes());
                }
            }
        }
        Ok((PyBytes::new(py, &good), columns.iter().map(|column| column.buffers(py)).collect()))
    }
}

impl Events {
    fn event(&self, value: &[u8], row: &mut Row) -> Sure<()> {
        if !value.is_ascii() && std::str::from_utf8(value).is_err() {
            return Err(Odd);
        }
        row.slots.fill(Slot::Absent);
        row.unescaped.clear();
        let mut scan = Scan { data: value, at: 0 };
        scan.space();
        scan.take(b'{')?;
        scan.space();
        let mut next = 0;
        loop {
            // An empty object lacks its id, which makes it odd in any case.
            let name = scan.text()?;
            if name.escaped {
                return Err(Odd);
            }
            scan.space();
            scan.take(b':')?;
            scan.space();
            match self.find(name.raw, next) {
                Some(place) => {
                    if !matches!(row.slots[place], Slot::Absent) {
                        return Err(Odd);
                    }
                    row.slots[place] = self.members[place].value(&mut scan, &mut row.unescaped)?;
                    next = place + 1;
                }
                None => scan.skip(0)?,
            }
            scan.space();
            if scan.peek()? == b'}' {
                break;
            }
            scan.take(b',')?;
            scan.space();
        }
        scan.at += 1;
        scan.space();
        let lacks = |(member, slot): (&Member, &Slot)| member.required && matches!(slot, Slot::Absent | Slot::Missing);
        if scan.at != value.len() || self.members.iter().zip(&row.slots).any(lacks) {
            return Err(Odd);
        }
        Ok(())
    }

    /// Most events have their members in one order: the one behind the last is looked at first.
    fn find(&self, name: &[u8], next: usize) -> Option<usize> {
        if self.members.get(next).is_some_and(|member| member.name == name) {
            return Some(next);
        }
        self.members.iter().position(|member| member.name == name)
    }
}

impl Member {
    fn column(&self, rows: usize) -> Column {
        match self.kind {
            Kind::Float(..) => Column::reals(rows),
            Kind::Int(..) | Kind::Time => Column::wholes(rows),
            Kind::Bool => Column::bools(),
            Kind::Text(..) | Kind::Name(_) => Column::texts(rows),
        }
    }

    fn value(&self, scan: &mut Scan<'_>, unescaped: &mut Vec<u8>) -> Sure<Slot> {
        let first = scan.peek()?;
        if first == b'n' {
            scan.word(b"null")?;
            return Ok(Slot::Missing);
        }
        match &self.kind {
            Kind::Float(low, high) => {
                let value = match scan.number()? {
                    Number::Real(value) => value,
                    Number::Whole(value) => value as f64,
                };
                if value < *low || value > *high { Err(Odd) } else { Ok(Slot::Real(value)) }
            }
            Kind::Int(low, high) => match scan.number()? {
                Number::Whole(value) if (*low..=*high).contains(&value) => Ok(Slot::Whole(value)),
                _ => Err(Odd),
            },
            Kind::Bool if first == b't' => scan.word(b"true").map(|()| Slot::Bool(true)),
            Kind::Bool => scan.word(b"false").map(|()| Slot::Bool(false)),
            Kind::Time if first == b'"' => {
                let text = scan.text()?;
                moment(text.raw).map(Slot::Whole)
            }
            Kind::Time => epoch(scan.number()?).map(Slot::Whole),
            Kind::Text(known, most) => {
                let (slot, text) = text(scan, unescaped)?;
                let fits = known.is_empty() || known.iter().any(|one| one == text);
                if fits && (*most == 0 || is_name(text, *most)) { Ok(slot) } else { Err(Odd) }
            }
            Kind::Name(most) if first == b'"' => {
                let (slot, text) = text(scan, unescaped)?;
                if is_name(text, *most) { Ok(slot) } else { Err(Odd) }
            }
            Kind::Name(_) => {
                let start = scan.at;
                match scan.number()? {
                    Number::Whole(_) => Ok(Slot::Text(start, scan.at)),
                    Number::Real(_) => Err(Odd),
                }
            }
        }
    }
}

/// Whether it has one to so many characters, none of them a control character.
fn is_name(text: &[u8], most: usize) -> bool {
    // What is no more bytes is no more characters; the others are counted.
    let short = text.len() <= most || std::str::from_utf8(text).is_ok_and(|text| text.chars().count() <= most);
    short && !text.is_empty() && !text.iter().any(|byte| *byte < 0x20 || *byte == 0x7f)
}

/// A text as it is, and where it is held.
fn text<'u, 's: 'u>(scan: &mut Scan<'s>, unescaped: &'u mut Vec<u8>) -> Sure<(Slot, &'u [u8])> {
    let found = scan.text()?;
    if !found.escaped {
        let end = scan.at - 1;
        return Ok((Slot::Text(end - found.raw.len(), end), found.raw));
    }
    let start = unescaped.len();
    unescape(found.raw, unescaped)?;
    Ok((Slot::Unescaped(start, unescaped.len()), &unescaped[start..]))
}

/// Microseconds of seconds since the epoch, or from 1e11 on of milliseconds, in the years 1 to 9999.
fn epoch(value: Number) -> Sure<i64> {
    const FIRST: f64 = -62_135_596_800.0;
    const END: f64 = 253_402_300_800.0;
    let number = match value {
        Number::Whole(value) => value as f64,
        Number::Real(value) => value,
    };
    let in_ms = number.abs() >= 1e11;
    let scale = if in_ms { 1000.0 } else { 1.0 };
    if number < FIRST * scale || number >= END * scale {
        return Err(Odd);
    }
    match value {
        Number::Whole(value) => Ok(value * if in_ms { 1000 } else { 1_000_000 }),
        Number::Real(value) => Ok((value * if in_ms { 1000.0 } else { 1_000_000.0 }).round_ties_even() as i64),
    }
}

impl Row {
    fn push(&self, event: &[u8], columns: &mut [Column]) {
        for (slot, column) in self.slots.iter().zip(columns) {
            match *slot {
                Slot::Absent | Slot::Missing => column.push_missing(),
                Slot::Real(value) => column.push_real(value),
                Slot::Whole(value) => column.push_whole(value),
                Slot::Bool(value) => column.push_bool(value),
                Slot::Text(start, end) => column.push_text(&event[start..end]),
                Slot::Unescaped(start, end) => column.push_text(&self.unescaped[start..end]),
            }
        }
    }
}
