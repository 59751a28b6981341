//! Deltas of words: the encoding of a packed process.
//!
//! This file knows sequences of words and their expected values, never what they mean. It encodes a sequence as a list
//! of runs of words that differ from the expected ones: the number of words before the run, the run's length, and the
//! delta of each word. Many deltas repeat an earlier one, because a number that counts processes, or a pointer, lies in
//! several places. All numbers are little-endian base 128.

/// Appends a number.
pub(super) fn put(code: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        code.push(number as u8 | 0x80);
        number >>= 7;
    }
    code.push(number as u8);
}

/// The most recent deltas. A delta that is among them is written as its index here.
#[derive(Default)]
pub(super) struct Recent {
    deltas: [u64; RECENT],
    next: usize,
}

const RECENT: usize = 7;
/// Written before a delta that would overflow if [`FIRST_NEW`] were added to it.
const ESCAPE: u64 = RECENT as u64;
/// Added to deltas that are not among the most recent ones.
const FIRST_NEW: u64 = ESCAPE + 1;

impl Recent {
    fn put(&mut self, code: &mut Vec<u8>, delta: u64) {
        let found = self.deltas.iter().position(|last| *last == delta);
        if let Some(index) = found {
            return put(code, index as u64);
        }
        let number = zigzag(delta);
        match number.checked_add(FIRST_NEW) {
            Some(number) => put(code, number),
            None => {
                put(code, ESCAPE);
                put(code, number);
            }
        }
        self.add(delta);
    }

    fn add(&mut self, delta: u64) {
        self.deltas[self.next] = delta;
        self.next = (self.next + 1) % RECENT;
    }
}

/// Reads what [`put`] and [`put_deltas`] have written, in the same order.
pub(super) struct Reader<'a> {
    code: &'a [u8],
    recent: Recent,
}

impl Reader<'_> {
    pub(super) fn new(code: &[u8]) -> Reader<'_> {
        Reader {
            code,
            recent: Recent::default(),
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        let mut number = 0;
        let mut shift = 0;
        loop {
            let (byte, rest) = self.code.split_first().expect("what was written is read");
            self.code = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return number;
            }
            shift += 7;
        }
    }

    /// Turns the expected words into the written ones.
    pub(super) fn apply_deltas(&mut self, words: &mut [u64]) {
        let mut at = 0;
        loop {
            let skipped = self.number();
            if skipped == 0 {
                return;
            }
            at += skipped as usize - 1;
            for _ in 0..self.number() {
                words[at] = words[at].wrapping_add(self.delta());
                at += 1;
            }
        }
    }

    fn delta(&mut self) -> u64 {
        let number = match self.number() {
            index @ ..ESCAPE => return self.recent.deltas[index as usize],
            ESCAPE => self.number(),
            number => number - FIRST_NEW,
        };
        let delta = unzigzag(number);
        self.recent.add(delta);
        delta
    }
}

/// Appends words as deltas to the expected ones. Both slices have the same length.
pub(super) fn put_deltas(code: &mut Vec<u8>, recent: &mut Recent, words: &[u64], expected: &[u64]) {
    let mut written_to = 0;
    let mut at = first_other(words, expected, 0);
    while at < words.len() {
        let start = at;
        let pairs = || words[start..].iter().zip(&expected[start..]);
        at += pairs().take_while(|(word, other)| word != other).count();
        put(code, (start - written_to) as u64 + 1);
        put(code, (at - start) as u64);
        for (word, other) in pairs().take(at - start) {
            recent.put(code, word.wrapping_sub(*other));
        }
        written_to = at;
        at = first_other(words, expected, at);
    }
    put(code, 0);
}

/// The index of the first word from `from` on that differs from the expected one; the length if there is none. Nearly
/// all words are equal.
fn first_other(words: &[u64], expected: &[u64], from: usize) -> usize {
    const AT_ONCE: usize = 8;
    let pairs = words[from..].as_chunks::<AT_ONCE>().0.iter();
    let same = pairs.zip(expected[from..].as_chunks::<AT_ONCE>().0);
    // A comparison of arrays would compile to a call for each few words.
    let differences = same.map(|(left, right)| {
        let pairs = left.iter().zip(right);
        pairs.fold(0, |all, (left, right)| all | (left ^ right))
    });
    let same = differences.take_while(|all| *all == 0).count();
    let from = from + same * AT_ONCE;
    let rest = words[from..].iter().zip(&expected[from..]);
    from + rest.take_while(|(word, other)| word == other).count()
}

/// Maps small deltas of either sign to small numbers.
fn zigzag(delta: u64) -> u64 {
    delta << 1 ^ ((delta as i64) >> 63) as u64
}

fn unzigzag(number: u64) -> u64 {
    number >> 1 ^ (number & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbtest;

    /// Random words round trip. Corrupted code is no subject: the host reads only what it has written itself, so the reader may
    /// panic. It can't leave its slices, because this file has no unsafe code.
    #[test]
    fn random_words_are_read_as_written() {
        // A delta's escape and its number, and two numbers before each run.
        const CODE_BYTES_PER_WORD: usize = 11 + 2 * 10;
        arbtest(|random| {
            let mut code = Vec::new();
            let mut recent = Recent::default();
            let mut parts = Vec::new();
            for _ in 0..random.int_in_range(1..=4)? {
                let number: u64 = random.arbitrary()?;
                let expected: Vec<u64> = match random.arbitrary()? {
                    true => vec![0; random.int_in_range(0..=3000)?],
                    false => random.arbitrary()?,
                };
                let mut words = expected.clone();
                for _ in 0..random.int_in_range(0..=40)? {
                    let Some(last) = words.len().checked_sub(1) else {
                        break;
                    };
                    let start = random.int_in_range(0..=last)?;
                    let end = (start + random.int_in_range(0..=20)?).min(last);
                    let other: u64 = random.arbitrary()?;
                    let delta = *random.choose(&[0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, other])?;
                    words[start..=end]
                        .iter_mut()
                        .for_each(|word| *word = word.wrapping_add(delta));
                }
                let before = code.len();
                put(&mut code, number);
                put_deltas(&mut code, &mut recent, &words, &expected);
                assert!(code.len() - before <= CODE_BYTES_PER_WORD * words.len() + 11);
                parts.push((number, expected, words));
            }
            let mut reader = Reader::new(&code);
            for (number, mut corrected, words) in parts {
                assert_eq!(reader.number(), number);
                reader.apply_deltas(&mut corrected);
                assert_eq!(corrected, words);
            }
            assert!(reader.code.is_empty());
            Ok(())
        });
    }

    #[test]
    fn words_are_read_as_written() {
        let expected: Vec<u64> = (0..1000u64)
            .map(|at| at.wrapping_mul(0x9e37_79b9))
            .collect();
        for step in [1, 2, 7, 400, 5000] {
            let mut words = expected.clone();
            for at in (0..words.len()).step_by(step) {
                words[at] = words[at]
                    .wrapping_sub(at as u64)
                    .wrapping_mul(0xdead_beef_cafe);
            }
            words[999] = u64::MAX;
            // Deltas that are hard to encode, and each of them twice.
            words[500..504].copy_from_slice(&[1 << 63, 1 << 63, (1 << 63) - 1, (1 << 63) + 1]);
            let mut code = Vec::new();
            let mut recent = Recent::default();
            put_deltas(&mut code, &mut recent, &words, &expected);
            put_deltas(&mut code, &mut recent, &words, &[0; 1000]);
            let mut reader = Reader::new(&code);
            let mut corrected = expected.clone();
            reader.apply_deltas(&mut corrected);
            assert_eq!(corrected, words);
            let mut corrected = vec![0; 1000];
            reader.apply_deltas(&mut corrected);
            assert_eq!(corrected, words);
            assert!(reader.code.is_empty());
        }
    }

    #[test]
    fn expected_words_take_one_byte() {
        let mut code = Vec::new();
        put_deltas(&mut code, &mut Recent::default(), &[7; 4096], &[7; 4096]);
        assert_eq!(code, [0]);
    }

    #[test]
    fn a_repeated_delta_takes_one_byte() {
        let mut code = Vec::new();
        let words = [1 << 40; 5];
        put_deltas(&mut code, &mut Recent::default(), &words, &[0; 5]);
        let (skipped, count, first, others, end) = (1, 1, 6, 4, 1);
        assert_eq!(code.len(), skipped + count + first + others + end);
    }
}
