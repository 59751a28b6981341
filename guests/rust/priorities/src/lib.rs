//! priorities: a process that overtakes busy ones, and one that lets them pass. Argument: busy processes (16).
//!
//! It shows that of two processes with the same work the urgent one is done first, and that nobody starves. All of them
//! want the same scheduler: `--schedulers 1`.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use atoll_guest::{
    Pid, Priority, Selector, Spawn, arg_or, println, receive_selected, self_pid, send_tagged,
    set_priority, spawn,
};

/// Rounds of the loop that a racer runs: some milliseconds of work, and a thousand turns.
const ROUNDS: u32 = 4_000_000;
/// Rounds for the process that gets one turn of 64: a few turns.
const FEW_ROUNDS: u32 = 20_000;
/// Nobody waits for so long.
const LONG: Duration = Duration::from_secs(60);

/// The tags by which the racers report, and the process behind them all.
const NORMAL: u32 = 1;
const HIGH: u32 = 2;
const LOW: u32 = 3;

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let busy: u32 = arg_or(0, 16)?;
    // Urgent itself, so that it is not held up by what it starts.
    println!("at first: {}", set_priority(Priority::High));
    for _ in 0..busy {
        spawn(spin, ())?;
    }

    // The normal one starts first.
    for (priority, tag) in [(Priority::Normal, NORMAL), (Priority::High, HIGH)] {
        let racer = Spawn::new().priority(priority);
        racer.function(run, (self_pid(), tag, ROUNDS))?;
    }
    let first = receive_selected::<()>(&Selector::Tags(vec![NORMAL, HIGH]), Some(LONG))?;
    let tag = first.map(|first| first.tag);
    println!("the high one is done first: {}", tag == Some(HIGH));

    // Now a high one never stops: what is left for others is one turn of eight, and of those one of eight for low ones.
    Spawn::new().priority(Priority::High).function(spin, ())?;
    let low = Spawn::new().priority(Priority::Low);
    low.function(run, (self_pid(), LOW, FEW_ROUNDS))?;
    let done = receive_selected::<()>(&Selector::Tag(LOW), Some(LONG))?;
    println!("the low one gets its turns: {}", done.is_some());
    // Whoever is not done ends now: this process is the system's first.
    Ok(())
}

/// Never waits.
fn spin(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}

/// Works, and says so.
fn run((main, tag, rounds): (Pid, u32, u32)) {
    for round in 0..rounds {
        black_box(round);
    }
    send_tagged(main, tag, &());
}
