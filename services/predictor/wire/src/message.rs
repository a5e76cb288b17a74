//! What is read of a ModelInferRequest here: its id, its raw contents, and the rest of its bytes as they are.

use bytes::{BufMut, Bytes, BytesMut};

const MODEL: u64 = 1;
const ID: u64 = 3;
const RAW: u64 = 7;

/// A request taken apart. `key` is everything but id and raw contents, as it was sent.
#[derive(Debug)]
pub struct Scanned {
    pub model: Bytes,
    pub id: Bytes,
    pub raw: Vec<Bytes>,
    pub key: Vec<u8>,
}

/// None for bytes that are no message.
pub fn scan(message: &Bytes) -> Option<Scanned> {
    let bytes = &message[..];
    let mut found = Scanned { model: Bytes::new(), id: Bytes::new(), raw: Vec::new(), key: Vec::with_capacity(256) };
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let tag = varint(bytes, &mut at)?;
        let (field, kind) = (tag >> 3, tag & 7);
        if field == 0 || tag > u64::from(u32::MAX) {
            return None;
        }
        let size = match kind {
            0 => {
                varint(bytes, &mut at)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(bytes, &mut at)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let end = at.checked_add(size).filter(|end| *end <= bytes.len())?;
        match (field, kind) {
            (ID, 2) => {
                std::str::from_utf8(&bytes[at..end]).ok()?;
                found.id = message.slice(at..end);
            }
            (RAW, 2) => found.raw.push(message.slice(at..end)),
            _ => {
                if (field, kind) == (MODEL, 2) {
                    found.model = message.slice(at..end);
                }
                found.key.extend_from_slice(&bytes[start..end]);
            }
        }
        at = end;
    }
    Some(found)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub fn put_varint(into: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        into.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    into.put_u8(value as u8);
}

pub fn put_bytes(into: &mut BytesMut, field: u64, value: &[u8]) {
    put_varint(into, field << 3 | 2);
    put_varint(into, value.len() as u64);
    into.put_slice(value);
}

/// What one raw tensor must hold: so many bytes, or so many texts, each behind its length.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    Fixed(usize),
    Texts(usize),
}

impl Content {
    pub fn holds(self, raw: &[u8]) -> bool {
        match self {
            Content::Fixed(size) => raw.len() == size,
            Content::Texts(count) => texts_end(raw, count, true) == Some(raw.len()),
        }
    }
}

/// Where the first `count` texts of `raw` end; None when it has fewer, or one is not UTF-8 and should be.
pub fn texts_end(raw: &[u8], count: usize, utf8: bool) -> Option<usize> {
    let mut at = 0_usize;
    for _ in 0..count {
        let prefix: [u8; 4] = raw.get(at..at + 4)?.try_into().ok()?;
        let start = at + 4;
        at = start.checked_add(u32::from_le_bytes(prefix) as usize)?;
        let text = raw.get(start..at)?;
        if utf8 {
            std::str::from_utf8(text).ok()?;
        }
    }
    Some(at)
}
