//! A crowd of processes that sleep as deeply as they can, and have all of their state when they are woken.

use std::error::Error;

use atoll_guest::{Pid, call, hibernate, receive, spawn_link};

use crate::work::{Chance, LONG, work};

const SLEEPERS: u64 = 48;
const WORDS: usize = 200;

/// Wakes one sleeper after the other.
pub fn wake(seed: u64) {
    let mut sleepers: Vec<(Pid, u64)> = (0..SLEEPERS)
        .map(|number| spawn_link(sleep, seed + number).expect("there is room for the crowd"))
        .map(|pid| (pid, 0))
        .collect();
    let mut chance = Chance::new(seed);
    work(|_| {
        let (sleeper, woken) = &mut sleepers[chance.below(SLEEPERS) as usize];
        *woken += 1;
        let count: u64 = call(*sleeper, &(), LONG).expect("a sleeper answers");
        assert_eq!(count, *woken, "a sleeper has forgotten how often it woke");
    });
}

fn sleep(seed: u64) -> Result<(), Box<dyn Error>> {
    let mut words = vec![0_u64; WORDS];
    let mut woken = 0_u64;
    loop {
        let mut chance = Chance::new(seed + woken);
        words.fill_with(|| chance.next());
        hibernate();
        let call = receive::<()>()?;
        let mut chance = Chance::new(seed + woken);
        if words.iter().any(|word| *word != chance.next()) {
            return Err("the memory has changed in its sleep".into());
        }
        woken += 1;
        call.reply(&woken);
    }
}
