//! Text of others in messages of ours.
#![forbid(unsafe_code)]

/// Text of another for a message of ours: escaped and cut to 100 characters.
pub fn shown(text: &str) -> String {
    shown_of(text.chars())
}

/// As [`shown`], of text in pieces.
pub fn shown_of(characters: impl Iterator<Item = char>) -> String {
    let mut escaped = characters.flat_map(char::escape_debug);
    let mut text = String::from('"');
    text.extend(escaped.by_ref().take(100));
    text.push_str(if escaped.next().is_some() { "…\"" } else { "\"" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_escaped_and_cut() {
        assert_eq!(shown(&"y".repeat(100)), format!("\"{}\"", "y".repeat(100)));
        assert_eq!(shown(&"y".repeat(101)), format!("\"{}…\"", "y".repeat(100)));
        assert_eq!(shown("a\r\n\"\0"), r#""a\r\n\"\0""#);
    }
}
