//! Pieces of JSON (RFC 8259), each read only where nothing about it is in doubt.

/// What cannot be said here for sure; whoever reads the event again says what it is.
pub struct Odd;

pub type Sure<T> = Result<T, Odd>;

const MAX_DEPTH: usize = 24;
/// Longer numbers are rare, and rounding them right is somebody else's.
const MAX_NUMBER: usize = 40;
/// Every power of ten that a double holds exactly.
const EXACT_TENS: [f64; 23] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
                               1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

pub struct Scan<'a> {
    pub data: &'a [u8],
    pub at: usize,
}

#[derive(Clone, Copy)]
pub enum Number {
    /// No fraction, no exponent, 18 digits at most, and not minus zero.
    Whole(i64),
    Real(f64),
}

/// A text without its quotes; unescaped only where `escaped`.
pub struct Text<'a> {
    pub raw: &'a [u8],
    pub escaped: bool,
}

impl<'a> Scan<'a> {
    pub fn peek(&self) -> Sure<u8> {
        self.data.get(self.at).copied().ok_or(Odd)
    }

    pub fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.data.get(self.at) {
            self.at += 1;
        }
    }

    pub fn take(&mut self, wanted: u8) -> Sure<()> {
        if self.peek()? != wanted {
            return Err(Odd);
        }
        self.at += 1;
        Ok(())
    }

    pub fn word(&mut self, wanted: &[u8]) -> Sure<()> {
        if !self.data[self.at..].starts_with(wanted) {
            return Err(Odd);
        }
        self.at += wanted.len();
        Ok(())
    }

    /// What stands between quotes; escapes are those of RFC 8259.
    pub fn text(&mut self) -> Sure<Text<'a>> {
        self.take(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 1;
                    self.peek()?;
                }
                0..=0x1f => return Err(Odd),
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(Text { raw: &self.data[start..self.at - 1], escaped })
    }

    pub fn number(&mut self) -> Sure<Number> {
        let start = self.at;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let first = self.at;
        let mut mantissa = 0u64;
        let mut digits = self.digits(&mut mantissa)?;
        if digits > 1 && self.data[first] == b'0' {
            return Err(Odd);
        }
        let mut tens = 0;
        let whole = !matches!(self.data.get(self.at), Some(b'.' | b'e' | b'E'));
        if whole {
            if digits > 18 || (negative && mantissa == 0) {
                return Err(Odd);
            }
            let value = mantissa as i64;
            return Ok(Number::Whole(if negative { -value } else { value }));
        }
        if self.data[self.at] == b'.' {
            self.at += 1;
            let fraction = self.digits(&mut mantissa)?;
            digits += fraction;
            tens -= fraction as i64;
        }
        if let Some(b'e' | b'E') = self.data.get(self.at) {
            self.at += 1;
            let below = self.peek()? == b'-';
            self.at += usize::from(below || self.peek()? == b'+');
            let mut power = 0u64;
            if self.digits(&mut power)? > 4 {
                return Err(Odd);
            }
            tens += if below { -(power as i64) } else { power as i64 };
        }
        if self.at - start > MAX_NUMBER {
            return Err(Odd);
        }
        // Both exact, so that one rounding is all there is (Clinger 1990).
        let value = if digits <= 15 && (0..=22).contains(&tens) {
            mantissa as f64 * EXACT_TENS[tens as usize]
        } else if digits <= 15 && (-22..0).contains(&tens) {
            mantissa as f64 / EXACT_TENS[-tens as usize]
        } else {
            let text = std::str::from_utf8(&self.data[first..self.at]).map_err(|_| Odd)?;
            text.parse::<f64>().map_err(|_| Odd)?
        };
        if !value.is_finite() {
            return Err(Odd);
        }
        Ok(Number::Real(if negative { -value } else { value }))
    }

    /// How many there are, at least one; the number they are is right for 19 of them.
    fn digits(&mut self, into: &mut u64) -> Sure<usize> {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.data.get(self.at) {
            *into = into.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == start { Err(Odd) } else { Ok(self.at - start) }
    }

    /// Pass over any value.
    pub fn skip(&mut self, depth: usize) -> Sure<()> {
        match self.peek()? {
            b'"' => {
                let text = self.text()?;
                if text.escaped {
                    unescape(text.raw, &mut Vec::new())?;
                }
                Ok(())
            }
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            open @ (b'[' | b'{') if depth < MAX_DEPTH => self.skip_several(open, depth),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            _ => Err(Odd),
        }
    }

    fn skip_several(&mut self, open: u8, depth: usize) -> Sure<()> {
        let close = open + 2; // as ASCII has it
        self.at += 1;
        self.space();
        if self.peek()? == close {
            self.at += 1;
            return Ok(());
        }
        loop {
            if open == b'{' {
                self.skip_name()?;
            }
            self.skip(depth + 1)?;
            self.space();
            if self.peek()? == close {
                self.at += 1;
                return Ok(());
            }
            self.take(b',')?;
            self.space();
        }
    }

    fn skip_name(&mut self) -> Sure<()> {
        let name = self.text()?;
        if name.escaped {
            return Err(Odd);
        }
        self.space();
        self.take(b':')?;
        self.space();
        Ok(())
    }
}

/// Append the text that `raw` stands for.
pub fn unescape(raw: &[u8], into: &mut Vec<u8>) -> Sure<()> {
    let mut left = raw;
    while let Some(place) = left.iter().position(|byte| *byte == b'\\') {
        into.extend_from_slice(&left[..place]);
        let mut used = 2;
        match left.get(place + 1).ok_or(Odd)? {
            same @ (b'"' | b'\\' | b'/') => into.push(*same),
            b'b' => into.push(8),
            b'f' => into.push(12),
            b'n' => into.push(b'\n'),
            b'r' => into.push(b'\r'),
            b't' => into.push(b'\t'),
            b'u' => {
                let mut code = hex(&left[place + 2..])?;
                used = 6;
                if (0xd800..0xdc00).contains(&code) {
                    let rest = left[place + 6..].strip_prefix(b"\\u").ok_or(Odd)?;
                    let low = hex(rest)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(Odd);
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    used = 12;
                }
                let letter = char::from_u32(code).ok_or(Odd)?;
                into.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(Odd),
        }
        left = &left[place + used..];
    }
    into.extend_from_slice(left);
    Ok(())
}

fn hex(text: &[u8]) -> Sure<u32> {
    let mut code = 0;
    for byte in text.get(..4).ok_or(Odd)? {
        code = code * 16 + char::from(*byte).to_digit(16).ok_or(Odd)?;
    }
    Ok(code)
}

/// Microseconds since the epoch of a time like 2026-06-01T12:00:00.5Z, with a zone, in the years 2 to 9998.
pub fn moment(text: &[u8]) -> Sure<i64> {
    let (day, clock) = (text.get(..10).ok_or(Odd)?, text.get(10..19).ok_or(Odd)?);
    if day[4] != b'-' || day[7] != b'-' || clock[0] != b'T' || clock[3] != b':' || clock[6] != b':' {
        return Err(Odd);
    }
    let (year, month, of_month) = (pair(day, 0)? * 100 + pair(day, 2)?, pair(day, 5)?, pair(day, 8)?);
    let (hour, minute, second) = (pair(clock, 1)?, pair(clock, 4)?, pair(clock, 7)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(Odd),
    };
    if !(2..=9998).contains(&year) || of_month < 1 || of_month > days_in || hour > 23 || minute > 59 || second > 59 {
        return Err(Odd);
    }
    let mut rest = &text[19..];
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=6).contains(&digits) {
            return Err(Odd);
        }
        for place in 0..6 {
            micros = micros * 10 + if place < digits { i64::from(fraction[place] - b'0') } else { 0 };
        }
        rest = &fraction[digits..];
    }
    let seconds = days(year, month, of_month) * 86_400 + hour * 3600 + minute * 60 + second - zone(rest)?;
    Ok(seconds * 1_000_000 + micros)
}

fn pair(text: &[u8], at: usize) -> Sure<i64> {
    match (text[at], text[at + 1]) {
        (first @ b'0'..=b'9', second @ b'0'..=b'9') => Ok(i64::from(first - b'0') * 10 + i64::from(second - b'0')),
        _ => Err(Odd),
    }
}

/// Seconds east of Greenwich.
fn zone(text: &[u8]) -> Sure<i64> {
    match text {
        b"Z" => Ok(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (pair(text, 1)?, pair(text, 4)?);
            let east = hours * 3600 + minutes * 60;
            if hours > 23 || minutes > 59 || (*sign == b'-' && east == 0) {
                return Err(Odd);
            }
            Ok(if *sign == b'-' { -east } else { east })
        }
        _ => Err(Odd),
    }
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
