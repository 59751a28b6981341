//! links: processes that end together, or learn of the other's end.
//!
//! It shows links, exit signals with several reasons, how a process that traps exits receives them, and the effect of `kill`.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{
    ExitReason, Pid, exit, exit_process, is_alive, kill, link, monitor, println, receive,
    receive_down, receive_exit, self_pid, send, spawn, spawn_link, trap_exit, unlink,
};

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    // From here on, the end of a linked process is an event. Before, it would have ended this process as well.
    trap_exit(true);

    println!("linked processes end:");
    for reason in [
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith(b"for today".to_vec()),
        ExitReason::Kill,
        ExitReason::from("tired"),
    ] {
        let process = spawn_link(end, reason)?;
        println!("  {}", reason_of(process));
    }
    let crashed = matches!(reason_of(spawn_link(crash, ())?), ExitReason::Trap(_));
    println!("  a crash is a trap: {crashed}");
    // This process is linked to a process that tires. It does not trap exits, so it ends with that process.
    println!(
        "  through another one: {}",
        reason_of(spawn_link(parent, ())?)
    );

    println!("exit signals to a process that waits:");
    let process = spawn_link(wait, ())?;
    exit_process(process, ExitReason::Normal);
    println!("  normal: it is alive: {}", is_alive(process));
    exit_process(process, ExitReason::Shutdown);
    println!("  shutdown: {}", reason_of(process));
    let process = spawn_link(wait, ())?;
    kill(process);
    println!("  kill: {}", reason_of(process));

    println!("exit signals to a process that traps exits:");
    let process = spawn_link(trap, self_pid())?;
    receive::<()>()?;
    exit_process(process, ExitReason::Shutdown);
    println!("  shutdown: it received {}", receive::<String>()?.message);
    kill(process);
    println!("  kill: {}", reason_of(process));

    println!("no link:");
    link(process);
    println!("  with one that has ended: {}", reason_of(process));
    let process = spawn(wait, ())?;
    link(process);
    unlink(process);
    let monitor = monitor(process);
    kill(process);
    receive_down(monitor, None);
    let told = receive_exit(Some(Duration::ZERO)).is_some();
    println!("  with one that ended when it was unlinked: told of it: {told}");
    Ok(())
}

/// Waits for the exit signal of a process.
fn reason_of(process: Pid) -> ExitReason {
    loop {
        if let Some(signal) = receive_exit(None)
            && signal.sender == process
        {
            return signal.reason;
        }
    }
}

fn end(reason: ExitReason) {
    exit(reason);
}

fn crash(_: ()) {
    panic!("on purpose");
}

fn parent(_: ()) -> Result<(), Box<dyn Error>> {
    spawn_link(end, ExitReason::from("tired"))?;
    wait(())
}

fn wait(_: ()) -> Result<(), Box<dyn Error>> {
    receive::<()>()?;
    Ok(())
}

/// Reports each exit signal to another process, and goes on.
fn trap(other: Pid) {
    trap_exit(true);
    send(other, &());
    while let Some(signal) = receive_exit(None) {
        send(other, &signal.reason.to_string());
    }
}
