//! Unpredictable bytes, drawn in bulk.
//!
//! RFC 6455 §5.3 and §10.3: a mask key must not be predictable from the ones before it. This storey has no generator of
//! its own: the bytes come in through `refill`, from a strong one.

use std::fmt;

/// How many bytes are drawn at a time: 1,024 mask keys.
const POOL: usize = 4096;

type Refill = Box<dyn FnMut(&mut [u8]) + Send>;

/// A pool of unpredictable bytes; each is given out once.
pub struct Random {
    pool: Vec<u8>,
    used: usize,
    refill: Refill,
}

impl Random {
    /// `refill` overwrites the whole slice with unpredictable bytes. It is first called when bytes are first asked for.
    pub fn new(refill: impl FnMut(&mut [u8]) + Send + 'static) -> Self {
        Self { pool: Vec::new(), used: 0, refill: Box::new(refill) }
    }

    /// `N` fresh bytes; `N` is at most 64.
    #[inline]
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 64) };
        let end = self.used + N;
        if let Some(Ok(bytes)) = self.pool.get(self.used..end).map(<[u8; N]>::try_from) {
            self.used = end;
            return bytes;
        }
        self.refilled()
    }

    /// A key for one frame: RFC 6455 §5.3.
    #[inline]
    pub fn mask_key(&mut self) -> [u8; 4] {
        self.bytes()
    }

    #[cold]
    fn refilled<const N: usize>(&mut self) -> [u8; N] {
        self.pool.resize(POOL, 0);
        (self.refill)(&mut self.pool);
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.pool[..N]);
        self.used = N;
        bytes
    }
}

impl fmt::Debug for Random {
    /// Shows nothing of the bytes to come.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Random").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_given_out_twice() {
        let mut next = 0u32;
        let mut random = Random::new(move |bytes| {
            for word in bytes.chunks_exact_mut(4) {
                next += 1;
                word.copy_from_slice(&next.to_be_bytes());
            }
        });
        let keys: Vec<u32> = (0..5000).map(|_| u32::from_be_bytes(random.mask_key())).collect();
        assert_eq!(keys, (1..=5000).collect::<Vec<u32>>());
    }

    #[test]
    fn a_request_that_does_not_fit_in_the_rest_draws_anew() {
        let mut draws = 0;
        let mut random = Random::new(move |bytes| {
            draws += 1;
            bytes.fill(draws);
        });
        for _ in 0..POOL / 64 - 1 {
            assert_eq!(random.bytes::<64>(), [1; 64]);
        }
        assert_eq!(random.bytes::<4>(), [1; 4]);
        assert_eq!(random.bytes::<64>(), [2; 64]);
    }
}
