//! The lists of `WWW-Authenticate` and `Proxy-Authenticate`: RFC 9110 §11.2 to §11.6.
//!
//! ```text
//! list       = *( challenge / "," )
//! challenge  = token [ 1*SP ( token68 / *( parameter / "," ) ) ]
//! parameter  = token BWS "=" BWS ( token / quoted-string )
//! ```
//!
//! What follows a comma is a parameter where it has a `=` behind its first token, and the next challenge otherwise. So
//! `Basic realm="a", Digest` has two challenges. In `Basic , realm="a"` the parameter is Basic's: the space says that a list
//! follows. In `Basic, realm="a"` it is nobody's.
//!
//! RFC 9110 says nothing of what to do with a malformed challenge. Here it ends at the next comma outside of quotes that no
//! parameter follows, and what comes then is read as if nothing had happened. In quotes without an end everything is lost up
//! to the end of the line. A line holds whole challenges, as all servers write them: none goes on in the next one, and so no
//! line spoils another.
//!
//! More is taken than the grammar has in two places, as others do: a value without quotes may have any visible ASCII
//! character but `"`, `\` and `,` (`realm=me@example.com`, `domain=/`), and tabs may stand for spaces.

use std::borrow::Cow;
use std::fmt;

use super::super::cursor::Cursor;

/// How many challenges of one answer are looked at, malformed ones included.
const CHALLENGES: usize = 32;

/// How many parameters a challenge may have.
const PARAMETERS: usize = 64;

/// One challenge.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// A token; schemes compare without case.
    pub scheme: &'a str,
    /// What is behind the scheme.
    pub content: Content<'a>,
}

/// What is behind a scheme.
#[derive(Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// Characters as those of Base64, and as many `=` as there were.
    Token68(&'a str),
    /// In their order; no name is there twice.
    Parameters(Vec<Parameter<'a>>),
}

/// One parameter of a challenge.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// A token; names compare without case.
    pub name: &'a str,
    /// Without the quotes and backslashes that it may have had. No control character but tabs.
    pub value: Cow<'a, str>,
}

impl Challenge<'_> {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        match &self.content {
            Content::Token68(_) => None,
            Content::Parameters(parameters) => value(parameters, name),
        }
    }
}

/// The value of a parameter.
pub fn value<'a>(parameters: &'a [Parameter<'_>], name: &str) -> Option<&'a str> {
    parameters.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name)).map(|parameter| &*parameter.value)
}

impl fmt::Debug for Challenge<'_> {
    /// Shows nothing but names: what Negotiate and NTLM send is between them and the server.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Challenge").field("scheme", &self.scheme).field("content", &self.content).finish()
    }
}

impl fmt::Debug for Content<'_> {
    /// As that of a challenge.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token68(_) => formatter.write_str("Token68"),
            Self::Parameters(parameters) => formatter.debug_tuple("Parameters").field(parameters).finish(),
        }
    }
}

impl fmt::Debug for Parameter<'_> {
    /// As that of a challenge.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// What makes a challenge malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// The challenges of the lists in `lines`, the lines of one field. What is malformed is told, and what follows it is read.
///
/// Every byte is looked at a bounded number of times, and what is allocated is bounded by the length of the lines.
pub fn challenges<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Result<Challenge<'a>, Malformed>> {
    lines.flat_map(Rest::new).take(CHALLENGES)
}

/// The parameters of `Authentication-Info` and `Proxy-Authentication-Info`: RFC 7615 §3.
///
/// # Errors
/// The list has anything else in it.
pub fn parameters(line: &str) -> Result<Vec<Parameter<'_>>, Malformed> {
    let mut rest = Rest::new(line);
    let parameters = rest.parameters()?;
    if rest.line.is_empty() { Ok(parameters) } else { Err(Malformed("what is no parameter is in a list of them")) }
}

/// What is left of a line.
struct Rest<'a> {
    line: Cursor<'a>,
    /// The text from the beginning of the element on that is being read.
    element: &'a str,
}

impl<'a> Iterator for Rest<'a> {
    type Item = Result<Challenge<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.begin_element();
        if self.line.is_empty() {
            return None;
        }
        let challenge = self.challenge();
        if challenge.is_err() {
            self.skip_challenge();
        }
        Some(challenge)
    }
}

impl<'a> Rest<'a> {
    fn new(text: &'a str) -> Self {
        Self { line: Cursor::new(text), element: text }
    }

    /// A challenge, up to the element behind it.
    fn challenge(&mut self) -> Result<Challenge<'a>, Malformed> {
        let scheme = self.line.token();
        let has_space = self.line.skip_white_space();
        if scheme.is_empty() {
            return Err(Malformed("the name of a scheme is no token"));
        }
        if self.line.text.starts_with('=') {
            return Err(Malformed("a parameter belongs to no challenge"));
        }
        if !has_space {
            return match self.line.is_at_end_of_element() {
                true => Ok(Challenge { scheme, content: Content::Parameters(Vec::new()) }),
                false => Err(Malformed("the name of a scheme is no token")),
            };
        }
        if let Some(token68) = self.token68() {
            return Ok(Challenge { scheme, content: Content::Token68(token68) });
        }
        let is_empty_element = self.line.is_at_end_of_element();
        let parameters = self.parameters()?;
        if parameters.is_empty() && !is_empty_element {
            return Err(Malformed("what follows a scheme is neither a token68 nor a parameter"));
        }
        Ok(Challenge { scheme, content: Content::Parameters(parameters) })
    }

    /// What stands alone behind a scheme and has only the characters of a token68: RFC 9110 §11.2. `realm=` is one, too.
    fn token68(&mut self) -> Option<&'a str> {
        let before = self.line.text;
        self.line.take_while(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        if self.line.text.len() == before.len() {
            return None;
        }
        self.line.take_while(|byte| byte == b'=');
        let token68 = before.get(..before.len() - self.line.text.len());
        if self.line.is_at_end_of_element() {
            return token68;
        }
        self.line.text = before;
        None
    }

    /// The parameters from here on, up to an element that is none.
    fn parameters(&mut self) -> Result<Vec<Parameter<'a>>, Malformed> {
        let mut parameters = Vec::new();
        loop {
            self.begin_element();
            let Some(name) = self.name() else { return Ok(parameters) };
            let value = self.value()?;
            if !self.line.is_at_end_of_element() {
                return Err(Malformed("something follows the value of a parameter"));
            }
            // RFC 9110 §11.2: once per challenge. Which one a server means, nobody knows.
            if self::value(&parameters, name).is_some() {
                return Err(Malformed("a parameter is there twice"));
            }
            if parameters.len() == PARAMETERS {
                return Err(Malformed("a challenge has more than 64 parameters"));
            }
            parameters.push(Parameter { name, value });
        }
    }

    /// The name of a parameter and the `=` behind it; if that is not what is next, nothing is taken.
    fn name(&mut self) -> Option<&'a str> {
        let before = self.line.text;
        let name = self.line.token();
        self.line.skip_white_space();
        if !name.is_empty() && self.line.take('=') {
            return Some(name);
        }
        self.line.text = before;
        None
    }

    fn value(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.line.skip_white_space();
        if self.line.take('"') {
            return self.quoted();
        }
        let value = self.line.take_while(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b','));
        if value.is_empty() { Err(Malformed("a parameter has no value")) } else { Ok(Cow::Borrowed(value)) }
    }

    /// A quoted string (RFC 9110 §5.6.4) behind its first quote.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let mut value = Cow::Borrowed(self.plain());
        while !self.line.take('"') {
            if !self.line.take('\\') {
                return Err(Malformed("a quoted value has no end, or a control character in it"));
            }
            // Up to the next quote or backslash there is nothing to find but what is plain, and these two may be escaped.
            let escaped = match self.line.text.as_bytes() {
                [b'"' | b'\\', ..] => self.line.take_one(),
                _ => self.plain(),
            };
            if escaped.is_empty() {
                return Err(Malformed("a quoted value has no end, or a control character in it"));
            }
            push(&mut value, escaped);
            push(&mut value, self.plain());
        }
        Ok(value)
    }

    /// What stands for itself in a quoted string.
    fn plain(&mut self) -> &'a str {
        self.line.take_while(|byte| byte == b'\t' || !byte.is_ascii_control() && !matches!(byte, b'"' | b'\\'))
    }

    /// Goes to the first element behind a challenge in which something was malformed.
    fn skip_challenge(&mut self) {
        self.line.text = self.element;
        loop {
            self.skip_element();
            self.begin_element();
            if self.name().is_none() {
                return;
            }
        }
    }

    /// Goes to the next comma outside of quotes, or to the end.
    fn skip_element(&mut self) {
        loop {
            self.line.take_while(|byte| !matches!(byte, b'"' | b','));
            if !self.line.take('"') {
                return;
            }
            loop {
                self.line.take_while(|byte| !matches!(byte, b'"' | b'\\'));
                if !self.line.take('\\') {
                    break;
                }
                if self.line.text.starts_with(['"', '\\']) {
                    self.line.take_one();
                }
            }
            self.line.take('"');
        }
    }

    /// Passes over empty elements: RFC 9110 §5.6.1.2.
    fn begin_element(&mut self) {
        self.line.take_while(|byte| matches!(byte, b' ' | b'\t' | b','));
        self.element = self.line.text;
    }
}

fn push<'a>(value: &mut Cow<'a, str>, more: &'a str) {
    if value.is_empty() {
        *value = Cow::Borrowed(more);
    } else if !more.is_empty() {
        value.to_mut().push_str(more);
    }
}

#[cfg(test)]
mod tests;
