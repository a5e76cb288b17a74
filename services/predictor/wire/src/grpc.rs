//! How gRPC lies on HTTP/2: frames of messages, statuses, deadlines.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue};

pub const DEADLINE_EXCEEDED: u16 = 4;
pub const PERMISSION_DENIED: u16 = 7;
pub const RESOURCE_EXHAUSTED: u16 = 8;
pub const UNIMPLEMENTED: u16 = 12;
pub const INTERNAL: u16 = 13;
pub const UNAVAILABLE: u16 = 14;
pub const UNAUTHENTICATED: u16 = 16;

/// What messages may be packed with; all but the first are unpacked by the Python door.
pub const ENCODINGS: [&[u8]; 3] = [b"identity", b"deflate", b"gzip"];

/// Metadata that tells the Python door of a caller on another machine.
pub const CALLER: &str = "lepton-caller";

/// Trailing metadata of a call that the predictor itself ended. Where it is missing, whoever called cannot tell whether
/// the predictor was reached.
pub const ANSWERED: &str = "lepton-answered";

/// Bytes before a message: whether it is compressed, and its length.
pub const PREFIX: usize = 5;

const NAMES: [&str; 17] = [
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
];

/// How a call ends when it does not end well.
#[derive(Clone, Debug)]
pub struct Status {
    pub code: u16,
    pub message: String,
    pub retry_after_s: Option<f64>,
    /// False where the Python behind this door was not reached.
    pub answered: bool,
}

impl Status {
    pub fn new(code: u16, message: impl Into<String>) -> Status {
        Status { code, message: message.into(), retry_after_s: None, answered: true }
    }

    pub fn name(&self) -> &'static str {
        name(self.code)
    }

    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(4);
        trailers.insert("grpc-status", HeaderValue::from(self.code));
        if let Ok(message) = HeaderValue::from_str(&percent(&self.message)) {
            trailers.insert("grpc-message", message);
        }
        if let Some(seconds) = self.retry_after_s {
            if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.3}")) {
                trailers.insert("retry-after-s", value);
            }
        }
        if self.answered {
            trailers.insert(ANSWERED, HeaderValue::from_static("1"));
        }
        trailers
    }
}

pub fn name(code: u16) -> &'static str {
    NAMES.get(code as usize).copied().unwrap_or("UNKNOWN")
}

pub fn ended_well() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

/// A message as it lies on the wire.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    put_frame(&mut frame, message);
    frame.freeze()
}

pub fn put_frame(into: &mut BytesMut, message: &[u8]) {
    into.put_u8(0);
    into.put_u32(message.len() as u32);
    into.put_slice(message);
}

/// What a prefix says: the message's length, or why it cannot be read. `bytes` holds at least PREFIX bytes.
pub fn announced(bytes: &[u8], limit: usize) -> Result<usize, Status> {
    if bytes[0] != 0 {
        return Err(Status::new(INTERNAL, "a message is marked compressed, but no grpc-encoding was named"));
    }
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    if length > limit {
        let said = format!("Received message larger than max ({length} vs. {limit})");
        return Err(Status::new(RESOURCE_EXHAUSTED, said));
    }
    Ok(length)
}

/// Have the metadata say whether the caller is on this machine, whatever the caller says.
pub fn tell_caller(headers: &mut HeaderMap, local: bool) {
    headers.remove(CALLER);
    if !local {
        headers.insert(CALLER, HeaderValue::from_static("away"));
    }
}

/// Bytes of a call's metadata, as HTTP/2 counts them.
pub fn metadata_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// The caller's time, from `grpc-timeout`: at most eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// `grpc-message` holds printable ASCII; everything else is percent-encoded UTF-8.
fn percent(message: &str) -> String {
    let mut written = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            written.push(byte as char);
        } else {
            written.push_str(&format!("%{byte:02X}"));
        }
    }
    written
}

/// The text of a `grpc-message`.
pub fn unpercent(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut at = 0;
    while at < value.len() {
        let hex = value.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (value[at], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                at += 3;
            }
            (byte, _) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
