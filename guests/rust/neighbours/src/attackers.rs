//! The attackers. Each is the root of a tree.

use atoll_guest::{
    ExitReason, Overflow, Pid, Selector, Spawn, SpawnError, exit, receive_event, self_pid, send,
    spawn, start_timer, yield_now,
};
use std::hint::black_box;
use std::time::Duration;

/// Spawns an attacker by these options.
type Attack = fn(Spawn) -> Result<Pid, SpawnError>;

pub const ATTACKERS: &[(&str, Attack)] = &[
    ("computes for ever", |tree| tree.function(compute, ())),
    ("a crowd that computes", |tree| tree.function(crowd, ())),
    ("spawns for ever", |tree| tree.function(multiply, ())),
    ("fails for ever", |tree| tree.function(crash, ())),
    ("floods itself", |tree| {
        tree.on_full_mailbox(Overflow::DropOldest)
            .function(flood, ())
    }),
    ("hoards memory", |tree| tree.function(hoard, ())),
    ("starts timers", |tree| tree.function(wind_up, ())),
];

fn compute((): ()) {
    let mut number = 1_u64;
    loop {
        number = black_box(number.wrapping_mul(6_364_136_223_846_793_005));
    }
}

fn crowd((): ()) {
    while spawn(compute, ()).is_ok() {}
    compute(());
}

fn nothing((): ()) {}

fn multiply((): ()) {
    loop {
        if spawn(nothing, ()).is_err() {
            yield_now();
        }
    }
}

fn crash((): ()) {
    loop {
        if spawn(fail, ()).is_err() {
            yield_now();
        }
    }
}

/// The host would report each trap, so this ends with a reason of its own.
fn fail((): ()) {
    exit(ExitReason::from("failed"));
}

fn flood((): ()) {
    let text = [7_u8; 256];
    loop {
        // The mailbox takes a thousand messages; the rest is dropped.
        send(self_pid(), &text.as_slice());
    }
}

fn hoard((): ()) {
    let mut hoarded: Vec<Vec<u8>> = Vec::new();
    for _ in 0..16 {
        hoarded.push(vec![1; 1 << 20]);
    }
    loop {
        for part in &mut hoarded {
            for byte in part.iter_mut().step_by(4096) {
                *byte = byte.wrapping_add(1);
            }
        }
        black_box(&mut hoarded);
    }
}

fn wind_up((): ()) {
    let mut started = 0_u32;
    loop {
        start_timer(Duration::from_micros(100), self_pid(), started);
        started += 1;
        if started.is_multiple_of(500) {
            while receive_event(&Selector::Any, Some(Duration::from_millis(1))).is_some() {}
        }
    }
}
