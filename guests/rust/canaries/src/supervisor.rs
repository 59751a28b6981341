//! A supervisor whose children crash in several ways: it is told of each, with the right reason.

use atoll_guest::{
    ExitReason, Pid, exit, is_alive, kill, receive_exit, send, sleep, spawn_link, trap_exit, unlink,
};
use std::time::Duration;

use crate::work::{Chance, LONG, work};

/// Starts a child, has it end in one of the ways, and waits for the signal.
pub fn restart(seed: u64) {
    trap_exit(true);
    let mut chance = Chance::new(seed);
    let mut dead: Vec<Pid> = Vec::new();
    work(|_| {
        let way = chance.below(4) as u32;
        // Attackers may take all processes that a system can have.
        let Ok(child) = spawn_link(fall, way) else {
            return sleep(Duration::from_millis(1));
        };
        if way == 3 {
            kill(child);
        }
        let signal = receive_exit(Some(LONG)).expect("the child's end is told");
        assert!(signal.sender == child, "another process's end is told");
        let is_right = match way {
            0 => signal.reason == ExitReason::Normal,
            1 => signal.reason == ExitReason::Shutdown,
            2 => matches!(signal.reason, ExitReason::Trap(_)),
            _ => signal.reason == ExitReason::Killed,
        };
        assert!(is_right, "way {way} has ended with: {}", signal.reason);
        // Neither of these does anything: the child is gone.
        send(child, &way);
        unlink(child);
        dead.push(child);
        let before = dead[chance.below(dead.len() as u64) as usize];
        assert!(!is_alive(before), "a process has risen from the dead");
        if dead.len() == 64 {
            dead.clear();
        }
    });
}

fn fall(way: u32) {
    match way {
        0 => {}
        1 => exit(ExitReason::Shutdown),
        // The host's report of the crash would be noise, so no words are printed.
        2 => core::arch::wasm32::unreachable(),
        _ => loop {
            sleep(Duration::from_secs(1));
        },
    }
}
