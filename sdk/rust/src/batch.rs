//! The batch of ABI v1: header, slots, data. See `../../ABI.md`.

use crate::Text;

const HEADER: usize = 16;
const SLOT: usize = 8;

/// A batch of events as the host wrote it.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    count: usize,
    slots: usize,
    table: &'a [u8],
    data: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the header; `None` if the bytes are no batch of ABI v1.
    pub fn read(bytes: &'a [u8]) -> Option<Batch<'a>> {
        if bytes.len() < HEADER || &bytes[..4] != b"WRB1" || word(bytes, 12) as usize != bytes.len() {
            return None;
        }
        let count = word(bytes, 4) as usize;
        let slots = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
        let table = count.checked_mul(slots)?.checked_mul(SLOT)?;
        let rest = &bytes[HEADER..];
        if rest.len() < table {
            return None;
        }
        let (table, data) = rest.split_at(table);
        Some(Batch { count, slots, table, data })
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The n-th event, which must exist.
    #[inline(always)]
    pub fn event(&self, n: usize) -> Event<'a> {
        let width = self.slots * SLOT;
        Event { index: n, slots: &self.table[n * width..][..width], data: self.data }
    }
}

/// One event: the values of the manifest's fields, by slot.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    index: usize,
    slots: &'a [u8],
    data: &'a [u8],
}

/// The value of a slot.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Absent,
    String(Text<'a>),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// An object, an array, or a number that neither an i64 nor an f64 holds.
    Json(&'a [u8]),
    Null,
}

impl<'a> Event<'a> {
    /// The event's place in its batch, as `reason`, `now` and the like name it.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The value of a slot; slots that do not exist are absent.
    #[inline(always)]
    pub fn value(&self, slot: usize) -> Value<'a> {
        let Some((kind, flags, part)) = self.slot(slot) else {
            return Value::Absent;
        };
        match kind {
            1 => Value::String(Text::new(part, flags & 1 != 0)),
            2 => Value::Int(long(part) as i64),
            3 => Value::Float(f64::from_bits(long(part))),
            4 => Value::Bool(flags & 1 != 0),
            5 => Value::Json(part),
            6 => Value::Null,
            _ => Value::Absent,
        }
    }

    /// The text of a slot that holds a string.
    #[inline(always)]
    pub fn text(&self, slot: usize) -> Option<Text<'a>> {
        match self.value(slot) {
            Value::String(t) => Some(t),
            _ => None,
        }
    }

    /// The number of a slot; an integer past 2^53 loses its last digits.
    #[inline(always)]
    pub fn number(&self, slot: usize) -> Option<f64> {
        match self.value(slot) {
            Value::Int(n) => Some(n as f64),
            Value::Float(f) => Some(f),
            _ => None,
        }
    }

    #[inline(always)]
    fn slot(&self, slot: usize) -> Option<(u32, u32, &'a [u8])> {
        let at = self.slots.get(slot * SLOT..slot * SLOT + SLOT)?;
        let word = long(at);
        let (offset, meta) = (word as u32 as usize, (word >> 32) as u32);
        let part = self.data.get(offset..offset + (meta & 0xff_ffff) as usize)?;
        Some((meta >> 24 & 15, meta >> 28, part))
    }
}

#[inline]
fn word(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

#[inline]
fn long(b: &[u8]) -> u64 {
    match b.first_chunk::<8>() {
        Some(c) => u64::from_le_bytes(*c),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn unhex(s: &str) -> Vec<u8> {
        (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    fn hex(b: &[u8]) -> String {
        if b.is_empty() {
            return "-".into();
        }
        b.iter().map(|c| format!("{c:02x}")).collect()
    }

    fn describe(v: Value) -> String {
        match v {
            Value::Absent => "absent".into(),
            Value::String(t) => format!("string {} {}", t.escaped() as u8, hex(t.raw())),
            Value::Int(n) => format!("i64 {n}"),
            Value::Float(f) => format!("f64 {:016x}", f.to_bits()),
            Value::Bool(b) => format!("bool {b}"),
            Value::Json(j) => format!("json {}", hex(j)),
            Value::Null => "null".into(),
        }
    }

    #[test]
    fn golden_batches() {
        let text = include_str!("../../testdata/batches.txt");
        let (mut name, mut wants, mut event, mut slot, mut seen) = ("", Vec::new(), 0, 0, 0);
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.first() {
                Some(&"batch") => (name, event, wants) = (words[1], 0, Vec::new()),
                Some(&"event") => (event, slot) = (event + 1, 0),
                Some(&"slot") => {
                    wants.push((event - 1, slot, words[4..].join(" ")));
                    slot += 1;
                }
                Some(&"bytes") => {
                    let bytes = unhex(words[1]);
                    let batch = Batch::read(&bytes).unwrap_or_else(|| panic!("{name}: no batch"));
                    assert_eq!(batch.len(), event, "{name}");
                    for (e, s, want) in &wants {
                        assert_eq!(&describe(batch.event(*e).value(*s)), want, "{name}: event {e} slot {s}");
                    }
                    if batch.len() > 0 {
                        assert_eq!(describe(batch.event(0).value(9999)), "absent");
                    }
                    for cut in 0..bytes.len() {
                        assert!(Batch::read(&bytes[..cut]).is_none(), "{name}: cut at {cut}");
                    }
                    seen += 1;
                }
                _ => {}
            }
        }
        assert!(seen >= 5, "only {seen} golden batches");
    }
}
