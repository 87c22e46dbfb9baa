//! Cookies as they stand in a file.
//!
//! Lines of fields with a tab between them; in a field, a backslash is `\\` and a tab `\t`. A date is in seconds since
//! 1970 with nine decimals.
//!
//! ```text
//! urlsession cookies 1
//! cookie   <created> <last set> <expires> <flags> <domain> <path> <name> <value>
//! deleted  <date> <domain> <path> <name>
//! sha1     <of all the lines before, in hexadecimal digits>
//! ```
//!
//! Flags are letters: `S` for Secure, `H` for HttpOnly, `L` and `T` for SameSite Lax and Strict; `-` for none. Cookies
//! stand in the order in which they were created.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use sha1::{Digest, Sha1};

use super::cookie::{HttpCookie, SameSitePolicy};
use super::jar::Entry;
use super::merge::{Copied, Kept, ToKeep, key_of};

/// A file that is longer is not one of ours, in bytes: 3,000 cookies of the greatest length.
pub const MAXIMUM_FILE: u64 = 64 * 1024 * 1024;

const VERSION: &str = "urlsession cookies 1";

/// How long the last line is.
const SUM: usize = "sha1\t\n".len() + 40;

impl ToKeep {
    /// The text of the file.
    pub fn text(self) -> String {
        self.text_within(MAXIMUM_FILE as usize)
    }

    /// A text that would be longer goes without the deletions of the longest time ago. (Cookies alone are never that long.)
    fn text_within(mut self, most: usize) -> String {
        let mut text = format!("{VERSION}\n");
        self.cookies.sort_unstable_by_key(|copied| (copied.created, copied.order));
        for Copied { cookie, created, changed, .. } in &self.cookies {
            let expires = cookie.expires_date().unwrap_or(SystemTime::UNIX_EPOCH);
            text.push_str("cookie");
            [*created, *changed, expires].into_iter().for_each(|date| write_date(&mut text, date));
            let flags = flags_of(cookie);
            let fields = [&flags, cookie.domain(), cookie.path(), cookie.name(), cookie.value()];
            fields.into_iter().for_each(|field| write(&mut text, field));
            text.push('\n');
        }
        self.deleted.sort_unstable_by(|(key, date), (other, than)| than.cmp(date).then(key.cmp(other)));
        let mut lines = Vec::new();
        let mut length = text.len() + SUM;
        for ((domain, path, name), date) in &self.deleted {
            let mut line = "deleted".to_owned();
            write_date(&mut line, *date);
            [domain, path, name].into_iter().for_each(|field| write(&mut line, field));
            line.push('\n');
            length += line.len();
            if length > most {
                break;
            }
            lines.push(line);
        }
        text.extend(lines);
        let sum = sum_of(&text);
        text.extend(["sha1\t", &sum, "\n"]);
        text
    }
}

/// Why a file cannot be read. It shows no cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    line: usize,
    reason: &'static str,
    /// It is not damaged, but another version of this program wrote it.
    pub is_of_another_version: bool,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (line {})", self.reason, self.line)
    }
}

impl Error for Malformed {}

/// What a file has.
///
/// # Errors
/// It is not such a file, or is damaged.
pub fn kept_in(text: &[u8]) -> Result<Kept, Malformed> {
    let mut kept = Kept::default();
    let malformed = |line, reason| Malformed { line, reason, is_of_another_version: false };
    let text = str::from_utf8(text).map_err(|_| malformed(1, "it is not a text"))?;
    match text.split('\n').next() {
        Some(VERSION) => {}
        Some(other) if other.starts_with("urlsession cookies ") => {
            let error = malformed(1, "another version of this program wrote it");
            return Err(Malformed { is_of_another_version: true, ..error });
        }
        _ => return Err(malformed(1, "it is not a file of cookies")),
    }
    let lines = text.matches('\n').count();
    let body = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).map_or(0, |end| end + 1);
    let (body, last) = text.split_at_checked(body).unwrap_or((text, ""));
    if last.strip_prefix("sha1\t").and_then(|sum| sum.strip_suffix('\n')) != Some(sum_of(body).as_str()) {
        return Err(malformed(lines, "its check sum is not that of its text"));
    }
    for (index, line) in body.lines().enumerate().skip(1) {
        read_line(line, &mut kept).ok_or_else(|| malformed(index + 1, "the line cannot be read"))?;
    }
    Ok(kept)
}

fn read_line(line: &str, kept: &mut Kept) -> Option<()> {
    let fields: Vec<String> = line.split('\t').map(read).collect::<Option<_>>()?;
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    match fields.as_slice() {
        ["cookie", created, changed, expires, flags, domain, path, name, value] => {
            let mut cookie = HttpCookie::received(name, value, (*domain).to_owned(), path);
            cookie.set_expires_date(Some(date_of(expires)?));
            for flag in flags.chars() {
                match flag {
                    'S' => cookie.set_secure(true),
                    'H' => cookie.set_http_only(true),
                    'L' => cookie.set_same_site_policy(Some(SameSitePolicy::Lax)),
                    'T' => cookie.set_same_site_policy(Some(SameSitePolicy::Strict)),
                    '-' => {}
                    _ => return None,
                }
            }
            // What was a domain when it was written may be a public suffix by now.
            if cookie.is_storable() {
                kept.keys.insert(key_of(&cookie));
                kept.entries.push(Entry::kept(cookie, date_of(created)?, date_of(changed)?));
            }
        }
        ["deleted", date, domain, path, name] => {
            let key = ((*domain).to_owned(), (*path).to_owned(), (*name).to_owned());
            kept.deleted.insert(key, date_of(date)?);
        }
        _ => return None,
    }
    Some(())
}

fn flags_of(cookie: &HttpCookie) -> String {
    let mut flags = String::new();
    if cookie.is_secure() {
        flags.push('S');
    }
    if cookie.is_http_only() {
        flags.push('H');
    }
    match cookie.same_site_policy() {
        Some(SameSitePolicy::Lax) => flags.push('L'),
        Some(SameSitePolicy::Strict) => flags.push('T'),
        None => {}
    }
    if flags.is_empty() {
        flags.push('-');
    }
    flags
}

/// Behind a tab. No cookie that is stored has another control character.
fn write(text: &mut String, field: &str) {
    text.push('\t');
    for character in field.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            other => text.push(other),
        }
    }
}

fn read(field: &str) -> Option<String> {
    let mut text = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                '\\' => text.push('\\'),
                't' => text.push('\t'),
                _ => return None,
            },
            other => text.push(other),
        }
    }
    Some(text)
}

fn write_date(text: &mut String, date: SystemTime) {
    let since = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    text.push_str(&format!("\t{}.{:09}", since.as_secs(), since.subsec_nanos()));
}

fn date_of(text: &str) -> Option<SystemTime> {
    let (seconds, nanoseconds) = text.split_once('.')?;
    let nanoseconds: u32 = nanoseconds.parse().ok().filter(|nanoseconds| *nanoseconds < 1_000_000_000)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, nanoseconds))
}

fn sum_of(text: &str) -> String {
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
