//! Dates of cookies in every form that servers write: RFC 6265bis §5.1.1.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// The date, or `None` where there is none in the text.
pub fn parsed(text: &str) -> Option<SystemTime> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.as_bytes().split(|&byte| is_delimiter(byte)) {
        // Each is taken once, in this order of precedence.
        if time.is_none() && time_of(token).is_some() {
            time = time_of(token);
        } else if day.is_none() && number(token, 1, 2).is_some() {
            day = number(token, 1, 2);
        } else if month.is_none() && month_of(token).is_some() {
            month = month_of(token);
        } else if year.is_none() && number(token, 2, 4).is_some() {
            year = number(token, 2, 4);
        }
    }
    let [hour, minute, second] = time?;
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    let (day, month) = (day?, month?);
    if year < 1601 || day < 1 || day > days_of(month, year) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_epoch(i64::from(year), i64::from(month), i64::from(day));
    let seconds = days * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    let distance = Duration::from_secs(seconds.unsigned_abs());
    // What lies before all that the system knows is past either way.
    match seconds < 0 {
        true => Some(SystemTime::UNIX_EPOCH.checked_sub(distance).unwrap_or(SystemTime::UNIX_EPOCH)),
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
    }
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'/' | b';'..=b'@' | b'['..=b'`' | b'{'..=b'~')
}

/// A number of so many digits, before the end or something that is no digit.
fn number(token: &[u8], least: usize, most: usize) -> Option<u32> {
    let digits = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits < least || digits > most {
        return None;
    }
    let digits = token.get(..digits)?;
    Some(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

/// Hours, minutes and seconds, each of one or two digits.
fn time_of(token: &[u8]) -> Option<[u32; 3]> {
    let mut parts = token.splitn(3, |&byte| byte == b':');
    let (hour, minute) = (parts.next()?, parts.next()?);
    let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if !all_digits(hour) || !all_digits(minute) {
        return None;
    }
    Some([number(hour, 1, 2)?, number(minute, 1, 2)?, number(parts.next()?, 1, 2)?])
}

/// 1 to 12.
fn month_of(token: &[u8]) -> Option<u32> {
    let name = token.get(..3)?;
    (1..).zip(MONTHS).find(|(_, month)| month.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

fn days_of(month: u32, year: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March, so that the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn seconds(text: &str) -> Option<i64> {
        let date = parsed(text)?;
        Some(match date.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => after.as_secs() as i64,
            Err(before) => -(before.duration().as_secs() as i64),
        })
    }

    #[test]
    fn one_moment_in_every_form() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "6 nov 1994 8:49:37",
            "1994 NOVember 6th 08:49:37.999 UTC",
            "08:49:37 06-NOV-1994 (CET)",
            "Sun, 06-Nov-1994 08:49:37 +0200",
            "gibberish;06@Nov/94~08:49:37",
            // Each the first time.
            "06 Nov 1994 08:49:37 07 Dec 1995 09:50:38",
        ] {
            assert_eq!(seconds(text), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn the_calendar() {
        for (text, expected) in [
            ("1 Jan 1970 0:0:0", Some(0)),
            ("1 Jan 70 0:0:0", Some(0)),
            ("31 Dec 69 23:59:59", Some(3_155_759_999)),
            ("29 Feb 2000 00:00:00", Some(951_782_400)),
            ("1 Mar 2000 00:00:00", Some(951_868_800)),
            ("29 Feb 1900 00:00:00", None),
            ("28 Feb 1900 00:00:00", Some(-2_203_977_600)),
            ("29 Feb 2023 00:00:00", None),
            ("29 Feb 2024 00:00:00", Some(1_709_164_800)),
            ("31 Apr 2024 00:00:00", None),
            ("1 Jan 1601 00:00:00", Some(-11_644_473_600)),
            ("31 Dec 1600 23:59:59", None),
            ("31 Dec 9999 23:59:59", Some(253_402_300_799)),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "tomorrow",
            "06 Nov 1994",
            "Nov 1994 08:49:37",
            "06 1994 08:49:37",
            "06 Nov 08:49:37",
            "0 Nov 1994 08:49:37",
            "32 Nov 1994 08:49:37",
            "06 Nov 1994 24:00:00",
            "06 Nov 1994 08:60:00",
            "06 Nov 1994 08:49:60",
            "06 Nov 1994 008:49:37",
            "06 Nov 1994 08:49",
            "06 Nov 19940 08:49:37",
            "06 Nov 4 08:49:37",
            "06 N\u{f6}v 1994 08:49:37",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
