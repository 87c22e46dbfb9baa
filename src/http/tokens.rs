//! Tokens and comma-separated lists: RFC 9110 §5.6.

/// Whether this is a token: RFC 9110 §5.6.2, which is also what RFC 6455 §4.1 calls one.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// The elements of a list of tokens over all the lines of its field: RFC 9110 §5.6.1. White space around an element is
/// cut off, empty elements are passed over.
pub fn list<'a>(values: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    values.flat_map(|value| value.split(',')).map(trim).filter(|element| !element.is_empty())
}

/// Without the optional white space (RFC 9110 §5.6.3) at either end. Other white space, line ends above all, stays.
pub fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Whether a token may have this byte.
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_rfc_9110_5_6_2() {
        for token in ["a", "Sec-WebSocket-Key", "v1.chat+json", "!#$%&'*+-.^_`|~", "0"] {
            assert!(is_token(token), "{token}");
        }
        for other in
            ["", " ", "a b", "a\tb", "a,b", "a;b", "a:b", "a/b", "a=b", "\"a\"", "(a)", "a@b", "[a]", "{a}", "a?"]
        {
            assert!(!is_token(other), "{other}");
        }
        for byte in 0..=u8::MAX {
            let text = String::from(char::from(byte));
            let separator = b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(is_token(&text), byte.is_ascii_graphic() && !separator, "{byte}");
        }
    }

    #[test]
    fn lists_over_several_lines() {
        let table: [(&[&str], &[&str]); 7] = [
            (&[], &[]),
            (&["", " ", ",", " , ,\t"], &[]),
            (&["Upgrade"], &["Upgrade"]),
            (&["keep-alive, Upgrade"], &["keep-alive", "Upgrade"]),
            (&["keep-alive", "Upgrade"], &["keep-alive", "Upgrade"]),
            (&["a,b ,\tc\t,, d"], &["a", "b", "c", "d"]),
            (&["a\r,b c"], &["a\r", "b c"]),
        ];
        for (lines, elements) in table {
            assert_eq!(list(lines.iter().copied()).collect::<Vec<_>>(), elements, "{lines:?}");
        }
    }
}
