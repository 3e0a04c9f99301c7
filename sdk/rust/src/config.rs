//! The plug-in's configuration: a JSON object, read where it stands.

use crate::text::equal;
use crate::Text;

/// The configuration object. The host has validated its JSON.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    json: &'a [u8],
}

impl<'a> Config<'a> {
    pub const fn new(json: &'a [u8]) -> Config<'a> {
        Config { json }
    }

    /// A member's JSON text; `None` if the object does not have it.
    pub fn raw(&self, name: &str) -> Option<&'a [u8]> {
        let mut s = Scan { b: self.json, at: 0 };
        s.space();
        s.eat(b'{')?;
        loop {
            s.space();
            let key = s.value()?;
            s.space();
            s.eat(b':')?;
            s.space();
            let value = s.value()?;
            if text(key)?.is(name) {
                return Some(value);
            }
            s.space();
            s.eat(b',')?;
        }
    }

    /// A member that is a string.
    pub fn text(&self, name: &str) -> Option<Text<'a>> {
        text(self.raw(name)?)
    }

    /// A member that is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        number(self.raw(name)?)
    }

    /// A member that is true or false.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.raw(name)? {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The strings of a member that is an array; `None` unless it is one of
    /// strings only. A filter that compares them keeps a [`List`].
    pub fn texts(&self, name: &str) -> Option<Texts<'a>> {
        let raw = self.raw(name)?;
        if raw.first() != Some(&b'[') {
            return None;
        }
        let all = Texts { rest: Scan { b: raw, at: 1 } };
        let mut check = Scan { b: raw, at: 1 };
        loop {
            check.space();
            if check.eat(b']').is_some() {
                return Some(all);
            }
            text(check.value()?)?;
            check.space();
            let _ = check.eat(b',');
        }
    }
}

/// The strings of an array.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    rest: Scan<'a>,
}

/// Up to N strings, read once and then compared for each event.
#[derive(Clone, Copy)]
pub struct List<'a, const N: usize> {
    items: [Text<'a>; N],
    len: usize,
    escaped: bool, // one of them is
}

impl<'a, const N: usize> List<'a, N> {
    /// Takes the strings; `None` if there are more than N.
    pub fn take(texts: Texts<'a>) -> Option<List<'a, N>> {
        let mut list = List { items: [Text::new(b"", false); N], len: 0, escaped: false };
        for t in texts {
            *list.items.get_mut(list.len)? = t;
            list.len += 1;
            list.escaped |= t.escaped();
        }
        Some(list)
    }

    /// Whether one of them is the text.
    #[inline(always)]
    pub fn contains(&self, t: &Text) -> bool {
        if self.escaped || t.escaped() {
            return self.contains_escaped(t);
        }
        self.items[..self.len].iter().any(|one| equal(one.raw(), t.raw()))
    }

    #[inline(never)]
    fn contains_escaped(&self, t: &Text) -> bool {
        self.items[..self.len].iter().any(|one| one.same(t))
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = Text<'a>;

    fn next(&mut self) -> Option<Text<'a>> {
        self.rest.space();
        let _ = self.rest.eat(b',');
        self.rest.space();
        text(self.rest.value()?)
    }
}

fn text(raw: &[u8]) -> Option<Text<'_>> {
    match raw {
        [b'"', inner @ .., b'"'] => Some(Text::new(inner, inner.contains(&b'\\'))),
        _ => None,
    }
}

/// Reads a JSON number. Up to 15 digits and exponents to 22 it is exact;
/// beyond, the last bits may differ.
fn number(raw: &[u8]) -> Option<f64> {
    let (negative, digits) = match raw {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, raw),
    };
    let (mut value, mut exp, mut fraction, mut at) = (0f64, 0i32, false, 0);
    while let Some(&c) = digits.get(at) {
        match c {
            b'0'..=b'9' => {
                value = value * 10.0 + (c - b'0') as f64;
                exp -= fraction as i32;
            }
            b'.' if !fraction && at > 0 => fraction = true,
            b'e' | b'E' if at > 0 => {
                let e = core::str::from_utf8(&digits[at + 1..]).ok()?;
                exp = exp.saturating_add(e.parse::<i32>().ok()?);
                break;
            }
            _ => return None,
        }
        at += 1;
    }
    if at == 0 {
        return None;
    }
    let mut scale = 1f64;
    for _ in 0..exp.unsigned_abs().min(400) {
        scale *= 10.0;
    }
    let value = if exp < 0 { value / scale } else { value * scale };
    Some(if negative { -value } else { value })
}

#[derive(Clone, Copy)]
struct Scan<'a> {
    b: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn space(&mut self) {
        while matches!(self.b.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, c: u8) -> Option<()> {
        if self.b.get(self.at) != Some(&c) {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Passes one JSON value and gives its text.
    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        let mut depth = 0;
        loop {
            match *self.b.get(self.at)? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    if depth == 0 {
                        return None;
                    }
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b' ' | b'\t' | b'\n' | b'\r' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => self.word()?,
            }
            if depth == 0 {
                return self.b.get(start..self.at);
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match *self.b.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                _ => self.at += 1,
            }
        }
    }

    /// Passes a number, true, false or null.
    fn word(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.b.get(self.at), Some(b'a'..=b'z' | b'E' | b'0'..=b'9' | b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn members() {
        let c = Config::new(br#" { "a" : [ {"min": 9} , "x]" ], "m\u0069n":-12.5e1, "t":"\"q\"", "l":["a","b\n"], "e":[], "n":null, "y":true, "z":[1] } "#);
        assert_eq!(c.number("min"), Some(-125.0));
        assert_eq!(c.raw("a"), Some(&br#"[ {"min": 9} , "x]" ]"#[..]));
        assert!(c.text("t").unwrap().is("\"q\""));
        assert_eq!(c.bool("y"), Some(true));
        assert_eq!(c.raw("n"), Some(&b"null"[..]));
        assert!(c.raw("none").is_none() && c.number("t").is_none() && c.text("min").is_none());
        let l = c.texts("l").unwrap();
        assert_eq!(l.map(|t| String::from_utf8(t.bytes().collect()).unwrap()).collect::<Vec<_>>(), ["a", "b\n"]);
        let list = List::<2>::take(l).unwrap();
        assert!(list.contains(&Text::new(b"b\\u000a", true)) && !list.contains(&Text::new(b"c", false)));
        assert!(List::<1>::take(l).is_none());
        assert_eq!(c.texts("e").unwrap().count(), 0);
        assert!(c.texts("z").is_none() && c.texts("t").is_none());
    }

    #[test]
    fn numbers() {
        for (text, want) in [("0", 0.0), ("100", 100.0), ("0.1", 0.1), ("-2.5", -2.5), ("1e3", 1000.0), ("125.75", 125.75), ("1E-2", 0.01), ("2e+2", 200.0)] {
            assert_eq!(number(text.as_bytes()), Some(want), "{text}");
        }
        for text in ["", "-", "x", "1x", "1e", ".5", "1.2.3"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn broken_json_ends_the_search() {
        let whole = br#"{"a":[1,{"b":"c"}],"d":-1.5}"#;
        for cut in 0..whole.len() {
            let c = Config::new(&whole[..cut]);
            let _ = (c.raw("a"), c.raw("d"), c.raw("none"), c.texts("a"));
        }
    }
}
