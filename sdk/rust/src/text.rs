//! JSON strings, compared without being copied.

/// Compares eight bytes at a time: the memcmp of a core-only wasm32 build goes
/// byte by byte, and each turn of its loop costs fuel.
#[inline(always)]
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    let n = a.len();
    if n != b.len() {
        return false;
    }
    if n < 8 {
        return a.iter().zip(b).all(|(x, y)| x == y);
    }
    let mut at = 0;
    while at + 8 < n {
        if eight(a, at) != eight(b, at) {
            return false;
        }
        at += 8;
    }
    eight(a, n - 8) == eight(b, n - 8) // the last eight, which may overlap
}

#[inline(always)]
fn eight(b: &[u8], at: usize) -> u64 {
    debug_assert!(at + 8 <= b.len());
    // equal keeps at + 8 <= b.len().
    unsafe { b.as_ptr().add(at).cast::<u64>().read_unaligned() }
}

/// A JSON string: the text between its quotes, escapes and all.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    pub const fn new(raw: &'a [u8], escaped: bool) -> Text<'a> {
        Text { raw, escaped }
    }

    /// The JSON text between the quotes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether the raw text holds escapes.
    pub fn escaped(&self) -> bool {
        self.escaped
    }

    /// Whether the string equals another.
    #[inline]
    pub fn is(&self, other: &str) -> bool {
        if !self.escaped {
            return equal(self.raw, other.as_bytes());
        }
        self.bytes().eq(other.bytes())
    }

    /// Whether two strings are equal, however they are escaped.
    #[inline]
    pub fn same(&self, other: &Text) -> bool {
        if !self.escaped && !other.escaped {
            return equal(self.raw, other.raw);
        }
        self.bytes().eq(other.bytes())
    }

    /// Whether the string begins with another.
    pub fn starts_with(&self, prefix: &str) -> bool {
        let mut mine = self.bytes();
        prefix.bytes().all(|b| mine.next() == Some(b))
    }

    /// Whether the string begins with another text.
    #[inline]
    pub fn starts_with_text(&self, prefix: &Text) -> bool {
        if !self.escaped && !prefix.escaped {
            return self.raw.len() >= prefix.raw.len() && equal(&self.raw[..prefix.raw.len()], prefix.raw);
        }
        let mut mine = self.bytes();
        prefix.bytes().all(|b| mine.next() == Some(b))
    }

    /// The string's bytes as UTF-8, escapes undone.
    pub fn bytes(&self) -> Bytes<'a> {
        Bytes { raw: self.raw, at: 0, char: [0; 4], len: 0, next: 0 }
    }
}

/// The bytes of a [`Text`].
pub struct Bytes<'a> {
    raw: &'a [u8],
    at: usize,
    char: [u8; 4], // of an escape that is being given out
    len: usize,
    next: usize,
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.next < self.len {
            self.next += 1;
            return Some(self.char[self.next - 1]);
        }
        let b = *self.raw.get(self.at)?;
        self.at += 1;
        if b != b'\\' {
            return Some(b);
        }
        let e = *self.raw.get(self.at)?;
        self.at += 1;
        Some(match e {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => return self.unicode(),
            other => other,
        })
    }
}

impl Bytes<'_> {
    fn unicode(&mut self) -> Option<u8> {
        let mut code = self.hex4()?;
        if (0xd800..0xdc00).contains(&code) && self.raw[self.at..].starts_with(b"\\u") {
            let high = self.at;
            self.at += 2;
            match self.hex4() {
                Some(low) if (0xdc00..0xe000).contains(&low) => {
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
                }
                _ => self.at = high,
            }
        }
        let c = char::from_u32(code).unwrap_or('\u{fffd}');
        self.len = c.encode_utf8(&mut self.char).len();
        self.next = 1;
        Some(self.char[0])
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut v = 0;
        for _ in 0..4 {
            v = v << 4 | (*self.raw.get(self.at)? as char).to_digit(16)?;
            self.at += 1;
        }
        Some(v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn escapes() {
        for (raw, want) in [
            ("abc", "abc"),
            (r"a\nb\\c\/d\x22", "a\nb\\c/dx22"),
            (r"\u0041\u00e4\u20ac", "Aä€"),
            (r"\ud83d\ude00!", "😀!"),
            (r"\ud83d!", "\u{fffd}!"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            ("", ""),
        ] {
            let t = Text::new(raw.as_bytes(), raw.contains('\\'));
            assert_eq!(t.bytes().collect::<Vec<u8>>(), want.as_bytes(), "{raw}");
            assert!(t.is(want), "{raw}");
            assert!(t.starts_with(want), "{raw}");
            assert!(!t.starts_with(&(std::string::String::from(want) + "x")), "{raw}");
            assert!(t.same(&Text::new(raw.as_bytes(), true)), "{raw}");
            assert!(!t.is("other"), "{raw}");
        }
    }

    #[test]
    fn equal_is_equality() {
        let a: Vec<u8> = (0..40).collect();
        for n in 0..a.len() {
            assert!(equal(&a[..n], &a.clone()[..n]));
            assert!(!equal(&a[..n], &a[..n + 1]));
            for wrong in 0..n {
                let mut b = a.clone();
                b[wrong] ^= 1;
                assert!(!equal(&a[..n], &b[..n]), "{n} {wrong}");
            }
        }
    }

    #[test]
    fn cut_escapes_end_the_text() {
        for raw in [r"\", r"\u", r"\u00", r"\ud83d\u"] {
            assert!(Text::new(raw.as_bytes(), true).bytes().count() <= 3, "{raw}");
        }
    }
}
