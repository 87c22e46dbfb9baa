//! A place in a line that is read from left to right.

use super::tokens;

/// What is left of a line.
#[derive(Debug)]
pub struct Cursor<'a> {
    pub text: &'a str,
    /// How many bytes were looked at, those that were looked at again counted again.
    #[cfg(test)]
    pub visited: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            #[cfg(test)]
            visited: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether a comma or the end of the line is next, white space aside.
    pub fn is_at_end_of_element(&mut self) -> bool {
        self.skip_white_space();
        self.is_empty() || self.text.starts_with(',')
    }

    /// As many characters of a token as there are.
    pub fn token(&mut self) -> &'a str {
        self.take_while(tokens::is_token_byte)
    }

    /// Whether there was some.
    pub fn skip_white_space(&mut self) -> bool {
        !self.take_while(|byte| matches!(byte, b' ' | b'\t')).is_empty()
    }

    /// As many bytes as are one of these. The first that is not has to be ASCII, or the first byte of a character.
    pub fn take_while(&mut self, is_one: impl Fn(u8) -> bool) -> &'a str {
        let length = self.text.bytes().position(|byte| !is_one(byte)).unwrap_or(self.text.len());
        self.split(length)
    }

    /// The next character, which has to be ASCII.
    pub fn take_one(&mut self) -> &'a str {
        self.split(1)
    }

    /// Whether this one was next, which is passed then.
    pub fn take(&mut self, character: char) -> bool {
        #[cfg(test)]
        {
            self.visited += 1;
        }
        let Some(rest) = self.text.strip_prefix(character) else { return false };
        self.text = rest;
        true
    }

    fn split(&mut self, length: usize) -> &'a str {
        #[cfg(test)]
        {
            self.visited += length + 1;
        }
        let (taken, rest) = self.text.split_at_checked(length).unwrap_or_default();
        self.text = rest;
        taken
    }
}
