use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use super::super::compressor::Compressor;
use super::super::supply::Supply;
use super::super::violation::ViolationKind::{self, Compression, Framing, Text, TooLong};
use super::super::{Decoder, Incoming, Outgoing};
use super::*;
use crate::foundation::{Message, Random};

/// What comes out of a decoder: its events, then the kind of violation if there was one.
type Events = (Vec<Incoming>, Option<ViolationKind>);

fn supply() -> Supply {
    Supply::new(Random::new(|bytes| bytes.fill(0x5a)))
}

fn decoder(limit: usize, no_context_takeover: bool) -> Decoder {
    Decoder::with_inflation(limit, Inflation::new(Arc::default(), no_context_takeover))
}

/// A server's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 127];
    frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    match payload.len() {
        length @ 0..126 => frame.splice(1.., [length as u8]).for_each(drop),
        length @ 126..0x1_0000 => {
            frame.splice(1.., [126].into_iter().chain((length as u16).to_be_bytes())).for_each(drop);
        }
        _ => {}
    }
    frame.extend_from_slice(payload);
    frame
}

fn text(text: &str) -> Incoming {
    Incoming::Message(Message::from(text))
}

fn data(data: &[u8]) -> Incoming {
    Incoming::Message(Message::from(data))
}

fn decoded<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Events {
    let mut events = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(event)) => events.push(event),
                // Others had their turn.
                Ok(None) if decoder.has_enough() && !piece.is_empty() => decoder.begin_reading(),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation.kind())),
            }
        }
        assert!(piece.is_empty());
    }
    (events, None)
}

/// Asserts the events of `bytes`, in whatever pieces they come.
fn check(make: impl Fn() -> Decoder, bytes: &[u8], expected: &[Incoming], violation: Option<ViolationKind>) {
    let expected = (expected.to_vec(), violation);
    assert_eq!(decoded(make(), [bytes]), expected, "{bytes:02x?}");
    assert_eq!(decoded(make(), bytes.chunks(1)), expected, "{bytes:02x?} byte by byte");
    for at in 1..bytes.len() {
        let (front, back) = bytes.split_at(at);
        assert_eq!(decoded(make(), [front, back]), expected, "{bytes:02x?} cut at {at}");
    }
}

fn hello() -> Vec<u8> {
    frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00])
}

#[test]
fn examples_of_rfc_7692_7_2_3() {
    let takes_over = || decoder(0, false);
    check(takes_over, &hello(), &[text("Hello")], None);
    // §7.2.3.1, in fragments; and with a ping between them.
    let fragments = [frame(0x41, &[0xf2, 0x48, 0xcd]), frame(0x80, &[0xc9, 0xc9, 0x07, 0x00])];
    check(takes_over, &fragments.concat(), &[text("Hello")], None);
    let ping = frame(0x89, b"?");
    let expected = [Incoming::Ping(b"?".to_vec()), text("Hello")];
    check(takes_over, &[&*fragments[0], &*ping, &*fragments[1]].concat(), &expected, None);
    // §7.2.3.2: the second refers to the first, if the server may.
    let second = frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
    check(takes_over, &[hello(), second.clone()].concat(), &[text("Hello"), text("Hello")], None);
    check(|| decoder(0, true), &[hello(), hello()].concat(), &[text("Hello"), text("Hello")], None);
    check(|| decoder(0, true), &[hello(), second].concat(), &[text("Hello")], Some(Compression));
    // §7.2.3.3 to §7.2.3.5: stored, a final block, two blocks.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for payload in [&stored[..], &last, &two] {
        check(takes_over, &frame(0xc1, payload), &[text("Hello")], None);
        check(|| decoder(0, true), &frame(0xc2, payload), &[data(b"Hello")], None);
    }
    // §7.2.3.6: what was flushed, tail and all, then a fragment of an empty block.
    let flushed = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff];
    check(takes_over, &[frame(0x41, &flushed), frame(0x80, &[0x00])].concat(), &[text("Hello")], None);
}

#[test]
fn messages_that_are_not_compressed_stand_between_those_that_are() {
    let second = frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
    let fragments = [frame(0x01, b"plain "), frame(0x80, b"fragments")].concat();
    let bytes = [frame(0x81, b"plain"), hello(), frame(0x82, b"Hello"), fragments, second].concat();
    let expected = [text("plain"), text("Hello"), data(b"Hello"), text("plain fragments"), text("Hello")];
    check(|| decoder(0, false), &bytes, &expected, None);
}

#[test]
fn empty_messages() {
    // An empty block of each kind, and nothing at all; with a message before and behind, which refers to that. Then the same
    // with a final block.
    let second = frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
    for payload in [&[0x00][..], &[0x02, 0x00], &[], &[0x03, 0x00, 0x00], &[0x03, 0x00]] {
        let second = if payload.first() == Some(&0x03) { hello() } else { second.clone() };
        let empty = frame(0xc1, payload);
        check(|| decoder(0, false), &empty, &[text("")], None);
        let bytes = [hello(), empty.clone(), frame(0x42, payload), frame(0x80, &[]), second.clone()].concat();
        check(|| decoder(0, false), &bytes, &[text("Hello"), text(""), data(b""), text("Hello")], None);
        check(|| decoder(0, true), &[empty, hello()].concat(), &[text(""), text("Hello")], None);
    }
}

#[test]
fn what_follows_a_final_block_may_refer_to_what_came_before() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    // In the next message, and in the one after a few more.
    let first = frame(0xc1, &[&last[..], &[0x00]].concat());
    let second = frame(0xc1, &again);
    let messages = [first.clone(), second.clone(), frame(0xc1, &[0x00]), first.clone(), second.clone(), second.clone()];
    let expected = [text("Hello"), text("Hello"), text(""), text("Hello"), text("Hello"), text("Hello")];
    check(|| decoder(0, false), &messages.concat(), &expected, None);
    // In the same message; also where the server may not refer to the one before.
    let both = frame(0xc1, &[&last[..], &again].concat());
    check(|| decoder(0, false), &[both.clone(), second.clone()].concat(), &[text("HelloHello"), text("Hello")], None);
    check(|| decoder(0, true), &[both.clone(), both].concat(), &[text("HelloHello"), text("HelloHello")], None);
    check(|| decoder(0, true), &[first, second.clone()].concat(), &[text("Hello")], Some(Compression));
    // A final block with nothing behind it.
    let bare = frame(0xc1, &last);
    check(
        || decoder(0, false),
        &[bare.clone(), second, bare].concat(),
        &[text("Hello"), text("Hello"), text("Hello")],
        None,
    );
}

#[test]
fn what_follows_a_final_block_may_refer_to_all_of_the_window() {
    // A message that repeats what lies nearly a window behind its own end, in blocks that are each final.
    let mut random = Rng(7);
    let noise: Vec<u8> = (0..40_000).map(|_| random.next() as u8).collect();
    let mut stream = Deflate::new_with_config(DeflateConfig { window_bits: -15, ..DeflateConfig::default() });
    let mut finish = |dictionary: &[u8], payload: &[u8]| {
        stream.reset();
        stream.set_dictionary(dictionary).unwrap();
        let mut out = vec![0; payload.len() + 1000];
        stream.compress(payload, &mut out, DeflateFlush::Finish).unwrap();
        out.truncate(stream.total_out() as usize);
        out
    };
    let distance = 32_000;
    let repeated = &noise[noise.len() - distance..][..1000];
    let (first, second) = (finish(&[], &noise), finish(&noise[noise.len() - (1 << 15)..], repeated));
    assert!(second.len() < 100, "it is referred to: {}", second.len());
    let separate = [frame(0xc2, &first), frame(0xc2, &second)].concat();
    let expected = (vec![data(&noise), data(repeated)], None);
    assert_eq!(decoded(decoder(0, false), separate.chunks(1009)), expected);
    let together = frame(0xc2, &[first, second].concat());
    assert_eq!(decoded(decoder(0, true), together.chunks(1009)), (vec![data(&[&noise, repeated].concat())], None));
}

#[test]
fn what_cannot_be_decompressed_is_refused() {
    let stored = |length: u16| [&[0x00][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat();
    let table: [&[u8]; 8] = [
        // A block of the reserved kind; a stored one whose length is not confirmed.
        &[0x06],
        &[0x00, 0x05, 0x00, 0x00, 0x00],
        // A reference to what never was.
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        // A code of lengths that is none.
        &[0xed, 0xff, 0xff, 0xff],
        // Broken off: in a stored block, which would take the tail for its own, and in a compressed one.
        &[&stored(9)[..], b"Hello"].concat(),
        &[&stored(65_535)[..], &[0; 9]].concat(),
        &[0xf2, 0x48, 0xcd, 0xc9],
        // Something behind a final block that is no block.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06],
    ];
    for payload in table {
        for no_context_takeover in [false, true] {
            let bytes = [hello(), frame(0x82, b"2")].concat();
            // Nothing that was told before is taken back, and nothing is told behind it.
            let bytes =
                [if payload[0] == 0xf2 && payload[1] == 0 { Vec::new() } else { bytes }, frame(0xc2, payload), hello()];
            let expected: &[Incoming] = if bytes[0].is_empty() { &[] } else { &[text("Hello"), data(b"2")] };
            check(|| decoder(0, no_context_takeover), &bytes.concat(), expected, Some(Compression));
        }
    }
}

#[test]
fn a_mark_of_compression_where_none_may_be_is_refused() {
    let begun = frame(0x41, &[0xf2]);
    for first in [0xc0, 0x40] {
        check(|| decoder(0, false), &[begun.clone(), frame(first, &[0x00])].concat(), &[], Some(Framing));
    }
    for first in [0xc8, 0xc9, 0xca, 0xe1, 0xd1, 0xa1] {
        check(|| decoder(0, false), &frame(first, &[]), &[], Some(Framing));
    }
    // And where it was not negotiated.
    check(|| Decoder::new(0), &hello(), &[], Some(Framing));
}

#[test]
fn text_is_checked_after_it_is_inflated() {
    let mut supply = supply();
    // Cut in the middle of a character, too, by the chunks that it is inflated through.
    let long = "€".repeat(CHUNK);
    for (payload, bad) in [("héllo €".as_bytes(), false), (b"h\xc3", true), (b"\xc3(", true), (long.as_bytes(), false)]
    {
        let compressed = Compressor::new(15).compress(&Message::from(payload), &mut supply).unwrap().payload;
        let (front, back) = compressed.split_at(compressed.len() / 2);
        let bytes = [frame(0x41, front), frame(0x80, back)].concat();
        let expected = if bad { (vec![], Some(Text)) } else { (vec![text(str::from_utf8(payload).unwrap())], None) };
        assert_eq!(decoded(decoder(0, false), [&*bytes]), expected);
        assert_eq!(decoded(decoder(0, false), bytes.chunks(1)), expected);
    }
}

#[test]
fn a_message_is_refused_at_the_byte_that_reaches_the_limit() {
    let mut supply = supply();
    const LIMIT: usize = 3 * CHUNK + 11;
    let mut compressed =
        |length: usize| Compressor::new(15).compress(&Message::from(vec![0; length]), &mut supply).unwrap().payload;
    let (fits, reaches, bomb) = (compressed(LIMIT - 1), compressed(LIMIT), compressed(100 << 20));
    assert!(bomb.len() * 1000 < 100 << 20);
    for no_context_takeover in [false, true] {
        let make = || decoder(LIMIT, no_context_takeover);
        let good = data(&vec![0; LIMIT - 1]);
        assert_eq!(
            decoded(make(), [&*[frame(0xc2, &fits), frame(0xc2, &fits)].concat()]),
            (vec![good.clone(), good], None)
        );
        for payload in [&reaches, &bomb] {
            let hidden = [&hello()[..], &frame(0x42, &payload[..1]), &frame(0x89, b""), &frame(0x80, &payload[1..])];
            let told = vec![text("Hello"), Incoming::Ping(Vec::new())];
            assert_eq!(decoded(make(), [&*frame(0xc2, payload)]), (vec![], Some(TooLong)));
            assert_eq!(decoded(make(), [&*hidden.concat()]), (told.clone(), Some(TooLong)));
            assert_eq!(decoded(make(), hidden.concat().chunks(1)), (told, Some(TooLong)));
        }
    }
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_limit() {
    let mut supply = supply();
    let bomb = Compressor::new(15).compress(&Message::from(vec![0; 64 << 20]), &mut supply).unwrap().payload;
    for limit in [1, 1000, CHUNK, CHUNK + 1, 1_000_000, 10 << 20] {
        let mut payload = Payload::new(true);
        let mut inflation = Inflation::new(Arc::default(), false);
        let mut input = bomb.as_slice();
        let violation = loop {
            let before = (input.len(), payload.len());
            inflation.begin_reading();
            match inflation.inflate(&mut input, &mut payload, limit) {
                Ok(()) => assert!(inflation.has_enough() && !input.is_empty() && input.len() < before.0),
                Err(violation) => break violation,
            }
            assert!(payload.len() - before.1 < ENOUGH as usize + 128 * 1024, "others have their turn");
        };
        assert_eq!((violation.kind(), payload.len()), (TooLong, limit));
        assert!(payload.capacity() <= limit, "{} for {limit}", payload.capacity());
    }
}

#[test]
fn a_limit_that_is_lowered_holds_for_the_message_that_is_being_received() {
    let mut decoder = decoder(0, false);
    let mut supply = supply();
    let compressed = Compressor::new(15).compress(&Message::from(vec![7; 5000]), &mut supply).unwrap().payload;
    let bytes = frame(0xc2, &[&compressed[..], &compressed[..]].concat());
    let (front, back) = bytes.split_at(4 + compressed.len());
    assert_eq!(decoder.decode(&mut &front[..]), Ok(None));
    decoder.set_maximum_message_size(100);
    assert_eq!(decoder.decode(&mut &back[..]).unwrap_err().kind(), TooLong);
    // Also behind a final block, where nothing more comes out.
    let mut decoder = self::decoder(0, false);
    let bytes = [frame(0x41, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), frame(0x80, &[])].concat();
    let (front, back) = bytes.split_at(bytes.len() - 1);
    assert_eq!(decoder.decode(&mut &front[..]), Ok(None));
    decoder.set_maximum_message_size(3);
    assert_eq!(decoder.decode(&mut &back[..]).unwrap_err().kind(), TooLong);
}

#[test]
fn an_inflater_is_there_while_it_is_needed() {
    let contexts = Arc::new(Contexts::default());
    let kept = |expected: bool| {
        let inflater = contexts.inflaters.take(|_| true);
        assert_eq!(inflater.is_some(), expected);
        inflater.into_iter().for_each(|inflater| contexts.inflaters.put(inflater));
    };
    let make =
        |no_context_takeover| Decoder::with_inflation(0, Inflation::new(Arc::clone(&contexts), no_context_takeover));
    let mut decoder = make(true);
    assert_eq!(decoder.decode(&mut &frame(0x81, b"plain")[..]), Ok(Some(text("plain"))));
    assert_eq!(decoder.decode(&mut &frame(0x41, &[0xf2])[..]), Ok(None));
    kept(false);
    let rest = frame(0x80, &[0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    assert_eq!(decoder.decode(&mut &rest[..]), Ok(Some(text("Hello"))));
    kept(true);
    // What refers to the messages before stays with its connection until that ends.
    let mut decoder = make(false);
    assert_eq!(decoder.decode(&mut &hello()[..]), Ok(Some(text("Hello"))));
    kept(false);
    assert_eq!(decoder.inflated(), (7, 5));
    assert_eq!(decoder.decode(&mut &frame(0x88, &[])[..]), Ok(Some(Incoming::Close { code: None, reason: vec![] })));
    kept(true);
    assert_eq!(decoder.inflated(), (7, 5));
    // It has forgotten what it saw.
    let second = frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
    assert_eq!(make(false).decode(&mut &second[..]).unwrap_err().kind(), Compression);
}

/// Wherever a message is cut off: it is whole up to a block's end there, or refused, and the next one is not touched by it.
#[test]
fn a_message_that_is_cut_off_is_refused() {
    let mut random = Rng(3);
    let mut supply = supply();
    let records: String = (0..60).map(|_| format!("{{\"value\":{}}},", random.below(1_000_000))).collect();
    for payload in ["Hello", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &records] {
        let compressed = Compressor::new(15).compress(&Message::from(payload), &mut supply).unwrap().payload;
        for no_context_takeover in [false, true] {
            for length in 1..compressed.len() {
                let bytes = [frame(0xc1, &compressed[..length]), hello()].concat();
                let told = decoded(decoder(0, no_context_takeover), [&*bytes]);
                assert_eq!(told, (vec![], Some(Compression)), "{length} of {}", compressed.len());
            }
        }
    }
    // What the tail ends, or what takes the tail for its own, without a byte coming out.
    for payload in [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07][..], &[0x02], &[0x04, 0xc0, 0x81], &[0x3a, 0x71, 0xf2, 0xf4]]
    {
        check(|| decoder(0, true), &frame(0xc2, payload), &[], Some(Compression));
    }
}

/// Two bytes make a final block, behind which the stream begins again.
#[test]
fn final_blocks_are_as_many_as_their_message_can_pay() {
    let blocks = |count: usize| frame(0xc2, &[&b"\x03\x00".repeat(count)[..], &[0x00]].concat());
    let few = FINAL_BLOCKS as usize;
    assert_eq!(decoded(decoder(0, false), [&*[blocks(few), blocks(few)].concat()]), (vec![data(b""), data(b"")], None));
    assert_eq!(decoded(decoder(0, false), [&*blocks(few + 1)]), (vec![], Some(Compression)));
    // Stored blocks of 2,000 bytes, each final.
    let stored = [&[0x01][..], &2000u16.to_le_bytes(), &(!2000u16).to_le_bytes(), &[7; 2000]].concat();
    let many = frame(0xc2, &stored.repeat(200));
    assert_eq!(decoded(decoder(0, false), many.chunks(999)), (vec![data(&[7; 400_000])], None));
}

/// Blocks of nothing: no byte comes out of them, ever.
#[test]
fn a_compressed_message_has_a_length_too() {
    const LIMIT: usize = 1000;
    let most = 2 * LIMIT as u64 + super::super::decoder::COMPRESSED_MORE;
    let claim = |length: u64| [&[0xc2, 127][..], &length.to_be_bytes()].concat();
    let told = |bytes: &[u8]| decoded(decoder(LIMIT, false), [bytes]).1;
    assert_eq!((told(&claim(most - 1)), told(&claim(most))), (None, Some(TooLong)));
    // Fragments count together; without a limit there is none.
    let nothing = [0x00, 0x00, 0x00, 0xff, 0xff].repeat(1000);
    let (first, more) = (frame(0x42, &nothing), frame(0x00, &nothing));
    assert_eq!(told(&[&first[..], &more.repeat(12)].concat()), None);
    assert_eq!(told(&[&first[..], &more.repeat(13)].concat()), Some(TooLong));
    assert_eq!(decoded(decoder(0, false), [&*claim(u64::MAX >> 1)]).1, None);
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn length(&mut self) -> usize {
        let most = [4, 40, 300, 3000, 70_000][self.below(5)];
        self.below(most)
    }

    /// Like records, like noise, all alike, or what came before.
    fn message(&mut self, before: &[Message]) -> Message {
        let length = self.length();
        match (self.below(5), before.last()) {
            (0, _) => Message::from(vec![self.next() as u8; length]),
            (1, _) => Message::from((0..length).map(|_| self.next() as u8).collect::<Vec<u8>>()),
            (2, Some(before)) => before.clone(),
            _ => {
                let mut text = String::new();
                while text.len() < length {
                    text += &format!("{{\"name\":\"größe {}\",\"value\":{}}},", self.below(9), self.below(100_000));
                }
                Message::from(text)
            }
        }
    }

    /// `bytes` in pieces.
    fn cut<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (front, back) = bytes.split_at(bytes.len().min(1 + self.length()));
            pieces.push(front);
            bytes = back;
        }
        pieces
    }
}

/// The payload of each message that a client framed, and whether it was marked as compressed; keys are of `supply`.
fn unframed(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut messages: Vec<(u8, Vec<u8>)> = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk().unwrap())), &rest[2..]),
            127 => (u64::from_be_bytes(*rest.first_chunk().unwrap()) as usize, &rest[8..]),
            length => (usize::from(length), rest),
        };
        let payload = rest[4..4 + length].iter().map(|byte| byte ^ 0x5a);
        match first & 0x0f {
            0 => messages.last_mut().unwrap().1.extend(payload),
            _ => messages.push((*first, payload.collect())),
        }
        bytes = &rest[4 + length..];
    }
    messages
}

/// Any message, compressed by this side with any window, framed as a server frames, in any fragments and pieces: the same
/// message comes back.
#[test]
fn any_message_comes_back() {
    let contexts = Arc::new(Contexts::default());
    for seed in 0..if cfg!(debug_assertions) { 150 } else { 1500 } {
        let mut random = Rng(seed);
        let (window_bits, takes_over) = (9 + random.below(7) as u8, random.below(2) == 0);
        let mut supply = supply();
        let mut compressor = contexts.compressor(window_bits);
        let mut sent = Vec::new();
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(8) {
            let message = random.message(&sent);
            if random.below(4) == 0 {
                let first = if matches!(message, Message::String(_)) { 0x81 } else { 0x82 };
                bytes.extend(frame(first, &Vec::from(payload_of(&message))));
            } else {
                let compressed = compressor.compress(&message, &mut supply).unwrap();
                server_frames(&mut random, compressed.is_text, &compressed.payload, &mut bytes);
                if !takes_over {
                    compressor.forget();
                }
            }
            sent.push(message);
        }
        contexts.keep_compressor(compressor);
        let decoder = Decoder::with_inflation(0, Inflation::new(Arc::clone(&contexts), !takes_over));
        let (events, violation) = decoded(decoder, random.cut(&bytes));
        let received: Vec<Message> = events
            .into_iter()
            .filter_map(|event| match event {
                Incoming::Message(message) => Some(message),
                _ => None,
            })
            .collect();
        assert!(violation.is_none() && received == sent, "seed {seed}: {violation:?}");
    }
}

fn payload_of(message: &Message) -> &[u8] {
    match message {
        Message::Data(data) => data,
        Message::String(text) => text.as_bytes(),
    }
}

/// A compressed message in fragments, control frames between them.
fn server_frames(random: &mut Rng, is_text: bool, payload: &[u8], into: &mut Vec<u8>) {
    let mut pieces = random.cut(payload);
    if random.below(3) == 0 {
        pieces = vec![payload];
    }
    if random.below(5) == 0 {
        pieces.insert(random.below(pieces.len() + 1), &[]);
    }
    for (index, piece) in pieces.iter().enumerate() {
        let kind = if index > 0 { 0 } else { 0x40 | if is_text { 1 } else { 2 } };
        let fin = if index + 1 == pieces.len() { 0x80 } else { 0 };
        into.extend(frame(kind | fin, piece));
        if random.below(3) == 0 {
            into.extend(frame(0x89, b"ping"));
        }
    }
}

/// What leaves a client can be read by an inflater that has no larger window than was agreed on: of another's making, but for
/// the code of zlib.
#[test]
fn no_message_refers_further_back_than_the_window() {
    for window_bits in 9..=15 {
        let mut random = Rng(u64::from(window_bits));
        let mut supply = supply();
        let mut outgoing = Outgoing::default();
        let mut compressor = Compressor::new(window_bits);
        let mut inflate = Inflate::new(false, window_bits);
        let mut sent = Vec::new();
        // The same noise again and again, at every distance: whoever looks far enough back finds it.
        let noise: Vec<u8> = (0..3000).map(|_| random.next() as u8).collect();
        for index in 0..60 {
            let message = match index % 3 {
                0 => Message::from(&noise[..100 + random.below(2900)]),
                1 => Message::from(vec![index as u8; random.below(40_000)]),
                _ => random.message(&sent),
            };
            let compressed = compressor.compress(&message, &mut supply).unwrap();
            outgoing.push_compressed(compressed, &mut supply);
            sent.push(message);
        }
        let mut bytes = Vec::new();
        while let Some(mut output) = outgoing.take(usize::MAX, &mut supply) {
            output.slices().for_each(|slice| bytes.extend_from_slice(slice));
            output.advance(usize::MAX);
            outgoing.give_back(output, &mut supply);
        }
        let received = unframed(&bytes);
        assert_eq!(received.len(), sent.len());
        for ((first, payload), message) in received.iter().zip(&sent) {
            let expected = payload_of(message);
            assert_eq!(*first & 0xc1, 0xc0 | u8::from(matches!(message, Message::String(_))));
            let mut out = vec![0; expected.len() + 64];
            let made = inflate.total_out();
            for input in [payload.as_slice(), &TAIL] {
                let place = (inflate.total_out() - made) as usize;
                inflate.decompress(input, &mut out[place..], InflateFlush::SyncFlush).unwrap();
            }
            assert!(out[..(inflate.total_out() - made) as usize] == *expected, "window of {window_bits} bits");
        }
    }
}

/// Rooms for what comes out begin and end at every place of it.
#[test]
fn messages_of_every_size_are_flushed_whole() {
    let mut random = Rng(1);
    let mut supply = supply();
    let noise: Vec<u8> = (0..140_000).map(|_| random.next() as u8).collect();
    let (mut compressor, mut inflation) = (Compressor::new(15), Inflation::new(Arc::default(), false));
    let near = |size: usize| size - 24..size + 24;
    for length in (0..1200).chain(near(2048)).chain(near(16 * 1024)).chain(near(64 * 1024)).chain(near(131_072)) {
        let payload = &noise[..length];
        let compressed = compressor.compress(&Message::from(payload), &mut supply).unwrap();
        let mut inflated = Payload::new(false);
        let mut input = compressed.payload.as_slice();
        while !input.is_empty() {
            inflation.begin_reading();
            inflation.inflate(&mut input, &mut inflated, usize::MAX).unwrap();
        }
        inflation.finish(&inflated, usize::MAX).unwrap();
        assert!(inflated.as_slice() == payload, "{length}");
        // Noise costs a few bytes, no more.
        assert!(compressed.len() <= length + 8 + length / 300, "{} for {length}", compressed.len());
        supply.keep_compressed(compressed);
    }
}

/// Whatever comes, it is a message below the limit, or a violation.
#[test]
fn damaged_messages_do_no_harm() {
    const LIMIT: usize = 100_000;
    let (mut refused, mut told) = (0, 0);
    for seed in 0..if cfg!(debug_assertions) { 300 } else { 10_000 } {
        let mut random = Rng(seed);
        let mut supply = supply();
        let mut compressor = Compressor::new(15);
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..3 {
            let message = random.message(&sent);
            let mut payload = compressor.compress(&message, &mut supply).unwrap().payload;
            for _ in 0..random.below(4) {
                let place = random.below(payload.len());
                payload[place] = random.next() as u8;
            }
            payload.truncate(payload.len() - random.below(2) * random.below(payload.len()));
            server_frames(&mut random, false, &payload, &mut bytes);
            sent.push(message);
        }
        let (events, violation) = decoded(decoder(LIMIT, false), random.cut(&bytes));
        for event in events {
            if let Incoming::Message(message) = event {
                assert!(payload_of(&message).len() < LIMIT, "seed {seed}");
                told += 1;
            }
        }
        refused += usize::from(violation.is_some());
    }
    assert!(refused > 50 && told > 50, "{refused} refused, {told} told");
}
