//! monitors: how a process learns that another one has ended, and calls that get no answer.
//!
//! It shows monitors of a pid and of a name, how to end them, and how a call fails: because the process ends, because it does
//! not exist, or because time runs out. In the last case the host drops the late answer.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{
    CallError, DownSignal, Event, ExitReason, Reference, Selector, Spawn, call, demonitor,
    demonitor_flush, exit, exit_process, monitor, println, receive, receive_down, receive_event,
    reply_to, send, spawn, spawn_monitor,
};
use serde::{Deserialize, Serialize};

/// The messages to the clerk.
#[derive(Serialize, Deserialize)]
enum Request {
    /// Answer later, at the next `Go`.
    Later,
    /// Answer all waiting requests.
    Go,
    /// End without an answer.
    End,
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(10);

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    println!("monitors:");
    let (ended, first) = spawn_monitor(end, ExitReason::from("tired"))?;
    let down = down_of(first);
    let is_pid = down.target == ended.into();
    println!("  tired process, by its pid: {is_pid}: {}", down.reason);
    println!("  the same once more: {}", down_of(monitor(ended)).reason);
    let named = Spawn::new().name("clerk").function(clerk, ())?;
    let by_name = monitor("clerk");
    exit_process(named, ExitReason::Shutdown);
    let down = down_of(by_name);
    println!("  {}, by its name: {}", down.target, down.reason);

    let clerk = spawn(clerk, ())?;
    println!("  ended early: {}", demonitor(monitor(clerk)));
    // If the process does not exist, the signal is in the mailbox at once.
    let late = monitor(ended);
    println!("  ended late: {}", demonitor(late));
    println!("  what had arrived is there: {}", arrived(late).is_some());
    let late = monitor(ended);
    println!("  ended late, and flushed: {}", demonitor_flush(late));
    println!("  what had arrived is there: {}", arrived(late).is_some());

    println!("calls:");
    let answer = call::<String>("nobody", &Request::Later, LONG);
    println!("  of nobody: {}", error_of(answer));
    let answer = call::<String>(clerk, &Request::Later, SHORT);
    println!("  of a busy process: {}", error_of(answer));
    // Now the clerk answers too late. When the clerk has ended, it has sent the answer.
    send(clerk, &Request::Go);
    let answer = call::<String>(clerk, &Request::End, LONG);
    println!("  of one that ends: {}", error_of(answer));
    let event = receive_event(&Selector::Any, Some(Duration::ZERO));
    println!("  the late answer has arrived: {}", event.is_some());
    Ok(())
}

fn down_of(monitor: Reference) -> DownSignal {
    receive_down(monitor, None).expect("without a timeout it waits")
}

fn arrived(monitor: Reference) -> Option<Event> {
    receive_event(&Selector::Reference(monitor), Some(Duration::ZERO))
}

fn error_of(answer: Result<String, CallError>) -> String {
    answer.unwrap_or_else(|error| error.to_string())
}

fn end(reason: ExitReason) {
    exit(reason);
}

/// Answers requests later, in the order of their arrival.
fn clerk(_: ()) -> Result<(), Box<dyn Error>> {
    let mut waiting = Vec::new();
    loop {
        let request = receive()?;
        match request.message {
            Request::Later => waiting.extend(request.reference.map(|r| (request.sender, r))),
            Request::Go => {
                for (caller, reference) in waiting.drain(..) {
                    reply_to(caller, reference, "sorry for the delay");
                }
            }
            Request::End => exit(ExitReason::from("closed")),
        }
    }
}
