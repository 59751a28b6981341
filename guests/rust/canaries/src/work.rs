//! The parts that all canaries have in common: they work step by step until they are asked to end, and then tell what they have done.

use std::time::Duration;

use atoll_guest::{Event, ExitReason, Selector, exit, receive_event};

/// The tag of the request to end.
pub const END: u32 = 0x7101;
/// Longer than anything here may take on any machine: what takes longer never comes.
pub const LONG: Duration = Duration::from_secs(60);

/// Does a step after the other until someone asks the process to end, and then ends with the number of steps.
pub fn work(mut step: impl FnMut(u64)) {
    let mut done = 0_u64;
    while !wants_end() {
        step(done);
        done += 1;
    }
    exit(ExitReason::Other(done.to_le_bytes().to_vec()));
}

/// The number of steps that a canary has ended with.
pub fn done(reason: &ExitReason) -> Option<u64> {
    match reason {
        ExitReason::Other(bytes) => Some(u64::from_le_bytes(bytes.as_slice().try_into().ok()?)),
        _ => None,
    }
}

fn wants_end() -> bool {
    let event = receive_event(&Selector::Tag(END), Some(Duration::ZERO));
    matches!(event, Some(Event::Message(_)))
}

/// Small numbers that look like chance, the same for the same seed.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// A number that depends on every byte.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
