//! JSON texts into normal form, in one pass. An object whose keys come in another order, or twice, is
//! put in order when it ends.

use crate::{Malformed, number, walk};
use std::borrow::Cow;
use std::ops::Range;

/// How deep values may be nested.
pub const DEEPEST: usize = 500;

/// A JSON text in normal form.
///
/// # Errors
/// When it is none.
pub fn normal(text: &str) -> Result<String, Malformed> {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    normal_into(text, &mut out)?;
    Ok(out)
}

/// The same, written behind what `out` holds.
///
/// # Errors
/// When it is none; `out` may then have got a part of it.
pub fn normal_into(text: &str, out: &mut String) -> Result<(), Malformed> {
    let mut reader = Reader { text, at: 0, depth: 0, out, keys: String::new(), members: Vec::new() };
    reader.value()?;
    reader.space();
    match reader.peek() {
        None => Ok(()),
        Some(_) => Err(reader.expected("end of input")),
    }
}

/// The content of a string, which stands in quotes.
pub(crate) fn unquoted(string: &str) -> Cow<'_, str> {
    let mut none = String::new();
    let mut reader = Reader { text: string, at: 0, depth: 0, out: &mut none, keys: String::new(), members: Vec::new() };
    // In normal form it is one.
    reader.string().unwrap_or(Cow::Borrowed(string))
}

/// A member of an object that is being read.
struct Member {
    /// Its key without quotes and escapes, in the reader's keys.
    key: Range<usize>,
    /// Key and value as they were written out.
    text: Range<usize>,
}

struct Reader<'a, 'o> {
    text: &'a str,
    at: usize,
    depth: usize,
    out: &'o mut String,
    /// The keys of the objects that are open.
    keys: String,
    members: Vec<Member>,
}

fn malformed(detail: String) -> Malformed {
    Malformed { sqlstate: "22P02", message: "invalid input syntax for type json", detail: Some(detail) }
}

pub(crate) fn too_deep() -> Malformed {
    let detail = Some(format!("JSON values are nested at most {DEEPEST} deep."));
    Malformed { sqlstate: "54001", message: "stack depth limit exceeded", detail }
}

impl<'a> Reader<'a, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// What is wrong where something else was expected.
    fn expected(&self, what: &str) -> Malformed {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let word = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let first = rest.chars().next().map_or(0, char::len_utf8);
        match &rest[..word.max(first)] {
            "" => malformed("The input string ended unexpectedly.".to_owned()),
            found if word > 0 && !matches!(found, "true" | "false" | "null") && !number::is_number(found) => {
                malformed(format!("Token \"{found}\" is invalid."))
            }
            found => malformed(format!("Expected {what}, but found \"{found}\".")),
        }
    }

    fn value(&mut self) -> Result<(), Malformed> {
        self.space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => {
                let string = self.string()?;
                walk::write_string(&string, self.out);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.expected("JSON value")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        if self.depth == DEEPEST {
            return Err(too_deep());
        }
        self.depth += 1;
        self.at += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Malformed> {
        let rest = &self.text[self.at..];
        let after = rest.strip_prefix(word).ok_or_else(|| self.expected("JSON value"))?;
        if after.starts_with(char::is_alphanumeric) {
            return Err(self.expected("JSON value"));
        }
        self.at += word.len();
        self.out.push_str(word);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        let rest = &self.text[self.at..];
        let length = number::length(rest.as_bytes()).unwrap_or(0);
        let (number, after) = rest.split_at(length);
        if number.is_empty() || after.starts_with(char::is_alphanumeric) {
            return Err(self.expected("JSON value"));
        }
        self.at += length;
        number::write(number, self.out)
    }

    fn array(&mut self) -> Result<(), Malformed> {
        self.out.push('[');
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.out.push(']');
            return Ok(());
        }
        loop {
            self.value()?;
            self.space();
            match self.peek() {
                Some(b',') => self.out.push_str(", "),
                Some(b']') => break,
                _ => return Err(self.expected("\",\" or \"]\"")),
            }
            self.at += 1;
        }
        self.at += 1;
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self) -> Result<(), Malformed> {
        self.out.push('{');
        let (first, keys, start) = (self.members.len(), self.keys.len(), self.out.len());
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.out.push('}');
            return Ok(());
        }
        loop {
            self.member()?;
            self.space();
            match self.peek() {
                Some(b',') => self.out.push_str(", "),
                Some(b'}') => break,
                _ => return Err(self.expected("\",\" or \"}\"")),
            }
            self.at += 1;
        }
        self.at += 1;
        if let Some(ordered) = self.in_order(first) {
            self.out.truncate(start);
            self.out.push_str(&ordered);
        }
        self.members.truncate(first);
        self.keys.truncate(keys);
        self.out.push('}');
        Ok(())
    }

    fn member(&mut self) -> Result<(), Malformed> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.expected("string"));
        }
        let name = self.string()?;
        let from = self.keys.len();
        self.keys.push_str(&name);
        let key = from..self.keys.len();
        let from = self.out.len();
        walk::write_string(&name, self.out);
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.expected("\":\""));
        }
        self.at += 1;
        self.out.push_str(": ");
        self.value()?;
        self.members.push(Member { key, text: from..self.out.len() });
        Ok(())
    }

    /// The members of an object in order, the last one of each key; none when they are so already.
    fn in_order(&self, first: usize) -> Option<String> {
        let key = |member: &Member| &self.keys.as_bytes()[member.key.clone()];
        let order = |left: &Member, right: &Member| {
            let (left, right) = (key(left), key(right));
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        };
        let members = &self.members[first..];
        if members.windows(2).all(|pair| order(&pair[0], &pair[1]).is_lt()) {
            return None;
        }
        let mut sorted: Vec<&Member> = members.iter().collect();
        // Those of one key stay as they came.
        sorted.sort_by(|left, right| order(left, right));
        let mut ordered = String::new();
        for (at, member) in sorted.iter().enumerate() {
            if sorted.get(at + 1).is_some_and(|next| key(next) == key(member)) {
                continue;
            }
            if !ordered.is_empty() {
                ordered.push_str(", ");
            }
            ordered.push_str(&self.out[member.text.clone()]);
        }
        Some(ordered)
    }

    /// The content of the string that begins here.
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let text = self.text;
        self.at += 1;
        let from = self.at;
        self.plain();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&text[from..self.at - 1]));
        }
        let mut made = text[from..self.at].to_owned();
        loop {
            match self.peek() {
                None => return Err(self.expected("string")),
                Some(b'"') => break,
                Some(b'\\') => made.push(self.escape()?),
                Some(byte) => {
                    return Err(malformed(format!("Character with value 0x{byte:02x} must be escaped.")));
                }
            }
            let from = self.at;
            self.plain();
            made.push_str(&text[from..self.at]);
        }
        self.at += 1;
        Ok(Cow::Owned(made))
    }

    /// Passes what stands for itself in a string.
    fn plain(&mut self) {
        while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
            self.at += 1;
        }
    }

    /// The character that an escape stands for.
    fn escape(&mut self) -> Result<char, Malformed> {
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let Some(letter) = rest.chars().next() else {
            return Err(malformed("The input string ended unexpectedly.".to_owned()));
        };
        self.at += 1 + letter.len_utf8();
        Ok(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(),
            _ => return Err(malformed(format!("Escape sequence \"\\{letter}\" is invalid."))),
        })
    }

    fn unicode(&mut self) -> Result<char, Malformed> {
        let first = self.hex()?;
        let code = match first {
            0 => {
                let detail = Some("\\u0000 cannot be converted to text.".to_owned());
                return Err(Malformed { sqlstate: "22P05", message: "unsupported Unicode escape sequence", detail });
            }
            0xD800..=0xDBFF => {
                let alone = || malformed("Unicode low surrogate must follow a high surrogate.".to_owned());
                if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u")) {
                    return Err(alone());
                }
                self.at += 2;
                let second = self.hex()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(alone());
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            other => other,
        };
        let alone = "Unicode low surrogate must follow a high surrogate.";
        char::from_u32(code).ok_or_else(|| malformed(alone.to_owned()))
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let Some(digits) = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)) else {
            return Err(malformed("\"\\u\" must be followed by four hexadecimal digits.".to_owned()));
        };
        self.at += 4;
        Ok(digits.iter().fold(0, |code, digit| code * 16 + char::from(*digit).to_digit(16).unwrap_or(0)))
    }
}
