//! bench: what the benchmarks start, on the guest SDK. The twin of `bench-wat`, with the same functions and arguments: the
//! difference between the two is what the SDK costs.
//!
//! The argument has 24 bytes, little-endian: n and m (u32), node and id (u64) of the process to report to. The report has
//! tag 1, and how many nanoseconds it took (u64).
//!
//! | function | n | m |
//! |---|---|---|
//! | `spawn-exit` | processes, each spawned when the last one has sent its message | |
//! | `spawn-batch` | processes that end at once, and one more that is waited for | |
//! | `ping-pong` | round trips | bytes of payload |
//! | `ring` | hops | processes |
//! | `idle` | waits until any message comes; needs no argument | |

use std::error::Error;

use atoll_guest::{
    Envelope, Event, Pid, Selector, println, receive, receive_event, self_pid, send, send_bytes,
    spawn, time,
};
use serde::{Deserialize, Serialize};

/// The tag of reports.
const REPORT: u32 = 1;
/// The tag of the payload that goes to and fro.
const BALL: u32 = 2;

atoll_guest::entry!(main);
atoll_guest::export!("spawn-exit", spawn_exit);
atoll_guest::export!("spawn-batch", spawn_batch);
atoll_guest::export!("ping-pong", ping_pong);
atoll_guest::export!("ring", ring);
atoll_guest::export!("idle", idle);

fn main() {
    println!("`cargo xtask bench` starts this program's functions; this one has nothing to do");
}

/// An array of bytes is encoded as just these bytes, whoever wrote them.
type Argument = [u8; 24];
type Outcome = Result<(), Box<dyn Error>>;

fn spawn_exit(argument: Argument) -> Outcome {
    measure(argument, |n, _| {
        for _ in 0..n {
            spawn(child, self_pid())?;
            receive::<()>()?;
        }
        Ok(())
    })
}

fn spawn_batch(argument: Argument) -> Outcome {
    measure(argument, |n, _| {
        for _ in 0..n {
            spawn(leaf, ())?;
        }
        spawn(child, self_pid())?;
        receive::<()>()?;
        Ok(())
    })
}

fn child(parent: Pid) {
    send(parent, &());
}

fn leaf(_: ()) {}

fn ping_pong(argument: Argument) -> Outcome {
    let partner = spawn(ponger, self_pid())?;
    measure(argument, |n, m| {
        let mut ball = vec![0; m as usize];
        for _ in 0..n {
            send_bytes(partner, Envelope::tagged(BALL), &ball);
            ball = next_ball();
        }
        Ok(())
    })?;
    // A ball that is no ball: the end.
    send_bytes(partner, Envelope::tagged(REPORT), &[]);
    Ok(())
}

fn ponger(other: Pid) {
    while let Some(Event::Message(message)) = receive_event(&Selector::Any, None)
        && message.tag == BALL
    {
        send_bytes(other, Envelope::tagged(BALL), &message.payload);
    }
}

fn next_ball() -> Vec<u8> {
    match receive_event(&Selector::Any, None) {
        Some(Event::Message(message)) => message.payload,
        other => panic!("expected a message, received {other:?}"),
    }
}

/// What members of a ring hear.
#[derive(Serialize, Deserialize)]
enum Step {
    /// Here is your neighbour.
    Next(Pid),
    /// Pass it on: so many hops are left.
    Token(u32),
    /// Pass it on and end.
    Stop,
}

/// Stands outside the ring: makes it, throws the token in (the first hop), and waits.
fn ring(argument: Argument) -> Outcome {
    let root = self_pid();
    let [_, m] = numbers(&argument);
    let first = spawn(member, (root, root))?;
    let mut last = first;
    for _ in 1..m {
        last = spawn(member, (root, last))?;
    }
    send(first, &Step::Next(last));
    measure(argument, |n, _| {
        if n > 0 {
            send(last, &Step::Token(n - 1));
            receive::<()>()?;
        }
        Ok(())
    })?;
    send(last, &Step::Stop);
    Ok(())
}

fn member((root, mut next): (Pid, Pid)) -> Outcome {
    loop {
        match receive()?.message {
            Step::Next(pid) => next = pid,
            Step::Token(0) => send(root, &()),
            Step::Token(hops) => send(next, &Step::Token(hops - 1)),
            Step::Stop => {
                send(next, &Step::Stop);
                return Ok(());
            }
        }
    }
}

fn idle(_: ()) {
    receive_event(&Selector::Any, None);
}

/// Does the work and reports how long it took.
fn measure(argument: Argument, work: impl FnOnce(u32, u32) -> Outcome) -> Outcome {
    let [n, m] = numbers(&argument);
    let [node, id] =
        [8, 16].map(|at| u64::from_le_bytes(std::array::from_fn(|index| argument[at + index])));
    let start_ns = time::now_ns();
    work(n, m)?;
    let elapsed_ns = time::now_ns() - start_ns;
    send_bytes(
        Pid { node, id },
        Envelope::tagged(REPORT),
        &elapsed_ns.to_le_bytes(),
    );
    Ok(())
}

/// n and m.
fn numbers(argument: &Argument) -> [u32; 2] {
    [0, 4].map(|at| u32::from_le_bytes(std::array::from_fn(|index| argument[at + index])))
}
