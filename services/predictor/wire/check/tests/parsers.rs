//! Bytes that are random, or were a message once: whatever they are, they are read as what they say or refused.
//!
//! `WIRE_SEED` and `WIRE_SECONDS` (for each test) may be set; a failure names the seed of its round.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use lepton_wire_check::grpc::{self, Status};
use lepton_wire_check::message::{put_bytes, put_varint, scan, texts_end, Content};

const ID: u64 = 3;
const RAW: u64 = 7;

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let size = self.below(most + 1);
        (0..size).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self) -> String {
        let size = self.below(12);
        (0..size).filter_map(|_| char::from_u32(self.next() as u32 >> self.below(32))).collect()
    }

    /// Bytes that are often nearly right: cut, flipped, doubled, or with a length that is not true.
    fn spoilt(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff][self.below(4)],
                3 => {
                    let more = self.bytes(12);
                    bytes.splice(at..at, more);
                }
                4 => bytes.extend_from_within(at..),
                _ => {
                    let mut length = BytesMut::new();
                    let shift = self.below(64);
                    put_varint(&mut length, self.next() >> shift);
                    bytes.splice(at..at, length);
                }
            }
        }
        bytes
    }

    /// A message as callers send it: fields in any order, of any kind.
    fn message(&mut self) -> Vec<u8> {
        let mut message = BytesMut::new();
        for _ in 0..self.below(8) {
            let (field, shift) = ([1, 2, 3, 5, 6, 7, 7, 99][self.below(8)], self.below(64));
            match self.below(6) {
                0 => {
                    put_varint(&mut message, field << 3);
                    put_varint(&mut message, self.next() >> shift);
                }
                1 => {
                    put_varint(&mut message, field << 3 | 1);
                    message.put_u64(self.next());
                }
                2 => {
                    put_varint(&mut message, field << 3 | 5);
                    message.put_u32(self.next() as u32);
                }
                3 => put_bytes(&mut message, field, self.text().as_bytes()),
                _ => {
                    let value = self.bytes(40);
                    put_bytes(&mut message, field, &value);
                }
            }
        }
        message.to_vec()
    }
}

/// Run rounds for as long as asked, and say which one failed.
fn rounds(least: u64, mut round: impl FnMut(&mut Chance)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (seed, seconds) = (number("WIRE_SEED").unwrap_or(6), number("WIRE_SECONDS").unwrap_or(0));
    let began = Instant::now();
    let mut done = 0_u64;
    while done < least || began.elapsed() < Duration::from_secs(seconds) {
        let mine = seed.wrapping_mul(1_000_003).wrapping_add(done);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| round(&mut Chance(mine))));
        assert!(outcome.is_ok(), "round {done} of seed {seed}");
        done += 1;
    }
    println!("{done} rounds");
}

#[test]
fn a_message_that_is_read_is_the_sum_of_its_parts() {
    let mut read = 0_u64;
    rounds(200_000, |chance| {
        let sent = match chance.below(4) {
            0 => chance.bytes(64),
            1 => chance.message(),
            _ => {
                let message = chance.message();
                chance.spoilt(message)
            }
        };
        let message = Bytes::from(sent);
        let Some(found) = scan(&message) else { return };
        read += 1;
        let parts = found.key.len() + found.id.len() + found.raw.iter().map(Bytes::len).sum::<usize>();
        assert!(parts <= message.len());
        assert!(std::str::from_utf8(&found.id).is_ok());
        let mut again = BytesMut::from(&found.key[..]);
        put_bytes(&mut again, ID, &found.id);
        for raw in &found.raw {
            put_bytes(&mut again, RAW, raw);
        }
        let twice = scan(&again.freeze()).expect("what was read can be written");
        assert_eq!((&twice.key, &twice.id, &twice.raw, &twice.model), (&found.key, &found.id, &found.raw, &found.model));
    });
    assert!(read > 20_000, "only {read} messages were read");
}

#[test]
fn texts_are_taken_apart_as_they_were_put_together() {
    rounds(100_000, |chance| {
        let texts: Vec<Vec<u8>> = (0..chance.below(6))
            .map(|_| if chance.below(4) > 0 { chance.text().into_bytes() } else { chance.bytes(9) })
            .collect();
        let mut raw = Vec::new();
        for text in &texts {
            raw.extend_from_slice(&(text.len() as u32).to_le_bytes());
            raw.extend_from_slice(text);
        }
        let utf8 = texts.iter().all(|text| std::str::from_utf8(text).is_ok());
        assert_eq!(texts_end(&raw, texts.len(), false), Some(raw.len()));
        assert_eq!(Content::Texts(texts.len()).holds(&raw), utf8);
        assert!(!Content::Texts(texts.len() + 1).holds(&raw));
        assert!(Content::Fixed(raw.len()).holds(&raw));
        let wrong = chance.spoilt(raw);
        let count = chance.below(9);
        assert!(texts_end(&wrong, count, false).is_none_or(|end| end <= wrong.len() && end >= 4 * count));
        assert!(texts_end(&wrong, usize::MAX, false).is_none());
    });
}

#[test]
fn a_prefix_says_no_more_than_the_limit() {
    rounds(100_000, |chance| {
        let mut prefix = chance.bytes(0);
        prefix.resize_with(grpc::PREFIX + chance.below(9), || chance.next() as u8);
        prefix[0] &= chance.below(3) as u8;
        let limit = (chance.next() >> 32 >> chance.below(32)) as usize;
        match grpc::announced(&prefix, limit) {
            Ok(length) => assert!(prefix[0] == 0 && length <= limit),
            Err(status) => assert_eq!(status.code, if prefix[0] == 0 { grpc::RESOURCE_EXHAUSTED } else { grpc::INTERNAL }),
        }
        let message = chance.bytes(100);
        let framed = grpc::framed(&message);
        assert_eq!((grpc::announced(&framed, 100).ok(), &framed[grpc::PREFIX..]), (Some(message.len()), &message[..]));
    });
}

#[test]
fn a_timeout_of_any_text_is_a_time_from_now_or_none() {
    rounds(100_000, |chance| {
        let mut text = chance.bytes(3);
        if chance.below(2) == 0 {
            let digits = chance.below(10);
            text = (0..digits).map(|_| b'0' + chance.below(10) as u8).collect();
            text.push(b"HMSmunx"[chance.below(7)]);
        }
        let Ok(value) = HeaderValue::from_bytes(&text) else { return };
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", value);
        let read = grpc::timeout(&headers);
        assert!(read.is_none_or(|left| Instant::now().checked_add(left).is_some()));
        let well = (2..=9).contains(&text.len()) && text[..text.len() - 1].iter().all(u8::is_ascii_digit)
            && b"HMSmun".contains(&text[text.len() - 1]);
        assert_eq!(read.is_some(), well, "{text:?}");
    });
}

#[test]
fn a_status_arrives_as_it_was_meant() {
    rounds(50_000, |chance| {
        let said = chance.text();
        let code = chance.below(20) as u16;
        let trailers = Status::new(code, said.clone()).trailers();
        let value = trailers.get("grpc-message").expect("every text can be written");
        assert!(value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte)));
        assert_eq!((grpc::unpercent(value.as_bytes()), &trailers["grpc-status"]), (said, &HeaderValue::from(code)));
        let any = chance.bytes(30);
        assert!(grpc::unpercent(&any).chars().count() <= any.len());
        assert!(!grpc::name(chance.next() as u16).is_empty());
    });
}

#[test]
fn only_the_connection_says_where_a_caller_is() {
    for said in [None, Some("away"), Some("here")] {
        let mut headers = HeaderMap::new();
        if let Some(said) = said {
            headers.append(grpc::CALLER, HeaderValue::from_static(said));
            headers.append(grpc::CALLER, HeaderValue::from_static(said));
        }
        let before = grpc::metadata_bytes(&headers);
        assert_eq!(before > 0, said.is_some());
        grpc::tell_caller(&mut headers, true);
        assert!(headers.get(grpc::CALLER).is_none());
        grpc::tell_caller(&mut headers, false);
        assert_eq!(headers.get_all(grpc::CALLER).iter().collect::<Vec<_>>(), ["away"]);
    }
}
