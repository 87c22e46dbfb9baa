//! A client's frames, taken apart as they come: nothing is gathered, whatever the size of a message.

/// The largest header: two bytes, eight of length, four of mask.
const LARGEST_HEADER: usize = 14;

/// Opcodes of control frames.
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The head of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub last: bool,
    pub opcode: u8,
    pub length: u64,
    key: [u8; 4],
}

/// Part of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame begins.
    Head(Head),
    /// Some of its payload, and the key that it is masked with.
    Payload(Head, &'a [u8], [u8; 4]),
    /// The frame is over.
    End(Head),
}

/// Where in the stream the reading stands.
#[derive(Default)]
pub struct Frames {
    head: Head,
    remaining: u64,
    inside: bool,
    /// A header of which not all has come.
    partial: [u8; LARGEST_HEADER],
    partial_length: usize,
}

impl Frames {
    /// Takes the next bytes of the stream apart.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Piece<'_>)) -> Result<(), &'static str> {
        while !bytes.is_empty() || (self.inside && self.remaining == 0) {
            if self.inside {
                let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len());
                let (payload, rest) = bytes.split_at(take);
                if take > 0 {
                    each(Piece::Payload(self.head, payload, self.head.key));
                    self.head.key.rotate_left(take % 4);
                    self.remaining -= take as u64;
                }
                bytes = rest;
                if self.remaining == 0 {
                    self.inside = false;
                    each(Piece::End(self.head));
                }
            } else {
                let Some(taken) = self.begin(bytes)? else { return Ok(()) };
                bytes = &bytes[taken..];
                each(Piece::Head(self.head));
            }
        }
        Ok(())
    }

    /// Reads a header; `None` if it is not whole, and then it is kept.
    fn begin(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        let before = self.partial_length;
        let read = if before == 0 {
            parse(bytes)?
        } else {
            let take = bytes.len().min(LARGEST_HEADER - before);
            self.partial[before..before + take].copy_from_slice(&bytes[..take]);
            parse(&self.partial[..before + take])?
        };
        let Some((head, length)) = read else {
            self.partial[before..before + bytes.len()].copy_from_slice(bytes);
            self.partial_length += bytes.len();
            return Ok(None);
        };
        self.partial_length = 0;
        self.head = head;
        self.remaining = head.length;
        self.inside = true;
        Ok(Some(length - before))
    }
}

/// The head of a frame at the beginning of `bytes`, and how long it is.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, &'static str> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err("a client's frame is not masked");
    }
    let (length, width) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    let Some(key) = rest[width..].first_chunk::<4>() else { return Ok(None) };
    Ok(Some((Head { last: first & 0x80 != 0, opcode: first & 0x0f, length, key: *key }, 2 + width + 4)))
}

/// Appends payload without its mask.
pub fn unmask_into(out: &mut Vec<u8>, payload: &[u8], key: [u8; 4]) {
    let start = out.len();
    out.extend_from_slice(payload);
    let word = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut chunks = out[start..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ word).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends the head of a server's frame.
pub fn put_head(out: &mut Vec<u8>, last: bool, opcode: u8, length: u64) {
    out.push(u8::from(last) << 7 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => out.push(short),
        (_, Ok(middle)) => {
            out.push(126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_head(&mut bytes, first & 0x80 != 0, first & 0x0f, payload.len() as u64);
        bytes[1] |= 0x80;
        let key = [1, 2, 3, 250];
        bytes.extend_from_slice(&key);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    #[test]
    fn takes_frames_apart_wherever_they_are_cut() {
        let payloads = [vec![], vec![7], (0..=255).collect::<Vec<u8>>(), vec![42; 70_000]];
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x82, payload)).collect();
        for cut in [1, 3, 7, 8, 100, 65_536, stream.len()] {
            let (mut frames, mut read, mut ends) = (Frames::default(), Vec::new(), Vec::new());
            for bytes in stream.chunks(cut) {
                let each = |piece: Piece<'_>| match piece {
                    Piece::Head(head) => assert!(head.last && head.opcode == 2),
                    Piece::Payload(_, payload, key) => unmask_into(&mut read, payload, key),
                    Piece::End(head) => ends.push(head.length as usize),
                };
                frames.feed(bytes, each).unwrap();
            }
            assert_eq!(ends, payloads.each_ref().map(Vec::len), "cut at {cut}");
            assert!(read == payloads.concat(), "cut at {cut}");
        }
    }

    #[test]
    fn refuses_what_is_not_masked() {
        assert!(Frames::default().feed(&[0x82, 1, 1], |_| ()).is_err());
    }
}
