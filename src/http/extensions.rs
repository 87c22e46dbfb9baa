//! The lists of `Sec-WebSocket-Extensions`: RFC 6455 §9.1.
//!
//! ```text
//! list      = *( extension / "," )
//! extension = token *( ";" parameter )
//! parameter = token [ "=" ( token / quoted-string ) ]
//! ```
//!
//! White space (RFC 9110 §5.6.3) may stand between any two of these, as browsers take it, and empty elements of a list are
//! passed over (RFC 9110 §5.6.1.2). Whether a value was quoted makes no difference: without its quotes and backslashes it
//! has to be a token, says §9.1, and so both ways to write it say the same.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

use super::cursor::Cursor;

/// One extension of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// A token.
    pub name: &'a str,
    /// In their order, none of them left out.
    pub parameters: Vec<Parameter<'a>>,
}

/// One parameter of an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// A token.
    pub name: &'a str,
    /// A token, too, without the quotes and backslashes that it may have had.
    pub value: Option<Cow<'a, str>>,
}

/// What makes a list malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// The extensions of the lists in `lines`, the lines of one field: each is a list of its own, and together they are one
/// (RFC 6455 §9.1). After an error there is nothing more.
///
/// Every byte is looked at a bounded number of times, and what is allocated is bounded by the length of the lines.
pub fn extensions<'a, I: Iterator<Item = &'a str>>(lines: I) -> Extensions<'a, I> {
    Extensions { lines: Some(lines), rest: Cursor::new("") }
}

/// See [`extensions`].
#[derive(Debug)]
pub struct Extensions<'a, I> {
    /// `None` once there is nothing more.
    lines: Option<I>,
    /// What is left of the line that was begun.
    rest: Cursor<'a>,
}

impl<'a, I: Iterator<Item = &'a str>> Iterator for Extensions<'a, I> {
    type Item = Result<Extension<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let lines = self.lines.as_mut()?;
        while self.rest.is_at_end_of_element() {
            if !self.rest.take(',') {
                let Some(line) = lines.next() else {
                    self.lines = None;
                    return None;
                };
                self.rest.text = line;
            }
        }
        let extension = extension(&mut self.rest);
        if extension.is_err() {
            self.lines = None;
        }
        Some(extension)
    }
}

/// An extension, up to the comma or the end behind it.
fn extension<'a>(line: &mut Cursor<'a>) -> Result<Extension<'a>, Malformed> {
    let name = token(line, "an extension has no name")?;
    let mut parameters = Vec::new();
    while !line.is_at_end_of_element() {
        if !line.take(';') {
            return Err(Malformed(match parameters.is_empty() {
                true => "the name of an extension is no token",
                false => "a parameter or its value is no token",
            }));
        }
        parameters.push(parameter(line)?);
    }
    Ok(Extension { name, parameters })
}

fn parameter<'a>(line: &mut Cursor<'a>) -> Result<Parameter<'a>, Malformed> {
    line.skip_white_space();
    let name = token(line, "a parameter has no name")?;
    line.skip_white_space();
    if !line.take('=') {
        return Ok(Parameter { name, value: None });
    }
    line.skip_white_space();
    let value = match line.take('"') {
        true => quoted(line)?,
        false => Cow::Borrowed(token(line, "the value of a parameter is no token")?),
    };
    Ok(Parameter { name, value: Some(value) })
}

/// A quoted string (RFC 9110 §5.6.4) behind its first quote, with nothing in it but a token: RFC 6455 §9.1. So what is
/// escaped is a character of a token as well.
fn quoted<'a>(line: &mut Cursor<'a>) -> Result<Cow<'a, str>, Malformed> {
    const MALFORMED: &str = "a quoted value has no end, or is no token";
    let mut value = Cow::Borrowed(line.token());
    while !line.take('"') {
        if !line.take('\\') {
            return Err(Malformed(MALFORMED));
        }
        let escaped = token(line, MALFORMED)?;
        if value.is_empty() {
            value = Cow::Borrowed(escaped);
        } else {
            value.to_mut().push_str(escaped);
        }
    }
    if value.is_empty() { Err(Malformed(MALFORMED)) } else { Ok(value) }
}

fn token<'a>(line: &mut Cursor<'a>, missing: &'static str) -> Result<&'a str, Malformed> {
    let token = line.token();
    if token.is_empty() { Err(Malformed(missing)) } else { Ok(token) }
}

#[cfg(test)]
mod tests;
