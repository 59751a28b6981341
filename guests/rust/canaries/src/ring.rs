//! A ring of processes through which a message goes: each of them sees that it comes once a lap, unchanged.

use std::error::Error;

use atoll_guest::{Pid, Selector, receive_selected, self_pid, send_tagged, spawn_link};

use crate::work::{Chance, LONG, digest, work};

const PROCESSES: u32 = 16;
const TOKEN: u32 = 0x7201;

/// The lap, the bytes, and their digest.
type Token = (u64, Vec<u8>, u64);

/// Sends a token of another length round the ring, again and again.
pub fn turn(seed: u64) {
    let first: Pid = (1..PROCESSES).fold(self_pid(), |next, _| {
        spawn_link(pass_on, next).expect("there is room for the ring")
    });
    let mut chance = Chance::new(seed);
    work(|lap| {
        let length = match chance.below(8) {
            0 => chance.below(8_000),
            _ => chance.below(100),
        };
        let bytes = chance.bytes(length as usize);
        let sum = digest(&bytes);
        let token: Token = (lap, bytes, sum);
        send_tagged(first, TOKEN, &token);
        let back = receive(lap).expect("the token comes back");
        assert_eq!(back, token, "the token has changed");
    });
}

/// Passes the token on to the next process.
fn pass_on(next: Pid) -> Result<(), Box<dyn Error>> {
    let mut lap = 0;
    loop {
        let received = receive_selected::<Token>(&Selector::Tag(TOKEN), None)?;
        let token = received.ok_or("without a timeout it waits")?.message;
        check(&token, lap)?;
        send_tagged(next, TOKEN, &token);
        lap += 1;
    }
}

fn receive(lap: u64) -> Result<Token, Box<dyn Error>> {
    let received = receive_selected::<Token>(&Selector::Tag(TOKEN), Some(LONG))?;
    let token = received.ok_or("the token is lost")?.message;
    check(&token, lap)?;
    Ok(token)
}

fn check((lap, bytes, sum): &Token, expected: u64) -> Result<(), Box<dyn Error>> {
    if *lap != expected {
        return Err(format!("lap {lap} came when lap {expected} was due").into());
    }
    if digest(bytes) != *sum {
        return Err(format!("the token of lap {lap} has changed").into());
    }
    Ok(())
}
