//! Pids and references, and the mint that makes them impossible to guess.

use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::Hasher;

/// Ids stay below 2^53, so that a JavaScript number carries them exactly.
pub(crate) const ID_BITS: u32 = 53;

/// Identifies a process, living or dead. A node never uses a pid again. OTP: `pid()`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pid {
    /// The node that the process lives on, and a secret that belongs to the process.
    pub node: u64,
    /// The process on that node.
    pub id: u64,
}

impl Pid {
    /// The pid of no process. Its node is 0, so it also differs from the pid of a free entry in the table.
    pub(crate) const NOBODY: Pid = Pid { node: 0, id: 0 };
}

/// A unique value that tells the answer to one request from every other message. OTP: `reference()`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reference {
    /// The node that made it, and a secret that belongs to the reference.
    pub node: u64,
    /// The reference on that node.
    pub id: u64,
}

const _: () = assert!(size_of::<Pid>() == 16 && size_of::<Reference>() == 16);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{:x}>", self.id)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:x}", self.id)
    }
}

/// Makes ids: of a raw number, which is unique but easy to guess by counting, the pair of `id` and `node`.
///
/// The id is the enciphered raw number, so it tells nothing of how many processes there are. The lower 45 bits of `node`
/// are the id's tag: SipHash-2-4 of it, under a key of 128 bits. SipHash is a pseudorandom function, so an attacker who
/// has seen any number of ids and tags can't tell the tag of another id: one guess in 2^45 is right, if the id itself is
/// that of a process. The upper bits of `node` are the number of the node, which is 0 as long as there is one.
pub(crate) struct Mint {
    cipher: Cipher,
    tag_keys: [u64; 2],
}

/// Bits of a tag.
const TAG_BITS: u32 = 45;

impl Mint {
    /// The keys are random numbers.
    pub(crate) fn new(mut random: impl FnMut() -> u64) -> Mint {
        Mint {
            cipher: Cipher::new(std::array::from_fn(|_| random())),
            tag_keys: std::array::from_fn(|_| random()),
        }
    }

    #[inline]
    pub(crate) fn encipher(&self, raw: u64) -> u64 {
        self.cipher.encipher(raw)
    }

    /// The raw number behind an id. None if `id` has more than 53 bits. Whether the id was ever given out, the caller
    /// finds out.
    #[inline]
    pub(crate) fn decipher(&self, id: u64) -> Option<u64> {
        self.cipher.decipher(id)
    }

    /// The field `node` that belongs to an id.
    pub(crate) fn tag(&self, id: u64) -> u64 {
        let [first, second] = self.tag_keys;
        let mut hasher = SipHasher24::new_with_keys(first, second);
        hasher.write_u64(id);
        hasher.finish() >> (64 - TAG_BITS)
    }
}

/// A keyed permutation of the numbers below 2^53: a Feistel network over halves of 26 and 27 bits. It hides how numbers
/// follow one another. It does not resist cryptanalysis and need not: see [`Mint`]. Every send looks an id up, so
/// deciphering must take nanoseconds.
struct Cipher {
    keys: [u64; ROUNDS],
}

const ROUNDS: usize = 6;
const LEFT_BITS: u32 = 26;
const RIGHT_BITS: u32 = 27;
const _: () = assert!(LEFT_BITS + RIGHT_BITS == ID_BITS && ROUNDS.is_multiple_of(2));

impl Cipher {
    /// A permutation that depends on every bit of `keys`.
    fn new(keys: [u64; ROUNDS]) -> Cipher {
        Cipher { keys }
    }

    #[inline]
    fn encipher(&self, raw: u64) -> u64 {
        debug_assert!(raw >> ID_BITS == 0);
        let (mut left, mut right) = split(raw);
        for pair in self.keys.chunks_exact(2) {
            left ^= round(right, pair[0], LEFT_BITS);
            right ^= round(left, pair[1], RIGHT_BITS);
        }
        left << RIGHT_BITS | right
    }

    /// The raw number behind `id`. None if `id` has more than 53 bits.
    #[inline]
    fn decipher(&self, id: u64) -> Option<u64> {
        if id >> ID_BITS != 0 {
            return None;
        }
        let (mut left, mut right) = split(id);
        for pair in self.keys.chunks_exact(2).rev() {
            right ^= round(left, pair[1], RIGHT_BITS);
            left ^= round(right, pair[0], LEFT_BITS);
        }
        Some(left << RIGHT_BITS | right)
    }
}

#[inline]
fn split(value: u64) -> (u64, u64) {
    (value >> RIGHT_BITS, value & ((1 << RIGHT_BITS) - 1))
}

#[inline]
fn round(half: u64, key: u64, bits: u32) -> u64 {
    // An odd multiplier spreads every input bit upwards, so the top bits of the product are the well-mixed ones.
    (half ^ key).wrapping_mul(key | 1) >> (64 - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [u64; ROUNDS] = [
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0x2545_f491_4f6c_dd1d,
        0xd6e8_feb8_6659_fd93,
        0xa076_1d64_78bd_642f,
    ];

    #[test]
    fn deciphering_undoes_enciphering() {
        let cipher = Cipher::new(KEYS);
        for raw in (0..1000).chain((1 << ID_BITS) - 1000..1 << ID_BITS) {
            let id = cipher.encipher(raw);
            assert!(id >> ID_BITS == 0);
            assert_eq!(cipher.decipher(id), Some(raw));
        }
    }

    #[test]
    fn neighbours_lie_far_apart() {
        let cipher = Cipher::new(KEYS);
        let near = (0..10_000)
            .filter(|raw| cipher.encipher(*raw).abs_diff(cipher.encipher(raw + 1)) < 1 << 32)
            .count();
        // The ids of a random pair are that close with probability 2^-20.
        assert!(
            near <= 2,
            "{near} of 10,000 neighbours have ids within 2^32 of one another"
        );
    }

    #[test]
    fn numbers_from_2_to_the_53_are_no_ids() {
        let cipher = Cipher::new(KEYS);
        assert_eq!(cipher.decipher(1 << ID_BITS), None);
        assert_eq!(cipher.decipher(u64::MAX), None);
    }

    #[test]
    fn tags_depend_on_every_bit_of_the_id_and_of_the_keys() {
        let mint = |keys: u64| {
            let mut next = keys;
            Mint::new(move || {
                next = next.wrapping_mul(KEYS[0]).wrapping_add(KEYS[1]);
                next
            })
        };
        let (one, other) = (mint(1), mint(2));
        let tags: std::collections::HashSet<_> =
            (0..ID_BITS).map(|bit| one.tag(1 << bit)).collect();
        assert_eq!(tags.len(), ID_BITS as usize);
        assert!((0..1000).all(|id| one.tag(id) >> TAG_BITS == 0 && one.tag(id) != other.tag(id)));
    }

    #[test]
    fn a_tag_is_siphash() {
        // From the reference implementation's table: the key 00 01 … 0f and the input 00 01 … 07.
        let mint = Mint {
            cipher: Cipher::new(KEYS),
            tag_keys: [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908],
        };
        assert_eq!(
            mint.tag(0x0706_0504_0302_0100),
            0x93f5_f579_9a93_2462 >> (64 - TAG_BITS)
        );
    }
}
