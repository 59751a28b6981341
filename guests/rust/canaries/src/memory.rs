//! A process whose memory is full of numbers that it can work out again.

use std::cell::Cell;
use std::time::Duration;

use atoll_guest::{sleep, yield_now};

use crate::work::{Chance, work};

const WORDS: usize = 8192;

thread_local! {
    /// Lies among the program's data, where every process of the program has its own.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// Fills the memory, waits, compares it, and so on.
pub fn keep(seed: u64) {
    assert_eq!(SEED.replace(seed), 0, "another process has used the data");
    let mut words = vec![0_u64; WORDS];
    fill(&mut words, seed);
    let mut waits = Chance::new(seed);
    work(|done| {
        match waits.below(4) {
            0 => yield_now(),
            milliseconds => sleep(Duration::from_millis(milliseconds)),
        }
        assert_eq!(SEED.get(), seed, "the data has changed");
        let mut expected = Chance::new(seed + done);
        for (index, word) in words.iter().enumerate() {
            let expected = expected.next();
            assert!(
                *word == expected,
                "word {index} is {word:#x} instead of {expected:#x}"
            );
        }
        fill(&mut words, seed + done + 1);
    });
}

fn fill(words: &mut [u64], seed: u64) {
    let mut chance = Chance::new(seed);
    words.fill_with(|| chance.next());
}
