//! Philox 4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).
//! A number depends on (seed, stream, index) and nothing else, so any thread may draw any part of a sequence, and a resumed
//! run goes on with the bits of an unbroken one.

/// A sequence of random blocks: one of 2^64 streams of one of 2^64 seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: [u32; 2],
}

/// Blocks that [`Philox::batch`] makes at once.
pub const LANES: usize = 16;

impl Philox {
    pub fn new(seed: u64, stream: u64) -> Philox {
        Philox { key: halves(seed), stream: halves(stream) }
    }

    /// The stream that belongs to a name, such as a weight's key.
    pub fn named(seed: u64, name: &str) -> Philox {
        Philox::new(seed, name_hash(name))
    }

    /// The numbers that a stream has at a step, which lie far from those of any other step.
    pub fn at_step(seed: u64, stream: u64, step: u64) -> Philox {
        Philox::new(seed, stream ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The four words at `index`.
    pub fn block(&self, index: u64) -> [u32; 4] {
        let [low, high] = halves(index);
        philox4x32([low, high, self.stream[0], self.stream[1]], self.key)
    }

    /// The blocks `first .. first + LANES`, word by word: `[word][block]`. The loops are written so that the compiler makes
    /// vector code of them; 16 blocks take about the time of 4.
    pub fn batch(&self, first: u64) -> [[u32; LANES]; 4] {
        let index = |lane: usize| halves(first.wrapping_add(lane as u64));
        let mut words = [
            std::array::from_fn(|lane| index(lane)[0]),
            std::array::from_fn(|lane| index(lane)[1]),
            [self.stream[0]; LANES],
            [self.stream[1]; LANES],
        ];
        let mut key = self.key;
        for _ in 0..ROUNDS {
            let mut next = [[0; LANES]; 4];
            for lane in 0..LANES {
                let (a, b) = (wide(M0, words[0][lane]), wide(M1, words[2][lane]));
                next[0][lane] = (b >> 32) as u32 ^ words[1][lane] ^ key[0];
                next[1][lane] = b as u32;
                next[2][lane] = (a >> 32) as u32 ^ words[3][lane] ^ key[1];
                next[3][lane] = a as u32;
            }
            words = next;
            key = bump(key);
        }
        words
    }
}

/// One block: the function itself, for callers that lay out the counter on their own.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut words, mut key) = (counter, key);
    for _ in 0..ROUNDS {
        let (a, b) = (wide(M0, words[0]), wide(M1, words[2]));
        words = [(b >> 32) as u32 ^ words[1] ^ key[0], b as u32, (a >> 32) as u32 ^ words[3] ^ key[1], a as u32];
        key = bump(key);
    }
    words
}

/// FNV-1a of 64 bits: the same on every machine and in every version of archc.
pub fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Uniform in [0, 1): the upper 24 bits, each value as likely.
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

const ROUNDS: usize = 10;
const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;

fn wide(a: u32, b: u32) -> u64 {
    u64::from(a) * u64::from(b)
}

fn bump(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)]
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_answers_are_met() {
        // kat_vectors of Random123.
        let cases = [
            ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(philox4x32(counter, key), answer);
        }
    }

    #[test]
    fn a_batch_is_its_blocks() {
        let philox = Philox::named(7, "layer1.0.conv1.weight");
        for first in [0, 5, u64::from(u32::MAX) - 3, u64::MAX - 7] {
            let batch = philox.batch(first);
            for (word, lanes) in batch.iter().enumerate() {
                for (lane, &bits) in lanes.iter().enumerate() {
                    assert_eq!(bits, philox.block(first.wrapping_add(lane as u64))[word], "{first} {lane}");
                }
            }
        }
    }

    #[test]
    fn names_and_seeds_give_other_streams() {
        assert_eq!(name_hash(""), 0xcbf29ce484222325);
        assert_eq!(name_hash("foobar"), 0x85944171f73967e8);
        let block = |seed, name| Philox::named(seed, name).block(0);
        assert_ne!(block(0, "a"), block(0, "b"));
        assert_ne!(block(0, "a"), block(1, "a"));
    }

    #[test]
    fn unit_stays_below_one() {
        assert_eq!(unit(0), 0.0);
        assert!(unit(u32::MAX) < 1.0);
        assert_eq!(unit(1 << 31), 0.5);
    }
}
