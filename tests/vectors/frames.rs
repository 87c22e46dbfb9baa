//! Frames and their text, compressed too: `utf8.json`, `ws_frames_curl.json`, `permessage_deflate.json`.

use std::sync::Arc;

use flate2::{Compress, Compression, FlushCompress};
use serde_json::Value;
use urlsession::Message;
use urlsession::internals::{Decoder, Incoming, Inflation, ViolationKind};

use super::{cases, equal, hex, run_all, text};

type Decoded = (Vec<Incoming>, Option<ViolationKind>);

/// What comes out of pieces, up to a violation.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    decoded_by(Decoder::new(0), pieces)
}

/// Of a connection on which messages may be compressed.
pub fn deflating(maximum_message_size: usize, server_no_context_takeover: bool) -> Decoder {
    Decoder::with_inflation(maximum_message_size, Inflation::new(Arc::default(), server_no_context_takeover))
}

pub fn decoded_by<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut incoming = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(next)) => incoming.push(next),
                Ok(None) if decoder.has_enough() && !piece.is_empty() => decoder.begin_reading(),
                Ok(None) => break,
                Err(violation) => return (incoming, Some(violation.kind())),
            }
        }
        assert!(piece.is_empty(), "bytes were left");
    }
    (incoming, None)
}

/// The same whole, byte by byte, and cut in two at every byte, as far as that is not too much.
fn decoded_in_every_way(bytes: &[u8]) -> Decoded {
    decoded_in_every_way_by(|| Decoder::new(0), bytes)
}

fn decoded_in_every_way_by(decoder: impl Fn() -> Decoder, bytes: &[u8]) -> Decoded {
    let whole = decoded_by(decoder(), [bytes]);
    assert_eq!(decoded_by(decoder(), bytes.chunks(1)), whole, "byte by byte");
    for at in 1..bytes.len().min(400) {
        let (front, back) = bytes.split_at(at);
        assert_eq!(decoded_by(decoder(), [front, back]), whole, "cut at {at}");
    }
    whole
}

/// A message compressed by another implementation than the crate's.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 100);
    Compress::new(Compression::default(), false).compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0x00, 0x00, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(length as u8),
        length => {
            bytes.push(126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

pub fn string(payload: &[u8]) -> Incoming {
    Incoming::Message(Message::String(String::from_utf8(payload.to_vec()).expect("the vectors are right")))
}

#[test]
fn utf8() {
    // Each with the number of its cases, and of those that are UTF-8.
    let lists = [("cases_autobahn", 132, 63), ("cases_utf8tests", 222, 77), ("cases_kuhn", 77, 77)];
    for (list, count, valid) in lists {
        let Some(cases) = cases("utf8.json", list, count) else { return };
        assert_eq!(cases.iter().filter(|case| case["valid"] == true).count(), valid, "{list}");
        run_all(&cases, &[], |case| {
            let payload = hex(text(case, "hex"));
            let expected = match case["valid"].as_bool().unwrap() {
                true => (vec![string(&payload)], None),
                false => (vec![], Some(ViolationKind::Text)),
            };
            equal("one frame", decoded_in_every_way(&frame(0x81, &payload)), expected.clone())?;
            for at in 0..=payload.len() {
                let (front, back) = payload.split_at(at);
                let bytes = [frame(0x01, front), frame(0x80, back)].concat();
                equal(&format!("two frames, {at}"), decoded([&*bytes]), expected.clone())?;
                equal(&format!("two frames, {at}, byte by byte"), decoded(bytes.chunks(1)), expected.clone())?;
            }
            let bytes = frame(0xc1, &compressed(&payload));
            equal("compressed", decoded_in_every_way_by(|| deflating(0, false), &bytes), expected.clone())?;
            let data = (vec![Incoming::Message(Message::Data(payload.clone()))], None);
            equal("data", decoded_in_every_way(&frame(0x82, &payload)), data)?;
            if payload.len() > 123 {
                return Ok(());
            }
            let close = decoded_in_every_way(&frame(0x88, &[&[3, 232], &*payload].concat()));
            match (&*close.0, close.1, expected.1) {
                ([Incoming::Close { code: Some(code), reason }], None, None) if code.raw_value() == 1000 => {
                    equal("the reason of a Close", reason, &payload)
                }
                ([], Some(ViolationKind::Text), Some(_)) => Ok(()),
                _ => Err(format!("as the reason of a Close: {close:?}")),
            }
        });
    }
}

#[test]
fn utf8_in_fragments() {
    let Some(cases) = cases("utf8.json", "cases_fragments", 13) else { return };
    run_all(&cases, &[], |case| {
        // Pieces as the source sends them, one after the other.
        let mut pieces = Vec::new();
        for sent in case["frames"].as_array().unwrap() {
            let first = sent["opcode"].as_u64().unwrap() as u8 | if sent["fin"] == true { 0x80 } else { 0 };
            let chops = match sent["payload_chops_hex"].as_array() {
                Some(chops) => chops.iter().map(|chop| hex(chop.as_str().unwrap())).collect(),
                None => vec![hex(text(sent, "payload_hex"))],
            };
            let mut bytes = frame(first, &chops.concat());
            for chop in chops[1..].iter().rev() {
                pieces.insert(pieces.len(), bytes.split_off(bytes.len() - chop.len()));
            }
            let behind = pieces.len() + 1 - chops.len();
            pieces.push(bytes);
            pieces[behind..].reverse();
        }
        let all = decoded_in_every_way(&pieces.concat());
        if let Some(message) = case["expected"]["message_hex"].as_str() {
            return equal("the message", all, (vec![string(&hex(message))], None));
        }
        equal("the violation", all, (vec![], Some(ViolationKind::Text)))?;
        if !case["fail_fast"].is_null() {
            // Refused with the second piece, not at the end.
            equal("the first piece", decoded([&*pieces[0]]), (vec![], None))?;
            let two = decoded(pieces[..2].iter().map(Vec::as_slice));
            equal("the second piece", two, (vec![], Some(ViolationKind::Text)))?;
        }
        Ok(())
    });
}

#[test]
fn frames() {
    let Some(cases) = cases("ws_frames_curl.json", "cases", 24) else { return };
    run_all(&cases, &[], |case| {
        let mut bytes = Vec::new();
        for segment in case["server_bytes_after_handshake"].as_array().unwrap() {
            match segment.as_str() {
                Some(digits) => bytes.extend(hex(digits)),
                None => {
                    let count = segment[0].as_u64().unwrap() as usize;
                    bytes.extend(segment[1].as_str().unwrap().repeat(count).bytes());
                }
            }
        }
        let (incoming, violation) = decoded_in_every_way(&bytes);
        let expected = (text(case, "expected") == "fail").then_some(ViolationKind::Framing);
        equal("the violation", violation, expected)?;

        // The source tells of frames, the decoder of messages; pings that its tool answered by itself it does not tell.
        let mut delivered = Vec::new();
        let mut begun: Vec<u8> = Vec::new();
        for frame in case["frames_delivered"].as_array().unwrap() {
            let payload = match &frame["payload_repeat"] {
                Value::Null => hex(text(frame, "payload_hex")),
                repeat => repeat[0].as_str().unwrap().repeat(repeat[1].as_u64().unwrap() as usize).into_bytes(),
            };
            delivered.push(match text(frame, "type") {
                "ping" => Incoming::Ping(payload),
                "pong" => Incoming::Pong(payload),
                "close" => match payload.split_first_chunk() {
                    None => Incoming::Close { code: None, reason: payload },
                    Some((code, reason)) => Incoming::Close {
                        code: Some(urlsession::CloseCode::new(u16::from_be_bytes(*code))),
                        reason: reason.to_vec(),
                    },
                },
                kind => {
                    begun.extend(payload);
                    if frame["fin"] == false {
                        continue;
                    }
                    let payload = std::mem::take(&mut begun);
                    if kind == "txt" { string(&payload) } else { Incoming::Message(Message::Data(payload)) }
                }
            });
        }
        let tells_pings = delivered.iter().any(|one| matches!(one, Incoming::Ping(_)));
        let told = incoming.into_iter().filter(|one| tells_pings || !matches!(one, Incoming::Ping(_))).collect();
        equal("what is delivered", told, delivered)
    });
}

#[test]
fn compressed_messages() {
    let Some(cases) = cases("permessage_deflate.json", "cases_payload", 19) else { return };
    run_all(&cases, &[], |case| {
        let bytes = hex(text(case, "server_frames_hex"));
        let no_context_takeover =
            case["negotiated"].as_str().is_some_and(|it| it.contains("server_no_context_takeover"));
        let (incoming, violation) = decoded_in_every_way_by(|| deflating(0, no_context_takeover), &bytes);
        let is_binary = case["opcode"] == "binary";
        let expected = case["expected_messages"].as_array().unwrap().iter().map(|message| {
            let message = message.as_str().unwrap();
            Incoming::Message(if is_binary { Message::from(message.as_bytes()) } else { Message::from(message) })
        });
        equal("the messages", incoming, expected.collect())?;
        let fails = case["expected_failure"].as_str();
        equal("whether it fails", violation.is_some(), fails.is_some())?;
        let expected = fails.map(|failure| match failure.contains("RSV1") {
            true => ViolationKind::Framing,
            false => ViolationKind::Compression,
        });
        equal("how it fails", violation, expected)?;
        if text(case, "id") == "pyws/max-size" {
            let limited = decoded_in_every_way_by(|| deflating(10, false), &bytes);
            equal("with a limit", limited, (vec![], Some(ViolationKind::TooLong)))?;
        }
        Ok(())
    });
}
