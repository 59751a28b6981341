//! supervisor: keeps three workers alive, and ends them in order. It works like OTP's `supervisor`, one for one.
//!
//! It shows the use of links: the supervisor traps exits, restarts each worker that crashes, and ends all workers when it is
//! asked to end.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{
    ExitReason, Pid, Spawn, call, exit, exit_process, kill, monitor, println, receive,
    receive_down, receive_exit, self_pid, send, spawn_monitor, trap_exit,
};

/// The workers, in the order of their start. The supervisor ends them in reverse order.
const WORKERS: [&str; 3] = ["ada", "joe", "mike"];
/// After this many crashes the supervisor gives up.
const RESTARTS_MAX: usize = 3;
/// How long a worker may take to end after it was asked.
const PATIENCE: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(60);

atoll_guest::entry!(main);

/// The client. It knows the workers' names, and not their pids, which change.
fn main() -> Result<(), Box<dyn Error>> {
    let (supervisor, end) = spawn_monitor(supervise, self_pid())?;
    receive::<()>()?;
    println!("12 / 3 is {}", call::<u32>("joe", &3_u32, LONG)?);
    // This worker crashes. Wait until the supervisor reports the new one.
    if call::<u32>("joe", &0_u32, LONG).is_err() {
        receive::<()>()?;
    }
    println!("12 / 4 is {}", call::<u32>("joe", &4_u32, LONG)?);

    exit_process(supervisor, ExitReason::Shutdown);
    let down = receive_down(end, None).ok_or("without a timeout it waits")?;
    println!("the supervisor has ended: {}", down.reason);
    Ok(())
}

/// Starts the workers, and restarts each worker that crashes. Tells `client` when they are all there.
fn supervise(client: Pid) -> Result<(), Box<dyn Error>> {
    trap_exit(true);
    let mut workers = Vec::new();
    for name in WORKERS {
        workers.push(start(name)?);
    }
    send(client, &());
    let mut restarts = 0;
    while let Some(signal) = receive_exit(None) {
        let Some(index) = workers.iter().position(|&pid| pid == signal.sender) else {
            // The signal asks this process to end.
            for (&worker, name) in workers.iter().zip(WORKERS).rev() {
                println!("{name} has ended: {}", stop(worker));
            }
            exit(signal.reason);
        };
        let crashed = matches!(signal.reason, ExitReason::Trap(_));
        println!("{} has crashed: {crashed}", WORKERS[index]);
        restarts += 1;
        if restarts > RESTARTS_MAX {
            return Err("the workers crash too often".into());
        }
        workers[index] = start(WORKERS[index])?;
        send(client, &());
    }
    Ok(())
}

fn start(name: &str) -> Result<Pid, Box<dyn Error>> {
    let pid = Spawn::new()
        .link()
        .name(name)
        .function(work, name.to_owned())?;
    // A worker that answers is ready.
    call::<u32>(pid, &1_u32, LONG)?;
    println!("{name} has started");
    Ok(pid)
}

/// Asks a worker to end, and kills it if it does not. Returns the worker's exit reason.
fn stop(worker: Pid) -> ExitReason {
    let end = monitor(worker);
    exit_process(worker, ExitReason::Shutdown);
    let down = receive_down(end, Some(PATIENCE)).or_else(|| {
        kill(worker);
        receive_down(end, None)
    });
    down.map_or(ExitReason::Noproc, |down| down.reason)
}

/// Divides. A division by zero crashes the worker, and the worker does not handle that.
fn work(name: String) -> Result<(), Box<dyn Error>> {
    // mike traps exits and ignores the request to end.
    trap_exit(name == "mike");
    loop {
        let divisor = receive::<u32>()?;
        divisor.reply(&(12 / divisor.message));
    }
}
