//! The headers of the frames in a stream of bytes, read from aside: for whoever watches, and changes nothing.
#![forbid(unsafe_code)]

/// The longest header: two bytes, a length of 64 bits, a key.
const HEADER: usize = 14;

/// What a frame's header says: RFC 6455 §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// FIN: the last frame of its message.
    pub fin: bool,
    /// RSV1: the message is compressed (RFC 7692 §6).
    pub compressed: bool,
    /// The four bits of the opcode, whether they have a meaning or not.
    pub opcode: u8,
    /// The length of the payload.
    pub length: u64,
}

impl FrameHead {
    /// The opcode's name in RFC 6455 §11.8.
    pub fn name(&self) -> &'static str {
        match self.opcode {
            0 => "continuation",
            1 => "text",
            2 => "binary",
            8 => "close",
            9 => "ping",
            10 => "pong",
            _ => "reserved",
        }
    }
}

/// Follows one direction of a connection from its first frame on. Headers gather until they are taken, one for each frame of
/// what was followed since.
#[derive(Debug, Default)]
pub struct FrameFollower {
    header: [u8; HEADER],
    /// How many bytes of the header have come.
    size: usize,
    /// How many bytes of the payload have not.
    rest: u64,
    heads: Vec<FrameHead>,
}

impl FrameFollower {
    /// The next bytes of the stream.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        loop {
            bytes = bytes.get(self.skip(bytes.len())..).unwrap_or_default();
            let Some((byte, after)) = bytes.split_first() else { return };
            if let Some(place) = self.header.get_mut(self.size) {
                *place = *byte;
            }
            self.size += 1;
            bytes = after;
            if let Some(head) = self.head() {
                (self.size, self.rest) = (0, head.length);
                self.heads.push(head);
            }
        }
    }

    /// The next bytes of the stream, so many: those of them that are payload are passed over, and counted.
    pub fn skip(&mut self, count: usize) -> usize {
        let skipped = self.rest.min(count as u64);
        self.rest -= skipped;
        // No more than `count`.
        skipped as usize
    }

    /// The headers that are complete.
    pub fn take_heads(&mut self) -> impl Iterator<Item = FrameHead> + use<> {
        std::mem::take(&mut self.heads).into_iter()
    }

    fn head(&self) -> Option<FrameHead> {
        let header = self.header.get(..self.size)?;
        let (&[first, second], extended) = header.split_first_chunk()?;
        let key = if second & 0x80 == 0 { 0 } else { 4 };
        let (length, size) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(*extended.first_chunk()?)), 2),
            127 => (u64::from_be_bytes(*extended.first_chunk()?), 8),
            length => (u64::from(length), 0),
        };
        let is_complete = extended.len() == size + key;
        let (fin, compressed, opcode) = (first & 0x80 != 0, first & 0x40 != 0, first & 0x0f);
        is_complete.then_some(FrameHead { fin, compressed, opcode, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is to be read of a frame: FIN, compressed, opcode, length.
    type Head = (bool, bool, u8, u64);

    /// Frames of both sides, and their heads.
    fn stream() -> (Vec<u8>, Vec<Head>) {
        let (mut bytes, mut heads) = (Vec::new(), Vec::new());
        for (first, masked, length) in [
            (0x81, false, 5),
            (0x02, true, 0),
            (0x80, true, 125),
            (0xc1, false, 126),
            (0x89, true, 3),
            (0x8a, false, 0),
            (0x82, true, 65_535),
            (0x82, false, 65_536),
            (0x88, true, 2),
        ] {
            bytes.push(first);
            let mask = u8::from(masked) << 7;
            match length {
                0..126 => bytes.push(mask | length as u8),
                126..65_536 => {
                    bytes.push(mask | 126);
                    bytes.extend((length as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(mask | 127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            if masked {
                bytes.extend([0x81; 4]);
            }
            // Payload that looks like frames.
            bytes.extend(std::iter::repeat_n(0x81, length));
            heads.push((first & 0x80 != 0, first & 0x40 != 0, first & 0x0f, length as u64));
        }
        (bytes, heads)
    }

    fn heads(follower: &mut FrameFollower) -> Vec<Head> {
        follower.take_heads().map(|head| (head.fin, head.compressed, head.opcode, head.length)).collect()
    }

    #[test]
    fn headers_are_found_however_the_bytes_come() {
        let (bytes, expected) = stream();
        for size in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut follower = FrameFollower::default();
            bytes.chunks(size).for_each(|chunk| follower.follow(chunk));
            assert_eq!(heads(&mut follower), expected, "in chunks of {size}");
            assert_eq!(heads(&mut follower), [], "they were taken");
        }
    }

    #[test]
    fn payload_may_be_passed_over_unseen() {
        let mut follower = FrameFollower::default();
        follower.follow(&[0x82, 126, 1, 0, 7]);
        assert_eq!(follower.skip(200), 200);
        assert_eq!(follower.skip(200), 55, "the rest of the payload");
        follower.follow(&[0x8a, 0]);
        assert_eq!(heads(&mut follower), [(true, false, 2, 256), (true, false, 10, 0)]);
    }

    #[test]
    fn nonsense_is_no_danger() {
        let mut follower = FrameFollower::default();
        follower.follow(&[0xff; 10]);
        follower.follow(&[0xff; 4]);
        assert_eq!(heads(&mut follower), [(true, true, 15, u64::MAX)]);
        assert_eq!(follower.skip(usize::MAX), usize::MAX);
        let name = |opcode| FrameHead { fin: true, compressed: false, opcode, length: 0 }.name();
        let names = [0, 1, 2, 8, 9, 10, 3, 15].map(name);
        assert_eq!(names, ["continuation", "text", "binary", "close", "ping", "pong", "reserved", "reserved"]);
    }
}
