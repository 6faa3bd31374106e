//! PostgreSQL's patterns of dates and times, taken apart: `YYYY-MM-DD "at" HH24:MI`.

use super::unsupported;
use datafusion::common::Result;

/// What a part of a pattern stands for. In comments: what is written for 2024-03-05 14:07:09.25, a Tuesday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `HH24`: 14
    Hour,
    /// `HH`, `HH12`: 02
    Hour12,
    /// `MI`
    Minute,
    /// `SS`
    Second,
    /// `SSSS`, `SSSSS`: 50829, since midnight
    SecondOfDay,
    /// `FF1` to `FF6`, `MS` (3) and `US` (6): so many digits of the second's fraction
    Fraction(u8),
    /// `AM`, `PM`, `am`, `P.M.` ...: as it is written, for both halves of the day
    Half { dots: bool },
    /// `Y,YYY`
    YearWithComma,
    /// `YYYY`, `YYY`, `YY`, `Y`: so many digits
    Year(u8),
    /// `IYYY` ...: the year of the week
    IsoYear(u8),
    /// `AD`, `BC`, `A.D.` ...
    Era { dots: bool },
    /// `MM`
    Month,
    /// `MONTH`, `Month`, `month`
    MonthName,
    /// `MON`, `Mon`, `mon`
    MonthShort,
    /// `RM`: III
    MonthRoman,
    /// `DD`
    Day,
    /// `DDD`: 065
    DayOfYear,
    /// `IDDD`: since the Monday of the first week
    IsoDayOfYear,
    /// `DAY`, `Day`, `day`
    DayName,
    /// `DY`, `Dy`, `dy`
    DayShort,
    /// `D`: 3, from Sunday, which is 1
    DayOfWeek,
    /// `ID`: 2, from Monday, which is 1
    IsoDayOfWeek,
    /// `W`: 1, weeks of the month
    WeekOfMonth,
    /// `WW`: 10, weeks from January 1
    WeekOfYear,
    /// `IW`: 10, weeks from Monday on
    IsoWeek,
    /// `Q`: 1
    Quarter,
    /// `CC`: 21
    Century,
    /// `J`: days since November 24, 4714 BC
    Julian,
    /// `TZ`: UTC
    ZoneName,
    /// `TZH`: +00
    ZoneHours,
    /// `TZM`: 00
    ZoneMinutes,
    /// `OF`: +00
    Offset,
}

/// How names are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    Upper,
    Lower,
    /// The first one is a capital.
    Title,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Field {
        field: Field,
        /// As it stands in the pattern.
        name: String,
        letters: Letters,
        /// `FM`: without zeros and spaces that fill it up.
        is_bare: bool,
        /// `TH` or `th`: with the ending of an ordinal number.
        ordinal: Option<Letters>,
    },
    /// A space or a sign without quotes.
    Separator(char),
    /// Any other character, and all between quotes.
    Text(char),
}

/// Names of fields; of those that begin alike the longest first.
const FIELDS: [(&str, Field); 52] = [
    ("A.D.", Field::Era { dots: true }),
    ("A.M.", Field::Half { dots: true }),
    ("AD", Field::Era { dots: false }),
    ("AM", Field::Half { dots: false }),
    ("B.C.", Field::Era { dots: true }),
    ("BC", Field::Era { dots: false }),
    ("CC", Field::Century),
    ("DAY", Field::DayName),
    ("DDD", Field::DayOfYear),
    ("DD", Field::Day),
    ("DY", Field::DayShort),
    ("D", Field::DayOfWeek),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("HH24", Field::Hour),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::IsoDayOfYear),
    ("ID", Field::IsoDayOfWeek),
    ("IW", Field::IsoWeek),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IY", Field::IsoYear(2)),
    ("I", Field::IsoYear(1)),
    ("J", Field::Julian),
    ("MI", Field::Minute),
    ("MM", Field::Month),
    ("MONTH", Field::MonthName),
    ("MON", Field::MonthShort),
    ("MS", Field::Fraction(3)),
    ("OF", Field::Offset),
    ("P.M.", Field::Half { dots: true }),
    ("PM", Field::Half { dots: false }),
    ("Q", Field::Quarter),
    ("RM", Field::MonthRoman),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHours),
    ("TZM", Field::ZoneMinutes),
    ("TZ", Field::ZoneName),
    ("US", Field::Fraction(6)),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::YearWithComma),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
];

/// The last one, which all of the years begin with.
const YEAR: (&str, Field) = ("Y", Field::Year(1));

impl Field {
    /// Whether it is written with the letters of its own name's case.
    const fn is_named(self) -> bool {
        matches!(self, Self::MonthName | Self::MonthShort | Self::DayName | Self::DayShort)
    }

    /// Whether digits stand for it.
    pub(super) const fn is_number(self) -> bool {
        !self.is_named()
            && !matches!(
                self,
                Self::Half { .. }
                    | Self::Era { .. }
                    | Self::MonthRoman
                    | Self::ZoneName
                    | Self::ZoneHours
                    | Self::Offset
            )
    }
}

/// How a field is written at the start of a text, if one is: all capitals, none, or, of names, the first one.
fn field_at(text: &str) -> Option<(&str, Field, Letters)> {
    FIELDS.iter().chain([&YEAR]).find_map(|(name, field)| {
        let written = text.get(..name.len())?;
        let mut title = name.to_ascii_lowercase();
        title[..1].make_ascii_uppercase();
        let letters = if written == *name {
            Letters::Upper
        } else if written == name.to_ascii_lowercase() {
            Letters::Lower
        } else if field.is_named() && written == title {
            Letters::Title
        } else {
            return None;
        };
        Some((written, *field, letters))
    })
}

/// A pattern's parts.
///
/// # Errors
/// For what is not done: `TM`, `SP`, `FX`.
pub(super) fn parts(pattern: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let mut is_bare = false;
        let mut after = rest;
        while let Some(more) = after.strip_prefix("FM").or_else(|| after.strip_prefix("fm")) {
            (is_bare, after) = (true, more);
        }
        for word in ["TM", "FX"] {
            if after.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
                return Err(unsupported(word, pattern));
            }
        }
        if let Some((name, field, letters)) = field_at(after) {
            rest = &after[name.len()..];
            let ordinal = match rest.get(..2) {
                Some("TH") => Some(Letters::Upper),
                Some("th") => Some(Letters::Lower),
                Some("SP" | "sp") => return Err(unsupported("SP", pattern)),
                _ => None,
            };
            rest = if ordinal.is_some() { &rest[2..] } else { rest };
            let name = name.to_owned();
            parts.push(Part::Field { field, name, letters, is_bare, ordinal });
        } else if is_bare {
            rest = after;
        } else {
            rest = &rest[c.len_utf8()..];
            match c {
                '"' => rest = quoted(rest, |c| parts.push(Part::Text(c))),
                '\\' if rest.starts_with('"') => {
                    parts.push(Part::Text('"'));
                    rest = &rest[1..];
                }
                c if c == ' ' || c.is_ascii_punctuation() => parts.push(Part::Separator(c)),
                c => parts.push(Part::Text(c)),
            }
        }
    }
    Ok(parts)
}

/// The characters up to a closing quote, and what stands behind it.
pub(super) fn quoted(text: &str, mut each: impl FnMut(char)) -> &str {
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return &text[at + 1..],
            '\\' => {
                if let Some((_, escaped)) = characters.next() {
                    each(escaped);
                }
            }
            c => each(c),
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_field_counts_and_case_tells_how_names_are_written() {
        let found = parts("FMDayth \"DD\"mi").expect("a pattern");
        let field = |field, name: &str, letters, is_bare, ordinal| Part::Field {
            field,
            name: name.to_owned(),
            letters,
            is_bare,
            ordinal,
        };
        let expected = [
            field(Field::DayName, "Day", Letters::Title, true, Some(Letters::Lower)),
            Part::Separator(' '),
            Part::Text('D'),
            Part::Text('D'),
            field(Field::Minute, "mi", Letters::Lower, false, None),
        ];
        assert_eq!(found, expected);
        for (written, found) in [("YYYY", 4), ("YYY", 3), ("YY", 2), ("Y", 1)] {
            assert_eq!(field_at(written).map(|(_, field, _)| field), Some(Field::Year(found)));
        }
        assert!(parts("TMMonth").is_err());
    }
}
