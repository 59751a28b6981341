//! A pair of processes that exchange messages beside busy loops.

use std::hint::black_box;
use std::time::Duration;

use atoll_guest::{
    Envelope, Pid, Selector, kill, receive, receive_event, self_pid, send, send_bytes, sleep,
    spawn, spawn_link, time,
};

use crate::{Argument, BALL, Outcome, echo, numbers, report, stop};

/// How long the busy loops run before the measurement starts.
const HEAD_START: Duration = Duration::from_millis(100);
/// The samples' vector has its capacity from the start, so that no sample includes a reallocation.
const SAMPLES_EXPECTED: usize = 1 << 20;

pub fn fairness(argument: Argument) -> Outcome {
    let [n, m] = numbers(&argument);
    let busy = (0..n)
        .map(|_| spawn(go_round_for_ever, ()))
        .collect::<Result<Vec<_>, _>>()?;
    sleep(HEAD_START);
    let partner = spawn_link(echo, ())?;
    spawn_link(talk, (self_pid(), partner, m))?;
    let round_trips_ns = receive::<Vec<u64>>()?.message;
    for pid in busy {
        kill(pid);
    }
    stop(partner);
    report(&argument, round_trips_ns.iter().sum(), &round_trips_ns);
    Ok(())
}

/// A busy loop like Erlang's: in registers, without access to memory.
fn go_round_for_ever(_: ()) {
    // The compiler would optimize a plain counter away. It can't tell whether this loop ends; the loop would take centuries.
    let far = black_box(0);
    let mut state = 1_u64;
    while state != far {
        state = state.rotate_left(23).wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
}

/// Measures the time of every round trip for a number of milliseconds.
fn talk((root, partner, milliseconds): (Pid, Pid, u32)) {
    let end_ns = time::now_ns() + u64::from(milliseconds) * 1_000_000;
    let mut samples_ns = Vec::with_capacity(SAMPLES_EXPECTED);
    let mut now_ns = 0;
    while now_ns < end_ns {
        let start_ns = time::now_ns();
        send_bytes(partner, Envelope::tagged(BALL), &[]);
        receive_event(&Selector::Any, None);
        now_ns = time::now_ns();
        samples_ns.push(now_ns - start_ns);
    }
    send(root, &samples_ns);
}
