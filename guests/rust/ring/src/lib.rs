//! ring: spawns processes in a ring and sends a message round it. Arguments: processes (1000), rounds (1000).
//!
//! It shows a process that learns its neighbour when it is spawned, and the cost of one hop between processes.

use std::error::Error;

use atoll_guest::{Pid, arg_or, println, receive, self_pid, send, spawn, time};

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let processes: u64 = arg_or(0, 1000)?;
    let rounds: u64 = arg_or(1, 1000)?;

    // Each process knows the process spawned before it. The first one knows this process, which closes the ring.
    let mut next = self_pid();
    for _ in 0..processes {
        next = spawn(member, next)?;
    }

    let start_ns = time::now_ns();
    for round in 0..rounds {
        send(next, &round);
        receive::<u64>()?;
    }
    let elapsed_ns = time::now_ns() - start_ns;

    let hops = rounds * (processes + 1);
    println!(
        "{processes} processes, {hops} hops, {} ns a hop",
        elapsed_ns / hops.max(1)
    );
    Ok(())
}

/// Passes every message on.
fn member(next: Pid) -> Result<(), Box<dyn Error>> {
    loop {
        send(next, &receive::<u64>()?.message);
    }
}
