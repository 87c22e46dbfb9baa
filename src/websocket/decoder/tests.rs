use super::super::frame::CONTROL_PAYLOAD;
use super::super::utf8::tests::{MALFORMED, TRUNCATED, VALID};
use super::super::violation::ViolationKind::{self, Framing, Text, TooLong};
use super::*;

/// What comes out of a decoder: its events, then the kind of violation if there was one.
type Events = (Vec<Incoming>, Option<ViolationKind>);

/// A server's frame. `first` is the first byte: FIN, RSV, opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..0x1_0000 => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn text(text: &str) -> Incoming {
    Incoming::Message(Message::String(text.to_owned()))
}

fn data(data: &[u8]) -> Incoming {
    Incoming::Message(Message::Data(data.to_vec()))
}

fn closed(code: u16, reason: &[u8]) -> Incoming {
    Incoming::Close { code: Some(CloseCode::new(code)), reason: reason.to_vec() }
}

/// Everything in `input`; the decoder must take all of it.
fn drain(decoder: &mut Decoder, mut input: &[u8], (events, violation): &mut Events) {
    loop {
        let mut short = |message: Short<'_>| match message {
            Short::Text(one) => events.push(text(one)),
            Short::Data(one) => events.push(data(one)),
        };
        let taken = decoder.short_messages(&mut input, &mut short);
        match taken.and_then(|()| decoder.decode(&mut input)) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => break,
            Err(error) => {
                assert!(violation.is_none(), "a second violation: {error}");
                assert!(decoder.is_finished());
                *violation = Some(error.kind());
            }
        }
    }
    assert!(input.is_empty());
}

/// The events of `pieces`, one after the other.
fn decoded<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Events {
    let mut decoder = Decoder::new(limit);
    let mut events = Events::default();
    for piece in pieces {
        drain(&mut decoder, piece, &mut events);
    }
    events
}

/// The events of `bytes`, each by a call of its own.
fn decoded_one_by_one(limit: usize, mut bytes: &[u8]) -> Events {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    loop {
        match decoder.decode(&mut bytes) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return (events, None),
            Err(error) => return (events, Some(error.kind())),
        }
    }
}

/// As a reactor reads: into the payload buffer where there is one, `portion` bytes at a time.
fn decoded_directly(limit: usize, mut bytes: &[u8], portion: usize) -> Events {
    let mut decoder = Decoder::new(limit);
    let mut events = Events::default();
    while !bytes.is_empty() {
        if let Some(mut buffer) = decoder.take_payload_buffer() {
            let space = buffer.space();
            assert!(!space.is_empty() && space.len() <= 1024 * 1024);
            let count = portion.min(space.len()).min(bytes.len());
            space[..count].copy_from_slice(take_front(&mut bytes, count));
            match decoder.payload_received(buffer, count) {
                Ok(event) => events.0.extend(event),
                Err(error) => events.1 = Some(error.kind()),
            }
        } else {
            drain(&mut decoder, take_front(&mut bytes, portion), &mut events);
        }
    }
    events
}

/// Asserts the events of `bytes`, in whatever pieces they come.
fn check(limit: usize, bytes: &[u8], expected: &[Incoming], violation: Option<ViolationKind>) {
    let expected = (expected.to_vec(), violation);
    let shown = &bytes[..bytes.len().min(64)];
    assert_eq!(decoded(limit, [bytes]), expected, "{shown:02x?}");
    assert_eq!(decoded_one_by_one(limit, bytes), expected, "{shown:02x?} one by one");
    assert_eq!(decoded(limit, bytes.chunks(1)), expected, "{shown:02x?} byte by byte");
    // In two pieces: everywhere, or in long inputs near both ends and at some places between.
    let near = if bytes.len() < 1000 { 1000 } else { 20 };
    for split in (0..bytes.len()).filter(|split| split.min(&(bytes.len() - split)) < &near || split % 9973 == 0) {
        let (left, right) = bytes.split_at(split);
        assert_eq!(decoded(limit, [left, right]), expected, "{shown:02x?} split at {split}");
    }
    for portion in [1, 1000, 16 * 1024, 70_000, 2 << 20] {
        assert_eq!(decoded_directly(limit, bytes, portion), expected, "{shown:02x?} directly, {portion} at a time");
    }
}

#[test]
fn examples_of_rfc_6455_5_7() {
    check(0, &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], &[text("Hello")], None);
    check(0, &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f], &[text("Hello")], None);
    check(0, &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], &[Incoming::Ping(b"Hello".to_vec())], None);
    check(0, &[0x8a, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], &[Incoming::Pong(b"Hello".to_vec())], None);
    // A server must not send the masked ones.
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    check(0, &masked, &[], Some(Framing));
    let payload: Vec<u8> = (0..=255).collect();
    assert_eq!(frame(0x82, &payload)[..4], [0x82, 0x7e, 0x01, 0x00]);
    check(0, &frame(0x82, &payload), &[data(&payload)], None);
    let payload = payload.repeat(256);
    assert_eq!(frame(0x82, &payload)[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 0x01, 0, 0]);
    check(0, &frame(0x82, &payload), &[data(&payload)], None);
}

/// What the first `count` bytes of a header allow, rule by rule.
fn oracle(first: u8, second: u8, count: usize, inside: bool) -> Result<(), ViolationKind> {
    let fin = first >= 0x80;
    let opcode = first % 16;
    let reserved_bits = first / 16 % 8;
    let mut bad = reserved_bits != 0;
    bad |= ![0, 1, 2, 8, 9, 10].contains(&opcode);
    bad |= [8, 9, 10].contains(&opcode) && !fin;
    bad |= opcode == 0 && !inside;
    bad |= [1, 2].contains(&opcode) && inside;
    if count == 2 {
        bad |= second >= 0x80;
        bad |= [8, 9, 10].contains(&opcode) && second % 128 > 125;
    }
    if bad { Err(Framing) } else { Ok(()) }
}

#[test]
fn every_first_two_bytes_against_an_oracle() {
    for inside in [false, true] {
        for [first, second] in (0..=u16::MAX).map(u16::to_be_bytes) {
            let begin: &[u8] = if inside { &[0x01, 0x00] } else { &[] };
            let mut decoder = Decoder::new(0);
            let mut events = Events::default();
            drain(&mut decoder, begin, &mut events);
            drain(&mut decoder, &[first], &mut events);
            let after_one = oracle(first, second, 1, inside);
            assert_eq!(events.1, after_one.err(), "{first:02x}, inside {inside}");
            drain(&mut decoder, &[second], &mut events);
            let after_two = after_one.and_then(|()| oracle(first, second, 2, inside));
            assert_eq!(events.1, after_two.err(), "{first:02x} {second:02x}, inside {inside}");
            let ends = second == 0 && after_two.is_ok() && first >= 0x80;
            assert_eq!(events.0.len(), usize::from(ends), "{first:02x} {second:02x}, inside {inside}");
            let together = decoded(0, [[begin, &[first, second]].concat().as_slice()]);
            assert_eq!(together, events, "{first:02x} {second:02x} in one piece, inside {inside}");
        }
    }
}

#[test]
fn lengths_are_in_their_shortest_form() {
    for (length, expected) in [(0u64, 4), (1, 4), (125, 4), (126, 5), (65_535, 5)] {
        let mut header = vec![0x82, 126];
        header.extend_from_slice(&(length as u16).to_be_bytes());
        header.push(0);
        assert_eq!(refused_after(&header), (expected == 4).then_some(4), "{length} in 16 bits");
    }
    for (length, expected) in [
        (0, Some(8)),
        (125, Some(8)),
        (65_535, Some(8)),
        (65_536, None),
        (1 << 32, None),
        ((1 << 62) + 5, None),
        (1 << 63, Some(3)),
        (u64::MAX, Some(3)),
    ] {
        let mut header = vec![0x82, 127];
        header.extend_from_slice(&u64::to_be_bytes(length));
        assert_eq!(refused_after(&header), expected, "{length} in 64 bits");
        assert_eq!(decoded(0, [header.as_slice()]).1.is_some(), expected.is_some());
    }
}

/// How many bytes it takes for a violation of the framing.
fn refused_after(bytes: &[u8]) -> Option<usize> {
    let mut decoder = Decoder::new(0);
    bytes
        .iter()
        .position(|byte| {
            let byte = [*byte];
            let mut input = byte.as_slice();
            let result = decoder.decode(&mut input);
            result.is_err_and(|error| error.kind() == Framing)
        })
        .map(|index| index + 1)
}

#[test]
fn messages_near_the_boundaries_of_the_length() {
    for length in [0, 1, 124, 125, 126, 127, 16_383, 16_384, 65_535, 65_536] {
        let payload: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        let words = "é".repeat(length / 2);
        check(0, &frame(0x82, &payload), &[data(&payload)], None);
        check(0, &frame(0x81, words.as_bytes()), &[text(&words)], None);
    }
}

#[test]
fn a_message_of_every_size_through_the_payload_buffer() {
    for length in [16_383, 16_384, 16_385, 65_537, 131_072, 131_073, 1 << 20, 2_222_222] {
        let payload: Vec<u8> = (0..length).map(|index| (index * 31 / 7) as u8).collect();
        let words = "a€".repeat(length / 4);
        for portion in [999, 4096, 65_536, 1 << 22] {
            let expected = (vec![data(&payload)], None);
            assert!(decoded_directly(0, &frame(0x82, &payload), portion) == expected, "{length} by {portion}");
            let expected = (vec![text(&words)], None);
            assert!(decoded_directly(0, &frame(0x81, words.as_bytes()), portion) == expected, "{length} by {portion}");
        }
    }
    // A bad byte in the middle, the end of a frame in a character, the end of the text in a character.
    let mut bad = "€".repeat(20_000).into_bytes();
    bad[30_001] = b'x';
    check(0, &frame(0x81, &bad), &[], Some(Text));
    let words = "€".repeat(20_000);
    let (left, right) = words.as_bytes().split_at(30_001);
    check(0, &[frame(0x01, left), frame(0x80, right)].concat(), &[text(&words)], None);
    check(0, &frame(0x81, &words.as_bytes()[..59_999]), &[], Some(Text));
}

#[test]
fn a_payload_buffer_takes_no_more_than_its_space() {
    let payload = vec![7; 100_000];
    let bytes = frame(0x82, &payload);
    let mut decoder = Decoder::new(0);
    assert!(decoder.take_payload_buffer().is_none());
    assert_eq!(decoder.decode(&mut &bytes[..10]), Ok(None));
    // Without a call of `space` there is none.
    let buffer = decoder.take_payload_buffer().unwrap();
    assert!(decoder.take_payload_buffer().is_none());
    assert_eq!(decoder.payload_received(buffer, usize::MAX), Ok(None));
    let mut buffer = decoder.take_payload_buffer().unwrap();
    let space = buffer.space();
    assert!(space.len() == 65_536 && space.iter().all(|byte| *byte == 0));
    space.fill(7);
    assert_eq!(decoder.payload_received(buffer, usize::MAX), Ok(None));
    let mut buffer = decoder.take_payload_buffer().unwrap();
    assert_eq!(buffer.space().len(), 100_000 - 65_536);
    buffer.space().fill(7);
    assert_eq!(decoder.payload_received(buffer, usize::MAX), Ok(Some(data(&payload))));
    // The next frame is found behind it.
    check(0, &[bytes, frame(0x81, b"next")].concat(), &[data(&payload), text("next")], None);
}

#[test]
fn control_frames_come_between_fragments() {
    let bytes = [
        frame(0x01, "κό".as_bytes()),
        frame(0x89, b"1"),
        frame(0x00, b""),
        frame(0x8a, &[b'2'; 125]),
        frame(0x00, &"σμε".as_bytes()[..3]),
        frame(0x89, b""),
        frame(0x80, &"σμε".as_bytes()[3..]),
        frame(0x02, b""),
        frame(0x00, b""),
        frame(0x80, b"x"),
        frame(0x82, b""),
        frame(0x81, b""),
        frame(0x01, b""),
        frame(0x80, b""),
    ]
    .concat();
    let ping = |payload: &[u8]| Incoming::Ping(payload.to_vec());
    let expected = [
        ping(b"1"),
        Incoming::Pong(vec![b'2'; 125]),
        ping(b""),
        text("κόσμε"),
        data(b"x"),
        data(b""),
        text(""),
        text(""),
    ];
    check(0, &bytes, &expected, None);
}

#[test]
fn sequences_that_break_the_framing() {
    for (bytes, before) in [
        (vec![frame(0x80, b"x")], vec![]),
        (vec![frame(0x00, b"x")], vec![]),
        (vec![frame(0x81, b"a"), frame(0x80, b"x")], vec![text("a")]),
        (vec![frame(0x01, b"a"), frame(0x81, b"x")], vec![]),
        (vec![frame(0x01, b"a"), frame(0x02, b"x")], vec![]),
        (vec![frame(0x02, b""), frame(0x82, b"x")], vec![]),
        (vec![frame(0x09, b"")], vec![]),
        (vec![frame(0x08, b"")], vec![]),
        (vec![frame(0xc1, b"x")], vec![]),
        (vec![frame(0xa1, b"x")], vec![]),
        (vec![frame(0x91, b"x")], vec![]),
        (vec![frame(0x83, b"x")], vec![]),
        (vec![frame(0x8b, b"")], vec![]),
        (vec![frame(0x89, &[0; CONTROL_PAYLOAD + 1])], vec![]),
    ] {
        // What follows a violation means nothing.
        let bytes = [bytes.concat(), frame(0x81, b"later"), frame(0x88, b"")].concat();
        check(0, &bytes, &before, Some(Framing));
    }
}

#[test]
fn what_a_close_may_say() {
    check(0, &frame(0x88, b""), &[Incoming::Close { code: None, reason: Vec::new() }], None);
    check(0, &frame(0x88, b"\x03\xe8"), &[closed(1000, b"")], None);
    check(0, &frame(0x88, "\u{3}\u{0}é".as_bytes()), &[], Some(Framing));
    let reason = "é".repeat(61) + "!";
    check(0, &frame(0x88, &[b"\x0f\xa0", reason.as_bytes()].concat()), &[closed(4000, reason.as_bytes())], None);
    check(0, &frame(0x88, b"\x03"), &[], Some(Framing));
    for bad in MALFORMED.iter().map(|(bytes, _)| *bytes).chain(TRUNCATED.iter().copied()) {
        check(0, &frame(0x88, &[b"\x03\xe8", bad].concat()), &[], Some(Text));
    }
    for code in (0..=1100).chain(2990..=3010).chain(4990..=5010).chain([u16::MAX]) {
        let allowed = CloseCode::new(code).may_be_received();
        let expected = if allowed { vec![closed(code, b"")] } else { Vec::new() };
        let events = decoded(0, [frame(0x88, &code.to_be_bytes()).as_slice()]);
        assert_eq!(events, (expected, (!allowed).then_some(Framing)), "{code}");
    }
    // Nothing after it counts, not even inside a message.
    let bytes = [frame(0x01, b"half"), frame(0x88, b"\x03\xe9"), frame(0x80, b"x"), vec![0xff; 10]].concat();
    check(0, &bytes, &[closed(1001, b"")], None);
    let mut decoder = Decoder::new(0);
    assert!(!decoder.is_finished());
    assert!(decoder.decode(&mut bytes.as_slice()).unwrap().is_some());
    assert!(decoder.is_finished() && decoder.take_payload_buffer().is_none() && decoder.message().is_none());
}

#[test]
fn a_message_is_smaller_than_the_limit() {
    for limit in [1usize, 2, 125, 126, 127, 1000, 65_536, 70_000] {
        let fits = vec![b'x'; limit - 1];
        check(limit, &frame(0x82, &fits), &[data(&fits)], None);
        let too_long = frame(0x81, &vec![b'x'; limit]);
        check(limit, &too_long, &[], Some(TooLong));
        // The header is enough.
        let header = too_long.len() - limit;
        assert_eq!(decoded(limit, [&too_long[..header]]), (vec![], Some(TooLong)), "{limit}");
    }
    for (length, expected) in
        [(99, None), (100, Some(TooLong)), (1 << 32, Some(TooLong)), ((1 << 32) + 5, Some(TooLong))]
    {
        let mut header = vec![0x82, 127];
        header.extend_from_slice(&u64::to_be_bytes(length));
        if length < 126 {
            header = vec![0x82, length as u8];
        }
        assert_eq!(decoded(100, [header.as_slice()]).1, expected, "{length}");
    }
    // No limit, but more than there can be.
    let header = [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    check(0, &header, &[], Some(TooLong));
    check(usize::MAX, &header, &[], Some(TooLong));
    let reason = Decoder::new(100).decode(&mut [0x82, 100].as_slice()).unwrap_err();
    assert_eq!(reason.to_string(), "a message has at least 100 bytes, and must have less than 100");
    assert_eq!(reason.close_code(), CloseCode::MESSAGE_TOO_BIG);
}

#[test]
fn the_limit_counts_all_fragments() {
    let bytes = [frame(0x02, &[b'x'; 60]), frame(0x00, &[b'x'; 38]), frame(0x80, b"x")].concat();
    check(100, &bytes, &[data(&[b'x'; 99])], None);
    let bytes = [frame(0x02, &[b'x'; 60]), frame(0x00, &[b'x'; 39]), frame(0x00, b""), frame(0x80, b"x")].concat();
    check(100, &bytes, &[], Some(TooLong));
    check(100, &[frame(0x02, &[b'x'; 99]), frame(0x80, &[b'x'; 99])].concat(), &[], Some(TooLong));
    // The next message begins anew.
    check(100, &frame(0x82, &[1; 99]).repeat(3), &[data(&[1; 99]), data(&[1; 99]), data(&[1; 99])], None);
}

#[test]
fn the_limit_may_change_inside_a_message() {
    let bytes = frame(0x82, &vec![1; 50_000]);
    for (limit, refused) in [(50_001, false), (50_000, true), (20, true), (0, false)] {
        let mut decoder = Decoder::new(1 << 20);
        let mut events = Events::default();
        drain(&mut decoder, &bytes[..100], &mut events);
        decoder.set_maximum_message_size(limit);
        drain(&mut decoder, &bytes[100..], &mut events);
        assert_eq!((events.0.len(), events.1), if refused { (0, Some(TooLong)) } else { (1, None) }, "{limit}");

        let mut decoder = Decoder::new(1 << 20);
        assert_eq!(decoder.decode(&mut &bytes[..100]), Ok(None));
        let mut buffer = decoder.take_payload_buffer().unwrap();
        buffer.space().fill(1);
        decoder.set_maximum_message_size(limit);
        let result = decoder.payload_received(buffer, usize::MAX);
        assert_eq!(result.is_err(), refused, "{limit} while the buffer is out");
        assert_eq!(decoder.is_finished(), refused);
    }
    // Between two fragments.
    let mut decoder = Decoder::new(0);
    let mut events = Events::default();
    drain(&mut decoder, &frame(0x02, &[1; 50]), &mut events);
    decoder.set_maximum_message_size(50);
    drain(&mut decoder, &frame(0x89, b""), &mut events);
    assert_eq!(events.1, None);
    drain(&mut decoder, &frame(0x80, b""), &mut events);
    assert_eq!(events.1, Some(TooLong));
}

#[test]
fn a_message_has_a_limited_number_of_short_frames() {
    for payload in [b"".as_slice(), b"x", &[b'x'; 63]] {
        let mut decoder = Decoder::new(0);
        let mut events = Events::default();
        let mut frames = 1;
        drain(&mut decoder, &frame(0x02, payload), &mut events);
        while events.1.is_none() {
            drain(&mut decoder, &frame(0x00, payload), &mut events);
            // Control frames do not count.
            drain(&mut decoder, &frame(0x8a, b""), &mut events);
            frames += 1;
            assert!(frames <= 1_000_000);
        }
        assert_eq!((frames, events.1), (16_385, Some(TooLong)));
    }
    // As many as that are delivered, and the next message counts anew.
    let mut bytes = frame(0x01, b"x");
    bytes.extend(frame(0x00, b"x").repeat(16_382));
    bytes.extend(frame(0x80, b"x"));
    let expected = text(&"x".repeat(16_384));
    assert_eq!(decoded(0, [bytes.repeat(2).as_slice()]), (vec![expected.clone(), expected], None));
    // Longer frames are limited by the size of the message alone.
    let mut bytes = frame(0x02, &[0; 64]);
    bytes.extend(frame(0x00, &[0; 64]).repeat(65_534));
    bytes.extend(frame(0x80, &[0; 64]));
    assert_eq!(decoded(0, [bytes.as_slice()]), (vec![data(&[0; 64 * 65_536])], None));
}

#[test]
fn text_is_checked_when_it_arrives() {
    for bytes in VALID {
        let expected = [text(std::str::from_utf8(bytes).unwrap())];
        check(0, &frame(0x81, bytes), &expected, None);
        for split in 0..=bytes.len() {
            let (left, right) = bytes.split_at(split);
            check(0, &[frame(0x01, left), frame(0x80, right)].concat(), &expected, None);
        }
    }
    for (bytes, bad) in MALFORMED {
        check(0, &frame(0x81, bytes), &[], Some(Text));
        // Refused at the bad byte, though the frame goes on.
        let long = frame(0x81, &[*bytes, &[b'x'; 50]].concat());
        let mut decoder = Decoder::new(0);
        for (index, byte) in long.iter().enumerate() {
            let refused = decoder.decode(&mut [*byte].as_slice()).is_err();
            assert_eq!(refused, index == 2 + bad, "{bytes:02x?} at {index}");
        }
        for split in 0..=bytes.len() {
            let (left, right) = bytes.split_at(split);
            check(0, &[frame(0x01, left), frame(0x00, b""), frame(0x80, right)].concat(), &[], Some(Text));
        }
    }
    for bytes in TRUNCATED {
        check(0, &frame(0x81, bytes), &[], Some(Text));
        check(0, &[frame(0x01, bytes), frame(0x80, b"")].concat(), &[], Some(Text));
        // Not yet wrong where the message goes on.
        assert_eq!(decoded(0, [frame(0x01, bytes).as_slice()]), (vec![], None), "{bytes:02x?}");
        // Binary messages are not looked at.
        check(0, &frame(0x82, bytes), &[data(bytes)], None);
    }
}

#[test]
fn memory_follows_what_has_arrived() {
    let capacity = |decoder: &Decoder| decoder.message().map_or(0, |message| message.payload.capacity());
    let allowed = |arrived: usize| (4 * arrived).max(arrived + 4096);
    for first in [0x01, 0x81] {
        let mut decoder = Decoder::new(0);
        let header = [first, 127, 0x3f, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decoder.decode(&mut header.as_slice()), Ok(None));
        assert_eq!(capacity(&decoder), 0);
        for arrived in (0..300_000).step_by(700) {
            assert_eq!(decoder.decode(&mut [b'x'; 700].as_slice()), Ok(None));
            assert!(capacity(&decoder) <= allowed(arrived + 700), "{} at {arrived}", capacity(&decoder));
        }
        for _ in 0..30 {
            let arrived = decoder.message().unwrap().payload.len();
            let mut buffer = decoder.take_payload_buffer().unwrap();
            assert_eq!(buffer.space().len(), (3 * arrived).clamp(65_536, 1 << 20));
            buffer.space().fill(b'x');
            assert!(buffer.message.payload.capacity() <= (4 * arrived).max(arrived + 65_536));
            assert_eq!(decoder.payload_received(buffer, 100_000), Ok(None));
        }
    }
    // Many small frames: few reallocations.
    let mut decoder = Decoder::new(0);
    let mut capacities = vec![0];
    for index in 0..16_000 {
        let first = if index == 0 { 0x02 } else { 0x00 };
        assert_eq!(decoder.decode(&mut frame(first, b"12345678").as_slice()), Ok(None));
        capacities.push(capacity(&decoder));
    }
    capacities.dedup();
    assert!(capacities.len() < 24, "{capacities:?}");
}

#[test]
fn a_message_of_one_frame_has_exactly_its_size() {
    for length in [1, 100, 4095, 4096, 4097, 5000, 16_384, 100_000, 1_000_003] {
        let bytes = frame(0x82, &vec![1; length]);
        for portion in [1500, 4096, 100_000, 1 << 21] {
            for direct in [false, true] {
                let (events, _) =
                    if direct { decoded_directly(0, &bytes, portion) } else { decoded(0, bytes.chunks(portion)) };
                let [Incoming::Message(Message::Data(data))] = events.as_slice() else { panic!("{length}") };
                assert_eq!((data.len(), data.capacity()), (length, length), "by {portion}, directly {direct}");
            }
        }
    }
}

#[test]
fn random_traffic_in_random_pieces() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % bound
    };
    for round in 0..300 {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..1 + below(12) {
            let words: String = (0..below(3) * below(300)).map(|_| ['a', 'é', '€', '🌍'][below(4)]).collect();
            let is_text = below(2) == 0;
            let mut rest = words.as_bytes();
            let mut opcode = if is_text { 1 } else { 2 };
            for _ in 0..below(5) {
                bytes.extend(frame(opcode, take_front(&mut rest, below(400))));
                opcode = 0;
                if below(3) == 0 {
                    let payload = vec![round as u8; below(126)];
                    bytes.extend(frame(0x89, &payload));
                    expected.push(Incoming::Ping(payload));
                }
            }
            bytes.extend(frame(0x80 | opcode, rest));
            expected.push(if is_text { text(&words) } else { data(words.as_bytes()) });
        }
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        let most = 1 + below(1000);
        while !rest.is_empty() {
            pieces.push(take_front(&mut rest, below(most + 1)));
        }
        assert_eq!(decoded(0, pieces), (expected, None), "round {round}");
    }
}
