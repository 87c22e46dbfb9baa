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

use super::tokens;

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
    Extensions { lines: Some(lines), rest: Rest::new("") }
}

/// See [`extensions`].
#[derive(Debug)]
pub struct Extensions<'a, I> {
    /// `None` once there is nothing more.
    lines: Option<I>,
    /// What is left of the line that was begun.
    rest: Rest<'a>,
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
        let extension = self.rest.extension();
        if extension.is_err() {
            self.lines = None;
        }
        Some(extension)
    }
}

/// What is left of a line.
#[derive(Debug)]
struct Rest<'a> {
    text: &'a str,
    /// How many bytes were looked at, those that were looked at again counted again.
    #[cfg(test)]
    visited: usize,
}

impl<'a> Rest<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            #[cfg(test)]
            visited: 0,
        }
    }

    /// An extension, up to the comma or the end behind it.
    fn extension(&mut self) -> Result<Extension<'a>, Malformed> {
        let name = self.token("an extension has no name")?;
        let mut parameters = Vec::new();
        while !self.is_at_end_of_element() {
            if !self.take(';') {
                return Err(Malformed(match parameters.is_empty() {
                    true => "the name of an extension is no token",
                    false => "a parameter or its value is no token",
                }));
            }
            parameters.push(self.parameter()?);
        }
        Ok(Extension { name, parameters })
    }

    fn parameter(&mut self) -> Result<Parameter<'a>, Malformed> {
        self.skip_white_space();
        let name = self.token("a parameter has no name")?;
        self.skip_white_space();
        if !self.take('=') {
            return Ok(Parameter { name, value: None });
        }
        self.skip_white_space();
        let value = match self.take('"') {
            true => self.quoted()?,
            false => Cow::Borrowed(self.token("the value of a parameter is no token")?),
        };
        Ok(Parameter { name, value: Some(value) })
    }

    /// A quoted string (RFC 9110 §5.6.4) behind its first quote, with nothing in it but a token: RFC 6455 §9.1. So what is
    /// escaped is a character of a token as well.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Malformed> {
        const MALFORMED: &str = "a quoted value has no end, or is no token";
        let mut value = Cow::Borrowed(self.token_characters());
        while !self.take('"') {
            if !self.take('\\') {
                return Err(Malformed(MALFORMED));
            }
            let escaped = self.token(MALFORMED)?;
            if value.is_empty() {
                value = Cow::Borrowed(escaped);
            } else {
                value.to_mut().push_str(escaped);
            }
        }
        if value.is_empty() { Err(Malformed(MALFORMED)) } else { Ok(value) }
    }

    /// Whether a comma or the end of the line is next, white space aside.
    fn is_at_end_of_element(&mut self) -> bool {
        self.skip_white_space();
        self.text.is_empty() || self.text.starts_with(',')
    }

    fn token(&mut self, missing: &'static str) -> Result<&'a str, Malformed> {
        let token = self.token_characters();
        if token.is_empty() { Err(Malformed(missing)) } else { Ok(token) }
    }

    /// As many characters of a token as there are.
    fn token_characters(&mut self) -> &'a str {
        self.take_while(tokens::is_token_byte)
    }

    fn skip_white_space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// As many characters as are one of these, which have to be ASCII.
    fn take_while(&mut self, is_one: impl Fn(u8) -> bool) -> &'a str {
        let length = self.text.bytes().position(|byte| !is_one(byte)).unwrap_or(self.text.len());
        #[cfg(test)]
        {
            self.visited += length + 1;
        }
        // In front of a byte that is no ASCII another character begins, and so there is always a boundary.
        let (taken, rest) = self.text.split_at_checked(length).unwrap_or_default();
        self.text = rest;
        taken
    }

    fn take(&mut self, character: char) -> bool {
        #[cfg(test)]
        {
            self.visited += 1;
        }
        let Some(rest) = self.text.strip_prefix(character) else { return false };
        self.text = rest;
        true
    }
}

#[cfg(test)]
mod tests;
