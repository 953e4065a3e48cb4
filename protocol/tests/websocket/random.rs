//! Pseudo-random bytes from a seed (the generator is `SplitMix64`), so that a failure can be run again.

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Text of `len` characters of one to four bytes.
    pub(crate) fn text(&mut self, len: usize) -> String {
        const ALPHABET: [char; 8] = ['a', 'Z', '\0', 'é', 'ß', '漢', '\u{FFFD}', '🦅'];
        (0..len).map(|_| ALPHABET[self.below(ALPHABET.len())]).collect()
    }
}
