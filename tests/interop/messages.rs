//! What is sent. The same each time.

use urlsession::Message;

/// What `tests/interop` sends before anything is compressed.
pub const THRESHOLD: usize = 1024;

/// Numbers that look random.
fn noise(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Messages of both kinds: empty ones, short ones, those around the threshold, JSON and the same again, bytes that do
/// not compress, and a long text of characters of every length.
pub fn mixed() -> Vec<Message> {
    let mut messages = short();
    let json = json(16 * 1024);
    messages.extend([string(&json), string(&json), Message::Data(json.into_bytes())]);
    messages.extend([incompressible(), string(&many_languages(300 * 1024)), string("the end")]);
    messages
}

/// Up to a little more than the threshold.
pub fn short() -> Vec<Message> {
    let mut messages = Vec::new();
    for length in [0, 1, 2, 125, 126, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1] {
        let mut text = json(length + 1);
        text.truncate(length);
        messages.extend([string(&text), Message::Data(text.into_bytes())]);
    }
    messages
}

/// The first of two that are the same and long.
pub fn first_of_the_same(messages: &[Message]) -> usize {
    let same = |pair: &[Message]| pair[0] == pair[1] && length(&pair[0]) > THRESHOLD;
    messages.windows(2).position(same).expect("two that are the same")
}

/// Bytes that no compression makes fewer.
pub fn incompressible() -> Message {
    let mut next = noise(7);
    Message::Data((0..8 * 1024).flat_map(|_| next().to_le_bytes()).collect())
}

pub fn length(message: &Message) -> usize {
    match message {
        Message::String(text) => text.len(),
        Message::Data(data) => data.len(),
        _ => unreachable!("no other kind is sent"),
    }
}

fn string(text: &str) -> Message {
    Message::String(text.to_owned())
}

/// At least so many bytes of rows as servers send them, with numbers that differ.
fn json(length: usize) -> String {
    let mut next = noise(length as u64 + 1);
    let mut text = "[".to_owned();
    while text.len() < length {
        let (id, price) = (next() % 1_000_000, next() % 100_000);
        text.push_str(&format!("{{\"id\":{id},\"symbol\":\"X{}\",\"price\":{price},\"open\":true}},", id % 97));
    }
    text
}

/// At least so many bytes, in characters of one to four of them.
fn many_languages(length: usize) -> String {
    const WORDS: [&str; 8] =
        ["plain ", "Größe ", "naïve ", "слово ", "日本語 ", "한국어 ", "\u{1f600}", "\u{10ffff}\u{0}"];
    let mut next = noise(3);
    let mut text = String::new();
    while text.len() < length {
        text.push_str(WORDS[(next() % 8) as usize]);
    }
    text
}
