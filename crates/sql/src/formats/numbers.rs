//! Numbers as texts by a pattern, as PostgreSQL's `to_char` writes them and its `to_number` reads them:
//! `FM9,999.00`.

use super::pattern::quoted;
use super::unsupported;
use datafusion::common::Result;

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `9` and `0`
    Digit {
        is_zero: bool,
    },
    /// `.` and `D`
    Point,
    /// `,` and `G`
    Group,
    /// `S`, which stands where the number begins or ends.
    Sign,
    /// `MI`
    Minus,
    /// `SG`
    AnySign,
    Text(char),
}

/// Where `S` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchored {
    Before,
    After,
}

/// A pattern of numbers.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// Digits before the point, and behind it.
    before: usize,
    pub(super) after: usize,
    /// The first digit that is written though it is a leading zero, from 1.
    zero_start: Option<usize>,
    /// The last digit that is written though it is a zero behind the point.
    zero_end: usize,
    has_point: bool,
    is_bare: bool,
    has_brackets: bool,
    sign: Option<Anchored>,
    /// The digits before `S`.
    sign_at: usize,
    /// Whether the sign has a place of its own.
    has_minus: bool,
}

const WORDS: [(&str, Option<Part>); 12] = [
    ("EEEE", None),
    ("MI", Some(Part::Minus)),
    ("PL", None),
    ("SG", Some(Part::AnySign)),
    ("TH", None),
    ("RN", None),
    ("S", Some(Part::Sign)),
    ("D", Some(Part::Point)),
    ("G", Some(Part::Group)),
    ("L", None),
    ("V", None),
    ("C", None),
];

impl Pattern {
    /// # Errors
    /// For what is not done: `EEEE`, `TH`, `RN`, `L`, `V`, `C`; and for two points.
    pub(super) fn of(pattern: &str) -> Result<Self> {
        let mut made = Self {
            parts: Vec::new(),
            before: 0,
            after: 0,
            zero_start: None,
            zero_end: 0,
            has_point: false,
            is_bare: false,
            has_brackets: false,
            sign: None,
            sign_at: 0,
            has_minus: false,
        };
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            let starts = |word: &str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
            if starts("FM") {
                (made.is_bare, rest) = (true, &rest[2..]);
            } else if starts("PR") {
                (made.has_brackets, rest) = (true, &rest[2..]);
            } else if let Some((word, part)) = WORDS.iter().find(|(word, _)| starts(word)) {
                let Some(part) = part else { return Err(unsupported(word, pattern)) };
                made.push(*part, pattern)?;
                rest = &rest[word.len()..];
            } else {
                rest = &rest[c.len_utf8()..];
                match c {
                    '9' | '0' => made.push(Part::Digit { is_zero: c == '0' }, pattern)?,
                    '.' => made.push(Part::Point, pattern)?,
                    ',' => made.push(Part::Group, pattern)?,
                    '"' => rest = quoted(rest, |c| made.parts.push(Part::Text(c))),
                    c => made.parts.push(Part::Text(c)),
                }
            }
        }
        if made.sign.is_some() && made.sign_at == made.before {
            made.sign = Some(Anchored::After);
        }
        Ok(made)
    }

    fn push(&mut self, part: Part, pattern: &str) -> Result<()> {
        match part {
            Part::Digit { is_zero } => {
                if self.has_point {
                    self.after += 1;
                } else {
                    self.before += 1;
                }
                if is_zero {
                    self.zero_end = self.before + self.after;
                    if !self.has_point {
                        self.zero_start = self.zero_start.or(Some(self.before));
                    }
                }
            }
            Part::Point if self.has_point => return Err(super::data_error("42601", "multiple decimal points".into())),
            Part::Point => self.has_point = true,
            Part::Sign if self.sign.is_some() || self.has_minus => {
                return Err(unsupported("S beside another sign", pattern));
            }
            Part::Sign => {
                self.sign = Some(if self.has_point { Anchored::After } else { Anchored::Before });
                self.sign_at = self.before;
            }
            Part::Minus | Part::AnySign => self.has_minus = true,
            Part::Group | Part::Text(_) => {}
        }
        self.parts.push(part);
        Ok(())
    }

    /// A number by its digits, which are rounded to `after` behind the point.
    pub(super) fn written(&self, digits: &str) -> String {
        let (is_negative, digits) = digits.strip_prefix('-').map_or((false, digits), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let number = if whole.len() > self.before {
            let point = if self.after > 0 { "." } else { "" };
            format!("{}{point}{}", "#".repeat(self.before), "#".repeat(self.after))
        } else if self.after > 0 {
            format!("{whole}.{fraction:0<after$}", after = self.after)
        } else {
            whole.to_owned()
        };
        let is_zero = !number.contains(|c: char| c != '0' && c != '.');
        let is_negative = is_negative && !is_zero;
        let mut writer = Writer {
            pattern: self,
            is_negative,
            blanks: self.before.saturating_sub(whole.len()),
            last: self.last_of(&number),
            number: number.into_bytes(),
            at: 0,
            place: 0,
            sign_is_written: self.has_minus || self.is_bare && !is_negative && self.sign.is_none(),
            is_in_number: false,
            text: String::new(),
        };
        self.parts.iter().for_each(|part| writer.part(*part));
        writer.text
    }

    /// The digits of a number in a text: with a minus where it has one, and a point only before digits. None
    /// when no digit is where the pattern has some.
    pub(super) fn read(&self, text: &str) -> Option<String> {
        let mut reader = Reader {
            pattern: self,
            text: text.as_bytes(),
            at: 0,
            is_negative: None,
            digits: String::new(),
            has_point: false,
            after: 0,
        };
        for part in &self.parts {
            if reader.at >= reader.text.len() {
                break;
            }
            reader.part(*part);
        }
        let digits = reader.digits.trim_end_matches('.');
        let is_number = digits.contains(|c: char| c.is_ascii_digit());
        let sign = if reader.is_negative == Some(true) { "-" } else { "" };
        is_number.then(|| format!("{sign}{digits}"))
    }

    /// The last place of a number that is written when zeros at its end are not.
    fn last_of(&self, number: &str) -> Option<usize> {
        let point = number.find('.').filter(|_| self.is_bare)?;
        let significant = number.trim_end_matches('0').len() - 1;
        let kept = (self.zero_end > self.before).then(|| point + (self.zero_end - self.before));
        Some(significant.max(kept.unwrap_or(0)).min(number.len() - 1))
    }
}

/// What reads one number. As in PostgreSQL a pattern tells how many characters there are rather than which, and
/// what is no part of a number is passed over.
struct Reader<'a> {
    pattern: &'a Pattern,
    text: &'a [u8],
    at: usize,
    /// Whether a sign was read, and which.
    is_negative: Option<bool>,
    digits: String,
    has_point: bool,
    /// Digits behind the point.
    after: usize,
}

impl Reader<'_> {
    fn here(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Takes what stands in the place of a part.
    fn part(&mut self, part: Part) {
        match part {
            Part::Digit { .. } => self.place_of_number(true),
            Part::Point => self.place_of_number(false),
            Part::Group if self.pattern.is_bare || self.here() != Some(b',') => return,
            Part::Minus if self.here() == Some(b'-') => self.is_negative = Some(true),
            Part::AnySign if matches!(self.here(), Some(b'-' | b'+')) => {
                self.is_negative = Some(self.here() == Some(b'-'));
            }
            Part::Minus | Part::AnySign => return self.pass_over(),
            Part::Sign => return,
            Part::Group | Part::Text(_) => {}
        }
        self.character();
    }

    fn character(&mut self) {
        self.at += 1;
        // The rest of a character of several bytes.
        while self.here().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {
            self.at += 1;
        }
    }

    /// What is no part of a number stands in a sign's place.
    fn pass_over(&mut self) {
        if self.here().is_some_and(|byte| !byte.is_ascii_digit() && !b".,+-".contains(&byte)) {
            self.character();
        }
    }

    fn place_of_number(&mut self, is_digit: bool) {
        if self.here() == Some(b' ') {
            self.at += 1;
        }
        if self.is_negative.is_none() && is_digit && !self.has_digits() {
            let sign = match self.here() {
                Some(b'-') => Some(true),
                Some(b'<') if self.pattern.has_brackets => Some(true),
                Some(b'+') => Some(false),
                _ => None,
            };
            if sign.is_some() {
                self.is_negative = sign;
                self.at += 1;
            }
        }
        let Some(byte) = self.here() else { return };
        let is_read = match byte {
            b'0'..=b'9' if self.has_point && self.after == self.pattern.after => return,
            b'0'..=b'9' => {
                self.after += usize::from(self.has_point);
                true
            }
            b'.' if self.pattern.has_point && !self.has_point => {
                self.has_point = true;
                true
            }
            _ => false,
        };
        if is_read {
            self.digits.push(char::from(byte));
        }
        if self.is_negative.is_none() && self.has_digits() {
            self.sign_behind(byte, is_read);
        }
    }

    fn has_digits(&self) -> bool {
        self.digits.len() > usize::from(self.has_point)
    }

    /// A sign behind the last digit, whose place the pattern need not tell exactly.
    fn sign_behind(&mut self, byte: u8, is_read: bool) {
        let is_negative = |byte: u8| match byte {
            b'-' => Some(true),
            b'+' => Some(false),
            _ => None,
        };
        if self.pattern.sign.is_some() && is_read {
            let sign = self.text.get(self.at + 1).copied().and_then(is_negative);
            self.at += usize::from(sign.is_some());
            self.is_negative = sign;
        } else if self.pattern.sign.is_none() && !is_read && self.pattern.has_minus {
            self.is_negative = is_negative(byte);
        }
    }
}

/// What writes one number.
struct Writer<'a> {
    pattern: &'a Pattern,
    number: Vec<u8>,
    is_negative: bool,
    /// Digits of the pattern before the first one of the number.
    blanks: usize,
    last: Option<usize>,
    /// The place in the number, and that of the digit or point in the pattern.
    at: usize,
    place: usize,
    sign_is_written: bool,
    is_in_number: bool,
    text: String,
}

impl Writer<'_> {
    fn part(&mut self, part: Part) {
        let is_bare = self.pattern.is_bare;
        match part {
            Part::Digit { .. } | Part::Point => self.place_of_number(matches!(part, Part::Digit { is_zero: true })),
            Part::Group if self.is_in_number => self.text.push(','),
            Part::Group if is_bare => {}
            Part::Group => self.text.push(' '),
            Part::Minus if self.is_negative => self.text.push('-'),
            Part::Minus if is_bare => {}
            Part::Minus => self.text.push(' '),
            Part::AnySign => self.text.push(self.sign()),
            Part::Sign => {}
            Part::Text(c) => self.text.push(c),
        }
    }

    const fn sign(&self) -> char {
        if self.is_negative { '-' } else { '+' }
    }

    /// Whether the number is at a zero before the point that only a `0` writes.
    fn is_at_lone_zero(&self) -> bool {
        let is_first = self.at == 0 && self.number.first() == Some(&b'0');
        is_first && self.pattern.zero_start.is_none() && self.pattern.after > 0
    }

    fn ends_with_point(&self) -> bool {
        self.last.is_some_and(|last| self.number[last] == b'.')
    }

    fn place_of_number(&mut self, is_zero: bool) {
        let pattern = self.pattern;
        let is_bare = pattern.is_bare;
        // The pattern's digits are counted from 1.
        let from_zero = pattern.zero_start.is_some_and(|start| start <= self.place + 1);
        self.is_in_number = false;
        let starts = self.place >= self.blanks || pattern.zero_start == Some(self.place + 1);
        if !self.sign_is_written && starts && (!self.is_at_lone_zero() || self.ends_with_point()) {
            self.write_sign();
        }
        if self.place < self.blanks {
            if from_zero {
                self.text.push('0');
                self.is_in_number = true;
            } else if !is_bare {
                self.text.push(' ');
            }
        } else {
            self.write_digit(is_zero);
        }
        let places = pattern.before + pattern.after + usize::from(pattern.has_point && pattern.after > 0);
        if self.place + 1 == places {
            if pattern.has_brackets && self.sign_is_written {
                match (self.is_negative, is_bare) {
                    (true, _) => self.text.push('>'),
                    (false, false) => self.text.push(' '),
                    (false, true) => {}
                }
            } else if pattern.sign == Some(Anchored::After) {
                self.text.push(self.sign());
            }
        }
        self.place += 1;
    }

    fn write_sign(&mut self) {
        let pattern = self.pattern;
        match (pattern.sign, pattern.has_brackets) {
            (Some(Anchored::Before), _) => self.text.push(self.sign()),
            (Some(Anchored::After), _) => {}
            (None, true) => self.text.push(if self.is_negative { '<' } else { ' ' }),
            (None, false) if self.is_negative => self.text.push('-'),
            (None, false) if !pattern.is_bare => self.text.push(' '),
            (None, false) => {}
        }
        self.sign_is_written = true;
    }

    fn write_digit(&mut self, is_zero: bool) {
        let Some(digit) = self.number.get(self.at).copied() else {
            // `99.` has a point without digits.
            if self.pattern.has_point && self.pattern.after == 0 && self.at == self.number.len() {
                self.text.push('.');
                self.at += 1;
            }
            return;
        };
        let is_left_out = self.last.is_some_and(|last| self.at > last) && !is_zero;
        if self.is_at_lone_zero() {
            if !self.pattern.is_bare {
                self.text.push(' ');
            } else if self.ends_with_point() {
                self.text.push('0');
                self.is_in_number = true;
            }
        } else if !is_left_out {
            self.text.push(char::from(digit));
            self.is_in_number = digit != b'.';
        }
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_postgresql_writes_them() {
        for (digits, pattern, text) in [
            ("12", "999", "  12"),
            ("-12", "999", " -12"),
            ("0", "999", "   0"),
            ("0.1", "0.9", " 0.1"),
            ("0.1", "9.9", "  .1"),
            ("-0.10", "99.99", "  -.10"),
            ("-0.10", "FM9.99", "-.1"),
            ("-0.10", "FM90.99", "-0.1"),
            ("12", "9990999.9", "    0012.0"),
            ("12", "FM9990999.9", "0012."),
            ("485", "999", " 485"),
            ("-485", "999", "-485"),
            ("485", "9 9 9", " 4 8 5"),
            ("1485", "9,999", " 1,485"),
            ("1485", "9G999", " 1,485"),
            ("485", "9,999", "   485"),
            ("148.500", "999.999", " 148.500"),
            ("148.500", "FM999.999", "148.5"),
            ("148.500", "FM999.990", "148.500"),
            ("3148.50", "9G999D99", " 3,148.50"),
            ("-485", "999S", "485-"),
            ("-485", "999MI", "485-"),
            ("485", "999MI", "485 "),
            ("485", "FM999MI", "485"),
            ("485", "9S99", "+485"),
            ("485", "SG999", "+485"),
            ("-485", "SG999", "-485"),
            ("-485", "9SG99", "4-85"),
            ("-485", "999PR", "<485>"),
            ("485", "S999", "+485"),
            ("485", "\"Good number:\"999", "Good number: 485"),
            ("1234", "999", " ###"),
            ("1234.50", "999.99", " ###.##"),
            ("12", "FM000", "012"),
        ] {
            assert_eq!(Pattern::of(pattern).expect(pattern).written(digits), text, "{digits} by {pattern}");
        }
        for pattern in ["9.99EEEE", "L99", "PL99", "999th", "99V9"] {
            assert!(Pattern::of(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn numbers_are_read_as_postgresql_reads_them() {
        for (text, pattern, digits) in [
            ("12,454.8-", "99G999D9S", "-12454.8"),
            ("-34,338,492", "99G999G999", "-34338492"),
            ("12-", "99S", "-12"),
            ("-12", "99S", "-12"),
            ("+12", "S99", "12"),
            ("1,234", "FM9,999", "123"),
            ("1234", "9,999", "1234"),
            ("1,234.567", "9,999.99", "1234.56"),
            ("<12>", "99PR", "-12"),
            ("12-", "99MI", "-12"),
            ("-12", "MI99", "-12"),
            ("4-85", "9SG99", "-485"),
            ("a12", "99", "1"),
            ("12.345", "99", "12"),
            (".5", "9.9", ".5"),
            ("$12.5", "99.9", "12"),
            ("$12.5", "$99.9", "12.5"),
            ("€12", "\"€\"99", "12"),
            ("12 345", "99 999", "12345"),
            ("  12", "9999", "12"),
            ("5.01-", "FM9.999999MI", "-5.01"),
            ("Price: 12", "\"Price: \"99", "12"),
            ("- 12", "99", "-1"),
            ("--12", "999", "-12"),
            ("12.", "99.9", "12"),
            ("12-", "999", "12"),
            ("12.5 -", "99D9S", "12.5"),
            ("25", " 9", "5"),
        ] {
            assert_eq!(Pattern::of(pattern).expect(pattern).read(text).as_deref(), Some(digits), "{text} by {pattern}");
        }
        for (text, pattern) in [("", "99"), ("abc", "99"), ("٣", "9"), (".", "9.9")] {
            assert_eq!(Pattern::of(pattern).expect(pattern).read(text), None, "{text} by {pattern}");
        }
    }
}
