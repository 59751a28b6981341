//! priorities: a process that overtakes busy processes, and one that lets them pass. Argument: busy processes (16).
//!
//! It shows that of two processes with the same work the one with the higher priority finishes first, and that no process
//! starves. All of them run on one scheduler: `--schedulers 1`.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use atoll_guest::{
    Pid, Priority, Selector, Spawn, arg_or, println, receive_selected, self_pid, send_tagged,
    set_priority, spawn,
};

/// Iterations of a racer's loop: some milliseconds of work, and a thousand turns.
const ROUNDS: u32 = 4_000_000;
/// Iterations for the process that gets one turn of 64: a few turns.
const FEW_ROUNDS: u32 = 20_000;
/// A time that no wait here reaches.
const LONG: Duration = Duration::from_secs(60);

/// The tags of the racers' reports, and the process behind all racers.
const NORMAL: u32 = 1;
const HIGH: u32 = 2;
const LOW: u32 = 3;

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let busy: u32 = arg_or(0, 16)?;
    // This process has a high priority, so that the processes that it starts do not delay it.
    println!("at first: {}", set_priority(Priority::High));
    for _ in 0..busy {
        spawn(spin, ())?;
    }

    // The process with normal priority starts first.
    for (priority, tag) in [(Priority::Normal, NORMAL), (Priority::High, HIGH)] {
        let racer = Spawn::new().priority(priority);
        racer.function(run, (self_pid(), tag, ROUNDS))?;
    }
    let first = receive_selected::<()>(&Selector::Tags(vec![NORMAL, HIGH]), Some(LONG))?;
    let tag = first.map(|first| first.tag);
    println!("the high one is done first: {}", tag == Some(HIGH));

    // From now on a process with high priority runs without end. The others get one turn of eight, and low ones get one of
    // eight of those.
    Spawn::new().priority(Priority::High).function(spin, ())?;
    let low = Spawn::new().priority(Priority::Low);
    low.function(run, (self_pid(), LOW, FEW_ROUNDS))?;
    let done = receive_selected::<()>(&Selector::Tag(LOW), Some(LONG))?;
    println!("the low one gets its turns: {}", done.is_some());
    // Processes that have not finished end now, because this process is the system's first.
    Ok(())
}

/// Never waits.
fn spin(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}

/// Works, and reports it.
fn run((main, tag, rounds): (Pid, u32, u32)) {
    for round in 0..rounds {
        black_box(round);
    }
    send_tagged(main, tag, &());
}
