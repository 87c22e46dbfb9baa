//! The masking of client frames: RFC 6455 §5.3.
#![forbid(unsafe_code)]

/// Masks `bytes` in place; `offset` is the position of the first of them within the payload. Masking twice unmasks.
///
/// Blocks of 64 bytes, which the compiler makes vectors of; then words; then bytes.
pub fn mask(bytes: &mut [u8], mut key: [u8; 4], offset: usize) {
    if !offset.is_multiple_of(4) {
        key.rotate_left(offset % 4);
    }
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (blocks, rest) = bytes.as_chunks_mut::<64>();
    for block in blocks {
        // Eight words without a condition between them.
        let (words, _) = block.as_chunks_mut();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
    }
    let (words, tail) = rest.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// Appends the masked `payload` of one frame.
///
/// What is appended is masked on its way, in pieces of a length that the compiler knows.
#[inline]
pub fn extend_masked(out: &mut Vec<u8>, payload: &[u8], key: [u8; 4]) {
    let (blocks, rest) = payload.as_chunks::<64>();
    for block in blocks {
        out.extend_from_slice(&masked(*block, key));
    }
    let (pieces, rest) = rest.as_chunks::<16>();
    for piece in pieces {
        out.extend_from_slice(&masked(*piece, key));
    }
    if rest.is_empty() {
        return;
    }
    if let Some(last) = payload.last_chunk::<16>() {
        extend_over(out, *last, rest.len(), key);
    } else if let Some((first, last)) = rest.first_chunk::<8>().zip(rest.last_chunk::<8>()) {
        out.extend_from_slice(&masked(*first, key));
        extend_over(out, *last, rest.len() - 8, key);
    } else if let Some((first, last)) = rest.first_chunk::<4>().zip(rest.last_chunk::<4>()) {
        out.extend_from_slice(&masked(*first, key));
        extend_over(out, *last, rest.len() - 4, key);
    } else {
        for (byte, key) in rest.iter().zip(key) {
            out.push(byte ^ key);
        }
    }
}

/// `N` bytes of a payload, from a position that is a multiple of 4.
#[inline]
fn masked<const N: usize>(mut bytes: [u8; N], key: [u8; 4]) -> [u8; N] {
    let (words, _) = bytes.as_chunks_mut();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    bytes
}

/// Appends the last `N` bytes of a payload, of which all but `missing` are there: a piece that overlaps is cheaper than a
/// shorter one. What is there ends at a multiple of 4.
#[inline]
fn extend_over<const N: usize>(out: &mut Vec<u8>, last: [u8; N], missing: usize, mut key: [u8; 4]) {
    out.truncate((out.len() + missing).saturating_sub(N));
    key.rotate_left(missing % 4);
    out.extend_from_slice(&masked(last, key));
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn naive(payload: &[u8], offset: usize) -> Vec<u8> {
        payload.iter().enumerate().map(|(index, byte)| byte ^ KEY[(offset + index) % 4]).collect()
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 7 + index / 256) as u8).collect()
    }

    #[test]
    fn every_length_offset_and_alignment() {
        for length in 0..=300 {
            let payload = payload(length);
            for offset in (0..4).chain([1 << 20, usize::MAX]) {
                let expected = naive(&payload, offset % 4);
                for alignment in 0..8 {
                    let mut bytes = vec![0xaa; alignment];
                    bytes.extend_from_slice(&payload);
                    bytes.extend_from_slice(&[0xaa; 8]);
                    mask(&mut bytes[alignment..alignment + length], KEY, offset);
                    assert_eq!(bytes[alignment..alignment + length], expected, "length {length} offset {offset}");
                    assert!(bytes[..alignment].iter().chain(&bytes[alignment + length..]).all(|byte| *byte == 0xaa));
                }
            }
        }
    }

    #[test]
    fn an_append_masks_what_it_appends_and_nothing_else() {
        for length in (0..=300).chain([4095, 4096, 4097, 8191, 8193, 20_000]) {
            for before in 0..5 {
                let mut out = payload(before);
                extend_masked(&mut out, &payload(length), KEY);
                assert_eq!(out[..before], payload(before));
                assert_eq!(out[before..], naive(&payload(length), 0), "length {length}");
            }
        }
    }
}
