use super::super::output::FRAGMENT;
use super::*;
use crate::foundation::Random;

/// A source of keys that are all different and never zero.
fn supply() -> Supply {
    let mut next = 0x0102_0304u32;
    Supply::new(Random::new(move |bytes| {
        for word in bytes.chunks_exact_mut(4) {
            next = next.wrapping_mul(0x9e37_79b1) | 1;
            word.copy_from_slice(&next.to_be_bytes());
        }
    }))
}

/// A small generator for schedules.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

#[derive(Debug, PartialEq)]
struct Frame {
    fin: bool,
    opcode: u8,
    payload: Vec<u8>,
}

/// What a server reads: whole frames, unmasked byte by byte. The last one must be whole too.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(first & 0x70, 0);
        assert_eq!(second & 0x80, 0x80, "every client frame is masked");
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            length => (usize::from(length), rest),
        };
        let (key, rest) = rest.split_at(4);
        let (masked, rest) = rest.split_at(length);
        let mut payload = masked.to_vec();
        payload.chunks_mut(4).for_each(|bytes| bytes.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key));
        frames.push(Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a header at the end");
    frames
}

/// Frames joined to messages; control frames stand where they came.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut joined = Vec::new();
    let mut open: Option<Frame> = None;
    for frame in frames {
        match (&mut open, frame.opcode) {
            (_, 8..) => {
                assert!(frame.fin && frame.payload.len() <= 125);
                joined.push(frame);
                continue;
            }
            (Some(message), 0) => {
                message.payload.extend_from_slice(&frame.payload);
                message.fin = frame.fin;
            }
            (None, 1 | 2) => open = Some(frame),
            (open, opcode) => panic!("opcode {opcode} while {} is open", open.is_some()),
        }
        joined.extend(open.take_if(|message| message.fin));
    }
    assert!(open.is_none());
    joined
}

/// Writes up to `most` bytes of an output in slices, and gives the rest back.
fn write(outgoing: &mut Outgoing, mut output: Output, most: usize, wire: &mut Vec<u8>, supply: &mut Supply) {
    let bytes = output.slices().collect::<Vec<_>>().concat();
    assert_eq!((bytes.len(), bytes.is_empty()), (output.len(), output.is_empty()));
    let count = most.min(bytes.len());
    wire.extend_from_slice(&bytes[..count]);
    output.advance(count);
    assert_eq!(output.len(), bytes.len() - count);
    assert!(output.slices().collect::<Vec<_>>().concat() == bytes[count..]);
    outgoing.give_back(output, supply);
}

fn write_all(outgoing: &mut Outgoing, supply: &mut Supply) -> Vec<u8> {
    let mut wire = Vec::new();
    while let Some(output) = outgoing.take(4 * FRAGMENT, supply) {
        write(outgoing, output, usize::MAX, &mut wire, supply);
    }
    wire
}

fn begin(outgoing: &mut Outgoing, supply: &mut Supply, count: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    let output = outgoing.take(256 * 1024, supply).unwrap();
    write(outgoing, output, count, &mut wire, supply);
    wire
}

fn data(payload: &[u8]) -> Frame {
    Frame { fin: true, opcode: 2, payload: payload.to_vec() }
}

fn control(opcode: u8, payload: &[u8]) -> Frame {
    Frame { fin: true, opcode, payload: payload.to_vec() }
}

fn close(code: u16, reason: &[u8]) -> Frame {
    control(8, &[&code.to_be_bytes(), reason].concat())
}

fn bytes(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length.min(10_007)).map(|index| (index * 13 / 5) as u8).collect();
    while bytes.len() < length {
        bytes.extend_from_within(..bytes.len().min(length - bytes.len()));
    }
    bytes
}

fn owns_nothing(outgoing: &Outgoing) -> bool {
    let nothing = |queue: &Queue| queue.parts.capacity() == 0 && queue.has_nothing() && outgoing.is_closed();
    outgoing.queue.as_deref().is_none_or(nothing) && outgoing.tail.capacity() == 0 && outgoing.is_empty()
}

fn parts(outgoing: &Outgoing) -> usize {
    outgoing.queue.as_ref().map_or(0, |queue| queue.parts.len())
}

#[test]
fn messages_of_every_size_leave_in_order() {
    let sizes = [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_535, 65_536, FRAGMENT - 1, FRAGMENT, FRAGMENT + 1];
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    assert!(owns_nothing(&outgoing));
    let mut positions = Vec::new();
    for size in sizes.into_iter().chain([2 * FRAGMENT, 5 * FRAGMENT / 2, 3]) {
        positions.push((size, outgoing.push(Message::Data(bytes(size)), &mut supply)));
    }
    positions.push((5, outgoing.push(Message::from("Hello"), &mut supply)));
    let wire = write_all(&mut outgoing, &mut supply);
    assert!(owns_nothing(&outgoing));
    assert_eq!(outgoing.written(), wire.len() as u64);
    assert_eq!(positions.last().unwrap().1, wire.len() as u64);
    // Each position is the end of the message's last frame.
    let mut end = 0;
    let mut sizes = Vec::new();
    for frame in frames(&wire) {
        assert!(frame.payload.len() <= FRAGMENT);
        end += frame::frame_size(frame.payload.len()) as u64;
        if frame.fin {
            sizes.push(end);
        }
    }
    assert_eq!(positions.iter().map(|(_, position)| *position).collect::<Vec<_>>(), sizes);
    let mut expected: Vec<Frame> = positions.iter().map(|(size, _)| data(&bytes(*size))).collect();
    *expected.last_mut().unwrap() = Frame { fin: true, opcode: 1, payload: b"Hello".to_vec() };
    assert!(joined(frames(&wire)) == expected);
}

#[test]
fn no_key_is_used_twice() {
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    let mut keys = Vec::new();
    for _ in 0..1000 {
        outgoing.push(Message::Data(Vec::new()), &mut supply);
        outgoing.pong(Vec::new());
        let wire = write_all(&mut outgoing, &mut supply);
        keys.extend(wire.chunks(6).map(|frame| <[u8; 4]>::try_from(&frame[2..]).unwrap()));
    }
    // The fragments of a long message too: zeros show the key.
    outgoing.push(Message::Data(vec![0; 3 * FRAGMENT]), &mut supply);
    let wire = write_all(&mut outgoing, &mut supply);
    keys.extend(wire.chunks(FRAGMENT + 14).map(|frame| <[u8; 4]>::try_from(&frame[10..14]).unwrap()));
    assert_eq!(keys.len(), 2003);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 2003);
}

#[test]
fn a_long_message_stays_in_its_memory() {
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    let payload = bytes(2 * FRAGMENT + 7);
    let address = payload.as_ptr() as usize;
    outgoing.push(Message::Data(payload), &mut supply);
    for index in 0..3 {
        let output = outgoing.take(1, &mut supply).unwrap();
        let slices: Vec<&[u8]> = output.slices().collect();
        assert_eq!(slices[1].as_ptr() as usize, address + index * FRAGMENT);
        write(&mut outgoing, output, usize::MAX, &mut Vec::new(), &mut supply);
    }
    assert!(owns_nothing(&outgoing));
}

#[test]
fn an_output_has_about_the_size_that_was_asked_for() {
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    for _ in 0..4000 {
        outgoing.push(Message::Data(bytes(100)), &mut supply);
    }
    let mut wire = Vec::new();
    let mut count = 0;
    while let Some(output) = outgoing.take(128 * 1024, &mut supply) {
        assert!(output.len() < 128 * 1024 + CHUNK + LONG + 14, "{}", output.len());
        assert!(outgoing.take(128 * 1024, &mut supply).is_none(), "one at a time");
        assert!(!outgoing.is_empty());
        write(&mut outgoing, output, usize::MAX, &mut wire, &mut supply);
        count += 1;
    }
    assert_eq!(joined(frames(&wire)).len(), 4000);
    assert!((2..=4).contains(&count), "{count}");
    assert!(outgoing.take(0, &mut supply).is_none());
    // Whatever the budget, something leaves.
    outgoing.push(Message::Data(bytes(100)), &mut supply);
    assert_eq!(begin(&mut outgoing, &mut supply, usize::MAX).len(), 106);
}

#[test]
fn written_is_exact_to_the_byte() {
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    outgoing.pong(b"overtakes".to_vec());
    let mut ends = vec![outgoing.push(Message::Data(bytes(30)), &mut supply)];
    outgoing.ping(b"in line", &mut supply);
    ends.push(outgoing.push(Message::Data(bytes(LONG)), &mut supply));
    ends.push(outgoing.push(Message::Data(bytes(0)), &mut supply));
    assert_eq!(ends, [36, 36 + 13 + 8 + LONG as u64, 36 + 13 + 8 + LONG as u64 + 6]);
    let pong = 6 + 9;
    for count in 1.. {
        if outgoing.is_empty() {
            assert_eq!(count - 1, pong + ends[2]);
            break;
        }
        begin(&mut outgoing, &mut supply, 1);
        assert_eq!(outgoing.written(), count.saturating_sub(pong));
    }
}

#[test]
fn control_frames_overtake_what_has_not_begun() {
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    outgoing.push(Message::Data(bytes(2 * FRAGMENT)), &mut supply);
    outgoing.push(Message::Data(bytes(10)), &mut supply);
    let mut wire = begin(&mut outgoing, &mut supply, 100);
    outgoing.pong(b"pong".to_vec());
    outgoing.urgent_ping(b"old");
    outgoing.urgent_ping(b"urgent");
    outgoing.ping(b"in line", &mut supply);
    wire.extend(write_all(&mut outgoing, &mut supply));
    let opcodes: Vec<u8> = frames(&wire).iter().map(|frame| frame.opcode).collect();
    assert_eq!(opcodes, [2, 10, 9, 0, 2, 9]);
    let expected = [
        control(10, b"pong"),
        control(9, b"urgent"),
        data(&bytes(2 * FRAGMENT)),
        data(&bytes(10)),
        control(9, b"in line"),
    ];
    assert!(joined(frames(&wire)) == expected);

    // Control frames that were taken and could not be written still overtake.
    outgoing.push(Message::Data(bytes(10)), &mut supply);
    outgoing.pong(b"first".to_vec());
    outgoing.urgent_ping(b"first");
    begin(&mut outgoing, &mut supply, 0);
    outgoing.push(Message::Data(bytes(11)), &mut supply);
    begin(&mut outgoing, &mut supply, 0);
    outgoing.pong(b"second".to_vec());
    let wire = write_all(&mut outgoing, &mut supply);
    let pongs = [control(10, b"first"), control(10, b"second")];
    let expected = [control(9, b"first"), data(&bytes(10)), data(&bytes(11))];
    assert_eq!(frames(&wire), pongs.into_iter().chain(expected).collect::<Vec<_>>());
}

#[test]
fn a_flood_of_pings_costs_one_pong() {
    for taken in [false, true] {
        let (mut outgoing, mut supply) = (Outgoing::default(), supply());
        outgoing.push(Message::Data(bytes(1000)), &mut supply);
        let mut wire = begin(&mut outgoing, &mut supply, 10);
        for number in 0..10_000u32 {
            outgoing.pong(number.to_be_bytes().to_vec());
            if taken {
                // The socket takes nothing.
                wire.extend(begin(&mut outgoing, &mut supply, 0));
            }
        }
        wire.extend(write_all(&mut outgoing, &mut supply));
        assert_eq!(frames(&wire), [data(&bytes(1000)), control(10, &9999u32.to_be_bytes())]);
    }
    // A pong that has begun goes on, and the next one follows.
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    outgoing.pong(b"first".to_vec());
    let mut wire = begin(&mut outgoing, &mut supply, 1);
    outgoing.pong(b"second".to_vec());
    outgoing.pong(b"third".to_vec());
    wire.extend(write_all(&mut outgoing, &mut supply));
    assert_eq!(frames(&wire), [control(10, b"first"), control(10, b"second"), control(10, b"third")]);
    assert!(owns_nothing(&outgoing));
    // A few pings in one segment are no flood, and neither are those behind a flood that was answered.
    for round in 0..3u8 {
        let pongs: Vec<Vec<u8>> = (0..16).map(|number| vec![round, number]).collect();
        pongs.iter().for_each(|pong| outgoing.pong(pong.clone()));
        let mut wire = begin(&mut outgoing, &mut supply, 3);
        if round == 1 {
            (0..100u8).for_each(|number| outgoing.pong(vec![number]));
        }
        wire.extend(write_all(&mut outgoing, &mut supply));
        let mut expected: Vec<_> = pongs.iter().map(|pong| control(10, pong)).collect();
        if round == 1 {
            expected.truncate(1);
            expected.push(control(10, &[99]));
        }
        assert_eq!(frames(&wire), expected, "{round}");
        assert!(owns_nothing(&outgoing));
    }
}

#[test]
fn control_payloads_are_cut() {
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    outgoing.ping(&[1; 300], &mut supply);
    outgoing.urgent_ping(&[2; 126]);
    outgoing.pong(vec![3; 126]);
    let wire = write_all(&mut outgoing, &mut supply);
    assert_eq!(frames(&wire), [control(10, &[3; 125]), control(9, &[2; 125]), control(9, &[1; 125])]);
}

#[test]
fn a_close_leaves_behind_the_messages() {
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    outgoing.push(Message::Data(bytes(FRAGMENT + 1)), &mut supply);
    let last = outgoing.push(Message::Data(bytes(5)), &mut supply);
    outgoing.close_after_messages(Some(CloseCode::GOING_AWAY), b"bye");
    outgoing.close_after_messages(Some(CloseCode::NORMAL_CLOSURE), b"second");
    assert_eq!(outgoing.push(Message::Data(bytes(6)), &mut supply), u64::MAX);
    outgoing.ping(b"late", &mut supply);
    let mut wire = begin(&mut outgoing, &mut supply, 3);
    outgoing.pong(b"still".to_vec());
    assert!(!outgoing.close_is_written());
    wire.extend(write_all(&mut outgoing, &mut supply));
    assert!(outgoing.close_is_written() && owns_nothing(&outgoing));
    assert_eq!(outgoing.written(), last);
    let expected = [control(10, b"still"), data(&bytes(FRAGMENT + 1)), data(&bytes(5)), close(1001, b"bye")];
    assert!(joined(frames(&wire)) == expected);
    // Nothing follows a Close.
    outgoing.pong(b"x".to_vec());
    outgoing.urgent_ping(b"x");
    outgoing.ping(b"x", &mut supply);
    outgoing.close_now(None, b"");
    outgoing.close_after_messages(None, b"");
    assert_eq!(outgoing.push(Message::Data(bytes(6)), &mut supply), u64::MAX);
    assert!(owns_nothing(&outgoing) && outgoing.take(1000, &mut supply).is_none());
}

#[test]
fn a_close_that_has_begun_is_the_last_frame() {
    // At every byte of it, asked for in either way.
    for count in 1..7 {
        for now in [false, true] {
            let (mut outgoing, mut supply) = (Outgoing::default(), supply());
            if now {
                outgoing.close_now(None, b"");
            } else {
                outgoing.close_after_messages(None, b"");
            }
            let output = outgoing.take(1000, &mut supply).unwrap();
            // While it is out nobody knows whether it has begun.
            outgoing.pong(b"late".to_vec());
            outgoing.close_now(Some(CloseCode::GOING_AWAY), b"late");
            let mut wire = Vec::new();
            write(&mut outgoing, output, count, &mut wire, &mut supply);
            outgoing.urgent_ping(b"late");
            outgoing.pong(b"late".to_vec());
            outgoing.close_now(Some(CloseCode::GOING_AWAY), b"late");
            assert_eq!(outgoing.close_is_written(), count == 6);
            wire.extend(write_all(&mut outgoing, &mut supply));
            assert_eq!(frames(&wire), [control(8, b"")], "{count}");
            assert!(owns_nothing(&outgoing) && outgoing.close_is_written());
        }
    }
}

#[test]
fn a_close_now_cuts_at_the_next_frame_boundary() {
    let sizes = [5, 200, 0, 20_000, 7];
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    let ends = sizes.map(|size| outgoing.push(Message::Data(bytes(size)), &mut supply));
    let total = ends[4] as usize;
    for count in (0..250).chain([ends[2] as usize, 10_000, ends[3] as usize - 1, ends[3] as usize, total - 1, total]) {
        // Before anything is taken, while an output is out, after it was given back.
        for moment in 0..3 {
            let mut outgoing = Outgoing::default();
            for size in sizes {
                outgoing.push(Message::Data(bytes(size)), &mut supply);
            }
            outgoing.close_after_messages(Some(CloseCode::NORMAL_CLOSURE), b"replaced");
            let close = |outgoing: &mut Outgoing| {
                outgoing.pong(b"pong".to_vec());
                outgoing.close_now(Some(CloseCode::GOING_AWAY), b"now");
                outgoing.close_now(None, b"second");
            };
            let mut wire = Vec::new();
            if moment == 0 {
                close(&mut outgoing);
            }
            let output = outgoing.take(256 * 1024, &mut supply).unwrap();
            if moment == 1 {
                close(&mut outgoing);
            }
            write(&mut outgoing, output, count, &mut wire, &mut supply);
            if moment == 2 {
                close(&mut outgoing);
                assert!(outgoing.tail.is_empty() && parts(&outgoing) <= 1);
            }
            wire.extend(write_all(&mut outgoing, &mut supply));
            let begun = ends.iter().filter(|end| **end < count as u64).count() + usize::from(count > 0);
            let left = if moment == 0 { 0 } else { begun.min(5) };
            // What is exactly written does not take the next one with it.
            let left = if ends.contains(&(count as u64)) && moment > 0 {
                ends.iter().filter(|end| **end <= count as u64).count()
            } else {
                left
            };
            let mut expected: Vec<Frame> = sizes[..left].iter().map(|size| data(&bytes(*size))).collect();
            expected.extend([control(10, b"pong"), self::close(1001, b"now")]);
            assert!(frames(&wire) == expected, "{count} bytes written, moment {moment}");
            assert_eq!(outgoing.written(), if left == 0 { 0 } else { ends[left - 1] });
            assert!(outgoing.close_is_written() && owns_nothing(&outgoing));
        }
    }
}

#[test]
fn a_close_now_cuts_a_long_message_between_fragments() {
    for (count, fragments) in [(0, 0), (1, 1), (14, 1), (FRAGMENT, 1), (FRAGMENT + 14, 1)] {
        for out in [false, true] {
            let (mut outgoing, mut supply) = (Outgoing::default(), supply());
            outgoing.push(Message::Data(bytes(3 * FRAGMENT)), &mut supply);
            outgoing.push(Message::Data(bytes(9)), &mut supply);
            let output = outgoing.take(256 * 1024, &mut supply).unwrap();
            let mut wire = Vec::new();
            if out {
                outgoing.close_now(None, b"");
            }
            write(&mut outgoing, output, count, &mut wire, &mut supply);
            outgoing.close_now(None, b"");
            if count == 0 || count == FRAGMENT + 14 {
                assert_eq!(parts(&outgoing), 0, "the message is freed at once");
            }
            wire.extend(write_all(&mut outgoing, &mut supply));
            let frames = frames(&wire);
            assert_eq!(frames.len(), fragments + 1, "{count}");
            assert!(frames[..fragments].iter().all(|frame| !frame.fin && frame.payload.len() == FRAGMENT));
            assert_eq!(frames[fragments], control(8, b""));
            assert!(owns_nothing(&outgoing));
        }
    }
}

#[test]
fn a_random_schedule_keeps_the_order() {
    for seed in 1..60u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut outgoing, mut supply) = (Outgoing::default(), supply());
        let (mut wire, mut expected, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let (mut pongs, mut out) = (0u32, None);
        for _ in 0..150 {
            match dice.below(10) {
                0..3 => {
                    let size = [10, 200, 20_000][dice.below(3)];
                    let mut payload = bytes(dice.below(size));
                    if dice.below(100) == 0 {
                        payload = bytes(FRAGMENT + dice.below(FRAGMENT));
                    }
                    ends.push(outgoing.push(Message::Data(payload.clone()), &mut supply));
                    expected.push(data(&payload));
                }
                3 => {
                    outgoing.ping(&[dice.below(256) as u8; 3][..dice.below(4)], &mut supply);
                    // Told from overtaking pings by its place alone, so none of those here.
                    let last = frames_of_tail(&outgoing);
                    expected.push(last);
                }
                4..6 => {
                    pongs += 1;
                    outgoing.pong(pongs.to_be_bytes().to_vec());
                }
                6 | 7 if out.is_none() => out = outgoing.take(1 + dice.below(3 * FRAGMENT), &mut supply),
                _ => {
                    if let Some(output) = out.take() {
                        let most = [0, 1, 20, 1000, 70_000, 1 << 21][dice.below(6)];
                        write(&mut outgoing, output, dice.below(most + 1), &mut wire, &mut supply);
                    }
                }
            }
        }
        if let Some(output) = out.take() {
            write(&mut outgoing, output, 0, &mut wire, &mut supply);
        }
        outgoing.close_after_messages(Some(CloseCode::NORMAL_CLOSURE), b"");
        expected.push(close(1000, b""));
        wire.extend(write_all(&mut outgoing, &mut supply));
        assert!(owns_nothing(&outgoing) && outgoing.close_is_written());
        assert!(ends.last().is_none_or(|end| outgoing.written() >= *end));
        let joined = joined(frames(&wire));
        let (answers, others): (Vec<Frame>, Vec<Frame>) = joined.into_iter().partition(|frame| frame.opcode == 10);
        assert!(others == expected, "seed {seed}");
        // Pongs are whole, in order, each at most once, and the latest is among them.
        let numbers: Vec<u32> =
            answers.iter().map(|frame| u32::from_be_bytes(frame.payload.as_slice().try_into().unwrap())).collect();
        assert!(numbers.is_sorted_by(|left, right| left < right), "seed {seed}");
        assert_eq!(numbers.last().copied().unwrap_or(0), pongs, "seed {seed}");
    }
}

/// The last frame of the tail.
fn frames_of_tail(outgoing: &Outgoing) -> Frame {
    frames(&outgoing.tail).pop().unwrap()
}

#[test]
fn short_messages_fill_the_memory_that_they_share() {
    for size in [0, 1, 128, 1000, 4096, LONG - 1] {
        let (mut outgoing, mut supply) = (Outgoing::default(), supply());
        for _ in 0..8 * CHUNK / (size + 14) {
            outgoing.push(Message::Data(vec![0; size]), &mut supply);
        }
        for part in outgoing.queue.iter().flat_map(|queue| &queue.parts) {
            let Part::Frames(frames) = part else { panic!("a long message") };
            assert!(frames.bytes.capacity() <= CHUNK && frames.bytes.len() + size + 14 > CHUNK, "{size}");
        }
    }
    let (mut outgoing, mut supply) = (Outgoing::default(), supply());
    outgoing.push(Message::from("one"), &mut supply);
    assert!(outgoing.tail.capacity() < 16 && outgoing.queue.is_none());
}
